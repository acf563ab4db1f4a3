"""Data that stay on the host: the batches of the next steps are made and brought over while the present ones run."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.backends.staging import array_in
from gradflow.data.read_ahead import ReadAhead
from gradflow.data.sources import Conversion, Source
from gradflow.losses import Loss
from gradflow.program import Recorder
from gradflow.status import RunStatus
from gradflow.training.data_set import Batches, DataSet, GatheredBatches, as_the_loss_sees, fingerprint

__all__ = ["StreamedData"]

_ALIGNMENT = 256
"""In bytes; what matrix products on a GPU like best."""
_STRETCH_BYTES = 2**19
"""What is brought over at once, unless a batch is larger: handing a small batch over takes as long as a step on it."""


class StreamedData:
    """The rows of a source as the data of a pass.

    Args:
        source: where they come from.
        convert: what each of them goes through.
        is_weighted: whether that gives weights too.
        class_totals: how many rows each class has, where that is known.
        feature_names: of the columns that inputs were taken from, in their order; None for arrays.

    Raises:
        DataError: if what the source looks at before training does not fit.
    """

    def __init__(
        self,
        source: Source,
        convert: Conversion,
        *,
        is_weighted: bool,
        class_totals: np.ndarray | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        for block in source.looked_at():
            block.converted(convert)
        self.is_weighted = is_weighted
        self.class_totals = class_totals
        self.feature_names = feature_names
        self._source = source
        self._convert = convert

    def __len__(self) -> int:
        return len(self._source)

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        parts = (block.converted(self._convert) for block in self._source.looked_at())
        return fingerprint(len(self), (as_the_loss_sees(loss, part) for part in parts))

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> Batches:
        """The batches that a thread makes, a stretch of them ahead of the steps."""
        return _StagedBatches(self._source, self._convert, backend, status, rows, batch_size, seed)


class _StagedBatches:
    """Stretches of a pass, of some batches each, that take turns in one place on the device.

    There a stretch is one run of bytes, its arrays one behind the other, so that it takes one copy.
    """

    def __init__(
        self,
        source: Source,
        convert: Conversion,
        backend: ReferenceBackend,
        status: RunStatus,
        rows: int,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._source, self._convert, self._status = source, convert, status
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        sample = convert(source.sample())
        bytes_of_batch = batch_size * sum(array[:1].nbytes for array in sample)
        self._together = max(1, min(_STRETCH_BYTES // bytes_of_batch, -(-rows // batch_size)))
        shapes = [(self._together * batch_size, *array.shape[1:]) for array in sample]
        sizes = [math.prod(shape) * array.itemsize for shape, array in zip(shapes, sample, strict=True)]
        ends = list(accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes))
        self._starts = [0, *ends[:-1]]
        self._staging = backend.staging(ends[-1])
        arrays = [
            array_in(self._staging.device, start, shape, array.dtype)
            for start, shape, array in zip(self._starts, shapes, sample, strict=True)
        ]
        self._in_stretch = GatheredBatches(DataSet(*arrays), backend, status.clock, seed=None)
        self._ahead: ReadAhead[Any] | None = None
        self._is_broken_off = False
        self._passes_to_come = 0

    def begin(self, passes_to_come: int) -> None:
        self._passes_to_come = passes_to_come

    def bring(self, batches_done: int) -> int:
        place = batches_done % self._together
        if self._ahead is None or place == 0:
            self._staging.bring(next(self._reader(batches_done - place)))
        return self._together - place

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        return self._in_stretch.next(recorder, rows)

    def break_off(self) -> None:
        self._is_broken_off = True
        if self._ahead is not None:
            self._ahead.break_off()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _reader(self, first_batch: int) -> ReadAhead[Any]:
        """What makes the stretches; where there is none, it begins with the present epoch at that batch."""
        if self._ahead is None:
            epoch = self._status.read().epoch
            epochs = range(epoch, epoch + 1 + self._passes_to_come)
            self._ahead = ReadAhead(self._staged(epochs, first=first_batch * self._batch_size))
            if self._is_broken_off:  # by a signal that came before the line above was done
                self._ahead.break_off()
        return self._ahead

    def _staged(self, epochs: range, first: int) -> Generator[Any, None, None]:
        """The stretches of the epochs, staged, from a row of the first epoch on."""
        stretches = self._source.batches(
            self._convert,
            rows=self._rows,
            batch_size=self._together * self._batch_size,
            first=first,
            seed=self._seed,
            epochs=epochs,
        )
        try:
            for stretch in stretches:
                yield self._staging.stage(self._starts, stretch)
        finally:
            stretches.close()
