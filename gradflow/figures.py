"""Figures: the style that all share, and learning curves. They need the extra ``plot`` (matplotlib)."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gradflow.errors import GradflowError
from gradflow.installation import pip_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): eight colors that remain distinct with any common kind of color vision; without the yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


class Curves(Protocol):
    """Values by name, one per epoch, as in a `History`."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Sequence[float]: ...


_SIZE = 7, 4
_WITHOUT_WINDOWS = ("agg", "cairo", "inline", "pdf", "pgf", "ps", "svg", "template")
"""Backends of matplotlib that open no windows; notebooks draw with "inline"."""


def empty_figure() -> tuple[Figure, Axes]:
    """Return an empty figure, and its axes.

    In a program that imported pyplot and opens windows, ``pyplot.show()`` shows it. Notebooks show it below the cell
    that returns it. Elsewhere it is only saved.
    """
    try:
        from matplotlib import get_backend
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GradflowError(f"plots need matplotlib, which is not installed: {pip_install('plot')}") from error
    pyplot = sys.modules.get("matplotlib.pyplot")
    # A figure that pyplot knows is kept until it is closed, and notebooks would show it twice.
    if pyplot is None or get_backend().lower().rpartition("_")[2] in _WITHOUT_WINDOWS:
        figure = for_notebooks(Figure(figsize=_SIZE, layout="constrained"))
    else:
        figure = pyplot.figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def for_notebooks(figure: Figure) -> Figure:
    """Let a notebook show a figure even if it has not imported pyplot."""
    setattr(figure, "_repr_png_", partial(_png, figure))  # noqa: B010, type checkers do not know the attribute
    return figure


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png")
    return content.getvalue()


def dress(axes: Axes) -> None:
    """Apply the style that all plots share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def draw_curve(axes: Axes, values: Sequence[float], color: str, label: str, style: str = "-") -> None:
    """Plot a value by epoch; a single epoch, which makes no line, is drawn as a point."""
    marker = "o" if len(values) == 1 else None
    axes.plot(range(1, len(values) + 1), values, style, marker=marker, color=color, label=label)


def by_epoch(axes: Axes) -> None:
    """Label the x axis with epochs, as whole numbers, and add the legend."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def learning_curves(histories: Mapping[str, Curves], name: str, *, logarithmic: bool) -> Figure:
    """Plot the value ``name``, and "val_" + name if present, of several histories by their labels in the legend."""
    figure, axes = empty_figure()
    for place, (label, history) in enumerate(histories.items()):
        color = COLORS[place % len(COLORS)]
        has_validation = f"val_{name}" in history
        prefix = f"{label}, " if label else ""
        draw_curve(axes, history[name], color, f"{prefix}training" if has_validation or not label else label)
        if has_validation:
            draw_curve(axes, history[f"val_{name}"], color, f"{prefix}validation", "--")
    axes.set(ylabel=name, yscale="log" if logarithmic else "linear")
    by_epoch(axes)
    return figure
