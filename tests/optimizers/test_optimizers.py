"""Every optimizer: compared with PyTorch for 1 and 10 steps, at ordinary and absurd rates; by hand; and invalid
arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.clock import RunStatus
from gradflow.executors import Eager
from gradflow.names import is_built_in
from gradflow.ops import STEP
from gradflow.optimizers import OPTIMIZERS, Optimizer, get_optimizer
from gradflow.optimizers.base import hyper_vector
from gradflow.optimizers.clipping import GradientClipping
from gradflow.optimizers.factors import Segment
from tests.optimizers.cases import OPTIMIZER_CASES

N, N_DECAYED = 37, 25


def test_every_optimizer_has_a_case() -> None:
    # L-BFGS is not an update rule: tests/training/step/test_lbfgs.py
    shipped = {name for name, rule in OPTIMIZERS.items() if is_built_in(rule)}
    assert {name.split()[0] for name in OPTIMIZER_CASES} == shipped - {"lbfgs"}


def updated(
    optimizer: Optimizer,
    parameters: np.ndarray,
    gradients: np.ndarray,
    backend_name: str,
    *,
    l2: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float = np.inf,
    factors: Sequence[Segment] = (),
) -> np.ndarray:
    """Return the parameters after one step for each row of gradients; the first N_DECAYED are weights."""
    backend = get_backend(backend_name)
    ops, status, dtype = Eager(backend), RunStatus(backend), parameters.dtype
    w = backend.from_host(parameters.copy())
    state = {name: backend.zeros(N, dtype) for name in optimizer.state}
    settings = {"learning_rate": optimizer.learning_rate, "weight_decay": optimizer.weight_decay, "factors": factors}
    hyper = backend.from_host(hyper_vector(optimizer.hyper(), l2=l2, l1=l1, clip_value=clip_value, **settings))
    scale = backend.from_host(np.ones(1, dtype))
    clipping = GradientClipping(backend, N, clip_norm) if clip_norm is not None else None
    for step, g in enumerate(gradients, start=1):
        clock = backend.to_host(status.clock)
        clock[STEP] = step
        backend.copy(backend.from_host(clock), status.clock)
        g_on_device = backend.from_host(g.astype(dtype))
        if clipping is not None:
            clipping.apply(ops, w, g_on_device, hyper, scale, N_DECAYED)
        optimizer.step(ops, w, g_on_device, state, hyper, scale, status.clock, N_DECAYED)
    return backend.to_host(w)


@pytest.mark.peers
@pytest.mark.parametrize("rate", [1e-8, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_matches_pytorch(name: str, dtype: str, steps: int, rate: float, backend_name: str) -> None:
    import torch

    case = OPTIMIZER_CASES[name]
    rng = np.random.default_rng(2)
    parameters = rng.normal(size=N).astype(dtype)
    gradients = rng.normal(size=(steps, N)).astype(dtype)
    gradients[:, 0] = 0.0

    weights, biases = (torch.tensor(part.copy()) for part in (parameters[:N_DECAYED], parameters[N_DECAYED:]))
    groups = [{"params": [weights], "weight_decay": case.decay}, {"params": [biases]}]
    groups[1]["weight_decay"] = 0.0
    optimizer = case.in_torch(torch.optim, groups, rate)
    for g in gradients:
        weights.grad, biases.grad = (torch.tensor(part.copy()) for part in (g[:N_DECAYED], g[N_DECAYED:]))
        optimizer.step()
    expected = torch.cat([weights, biases]).numpy()

    result = updated(case.make(rate), parameters, gradients, backend_name)
    # Each step rounds a few times at the size of its increment.
    epsilon = np.finfo(dtype).eps
    size = np.abs(expected).max() if case.decay else max(1.0, rate)
    assert_allclose(result, expected, rtol=16 * steps * epsilon, atol=16 * steps * epsilon * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_a_weight_that_is_not_finite_makes_the_next_step_bad(name: str, dtype: str, backend_name: str) -> None:
    backend, n = get_backend(backend_name), 1000
    ops, status, optimizer = Eager(backend), RunStatus(backend), OPTIMIZER_CASES[name].make(0.1)
    hyper = backend.from_host(hyper_vector(optimizer.hyper(), learning_rate=0.1, weight_decay=optimizer.weight_decay))
    scale = backend.from_host(np.ones(1, dtype))

    def stepped(step: int, gradients: np.ndarray) -> np.ndarray:
        status.begin(epoch=0, step=step)
        w = backend.from_host(np.ones(n, dtype))
        state = {name: backend.zeros(n, dtype) for name in optimizer.state}
        optimizer.step(ops, w, backend.from_host(gradients), state, hyper, scale, status.clock, 700)
        return backend.to_host(w)

    assert (stepped(3, np.ones(n, dtype)) < 1).all()
    assert status.read().first_bad_step is None
    for place in (0, 1, 699, 700, 997, n - 1):
        gradients = np.ones(n, dtype)
        gradients[place] = np.nan
        w = stepped(3, gradients)
        assert status.read().first_bad_step == 4
        assert_array_equal(np.flatnonzero(np.isnan(w)), place)
        assert (np.delete(w, place) < 1).all()  # the rest of the step is complete, whatever ran first


def test_gradient_descent_by_hand(backend_name: str) -> None:
    parameters, gradient = np.arange(N) / 8, np.ones((1, N))
    result = updated(gf.GradientDescent(0.25), parameters, gradient, backend_name, l2=0.5)
    expected = parameters - 0.25
    expected[:N_DECAYED] -= 0.25 * 0.5 * parameters[:N_DECAYED]
    assert_allclose(result, expected, rtol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_l2_is_the_penalty_added_to_the_gradient(name: str, backend_name: str) -> None:
    rng = np.random.default_rng(3)
    parameters, gradient = rng.normal(size=N), rng.normal(size=(1, N))
    penalty = np.where(np.arange(N) < N_DECAYED, 0.4 * parameters, 0)
    make = OPTIMIZER_CASES[name].make
    result = updated(make(0.1), parameters, gradient, backend_name, l2=0.4)
    expected = updated(make(0.1), parameters, gradient + penalty, "reference")
    assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_l1_is_the_sign_of_weights_added_to_the_gradient(name: str, backend_name: str) -> None:
    rng = np.random.default_rng(6)
    parameters, gradient = rng.normal(size=N), rng.normal(size=(1, N))
    parameters[3] = 0
    penalty = np.where(np.arange(N) < N_DECAYED, 0.4 * np.sign(parameters) + 0.1 * parameters, 0)
    make = OPTIMIZER_CASES[name].make
    result = updated(make(0.1), parameters, gradient, backend_name, l1=0.4, l2=0.1)
    expected = updated(make(0.1), parameters, gradient + penalty, "reference")
    assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_clipping_by_value_holds_each_entry_of_the_regularized_gradient(name: str, backend_name: str) -> None:
    rng = np.random.default_rng(7)
    parameters, gradient = rng.normal(size=N), rng.normal(size=(1, N))
    g = gradient[0] + np.where(np.arange(N) < N_DECAYED, 0.4 * parameters, 0)
    make = OPTIMIZER_CASES[name].make
    result = updated(make(0.1), parameters, gradient, backend_name, l2=0.4, clip_value=0.5)
    expected = updated(make(0.1), parameters, np.clip(g, -0.5, 0.5)[None], "reference")
    assert (abs(g) > 0.5).sum() in range(5, N - 5)
    assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("clip_norm", [0.5, 1e3])
def test_clipping_scales_the_whole_regularized_gradient(clip_norm: float, backend_name: str) -> None:
    rng = np.random.default_rng(4)
    parameters, gradient = rng.normal(size=N), rng.normal(size=(1, N))
    g = gradient[0] + np.where(np.arange(N) < N_DECAYED, 0.4 * parameters, 0)
    expected = parameters - 0.1 * g * min(1, clip_norm / np.linalg.norm(g))
    result = updated(gf.SGD(0.1), parameters, gradient, backend_name, l2=0.4, clip_norm=clip_norm)
    assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.peers
def test_clipping_matches_pytorch(backend_name: str) -> None:
    import torch

    rng = np.random.default_rng(5)
    parameters, gradient = rng.normal(size=N), rng.normal(size=(1, N)) * 10
    tensor = torch.tensor(parameters.copy())
    tensor.grad = torch.tensor(gradient[0].copy())
    torch.nn.utils.clip_grad_norm_([tensor], 1.5)
    expected = parameters - 0.1 * tensor.grad.numpy()
    result = updated(gf.SGD(0.1), parameters, gradient, backend_name, clip_norm=1.5)
    assert_allclose(result, expected, rtol=1e-6)  # PyTorch adds 1e-6 to the norm


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.SGD(-0.1), "learning_rate must be above 0, got -0.1"),
        (lambda: gf.SGD(0), "learning_rate must be above 0, got 0"),
        (lambda: gf.SGD(float("nan")), "learning_rate must be a finite number"),
        (lambda: gf.SGD("fast"), "learning_rate must be a finite number above 0, got 'fast'"),
        (lambda: gf.SGD(0.1, momentum=1.0), "momentum must be at least 0 and below 1"),
        (lambda: gf.SGD(0.1, nesterov=True), "needs momentum above 0"),
        (lambda: gf.Adam(beta1=1.0), "beta1 must be at least 0 and below 1"),
        (lambda: gf.Adam(beta2=-0.1), "beta2 must be at least 0 and below 1"),
        (lambda: gf.Adam(epsilon=0), "epsilon must be above 0"),
        (lambda: gf.Adam(epsilon_hat=-1e-8), "epsilon_hat must be at least 0"),
        (lambda: gf.AdamW(weight_decay=-1), "weight_decay must be at least 0"),
        (lambda: gf.RMSprop(beta=1.0), "beta must be at least 0 and below 1"),
        (lambda: gf.RMSprop(epsilon=0), "epsilon must be above 0"),
        (lambda: gf.Adagrad(epsilon=-1), "epsilon must be above 0"),
        (lambda: gf.Lion(beta1=1), "beta1 must be at least 0 and below 1"),
        (lambda: gf.Lion(beta2=1), "beta2 must be at least 0 and below 1"),
        (lambda: gf.Lion(weight_decay=-1), "weight_decay must be at least 0"),
        (lambda: get_optimizer("adm"), "Did you mean 'adam'"),
        (lambda: get_optimizer(3), "optimizer must be a name or a gradflow Optimizer, got 3 of type int"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        make()


def test_a_name_takes_the_default_or_the_given_rate() -> None:
    assert get_optimizer("adam").learning_rate == 1e-3
    assert get_optimizer("sgd").learning_rate == 0.01
    assert get_optimizer("sgd", 0.5).learning_rate == 0.5
