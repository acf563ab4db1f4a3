"""Factors of learning rate and weight decay: by name, against PyTorch's parameter groups, and through a training."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.ops import has_diverged, op
from gradflow.optimizers.base import hyper_vector, learning_rates, regularized, weight_decays
from gradflow.optimizers.factors import names_of
from tests.optimizers.cases import OPTIMIZER_CASES
from tests.optimizers.test_optimizers import N_DECAYED, N, updated
from tests.registries import forgotten

X = np.random.default_rng(0).normal(size=(40, 3))
LABELS = (X[:, 0] > 0).astype(int)
SEGMENTS = [(5, 0.1, 2.0), (12, 1.0, 1.0), (30, 6.0, 0.0), (N, 0.5, 1.0)]
"""One ends within the weights, and one spans weights and biases."""


def network(backend: str = "numpy", **settings: Any) -> gf.Sequential:
    inner = [gf.Dense(5, 5), gf.Tanh()]
    layers = [gf.Dense(3, 5), gf.LayerNorm(5), gf.Residual(inner), gf.Dense(5, 2)]
    return gf.Sequential(layers, seed=1, backend=backend, **settings)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_segments_are_parameter_groups_of_pytorch(name: str, dtype: str, backend_name: str) -> None:
    import torch

    case, rate = OPTIMIZER_CASES[name], 0.01
    rng = np.random.default_rng(2)
    parameters, gradients = rng.normal(size=N).astype(dtype), rng.normal(size=(4, N)).astype(dtype)
    bounds = sorted({0, N_DECAYED, *(end for end, *_ in SEGMENTS)})
    tensors, expected = [], []
    for begin, end in itertools.pairwise(bounds):
        _, rate_factor, decay_factor = next(segment for segment in SEGMENTS if begin < segment[0])
        tensor = torch.tensor(parameters[begin:end].copy())
        decay = case.decay * decay_factor if begin < N_DECAYED else 0.0
        # Optimizers of one group each, since the Lion of the cases has one rate for all.
        other = case.in_torch(torch.optim, [{"params": [tensor], "weight_decay": decay}], rate * rate_factor)
        tensors.append((tensor, slice(begin, end), other))
    for g in gradients:
        for tensor, part, other in tensors:
            tensor.grad = torch.tensor(g[part].copy())
            other.step()
    expected = torch.cat([tensor for tensor, *_ in tensors]).numpy()
    result = updated(case.make(rate), parameters, gradients, backend_name, factors=SEGMENTS)
    epsilon = np.finfo(dtype).eps
    assert_allclose(result, expected, rtol=64 * epsilon, atol=64 * epsilon)


@given(st.data())
def test_every_segment_has_its_factors(data: st.DataObject) -> None:
    ends = sorted(data.draw(st.sets(st.integers(1, 60), min_size=1)))
    factors = st.sampled_from([0.25, 0.5, 1.0, 4.0])
    segments = [(end, data.draw(factors), data.draw(factors)) for end in ends]
    n_decayed = data.draw(st.integers(0, ends[-1]))
    w = np.ones(ends[-1])
    hyper = hyper_vector([], learning_rate=0.5, weight_decay=0.25, factors=segments)
    lengths = np.diff(ends, prepend=0)
    rates = 0.5 * np.repeat([rate for _, rate, _ in segments], lengths)
    assert_array_equal(learning_rates(w, hyper), rates)
    assert_array_equal(weight_decays(w, hyper), 0.25 * np.repeat([decay for *_, decay in segments], lengths))
    backend = gf.MLP([1, 1], backend="numpy").backend
    arguments = {
        "gradients": np.ones_like(w),
        "hyper": hyper,
        "gradient_scale": np.ones(1),
        "clock": np.array([1, 0, 0, 2**62]),
        "n_decayed": n_decayed,
    }
    rule = gf.GradientDescent(0.5).op
    backend.bind(rule, rule.arguments(w, **arguments))()
    assert_array_equal(w, 1 - rates)


def test_names_of_a_parameter() -> None:
    layers = network().layers
    assert names_of(layers, "2.0.weight") == {
        "2", "2.0", "2.0.weight", "weight", "Residual", "Residual.weight", "Dense", "Dense.weight",
    }  # fmt: skip
    assert names_of(layers, "1.gamma") == {"1", "1.gamma", "gamma", "LayerNorm", "LayerNorm.gamma"}


def changes(optimizer: gf.Optimizer, backend: str, **settings: Any) -> dict[str, np.ndarray]:
    of = network(backend, dtype="float64")
    before = of.get_weights()
    trainer = gf.Trainer(of, "softmax_cross_entropy", optimizer, **settings)
    trainer.fit(X, LABELS, epochs=1, batch_size=None, progress=False)
    return {name: weight - before[name] for name, weight in of.get_weights().items()}


FACTORS = {"0": 0.5, "bias": 0.25, "LayerNorm": 6, "2.0.weight": 3}
PRODUCTS = {"0.weight": 0.5, "0.bias": 0.125, "1.gamma": 6, "1.beta": 6, "2.0.weight": 3, "2.0.bias": 0.25,
            "3.weight": 1, "3.bias": 0.25}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1, "l2": 0.1}, {"clip_value": 0.01, "average": 0.5}])
def test_a_step_of_gradient_descent_is_multiplied(settings: dict[str, Any], backend_name: str) -> None:
    plain = changes(gf.GradientDescent(0.1), backend_name, **settings)
    with_factors = changes(gf.GradientDescent(0.1, factors=FACTORS), backend_name, **settings)
    for name, change in with_factors.items():
        assert_allclose(change, PRODUCTS[name] * plain[name], rtol=1e-12, atol=1e-16)


def test_factors_of_weight_decay(backend_name: str) -> None:
    plain = changes(gf.Adam(0.01), backend_name)
    decayed = changes(gf.AdamW(0.01, weight_decay=0.5, decay_factors={"0": 2, "3": 0}), backend_name)
    before = network(dtype="float64").get_weights()
    for name, factor in (("0.weight", 2), ("2.0.weight", 1), ("3.weight", 0), ("0.bias", 0)):
        assert_allclose(decayed[name] - plain[name], -0.01 * 0.5 * factor * before[name], rtol=1e-9, atol=1e-15)


def test_factors_follow_frozen_layers(backend_name: str) -> None:
    def trained(**settings: Any) -> dict[str, np.ndarray]:
        of = network(backend_name, dtype="float64")
        of.frozen = [0]
        before = of.get_weights()
        gf.Trainer(of, "softmax_cross_entropy", gf.GradientDescent(0.1, **settings)).fit(
            X, LABELS, epochs=1, batch_size=None, progress=False
        )
        return {name: weight - before[name] for name, weight in of.get_weights().items()}

    plain, with_factors = trained(), trained(factors=FACTORS)
    for name, change in with_factors.items():
        assert_allclose(change, (0 if name.startswith("0") else PRODUCTS[name]) * plain[name], rtol=1e-12, atol=1e-16)


def test_factors_that_are_all_one_change_nothing(backend_name: str) -> None:
    plain = changes(gf.Adam(0.01), backend_name)
    for name, change in changes(gf.Adam(0.01, factors={"0": 1.0}), backend_name).items():
        assert_array_equal(change, plain[name])


def test_a_run_with_factors_is_described_repeated_and_resumed(tmp_path: Path) -> None:
    optimizer = gf.AdamW(gf.CosineSchedule(0.1), factors={"0": 0.5}, decay_factors={"Dense": 3})
    arguments: dict[str, Any] = {"epochs": 4, "progress": False}

    def trainer(**others: Any) -> gf.Trainer:
        return gf.Trainer(network(), "softmax_cross_entropy", others.get("optimizer", optimizer))

    trainer().fit(X, LABELS, output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=2), **arguments)
    saved = json.loads((tmp_path / "config.json").read_text())["optimizer"]
    assert (saved["factors"], saved["decay_factors"]) == ({"0": 0.5}, {"Dense": 3.0})
    assert "factors={'0': 0.5}" in repr(optimizer)
    assert gf.repeat(tmp_path, X, LABELS).is_same
    with pytest.raises(gf.DataError, match="factors"):
        trainer(optimizer=gf.AdamW(gf.CosineSchedule(0.1))).fit(X, LABELS, resume=tmp_path, **arguments)


def test_members_of_a_pack_have_factors_of_their_own() -> None:
    factors: list[dict[str, float] | None] = [None, {"0": 0.1}, {"bias": 2.0}]
    pack = gf.Pack(
        [gf.Trainer(network(), "softmax_cross_entropy", gf.Adam(0.01, factors=of_member)) for of_member in factors]
    )
    pack.fit(X, LABELS, epochs=3, progress=False)
    for member, of_member in zip(pack, factors, strict=True):
        alone = network()
        gf.Trainer(alone, "softmax_cross_entropy", gf.Adam(0.01, factors=of_member)).fit(
            X, LABELS, epochs=3, progress=False
        )
        for name, weight in alone.get_weights().items():
            assert_array_equal(member.get_weights()[name], weight)


@pytest.fixture
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def test_factors_would_have_no_effect_on_a_rule_of_the_user(registries: None) -> None:
    @op(shapes="parameters, gradients: n; hyper: *any; gradient_scale: 1; clock: 4", writes=("parameters",))
    def half_descent(  # type: ignore[no-untyped-def]
        parameters, gradients, hyper, gradient_scale, clock, n_decayed
    ) -> None:
        """w -= rate g / 2"""
        if not has_diverged(clock):
            g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
            parameters -= float(hyper[0]) / 2 * g

    class Half(gf.GradientDescent):
        op = half_descent

    with pytest.raises(gf.DataError, match=r"factors have no effect on the op 'half_descent' of Half; omit them"):
        gf.Trainer(network(), "softmax_cross_entropy", Half(0.1, factors={"0": 0.1}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": {"biases": 0.1}}, "unknown layer or parameter in factors 'biases'. Did you mean 'bias'"),
        ({"factors": {"4": 0.1}}, "unknown layer or parameter in factors '4'"),
        ({"decay_factors": {"Dens": 0.1}}, "unknown layer or parameter in decay_factors 'Dens'. Did you mean 'Dense'"),
        ({"decay_factors": {"bias": 0.1}}, "weight decay applies to weights, and 'bias' names none; omit it"),
        ({"factors": {"0": 0}}, r"factors\['0'\] must be above 0, got 0"),
        ({"factors": {"0": "slow"}}, r"factors\['0'\] must be a finite number above 0, got 'slow'"),
        ({"decay_factors": {"0": -1}}, r"decay_factors\['0'\] must be at least 0, got -1"),
        ({"factors": {0: 0.1}}, "factors must be a dict of numbers by layer or kind of parameter"),
        ({"factors": 0.1}, "factors must be a dict of numbers by layer or kind of parameter"),
    ],
)
def test_wrong_factors_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        gf.Trainer(network(), "softmax_cross_entropy", gf.AdamW(**settings))
