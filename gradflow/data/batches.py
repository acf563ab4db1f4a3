"""Ops that gather the next batch, in the order of the data or of a shuffle that needs no memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradflow.ops import EPOCH, POSITION, STEP, Array, op
from gradflow.random import shuffled_rows

__all__ = ["advance", "advance_part", "advance_scheduled", "gather_batch", "gather_shuffled_batch"]


def _words(array: Array) -> int:
    """Return the number of 32-bit words in a row."""
    return int(array.nbytes) // len(array) // 4


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {
        "rows": len(arguments["batch_x"]),
        "data_rows": len(arguments["x"]),
        "x_words": _words(arguments["x"]),
        "target_words": _words(arguments["targets"]),
    }


_SHAPES = (
    "x: data_rows *row; targets: data_rows *target; row_weight: data_rows; batch_x: rows *row; "
    "batch_targets: rows *target; batch_row_weight: rows; clock: 4"
)
_WRITES = ("batch_x", "batch_targets", "batch_row_weight")


@op(shapes=_SHAPES, writes=_WRITES, sizes=_sizes)
def gather_batch(
    x: Array,
    targets: Array,
    row_weight: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
    clock: Array,
) -> None:
    """Row r of the batch is row position % data_rows + r of the data, and likewise for the targets and the weights"""
    first = int(clock[POSITION]) % len(x)
    _take(slice(first, first + len(batch_x)), x, targets, row_weight, batch_x, batch_targets, batch_row_weight)


@op(shapes=_SHAPES, writes=_WRITES, sizes=_sizes)
def gather_shuffled_batch(
    x: Array,
    targets: Array,
    row_weight: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
    clock: Array,
    seed: int,
) -> None:
    """Row r of the batch is row position + r of the data as shuffled for (seed, epoch), and likewise for the others"""
    first = int(clock[POSITION])
    rows = shuffled_rows(len(x), seed=seed, epoch=int(clock[EPOCH]))[first : first + len(batch_x)]
    _take(rows, x, targets, row_weight, batch_x, batch_targets, batch_row_weight)


def _take(
    rows: Any,
    x: Array,
    targets: Array,
    row_weight: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
) -> None:
    batch_x[...] = x[rows]
    batch_targets[...] = targets[rows]
    if row_weight is not None and batch_row_weight is not None:
        batch_row_weight[...] = row_weight[rows]


@op(shapes="clock: 4", writes=("clock",), sizes=lambda arguments: {})
def advance(clock: Array, batch_size: int, epoch_rows: int) -> None:
    """step += 1, position += batch_size; after the last row of the epoch: position = 0, epoch += 1"""
    step, epoch, position, _ = clock
    ended = position + batch_size >= epoch_rows
    clock[:3] = step + 1, epoch + ended, 0 if ended else position + batch_size


@op(
    shapes="clock: 4; rates: steps; hyper: *any",
    writes=("clock", "hyper"),
    sizes=lambda arguments: {"steps": len(arguments["rates"])},
)
def advance_scheduled(clock: Array, rates: Array, hyper: Array, batch_size: int, epoch_rows: int) -> None:
    """The same, and hyper_0 = rates_s for the next step s, counted from 0 within the epoch"""
    hyper[0] = rates[clock[STEP] % len(rates)]
    advance.reference(clock, batch_size, epoch_rows)


@op(shapes="clock: 4", writes=("clock",), sizes=lambda arguments: {})
def advance_part(clock: Array, part_rows: int) -> None:
    """position += part_rows: the next part of the same step's batch"""
    clock[POSITION] += part_rows
