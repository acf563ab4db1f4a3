"""The sensitivity of a definition to rounding: its results when the operations that it consists of are a little off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.ops import Array, Op

_EXACT = ("absolute", "negative", "sign", "maximum", "minimum", "clip")


@np.errstate(all="ignore")
def sensitivity(
    op: Op,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    inputs: tuple[str, ...] = (),
    ulps: float | None = None,
) -> dict[str, Array]:
    """Return the number whose ulps count for each written array: the largest term of the result, or the result itself.

    The definition runs again for each operation in it, the result of which is then off by a relative error of √ε with
    random signs; a sum is off by √ε times the sum of its absolute terms. How much an output changes, times √ε, is what
    the rounding of this operation can do to it. √ε is far above what processors differ by, and so small that the change
    is proportional to it.

    Args:
        op: the op.
        before: the arguments before the call.
        after: the arguments after the call of the definition.
        inputs: the inputs whose rounding counts too, for a definition that is computed in a wider dtype than a kernel.
        ulps: the error in place of √ε, for an output that jumps.
    """
    sizes = {name: abs(after[name].astype(np.float64)) for name in op.writes if _is_real(after[name])}
    for place in range(_run(op, before, inputs).operations):
        trial = _run(op, before, inputs, place, ulps)
        for name, size in sizes.items():
            change = abs(trial.arguments[name].astype(np.float64) - after[name]) / trial.enlarged
            np.fmax(size, change / np.finfo(after[name].dtype).eps, out=size)
    return sizes


class _Trial:
    """One run of a definition with an error in one operation.

    Attributes:
        arguments: the arguments, after the run with what the definition has written.
        operations: the number of operations so far.
        enlarged: the error, in units of the rounding of the operation.
    """

    def __init__(self, place: int | None, ulps: float | None) -> None:
        self.arguments: dict[str, Any] = {}
        self.operations = 0
        self.enlarged = ulps or 1
        self._place, self._ulps = place, ulps

    def note(self, result: Array, terms: Array | None = None) -> None:
        """Count an operation, and change its result if it is the chosen one; terms are those of a sum."""
        if self.operations == self._place:
            eps = float(np.finfo(result.dtype).eps)
            self.enlarged = self._ulps or eps**-0.5
            signs = np.random.default_rng(self._place).integers(0, 2, result.shape, dtype=np.int8) * 2 - 1
            result += (self.enlarged * eps * signs * abs(result if terms is None else terms)).astype(result.dtype)
        self.operations += 1

    def traced(self, array: Array) -> _Traced:
        view: _Traced = array.view(_Traced)
        view.trial = self
        return view


class _Traced(np.ndarray):
    """Array whose operations a trial notes."""

    trial: _Trial

    def __array_finalize__(self, parent: Array | None) -> None:
        if isinstance(parent, _Traced):
            self.trial = parent.trial

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **settings: Any) -> Any:
        operation = getattr(ufunc, method)
        operands = [_plain(value) for value in inputs]
        into = {} if out is None else {"out": tuple(map(_plain, out))}
        result = np.asarray(operation(*operands, **into, **settings))
        if result.dtype.kind != "f":
            return result
        if ufunc.__name__ not in _EXACT:
            is_sum = ufunc is np.matmul or method != "__call__"
            terms = operation(*map(abs, operands[:2]), **settings) if is_sum else None
            self.trial.note(result, terms)
        return self.trial.traced(result) if out is None else out[0]

    def astype(self, *arguments: Any, **settings: Any) -> Any:
        result = _plain(super().astype(*arguments, **settings))
        if result.dtype.kind != "f":
            return result
        if result.dtype.itemsize < self.dtype.itemsize:
            self.trial.note(result)
        return self.trial.traced(result)

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(place, value)
        if isinstance(stored := _plain(self)[place], np.ndarray):
            self.trial.note(stored)


def _run(
    op: Op,
    before: Mapping[str, Any],
    inputs: tuple[str, ...],
    place: int | None = None,
    ulps: float | None = None,
) -> _Trial:
    trial = _Trial(place, ulps)
    for name, value in before.items():
        trial.arguments[name] = value.copy() if isinstance(value, np.ndarray) else value
        if name in inputs:
            trial.note(trial.arguments[name])
    traced = {name: trial.traced(value) for name, value in trial.arguments.items() if _is_real(value)}
    op.reference(**trial.arguments | traced)
    return trial


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Traced) else value


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
