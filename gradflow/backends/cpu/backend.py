"""The CPU backend: an op runs as its compiled kernel if that was built, otherwise in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gradflow.backends.blas import Blas, numpy_blas
from gradflow.backends.cpu.forms import ProgramForms, form_of
from gradflow.backends.cpu.native import NativeLibrary
from gradflow.backends.cpu.native_call import NativeCall
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.backends.fusion import fuse_bias_and_activation
from gradflow.backends.kernel_sources import kernels
from gradflow.backends.reference import BoundCall, ReferenceBackend, Replay, SeveralEpochs, WatchedEpochs
from gradflow.ops import Op


class NumpyBackend(ReferenceBackend):
    """Backend with NumPy arrays; kernels write into preallocated arrays and make no copies.

    Args:
        native: the compiled kernels; None runs every op in NumPy.
    """

    name = "numpy"

    def __init__(self, native: NativeLibrary | None) -> None:
        self.native = native
        self._forms = ProgramForms()

    @property
    def blas(self) -> Blas | None:
        return numpy_blas() if self.native is None or self.native.blas is None else self.native.blas

    def delays(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.native is None else self.native.delays()

    def bind(self, op: Op, arguments: dict[str, Any]) -> BoundCall:
        (bound,) = self._joined([self._bind_one(op, arguments)])
        return bound

    def bind_all(self, calls: list[tuple[Op, dict[str, Any]]]) -> list[BoundCall]:
        """Bind a program; adjacent compiled calls become one call into C."""
        if self.native is None:
            return self._joined([self._bind_one(op, arguments) for op, arguments in calls])
        calls = fuse_bias_and_activation(calls, kernels("c"))
        form = form_of(calls)
        if (program := self._forms.program(form)) is not None:
            return [program]
        bound = [self._bind_one(op, arguments) for op, arguments in calls]
        joined = self._joined(bound)
        if len(joined) == 1 and isinstance(joined[0], NativeProgram):
            self._forms.keep(form, [call for call in bound if isinstance(call, NativeCall)], joined[0])
        return joined

    def _bind_one(self, op: Op, arguments: dict[str, Any]) -> NativeCall | BoundCall:
        self.check(op, arguments)
        if self.native is not None and (call := self.native.bind(op, arguments)) is not None:
            return call
        return partial(op.numpy_form or op.reference, **arguments)

    def _joined(self, calls: list[NativeCall | BoundCall]) -> list[BoundCall]:
        """Join adjacent compiled calls into programs."""
        joined: list[BoundCall] = []
        waiting: list[NativeCall] = []
        for call in [*calls, None]:
            if isinstance(call, NativeCall):
                waiting.append(call)
                continue
            if waiting and self.native is not None:
                joined.append(self.native.program(waiting))
                waiting = []
            if call is not None:
                joined.append(call)
        return joined

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        """Return a function that runs the program n times; a program that is one call into C stays there throughout."""
        if len(calls) == 1 and isinstance(calls[0], NativeProgram):
            return calls[0]
        return super().replay(calls)

    def epochs(self, parts: Sequence[tuple[Replay, int]], watched: WatchedEpochs) -> SeveralEpochs | None:
        compiled = [(program, times) for program, times in parts if isinstance(program, NativeProgram)]
        return (
            self.native.epochs(compiled, watched) if self.native is not None and len(compiled) == len(parts) else None
        )
