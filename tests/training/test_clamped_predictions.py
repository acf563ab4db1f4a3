"""Predictions that keep to the range of the training targets: in training, files, exports, ensembles and streams."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.output_scale import OutputScale

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (200, 2))
Y = np.stack([100 * X[:, 0] + 7, X.prod(axis=1)], axis=1)
FAR = np.concatenate([50 * X, X])


def trained(backend: str, *, loss: Any = "mean_squared_error", n_out: int = 2, **settings: Any) -> gf.Trainer:
    network = gf.MLP([2, 8, n_out], "tanh", seed=1, dtype="float64", backend=backend)
    trainer = gf.Trainer(network, loss, gf.Adam(0.01), **{"clamp_predictions": True} | settings)
    trainer.fit(X, Y if n_out == 2 else Y[:, :1], epochs=5, progress=False)
    return trainer


@pytest.mark.parametrize("standardize", [False, True])
def test_predictions_stay_within_the_targets(standardize: bool, backend_name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"standardize_targets": standardize}
    network, free = (trained(backend_name, **options, clamp_predictions=clamp).network for clamp in (True, False))
    scale = network.output_scale
    assert scale is not None
    assert scale.low == tuple(Y.min(axis=0))
    assert scale.high == tuple(Y.max(axis=0))
    assert scale.std == (tuple(Y.std(axis=0)) if standardize else (1.0, 1.0)) or standardize
    # Training is the same, and so is everything within the limits.
    weights, others = network.get_weights(), free.get_weights()
    assert all((weights[name] == others[name]).all() for name in weights)
    network.set_weights({name: 3 * weight for name, weight in weights.items()})
    free.set_weights({name: 3 * weight for name, weight in weights.items()})
    expected = np.clip(free.predict(FAR), Y.min(axis=0), Y.max(axis=0))
    assert (expected != free.predict(FAR)).any()
    assert_array_equal(network.predict(FAR), expected)
    gf.save(network, tmp_path / "model")
    for other in (
        gf.load(tmp_path / "model", backend=backend_name),
        network.copy(),
        pickle.loads(pickle.dumps(network)),
    ):
        assert other.output_scale == scale
        assert_array_equal(other.predict(FAR), expected)
    assert_allclose(gf.Ensemble([network, free]).predict(FAR), (expected + free.predict(FAR)) / 2, rtol=1e-14)


@pytest.mark.parametrize("standardize", [False, True])
def test_validation_and_evaluation_see_clamped_predictions(standardize: bool, backend_name: str) -> None:
    rmse = "root_mean_squared_error"
    trainer = trained(backend_name, standardize_targets=standardize, metrics=[rmse], n_out=1)
    network = trainer.network
    network.set_weights({name: 3 * weight for name, weight in network.get_weights().items()})
    y = FAR[:, :1] * 100
    scale = network.output_scale
    assert scale is not None
    squares = (network.predict(FAR) - y) ** 2
    assert_allclose(trainer.evaluate(FAR, y)["loss"], squares.mean() / scale.std[0] ** 2, rtol=1e-9)
    assert_allclose(trainer.evaluate(FAR, y)[rmse], np.sqrt(squares.mean()), rtol=1e-9)
    history = trainer.fit(X, Y[:, :1], epochs=1, validation_data=(FAR, y), progress=False)
    assert_allclose(history[f"val_{rmse}"][-1], np.sqrt(((network.predict(FAR) - y) ** 2).mean()), rtol=1e-9)


def test_quantiles_and_members_that_share_weights(backend_name: str) -> None:
    loss = gf.QuantileLoss([0.1, 0.5, 0.9])
    network = trained(backend_name, loss=loss, n_out=3, standardize_targets=True).network
    assert network.output_scale is not None
    assert network.output_scale.low == (Y[:, 0].min(),) * 3
    network.set_weights({name: 30 * weight for name, weight in network.get_weights().items()})
    assert network.predict(FAR).min() == Y[:, 0].min()
    assert network.predict(FAR).max() == Y[:, 0].max()
    tabm = gf.TabM([2, 8, 2], members=3, dtype="float64", backend=backend_name)
    trainer = gf.Trainer(tabm, "mean_squared_error", gf.Adam(0.1), clamp_predictions=True, standardize_targets=True)
    trainer.fit(X, Y, epochs=1, progress=False)
    tabm.set_weights({name: 30 * weight for name, weight in tabm.get_weights().items()})
    assert_array_equal(tabm.predict(FAR).max(axis=0), Y.max(axis=0))


def test_further_fits_widen_the_limits_and_streams_have_them(backend_name: str) -> None:
    trainer = trained(backend_name)
    trainer.fit(X[:50], Y[:50] + np.array([0, 10]), epochs=1, progress=False)
    scale = trainer.network.output_scale
    assert scale is not None
    assert scale.low == tuple(Y.min(axis=0))
    assert scale.high == (Y[:, 0].max(), Y[:50, 1].max() + 10)
    network = gf.MLP([2, 2], backend=backend_name)
    streaming = gf.Trainer(network, "mean_absolute_error", gf.Adam(), clamp_predictions=True)
    for rows in (slice(0, 100), slice(100, 200)):
        streaming.partial_fit(gf.data.Batches([(X[rows], Y[rows])]))
    assert network.output_scale == OutputScale((0.0,) * 2, (1.0,) * 2, tuple(Y.min(axis=0)), tuple(Y.max(axis=0)))
    weight = (Y[:, 0] < 50).astype(np.float64)
    weighted = gf.Trainer(gf.MLP([2, 2], backend=backend_name), "mean_squared_error", "adam", clamp_predictions=True)
    weighted.fit(X, Y, sample_weight=weight, epochs=1, progress=False)
    assert weighted.network.output_scale is not None
    assert weighted.network.output_scale.high == tuple(Y[weight > 0].max(axis=0))


def test_a_run_is_resumed_and_repeated_with_its_limits(tmp_path: Path) -> None:
    def trainer() -> gf.Trainer:
        network = gf.MLP([2, 4, 2], seed=1, backend="numpy")
        return gf.Trainer(network, "mean_squared_error", gf.Adam(), clamp_predictions=True)

    whole = trainer()
    whole.fit(X, Y, epochs=4, output=tmp_path / "whole", checkpoint=gf.Checkpoint(), progress=False)
    part = trainer()
    part.fit(X, Y, epochs=2, output=tmp_path / "part", checkpoint=gf.Checkpoint(), progress=False)
    resumed = trainer()
    resumed.fit(X, Y, epochs=4, resume=tmp_path / "part", progress=False)
    assert resumed.network.output_scale == whole.network.output_scale
    assert gf.load(tmp_path / "whole").output_scale == whole.network.output_scale
    assert gf.repeat(tmp_path / "whole", X, Y).is_same


def test_a_pack_clamps_as_each_network_alone(backend_name: str) -> None:
    def made(seed: int) -> gf.Trainer:
        network = gf.MLP([2, 4, 2], seed=seed, backend=backend_name)
        return gf.Trainer(network, "mean_squared_error", gf.Adam(), clamp_predictions=seed > 0)

    options: dict[str, Any] = {"epochs": 2, "validation_data": (FAR, 50 * Y[np.r_[:200, :200]]), "progress": False}
    pack = gf.Pack([made(seed) for seed in range(3)])
    pack.fit(X, Y, **options)
    for seed in range(3):
        alone = made(seed)
        alone.fit(X, Y, **options)
        assert pack[seed].output_scale == alone.network.output_scale
        assert (alone.network.output_scale is None) == (seed == 0)
        assert_allclose(pack[seed].predict(FAR), alone.network.predict(FAR), rtol=1e-3, atol=1e-4)
        histories = [trainer.history["val_loss"] for trainer in (pack.trainers[seed], alone)]  # type: ignore[index]
        assert_allclose(*histories, rtol=1e-3)


def test_classes_and_wrong_limits_are_refused() -> None:
    trainer = gf.Trainer(gf.MLP([2, 2]), "softmax_cross_entropy", "adam", clamp_predictions=True)
    with pytest.raises(gf.DataError, match="clamp_predictions require a regression loss, got 'softmax_cross_entropy'"):
        trainer.fit(X, np.arange(200) % 2, epochs=1)
    with pytest.raises(gf.DataError, match="clamp_predictions must be"):
        gf.Trainer(gf.MLP([2, 2]), "mean_squared_error", "adam", clamp_predictions=1)  # type: ignore[arg-type]
    wrong: list[Any] = [((1.0,), (0.0,)), ((0.0,), None), ((0.0, 0.0), (1.0, 1.0)), ((np.nan,), (1.0,))]
    for low, high in wrong:
        with pytest.raises(gf.DataError, match="low and high must be None, or a finite number each for each mean"):
            OutputScale((0.0,), (1.0,), low, high)
