"""Values measured for each layer during training, compared with plain NumPy on weights and activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.program import Program
from gradflow.training.progress.display import describe
from tests.training.step.test_programs import make_network, make_residual_network

RNG = np.random.default_rng(0)
X = 3 * RNG.normal(size=(70, 6))
Y = RNG.integers(0, 3, 70)
RATE = 0.1


def plain_network(backend: str, dtype: str) -> gf.Sequential:
    layers = [
        gf.Dense(6, 40), gf.ReLU(), gf.Dense(40, 9), gf.Tanh(), gf.Dense(9, 8), gf.Sigmoid(), gf.Dense(8, 3)
    ]  # fmt: skip
    network = gf.Sequential(layers, dtype=dtype, seed=4, backend=backend)
    weights = network.get_weights()
    weights["0.bias"][::5] = -90  # dead for these inputs
    weights["4.weight"] *= 20
    network.set_weights(weights)
    return network


def residual_network(backend: str, dtype: str) -> gf.Sequential:
    block = gf.Residual([gf.LayerNorm(7), gf.ReLU(), gf.Dense(7, 5), gf.Tanh()])
    return gf.Sequential([gf.Dense(6, 7), block, gf.Dense(5, 3)], dtype=dtype, seed=4, backend=backend)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_units(weights: dict[str, np.ndarray], x: np.ndarray) -> dict[str, float]:
    relu = np.maximum(x @ weights["0.weight"] + weights["0.bias"], 0)
    tanh = np.tanh(relu @ weights["2.weight"] + weights["2.bias"])
    logistic = sigmoid(tanh @ weights["4.weight"] + weights["4.bias"])
    return {
        "dead/1": (relu == 0).all(axis=0).mean(),
        "saturated/3": (abs(tanh) > 0.95).mean(),
        "saturated/5": ((logistic < 0.05) | (logistic > 0.95)).mean(),
    }


def residual_units(weights: dict[str, np.ndarray], x: np.ndarray) -> dict[str, float]:
    x = x @ weights["0.weight"] + weights["0.bias"]
    std = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    normalized = weights["1.0.gamma"] * (x - x.mean(axis=1, keepdims=True)) / std + weights["1.0.beta"]
    relu = np.maximum(normalized, 0)
    tanh = np.tanh(relu @ weights["1.2.weight"] + weights["1.2.bias"])
    return {"dead/1.1": (relu == 0).all(axis=0).mean(), "saturated/1.3": (abs(tanh) > 0.95).mean()}


PLACES = {
    plain_network: ["0", "2", "4", "6"],
    residual_network: ["0", "1.0", "1.2", "1.projection", "2"],
}


def of_place(weights: dict[str, np.ndarray], place: str) -> np.ndarray:
    """Return all parameters of a layer as one vector."""
    chosen = [array.reshape(-1) for name, array in weights.items() if name.rpartition(".")[0] == place]
    return np.concatenate(chosen).astype(np.float64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("make", "units"), [(plain_network, plain_units), (residual_network, residual_units)], ids=["plain", "residual"]
)
def test_values_are_those_of_plain_numpy(make: Any, units: Any, dtype: str, backend_name: str) -> None:
    """Batches of 16 of 70 rows in order: the measured one is the fourth, and gradient descent has no state."""
    history = gf.Trainer(
        make(backend_name, dtype), "softmax_cross_entropy", gf.GradientDescent(RATE), layer_statistics=True
    ).fit(X, Y, epochs=1, batch_size=16, shuffle=False)

    network = make(backend_name, dtype)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.GradientDescent(RATE))
    trainer.fit(X[:48], Y[:48], epochs=1, batch_size=16, shuffle=False)
    before = network.get_weights()
    trainer.fit(X[48:64], Y[48:64], epochs=1, batch_size=16)
    after = network.get_weights()
    expected = {}
    for place in PLACES[make]:
        w, change = of_place(before, place), of_place(after, place) - of_place(before, place)
        expected[f"gradient_norm/{place}"] = np.linalg.norm(change) / RATE
        expected[f"update_ratio/{place}"] = np.linalg.norm(change) / np.linalg.norm(w)
    expected |= units({name: array.astype(np.float64) for name, array in before.items()}, X[48:64])

    measured = {name: values for name, values in ((name, history[name]) for name in history) if "/" in name}
    assert sorted(measured) == sorted(expected)
    for name, value in expected.items():
        # In float32, the change of the weights, from which the gradient is derived here, has lost half of its digits.
        assert_allclose(measured[name], [value], rtol=1e-9 if dtype == "float64" else 2e-3, err_msg=name)
    if make is plain_network:
        assert 0 < history["dead/1"][0] < 1
        assert history["saturated/5"][0] > 0


def test_the_order_in_the_history_is_that_of_the_layers(backend_name: str) -> None:
    network = residual_network(backend_name, "float32")
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", layer_statistics=True)
    history = trainer.fit(X, Y, epochs=1, validation_data=(X, Y))
    kinds = [f"{kind}/{place}" for kind in ("gradient_norm", "update_ratio") for place in PLACES[residual_network]]
    assert list(history) == [
        "loss", "accuracy", "val_loss", "val_accuracy", *kinds, "dead/1.1", "saturated/1.3"
    ]  # fmt: skip
    assert "/" not in describe(history.last())


def test_a_measurement_has_the_same_bits_each_time(backend_name: str) -> None:
    def measured() -> list[float]:
        trainer = gf.Trainer(make_network(backend_name), "softmax_cross_entropy", "adam", layer_statistics=True)
        return list(trainer.fit(X, Y, epochs=3, batch_size=8).last().values())

    assert measured() == measured()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps_per_launch": 4},
        {"clip_norm": 0.5, "average": 0.9},
        {"metrics": ["f1"], "l2": 1e-3},
    ],
    ids=str,
)
@pytest.mark.parametrize("arguments", [{}, {"accumulate": 2}, {"batch_size": None}, {"drop_last": True}], ids=str)
@pytest.mark.parametrize("make", [make_network, make_residual_network])
def test_training_has_the_same_bits_with_it_and_without(
    make: Any, settings: dict[str, Any], arguments: dict[str, Any], backend_name: str
) -> None:
    def trained(*, layer_statistics: bool) -> tuple[bytes, list[float]]:
        network = make(backend_name)
        trainer = gf.Trainer(
            network, "softmax_cross_entropy", gf.AdamW(0.01), layer_statistics=layer_statistics, **settings
        )
        history = trainer.fit(X, Y, **{"epochs": 3, "batch_size": 16, **arguments})
        assert (len(history) > 4) == layer_statistics
        return network.backend.to_host(network.state).tobytes(), history["loss"]

    assert trained(layer_statistics=True) == trained(layer_statistics=False)


def test_a_stream_is_measured_as_arrays_are(backend_name: str) -> None:
    def measured(x: Any, y: Any = None) -> dict[str, float]:
        network = make_network(backend_name)
        trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", layer_statistics=True)
        return trainer.fit(x, y, epochs=2, batch_size=16, shuffle=False).last()

    x = X.astype(np.float32)
    assert measured(gf.data.Arrays(x, Y)) == measured(x, Y)


class RunsOfPrograms(gf.Callback):
    """Counts the programs run in each epoch, and the runs of steps among them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: list[set[int]] = []
        self._now: set[int] = set()
        run = Program.run

        def counted(program: Program, times: int = 1) -> None:
            self._now.add(id(program))
            run(program, times)

        monkeypatch.setattr(Program, "run", counted)

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        self.programs.append(self._now)
        self._now = set()


