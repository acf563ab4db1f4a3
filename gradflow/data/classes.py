"""Class names: found in targets, and converted to class numbers and back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np

from gradflow.checks import sequence
from gradflow.data.validation import finite_targets
from gradflow.data.where import Where
from gradflow.errors import DataError, shown
from gradflow.ops import Array

ClassName = str | bool | int | float
Classes = tuple[ClassName, ...]
"""The names of all classes, in the order of the outputs: all text, all booleans, or all numbers."""

_MOST_FOUND = 1000
"""Names to keep before a column that is not one of classes is refused; more where a network has more outputs."""
_MOST_LISTED = 10


def checked_classes(given: Any, n_out: int) -> Classes:
    """Validate the class names of a network with ``n_out`` outputs; NumPy scalars become Python's.

    Raises:
        DataError: for names of several kinds, names that occur twice, or another number of classes.
    """
    names = [_plain(name) for name in sequence("classes", given, "a list of class names, or None")]
    kinds = {_kind(name) for name in names}
    if len(kinds) > 1:
        raise DataError(f"classes must be all text, all numbers or all booleans, got {listed(names)}")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"classes must be different names, but {twice!r} occurs twice")
    n_classes = max(n_out, 2)
    if len(names) != n_classes:
        reason = "two, for one output" if n_out == 1 else f"{n_out}, one for each output"
        found = f"{len(names)}: {listed(names)}" if names else "none"
        remedy = f". Create a network with {len(names)} outputs for them" if len(names) > 1 else ""
        raise DataError(f"classes must be the names of {reason}, got {found}{remedy}")
    return tuple(names)


def _plain(name: Any) -> ClassName:
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, str):
        return str(name)
    if isinstance(name, bool):
        return name
    if isinstance(name, numbers.Integral) and -(2**63) <= int(name) < 2**63:
        return int(name)
    if isinstance(name, float) and math.isfinite(name):
        return name
    raise DataError(f"a class name must be text, a boolean, or a finite number of 64 bits, got {shown(name)}")


def _kind(name: ClassName) -> str:
    return "text" if isinstance(name, str) else "booleans" if isinstance(name, bool) else "numbers"


def listed(names: Iterable[object]) -> str:
    """Return the first names, for a message."""
    first = [shown(name) for name, _ in zip(names, range(_MOST_LISTED + 1), strict=False)]
    return ", ".join([*first[:_MOST_LISTED], "..."] if len(first) > _MOST_LISTED else first)


def are_names(y: Array, n_classes: int, *, takes_probabilities: bool) -> bool:
    """True if targets (rows,) or (rows, 1) must be class names, since they are no class numbers.

    These are text, booleans if there are two classes, and numbers that are not integers from 0 to ``n_classes`` - 1.

    Args:
        y: the targets.
        n_classes: the number of classes.
        takes_probabilities: True if numbers from 0 to 1 are probabilities.
    """
    if y.ndim == 0 or y.shape[1:] not in ((), (1,)) or not len(y):
        return False
    if y.dtype.kind in "Ob":
        return y.dtype.kind == "O" or n_classes == 2
    if y.dtype.kind == "f" and not takes_probabilities:
        return True
    most = 1 if takes_probabilities else n_classes - 1
    return not (y.min() >= 0 and y.max() <= most)


class ClassFinder:
    """Collects the distinct names in the targets of a classifier.

    Args:
        name: names the targets in errors.
        n_out: the number of outputs: one for each class, or 1 for two classes.
    """

    def __init__(self, name: str, n_out: int) -> None:
        self._name, self._n_out, self._rows = name, n_out, 0
        self._found: set[ClassName] = set()

    def update(self, y: np.ndarray, where: Where) -> None:
        """Add the names in targets (rows,) or (rows, 1).

        Raises:
            DataError: for missing names, text mixed with numbers, or far more names than classes.
        """
        self._rows += len(y)
        self._found.update(_distinct(self._name, y, where))
        if len({_kind(name) == "text" for name in self._found}) > 1:
            raise DataError(f"{self._name} holds text and numbers, but class names must all be of one kind")
        if len(self._found) > max(_MOST_FOUND, self._n_out):
            raise self._wrong_number(f"more than {len(self._found) - 1}")

    def classes(self) -> Classes:
        """Return the names, sorted.

        Raises:
            DataError: if there are not as many as the network tells apart.
        """
        if len(self._found) != max(self._n_out, 2):
            raise self._wrong_number(str(len(self._found)))
        return checked_classes(sorted(self._found), self._n_out)

    def _wrong_number(self, count: str) -> DataError:
        found, n_out = sorted(self._found), self._n_out
        is_text = _kind(found[0]) == "text"
        classes = f"{count} class{'' if count == '1' else 'es'} ({listed(found)})"
        no_numbers = "" if is_text else f", which are not the class numbers 0 to {max(n_out, 2) - 1}"
        outputs = "1 output, for two classes" if n_out == 1 else f"{n_out} outputs, one for each class"
        if len(found) < max(n_out, 2):
            remedy = "Name all classes before training, network.classes = [...]"
            if len(found) > 1:
                remedy += f", or create a network with {len(found)} outputs"
        elif len(found) > max(_MOST_FOUND, n_out) or 2 * len(found) > max(self._rows, 20):
            remedy = "If these are numbers to predict, use a loss for numbers, such as 'mean_squared_error'"
        else:
            remedy = f"Create a network with {len(found)} outputs"
            remedy += ", for the loss 'softmax_cross_entropy'" if n_out == 1 else ""
        return DataError(f"{self._name} holds {classes}{no_numbers}, but the network has {outputs}. {remedy}")


def _distinct(name: str, y: np.ndarray, where: Where) -> set[ClassName]:
    if y.dtype.kind != "O":
        return set(np.unique(finite_targets(name, y, where)).tolist())
    column = y.reshape(-1)
    found = set(column.tolist())
    for value in found:
        if not isinstance(value, str):
            raise _no_text(name, column, where)
    return set(map(str, found))


def _no_text(name: str, column: np.ndarray, where: Where) -> DataError:
    """Return the error for the first value in a column of text that is none."""
    place = next(place for place, value in enumerate(column) if not isinstance(value, str))
    if column[place] is None:
        return DataError(f"{name} has no class in {where.row(place)}: remove the rows without one")
    other = next((place for place, value in enumerate(column) if isinstance(value, str)), place)
    return DataError(
        f"{name} must hold names of one kind, but holds {shown(str(column[other]))} in {where.row(other)}, and "
        f"{shown(column[place])} in {where.row(place)}; convert all to text: {name}.astype(str)"
    )


def class_numbers(name: str, y: np.ndarray, classes: Classes, where: Where) -> np.ndarray:
    """Return the class number of each row, int64 (rows,), for names (rows,) or (rows, 1).

    Args:
        name: names the targets in errors.
        y: text as objects, booleans or numbers.
        classes: the names of the classes.
        where: which rows these are, for errors.

    Raises:
        DataError: for a name that is missing or unknown, with its row.
    """
    if y.shape[1:] not in ((), (1,)):
        raise DataError(f"{name} must hold one class name in each row, shape (rows,), got {y.shape}")
    numbers_of = {of_class: number for number, of_class in enumerate(classes)}
    column = finite_targets(name, y.reshape(-1), where)
    found = np.fromiter(map(numbers_of.get, column.tolist(), repeat(-1)), np.int64, len(column))
    if (unknown := found < 0).any():
        place = int(np.argmax(unknown))
        if column[place] is None:
            raise _no_text(name, column, where)
        raise DataError(
            f"{name} holds the class {shown(column[place : place + 1].tolist()[0])} in {where.row(place)}, "
            f"{_why_unknown(column[place], classes)}"
        )
    return found


def _why_unknown(value: Any, classes: Classes) -> str:
    known = f"but the network knows {listed(classes)}"
    if isinstance(value, str) != (_kind(classes[0]) == "text"):
        kinds = ("text", "numbers") if isinstance(value, str) else ("a number", "text")
        remedy = "; names of class numbers are numpy.array(network.classes)[y]" if value in range(len(classes)) else ""
        return f"which is {kinds[0]}, {known}, which are {kinds[1]}{remedy}"
    return (
        f"{known}.{suggestion(value, classes)} Remove these rows or correct them; a new class needs a new network "
        "with an output for it, and network.classes = None forgets the names of the old ones"
    )


def suggestion(value: object, classes: Classes) -> str:
    """Return a question that proposes the most similar names; "" if none is similar."""
    from gradflow.synonyms import meant_names  # only errors need it

    names = [name for name in classes if isinstance(name, str)]
    meant = meant_names("class", value, names) if isinstance(value, str) else []
    return f" Is it {' or '.join(map(repr, meant))}?" if meant else ""


def class_values(classes: Classes) -> np.ndarray:
    """Return the names as an array that class numbers index: bool, int64 or float64; objects for text."""
    return np.array(classes, object if _kind(classes[0]) == "text" else None)
