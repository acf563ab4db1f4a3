"""Data that lies on the device as a whole, from which each step gathers its batch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import RunStatus
from gradflow.data.classes import Classes
from gradflow.losses import Loss
from gradflow.ops import EPOCH, POSITION, Array, op
from gradflow.program import Recorder
from gradflow.random import shuffled_rows


def data_fingerprint(rows: int, parts: Iterable[Sequence[np.ndarray]]) -> str:
    """Return a text that identifies data: the number of rows, and a SHA-256 over arrays that come in parts."""
    import hashlib  # loads OpenSSL, which would slow down importing gradflow

    digests: list[hashlib._Hash] = []
    for part in parts:
        digests = digests or [hashlib.sha256(f"{array.dtype.str} {array.shape[1:]} ".encode()) for array in part]
        for digest, array in zip(digests, part, strict=True):
            digest.update(np.ascontiguousarray(array).data)
    whole = hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return f"{rows} rows, sha256 {whole.hexdigest()}"


def as_the_loss_sees(loss: Loss, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return inputs, targets and any weights, with the targets smoothed by the loss; class labels stay unchanged."""
    x, targets, *weight = arrays
    with np.errstate(under="ignore"):
        return [x, targets if targets.ndim == 1 else loss.smoothed(targets), *weight]


class BatchFeed(Protocol):
    """Batches of successive passes. Programs recorded with `next` run after `make_ready`."""

    def begin(self, epochs_to_come: int) -> None:
        """Start a pass; ``epochs_to_come`` more follow, and their first batches may be prefetched."""

    def make_ready(self, batches_done: int) -> int:
        """Make the next batch available; return how many batches can run before the next call."""

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        """Record taking the next ``rows`` rows of a batch; return the arrays that will hold them."""

    def break_off(self) -> None:
        """Make `make_ready` raise BrokenOffError if it waits for batches, or the next time it would. For signals."""

    def close(self) -> None:
        """Stop prefetching; the next batch is then the one at the position of the clock."""


class PassData(Protocol):
    """Data for training or evaluation, wherever it lies.

    Attributes:
        is_weighted: True if the rows have weights.
        feature_names: names of the columns that the inputs were taken from; None for arrays.
        classes: names of the classes that the targets held; None for numbers.
    """

    @property
    def is_weighted(self) -> bool: ...

    @property
    def feature_names(self) -> Sequence[str] | None: ...

    @property
    def classes(self) -> Classes | None: ...

    def __len__(self) -> int: ...

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        """Return the number of rows and a checksum: of all rows, or of those that a source checks before training.

        It covers the targets as smoothed by the loss, so that runs of earlier versions can be resumed.
        """

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> BatchFeed:
        """Return the batches of passes whose position is on the clock.

        Args:
            backend: backend for the batches.
            status: its clock holds the epoch, and the position in it at which the next batch begins.
            rows: number of rows in a pass.
            batch_size: rows per batch; the last one of a pass may have fewer.
            seed: seed of the shuffles; None keeps the rows in order.
        """


@dataclass(frozen=True)
class DataSet:
    """Inputs (rows, n_in), targets and optional row weights: all of the data, or a batch.

    With ``places``, int64 (rows,), row i has its inputs in row places_i of x, which holds those of other data too.
    """

    x: Array
    targets: Array
    row_weight: Array | None = None
    feature_names: Sequence[str] | None = None
    classes: Classes | None = None
    places: Array | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def is_weighted(self) -> bool:
        return self.row_weight is not None

    @property
    def inputs(self) -> Array:
        """Inputs of these rows alone."""
        return self.x if self.places is None else self.x[self.places]

    def on(self, backend: ReferenceBackend) -> DataSet:
        """Return the same data on a backend."""
        weight, places = (None if array is None else backend.adopt(array) for array in (self.row_weight, self.places))
        x, targets = backend.adopt(self.x), backend.adopt(self.targets)
        return replace(self, x=x, targets=targets, row_weight=weight, places=places)

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        arrays = [array for array in (self.inputs, self.targets, self.row_weight) if array is not None]
        on_host = [array if isinstance(array, np.ndarray) else backend.to_host(array) for array in arrays]
        return data_fingerprint(len(self), [as_the_loss_sees(loss, on_host)])

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> BatchFeed:
        """Return batches that the recorded step gathers itself."""
        return GatheredBatches(self.on(backend), backend, status.clock, seed)


