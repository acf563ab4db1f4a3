"""The data of a pass where it lies on the device as a whole: a step gathers its batch from there."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.batches import gather_batch, gather_shuffled_batch
from gradflow.losses import Loss
from gradflow.ops import Array
from gradflow.program import Recorder
from gradflow.status import RunStatus

__all__ = ["Batches", "DataSet", "GatheredBatches", "PassData", "fingerprint"]


def fingerprint(rows: int, parts: Iterable[Sequence[np.ndarray]]) -> str:
    """Data as a text that other data do not have: the number of rows, and SHA-256 over arrays that come in parts."""
    import hashlib  # brings OpenSSL, which would slow the import of gradflow down

    digests: list[hashlib._Hash] = []
    for part in parts:
        digests = digests or [hashlib.sha256(f"{array.dtype.str} {array.shape[1:]} ".encode()) for array in part]
        for digest, array in zip(digests, part, strict=True):
            digest.update(np.ascontiguousarray(array).data)
    whole = hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return f"{rows} rows, sha256 {whole.hexdigest()}"


def as_the_loss_sees(loss: Loss, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Inputs, targets and perhaps weights, with the targets as the loss smooths them; class labels stay as they are."""
    x, targets, *weight = arrays
    with np.errstate(under="ignore"):
        return [x, targets if targets.ndim == 1 else loss.smoothed(targets), *weight]


class Batches(Protocol):
    """The batches of one pass after another. What was recorded runs behind `bring`."""

    def begin(self, passes_to_come: int) -> None:
        """A pass begins, behind which so many follow: their first batches may be made while the one before ends."""

    def bring(self, batches_done: int) -> int:
        """See to it that the batch behind so many of a pass can be taken; how many can be until this is called again"""

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        """Record what takes the next so many rows of a batch, and return the arrays in which they then lie."""

    def break_off(self) -> None:
        """Raise BrokenOffError in `bring` where it waits for batches, or would next. A signal handler may call it."""

    def close(self) -> None:
        """End what a pass has begun; the next batch is then the one that the clock says."""


class PassData(Protocol):
    """What a pass goes over, wherever it lies.

    ``is_weighted`` says whether its rows have weights; ``class_totals`` how many rows each class has, as float64 on the
    host, where the targets are classes and that is known; ``feature_names`` which columns the inputs were taken from.
    """

    @property
    def is_weighted(self) -> bool: ...

    @property
    def class_totals(self) -> np.ndarray | None: ...

    @property
    def feature_names(self) -> Sequence[str] | None: ...

    def __len__(self) -> int: ...

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        """The number of rows and a checksum: of all of them, or of those that a source looks at before training.

        The checksum is that of the targets as the loss smooths them, so that runs of earlier versions can be resumed.
        """

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> Batches:
        """The batches of passes whose place is on the clock.

        Args:
            backend: where the batches go.
            status: whose clock says which epoch it is, and where in it the next batch begins.
            rows: how many rows make a pass.
            batch_size: the rows of a batch; the last one of a pass may have fewer.
            seed: of the shuffles; None leaves the rows in their order.
        """


@dataclass(frozen=True)
class DataSet:
    """Inputs (rows, n_in), targets and perhaps the weight of each row: all of the data, or a batch."""

    x: Array
    targets: Array
    row_weight: Array | None = None
    class_totals: np.ndarray | None = None
    feature_names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_weighted(self) -> bool:
        return self.row_weight is not None

    def on(self, backend: ReferenceBackend) -> DataSet:
        """The same where the backend's arrays lie."""
        weight = None if self.row_weight is None else backend.adopt(self.row_weight)
        return replace(self, x=backend.adopt(self.x), targets=backend.adopt(self.targets), row_weight=weight)

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        arrays = [array for array in (self.x, self.targets, self.row_weight) if array is not None]
        on_host = [array if isinstance(array, np.ndarray) else backend.to_host(array) for array in arrays]
        return fingerprint(len(self), [as_the_loss_sees(loss, on_host)])

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> Batches:
        """The batches that a recorded step gathers by itself."""
        return GatheredBatches(self.on(backend), backend, status.clock, seed)


@dataclass(frozen=True)
class GatheredBatches:
    """Batches that a recorded step takes by itself from data that lie on the device.

    Attributes:
        data: all rows of a pass, or, without a seed, the stretch of them in which the batch lies.
        backend: where the batches go.
        clock: says which epoch it is, and where in it the next batch begins.
        seed: of the shuffles; None leaves the rows in their order.
    """

    data: DataSet
    backend: ReferenceBackend
    clock: Array
    seed: int | None

    def begin(self, passes_to_come: int) -> None:
        pass

    def bring(self, batches_done: int) -> int:
        return sys.maxsize

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        data = self.data
        if rows == len(data):
            return data
        x = self.backend.empty((rows, *data.x.shape[1:]), data.x.dtype)
        targets = self.backend.empty((rows, *data.targets.shape[1:]), data.targets.dtype)
        weight = None if data.row_weight is None else self.backend.empty(rows, data.row_weight.dtype)
        arrays = (data.x, data.targets, data.row_weight, x, targets, weight)
        if self.seed is None:
            recorder(gather_batch, *arrays, self.clock)
        else:
            recorder(gather_shuffled_batch, *arrays, self.clock, self.seed)
        return DataSet(x, targets, weight)

    def break_off(self) -> None:
        pass

    def close(self) -> None:
        pass
