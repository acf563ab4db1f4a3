"""What a case is, and the reasons that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradflow.doctor.cases.draw import VALUES
from gradflow.ops import Array


@dataclass(frozen=True)
class Case:
    """How one op is tested.

    Attributes:
        make: the arguments by name, from a `Draw` and the settings of a variant.
        ulps: how far a result may be off, in units in the last place of `magnitude`.
        why: where these come from.
        variants: the settings that `make` is called with in turn.
        magnitude: from the arguments before the call and the expected results after it, for each written array what
            its ulps are counted of: the size of the terms where terms cancel. Left out: the result itself.
        without: the kinds of shapes and values that the op cannot take, with the reason.
        flushes: True where a result below the smallest normal number may come out as zero: exp(-x) is infinite there.
    """

    make: Callable[..., dict[str, Any]]
    ulps: float
    why: str
    variants: tuple[dict[str, Any], ...] = ({},)
    magnitude: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Array]] | None = None
    without: dict[str, str] = field(default_factory=dict)
    flushes: bool = False


EXACT = "one rounding, or none"
PRODUCTS = "a few roundings in a row"
LIBRARY = "exp, expm1 and tanh of two libraries, up to 4 ulp each in NumPy's vectorised float32"
COLUMN_SUMS = "float64 sums in any order; a few roundings to the dtype"
LOSS_SUMS = "float32 sums of a row in NumPy, in pairs, against float64 sums in the kernel: about 1 ulp per 8 columns"
NO_ROWS = "a batch has at least one row: empty data are refused at the boundary"
NO_VALUES = dict.fromkeys(VALUES[1:], "its results do not come from real values")
