"""Programs of one shape merged into one: a kernel is launched once for all, with their arguments in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np

from gradflow.backends.cuda.block_programs import Argument, argument_words, element_types, only_type, uploaded
from gradflow.backends.fusion import Call, fuse_bias_and_activation
from gradflow.backends.kernel_sources import Form, Kernel, block_kernels
from gradflow.errors import BackendError


@dataclass(frozen=True)
class MergedCall:
    """A call of several programs at once.

    Attributes:
        kernel: its kernel.
        form: the form of the kernel.
        values: the sizes and arguments of the first program's call.
        table: the arguments of all, one program after the other.
        calls: the calls, which own the arrays.
    """

    kernel: Kernel
    form: Form
    values: dict[str, Any]
    table: cupy.ndarray
    calls: tuple[Call, ...]


def shape_of(calls: Sequence[Call]) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """Return what programs must have in common to be merged: their kernels, with the sizes."""
    fused = fuse_bias_and_activation(list(calls), block_kernels())
    return tuple((op.name, tuple(sorted(op.sizes(arguments).items()))) for op, arguments in fused)


def merged_calls(programs: Sequence[Sequence[Call]], stream: cupy.cuda.Stream, argument: Argument) -> list[MergedCall]:
    """Return the calls of programs of one shape, each for all of them.

    Args:
        programs: the calls of each program; none may write what another one reads or writes.
        stream: the stream that they run on.
        argument: converts an argument of a kernel.

    Raises:
        BackendError: if the programs have different shapes, a call has no kernel that can run for several, or arrays
            have several element types.
    """
    kernels = block_kernels()
    if len({shape_of(calls) for calls in programs}) > 1:
        raise BackendError("programs can be merged only if they have the same kernels with the same sizes")
    if unknown := [op.name for op, _ in fuse_bias_and_activation(list(programs[0]), kernels) if op.name not in kernels]:
        raise BackendError(f"op {unknown[0]!r} has no kernel that can run for several programs at once")
    fused = [fuse_bias_and_activation(list(calls), kernels) for calls in programs]
    form = Form(only_type(element_types(fused)), is_of_members=True)
    words: list[int] = []
    ends = [0]
    for calls in zip(*fused, strict=True):
        for call in calls:
            words += argument_words(call, form, argument)
        ends.append(len(words))
    table = uploaded(np.array(words, np.uint64), stream)
    return [
        MergedCall(kernels[op.name], form, {**op.sizes(arguments), **arguments}, table[begin:end], calls)
        for (op, arguments), begin, end, calls in zip(
            fused[0], ends[:-1], ends[1:], zip(*fused, strict=True), strict=True
        )
    ]
