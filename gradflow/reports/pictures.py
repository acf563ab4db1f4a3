"""The pictures of the report, as SVG inside of a page. They need the extra ``report``."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradflow.figures import COLORS, by_epoch, draw_curve, dress
from gradflow.layers import Layer
from gradflow.reports.predictions import Classified, Importance, Regressed
from gradflow.reports.surface import Surface
from gradflow.training.progress.history import History
from gradflow.training.runs.picture import draw_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = 4.8, 3.6
"""Inches: a picture keeps its size in a column of a wide page, and shrinks little on a phone."""
_MOST_CLASSES = 12
"""Classes up to which each cell of a confusion matrix has its number."""
_MOST_INSIDE = 4
"""Curves up to which the legend is inside of the picture, where it may cover some."""
_MOST_POINTS = 2000
_MOST_BARS = 15
_WIDTH_OF_NAMES = 24
"""Letters that fit below a confusion matrix of few classes."""
_LEVELS = 14


def data_uri(figure: Figure) -> str:
    """Return a figure as the address of an SVG that holds all of it: the same text for the same figure."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "gradflow"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def _empty(width: float = _SIZE[0], height: float = _SIZE[1]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def curves(history: History, kind: str, layers: Sequence[Layer]) -> Figure:
    """Draw one kind of values by epoch, such as the loss or the update ratio of each layer."""
    figure, axes = _empty()
    draw_kind(axes, kind, history, layers)
    if len(axes.lines) > _MOST_INSIDE:
        axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def curves_of_members(histories: Sequence[History], kind: str) -> Figure:
    """Draw the loss or the accuracy of several networks by epoch, a line for each."""
    figure, axes = _empty()
    for color, name, label in ((COLORS[0], kind, "training"), (COLORS[1], f"val_{kind}", "validation")):
        for place, history in enumerate(history for history in histories if name in history):
            draw_curve(axes, history[name], color, "_" if place else f"{label}, a line for each network")
    axes.set_ylabel(kind)
    for line in axes.lines:
        line.set(alpha=0.7, linewidth=1)
    by_epoch(axes)
    return figure


def surface(found: Surface) -> Figure:
    """Draw contour lines of the loss, and the path of the weights down to the last point."""
    from matplotlib.colors import LogNorm

    figure, axes = _empty(5.0, 4.4)
    loss = np.ma.masked_invalid(found.loss)
    low, high = float(loss.min()), float(loss.max())
    is_logarithmic = low > 0 and high > 10 * low
    levels = np.geomspace(low, high, _LEVELS) if is_logarithmic else np.linspace(low, high, _LEVELS)
    if low < high:
        norm = LogNorm(low, high) if is_logarithmic else None
        filled = axes.contourf(found.across, found.along, loss, levels, cmap="cividis", norm=norm)
        axes.contour(found.across, found.along, loss, levels, colors="white", linewidths=0.5, alpha=0.6)
        bar = figure.colorbar(filled, ax=axes, label="loss")
        bar.set_ticks(levels[::3].tolist(), labels=[f"{level:.2g}" for level in levels[::3]])
    path = found.path
    axes.plot(*path.T, "-", color="white", linewidth=3)
    axes.plot(*path.T, "o-", color=COLORS[1], linewidth=1.5, markersize=4, label="path of the weights")
    axes.plot(*path[0], "s", color="white", markeredgecolor="black", markersize=9, label=f"begin, {found.labels[0]}")
    axes.plot(*path[-1], "*", color="white", markeredgecolor="black", markersize=15, label=f"end, {found.labels[-1]}")
    axes.grid(False)
    axes.set(
        xlabel=f"main direction: {found.explained[0]:.0%} of the variation",
        ylabel=f"second direction: {found.explained[1]:.0%}",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def confusion(found: Classified) -> Figure:
    """Draw the fraction of each true class by predicted class."""
    n = len(found.names)
    side = min(max(3.2, 1.6 + 0.28 * n), 6.4)
    figure, axes = _empty(side + 0.6, side)
    totals = found.confusion.sum(axis=1, keepdims=True)
    fractions = found.confusion / np.maximum(totals, 1)
    image = axes.imshow(fractions, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.8)
    if n <= _MOST_CLASSES:
        for row, column in np.argwhere(found.confusion):
            color = "black" if fractions[row, column] > 0.5 else "white"
            axes.text(column, row, str(found.confusion[row, column]), ha="center", va="center", color=color, size=8)
    shown = range(0, n, -(-n // 24))
    names = [_short(found.names[place]) for place in shown]
    axes.set_xticks(shown, names, rotation=90 if max(map(len, names)) > max(2, _WIDTH_OF_NAMES // n) else 0)
    axes.set_yticks(shown, names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    return figure


def calibration(found: Classified) -> Figure:
    """Draw how often predictions are right by how sure the network is of them."""
    figure, axes = _empty()
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="calibrated")
    axes.plot(found.confidence, found.accuracy, "-", color=COLORS[0])
    sizes = 20 + 180 * found.rows / found.rows.max()
    axes.scatter(found.confidence, found.accuracy, sizes, color=COLORS[0], alpha=0.8, label="predictions, size by rows")
    axes.set(
        xlabel="probability of the predicted class", ylabel="fraction that is right", xlim=(0, 1.04), ylim=(0, 1.04)
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def predicted_against_true(found: Regressed, output: int) -> Figure:
    """Draw predictions of one output against its targets."""
    figure, axes = _empty()
    true, predicted = found.true[:, output], found.predicted[:, output]
    chosen = np.random.default_rng(0).permutation(len(true))[:_MOST_POINTS]
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, ":", color="0.4", label="exact")
    axes.plot(true[chosen], predicted[chosen], "o", color=COLORS[0], markersize=3, alpha=0.4, label="rows")
    axes.set(xlabel="true", ylabel="predicted")
    axes.locator_params(axis="x", nbins=5)  # so that long numbers do not touch
    axes.legend(frameon=False)
    return figure


def importance(found: Sequence[Importance]) -> Figure:
    """Draw the columns with the largest permutation importance as bars."""
    shown = list(found[:_MOST_BARS])[::-1]
    figure, axes = _empty(_SIZE[0], 1.2 + 0.24 * len(shown))
    places = range(len(shown))
    axes.barh(places, [bar.mean for bar in shown], xerr=[bar.std for bar in shown], color=COLORS[0], ecolor="black")
    axes.set_yticks(places, [_short(bar.name) for bar in shown])
    axes.set_xlabel("rise of the loss when the column is shuffled")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
