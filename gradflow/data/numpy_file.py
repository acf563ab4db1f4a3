"""Files of NumPy, ``.npy`` and ``.npz``, as tables of named columns."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.checks import file_path
from gradflow.data.csv_file import as_integers
from gradflow.data.held_out import ColumnPiece
from gradflow.data.sources import Block
from gradflow.data.streams import BLOCK_ROWS, Stream, columns_block
from gradflow.data.table import chosen_columns, columns_to_read, only_target
from gradflow.data.where import Where
from gradflow.errors import DataError, unknown_name

_SUFFIXES = ".npy", ".npz"
_INPUTS = "x"
_MAGIC = b"\x93NUMPY"
_PIECE_FIELDS = 2**20


class NumPyFile(Stream):
    """The columns of a ``.npy`` file, which is read piece by piece, or of the arrays in a ``.npz``, which are loaded.

    Those of an array (rows, columns) are called "0", "1" and so on, and fields of a structured array by their names. In
    a ``.npz``, an array (rows,) or (rows, 1) is a column of its name. The columns of the array called x, or of the only
    one (rows, columns), are called "0", "1" and so on; those of others "name 0", "name 1" and so on.

    A column can also be that of another file, such as "y.npy"; `columns_of_targets` lists them.

    Args:
        path: the file.
        target, features, sample_weight: names of columns, as in `CSV`.
        block_rows: rows per block.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is damaged, holds Python objects, or has arrays of different numbers of rows.
    """

    def __init__(
        self,
        path: Path,
        *,
        target: str | Sequence[str] | None,
        features: str | Sequence[str] | None = None,
        sample_weight: str | None = None,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        super().__init__(block_rows)
        self._path = file_path("path", path)
        self._columns = _columns_in(self._path)
        names = list(self._columns)
        targets = [target] if isinstance(target, str) else list(target or ())
        inputs = [features] if isinstance(features, str) else list(features or ())
        for name in [*targets, *inputs]:
            if name not in self._columns and (file := target_file(name)) is not None:
                self._columns |= _target_columns(file)
        lengths = {name: len(column) for name, column in self._columns.items()}
        self._rows: int = next(iter(lengths.values()))
        for name, length in lengths.items():
            if length != self._rows:
                raise DataError(
                    f"{path}: all columns must have as many rows as {next(iter(lengths))!r}, {self._rows:,}, but "
                    f"{name!r} has {length:,}"
                )
        if not self._rows:
            raise DataError(f"{path} has no rows; at least 1 is needed")
        self.names = tuple(names)
        self.features, self.target = chosen_columns(str(path), list(self._columns), features, target, sample_weight)
        self.sample_weight = sample_weight

    def __len__(self) -> int:
        return self._rows

    def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
        names = columns_to_read(self.features, self.target, self.sample_weight)
        rows = min(self.block_rows, max(1, _PIECE_FIELDS // max(1, len(names))))
        for start in range(0, self._rows, rows):
            place = slice(start, min(start + rows, self._rows))
            columns = {name: self.values(name, place) for name in names}
            columns |= {name: as_integers(columns[name]) for name in self.target}
            where = Where(range(place.start, place.stop))
            yield columns_block(columns, self.features, self.target, self.sample_weight, where, str(self._path))

    def values(self, name: str, rows: slice) -> np.ndarray:
        """Return some rows of a column; missing text is None, and empty text is missing."""
        found: np.ndarray = self._columns[name][rows]
        if found.dtype.kind in "US":
            return np.array([str(value) or None for value in found.astype(str).tolist()], object)
        return np.array(found)

    @property
    def targets_take_a_pass(self) -> bool:
        return False

    def target_blocks(self) -> Generator[Block, None, None]:
        only = copy.copy(self)
        only.features = ()
        return only.blocks()

    def column(self, name: str | None) -> Generator[ColumnPiece, None, None]:
        name = only_target(str(self), self.target) if name is None else name
        if name not in self._columns:
            raise DataError(f"{self._path}: {unknown_name('column', name, list(self._columns))}")
        only = copy.copy(self)
        only.features, only.target, only.sample_weight = (name,), (), None
        yield from Stream.column(only, name)

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"NumPyFile({str(self._path)!r}, target={self.target!r}, features={self.features!r})"


def is_numpy_file(path: Path) -> bool:
    """True for a file of NumPy, by its first bytes or, for an archive, its suffix."""
    if path.suffix.lower() == ".npz" or not path.is_file():
        return path.suffix.lower() in _SUFFIXES
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def numpy_names(path: Path) -> list[str]:
    """Return the names of the columns of a file; errors are those of `NumPyFile`."""
    return list(_columns_in(path))


def target_file(name: str) -> Path | None:
    """Return the file of a target such as "y.npy" or, for the second column of it, "y.npy 1"; None for other names."""
    for text in (name, name.rpartition(" ")[0]):
        if text.lower().endswith(".npy"):
            return Path(text)
    return None


def columns_of_targets(path: Path, targets: Sequence[str]) -> list[str]:
    """Return the names of the target columns that a user means: those of a file, or -1 for the last column.

    Raises:
        DataError: if a file is damaged.
        FileNotFoundError: if a file of targets does not exist.
    """
    if not is_numpy_file(path):
        return list(targets)
    names = numpy_names(path)
    found = []
    for target in targets:
        if target in names:
            found.append(target)
        elif target.lower().endswith(".npy"):
            found += list(_target_columns(Path(target).resolve()))
        elif target.removeprefix("-").isdigit() and -len(names) <= int(target) < 0:
            found.append(names[int(target)])
        else:
            found.append(target)
    return found


def _target_columns(path: Path) -> dict[str, np.ndarray]:
    return _named(str(path), _opened(path))


def _columns_in(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a file by name."""
    found = _opened(path)
    if not isinstance(found, Mapping):
        return _named("", found)
    tables = [name for name, array in found.items() if array.ndim == 2 and array.shape[1] != 1]
    plain = _INPUTS if _INPUTS in tables else tables[0] if len(tables) == 1 else None
    columns: dict[str, np.ndarray] = {}
    for name, array in found.items():
        for column, values in _named("" if name == plain else name, array).items():
            if column in columns:
                raise DataError(f"{path} has two columns named {column!r}; rename one of its arrays")
            columns[column] = values
    if not columns:
        raise DataError(f"{path} holds no arrays")
    return columns


