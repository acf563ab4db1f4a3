"""The picture in a run folder identifies the layers, and shows what their values should look like."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.runs.picture import run_figure, run_picture

X, LABELS = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3


def run(layers: list[gf.Layer], **arguments: object) -> tuple[gf.History, gf.Sequential]:
    pytest.importorskip("matplotlib")
    network = gf.Sequential(layers, backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", layer_statistics=True)
    return trainer.fit(X, LABELS, progress=False, **{"epochs": 3, **arguments}), network


def test_every_panel_is_used_and_every_layer_named() -> None:
    block = gf.Residual([gf.Dense(8, 5), gf.ReLU()])
    history, network = run([gf.Dense(4, 8), gf.ReLU(), block, gf.Dense(5, 3)])
    figure = run_figure(history, network.layers)
    labels = {axes.get_ylabel(): axes.get_legend_handles_labels()[1] for axes in figure.axes}
    with_parameters = ["layer 0 (Dense)", "layer 2.0 (Dense)", "layer 2.projection (Dense)", "layer 3 (Dense)"]
    assert labels == {
        "loss": ["training"],
        "accuracy": ["training"],
        "norm of the gradient": with_parameters,
        "length of a step / length of the weights": with_parameters,
        "fraction of units that are dead": ["layer 1 (ReLU)", "layer 2.1 (ReLU)"],
    }
    assert all(axes.get_title(loc="left").startswith("good: ") for axes in figure.axes)
    last = figure.axes[-1].get_subplotspec()
    assert (last.colspan.start, last.colspan.stop) == (0, 2)  # the row of the odd one has no empty axes


def test_epochs_are_whole_numbers() -> None:
    history, network = run([gf.Dense(4, 3)], validation_data=(X, LABELS))
    for axes in run_figure(history, network.layers).axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_single_epoch_can_be_seen() -> None:
    history, network = run([gf.Dense(4, 3)], epochs=1)
    figure = run_figure(history, network.layers)
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert run_picture(history, network.layers).startswith(b"\x89PNG")
