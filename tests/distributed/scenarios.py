"""Trainings that any number of ranks must end with the same results, up to rounding. As a program: all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf

ROWS, FEATURES = 500, 9
"""The last of the batches of 48 rows has 20, the last one of 62 has 4: none for most ranks."""

Scenario = Callable[[], tuple[gf.Trainer, dict[str, Any]]]


def _inputs(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, FEATURES))


def _classes(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] > 0).astype(int) + (x[:, 1] * x[:, 2] > 0.5)


def _network(*sizes: int, **settings: Any) -> gf.Sequential:
    return gf.MLP([FEATURES, *sizes], seed=5, dtype="float64", **settings)


def weighted_classes() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs(700)
    weight = np.random.default_rng(2).uniform(0, 2, 700)
    metrics = ["f1", "roc_auc", "top_2_accuracy", "log_loss"]
    trainer = gf.Trainer(
        _network(24, 3, dropout=0.3, input_dropout=0.1), "softmax_cross_entropy", gf.Adam(), metrics=metrics, l2=1e-3
    )
    data = {"x": x[:ROWS], "y": _classes(x)[:ROWS], "validation_data": (x[ROWS:], _classes(x)[ROWS:])}
    return trainer, {**data, "sample_weight": weight[:ROWS], "class_weight": "balanced", "batch_size": 62}


def standardized_numbers() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    y = 1000 + 30 * np.stack([x[:, 0] ** 2, x @ np.arange(9)], axis=1)
    trainer = gf.Trainer(
        _network(16, 2, dropout=gf.CosineSchedule(0.3)),
        "huber",
        gf.SGD(gf.PlateauSchedule(0.1, patience=1), momentum=0.9),
        metrics=["r2", "mean_absolute_error", "root_mean_squared_error"],
        standardize_targets=True,
        clip_norm=0.5,
        average=0.9,
    )
    return trainer, {"x": x, "y": y, "batch_size": 48, "validation_fraction": 0.2}


def parts_without_the_rest() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    residual = gf.Residual([gf.LayerNorm(16), gf.Dense(16, 16), gf.Tanh()])
    network = gf.Sequential([gf.Dense(9, 16), residual, gf.Dense(16, 1)])
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Lion(1e-3), metrics=["roc_auc", "precision"], l1=1e-4)
    how = {"accumulate": 3, "drop_last": True, "shuffle": False, "batch_size": 60}
    return trainer, {"x": x.astype(np.float32), "y": x[:, :1] > 0, **how}


def updated_in_blocks() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    limits: dict[str, Any] = {"l1": 1e-5, "l2": 1e-3, "clip_norm": 0.05, "average": 0.8}
    trainer = gf.Trainer(_network(300, 3), "softmax_cross_entropy", gf.AdamW(weight_decay=0.1), **limits)
    data = {"x": x, "y": _classes(x), "validation_fraction": 0.2, "batch_size": 62}
    return trainer, {**data, "callbacks": [Steps(), StepsOfFirstRank()]}


def updated_in_blocks_of_parts() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    settings: dict[str, Any] = {"clip_value": 0.001, "layer_statistics": True}
    trainer = gf.Trainer(_network(300, 3), "softmax_cross_entropy", gf.SGD(0.1, momentum=0.9), **settings)
    return trainer, {"x": x, "y": _classes(x), "batch_size": 60, "accumulate": 3}


def normalized() -> tuple[gf.Trainer, dict[str, Any]]:
    """The last batch has 9 rows: of three ranks the last has a single one."""
    x = _inputs()
    x[:, 0] += 100
    residual = gf.Residual([gf.BatchNorm(12), gf.Dense(12, 12), gf.Tanh()])
    layers = [gf.BatchNorm(9), gf.Dense(9, 12), gf.ReLU(), residual, gf.BatchNorm(12, momentum=0.3), gf.Dense(12, 3)]
    network = gf.Sequential(layers, seed=5, dtype="float64")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), layer_statistics=True)
    return trainer, {"x": x, "y": _classes(x), "validation_fraction": 0.2, "batch_size": 23}


def normalized_members() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    each = gf.EachMember([gf.Dense(9, 8, bias=False), gf.BatchNorm(8), gf.ReLU()], members=3)
    network = gf.Sequential([each, gf.Dense(24, 3)], seed=5, dtype="float64")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))
    return trainer, {"x": x, "y": _classes(x), "batch_size": 62, "accumulate": 2, "drop_last": True}


def streamed_rows() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs(3000)
    trainer = gf.Trainer(_network(16, 3, dropout=0.2), "softmax_cross_entropy", gf.Adam(), metrics=["f1"])
    return trainer, {"x": gf.data.Arrays(x, _classes(x), np.arange(3000.0)), "batch_size": 62}


def frozen_and_stopped() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    layers = [gf.Dense(9, 12), gf.BatchNorm(12), gf.ReLU(), gf.Dense(12, 3)]
    network = gf.Sequential(layers, seed=5, dtype="float64")
    network.frozen = (0, 1)
    early = gf.EarlyStopping("val_loss", patience=1)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.3))
    return trainer, {"x": x, "y": _classes(x), "validation_fraction": 0.3, "early_stopping": early, "batch_size": 100}


def named_columns() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    table = {"color": np.array(["red", "green", "blue"])[_classes(x)], "size": x[:, 3], "noise": x[:, 4]}
    preprocessing = gf.data.fit_preprocessing(table, {"color": gf.Embedding(3)})
    network = gf.MLP([preprocessing.n_out, 8, 2], preprocessing=preprocessing, seed=5, dtype="float64")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.AdamW(), metrics=["balanced_accuracy"])
    return trainer, {"x": table, "y": np.where(x[:, 0] > 0, "yes", "no"), "batch_size": None}


def log_cosh(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    error = outputs - targets
    return np.log(np.cosh(error)).sum(axis=1), np.tanh(error)


def worst_error(predictions: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray) -> float:
    return float((abs(predictions - targets) * sample_weight).max())


def functions() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    trainer = gf.Trainer(_network(16, 1), log_cosh, gf.Adam(), metrics=[worst_error])
    weight = np.random.default_rng(2).uniform(0, 2, ROWS)
    return trainer, {"x": x, "y": np.sin(x[:, 0]), "batch_size": 62, "sample_weight": weight}


def minimized() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    trainer = gf.Trainer(_network(6, 1, activation="tanh"), "mean_squared_error", gf.LBFGS(max_iterations=5), l2=1e-3)
    return trainer, {"x": x, "y": np.sin(x[:, :1]), "batch_size": None, "validation_fraction": 0.2}


def members_that_share_weights() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    sizes = [FEATURES, 8, 3]
    network = gf.TabM(sizes, members=3, dropout=0.3, batch_ensemble=True, seed=5, dtype="float64", backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), metrics=["f1", "log_loss"])
    weight = np.random.default_rng(2).uniform(0, 2, ROWS)
    return trainer, {"x": x, "y": _classes(x), "sample_weight": weight, "validation_fraction": 0.2, "batch_size": 62}


def table_with_vectors() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    kinds = np.random.default_rng(3).integers(0, 9, ROWS)
    table = {"a": x[:, 0], "b": x[:, 1], "kind": np.array(list("abcdefghi"))[kinds]}
    preprocessing = gf.data.fit_preprocessing(
        table, {"a": gf.data.SmoothClip(), "b": gf.data.QuantileNormal(noise=1e-3), "kind": gf.Embedding(3)}
    )
    network = gf.MLP([preprocessing.n_out, 12, 3], preprocessing=preprocessing, seed=5, dtype="float64")
    gf.fit_initial_weights(network, table)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), metrics=["f1"])
    stop = gf.EarlyStopping("val_f1", patience=2, ties="last")
    return trainer, {"x": table, "y": _classes(x), "validation_fraction": 0.2, "early_stopping": stop}


def members_with_embedded_numbers() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    embedding = gf.PiecewiseLinearEmbedding(FEATURES, gf.quantile_bins(x, 5), size=4)
    network = gf.TabM([FEATURES, 16, 3], members=3, dropout=0.2, embedding=embedding, seed=5, dtype="float64")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.AdamW(0.01), metrics=["roc_auc"])
    return trainer, {"x": x, "y": _classes(x), "class_weight": "balanced", "batch_size": 60, "accumulate": 2}


def waves_by_muon() -> tuple[gf.Trainer, dict[str, Any]]:
    """Muon needs whole matrices of gradients, so each rank updates all weights."""
    x = _inputs()
    layers = [gf.PeriodicEmbedding(FEATURES), gf.CosineEmbedding(36, 18), gf.Scale(306)]
    layers += [gf.Dense(306, 20), gf.Parametric(20, "mish"), gf.Dense(20, 3)]
    network = gf.Sequential(layers, seed=5, dtype="float64")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Muon(0.02), clip_norm=1.0, average=0.9)
    return trainer, {"x": x, "y": _classes(x), "validation_fraction": 0.2, "batch_size": 62}


def quantiles_in_order() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    layers = [gf.Dense(FEATURES, 16), gf.ReLU(), gf.Dense(16, 3), gf.Increasing(3)]
    trainer = gf.Trainer(
        gf.Sequential(layers, seed=5, dtype="float64"),
        gf.QuantileLoss([0.1, 0.5, 0.9]),
        gf.Adam(0.01),
        standardize_targets=True,
    )
    return trainer, {"x": x, "y": 3 + np.sin(x[:, 0]), "validation_fraction": 0.2, "batch_size": 62}


def clamped() -> tuple[gf.Trainer, dict[str, Any]]:
    x = _inputs()
    settings: dict[str, Any] = {"clamp_predictions": True, "standardize_targets": True, "metrics": ["r2"]}
    trainer = gf.Trainer(_network(16, 1), "half_squared_error", gf.Adam(0.01), **settings)
    data = {"x": x, "y": np.exp(x[:, 0]), "sample_weight": (x[:, 1] > -1).astype(float)}
    return trainer, {**data, "validation_fraction": 0.2, "early_stopping": gf.EarlyStopping("val_r2", patience=1)}


class Steps(gf.Callback):
    """Keeps the sum of what it hears of steps."""

    every_steps = 3

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self.losses = self.squares = 0.0

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        self.losses += loss
        self.squares += float((trainer.network.gradients**2).sum())

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> dict[str, float]:
        return {"step_losses": self.losses, "step_squares": self.squares}


class StepsOfFirstRank(gf.Callback):
    """Hears of other steps on one rank only."""

    every_steps = 2
    first_rank_only = True

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        assert gf.distributed.world().rank == 0
        assert step % 2 == 0


SCENARIOS: dict[str, Scenario] = {
    of.__name__: of
    for of in (
        weighted_classes,
        standardized_numbers,
        parts_without_the_rest,
        updated_in_blocks,
        updated_in_blocks_of_parts,
        normalized,
        normalized_members,
        streamed_rows,
        frozen_and_stopped,
        named_columns,
        functions,
        minimized,
        members_that_share_weights,
        table_with_vectors,
        members_with_embedded_numbers,
        waves_by_muon,
        quantiles_in_order,
        clamped,
    )
}


def results(name: str) -> dict[str, Any]:
    """Return the history of a scenario, and its final weights and buffers."""
    trainer, options = SCENARIOS[name]()
    history = trainer.fit(**options, epochs=5, progress=False)
    values = {value: [float(each) for each in history[value]] for value in history}
    ends = {"stopped_by": history.stopped_by, "best_epoch": history.best_epoch, "values": values}
    return ends | {"weights": trainer.network.state.tolist()}


if __name__ == "__main__":
    found = json.dumps({name: results(name) for name in sys.argv[2:] or SCENARIOS})
    world = gf.distributed.world()
    assert world.size > 1
    assert world.gathered(found) == [found] * world.size
    if world.rank == 0:
        Path(sys.argv[1]).write_text(found)