def _named(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of an array; ``name`` is that of the array, or empty."""
    prefix = f"{name} " if name else ""
    if array.dtype.names:
        return {f"{prefix}{field}": array[field] for field in array.dtype.names}
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1 and name):
        return {name or "0": array.reshape(-1)}
    return {f"{prefix}{place}": array[:, place] for place in range(array.shape[1])}


def _opened(path: Path) -> Any:
    """Return the array in a file, or all arrays of an archive by name."""
    try:
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays: Any = {name: archive[name] for name in archive.files}
        else:
            arrays = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        objects = "pickle" in str(error) or "Python objects" in str(error)
        raise DataError(
            f"{path} holds Python objects, which may be a program: save numbers, or text as a dtype such as 'U20'"
            if objects
            else f"{path} is damaged or not a NumPy file: {error}"
        ) from error
    for name, array in arrays.items() if isinstance(arrays, dict) else [("", arrays)]:
        if array.ndim not in (1, 2) or array.dtype.kind not in "biufUSMV" or (array.dtype.names and array.ndim == 2):
            shown = f"{path}, array {name!r}" if name else str(path)
            raise DataError(
                f"{shown} has shape {array.shape} and dtype {array.dtype}; expected a row for each example: numbers, "
                "text or timestamps of shape (rows,) or (rows, columns). Reshape it, such as x.reshape(len(x), -1)"
            )
    return arrays
