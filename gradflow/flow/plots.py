"""Plots of training: learning curves, and gradient norms by layer. They need the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradflow.arguments import boolean, finite_number, instance, text
from gradflow.errors import DataError, GradflowError, shown
from gradflow.installation import pip_install
from gradflow.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["empty_figure", "plot_curves", "plot_gradient_norms"]

# Okabe & Ito (2008): eight colours that people with any common kind of colour vision can tell apart; no yellow here.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def plot_curves(histories: Mapping[str, History], name: str = "loss", *, logarithmic: bool = False) -> Figure:
    """One learning curve for each history, as a matplotlib figure; values on validation data are dashed.

    Args:
        histories: the histories by the label that stands in the legend.
        name: which value to draw, "loss" or "accuracy"; "val_" + name is drawn beside it where there is one.
        logarithmic: whether the values have a logarithmic axis.

    Raises:
        DataError: if there is no history, or one without the value.
        GradflowError: if matplotlib is missing.
    """
    if not isinstance(histories, Mapping) or not histories:
        raise DataError(f"histories must be a dict of labels and histories, at least one, got {histories!r}")
    text("name", name)
    boolean("logarithmic", logarithmic)
    for history in histories.values():
        instance("each history", history, History, "what Trainer.fit returns")
    figure, axes = empty_figure()
    for place, (label, history) in enumerate(histories.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        epochs = range(1, len(history[name]) + 1)
        has_validation = f"val_{name}" in history
        axes.plot(epochs, history[name], color=colour, label=f"{label}, training" if has_validation else label)
        if has_validation:
            axes.plot(epochs, history[f"val_{name}"], "--", color=colour, label=f"{label}, validation")
    axes.set(xlabel="epoch", ylabel=name, yscale="log" if logarithmic else "linear")
    axes.legend(frameon=False)
    return figure


def plot_gradient_norms(norms: Mapping[str, Mapping[str, float]]) -> Figure:
    """The norms of the weight gradients from the first layer to the last, on a logarithmic axis, as a figure.

    Args:
        norms: what `gradient_norms` gave, by the label that stands in the legend. Biases are not drawn.

    Raises:
        DataError: if there are no norms.
        GradflowError: if matplotlib is missing.
    """
    if not isinstance(norms, Mapping) or not norms:
        raise DataError(f"norms must be a dict of labels and gradient norms, at least one, got {norms!r}")
    for by_name in norms.values():
        if not isinstance(by_name, Mapping):
            raise DataError(f"norms must hold what gradflow.flow.gradient_norms returns, got {shown(by_name)}")
        for name, norm in by_name.items():
            finite_number(f"the norm of {text('each name', name)}", norm)
    figure, axes = empty_figure()
    most_layers = 0
    for place, (label, by_name) in enumerate(norms.items()):
        weights = [norm for name, norm in by_name.items() if name.endswith(".weight")]
        axes.plot(range(1, len(weights) + 1), weights, "o-", color=_COLOURS[place % len(_COLOURS)], label=label)
        most_layers = max(most_layers, len(weights))
    axes.set(xlabel="dense layer, counted from the input", ylabel="norm of the weight gradient", yscale="log")
    axes.set_xticks(range(1, 1 + most_layers))
    axes.legend(frameon=False)
    return figure


def empty_figure() -> tuple[Figure, Axes]:
    """An empty figure that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GradflowError(f"plots need matplotlib, which is not installed: {pip_install('plot')}") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes
