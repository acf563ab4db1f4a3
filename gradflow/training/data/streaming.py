"""Data that stay on the host: the next batches are prepared and uploaded while the current ones run."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.backends.upload import array_in
from gradflow.clock import RunStatus
from gradflow.data.classes import Classes
from gradflow.data.read_ahead import ReadAhead
from gradflow.data.sources import Conversion, Source
from gradflow.losses import Loss
from gradflow.program import Recorder
from gradflow.training.data.feed import BatchFeed, DataSet, GatheredBatches, as_the_loss_sees, data_fingerprint

_ALIGNMENT = 256
"""In bytes; the alignment at which GPU matmuls are fastest."""
_CHUNK_BYTES = 2**19
"""Bytes uploaded at once, unless a batch is larger: uploading a small batch takes as long as a step on it."""


class StreamedData:
    """Data for training or evaluation that are read from a source.

    Args:
        source: the source.
        convert: converts its blocks to inputs, targets and weights.
        is_weighted: True if ``convert`` also returns weights.
        class_totals: number of rows of each class, if known.
        feature_names: names of the input columns, in order; None for arrays.
        classes: names of the classes that the targets hold; None for numbers.

    Raises:
        DataError: if rows that the source checks before training are invalid.
    """

    def __init__(
        self,
        source: Source,
        convert: Conversion,
        *,
        is_weighted: bool,
        class_totals: np.ndarray | None = None,
        feature_names: Sequence[str] | None = None,
        classes: Classes | None = None,
    ) -> None:
        for block in source.looked_at():
            block.converted(convert)
        self.is_weighted = is_weighted
        self.class_totals = class_totals
        self.feature_names = feature_names
        self.classes = classes
        self._source = source
        self._convert = convert

    def __len__(self) -> int:
        return len(self._source)

    def fingerprint(self, backend: ReferenceBackend, loss: Loss) -> str:
        parts = (block.converted(self._convert) for block in self._source.looked_at())
        return data_fingerprint(len(self), (as_the_loss_sees(loss, part) for part in parts))

    def batches(
        self, backend: ReferenceBackend, status: RunStatus, *, rows: int, batch_size: int, seed: int | None
    ) -> BatchFeed:
        """Return batches that a thread prepares, one chunk ahead of the steps."""
        return _UploadedBatches(self._source, self._convert, backend, status, rows, batch_size, seed)


class _UploadedBatches:
    """Chunks of several batches each, which take turns in one buffer on the device.

    The arrays of a chunk are contiguous in the buffer, so that one copy uploads it.
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
        self._together = max(1, min(_CHUNK_BYTES // bytes_of_batch, -(-rows // batch_size)))
        shapes = [(self._together * batch_size, *array.shape[1:]) for array in sample]
        sizes = [math.prod(shape) * array.itemsize for shape, array in zip(shapes, sample, strict=True)]
        ends = list(accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes))
        self._starts = [0, *ends[:-1]]
        self._buffer = backend.upload_buffer(ends[-1])
        arrays = [
            array_in(self._buffer.device, start, shape, array.dtype)
            for start, shape, array in zip(self._starts, shapes, sample, strict=True)
        ]
        self._in_chunk = GatheredBatches(DataSet(*arrays), backend, status.clock, seed=None)
        self._ahead: ReadAhead[Any] | None = None
        self._is_broken_off = False
        self._epochs_to_come = 0

    def begin(self, epochs_to_come: int) -> None:
        self._epochs_to_come = epochs_to_come

    def make_ready(self, batches_done: int) -> int:
        place = batches_done % self._together
        if self._ahead is None or place == 0:
            self._buffer.upload(next(self._reader(batches_done - place)))
        return self._together - place

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        return self._in_chunk.next(recorder, rows)

    def break_off(self) -> None:
        self._is_broken_off = True
        if self._ahead is not None:
            self._ahead.break_off()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _reader(self, first_batch: int) -> ReadAhead[Any]:
        """Return the reader of the chunks; if there is none, start one at that batch of the current epoch."""
        if self._ahead is None:
            epoch = self._status.read().epoch
            epochs = range(epoch, epoch + 1 + self._epochs_to_come)
            self._ahead = ReadAhead(self._prepared(epochs, first=first_batch * self._batch_size))
            if self._is_broken_off:  # by a signal that arrived before the line above finished
                self._ahead.break_off()
        return self._ahead

    def _prepared(self, epochs: range, first: int) -> Generator[Any, None, None]:
        """Yield the prepared chunks of the epochs, beginning at row ``first`` of the first epoch."""
        chunks = self._source.batches(
            self._convert,
            rows=self._rows,
            batch_size=self._together * self._batch_size,
            first=first,
            seed=self._seed,
            epochs=epochs,
        )
        try:
            for chunk in chunks:
                yield self._buffer.prepare(self._starts, chunk)
        finally:
            chunks.close()
