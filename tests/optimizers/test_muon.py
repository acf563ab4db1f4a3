"""Muon: against PyTorch's on a whole network, and through everything that a training may consist of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.executors import Eager
from gradflow.optimizers.muon import _orthogonalized
from tests.registries import forgotten

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(60, 5))
Y = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1)
SIZES = [5, 12, 7, 2]
BACKENDS = pytest.mark.parametrize("backend", ["reference", "numpy", pytest.param("cupy", marks=pytest.mark.gpu)])


def network(backend: str = "numpy", dtype: str = "float64") -> gf.Sequential:
    return gf.MLP(SIZES, "tanh", seed=1, backend=backend, dtype=dtype)


def trained(of: gf.Sequential, optimizer: gf.Optimizer, *, epochs: int = 4, **arguments: Any) -> dict[str, np.ndarray]:
    names = {"l2", "l1", "clip_norm", "clip_value", "average", "precision"} & arguments.keys()
    trainer = gf.Trainer(of, "mean_squared_error", optimizer, **{name: arguments.pop(name) for name in names})
    trainer.fit(X, Y, epochs=epochs, progress=False, **{"batch_size": 20, "shuffle": False, **arguments})
    return of.get_weights()


def orthogonalized(x: np.ndarray) -> np.ndarray:
    """The iterations as in Keller Jordan's post."""
    x = x / max(np.linalg.norm(x), 1e-7)
    if is_high := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if is_high else x


