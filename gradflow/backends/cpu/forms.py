"""Forms of programs: a program like an earlier one takes over its calls and phases, and has its own arguments.

To bind a program takes as long as many of its steps. Where many small networks are trained, most programs have the form
of an earlier one: the same ops, on arrays of the same shapes, which overlap in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from gradflow.backends.cpu.native_call import NativeCall
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.backends.fusion import Call

_MOST = 256  # forms that are kept
_SEED = "seed"
"""The name of integers that are no part of the form; all others are, since sizes may depend on them."""


class ProgramForm(NamedTuple):
    """The calls of a program, separated into what programs of one form have in common, and what differs.

    Attributes:
        key: what they have in common.
        places: the place in ``arrays`` or ``numbers`` of each argument that differs, by the place of its call, its
            name, and its type.
        arrays: the arrays.
        addresses: where they begin.
        numbers: floats and seeds.
    """

    key: tuple[Any, ...]
    places: dict[tuple[int, str, type], int]
    arrays: list[np.ndarray]
    addresses: list[int]
    numbers: list[float]


def form_of(calls: Sequence[Call]) -> ProgramForm:
    """Return the form of a program."""
    places: dict[tuple[int, str, type], int] = {}
    arrays: list[np.ndarray] = []
    numbers: list[float] = []
    constants: list[Any] = []
    known: dict[int, int] = {}
    for call, (op, arguments) in enumerate(calls):
        constants += op.name, op.reference
        for name, value in arguments.items():
            kind = type(value)
            if isinstance(value, np.ndarray):
                place = places[call, name, np.ndarray] = known.setdefault(id(value), len(arrays))
                if place == len(arrays):
                    arrays.append(value)
                constants.append(place)
            elif kind is float or (kind is int and name == _SEED):
                places[call, name, kind] = len(numbers)
                numbers.append(value)
            else:
                constants.append(value)
            constants.append(kind)
    addresses = [array.ctypes.data for array in arrays]
    shapes = tuple((array.shape, array.strides, array.dtype.str) for array in arrays)
    return ProgramForm((tuple(constants), shapes, _overlaps(arrays, addresses)), places, arrays, addresses, numbers)


def _overlaps(arrays: Sequence[np.ndarray], addresses: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return, for each array, the first array of those that overlap, in a row, and its distance from their begin."""
    found: list[tuple[int, int]] = [(0, 0)] * len(arrays)
    together: list[int] = []
    end = -1
    for place in [*sorted(range(len(arrays)), key=addresses.__getitem__), None]:
        if place is None or addresses[place] >= end:
            for other in together:
                found[other] = min(together), addresses[other] - addresses[together[0]]
            together, end = [], -1
        if place is not None:
            together.append(place)
            end = max(end, addresses[place] + arrays[place].nbytes)
    return tuple(found)


class _Known(NamedTuple):
    """A bound program, without the arrays that it was bound to, and the places of its values that differ.

    Attributes:
        program: the program.
        arrays: places of values and of the arrays that they point to, (n, 2).
        numbers: places of values and of floats or seeds, by the type of their values.
    """

    program: NativeProgram
    arrays: np.ndarray
    numbers: dict[type, np.ndarray]


class ProgramForms:
    """The forms of the programs that have been bound so far."""

    def __init__(self) -> None:
        self._known: dict[Any, _Known] = {}
        self._lock = Lock()

    def program(self, form: ProgramForm) -> NativeProgram | None:
        """Return a program with this form and its arguments; None if none of this form has been kept."""
        try:
            known = self._known.get(form.key)
        except TypeError:  # an argument that cannot be hashed, which no kernel takes
            known = None
        if known is None:
            return None
        values = known.program.values.copy()
        values[known.arrays[:, 0]] = np.array(form.addresses, np.uint64)[known.arrays[:, 1]]
        for kind, places in known.numbers.items():
            if kind is float:
                values.view(np.float64)[places[:, 0]] = [form.numbers[place] for place in places[:, 1]]
            else:
                values[places[:, 0]] = [form.numbers[place] & (1 << 64) - 1 for place in places[:, 1]]
        program = known.program.again(values)
        program.owners = [form.arrays]
        return program

    def keep(self, form: ProgramForm, calls: Sequence[NativeCall], program: NativeProgram) -> None:
        """Keep the form of a program, which consists of these calls."""
        found: dict[type, list[tuple[int, int]]] = {np.ndarray: [], float: [], int: []}
        value = 0
        for call in program.order:
            for name in calls[call].names:
                for kind, places in found.items():
                    if (place := form.places.get((call, name, kind))) is not None:
                        places.append((value, place))
                value += 1
        arrays, *numbers = (np.array(places, int).reshape(-1, 2) for places in found.values())
        known = _Known(program.again(program.values), arrays, dict(zip((float, int), numbers, strict=True)))
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.pop(next(iter(self._known)))
            self._known[form.key] = known