@pytest.mark.parametrize(
    ("batch_size", "measured"),
    [(3, [1, 2, 3, 4, 5, 6]), (7, [1, 3, 5]), (14, [1, 5]), (23, [1, 6]), (None, [1])],
)
def test_measured_steps_are_at_least_20_steps_apart(
    batch_size: int | None, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = RunsOfPrograms(monkeypatch)
    trainer = gf.Trainer(make_network("numpy"), "softmax_cross_entropy", "adam", layer_statistics=True)
    history = trainer.fit(X, Y, epochs=6, batch_size=batch_size, callbacks=[runs])
    norms = history["gradient_norm/0"]
    changed = [1, *(epoch for epoch in range(2, 7) if norms[epoch - 1] != norms[epoch - 2])]
    assert changed == measured
    of_measurement = runs.programs[0] - runs.programs[1] if len(measured) < 6 else set()
    assert all((of_measurement <= runs.programs[epoch - 1]) == (epoch in measured) for epoch in range(1, 7))


@pytest.mark.parametrize("batch_size", [3, 16])
def test_a_resumed_run_continues_with_them(batch_size: int, backend_name: str, tmp_path: Path) -> None:
    def fit(epochs: int, **arguments: Any) -> gf.History:
        network = make_network(backend_name)
        trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", layer_statistics=True)
        return trainer.fit(X, Y, epochs=epochs, batch_size=batch_size, **arguments)

    fit(3, output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=1))
    resumed, whole = fit(5, resume=tmp_path), fit(5)
    assert {name: resumed[name] for name in resumed} == {name: whole[name] for name in whole}