@pytest.mark.peers
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@BACKENDS
def test_matches_pytorch(backend: str, nesterov: bool, adjust: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # PyTorch iterates in bfloat16, whatever the dtype of the matrices.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    own = network(backend)
    start = own.get_weights()
    layers = [torch.nn.Linear(n_in, n_out, dtype=torch.float64) for n_in, n_out in pairwise(SIZES)]
    for place, layer in enumerate(layers):
        layer.weight.data = torch.tensor(start[f"{2 * place}.weight"].T.copy())
        layer.bias.data = torch.tensor(start[f"{2 * place}.bias"])
    muon = torch.optim.Muon(
        [layer.weight for layer in layers[:2]],
        lr=0.03, weight_decay=0.2, momentum=0.8, nesterov=nesterov, adjust_lr_fn=adjust,
    )  # fmt: skip
    adamw = torch.optim.AdamW(
        [
            {"params": [layers[2].weight], "weight_decay": 0.2 * 0.5},
            {"params": [layer.bias for layer in layers], "weight_decay": 0.0},
        ],
        lr=0.03 * 0.1, betas=(0.8, 0.95), eps=1e-6,
    )  # fmt: skip
    inputs, targets = torch.tensor(X), torch.tensor(Y)
    for step in range(12):
        rows = slice(20 * (step % 3), 20 * (step % 3) + 20)
        for other in (muon, adamw):
            other.zero_grad()
        hidden = torch.tanh(layers[1](torch.tanh(layers[0](inputs[rows]))))
        torch.nn.functional.mse_loss(layers[2](hidden), targets[rows]).backward()
        for other in (muon, adamw):
            other.step()
    optimizer = gf.Muon(
        0.03, 0.8, 0.2, nesterov=nesterov, adjust=adjust,
        adamw_factor=0.1, adamw_decay_factor=0.5, beta1=0.8, beta2=0.95, epsilon=1e-6,
    )  # fmt: skip
    weights = trained(own, optimizer)
    for place, layer in enumerate(layers):
        assert_allclose(weights[f"{2 * place}.weight"].T, layer.weight.detach().numpy(), rtol=1e-9, atol=1e-12)
        assert_allclose(weights[f"{2 * place}.bias"], layer.bias.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.peers
def test_pytorch_iterates_in_bfloat16() -> None:
    import torch

    gradient = RANDOM.normal(size=(6, 9)).astype(np.float32)
    weight = torch.nn.Parameter(torch.zeros(6, 9))
    weight.grad = torch.tensor(gradient)
    torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0).step()
    result = -weight.detach().numpy()
    assert_array_equal(result, torch.tensor(result).bfloat16().float().numpy())
    assert_allclose(result, orthogonalized(gradient), atol=0.05)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_iterations_bring_singular_values_close_to_1(rows: int, columns: int, seed: int) -> None:
    backend, x = get_backend("numpy"), np.random.default_rng(seed).normal(size=(rows, columns))
    side = min(rows, columns)
    x /= np.linalg.norm(x)
    expected = orthogonalized(x)
    scratch = np.zeros_like(x), np.zeros((side, side)), np.zeros((side, side))
    result = _orthogonalized(Eager(backend), x.copy(), *scratch)
    assert_allclose(result, expected, rtol=1e-10, atol=1e-12)
    before, after = (np.linalg.svd(matrix, compute_uv=False) for matrix in (x, result))
    assert ((after > 0.6) & (after < 1.3))[before > 0.03].all()


def test_what_is_a_matrix() -> None:
    inner = [gf.Dense(4, 4), gf.ReLU(), gf.Dense(4, 6)]
    layers = [
        gf.Dense(3, 4),
        gf.LayerNorm(4),
        gf.Residual(inner),
        gf.Parametric(6, "selu"),
        gf.Dense(6, 2),
        gf.Softmax(),
    ]
    of = gf.Sequential(layers, backend="numpy")

    def matrices(**arguments: Any) -> set[str]:
        found = gf.Muon(**arguments)._shapes(of.layers, of.parameter_ranges)
        return {name for name, shape in found.items() if of.get_weights()[name].shape == shape}

    hidden = {"0.weight", "2.0.weight", "2.2.weight", "2.projection.weight"}
    assert matrices() == hidden
    assert matrices(output_layer=True) == {*hidden, "4.weight"}
    of.frozen = [0]
    assert matrices() == hidden - {"0.weight"}
    tabm = gf.TabM([3, 5, 5, 2], members=4, backend="numpy")
    found = gf.Muon()._shapes(tabm.layers, tabm.parameter_ranges)
    assert sorted(found.values()) == [(3, 5), (5, 5)]


@BACKENDS
def test_networks_of_all_kinds_of_layers(backend: str) -> None:
    def layers() -> list[gf.Layer]:
        inner = [gf.Dense(9, 6), gf.BatchNorm(6), gf.ReLU(), gf.Dense(6, 9)]
        return [gf.CosineEmbedding(5, size=4), gf.Dense(20, 9), gf.LayerNorm(9), gf.Residual(inner), gf.Dense(9, 2)]

    def weights(backend: str) -> dict[str, np.ndarray]:
        return trained(gf.Sequential(layers(), seed=2, backend=backend, dtype="float64"), gf.Muon(), clip_norm=0.5)

    for name, weight in weights(backend).items():
        assert_allclose(weight, weights("reference")[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("clipping", [{"clip_value": 0.2}, {"clip_norm": 0.7}])
@BACKENDS
def test_factors_schedules_penalties_and_clipping(backend: str, clipping: dict[str, float]) -> None:
    optimizer = gf.Muon(
        gf.CosineSchedule(0.05, warmup=1),
        weight_decay=gf.CosineSchedule(0.2),
        factors={"0": 0.5, "bias": 2},
        decay_factors={"2": 3},
    )
    arguments: dict[str, Any] = {"l2": 0.1, "l1": 0.01, "average": 0.9, "accumulate": 2, **clipping}
    result = trained(network(backend), optimizer, **arguments)
    expected = trained(network("reference"), optimizer, **arguments)
    for name, weight in result.items():
        assert_allclose(weight, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


@BACKENDS
def test_factors_multiply_the_step_of_a_matrix_and_its_decay(backend: str) -> None:
    def change(**arguments: Any) -> dict[str, np.ndarray]:
        of = network(backend)
        start = of.get_weights()
        after = trained(of, gf.Muon(0.1, **arguments), epochs=1, batch_size=None)
        return {name: weight - start[name] for name, weight in after.items()}

    start = network().get_weights()
    plain, slow = change(weight_decay=0.0), change(weight_decay=0.0, factors={"0": 0.25, "4": 0.5})
    factors = {"0.weight": 0.25, "0.bias": 0.25, "4.weight": 0.5, "4.bias": 0.5}
    for name, value in slow.items():
        assert_allclose(value, factors.get(name, 1.0) * plain[name], rtol=1e-12)
    decayed = change(weight_decay=0.5, adamw_decay_factor=4.0, decay_factors={"2": 2})
    decay = {"0.weight": 0.05, "2.weight": 0.1, "4.weight": 0.1 * 0.05 * 2.0}
    for name, value in decayed.items():
        assert_allclose(value - plain[name], -decay.get(name, 0.0) * start[name], rtol=1e-9, atol=1e-14)


@BACKENDS
def test_a_training_resumed_has_the_bits_of_one_that_was_not(backend: str, tmp_path: Path) -> None:
    checkpoint = gf.Checkpoint(every_epochs=2)
    whole = trained(network(backend, "float32"), gf.Muon(), epochs=4)
    trained(network(backend, "float32"), gf.Muon(), epochs=2, output=tmp_path, checkpoint=checkpoint)
    resumed = trained(network(backend, "float32"), gf.Muon(), epochs=4, resume=tmp_path)
    for name, weight in resumed.items():
        assert_array_equal(weight, whole[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_members_of_a_pack_have_the_bits_of_single_fits(dtype: str) -> None:
    optimizers = [gf.Muon(0.02), gf.Muon(0.05, adamw_factor=0.2), gf.Muon(0.01, weight_decay=0.3), gf.Adam(0.01)]
    pack = gf.Pack([gf.Trainer(network(dtype=dtype), "mean_squared_error", optimizer) for optimizer in optimizers])
    pack.fit(X, Y, epochs=4, batch_size=20, shuffle=False, progress=False)
    for member, optimizer in zip(pack, optimizers, strict=True):
        for name, weight in trained(network(dtype=dtype), optimizer).items():
            assert_array_equal(member.get_weights()[name], weight)


@pytest.mark.gpu
@pytest.mark.parametrize("members", [2, 40])
def test_members_of_a_pack_on_a_gpu(members: int) -> None:
    rates = np.geomspace(0.005, 0.05, members)
    pack = gf.Pack([gf.Trainer(network("cupy"), "mean_squared_error", gf.Muon(rate)) for rate in rates])
    pack.fit(X, Y, epochs=2, batch_size=20, shuffle=False, progress=False)
    for place in (0, members - 1):
        for name, weight in trained(network(), gf.Muon(rates[place]), epochs=2).items():
            assert_allclose(pack[place].get_weights()[name], weight, rtol=1e-8, atol=1e-10)


@BACKENDS
def test_a_gradient_of_zero_changes_no_matrix_and_one_that_is_not_finite_ends_the_training(backend: str) -> None:
    of = network(backend)
    start = of.get_weights()
    zeros = {name: np.zeros_like(weight) if name.startswith("4") else weight for name, weight in start.items()}
    of.set_weights(zeros)
    trainer = gf.Trainer(of, "mean_squared_error", gf.Muon(weight_decay=0.0))
    trainer.fit(X, np.zeros_like(Y), epochs=1, progress=False)
    assert_array_equal(of.get_weights()["0.weight"], start["0.weight"])
    with pytest.raises(gf.DivergedError):
        trainer.fit(X, 1e200 * Y, epochs=1, progress=False)
    assert all(np.isfinite(weight).all() for weight in of.get_weights().values())


@pytest.fixture
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


@BACKENDS
def test_subclasses_of_the_user_are_muon_too(backend: str, registries: None) -> None:
    class Renamed(gf.Muon):
        pass

    class Wrapped(gf.Muon):
        def step(self, *arguments: Any, **settings: Any) -> None:
            super().step(*arguments, **settings)

    expected = trained(network(backend), gf.Muon())
    makers: list[Callable[[], gf.Muon]] = [Renamed, Wrapped]
    for make in makers:
        for name, weight in trained(network(backend), make()).items():
            assert_array_equal(weight, expected[name])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "tf32"])
def test_low_precision(precision: str) -> None:
    expected = trained(network("cupy", "float32"), gf.Muon(), epochs=2)
    for name, weight in trained(network("cupy", "float32"), gf.Muon(), epochs=2, precision=precision).items():
        assert_allclose(weight, expected[name], atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1}, "momentum must be at least 0 and below 1, got 1"),
        ({"nesterov": 1}, "nesterov must be True or False, got 1"),
        ({"adjust": "rms"}, "unknown adjust 'rms'"),
        ({"output_layer": "yes"}, "output_layer must be True or False, got 'yes'"),
        ({"adamw_factor": 0}, "adamw_factor must be above 0, got 0"),
        ({"adamw_decay_factor": -1}, "adamw_decay_factor must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        gf.Muon(**arguments)
