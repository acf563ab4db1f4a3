"""Cases of embeddings of categories and of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import COLUMN_SUMS, EXACT, LIBRARY, PRODUCTS, Case
from gradflow.testing.draw import Draw
from gradflow.testing.sensitivity import sensitivity

TABLES = ({"categories": 1}, {"categories": 3}, {"categories": 700})


def _leading_columns(draw: Draw, *, more: int) -> dict[str, Any]:
    x, y_columns = draw.reals(draw.rows, draw.columns), max(draw.columns + more, 1)
    return {"x": x, "y": draw.blank(draw.rows, y_columns), "count": min(draw.columns, y_columns) // 2}


def _embed_column(draw: Draw, *, categories: int, keeps: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    column = draw.columns // 2
    # Most are numbers of the table; the first values, which draw.reals has chosen, need not be.
    x[2:, column] = draw.random.integers(0, categories, max(draw.rows - 2, 0))
    return {
        "x": x,
        "table": draw.reals(categories, 5),
        "numbers": draw.blank(draw.rows, dtype=np.int32) if keeps else None,
        "y": draw.blank(draw.rows, 8),
        "column": column,
        "first": 2,
    }


def _embed_column_gradient(draw: Draw, *, categories: int) -> dict[str, Any]:
    size = max(draw.columns - 2, 1)
    return {
        "numbers": draw.random.integers(0, categories, draw.rows).astype(np.int32),
        "d_y": draw.reals(draw.rows, draw.columns, room=4 * draw.rows + 1),
        "d_table": draw.reals(categories, size, room=4),
        "first": draw.columns - size,
    }


def _copy_columns(draw: Draw, *, back: bool) -> dict[str, Any]:
    wide, narrow = {"first": 1, "step": 3}, {"first": 0, "step": 1}
    x, y = draw.reals(draw.rows, draw.columns + back * (2 * draw.columns + 1)), 3 * draw.columns + 1
    places = {"x": wide, "y": narrow} if back else {"x": narrow, "y": wide}
    return {
        "x": x,
        "y": draw.reals(draw.rows, draw.columns if back else y),
        "count": draw.columns,
        **{f"{array}_{name}": value for array, place in places.items() for name, value in place.items()},
    }


def _column_dense(draw: Draw, *, numbers: int, is_rectified: bool) -> dict[str, Any]:
    """Return the arrays of all three ops, with five outputs for each column, and room for three more columns."""
    room = 64 * draw.columns * draw.rows + 1

    def reals(*shape: int) -> Array:
        return draw.reals(*shape, room=room, power=2)

    return {
        "z": reals(draw.rows, numbers, draw.columns),
        "weight": reals(numbers, 5, draw.columns),
        "bias": reals(numbers, 5),
        "d_y": reals(draw.rows, 6 * numbers + 3),
        "y": draw.random.normal(size=(draw.rows, 6 * numbers + 3)).astype(draw.dtype) if is_rectified else None,
        "step": 6,
    }


def _column_dense_forward(draw: Draw, *, numbers: int, is_rectified: bool) -> dict[str, Any]:
    arguments = _column_dense(draw, numbers=numbers, is_rectified=is_rectified)
    y = draw.reals(draw.rows, 6 * numbers + 3)
    return {**_of(arguments, "z", "weight", "bias"), "y": y, "step": 6, "is_rectified": is_rectified}


def _column_dense_parameter_gradients(draw: Draw, *, numbers: int, is_rectified: bool) -> dict[str, Any]:
    arguments = _column_dense(draw, numbers=numbers, is_rectified=is_rectified)
    gradients = {"d_weight": draw.like(arguments["weight"]), "d_bias": draw.like(arguments["bias"])}
    return {**_of(arguments, "z", "d_y", "y"), **gradients, "step": 6}


def _column_dense_backward(draw: Draw, *, numbers: int, is_rectified: bool) -> dict[str, Any]:
    arguments = _column_dense(draw, numbers=numbers, is_rectified=is_rectified)
    return {**_of(arguments, "d_y", "y", "weight"), "d_z": draw.like(arguments["z"]), "step": 6}


def _periodic(draw: Draw, *, waves: int, sines: bool, has_phases: bool) -> dict[str, Any]:
    numbers = max(draw.columns - 1, 1)
    return {
        "x": draw.reals(draw.rows, draw.columns, room=64 * draw.rows * waves + 1),
        "frequencies": draw.random.normal(size=(numbers, waves)).astype(draw.dtype),
        "phases": draw.random.uniform(-3, 3, (numbers, waves)).astype(draw.dtype) if has_phases else None,
        "sines": sines,
        "turns_per_phase": 1.0 if sines else 0.15915494309189535,
    }


def _features(draw: Draw, arguments: dict[str, Any], waves: int, sines: bool) -> tuple[int, int, int]:
    """Return the shape of the features, with room for another one in each column."""
    return draw.rows, len(arguments["frequencies"]), 1 + (1 + sines) * waves


def _periodic_forward(draw: Draw, **variant: Any) -> dict[str, Any]:
    arguments = _periodic(draw, **variant)
    return arguments | {"z": draw.reals(*_features(draw, arguments, variant["waves"], variant["sines"]))}


def _d_periodic(draw: Draw, **variant: Any) -> dict[str, Any]:
    arguments = _periodic(draw, **variant)
    d_z = draw.random.normal(size=_features(draw, arguments, variant["waves"], variant["sines"]))
    return arguments | {"d_z": d_z.astype(draw.dtype)}


def _periodic_parameter_gradients(draw: Draw, **variant: Any) -> dict[str, Any]:
    arguments = _d_periodic(draw, **variant)
    shape = arguments["frequencies"].shape
    d_phases = draw.blank(*shape) if variant["has_phases"] else None
    return arguments | {"d_frequencies": draw.blank(*shape), "d_phases": d_phases}


def _periodic_backward(draw: Draw, **variant: Any) -> dict[str, Any]:
    arguments = _d_periodic(draw, **variant)
    return arguments | {"d_x": draw.random.normal(size=arguments["x"].shape).astype(draw.dtype)}


def _piecewise(draw: Draw) -> dict[str, Any]:
    """Return x with bins of unit size around 0, fewer of them in the last column, and numbers on edges."""
    numbers, bins = max(draw.columns - 1, 1), 5
    x = draw.reals(draw.rows, draw.columns, room=64, power=2)
    if draw.values == "ordinary":
        x.reshape(-1)[::7] = 0.5
    starts = np.sort(draw.random.normal(size=(numbers, bins))).astype(draw.dtype)
    starts[:, 2] = 0.5
    slopes = (1 / draw.random.uniform(0.5, 2, (numbers, bins))).astype(draw.dtype)
    slopes[-1, 3:] = 0
    return {"x": x, "starts": starts, "slopes": slopes}


def _piecewise_forward(draw: Draw) -> dict[str, Any]:
    arguments = _piecewise(draw)
    return arguments | {"z": draw.blank(draw.rows, *arguments["starts"].shape)}


def _piecewise_backward(draw: Draw) -> dict[str, Any]:
    arguments = _piecewise(draw)
    d_z, d_x = (
        draw.random.normal(size=(draw.rows, *arguments["starts"].shape)),
        draw.random.normal(size=(draw.rows, draw.columns)),
    )
    return arguments | {"d_z": d_z.astype(draw.dtype), "d_x": d_x.astype(draw.dtype)}


def _scale_columns(draw: Draw, *, has_shift: bool) -> dict[str, Any]:
    x, columns = draw.reals(draw.rows, draw.columns + 2, room=4, power=2), draw.columns
    return {
        "x": x,
        "scale": draw.reals(columns, room=4, power=2),
        "shift": draw.reals(columns, room=4) if has_shift else None,
        "y": draw.reals(draw.rows, columns + 1),
    }


def _scale_gradients(draw: Draw, *, has_shift: bool) -> dict[str, Any]:
    room = 4 * draw.rows + 1
    return {
        "x": draw.reals(draw.rows, draw.columns + 1, room=room, power=2),
        "d_y": draw.reals(draw.rows, draw.columns + 2, room=room, power=2),
        "d_scale": draw.blank(draw.columns),
        "d_shift": draw.blank(draw.columns) if has_shift else None,
    }


def _increasing_forward(draw: Draw, *, size: int) -> dict[str, Any]:
    x = draw.reals(draw.rows, size * draw.columns, room=2 * size)
    return {"x": x, "y": draw.like(x), "size": size}


def _increasing_backward(draw: Draw, *, size: int) -> dict[str, Any]:
    x, d_y = (draw.reals(draw.rows, size * draw.columns, room=2 * size) for _ in range(2))
    return {"x": x, "d_y": d_y, "d_x": draw.like(x), "size": size}


def _blend(draw: Draw) -> dict[str, Any]:
    x, f = (draw.reals(draw.rows, draw.columns, room=16, power=2) for _ in range(2))
    return {"x": x, "f": f, "alpha": draw.random.normal(size=draw.columns).astype(draw.dtype), "y": draw.like(x)}


def _blend_gradient(draw: Draw) -> dict[str, Any]:
    room = 16 * draw.rows + 1
    x, f, d_y = (draw.reals(draw.rows, draw.columns, room=room, power=2) for _ in range(3))
    return {"x": x, "f": f, "d_y": d_y, "d_alpha": draw.blank(draw.columns)}


def _of(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: arguments[name] for name in names}


BY_COLUMN = ({"numbers": 3, "is_rectified": False}, {"numbers": 2, "is_rectified": True})
GROUPS = ({"size": 1}, {"size": 3})
SHIFTS = ({"has_shift": False}, {"has_shift": True})
FEATURE_SUMS = "sums of a row's features in the dtype, in any order"
WAVES = (
    {"waves": 5, "sines": False, "has_phases": True},
    {"waves": 40, "sines": True, "has_phases": False},
    {"waves": 3, "sines": True, "has_phases": True},
)
NO_TURNS = {"extreme": "such numbers are farther apart than a period"}


CASES: dict[str, Case] = {
    "leading_columns": Case(_leading_columns, 0, EXACT, variants=({"more": 3}, {"more": -3})),
    "embed_column": Case(
        _embed_column,
        0,
        EXACT,
        variants=({"categories": 3, "keeps": False}, *({**table, "keeps": True} for table in TABLES)),
    ),
    "embed_column_gradient": Case(_embed_column_gradient, 0, "float64 sums in the order of the rows", variants=TABLES),
    "copy_columns": Case(_copy_columns, 0, EXACT, variants=({"back": False}, {"back": True})),
    "column_dense_forward": Case(_column_dense_forward, 8, FEATURE_SUMS, variants=BY_COLUMN, magnitude=sensitivity),
    "column_dense_parameter_gradients": Case(
        _column_dense_parameter_gradients, 32, COLUMN_SUMS, variants=BY_COLUMN, magnitude=sensitivity
    ),
    "column_dense_backward": Case(_column_dense_backward, 8, FEATURE_SUMS, variants=BY_COLUMN, magnitude=sensitivity),
    "periodic_forward": Case(_periodic_forward, 8, LIBRARY, variants=WAVES, magnitude=sensitivity, without=NO_TURNS),
    "periodic_parameter_gradients": Case(
        _periodic_parameter_gradients,
        32,
        f"{LIBRARY}; {COLUMN_SUMS}",
        variants=WAVES,
        magnitude=sensitivity,
        without=NO_TURNS,
    ),
    "periodic_backward": Case(
        _periodic_backward, 16, f"{LIBRARY}; {COLUMN_SUMS}", variants=WAVES, magnitude=sensitivity, without=NO_TURNS
    ),
    "piecewise_forward": Case(_piecewise_forward, 4, PRODUCTS, magnitude=sensitivity),
    "piecewise_backward": Case(_piecewise_backward, 16, COLUMN_SUMS, magnitude=sensitivity),
    "scale_columns": Case(_scale_columns, 2, PRODUCTS, variants=SHIFTS, magnitude=sensitivity),
    "scale_gradients": Case(_scale_gradients, 32, COLUMN_SUMS, variants=SHIFTS, magnitude=sensitivity),
    "increasing_forward": Case(_increasing_forward, 16, LIBRARY, variants=GROUPS, magnitude=sensitivity),
    "increasing_backward": Case(_increasing_backward, 16, LIBRARY, variants=GROUPS, magnitude=sensitivity),
    "blend": Case(_blend, 4, PRODUCTS, magnitude=sensitivity),
    "blend_gradient": Case(_blend_gradient, 32, COLUMN_SUMS, magnitude=sensitivity),
}
