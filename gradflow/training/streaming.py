"""Data that stay on the host: the batches of the next steps are made and brought over while the present ones run."""

from __future__ import annotations

import math
from collections.abc import Generator
from itertools import cycle

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.read_ahead import ReadAhead
from gradflow.data.sources import Conversion, Source
from gradflow.ops import Array
from gradflow.program import Recorder
from gradflow.status import RunStatus
from gradflow.training.data_set import Batches, DataSet, GatheredBatches, fingerprint

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

    Raises:
        DataError: if what the source looks at before training does not fit.
    """

    def __init__(
        self, source: Source, convert: Conversion, *, is_weighted: bool, class_totals: np.ndarray | None = None
    ) -> None:
        for block in source.looked_at():
            block.converted(convert)
        self.is_weighted = is_weighted
        self.class_totals = class_totals
        self._source = source
        self._convert = convert

    def __len__(self) -> int:
        return len(self._source)

    def fingerprint(self, backend: ReferenceBackend) -> str:
        return fingerprint(len(self), (block.converted(self._convert) for block in self._source.looked_at()))

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
        self._places = []
        n_bytes = 0
        for array in sample:
            start, shape = -(-n_bytes // _ALIGNMENT) * _ALIGNMENT, (self._together * batch_size, *array.shape[1:])
            n_bytes = start + math.prod(shape) * array.itemsize
            self._places.append((slice(start, n_bytes), array.dtype, shape))
        self._staging = backend.staging(n_bytes)
        stretch = DataSet(*self._arrays(self._staging.device))
        self._in_stretch = GatheredBatches(stretch, backend, status.clock, seed=None)
        self._ahead: ReadAhead[int] | None = None
        self._passes_to_come = 0

    def begin(self, passes_to_come: int) -> None:
        self._passes_to_come = passes_to_come

    def bring(self, batches_done: int) -> int:
        place = batches_done % self._together
        if self._ahead is None:
            epoch = self._status.read().epoch
            epochs = range(epoch, epoch + 1 + self._passes_to_come)
            self._ahead = ReadAhead(self._fill(epochs, first=(batches_done - place) * self._batch_size))
            is_there = False
        else:
            is_there = place > 0
        if not is_there:
            self._staging.bring(next(self._ahead))
        return self._together - place

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        return self._in_stretch.next(recorder, rows)

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _fill(self, epochs: range, first: int) -> Generator[int, None, None]:
        """Fill the host buffers in turn; each index means that this buffer is full."""
        stretches = self._source.batches(
            self._convert,
            rows=self._rows,
            batch_size=self._together * self._batch_size,
            first=first,
            seed=self._seed,
            epochs=epochs,
        )
        try:
            for index, stretch in zip(cycle((0, 1)), stretches, strict=False):
                self._staging.wait_until_brought(index)
                for target, array in zip(self._arrays(self._staging.host[index]), stretch, strict=True):
                    np.copyto(target[: len(array)], array)
                yield index
        finally:
            stretches.close()

    def _arrays(self, staged: Array) -> list[Array]:
        """The arrays in a buffer, with the rows of a whole stretch."""
        return [staged[place].view(dtype).reshape(shape) for place, dtype, shape in self._places]
