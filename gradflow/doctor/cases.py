"""One case for each op: how its arguments are made, and how close every backend must come to the definition.

A new op needs one entry in `CASES`. The tests in this folder then run it on every backend with every kind of shape
and of values; `Case.without` leaves out a kind that the op cannot take, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradflow.ops import POSITION, STEP, Array
from gradflow.optimizers.base import OWN, penalised

SHAPES: dict[str, tuple[int, int]] = {
    "empty": (0, 5),
    "one": (1, 1),
    "odd": (7, 13),
    "misaligned": (7, 13),  # every array begins one element behind an aligned address
    "large": (1000, 67),
}
"""The kinds of shape, as rows and columns, of which every layer has at least one; a flat vector has the product."""

VALUES = ("ordinary", "nan", "inf", "denormal", "extreme")
"""The kinds of values of real arrays. "extreme" is from the smallest to the largest normal numbers."""

NEVER = np.iinfo(np.int64).max
SENTINEL = 777.0


class Draw:
    """Where a case takes its arrays from: one dtype, one kind of shape, one kind of values, one sequence of numbers.

    Attributes:
        rows, columns, n: the shape, and the number of elements of a flat vector.
    """

    def __init__(self, dtype: str, shape: str, values: str, seed: int = 0) -> None:
        self.dtype = np.dtype(dtype)
        self.values = values
        self.rows, self.columns = SHAPES[shape]
        self.n = self.rows * self.columns
        self.random = np.random.default_rng([seed, list(SHAPES).index(shape), VALUES.index(values)])

    def reals(self, *shape: int, room: float = 1, power: int = 1) -> Array:
        """Numbers of either sign of the kind asked for.

        Args:
            shape: the shape.
            room: the largest are this much below the largest number of the dtype: for ops that add so many of them.
            power: and this root of it is taken: for ops that multiply so many of them.
        """
        limits = np.finfo(self.dtype)
        ordinary = self.random.standard_normal(shape)
        if self.values == "denormal":
            return (ordinary * 1000 * float(limits.smallest_subnormal)).astype(self.dtype)
        if self.values == "extreme":
            low, high = (math.log(float(limit)) / power for limit in (limits.smallest_normal, limits.max))
            magnitudes = np.exp(self.random.uniform(low, high - math.log(room) - 1e-6, shape))
            return (np.sign(ordinary) * magnitudes).astype(self.dtype)
        array = ordinary.astype(self.dtype)
        chosen = self.random.random(shape) < 0.1
        chosen.reshape(-1)[:1] = True
        if self.values == "nan":
            array[chosen] = np.nan
        if self.values == "inf":
            array[chosen] = np.sign(array[chosen]) * np.inf
        return array

    def between(self, low: float, high: float, *shape: int) -> Array:
        """Numbers in [low, high], both ends among them; with NaN among them where that is the kind of values."""
        array = self.random.uniform(low, high, shape).astype(self.dtype)
        flat = array.reshape(-1)
        flat[:2] = [low, high][: flat.size]
        if self.values == "nan":
            flat[2::7] = np.nan
        return array

    def blank(self, *shape: int, dtype: Any = None) -> Array:
        """An array that is written, filled with a number that shows what was not."""
        return np.full(shape, SENTINEL, dtype or self.dtype)

    def like(self, array: Array) -> Array:
        """The same as `blank`, with the shape of another array."""
        return self.blank(*array.shape)


def clock(*, step: int = 5, epoch: int = 3, position: int = 0, first_bad_step: int = NEVER) -> Array:
    return np.array([step, epoch, position, first_bad_step], np.int64)


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
NORMAL = "two exponentials, up to 4 ulp each in NumPy's float32, and a polynomial whose terms are 6 times their sum"
NO_ROWS = "a batch has at least one row: empty data are refused at the boundary"

# -- activations ------------------------------------------------------------------------------------------------------


def _forward(draw: Draw, **settings: float) -> dict[str, Any]:
    x = 3 * draw.reals(draw.rows, draw.columns, room=4)
    if x.size > 4:
        x.reshape(-1)[1:4] = 0, -0.0, 1
    return {"x": x, "y": draw.like(x), **settings}


def _sigmoid(draw: Draw) -> dict[str, Any]:
    arguments = _forward(draw)
    if draw.values == "ordinary" and arguments["x"].size > 20:
        # Both sides of where exp(-x) overflows, and where the result leaves the normal numbers.
        arguments["x"].reshape(-1)[4:14] = [-1000, -750, -745, -709, -700, -104, -90, -88.5, -80, 1000]
    return arguments


def _backward(low: float, high: float) -> Callable[..., dict[str, Any]]:
    """Arguments for a derivative in terms of an output that lies between two bounds."""

    def make(draw: Draw, **settings: float) -> dict[str, Any]:
        y = draw.between(low, high, draw.rows, draw.columns)
        y.reshape(-1)[3::11] = max(low, 0)
        d_y = draw.reals(draw.rows, draw.columns, room=4)
        return {"y": y, "d_y": d_y, "d_x": draw.like(y), **settings}

    return make


def _smooth_forward(draw: Draw) -> dict[str, Any]:
    arguments = _forward(draw)
    if draw.values == "ordinary" and arguments["x"].size > 30:
        # Both sides of every limit: of exp(-|x|), of exp(-x² / 2), and of where x is held back before a product.
        edges = [40, 39, 38, 37, 15, 14.2, 13.2, 12.9, 5, 3, 0.01, 1e-5, 1.3, 0.75, 89, 104, 700, 709, 745, 999, 1001]
        arguments["x"].reshape(-1)[4:25] = -np.array(edges)
    return arguments


def _smooth_backward(draw: Draw) -> dict[str, Any]:
    x = _smooth_forward(draw)["x"]
    return {"x": x, "d_y": draw.reals(draw.rows, draw.columns, room=8), "d_x": draw.like(x)}


def _times_d_y(slope: Callable[[Array], Array]) -> Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Array]]:
    """Magnitudes of a derivative whose two terms cancel somewhere: from x, the sum of their sizes."""

    def magnitude(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
        z = np.clip(before["x"].astype(np.float64), -1e3, 1e3)
        return {"d_x": slope(z) * abs(before["d_y"].astype(np.float64))}

    return magnitude


def _logistic(v: Array) -> Array:
    return np.exp(-np.logaddexp(0, -v))


def _bell(z: Array) -> Array:
    return np.exp(-z * z / 2)


def _gelu_tanh_v(z: Array) -> Array:
    return math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)


def _of_tail(v: Callable[[Array], Array]) -> Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Array]]:
    """Magnitudes of a result that is proportional to exp(v(x)) where v is far below 0: it has v's rounding too."""

    def magnitude(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
        z = np.clip(before["x"].astype(np.float64), -1e3, 1e3)
        return {"y": abs(after["y"].astype(np.float64)) * (1 + np.maximum(-v(z), 0))}

    return magnitude


def _gelu_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    # In float64 the definition rounds x / √2, which erfc multiplies by x²; float32 is defined in float64.
    z = np.clip(before["x"].astype(np.float64), -1e3, 1e3)
    return {"y": abs(after["y"].astype(np.float64)) * (1 + z * z if before["x"].dtype == np.float64 else 1)}


def _gelu_slope(z: Array) -> Array:
    return (1 + z * z) * np.where(z < 0, (1 + abs(z)) * _bell(z), 1)


def _softmax_backward(draw: Draw) -> dict[str, Any]:
    exponentials = np.exp(draw.random.standard_normal((draw.rows, draw.columns)))
    y = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(draw.dtype)
    d_y = draw.reals(draw.rows, draw.columns, room=4)
    return {"y": y, "d_y": d_y, "d_x": draw.like(y)}


def _softmax_backward_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    y, d_y = (before[name].astype(np.float64) for name in ("y", "d_y"))
    return {"d_x": y * (abs(d_y) + (y * abs(d_y)).sum(axis=1, keepdims=True))}


# -- the dense layer, copies and sums ---------------------------------------------------------------------------------


def _gemm(draw: Draw, *, transpose_a: bool, transpose_b: bool) -> dict[str, Any]:
    rows, columns, inner = draw.rows, draw.columns, 9
    a = draw.reals(*((inner, rows) if transpose_a else (rows, inner)), room=4 * inner, power=2)
    b = draw.reals(*((columns, inner) if transpose_b else (inner, columns)), power=2)
    return {
        "a": a,
        "b": b,
        "out": draw.blank(rows, columns),
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
    }


def _gemm_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    a = before["a"].T if before["transpose_a"] else before["a"]
    b = before["b"].T if before["transpose_b"] else before["b"]
    return {"out": abs(a).astype(np.float64) @ abs(b).astype(np.float64)}


def _add_bias(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=4)
    return {"x": x, "bias": draw.reals(draw.columns, room=4), "y": draw.like(x)}


def _column_sum(draw: Draw) -> dict[str, Any]:
    return {"x": draw.reals(draw.rows, draw.columns, room=4 * draw.rows + 1), "sums": draw.blank(draw.columns)}


def _batch_norm_forward(draw: Draw, *, momentum: float, epsilon: float) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=16 * draw.rows + 1, power=2)
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "beta": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.blank(draw.columns),
        "variance": draw.blank(draw.columns),
        "running_mean": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "running_variance": draw.random.exponential(size=draw.columns).astype(draw.dtype),
        "y": draw.like(x),
        "momentum": momentum,
        "epsilon": epsilon,
    }


def _normalize_columns(draw: Draw, *, epsilon: float) -> dict[str, Any]:
    arguments = _batch_norm_forward(draw, momentum=0.5, epsilon=epsilon)
    given = {"mean": arguments["running_mean"], "variance": arguments["running_variance"]}
    names = ("x", "gamma", "beta", "mean", "variance", "y", "epsilon")
    return {name: given.get(name, arguments[name]) for name in names}


def _normalized_terms(arguments: Mapping[str, Any], mean: Array, variance: Array) -> Array:
    scale = abs(arguments["gamma"]) / np.sqrt(variance.astype(np.float64) + arguments["epsilon"])
    return scale * (abs(arguments["x"].astype(np.float64)) + abs(mean)) + abs(arguments["beta"])


def _batch_norm_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x, momentum = abs(before["x"].astype(np.float64)), before["momentum"]
    mean, square = x.mean(axis=0), np.square(x + x.mean(axis=0)).mean(axis=0)
    return {
        "mean": mean,
        "variance": square,
        "running_mean": (1 - momentum) * abs(before["running_mean"]) + momentum * mean,
        "running_variance": (1 - momentum) * before["running_variance"] + 2 * momentum * square,
        "y": _normalized_terms(before, mean, after["variance"]),
    }


def _batch_norm_backward(draw: Draw, *, is_fixed: bool, needs_d_x: bool = True) -> dict[str, Any]:
    room = 64 * draw.rows * draw.columns + 1
    x, d_y = (draw.reals(draw.rows, draw.columns, room=room, power=4) for _ in range(2))
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "variance": draw.random.exponential(size=draw.columns).astype(draw.dtype),
        "d_y": d_y,
        "d_gamma": draw.blank(draw.columns),
        "d_beta": draw.blank(draw.columns),
        "d_x": draw.like(x) if needs_d_x else None,
        "epsilon": 0.01,
        "share": 0.0 if is_fixed else 1 / max(draw.rows, 1),
    }


def _batch_norm_backward_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x, d_y = before["x"].astype(np.float64), abs(before["d_y"].astype(np.float64))
    inverse = 1 / np.sqrt(before["variance"].astype(np.float64) + before["epsilon"])
    normalized = abs(x - before["mean"]) * inverse
    d_gamma, d_beta = (d_y * normalized).sum(axis=0), d_y.sum(axis=0)
    d_x = abs(before["gamma"]) * inverse * (d_y + before["share"] * (d_beta + normalized * d_gamma))
    return {"d_gamma": d_gamma, "d_beta": d_beta, "d_x": d_x}


def _layer_norm_forward(draw: Draw, *, epsilon: float, keeps: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=16 * draw.columns + 1, power=2)
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "beta": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.blank(draw.rows) if keeps else None,
        "inverse_deviation": draw.blank(draw.rows) if keeps else None,
        "y": draw.like(x),
        "epsilon": epsilon,
    }


def _layer_norm_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x = before["x"].astype(np.float64)
    mean = abs(x).mean(axis=1)
    inverse = 1 / np.sqrt(x.var(axis=1) + before["epsilon"])
    # The rounding of the mean moves the variance where all of a row is nearly the same.
    wide = inverse * (1 + np.square(inverse) * np.square(abs(x) + mean[:, None]).mean(axis=1))
    y = abs(before["gamma"]) * (abs(x) + mean[:, None]) * inverse[:, None] + abs(before["beta"])
    return {"mean": mean, "inverse_deviation": wide, "y": y}


def _layer_norm_backward(draw: Draw) -> dict[str, Any]:
    room = 64 * draw.rows * draw.columns + 1
    x, d_y = (draw.reals(draw.rows, draw.columns, room=room, power=4) for _ in range(2))
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.random.normal(size=draw.rows).astype(draw.dtype),
        "inverse_deviation": draw.random.exponential(size=draw.rows).astype(draw.dtype),
        "d_y": d_y,
        "d_x": draw.like(x),
    }


def _layer_norm_parameter_gradients(draw: Draw) -> dict[str, Any]:
    arguments = _layer_norm_backward(draw)
    names = ("x", "mean", "inverse_deviation", "d_y")
    gradients = {"d_gamma": draw.blank(draw.columns), "d_beta": draw.blank(draw.columns)}
    return {name: arguments[name] for name in names} | gradients


