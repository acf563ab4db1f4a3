"""The picture in a run folder: learning curves and layer statistics."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradflow.figures import COLORS, by_epoch, draw_curve, dress
from gradflow.layers import Layer
from gradflow.metrics.base import LARGER_IS_BETTER
from gradflow.training.progress.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# For each kind of value: its axis label, and what it should look like.
_WORDS = {
    "loss": ("loss", "low, on validation data too"),
    "accuracy": ("accuracy", "near 1, on validation data too"),
    "gradient_norm": ("norm of the gradient", "alike in all layers"),
    "update_ratio": ("length of a step / length of the weights", "about 0.001"),
    "dead": ("fraction of units that are dead", "near 0"),
    "saturated": ("fraction of outputs that are saturated", "near 0"),
}
_LOGARITHMIC = ("gradient_norm", "update_ratio")
_HEALTHY_UPDATE = 0.001
_STYLES = ("-", "--", ":", "-.")
"""Line styles of layers, each for as many as there are colors."""


def run_picture(history: History, layers: Sequence[Layer]) -> bytes:
    """Return the learning curves as a PNG: losses, metrics, values of callbacks, and layer statistics below them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    figure = run_figure(history, layers)
    FigureCanvasAgg(figure)
    figure.savefig(png, dpi=120)
    return png.getvalue()


def run_figure(history: History, layers: Sequence[Layer]) -> Figure:
    """Return the learning curves of `run_picture` as a figure."""
    from matplotlib.figure import Figure

    kinds = kinds_of(history)
    columns, rows = min(len(kinds), 2), -(-len(kinds) // 2)
    figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    for number, kind in enumerate(kinds):
        row, column = divmod(number, 2)
        is_alone = number + 1 == len(kinds) and column == 0
        draw_kind(figure.add_subplot(grid[row, :] if is_alone else grid[row, column]), kind, history, layers)
    return figure


def kinds_of(history: History) -> list[str]:
    """Return the kinds of values that have a picture of their own: "loss", metrics and values of callbacks, then those
    of layers, such as "update_ratio"."""
    kinds = [name for name in history if "/" not in name and name != "learning_rate" and not name.startswith("val_")]
    return [*kinds, *dict.fromkeys(name.partition("/")[0] for name in history if "/" in name)]


def draw_kind(axes: Axes, kind: str, history: History, layers: Sequence[Layer]) -> None:
    """Draw the curves of one kind, such as the update ratios of all layers, and say what is good."""
    dress(axes)
    if kind in history:
        draw_curve(axes, history[kind], COLORS[0], "training")
        if f"val_{kind}" in history:
            draw_curve(axes, history[f"val_{kind}"], COLORS[1], "validation")
    of_layers = [name for name in history if name.startswith(f"{kind}/")]
    for number, name in enumerate(of_layers):
        color, style = COLORS[number % len(COLORS)], _STYLES[number // len(COLORS) % len(_STYLES)]
        draw_curve(axes, history[name], color, _label(name.partition("/")[2], layers), style)
    if kind == "update_ratio":
        axes.axhline(_HEALTHY_UPDATE, color="0.6", linestyle=":")
    label, good = _WORDS.get(kind, (kind, ""))
    if kind not in _WORDS and kind in LARGER_IS_BETTER:  # a metric, and not the value of a callback
        good = "high" if LARGER_IS_BETTER[kind] else "low"
    axes.set(ylabel=label, yscale="log" if kind in _LOGARITHMIC else "linear")
    if good:
        axes.set_title(f"good: {good}", loc="left", fontsize="medium", color="0.35")
    by_epoch(axes)


def _label(place: str, layers: Sequence[Layer]) -> str:
    """Return the label of the layer at a position, such as 0, or 2.1 inside a block: "layer 2.1 (Dense)"."""
    found: Layer | None = None
    for part in place.split("."):
        found = layers[int(part)] if part.isdigit() else getattr(found, part, None)
        layers = getattr(found, "layers", ())
    return f"layer {place} ({type(found).__name__})"