def _words(array: Array) -> int:
    """Return the number of 32-bit words in a row."""
    return int(array.nbytes) // len(array) // 4


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {
        "rows": len(arguments["batch_x"]),
        "data_rows": len(arguments["targets"]),
        "x_words": _words(arguments["x"]),
        "target_words": _words(arguments["targets"]),
    }


def _shapes(arguments: Mapping[str, Any]) -> str:
    x_rows = "data_rows" if arguments["places"] is None else "x_rows"
    return (
        f"x: {x_rows} *row; targets: data_rows *target; row_weight: data_rows; places: data_rows; batch_x: rows *row; "
        "batch_targets: rows *target; batch_row_weight: rows; clock: 4"
    )


_WRITES = ("batch_x", "batch_targets", "batch_row_weight")


@op(shapes=_shapes, writes=_WRITES, sizes=_sizes)
def gather_batch(
    x: Array,
    targets: Array,
    row_weight: Array | None,
    places: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
    clock: Array,
) -> None:
    """Row r of the batch is row position % data_rows + r of the data, and likewise for the targets and the weights"""
    first = int(clock[POSITION]) % len(targets)
    rows = slice(first, first + len(batch_x))
    _take(rows, x, targets, row_weight, places, batch_x, batch_targets, batch_row_weight)


@op(shapes=_shapes, writes=_WRITES, sizes=_sizes)
def gather_shuffled_batch(
    x: Array,
    targets: Array,
    row_weight: Array | None,
    places: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
    clock: Array,
    seed: int,
) -> None:
    """Row r of the batch is row position + r of the data as shuffled for (seed, epoch), and likewise for the others"""
    first = int(clock[POSITION])
    rows = shuffled_rows(len(targets), seed=seed, epoch=int(clock[EPOCH]))[first : first + len(batch_x)]
    _take(rows, x, targets, row_weight, places, batch_x, batch_targets, batch_row_weight)


def _take(
    rows: Any,
    x: Array,
    targets: Array,
    row_weight: Array | None,
    places: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
) -> None:
    batch_x[...] = x[rows if places is None else places[rows]]
    batch_targets[...] = targets[rows]
    if row_weight is not None and batch_row_weight is not None:
        batch_row_weight[...] = row_weight[rows]


@dataclass(frozen=True)
class GatheredBatches:
    """Batches that a recorded step gathers itself from data on the device.

    Attributes:
        data: all rows of a pass, or, without a seed, the chunk of rows that contains the batch.
        backend: backend for the batches.
        clock: holds the epoch, and the position in it at which the next batch begins.
        seed: seed of the shuffles; None keeps the rows in order.
    """

    data: DataSet
    backend: ReferenceBackend
    clock: Array
    seed: int | None

    def begin(self, epochs_to_come: int) -> None:
        pass

    def make_ready(self, batches_done: int) -> int:
        return sys.maxsize

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        data = self.data
        if rows == len(data) and data.places is None:
            return data
        x = self.backend.empty((rows, *data.x.shape[1:]), data.x.dtype)
        targets = self.backend.empty((rows, *data.targets.shape[1:]), data.targets.dtype)
        weight = None if data.row_weight is None else self.backend.empty(rows, data.row_weight.dtype)
        arrays = (data.x, data.targets, data.row_weight, data.places, x, targets, weight)
        if self.seed is None:
            recorder(gather_batch, *arrays, self.clock)
        else:
            recorder(gather_shuffled_batch, *arrays, self.clock, self.seed)
        return DataSet(x, targets, weight)

    def break_off(self) -> None:
        pass

    def close(self) -> None:
        pass