def _layer_norm_backward_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    inverse = before["inverse_deviation"].astype(np.float64)[:, None]
    normalized = abs(before["x"].astype(np.float64) - before["mean"][:, None]) * inverse
    d_y = abs(before["d_y"].astype(np.float64))
    g = abs(before.get("gamma", 1)) * d_y
    means = g.mean(axis=1, keepdims=True), (g * normalized).mean(axis=1, keepdims=True)
    return {
        "d_gamma": (d_y * normalized).sum(axis=0),
        "d_beta": d_y.sum(axis=0),
        "d_x": inverse * (g + means[0] + normalized * means[1]),
    }


def _add(draw: Draw) -> dict[str, Any]:
    x, y = (draw.reals(draw.rows, draw.columns, room=4) for _ in range(2))
    return {"x": x, "y": y, "out": draw.like(x)}


def _copy(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    return {"x": x, "y": draw.like(x)}


def _chunks(draw: Draw, chunk: int) -> Array:
    return draw.blank(-(-draw.n // chunk), dtype=np.float64)


def _chunk_sums(draw: Draw, *, chunk: int) -> dict[str, Any]:
    return {"x": draw.reals(draw.n, room=4 * draw.n + 1), "partials": _chunks(draw, chunk), "chunk": chunk}


def _chunk_sums_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"partials": _by_chunk(abs(before["x"].astype(np.float64)), before)}


def _by_chunk(terms: Array, arguments: Mapping[str, Any]) -> Array:
    return np.add.reduceat(terms, np.arange(0, terms.size, arguments["chunk"]))


def _total(draw: Draw) -> dict[str, Any]:
    partials = draw.reals(draw.n, room=4 * draw.n + 1).astype(np.float64)
    return {"partials": partials, "result": draw.blank(1, dtype=np.float64)}


# -- losses -----------------------------------------------------------------------------------------------------------

# Behind the batch stand rows of the epoch that belong to other batches.
LOSS_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"is_weighted": True, "position": 4},
    {"is_weighted": True, "first_bad_step": 2},
)


def _varied(name: str, *values: Any) -> tuple[dict[str, Any], ...]:
    """The variants of a loss, each with a value of a setting of its own."""
    return tuple({name: value, **variant} for value, variant in zip(values, LOSS_VARIANTS, strict=True))


def _of_epoch(
    draw: Draw, *, is_weighted: bool = False, position: int = 0, first_bad_step: int = NEVER
) -> dict[str, Array | None]:
    """What all losses take besides outputs and targets."""
    weight = draw.random.uniform(0, 2, draw.rows).astype(draw.dtype) if is_weighted else None
    if weight is not None:
        weight[1::5] = 0
    return {
        "row_weight": weight,
        "row_losses": draw.blank(draw.rows + position + 3),
        "row_hits": draw.blank(draw.rows + position + 3),
        "clock": clock(position=position, first_bad_step=first_bad_step),
    }


def _squared_error(draw: Draw, *, factor: float, **settings: Any) -> dict[str, Any]:
    rows, columns = draw.rows, draw.columns
    room = 64 * (1 + factor) * max(columns, 1)
    of_epoch = _of_epoch(draw, **settings)
    del of_epoch["row_hits"]
    outputs = draw.reals(rows, columns, room=room, power=2)
    targets = draw.random.standard_normal((rows, columns)).astype(draw.dtype)
    if draw.values in ("denormal", "extreme"):
        targets = draw.reals(rows, columns, room=room, power=2)
    return {"outputs": outputs, "targets": targets, "d_outputs": draw.like(outputs), **of_epoch, "factor": factor}


def _regression(draw: Draw, *, targets: int = 1, room: float = 8, **settings: Any) -> dict[str, Any]:
    """Outputs and targets, some of them equal; ``targets`` is how many outputs share one."""
    setting: dict[str, Any] = {name: settings.pop(name) for name in ("delta", "quantiles") if name in settings}
    of_epoch = _of_epoch(draw, **settings)
    del of_epoch["row_hits"]
    outputs = draw.reals(draw.rows, draw.columns * targets, room=room * max(draw.columns, 1) * targets)
    t = draw.random.standard_normal((draw.rows, draw.columns)).astype(draw.dtype)
    if draw.values in ("denormal", "extreme"):
        t = draw.reals(draw.rows, draw.columns, room=room * max(draw.columns, 1) * targets)
    if t.size > 20:
        outputs[3:5] = np.repeat(t[3:5], targets, axis=1)
    return {"outputs": outputs, "targets": t, "d_outputs": draw.like(outputs), **of_epoch, **setting}


def _quantile(draw: Draw, *, quantiles: tuple[float, ...], **settings: Any) -> dict[str, Any]:
    levels = np.array(quantiles, draw.dtype)
    return _regression(draw, targets=len(levels), room=64, quantiles=levels, **settings)


def _poisson(draw: Draw, **settings: Any) -> dict[str, Any]:
    arguments = _regression(draw, room=64, **settings)
    arguments["targets"] = np.sqrt(abs(arguments["targets"]))
    arguments["outputs"] = np.sign(arguments["outputs"]) * np.sqrt(abs(arguments["outputs"]))
    return arguments


def _poisson_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    y, t, weight = before["outputs"].astype(np.float64), before["targets"].astype(np.float64), _weights(before)
    rate = np.exp(y)
    return {
        "row_losses": _at_rows(before, after, weight * (rate + abs(t * y)).mean(axis=1)),
        "d_outputs": weight[:, None] * (rate + t) / max(y.size, 1),
    }


