"""Plots of training: learning curves, and gradient norms by layer. Needs the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradflow.checks import boolean, finite_number, instance, text
from gradflow.errors import DataError, shown
from gradflow.figures import COLORS, empty_figure, learning_curves
from gradflow.training.progress.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_curves(histories: History | Mapping[str, History], name: str = "loss", *, logarithmic: bool = False) -> Figure:
    """Plot one learning curve for each history as a matplotlib figure; values on validation data are dashed.

    ``figure.savefig(path)`` writes it to a file. A notebook shows it, and so does ``pyplot.show()`` in a program that
    imported pyplot before and opens windows.

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
    return learning_curves(histories, name, logarithmic=logarithmic)


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
        axes.plot(range(1, len(weights) + 1), weights, "o-", color=COLORS[place % len(COLORS)], label=label)
        most_layers = max(most_layers, len(weights))
    axes.set(xlabel="dense layer, counted from the input", ylabel="norm of the weight gradient", yscale="log")
    axes.set_xticks(range(1, 1 + most_layers))
    axes.legend(frameon=False)
    return figure
