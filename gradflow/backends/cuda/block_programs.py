"""Programs that one thread block each runs by itself, so that many small ones run at the same time, in one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cupy
import numpy as np

from gradflow.backends.cuda.modules import KernelModules
from gradflow.backends.fusion import Call, fuse_bias_and_activation
from gradflow.backends.kernel_sources import Form, Kernel, Parameter, block_kernels
from gradflow.errors import BackendError

Argument = Callable[[Kernel, Parameter, Any, Form], Any]

_THREADS = 1024
REALS = {"float32", "float64"}
_PIECE = np.dtype([("begin", np.uint64), ("end", np.uint64), ("times", np.int64)])  # gf_piece of block_program.h


class CupyBlockPrograms:
    """Programs that a launch may run at the same time, each in a thread block of its own.

    A block is slower than a whole GPU, but needs no launch for each kernel, and there are as many at work as the GPU
    has multiprocessors. So this is for many networks, each so small that it cannot keep a GPU busy.

    Args:
        programs: the calls of each program.
        modules: the compiler.
        stream: the stream that they run on.
        argument: converts an argument of a kernel.

    Raises:
        BackendError: if a call has no kernel for a thread block, or arrays have several element types.
    """

    def __init__(
        self, programs: Sequence[Sequence[Call]], modules: KernelModules, stream: cupy.cuda.Stream, argument: Argument
    ) -> None:
        kernels = block_kernels()
        fused = [fuse_bias_and_activation(list(calls), kernels) for calls in programs]
        names = tuple(sorted({op.name for calls in fused for op, _ in calls}))
        if unknown := [name for name in names if name not in kernels]:
            raise BackendError(f"op {unknown[0]!r} has no kernel that a thread block can run by itself")
        self._stream = stream
        self._owners = fused
        form = Form(only_type(element_types(fused)))
        numbers = {name: number for number, name in enumerate(names)}
        words = [
            [word for call in calls for word in (numbers[call[0].name], *argument_words(call, form, argument))]
            for calls in fused
        ]
        self._words = uploaded(np.array([word for program in words for word in program], np.uint64), stream)
        ends = np.cumsum([len(program) for program in words])
        begin = self._words.data.ptr
        self._begins = [begin + 8 * int(end - len(program)) for program, end in zip(words, ends, strict=True)]
        self._ends = [begin + 8 * int(end) for end in ends]
        self._function = modules.run_programs(names, form.real)

    def run(self, blocks: Sequence[Sequence[tuple[int, int]]]) -> None:
        pieces = np.array(
            [(self._begins[place], self._ends[place], times) for block in blocks for place, times in block], _PIECE
        )
        first = np.cumsum([0, *map(len, blocks)], dtype=np.int64)
        table = uploaded(np.concatenate([pieces.view(np.uint64), first.view(np.uint64)]), self._stream)
        with self._stream:
            arguments = table[: pieces.nbytes // 8], table[pieces.nbytes // 8 :]
            self._function((len(blocks),), (_THREADS,), arguments)


def element_types(programs: Sequence[Sequence[Call]]) -> set[str]:
    """Return the types of the real numbers in the programs."""
    kernels = block_kernels()
    return {
        str(arguments[parameter.name].dtype)
        for calls in programs
        for op, arguments in calls
        for parameter in kernels[op.name].parameters
        if parameter.is_pointer and parameter.c_type == "real" and arguments.get(parameter.name) is not None
    }


def only_type(types: set[str]) -> str:
    """Return the one element type of programs.

    Raises:
        BackendError: if there are several, or one of 16 bits.
    """
    if len(types) > 1 or not types <= REALS:
        raise BackendError(f"a thread block computes in float32 or in float64, but the arrays are {sorted(types)}")
    return min(types, default="float32")


def argument_words(call: Call, form: Form, argument: Argument) -> list[int]:
    """Return the arguments of a call as gf_arguments: the bits of each."""
    op, arguments = call
    kernel = block_kernels()[op.name]
    values = {**op.sizes(arguments), **arguments}
    words: list[int] = []
    for parameter in kernel.parameters:
        value = argument(kernel, parameter, values[parameter.name], form)
        if isinstance(value, cupy.ndarray):
            words.append(value.data.ptr)
        elif parameter.dtype("float64") == "float64" and not parameter.is_pointer:
            words.append(int(np.float64(value).view(np.uint64)))
        else:
            words.append(int(value) & (2**64 - 1))
    return words


def uploaded(words: np.ndarray, stream: cupy.cuda.Stream) -> cupy.ndarray:
    """Return a copy on the device."""
    with stream:
        target = cupy.empty(words.shape, words.dtype)
        target.set(words, stream=stream)
    return target