def _focal(make: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def with_gamma(draw: Draw, *, gamma: float, **settings: Any) -> dict[str, Any]:
        return {**make(draw, **settings), "gamma": gamma}

    return with_gamma


def _softmax_focal_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z, t, weight, gamma = before["logits"].astype(np.float64), before["targets"], _weights(before), before["gamma"]
    shifted = z - z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    log_p = shifted - log_sum
    # log p is a difference, and rounded at the size of its terms; 1 - p and its powers feel that the most near 0.
    rounding = np.where(np.isinf(shifted), 0, 1 + abs(shifted) + log_sum)
    rest, p = -np.expm1(log_p), np.exp(log_p)
    near = np.maximum(rest, np.finfo(before["logits"].dtype).eps)
    focus = t * near**gamma * (1 + gamma / near)
    losses = np.where(t == 0, 0, focus * rounding * (1 + np.where(np.isinf(log_p), 0, abs(log_p)))).sum(axis=1)
    slopes = focus * rounding * (1 + gamma)
    d_logits = slopes + p * rounding * slopes.sum(axis=1, keepdims=True)
    return {
        "row_losses": _at_rows(before, after, weight * losses),
        "d_logits": weight[:, None] * d_logits / max(len(z), 1),
    }


def _binary_focal_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z, t, weight = before["logits"].astype(np.float64), before["targets"].astype(np.float64), _weights(before)
    gamma = before["gamma"]
    u, v = np.logaddexp(0, -z), np.logaddexp(0, z)
    # The definition's exp(-u) and exp(-v) multiply the rounding of u and v by their size, and powers by gamma.
    of_one, of_zero = t * np.exp(-gamma * v) * (1 + gamma * v), (1 - t) * np.exp(-gamma * u) * (1 + gamma * u)
    p, q = np.exp(-u) * (1 + u), np.exp(-v) * (1 + v)
    with np.errstate(invalid="ignore"):
        losses = weight * (of_one * u + of_zero * v).mean(axis=1)
        d_logits = of_zero * (gamma * q * v + p) + of_one * (gamma * p * u + q)
    return {
        "row_losses": _at_rows(before, after, losses),
        "d_logits": weight[:, None] * d_logits / max(z.size, 1),
    }


def _label_probabilities(draw: Draw, *, smoothing: float) -> dict[str, Any]:
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    return {"labels": labels, "probabilities": draw.blank(draw.rows, draw.columns), "smoothing": smoothing}


def _binary_cross_entropy(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = 4 * draw.reals(draw.rows, draw.columns, room=64 * max(draw.columns, 1))
    targets = draw.random.uniform(0, 1, logits.shape).astype(draw.dtype)
    targets.reshape(-1)[0::3] = 0
    targets.reshape(-1)[1::3] = 1
    targets.reshape(-1)[5::9] = 0.5
    if draw.values == "ordinary" and logits.size > 20:
        logits.reshape(-1)[4:10] = 0, 30, -30, 100, -100, -1000
    return {"logits": logits, "targets": targets, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def _weights(before: Mapping[str, Any]) -> Array:
    weight = before["row_weight"]
    return np.ones(len(before["targets"])) if weight is None else weight.astype(np.float64)


def _at_rows(before: Mapping[str, Any], after: Mapping[str, Any], of_rows: Array) -> Array:
    """Magnitudes of the rows of a batch as magnitudes of the whole epoch's array."""
    position = int(before["clock"][POSITION])
    magnitude = abs(after["row_losses"].astype(np.float64))
    magnitude[position : position + len(of_rows)] = of_rows
    return magnitude


def _binary_cross_entropy_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z, t, weight = before["logits"].astype(np.float64), before["targets"].astype(np.float64), _weights(before)
    log_probability = np.logaddexp(0, -z)
    of_rows = weight * (np.maximum(z, 0) + abs(t * z) + np.logaddexp(0, -abs(z))).mean(axis=1)
    d_logits = weight[:, None] * (np.exp(-log_probability) * (1 + log_probability) + t) / max(z.size, 1)
    return {"row_losses": _at_rows(before, after, of_rows), "d_logits": d_logits}


def _logits(draw: Draw) -> Array:
    logits = 4 * draw.reals(draw.rows, draw.columns, room=64)
    if draw.rows > 4 and draw.columns > 3:
        logits[1, 1] = logits[1, 3] = logits[1].max() + 1  # a tie at the top: the first one counts
        logits[2] = 0
    if draw.values == "inf" and draw.rows > 5 and draw.columns > 4:
        logits[5] = np.arange(draw.columns)
        logits[5, 4] = -np.inf  # where probabilities have a 0: 0 log 0 is 0
    return logits


def _softmax_labels(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = _logits(draw)
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    labels[:3] = [0, draw.columns - 1, draw.columns - 1][: draw.rows]
    if draw.rows > 5:
        labels[1], labels[3:5] = 1, np.nan_to_num(logits[3:5]).argmax(axis=1)
    return {"logits": logits, "targets": labels, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def _softmax_probabilities(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = _logits(draw)
    targets = draw.random.exponential(size=logits.shape)
    targets[:, ::4] = 0
    targets[::3] = np.eye(max(draw.columns, 1))[draw.random.integers(0, max(draw.columns, 1), len(targets[::3]))]
    if draw.rows > 5 and draw.columns > 3:
        targets[1], targets[1, 1:4:2] = 0, 1  # a tie here too
        targets[4, np.nan_to_num(logits[4]).argmax()] += targets[4].sum() + 1
    with np.errstate(invalid="ignore"):  # a single column may hold nothing but zeros
        targets = np.nan_to_num(targets / targets.sum(axis=1, keepdims=True), nan=1).astype(draw.dtype)
    return {"logits": logits, "targets": targets, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def _softmax_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z, t, weight = before["logits"].astype(np.float64), before["targets"], _weights(before)
    if t.ndim == 1:
        t = np.eye(z.shape[1])[t]
    shifted = z - z.max(axis=1, keepdims=True)
    sums = np.exp(shifted).sum(axis=1, keepdims=True)
    log_probability = shifted - np.log(sums)
    of_rows = weight * (1 + np.log(sums[:, 0]) + np.where(t == 0, 0, abs(t * shifted)).sum(axis=1))
    probability = np.exp(log_probability) * np.where(np.isinf(log_probability), 0, 1 + abs(log_probability))
    return {
        "row_losses": _at_rows(before, after, of_rows),
        "d_logits": weight[:, None] * (probability + t) / max(len(z), 1),
    }


# -- optimizers -------------------------------------------------------------------------------------------------------

_DECAYED = ({"decayed": 0.0}, {"decayed": 0.3, "step": 10}, {"decayed": 1.0, "step": 10**6})
OPTIMIZER_VARIANTS = (
    *_DECAYED,
    {"decayed": 0.3, "first_bad_step": 5},
    {"decayed": 0.3, "first_bad_step": 4},
    {"decayed": 0.3, "clip_value": 0.4},
)


def _optimizer(*state: str, hyper: tuple[float, ...] = ()) -> Callable[..., dict[str, Any]]:
    def make(
        draw: Draw, *, decayed: float, step: int = 5, first_bad_step: int = NEVER, clip_value: float = math.inf
    ) -> dict[str, Any]:
        vectors = {name: draw.reals(draw.n, room=64, power=2) for name in ("parameters", "gradients", *state)}
        for name in ("second_moment", "square_sum"):
            if name in state:
                vectors[name] = np.square(vectors[name])
        vectors["parameters"][5::9] = 0
        return {
            **vectors,
            "hyper": np.array([0.03, 0.2, 0.1, clip_value, *hyper]),
            "gradient_scale": np.full(1, 0.7, draw.dtype),
            "clock": clock(step=step, first_bad_step=first_bad_step),
            "n_decayed": round(decayed * draw.n),
        }

    return make


def _penalised_terms(before: Mapping[str, Any], scale: float | None = None) -> Array:
    w, g = abs(before["parameters"].astype(np.float64)), abs(before["gradients"].astype(np.float64))
    is_decayed = np.arange(w.size) < before["n_decayed"]
    return (float(before["gradient_scale"][0]) if scale is None else scale) * (
        g + np.where(is_decayed, float(before["hyper"][1]) * w + float(before["hyper"][2]), 0)
    )


def _signed_gradient(before: Mapping[str, Any]) -> Array:
    """The gradient that a rule sees, in float64."""
    parameters, gradients = (before[name].astype(np.float64) for name in ("parameters", "gradients"))
    return penalised(parameters, gradients, before["hyper"], before["gradient_scale"], before["n_decayed"])


def _gradient_descent_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"parameters": abs(before["parameters"]) + float(before["hyper"][0]) * _penalised_terms(before)}


def _momentum_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    rate, kept, g = float(before["hyper"][0]), float(before["hyper"][OWN]), _penalised_terms(before)
    velocity = kept * abs(before["velocity"]) + g
    return {"velocity": velocity, "parameters": abs(before["parameters"]) + rate * (g + velocity)}


def _adam_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    rate, (beta1, beta2, epsilon) = before["hyper"][0], before["hyper"][OWN : OWN + 3]
    g, step = _penalised_terms(before), int(before["clock"][STEP])
    first = beta1 * abs(before["first_moment"]) + (1 - beta1) * g
    second = beta2 * before["second_moment"].astype(np.float64) + (1 - beta2) * g * g
    root = np.sqrt(after["second_moment"].astype(np.float64)) / np.sqrt(1 - beta2**step)
    change = rate * first / (1 - beta1**step) / (root + epsilon)
    sharpness = np.nan_to_num(second / after["second_moment"].astype(np.float64), nan=1)
    return {
        "first_moment": first,
        "second_moment": second,
        "parameters": abs(before["parameters"]) + change * sharpness,
    }


def _rmsprop_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    beta, epsilon = before["hyper"][OWN : OWN + 2]
    g, v = _penalised_terms(before), after["second_moment"].astype(np.float64)
    second = beta * before["second_moment"].astype(np.float64) + (1 - beta) * g * g
    return {"second_moment": second, "parameters": _root_mean_square_terms(before, g, second, v, epsilon)}


def _adagrad_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    g, s = _penalised_terms(before), after["square_sum"].astype(np.float64)
    total = before["square_sum"].astype(np.float64) + g * g
    return {"square_sum": total, "parameters": _root_mean_square_terms(before, g, total, s, before["hyper"][OWN])}


def _root_mean_square_terms(before: Mapping[str, Any], g: Array, terms: Array, sums: Array, epsilon: float) -> Array:
    """Of w - rate g / (√s + ε): the quotient has the roundings of g, and those of s as far as its terms cancel."""
    change = float(before["hyper"][0]) * g / (np.sqrt(sums) + epsilon)
    return abs(before["parameters"]) + change * np.nan_to_num(terms / sums, nan=1)


def _lion_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    beta1, beta2, decay = before["hyper"][OWN : OWN + 3]
    w, m, g = abs(before["parameters"].astype(np.float64)), before["first_moment"], _penalised_terms(before)
    # Where the terms of the direction cancel to within their roundings, its sign is either.
    direction, terms = np.zeros_like(g), beta1 * abs(m) + (1 - beta1) * g
    eps = np.finfo(before["parameters"].dtype).eps
    exact = beta1 * m.astype(np.float64) + (1 - beta1) * _signed_gradient(before)
    direction[abs(exact) <= 8 * eps * terms] = 2 / eps
    rate = float(before["hyper"][0])
    return {
        "first_moment": beta2 * abs(m) + (1 - beta2) * g,
        "parameters": w + rate * (1 + decay * w) + rate * direction,
    }


def _adam(decay: float | None = None) -> Callable[..., dict[str, Any]]:
    beta1, beta2 = 0.8, 0.95
    hyper = (beta1, beta2, 1e-3, math.log(beta1), math.log(beta2))
    return _optimizer("first_moment", "second_moment", hyper=hyper if decay is None else (*hyper, decay))


def _chunk_squares(draw: Draw, *, chunk: int, decayed: float) -> dict[str, Any]:
    arguments = _optimizer()(draw, decayed=decayed)
    names = ("parameters", "gradients", "hyper", "n_decayed")
    return {**{name: arguments[name] for name in names}, "partials": _chunks(draw, chunk), "chunk": chunk}


def _chunk_squares_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    # The penalised gradient is rounded to its dtype before it is squared in float64.
    eps_ratio = float(np.finfo(before["gradients"].dtype).eps / np.finfo(np.float64).eps)
    return {"partials": eps_ratio * _by_chunk(_penalised_terms(before, 1.0) ** 2, before)}


def _clip_scale(draw: Draw, *, share: float) -> dict[str, Any]:
    n = min(draw.n, 4096)  # there are no more chunks
    partials = abs(draw.reals(n, room=4 * n + 1)).astype(np.float64)
    norm = math.sqrt(partials[np.isfinite(partials)].sum())
    return {"partials": partials, "gradient_scale": draw.blank(1), "clip_norm": share * norm + 1e-300}


def _scaling(draw: Draw, *, scale: float = 4096, good_steps: float = 7, overflowed: float = 0) -> Array:
    return np.array([scale, good_steps, overflowed], draw.dtype)


def _scaled_copy(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=8192)
    return {"x": x, "scaling": _scaling(draw), "y": draw.like(x)}


def _unscale(draw: Draw, **settings: int) -> dict[str, Any]:
    return {"gradients": draw.reals(draw.n), "scaling": _scaling(draw, **settings)}


def _adapt_scaling(draw: Draw, *, first_bad_step: int = NEVER, **settings: float) -> dict[str, Any]:
    return {
        "scaling": _scaling(draw, **settings),
        "clock": clock(position=3, first_bad_step=first_bad_step),
        "update_clock": clock(step=2, epoch=0, position=0, first_bad_step=0),
        "growth_steps": 9,
        "most_scale": 65536.0,
    }


def _accumulate(draw: Draw, *, share: float, kept: int) -> dict[str, Any]:
    gradients, total = draw.reals(draw.n, room=4), draw.reals(draw.n, room=4)
    return {"gradients": gradients, "total": total, "out": draw.like(total), "share": share, "kept": kept}


def _accumulate_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"out": before["share"] * abs(before["gradients"]) + before["kept"] * abs(before["total"])}


def _average_weights(draw: Draw, *, step: int, first_bad_step: int = NEVER) -> dict[str, Any]:
    return {
        "parameters": draw.reals(draw.n, room=4),
        "average": draw.reals(draw.n, room=4),
        "clock": clock(step=step, first_bad_step=first_bad_step),
        "decay": 0.9,
    }


def _average_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"average": abs(before["parameters"]) + abs(before["average"])}


# -- random numbers and batches ---------------------------------------------------------------------------------------

SEED = 0x9E3779B97F4A7C15


def _dropout(draw: Draw, *, position: int, epoch: int, rate: float) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=8)
    return {
        "x": x,
        "y": draw.like(x),
        "clock": clock(position=position, epoch=epoch),
        "threshold": round(rate * 2**32),
        "scale": 1 / (1 - rate),
        "seed": SEED,
        "stream": 0x02000003,
    }


def _uniform(draw: Draw) -> dict[str, Any]:
    return {"out": draw.blank(draw.rows, draw.columns), "low": -1.5, "high": 2.25, "seed": SEED, "stream": 0x01000002}


def _gather(draw: Draw, *, labels: bool, position: int, is_weighted: bool, **settings: int) -> dict[str, Any]:
    data_rows = draw.rows + 5
    x = draw.reals(data_rows, draw.columns)
    targets = np.arange(data_rows, dtype=np.int32) if labels else draw.reals(data_rows, 3)
    return {
        "x": x,
        "targets": targets,
        "row_weight": draw.reals(data_rows) if is_weighted else None,
        "batch_x": draw.blank(draw.rows, draw.columns),
        "batch_targets": draw.blank(draw.rows, *targets.shape[1:], dtype=targets.dtype),
        "batch_row_weight": draw.blank(draw.rows) if is_weighted else None,
        "clock": clock(position=position),
        **settings,
    }


def _weigh_hits(draw: Draw, *, position: int) -> dict[str, Any]:
    hits = draw.blank(draw.rows + position + 3)
    hits[position : position + draw.rows] = draw.reals(draw.rows, room=4, power=2)
    return {"row_weight": draw.reals(draw.rows, power=2), "row_hits": hits, "clock": clock(position=position)}


def _rescale(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=4, power=2)
    mean, deviation = draw.reals(draw.columns, room=4), draw.reals(draw.columns, power=2)
    return {"x": x, "mean": mean, "deviation": deviation, "y": draw.like(x)}


def _sums(draw: Draw, *shape: int) -> Array:
    """What is added to: float64, never NaN."""
    return draw.random.standard_normal(shape)


def _weight(draw: Draw, is_weighted: bool) -> Array | None:
    return draw.random.uniform(0, 2, draw.rows).astype(draw.dtype) if is_weighted else None


def _class_counts(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    classes = max(draw.columns, 1)
    predicted, actual = draw.random.integers(0, classes, (2, draw.rows)).astype(np.int32)
    predicted[::2] = actual[::2]
    return {
        "predicted": predicted,
        "actual": actual,
        "row_weight": _weight(draw, is_weighted),
        "counts": _sums(draw, 4, classes),
    }


def _label_counts(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    return {
        "logits": draw.reals(draw.rows, draw.columns),
        "targets": draw.random.integers(0, 3, (draw.rows, draw.columns)).astype(draw.dtype) / 2,
        "row_weight": _weight(draw, is_weighted),
        "counts": _sums(draw, 4, draw.columns),
    }


def _error_sums(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    return {
        "outputs": draw.reals(draw.rows, draw.columns, room=1024 * (draw.rows + 1), power=2),
        "targets": draw.reals(draw.rows, draw.columns, room=1024 * (draw.rows + 1), power=2),
        "row_weight": _weight(draw, is_weighted),
        "sums": _sums(draw, 5, draw.columns),
    }


def _error_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    y, t = (abs(before[name].astype(np.float64)) for name in ("outputs", "targets"))
    terms = ((y + t) ** 2, y + t, t, t * t, np.ones_like(t))
    return {"sums": abs(before["sums"]) + 2 * np.stack([term.sum(axis=0) for term in terms])}


def _row_values(draw: Draw) -> Array:
    return draw.blank(draw.rows, dtype=np.float64)


def _labelled(draw: Draw, **settings: int) -> dict[str, Any]:
    logits = _logits(draw)
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    labels[1:3] = [min(3, draw.columns - 1), 0][: len(labels[1:3])]
    return {"logits": logits, "labels": labels, "values": _row_values(draw), **settings}


def _in_dtype(before: Mapping[str, Any], magnitude: Array) -> Array:
    """Magnitudes of float64 results that were rounded in the dtype of the logits."""
    eps = np.finfo(np.float64).eps
    return magnitude * float(np.finfo(before["logits"].dtype).eps / eps)


def _label_log_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z = before["logits"].astype(np.float64)
    spread = np.nan_to_num(z.max(axis=1) - z[np.arange(len(z)), before["labels"]])
    return {"values": _in_dtype(before, 1 + math.log(z.shape[1] + 1) + spread)}


def _binary_log_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    z, t = before["logits"].astype(np.float64), before["targets"].astype(np.float64)
    return {"values": _in_dtype(before, (1 + np.maximum(z, 0) + abs(t * z)).mean(axis=1))}


def _binary_log_losses(draw: Draw) -> dict[str, Any]:
    arguments = _binary_cross_entropy(draw)
    return {"logits": arguments["logits"], "targets": arguments["targets"], "values": _row_values(draw)}


def _weighted_total(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    values = draw.reals(draw.rows, room=4 * draw.rows + 4).astype(np.float64)
    return {"values": values, "row_weight": _weight(draw, is_weighted), "sums": _sums(draw, 2)}


def _weighted_total_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    terms = np.array([abs(before["values"]).sum(), len(before["values"])])
    return {"sums": abs(before["sums"]) + 2 * terms}


def _keep_rows(draw: Draw, *, position: int, labels: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    if labels:
        x = np.arange(draw.rows, dtype=np.int32)
    kept = draw.blank(draw.rows + position + 3, *x.shape[1:], dtype=x.dtype)
    return {"x": x, "kept": kept, "clock": clock(position=position)}


def _largest_column(draw: Draw) -> dict[str, Any]:
    return {"x": _logits(draw), "labels": np.full(draw.rows, -1, np.int32)}


def _advance_scheduled(draw: Draw, *, batch_size: int, position: int) -> dict[str, Any]:
    return {
        "clock": clock(step=2**40 + 6, position=position),
        "rates": np.geomspace(1e-5, 1, 7),
        "hyper": np.array([0.5, 0.1, 0.9]),
        "batch_size": batch_size,
        "epoch_rows": 100,
    }


def _advance(draw: Draw, *, batch_size: int, position: int) -> dict[str, Any]:
    return {"clock": clock(step=2**40, position=position), "batch_size": batch_size, "epoch_rows": 100}


ADVANCES = (
    {"batch_size": 32, "position": 0},
    {"batch_size": 4, "position": 32},
    {"batch_size": 4, "position": 96},
    {"batch_size": 32, "position": 96},
)
GATHERS = (
    {"labels": True, "position": 0, "is_weighted": False},
    {"labels": False, "position": 5, "is_weighted": True},
)
COLUMN_SUMS = "float64 sums in any order; a few roundings to the dtype"
CHUNKS = ({"chunk": 1024}, {"chunk": 16})
WEIGHTED = ({"is_weighted": False}, {"is_weighted": True})
NO_VALUES = dict.fromkeys(VALUES[1:], "its results do not come from real values")
NO_SHAPES = {kind: "the clock has one shape" for kind in SHAPES if kind not in ("one", "misaligned")}
LOSS_SUMS = "float32 sums of a row in NumPy, in pairs, against float64 sums in the kernel: about 1 ulp per 8 columns"

CASES: dict[str, Case] = {
    "copy": Case(_copy, 0, EXACT),
    "relu_forward": Case(_forward, 0, EXACT),
    "relu_backward": Case(_backward(-2, 2), 0, EXACT),
    "leaky_relu_forward": Case(_forward, 0, EXACT, variants=({"slope": 0.3}, {"slope": 0.0})),
    "leaky_relu_backward": Case(_backward(-2, 2), 0, EXACT, variants=({"slope": 0.3}, {"slope": 0.0})),
    "elu_forward": Case(_forward, 6, LIBRARY, variants=({"alpha": 1.7}, {"alpha": 0.25})),
    "elu_backward": Case(_backward(-0.25, 3), 2, PRODUCTS, variants=({"alpha": 0.25}, {"alpha": 1.7})),
    "selu_forward": Case(_forward, 6, LIBRARY),
    "selu_backward": Case(_backward(-1.758, 3), 2, PRODUCTS),
    "gelu_forward": Case(_smooth_forward, 11, NORMAL, magnitude=_gelu_terms, flushes=True),
    "gelu_backward": Case(_smooth_backward, 11, NORMAL, magnitude=_times_d_y(_gelu_slope), flushes=True),
    "gelu_tanh_forward": Case(_smooth_forward, 8, LIBRARY, magnitude=_of_tail(_gelu_tanh_v), flushes=True),
    "gelu_tanh_backward": Case(
        _smooth_backward,
        8,
        LIBRARY,
        magnitude=_times_d_y(lambda z: (1 + abs(_gelu_tanh_v(z))) ** 2 * _logistic(_gelu_tanh_v(z))),
        flushes=True,
    ),
    "silu_forward": Case(_smooth_forward, 8, LIBRARY, flushes=True),
    "silu_backward": Case(
        _smooth_backward, 8, LIBRARY, magnitude=_times_d_y(lambda z: (1 + abs(z)) * _logistic(z)), flushes=True
    ),
    "softplus_forward": Case(_smooth_forward, 8, LIBRARY),
    "softplus_backward": Case(_backward(0, 30), 8, LIBRARY),
    "mish_forward": Case(_smooth_forward, 12, LIBRARY, flushes=True),
    "mish_backward": Case(
        _smooth_backward, 12, LIBRARY, magnitude=_times_d_y(lambda z: (1 + abs(z)) * _logistic(z)), flushes=True
    ),
    "sigmoid_forward": Case(_sigmoid, 8, LIBRARY, flushes=True),
    "sigmoid_backward": Case(_backward(0, 1), 2, PRODUCTS),
    "tanh_forward": Case(_forward, 6, LIBRARY),
    "tanh_backward": Case(_backward(-1, 1), 2, PRODUCTS),
    "softmax_forward": Case(_forward, 16, f"{LIBRARY}; {LOSS_SUMS}"),
    "softmax_backward": Case(_softmax_backward, 12, LOSS_SUMS, magnitude=_softmax_backward_terms),
    "gemm": Case(
        _gemm,
        9,
        "sums of 9 products, in any order",
        variants=tuple({"transpose_a": a, "transpose_b": b} for a in (False, True) for b in (False, True)),
        magnitude=_gemm_terms,
        without={"empty": NO_ROWS},
    ),
    "add_bias": Case(_add_bias, 0, EXACT),
    "normalize_columns": Case(
        _normalize_columns,
        6,
        PRODUCTS,
        variants=({"epsilon": 1e-5}, {"epsilon": 0.1}),
        magnitude=lambda before, after: {"y": _normalized_terms(before, before["mean"], before["variance"])},
    ),
    "batch_norm_forward": Case(
        _batch_norm_forward,
        32,
        COLUMN_SUMS,
        variants=({"momentum": 0.1, "epsilon": 1e-5}, {"momentum": 1.0, "epsilon": 0.1}),
        magnitude=_batch_norm_terms,
        without={"empty": NO_ROWS, "one": "one row has no variance: the layer takes its running statistics"},
    ),
    "batch_norm_backward": Case(
        _batch_norm_backward,
        32,
        COLUMN_SUMS,
        variants=({"is_fixed": False, "needs_d_x": False}, {"is_fixed": False}, {"is_fixed": True}),
        magnitude=_batch_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_forward": Case(
        _layer_norm_forward,
        16,
        COLUMN_SUMS,
        variants=({"epsilon": 1e-5, "keeps": False}, {"epsilon": 0.1, "keeps": True}),
        magnitude=_layer_norm_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_parameter_gradients": Case(
        _layer_norm_parameter_gradients,
        32,
        COLUMN_SUMS,
        magnitude=_layer_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_backward": Case(
        _layer_norm_backward,
        16,
        COLUMN_SUMS,
        magnitude=_layer_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "add": Case(_add, 0, EXACT),
    "column_sum": Case(
        _column_sum,
        32,
        COLUMN_SUMS,
        magnitude=lambda before, after: {"sums": abs(before["x"].astype(np.float64)).sum(axis=0)},
    ),
    "chunk_sums": Case(_chunk_sums, 32, "float64 sums in any order", variants=CHUNKS, magnitude=_chunk_sums_terms),
    "total": Case(
        _total,
        32,
        "float64 sums in any order",
        magnitude=lambda before, after: {"result": abs(before["partials"]).sum(keepdims=True)},
    ),
    "squared_error": Case(
        _squared_error,
        12,
        LOSS_SUMS,
        variants=_varied("factor", 0.5, 0.125, 0.5),
        without={"empty": NO_ROWS},
    ),
    "binary_cross_entropy": Case(
        _binary_cross_entropy,
        10,
        f"log1p, logaddexp: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=_binary_cross_entropy_terms,
        without={"empty": NO_ROWS},
    ),
    "softmax_cross_entropy_labels": Case(
        _softmax_labels,
        14,
        f"exp, log: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=_softmax_terms,
        without={"empty": NO_ROWS},
    ),
    "softmax_cross_entropy_probabilities": Case(
        _softmax_probabilities,
        14,
        f"exp, log: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=_softmax_terms,
        without={"empty": NO_ROWS},
    ),
    "absolute_error": Case(_regression, 12, LOSS_SUMS, variants=LOSS_VARIANTS, without={"empty": NO_ROWS}),
    "huber": Case(
        _regression,
        12,
        LOSS_SUMS,
        variants=_varied("delta", 0.7, 1.5, 0.7),
        without={"empty": NO_ROWS},
    ),
    "quantile": Case(
        _quantile,
        12,
        LOSS_SUMS,
        variants=_varied("quantiles", (0.5,), (0.1, 0.5, 0.75), (0.9, 0.2)),
        without={"empty": NO_ROWS},
    ),
    "poisson": Case(
        _poisson,
        12,
        f"exp: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=_poisson_terms,
        without={"empty": NO_ROWS},
    ),
    "label_probabilities": Case(
        _label_probabilities,
        2,
        PRODUCTS,
        variants=({"smoothing": 0.0}, {"smoothing": 0.3}),
        without={**NO_VALUES, "empty": NO_ROWS},
    ),
    "softmax_focal": Case(
        _focal(_softmax_probabilities),
        24,
        f"exp, expm1, log, pow: {LIBRARY}; {LOSS_SUMS}",
        variants=_varied("gamma", 2.0, 0.5, 1.0),
        magnitude=_softmax_focal_terms,
        without={"empty": NO_ROWS},
    ),
    "binary_focal": Case(
        _focal(_binary_cross_entropy),
        24,
        f"exp, log1p, logaddexp, pow: {LIBRARY}; {LOSS_SUMS}",
        variants=_varied("gamma", 2.0, 0.5, 1.0),
        magnitude=_binary_focal_terms,
        without={"empty": NO_ROWS},
    ),
    "gradient_descent": Case(_optimizer(), 3, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_gradient_descent_terms),
    "momentum": Case(
        _optimizer("velocity", hyper=(0.6,)), 4, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_momentum_terms
    ),
    "nesterov": Case(
        _optimizer("velocity", hyper=(0.6,)), 4, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_momentum_terms
    ),
    "adam": Case(
        _adam(),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(*OPTIMIZER_VARIANTS, {"decayed": 0.3, "step": 1}),
        magnitude=_adam_terms,
    ),
    "adamw": Case(
        _adam(decay=0.4),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(*OPTIMIZER_VARIANTS, {"decayed": 0.3, "step": 1}),
        magnitude=_adam_terms,
    ),
    "rmsprop": Case(
        _optimizer("second_moment", hyper=(0.9, 1e-3)),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=_rmsprop_terms,
    ),
    "adagrad": Case(
        _optimizer("square_sum", hyper=(1e-3,)), 8, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_adagrad_terms
    ),
    "lion": Case(
        _optimizer("first_moment", hyper=(0.8, 0.95, 0.4)),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=_lion_terms,
    ),
    "chunk_squares": Case(
        _chunk_squares,
        32,
        "the roundings of g + l2 w, then float64 sums in any order",
        variants=tuple({"decayed": share, **chunk} for share in (0.0, 0.3, 1.0) for chunk in CHUNKS),
        magnitude=_chunk_squares_terms,
    ),
    "scaled_copy": Case(_scaled_copy, 1, EXACT, flushes=True),
    "unscale": Case(_unscale, 1, EXACT, variants=({}, {"overflowed": 1}), flushes=True),
    "adapt_scaling": Case(
        _adapt_scaling,
        0,
        "powers of two",
        variants=(
            {},
            {"good_steps": 8},
            {"good_steps": 8, "scale": 65536},
            {"overflowed": 1},
            {"overflowed": 1, "scale": 1},
            {"overflowed": 1, "scale": 1, "first_bad_step": 2},
            {"first_bad_step": 5},
        ),
    ),
    "clip_scale": Case(
        _clip_scale, 16, "float64 sums of up to 4096 terms in any order", variants=({"share": 0.25}, {"share": 1.5})
    ),
    "dropout": Case(
        _dropout,
        0,
        "the words are integers; one product",
        variants=(
            {"position": 1, "epoch": 0, "rate": 0.25},
            {"position": 7, "epoch": 5, "rate": 0.5},
            {"position": 2**32 + 9, "epoch": 2**31 + 1, "rate": 0.75},
            {"position": 7, "epoch": 5, "rate": 0.0},
        ),
    ),
    "uniform": Case(
        _uniform,
        1,
        "low + (high - low) u may be one operation or two",
        magnitude=lambda before, after: {"out": np.full(after["out"].shape, 2.25 + 2 * 1.5)},
        without=NO_VALUES,
    ),
    "gather_batch": Case(_gather, 0, EXACT, variants=GATHERS),
    "gather_shuffled_batch": Case(_gather, 0, EXACT, variants=tuple({**variant, "seed": SEED} for variant in GATHERS)),
    "largest_column": Case(_largest_column, 0, "integers", without={"empty": NO_ROWS}),
    "add_class_counts": Case(
        _class_counts,
        32,
        "float64 sums in any order",
        variants=WEIGHTED,
        magnitude=lambda before, after: {"counts": abs(before["counts"]) + 2 * len(before["actual"])},
        without=NO_VALUES,
    ),
    "add_label_counts": Case(
        _label_counts,
        32,
        "float64 sums in any order",
        variants=WEIGHTED,
        magnitude=lambda before, after: {"counts": abs(before["counts"]) + 2 * len(before["logits"])},
    ),
    "add_error_sums": Case(_error_sums, 32, "float64 sums in any order", variants=WEIGHTED, magnitude=_error_terms),
    "top_k_hits": Case(_labelled, 0, "comparisons", variants=({"k": 1}, {"k": 3}), without={"empty": NO_ROWS}),
    "label_log_losses": Case(
        _labelled, 14, f"exp, log: {LIBRARY}; {LOSS_SUMS}", magnitude=_label_log_terms, without={"empty": NO_ROWS}
    ),
    "binary_log_losses": Case(
        _binary_log_losses,
        10,
        f"log1p, logaddexp: {LIBRARY}; {LOSS_SUMS}",
        magnitude=_binary_log_terms,
        without={"empty": NO_ROWS},
    ),
    "add_weighted_total": Case(
        _weighted_total, 32, "float64 sums in any order", variants=WEIGHTED, magnitude=_weighted_total_terms
    ),
    "keep_rows": Case(
        _keep_rows, 0, EXACT, variants=({"position": 0, "labels": True}, {"position": 4, "labels": False})
    ),
    "weigh_hits": Case(_weigh_hits, 0, EXACT, variants=({"position": 0}, {"position": 4})),
    "rescale": Case(
        _rescale,
        2,
        "a product and a sum, or one operation",
        magnitude=lambda before, after: {
            "y": abs(before["mean"]) + abs(before["deviation"]) * abs(before["x"]).astype(np.float64)
        },
    ),
    "advance": Case(_advance, 0, "integers", variants=ADVANCES, without={**NO_VALUES, **NO_SHAPES}),
    "advance_scheduled": Case(
        _advance_scheduled, 0, "integers and a copy", variants=ADVANCES, without={**NO_VALUES, **NO_SHAPES}
    ),
    "advance_part": Case(
        lambda draw: {"clock": clock(position=32), "part_rows": 8}, 0, "integers", without={**NO_VALUES, **NO_SHAPES}
    ),
    "accumulate": Case(
        _accumulate,
        2,
        "a product and a sum, or one operation",
        variants=({"share": 0.25, "kept": 0}, {"share": 0.375, "kept": 1}),
        magnitude=_accumulate_terms,
    ),
    "average_weights": Case(
        _average_weights,
        3,
        f"{PRODUCTS}, or two operations",
        variants=({"step": 1}, {"step": 5}, {"step": 5, "first_bad_step": 5}),
        magnitude=_average_terms,
    ),
}
