"""Bytes and operations of a training step, counted from the arrays of its calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.backends.cuda.epilogues import TF32, Group, grouped, n_sign_bytes
from gradflow.backends.fusion import (
    Call,
    fuse_bias_and_activation,
    fuse_update_and_advance,
    fuse_update_and_copy,
)
from gradflow.backends.kernel_sources import kernels
from gradflow.backends.reference import BoundCall, ReferenceBackend, Replay
from gradflow.layers.dense import gemm
from gradflow.network import recording_on
from gradflow.ops import Array, Op
from gradflow.training.data.feed import PassData
from gradflow.training.step.objective import Objective
from gradflow.training.step.training_step import TrainingStep

# These hold all rows of the pass; a batch touches only its own.
_OF_ALL_ROWS = ("row_losses", "row_correct")


@dataclass(frozen=True)
class CallTraffic:
    """Memory traffic of one launch of a step.

    Attributes:
        name: name of the op; for a GEMM with an epilogue, both names.
        read, written: bytes; each array counts once, however often the launch accesses it.
        flops: floating-point operations of a GEMM; 0 for anything else.
        least: unavoidable bytes: those of a GEMM's matrices and of an optimizer's vectors.
    """

    name: str
    read: int
    written: int
    flops: int
    least: int


@dataclass(frozen=True)
class StepTraffic:
    """Traffic of a training step between the GPU's memory and its chip: its launches in order."""

    calls: tuple[CallTraffic, ...]

    @property
    def n_bytes(self) -> int:
        """Number of bytes read and written."""
        return sum(call.read + call.written for call in self.calls)

    @property
    def least_bytes(self) -> int:
        """Bytes of the matrices of GEMMs and the vectors of the optimizer, each moved once per launch."""
        return sum(call.least for call in self.calls)

    @property
    def flops(self) -> int:
        """Floating-point operations of the GEMMs."""
        return sum(call.flops for call in self.calls)

    def __iter__(self) -> Iterator[CallTraffic]:
        return iter(self.calls)


def step_traffic(objective: Objective, data: PassData, batch_size: int, *, shuffle: bool = True) -> StepTraffic:
    """Return the GPU traffic of a step on a full batch. Nothing runs; the network may be on any backend.

    Args:
        objective: network, loss and optimizer.
        data: data with at least twice as many rows as a batch, so that batches are gathered from it.
        batch_size: rows of the batch.
        shuffle: True for a shuffled batch.
    """
    recording = _Recording()
    network = recording_on(objective.network, recording)
    TrainingStep(objective._replace(network=network), data, batch_size=batch_size, shuffle=shuffle)
    return StepTraffic(tuple(_traffic(group, batch_size) for group in recording.programs[0]))


class _Recording(ReferenceBackend):
    """Runs nothing; keeps the calls of each program in the groups that a GPU launches."""

    def __init__(self) -> None:
        self.programs: list[list[Group]] = []
        self._program: list[Group] = []

    def adopt(self, array: Array) -> Array:
        return array

    def bind_all(self, calls: list[Call]) -> list[BoundCall]:
        calls = fuse_update_and_copy(fuse_bias_and_activation(calls, kernels("cuda")))
        self._program += grouped(fuse_update_and_advance(calls, kernels("cuda")))
        return []

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        self.programs.append(self._program)
        self._program = []
        return lambda times: None


def _traffic(group: Group, batch_size: int) -> CallTraffic:
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    for op, arguments in group.calls:
        for name, value in arguments.items():
            if not hasattr(value, "nbytes") or np.isscalar(value):
                continue
            n_bytes = _touched(op, name, value, batch_size)
            if name not in op.writes or _is_update(op):
                read.setdefault(id(value), 0 if id(value) in written else n_bytes)
            if name in op.writes:
                written[id(value)] = n_bytes
    (first, arguments), *following = group.calls
    if group.epilogue == "DRELU" and not group.is_narrow:
        read[id(group.relu_output)] = n_sign_bytes(*group.out.shape)
    if group.epilogue and "RELU_AUX" in group.epilogue:
        written[-1] = n_sign_bytes(*group.out.shape)
    name = " + ".join([first.name, *(op.name for op, _ in following)])
    total = sum(read.values()) + sum(written.values())
    if first.name in (gemm.name, TF32):
        a, b, out = (arguments[matrix] for matrix in ("a", "b", "out"))
        inner = len(a) if arguments.get("transpose_a") else a.shape[1]
        return CallTraffic(
            name, sum(read.values()), sum(written.values()), 2 * out.size * inner, a.nbytes + b.nbytes + out.nbytes
        )
    return CallTraffic(name, sum(read.values()), sum(written.values()), 0, total if _is_update(first) else 0)


def _is_update(op: Op) -> bool:
    """True if an op reads the arrays that it writes, as an optimizer updates parameters and state in place."""
    return op.reference.__module__.startswith("gradflow.optimizers") and "parameters" in op.writes


def _touched(op: Op, name: str, array: Any, batch_size: int) -> int:
    """Return the bytes of an array that a call reads or writes."""
    is_gathered = op.name.startswith("gather") and name not in (*op.writes, "clock")
    if is_gathered or name in _OF_ALL_ROWS:
        return int(array.nbytes // len(array) * batch_size)
    return int(array.nbytes)
