"""Data that stay on the host: the batch of the next step is made and brought over while the present step runs."""

from __future__ import annotations

import math
from collections.abc import Generator
from itertools import cycle

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.read_ahead import ReadAhead
from gradflow.data.sources import Conversion, Source
from gradflow.ops import Array, Executor
from gradflow.program import Recorder
from gradflow.status import RunStatus
from gradflow.training.data_set import Batches, DataSet, fingerprint

__all__ = ["StreamedData"]

_ALIGNMENT = 256
"""In bytes; what matrix products on a GPU like best."""


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
        """The batches that a thread makes, one ahead of the step."""
        # As where the data lie on the device: a batch of all rows has them in their order.
        seed = None if batch_size == len(self) else seed
        return _StagedBatches(self._source, self._convert, backend, status, rows, batch_size, seed)


class _StagedBatches:
    """A staged batch is one run of bytes, its arrays one behind the other, so that it takes one copy."""

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
        self._places = []
        n_bytes = 0
        for array in convert(source.sample()):
            start, shape = -(-n_bytes // _ALIGNMENT) * _ALIGNMENT, (batch_size, *array.shape[1:])
            n_bytes = start + math.prod(shape) * array.itemsize
            self._places.append((slice(start, n_bytes), array.dtype, shape))
        self._staging = backend.staging(n_bytes)
        self._ahead: ReadAhead[int] | None = None
        self._passes_to_come = 0

    def begin(self, passes_to_come: int) -> None:
        self._passes_to_come = passes_to_come

    def next(self, recorder: Recorder, rows: int) -> DataSet:
        recorder.record(self._bring_next, recorded=False)
        return DataSet(*(array[:rows] for array in self._arrays(self._staging.device)))

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _bring_next(self, ops: Executor) -> None:
        if self._ahead is None:
            clock = self._status.read()
            epochs = range(clock.epoch, clock.epoch + 1 + self._passes_to_come)
            self._ahead = ReadAhead(self._fill(epochs, clock.position))
        self._staging.bring(next(self._ahead))

    def _fill(self, epochs: range, first: int) -> Generator[int, None, None]:
        """Fill the host buffers in turn; each index means that this buffer is full."""
        batches = self._source.batches(
            self._convert,
            rows=self._rows,
            batch_size=self._batch_size,
            first=first,
            seed=self._seed,
            epochs=epochs,
        )
        try:
            for index, batch in zip(cycle((0, 1)), batches, strict=False):
                self._staging.wait_until_brought(index)
                for target, array in zip(self._arrays(self._staging.host[index]), batch, strict=True):
                    np.copyto(target[: len(array)], array)
                yield index
        finally:
            batches.close()

    def _arrays(self, staged: Array) -> list[Array]:
        """The arrays in a buffer, with the rows of a full batch."""
        return [staged[place].view(dtype).reshape(shape) for place, dtype, shape in self._places]
