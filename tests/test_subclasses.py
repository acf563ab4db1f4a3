"""A subclass that overrides nothing behaves like its class, bit for bit, although its arrays are sealed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import gradflow as gf
from gradflow.metrics import METRICS
from gradflow.names import is_built_in
from gradflow.schedules import FunctionSchedule
from tests.layers.cases import LAYER_CASES, WIDTH
from tests.losses.cases import LOSS_CASES
from tests.optimizers.cases import OPTIMIZER_CASES
from tests.registries import forgotten

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 4))
LABELS = RANDOM.integers(0, 3, size=24)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def subclassed(made: Any) -> Any:
    """Return the same object as an instance of a subclass that overrides nothing."""
    made.__class__ = type("Sub", (type(made),), {})
    return made


def results(network: gf.Sequential, *rest: Any, y: Any = LABELS, **settings: Any) -> list[bytes]:
    """Return the results of training: weights, history and predictions."""
    weight = np.linspace(0.5, 2, len(X))
    history = gf.Trainer(network, *rest, **settings).fit(
        X, y, sample_weight=weight, epochs=2, batch_size=10, validation_data=(X, y, weight), progress=False
    )
    arrays = [*network.get_weights().values(), *(np.array(history[name]) for name in history), network.predict(X)]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("name", LAYER_CASES)
def test_layers(name: str, backend_name: str) -> None:
    def trained(layer: gf.Layer) -> list[bytes]:
        stack = [gf.Dense(4, WIDTH), layer, gf.Dense(layer.output_width(WIDTH), 3)]
        return results(gf.Sequential(stack, seed=1, backend=backend_name), "softmax_cross_entropy", "adam")

    assert subclassed(LAYER_CASES[name].make()).recorded
    assert trained(subclassed(LAYER_CASES[name].make())) == trained(LAYER_CASES[name].make())


@pytest.mark.parametrize("name", LOSS_CASES)
def test_losses(name: str, backend_name: str) -> None:
    random = np.random.default_rng(1)
    targets = np.concatenate([LOSS_CASES[name].targets(random) for _ in range(4)])

    def trained(loss: Any) -> list[bytes]:
        network = gf.MLP([4, 5, 4], "tanh", seed=1, backend=backend_name)
        return results(network, loss, "adam", y=targets)

    loss = LOSS_CASES[name].loss
    assert trained(subclassed(type(loss)(**loss.config()))) == trained(loss)


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_optimizers(name: str, backend_name: str) -> None:
    def trained(optimizer: gf.Optimizer) -> list[bytes]:
        network = gf.MLP([4, 5, 3], "tanh", seed=1, backend=backend_name)
        settings: dict[str, Any] = {"l2": 0.1, "clip_norm": 0.5, "average": 0.9}
        return results(network, "softmax_cross_entropy", optimizer, **settings)

    make = OPTIMIZER_CASES[name].make
    assert trained(subclassed(make(0.01))) == trained(make(0.01))


@pytest.mark.parametrize("name", sorted(name for name, metric in METRICS.items() if is_built_in(metric)))
def test_metrics(name: str, backend_name: str) -> None:
    kind = METRICS[name].kinds[0]
    loss, y = ("softmax_cross_entropy", LABELS) if kind == "classes" else ("mean_squared_error", X[:, :3])

    def trained(metric: Any) -> list[bytes]:
        network = gf.MLP([4, 5, 3], "tanh", seed=1, backend=backend_name)
        return results(network, loss, "adam", y=y, metrics=[metric])

    arguments = (2,) if name == "top_k_accuracy" else ()
    own = subclassed(METRICS[name](*arguments))
    type(own).statistics = type("OwnStatistics", (own.statistics,), {})
    assert trained(own) == trained(METRICS[name](*arguments))


def test_a_subclass_of_a_metric_with_an_argument_is_not_taken_for_its_class(tmp_path: Path) -> None:
    class Mine(gf.metrics.TopKAccuracy):
        pass

    trainer = gf.Trainer(gf.MLP([4, 3], backend="numpy"), "softmax_cross_entropy", "adam", metrics=[Mine(2)])
    assert "Mine_2" in trainer.fit(X, LABELS, epochs=1, output=tmp_path, progress=False)
    with pytest.raises(gf.DataError, match="unknown metric 'Mine_2'"):
        gf.repeat(tmp_path, X, LABELS)


def test_a_function_under_another_name_cannot_be_repeated_either(tmp_path: Path) -> None:
    class Mine(FunctionSchedule):
        pass

    network = gf.MLP([4, 3], backend="numpy")
    gf.Trainer(network, "softmax_cross_entropy", gf.SGD(Mine(lambda time: 0.1))).fit(
        X, LABELS, epochs=1, output=tmp_path, progress=False
    )
    with pytest.raises(gf.DataError, match="was a function, which cannot be stored in a folder"):
        gf.repeat(tmp_path, X, LABELS)
    assert_array_equal(network.predict(X), gf.load(tmp_path / "model.safetensors", "numpy").predict(X))
