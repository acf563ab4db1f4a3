"""Plots of training: learning curves, and gradient norms by layer. Needs the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradflow.checks import boolean, finite_number, instance, text
from gradflow.errors import DataError, GradflowError, shown
from gradflow.installation import pip_install
from gradflow.training.progress.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "by_epoch", "draw_curve", "dress", "empty_figure", "plot_curves", "plot_gradient_norms"]

# Okabe & Ito (2008): eight colors that remain distinct with any common kind of color vision; without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def plot_curves(histories: History | Mapping[str, History], name: str = "loss", *, logarithmic: bool = False) -> Figure:
    """Plot one learning curve for each history as a matplotlib figure; values on validation data are dashed.

    The figure has no window and is not registered with pyplot: ``figure.savefig(path)`` writes it to a file.

    Args:
        histories: a history, or several by their labels in the legend.
        name: the value to plot, "loss" or "accuracy"; "val_" + name is plotted with it if present.
        logarithmic: True for a logarithmic axis of values.

    Raises:
        DataError: if there is no history, or one without the value.
        GradflowError: if matplotlib is missing.
    """
    if isinstance(histories, History):
        histories = {"": histories}
    if not isinstance(histories, Mapping) or not histories:
        raise DataError(f"histories must be a history, or a dict of labels and histories, got {shown(histories)}")
    text("name", name)
    boolean("logarithmic", logarithmic)
    for history in histories.values():
        instance("each history", history, History, "what Trainer.fit returns")
    figure, axes = empty_figure()
    for place, (label, history) in enumerate(histories.items()):
        colour = COLOURS[place % len(COLOURS)]
        has_validation = f"val_{name}" in history
        prefix = f"{label}, " if label else ""
        draw_curve(axes, history[name], colour, f"{prefix}training" if has_validation or not label else label)
        if has_validation:
            draw_curve(axes, history[f"val_{name}"], colour, f"{prefix}validation", "--")
    axes.set(ylabel=name, yscale="log" if logarithmic else "linear")
    by_epoch(axes)
    return figure


def draw_curve(axes: Axes, values: Sequence[float], colour: str, label: str, style: str = "-") -> None:
    """Plot a value by epoch; a single epoch, which makes no line, is drawn as a point."""
    marker = "o" if len(values) == 1 else None
    axes.plot(range(1, len(values) + 1), values, style, marker=marker, color=colour, label=label)


def dress(axes: Axes) -> None:
    """Apply the style that all plots share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def by_epoch(axes: Axes) -> None:
    """Label the x axis with epochs, as whole numbers, and add the legend."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def plot_gradient_norms(norms: Mapping[str, Mapping[str, float]]) -> Figure:
    """Plot the norms of the weight gradients from the first layer to the last, on a logarithmic axis.

    Args:
        norms: results of `gradient_norms`, by their labels in the legend. Biases are not plotted.

    Raises:
        DataError: if there are no norms.
        GradflowError: if matplotlib is missing.
    """
    if not isinstance(norms, Mapping) or not norms:
        raise DataError(f"norms must be a dict of labels and gradient norms, at least one, got {norms!r}")
    for by_name in norms.values():
        if not isinstance(by_name, Mapping):
            raise DataError(f"norms must hold what gradflow.inspect.gradient_norms returns, got {shown(by_name)}")
        for name, norm in by_name.items():
            finite_number(f"the norm of {text('each name', name)}", norm)
    figure, axes = empty_figure()
    most_layers = 0
    for place, (label, by_name) in enumerate(norms.items()):
        weights = [norm for name, norm in by_name.items() if name.endswith(".weight")]
        axes.plot(range(1, len(weights) + 1), weights, "o-", color=COLOURS[place % len(COLOURS)], label=label)
        most_layers = max(most_layers, len(weights))
    axes.set(xlabel="dense layer, counted from the input", ylabel="norm of the weight gradient", yscale="log")
    axes.set_xticks(range(1, 1 + most_layers))
    axes.legend(frameon=False)
    return figure


def empty_figure() -> tuple[Figure, Axes]:
    """Return an empty figure without a window, and its axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GradflowError(f"plots need matplotlib, which is not installed: {pip_install('plot')}") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes
