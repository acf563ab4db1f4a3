"""Sequential data: shuffled by blocks, and prefetched."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import ClassVar

import numpy as np

from gradflow.checks import positive_integer
from gradflow.data.held_out import ColumnPiece
from gradflow.data.read_ahead import ReadAhead
from gradflow.data.sources import Block, Conversion, Converted, Source, joined
from gradflow.data.table import Table, example_of_text
from gradflow.data.weights import checked_weights
from gradflow.data.where import Where
from gradflow.errors import DataError, GradflowError
from gradflow.random import shuffle

BLOCK_ROWS = 65536
_EXPECTED = "were counted before training, or given as rows=; has it changed?"


class Stream(Source):
    """Rows that are read sequentially, in pieces.

    An epoch is cut into blocks of ``block_rows`` rows, in reading order. With shuffling, block b is permuted by the
    shuffle for (seed, epoch, b); a row never leaves its block. So each row occurs once per epoch, and the order depends
    only on seed, epoch and ``block_rows``. Sorted data needs blocks large enough to hold all kinds of rows, or must be
    shuffled once before it is written.

    At most two converted blocks, and one block as read, are in memory at any time.

    Args:
        block_rows: rows per block, at least 1.
    """

    reorders: ClassVar[bool] = False
    """True if `read` with a seed yields pieces in another order; they then have numbers (`Block.first`)."""
    _rows: int | None = None
    """The number of rows, once it is known."""

    def __init__(self, block_rows: int) -> None:
        self.block_rows = positive_integer("block_rows", block_rows)

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        """Yield all rows once, in pieces of at most ``block_rows`` rows; with a seed, parts may be reordered."""
        raise GradflowError(f"{type(self).__name__} does not define read(seed, epoch)")

    def read_chosen(self, chosen: np.ndarray, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        """Yield the rows for which ``chosen``, bool (rows,), is True, in the order of `read`."""
        pieces = self.read(seed=seed if self.reorders else None, epoch=epoch)
        first = 0
        with closing(as_many(len(chosen), pieces, self)) as all_pieces:
            for piece in all_pieces:
                if self.reorders:
                    if piece.first is None:
                        raise GradflowError(
                            f"{type(self).__name__} reorders its rows, so each block needs the number of its first one "
                            "to be split: Block(..., first=...)"
                        )
                    first = piece.first
                places = np.flatnonzero(chosen[first : first + len(piece)])
                first += len(piece)
                if len(places):
                    yield piece[places]

    def blocks(self) -> Generator[Block, None, None]:
        pieces = self.read(seed=None, epoch=0)
        return self._counted(pieces) if self._rows is None else as_many(self._rows, pieces, self)

    @property
    def targets_take_a_pass(self) -> bool:
        return self._rows is not None

    def _counted(self, pieces: Generator[Block, None, None]) -> Generator[Block, None, None]:
        """Yield the pieces of all rows; then their number is known."""
        rows = 0
        with closing(pieces):
            for piece in pieces:
                rows += len(piece)
                yield piece
        self._rows = rows

    def _divided(self, held_out: np.ndarray) -> tuple[Source, Source]:
        return StreamPart(self, ~held_out), StreamPart(self, held_out)

    def looked_at(self) -> Generator[Block, None, None]:
        """Yield the first piece. The others are checked as they are read."""
        yield self.sample()

    def batches(
        self, convert: Conversion, *, rows: int, batch_size: int, first: int, seed: int | None, epochs: Iterable[int]
    ) -> Generator[Converted, None, None]:
        ahead = ReadAhead(self._whole_blocks(convert, seed=seed, epochs=epochs, start=first // self.block_rows))
        try:
            current: int | None = None
            waiting: list[Converted] = []
            missing = 0
            for epoch, number, block in ahead:
                if epoch != current:
                    current, done, first = epoch, first, 0
                    missing = min(batch_size, rows - done)
                order = np.arange(len(block[0]))
                if seed is not None:
                    # number + 1, so that the shuffle of block 0 differs from that of in-memory arrays.
                    order = shuffle(order, len(order), seed=seed, epoch=epoch | (number + 1) << 32)
                place = max(0, done - number * self.block_rows)
                while missing and place < len(order):
                    chosen = order[place : place + missing]
                    waiting.append(tuple(array[chosen] for array in block))
                    place += len(chosen)
                    missing -= len(chosen)
                    if missing == 0:
                        done += sum(len(part[0]) for part in waiting)
                        yield joined(waiting)
                        waiting = []
                        missing = min(batch_size, rows - done)
        finally:
            ahead.close()

    def _whole_blocks(
        self, convert: Conversion, *, seed: int | None, epochs: Iterable[int], start: int
    ) -> Generator[tuple[int, int, Converted], None, None]:
        """Yield (epoch, block number, converted rows) for all epochs, in the first one from block ``start`` on."""
        for epoch in epochs:
            with closing(as_many(len(self), self.read(seed=seed, epoch=epoch), self)) as pieces:
                for number, block in enumerate(self._joined_pieces(pieces, convert, start), start=start):
                    yield epoch, number, block
            start = 0

    def _joined_pieces(
        self, pieces: Iterator[Block], convert: Conversion, start: int
    ) -> Generator[Converted, None, None]:
        """Yield the converted blocks of an epoch from number ``start`` on."""
        total, size = len(self), self.block_rows
        skipped = start * size
        read, wanted = 0, min(size, total - skipped)
        waiting: list[Converted] = []
        for piece in pieces:
            begin = min(len(piece), max(0, skipped - read))
            read += len(piece)
            while begin < len(piece):
                part = piece[begin : begin + wanted]
                waiting.append(part.converted(convert))
                begin += len(part)
                wanted -= len(part)
                if wanted == 0:
                    yield joined(waiting)
                    waiting = []
                    wanted = min(size, total - (read - len(piece) + begin))


class StreamPart(Stream):
    """Some rows of a stream, as `Source.split` chooses them. Otherwise as a stream of these rows alone.

    Args:
        whole: the stream.
        chosen: True for each row that belongs to the part, bool (rows,).
    """

    def __init__(self, whole: Stream, chosen: np.ndarray) -> None:
        super().__init__(whole.block_rows)
        self.whole, self._chosen = whole, chosen
        self._rows: int = int(np.count_nonzero(chosen))

    def __len__(self) -> int:
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        return self.whole.read_chosen(self._chosen, seed=seed, epoch=epoch)

    @property
    def targets_take_a_pass(self) -> bool:
        return self.whole.targets_take_a_pass

    def target_blocks(self) -> Generator[Block, None, None]:
        first = 0
        with closing(self.whole.target_blocks()) as pieces:
            for piece in pieces:
                places = np.flatnonzero(self._chosen[first : first + len(piece)])
                first += len(piece)
                if len(places):
                    yield piece[places]

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        first = 0
        with closing(self.whole.column(name)) as pieces:
            for piece in pieces:
                places = np.flatnonzero(self._chosen[first : first + len(piece.values)])
                first += len(piece.values)
                yield piece._replace(values=piece.values[places], where=piece.where[places])

    def _divided(self, held_out: np.ndarray) -> tuple[Source, Source]:
        rows = np.flatnonzero(self._chosen)
        parts = np.zeros((2, len(self._chosen)), np.bool_)
        parts[held_out.astype(np.intp), rows] = True
        return StreamPart(self.whole, parts[0]), StreamPart(self.whole, parts[1])

    def __str__(self) -> str:
        return str(self.whole)

    def __repr__(self) -> str:
        return f"{len(self):,} of {len(self._chosen):,} rows of {self.whole!r}"


def as_many(rows: int, pieces: Generator[Block, None, None], source: Source) -> Generator[Block, None, None]:
    """Yield the pieces of a source after checking that they have as many rows as it had before.

    Raises:
        DataError: if there are more or fewer rows.
    """
    read = 0
    with closing(pieces):
        for piece in pieces:
            read += len(piece)
            # Check for the end before yielding the last piece, since the consumer may not ask for another.
            if read > rows or (read == rows and any(map(len, pieces))):
                raise too_many(source, rows)
            yield piece
    if read < rows:
        raise too_few(source, read, rows)


def too_many(source: Source, rows: int) -> DataError:
    """Return the error for a source with more rows than before."""
    return DataError(f"{source} gives more rows than the {rows:,} that {_EXPECTED}")


def too_few(source: Source, read: int, rows: int) -> DataError:
    """Return the error for a source that ends after ``read`` of its rows."""
    return DataError(f"{source} ended after {read:,} rows, before the {rows:,} that {_EXPECTED}")


def columns_block(
    columns: dict[str, np.ndarray],
    features: Sequence[str],
    target: Sequence[str],
    sample_weight: str | None,
    where: Where,
    origin: str,
    categories: frozenset[str] = frozenset(),
    unusable: Mapping[str, str] | None = None,
) -> Block:
    """Make a block of columns by name. One target gives y of shape (rows,), several or none give (rows, targets)."""
    x = Table(tuple(columns[name] for name in features), tuple(features), categories, unusable or {})
    for name in target if len(target) > 1 else ():
        if columns[name].dtype.kind not in "fiub":
            example, place = example_of_text(columns[name])
            raise DataError(
                f"{origin}: the target column {name!r} holds text, such as {example!r} in {where.row(place)}, but "
                "several targets must be numbers; class names need a single target"
            )
    if len(target) == 1:
        targets = columns[target[0]]
    else:
        targets = np.stack([columns[name] for name in target], axis=1) if target else np.empty((len(where.rows), 0))
    weight = None
    if sample_weight is not None:
        weight = checked_weights(f"{origin}: the sample_weight column {sample_weight!r}", columns[sample_weight], where)
    return Block(x, targets, Where(where.rows, tuple(features), where.unit), origin, weight)