def test_weights_initialized_to_zero_have_no_ratio_yet(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(6, 4, initializer=0.0), gf.ReLU(), gf.Dense(4, 3)], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.GradientDescent(0.1), layer_statistics=True)
    history = trainer.fit(X, Y, epochs=1, batch_size=None)
    # all units output 0, and pass on no gradient
    assert history["gradient_norm/0"] == history["update_ratio/0"] == [0.0]
    assert history["dead/1"] == [1.0]
    assert history["update_ratio/2"][0] > 0


@pytest.mark.parametrize("dies", [False, True])
def test_the_run_folder_draws_them(dies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save = Figure.savefig

    def kept(figure: Any, *arguments: Any, **settings: Any) -> None:
        drawn.extend(figure.axes)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", kept)
    network = plain_network("numpy", "float32")
    if dies:  # norms of 0 cannot be drawn on a logarithmic axis
        network.set_weights(network.get_weights() | {"0.bias": np.full(40, -90.0)})
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", layer_statistics=True)
    history = trainer.fit(X, Y, epochs=3, output=tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = {axes.get_ylabel(): {line.get_label(): line.get_ydata() for line in axes.lines} for axes in drawn}
    change, saturated = "length of a step / length of the weights", "fraction of outputs that are saturated"
    gradient, dead = "norm of the gradient", "fraction of units that are dead"
    assert list(lines) == ["loss", "accuracy", gradient, change, dead, saturated]
    assert {label: list(values) for label, values in lines[change].items() if label.startswith("layer")} == {
        f"layer {place} (Dense)": history[f"update_ratio/{place}"] for place in PLACES[plain_network]
    }
    assert list(lines[saturated]) == ["layer 3 (Tanh)", "layer 5 (Sigmoid)"]


def test_lbfgs_takes_no_steps_that_could_be_measured() -> None:
    pytest.importorskip("scipy")
    trainer = gf.Trainer(make_network("numpy"), "softmax_cross_entropy", "lbfgs", layer_statistics=True)
    with pytest.raises(gf.DataError, match="layer_statistics is not supported with L-BFGS"):
        trainer.fit(X, Y, epochs=1, batch_size=None)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_they_are_measured_in_every_precision(precision: str) -> None:
    pytest.importorskip("ml_dtypes")

    def measured(precision: str) -> dict[str, float]:
        network = plain_network("cupy", "float32")
        trainer = gf.Trainer(
            network, "softmax_cross_entropy", gf.GradientDescent(0.01), precision=precision, layer_statistics=True
        )
        return trainer.fit(X, Y, epochs=1, batch_size=16, shuffle=False).last()

    exact, rounded = measured("float32"), measured(precision)
    assert exact.keys() == rounded.keys()
    for name, value in exact.items():
        # bfloat16 has 8 bits; fractions are of at most 128 outputs, some of which lie at the limit.
        assert_allclose(rounded[name], value, rtol=0.05, atol=0.03, err_msg=name)


@pytest.mark.usefixtures("without_looks")
@pytest.mark.gpu
def test_an_epoch_reads_once_and_neither_allocates_nor_waits() -> None:
    simgpu = pytest.importorskip("simgpu")

    class Counts(gf.Callback):
        """The simulator's counts of the last epoch."""

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            stats = simgpu.stats()
            self.last = {name: stats[name]["count"] for name in ("h2d", "d2h")} | {
                name: stats[name] for name in ("mallocs", "syncs")
            }
            simgpu.reset()

    def counted(*, layer_statistics: bool) -> dict[str, int]:
        counts = Counts()
        trainer = gf.Trainer(make_network("cupy"), "softmax_cross_entropy", "adam", layer_statistics=layer_statistics)
        trainer.fit(X, Y, epochs=3, batch_size=3, callbacks=[counts], progress=False)
        return counts.last

    without, measured = counted(layer_statistics=False), counted(layer_statistics=True)
    assert measured["d2h"] == without["d2h"] + 1
    assert measured["syncs"] <= without["syncs"] + 1
    assert (measured["h2d"], measured["mallocs"]) == (without["h2d"], without["mallocs"])
