"""The definition of a case, and reasons that several cases share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradflow.ops import Array, Op
from gradflow.testing.draw import VALUES


@dataclass(frozen=True)
class Case:
    """The test of one op.

    Attributes:
        make: returns the arguments by name, from a `Draw` and the settings of a variant.
        ulps: the allowed error of a result, in units in the last place of `magnitude`.
        why: the reason for this number.
        variants: the settings that `make` is called with in turn.
        magnitude: returns, from the op, its arguments before the call and the expected results after it, the number
            whose ulps count for each written array: `sensitivity` if terms cancel; without it, the result itself.
        without: the kinds of shapes and values that the op does not support, with the reason.
    """

    make: Callable[..., dict[str, Any]]
    ulps: float
    why: str
    variants: tuple[dict[str, Any], ...] = ({},)
    magnitude: Callable[[Op, Mapping[str, Any], Mapping[str, Any]], dict[str, Array]] | None = None
    without: dict[str, str] = field(default_factory=dict)


EXACT = "one rounding, or none"
PRODUCTS = "a few roundings in a row"
LIBRARY = "exp, expm1 and tanh of two libraries, up to 4 ulp each in NumPy's vectorized float32"
COLUMN_SUMS = "float64 sums in any order; a few roundings to the dtype"
LOSS_SUMS = "float32 sums of a row in NumPy, in pairs, against float64 sums in the kernel: about 1 ulp per 8 columns"
NO_ROWS = "a batch has at least one row: empty data are refused at the boundary"
NO_VALUES = dict.fromkeys(VALUES[1:], "its results do not come from real values")
