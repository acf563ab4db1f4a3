"""Copies of networks, trainers and their parts: as exact as the original, sharing nothing with it."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

import gradflow as gf
from gradflow import network as network_module
from gradflow.losses import LOSSES
from gradflow.ops import OPS
from gradflow.optimizers import LBFGS, OPTIMIZERS
from gradflow.schedules import SCHEDULES

RNG = np.random.default_rng(0)
COLUMNS = {"a": RNG.normal(5, 3, 60), "b": RNG.choice(["u", "v", "w"], 60)}
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = RNG.normal(100, 20, size=(60, 2)).astype(np.float32)
LABELS = np.arange(60) % 3

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}
copies = pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)


def saved_and_loaded(network: gf.Sequential, folder: Path) -> gf.Sequential:
    gf.save(network, folder / "model.safetensors")
    return gf.load(folder / "model.safetensors", network.backend.name)


def crowded(backend_name: str, dtype: str = "float32") -> gf.Sequential:
    """A network with every kind of layer that has state."""
    layers = [
        gf.Dropout(0.1), gf.Dense(4, 6, initializer=lambda shape, random: random.uniform(-1, 1, shape)),
        gf.BatchNorm(6), gf.GELU(), gf.Residual([gf.Dense(6, 8), gf.LayerNorm(8), gf.ReLU(), gf.Dropout(0.2)]),
        gf.Dense(8, 2, bias=False),
    ]  # fmt: skip
    return gf.Sequential(layers, dtype=dtype, seed=3, backend=backend_name)


def trainer_of(network: gf.Sequential) -> gf.Trainer:
    return gf.Trainer(network, "huber", gf.Adam(gf.ExponentialSchedule(0.01, 0.9)), standardize_targets=True, l2=1e-3)


def train(trainer: gf.Trainer, epochs: int = 2) -> list[float]:
    return trainer.fit(X, Y, epochs=epochs, batch_size=16, progress=False)["loss"]


def bits(network: gf.Sequential) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in network.get_weights().items()}


@pytest.mark.parametrize("epochs", [0, 3])
@pytest.mark.parametrize("way", [*COPIES, "network.copy()", "save and load"])
def test_a_copy_predicts_and_trains_as_the_original(way: str, epochs: int, backend_name: str, tmp_path: Path) -> None:
    network = crowded(backend_name)
    if epochs:
        train(trainer_of(network), epochs)
    before, predicted = bits(network), network.predict(X).tobytes()
    if way == "save and load":
        twin = saved_and_loaded(network, tmp_path)
    else:
        twin = network.copy() if way == "network.copy()" else COPIES[way](network)
    assert bits(twin) == before
    assert twin.predict(X).tobytes() == predicted
    assert twin.epochs_begun == epochs
    assert (twin.output_activation, twin.output_scale) == (network.output_activation, network.output_scale)
    losses = train(trainer_of(twin))
    assert len(set(losses)) == 2
    assert bits(network) == before, "the original has changed"
    assert bits(twin) != before
    assert train(trainer_of(network)) == losses
    assert bits(twin) == bits(network)


def test_training_continues_over_a_saved_file(backend_name: str, tmp_path: Path) -> None:
    together = gf.MLP([4, 8, 2], dropout=0.5, backend=backend_name)
    apart = gf.MLP([4, 8, 2], dropout=0.5, backend=backend_name)
    first = train(trainer_of(together)), train(trainer_of(together))
    second = train(trainer_of(apart)), train(trainer_of(saved_and_loaded(apart, tmp_path)))
    assert first == second
    assert first[0] != first[1]


@copies
def test_preprocessing_is_copied(make_copy: Callable[[Any], Any]) -> None:
    preprocessing = gf.data.fit_preprocessing(COLUMNS)
    network = gf.MLP([preprocessing.n_out, 5, 3], seed=1, backend="numpy")
    network.preprocessing = preprocessing
    gf.Trainer(network, "softmax_cross_entropy", "adam").fit(COLUMNS, LABELS, epochs=2, progress=False)
    twin = make_copy(network)
    assert twin.preprocessing == preprocessing
    assert twin.predict(COLUMNS).tobytes() == network.predict(COLUMNS).tobytes()
    assert twin.output_activation == "softmax"


class Named(gf.MLP):
    """A network with an attribute of its own, and different arguments."""

    def __init__(self, name: str) -> None:
        super().__init__([4, 3, 2], seed=1, backend="numpy")
        self.name = name
        self.seen = [1, 2]


@copies
def test_a_copy_has_the_class_and_the_attributes_of_the_original(make_copy: Callable[[Any], Any]) -> None:
    network = Named("mine")
    for twin in (make_copy(network), network.copy()):
        assert type(twin) is Named
        assert (twin.name, twin.seen) == ("mine", [1, 2])
        assert twin.seen is not network.seen
        assert twin.predict(X).tobytes() == network.predict(X).tobytes()
    assert type(gf.MLP([4, 3], backend="numpy").copy()) is gf.MLP


def test_a_copy_has_its_own_state_of_layers() -> None:
    network = crowded("numpy")
    train(trainer_of(network))
    twin = copy.deepcopy(network)
    for layer, other in zip(network.layers, twin.layers, strict=True):
        assert layer is not other
        assert all(getattr(other, name) is None for name in layer.set_by_forward)
    assert network.layers[4].arrays is not None
    assert not np.shares_memory(network.layers[1].weight, twin.layers[1].weight)
    assert np.shares_memory(twin.layers[1].weight, twin.parameters)


def test_a_copy_of_a_layer_belongs_to_no_network() -> None:
    network = gf.MLP([4, 3], backend="numpy")
    layer = copy.deepcopy(network.layers[0])
    assert layer.attached is None
    assert not hasattr(layer, "weight")
    assert gf.Sequential([layer], backend="numpy").predict(X).shape == (60, 3)


@pytest.mark.parametrize("way", ["copy.deepcopy", "pickle"])
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_copy_of_a_trainer_trains_its_own_network(way: str, epochs: int, backend_name: str) -> None:
    trainer = gf.Trainer(
        crowded(backend_name), gf.HuberLoss(delta=0.5), gf.SGD(gf.PlateauSchedule(0.05, patience=1), momentum=0.9),
        metrics=["r2", "mean_absolute_error"], average=0.9, clip_norm=1.0, standardize_targets=True,
    )  # fmt: skip
    if epochs:
        train(trainer, epochs)
    twin = COPIES[way](trainer)
    assert twin.network is not trainer.network
    before = bits(trainer.network)
    losses = train(twin)
    assert bits(trainer.network) == before
    assert train(trainer) == losses
    assert bits(twin.network) == bits(trainer.network)
    assert twin.evaluate(X, Y) == trainer.evaluate(X, Y)


SETTINGS: dict[str, Callable[[], Any]] = {
    **{name: lambda cls=cls: cls(0.01) for name, cls in OPTIMIZERS.items() if cls is not LBFGS},
    "lbfgs": LBFGS,
    "scheduled": lambda: gf.AdamW(gf.CosineSchedule(0.01, epochs=7, warmup=2), weight_decay=0.3),
    **LOSSES,
    "quantiles": lambda: gf.QuantileLoss((0.1, 0.9)),
    "early stopping": lambda: gf.EarlyStopping("val_loss", patience=3, min_delta=0.1),
    "checkpoint": lambda: gf.Checkpoint(every_steps=7, keep=2),
}


@copies
@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_of_settings_has_the_same_settings(make_copy: Callable[[Any], Any], name: str) -> None:
    made = SETTINGS[name]()
    twin = make_copy(made)
    assert type(twin) is type(made)
    assert repr(twin) == repr(made)
    assert twin.config().keys() == made.config().keys()


def test_every_schedule_can_be_pickled() -> None:
    made = [
        gf.StepSchedule(0.1, every=3), gf.ExponentialSchedule(0.1, 0.9), gf.CosineSchedule(0.1, epochs=5),
        gf.OneCycleSchedule(0.1, epochs=5), gf.CosLogSchedule(0.1), gf.FlatCosineSchedule(0.1), gf.PlateauSchedule(0.1),
    ]  # fmt: skip
    assert {schedule.name for schedule in made} | {"constant", "function"} == {
        name for name, cls in SCHEDULES.items() if cls.__module__.startswith("gradflow.schedules.")
    }
    times = np.arange(4.0)
    for schedule in made:
        twin = pickle.loads(pickle.dumps(schedule))
        rates = [each.rates(times, 5, gf.History()) for each in (twin, schedule)]
        assert rates[0].tobytes() == rates[1].tobytes()


@copies
def test_ops_and_backends_are_the_only_ones_of_their_name(make_copy: Callable[[Any], Any], backend_name: str) -> None:
    backend = gf.MLP([4, 3], backend=backend_name).backend
    assert make_copy(backend) is backend
    assert make_copy(OPS["gemm"]) is OPS["gemm"]
    pickled = pickle.dumps(OPS["gemm"]).replace(b"gemm", b"gimm")
    with pytest.raises(gf.DataError, match="there is no op named 'gimm'; import the module that defines it"):
        pickle.loads(pickled)


def test_a_pickle_of_a_gpu_opens_on_a_computer_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([4, 3], seed=1, backend="numpy")
    state = copy.deepcopy(network.__getstate__()) | {"backend": "cupy"}
    get_backend = network_module.get_backend

    def refuse(name: str, device: str | None = None) -> Any:
        if name == "cupy":
            raise gf.BackendError("there is no GPU")
        return get_backend("numpy")

    monkeypatch.setattr(network_module, "get_backend", refuse)
    twin = gf.MLP.__new__(gf.MLP)
    with pytest.warns(gf.SlowPathWarning, match="is now on 'numpy', 'cpu': there is no GPU"):
        twin.__setstate__(state)
    assert bits(twin) == bits(network)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_are_too_large_for_another_dtype_are_refused(dtype: str) -> None:
    network = gf.MLP([4, 3], dtype="float64", backend="numpy")
    network.set_weights({name: np.full(weight.shape, 1e300) for name, weight in network.get_weights().items()})
    if dtype == "float64":
        assert network.copy(dtype=dtype).get_weights()["0.weight"].max() == 1e300
    else:
        with pytest.raises(gf.DataError, match="too large for float32"):
            network.copy(dtype=dtype)
    with pytest.raises(gf.DataError, match="unknown dtype 'float16'"):
        network.copy(dtype="float16")


def predictions(network: gf.Sequential) -> np.ndarray:
    return np.asarray(network.predict(X))


def trained(trainer: gf.Trainer) -> tuple[list[float], gf.Trainer]:
    return train(trainer), trainer


def test_joblib_writes_and_reads_networks(tmp_path: Path, backend_name: str) -> None:
    network = gf.MLP([4, 8, 2], dropout=0.2, backend=backend_name)
    train(trainer_of(network))
    joblib.dump({"model": network}, tmp_path / "model.joblib", compress=3)
    twin = joblib.load(tmp_path / "model.joblib")["model"]
    assert bits(twin) == bits(network)
    assert predictions(twin).tobytes() == predictions(network).tobytes()


@pytest.mark.parametrize("kind", ["loky", "spawn"])
def test_other_processes_get_networks_and_give_them_back(kind: str) -> None:
    network = gf.MLP([4, 8, 2], dropout=0.2, seed=1, backend="numpy")
    trainer = trainer_of(network)
    if kind == "loky":
        run = joblib.Parallel(n_jobs=2, backend="loky")
        (first, second), (losses, twin) = (
            run(joblib.delayed(predictions)(network) for _ in range(2)), run([joblib.delayed(trained)(trainer)])[0]
        )  # fmt: skip
    else:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            first, second = pool.map(predictions, [network] * 2)
            losses, twin = pool.apply(trained, (trainer,))
    assert first.tobytes() == second.tobytes() == predictions(network).tobytes()
    assert losses == train(trainer)
    assert bits(twin.network) == bits(network)
