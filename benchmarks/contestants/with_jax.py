"""JAX: one jitted step with donated parameters and optimizer state, so that it can update them in place."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import LEARNING_RATES, Network

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def _logits(parameters: Any, x: jax.Array) -> jax.Array:
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[-1]
    return x @ weight + bias


def _mean_loss(parameters: Any, x: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the squared error of a column of values, or the cross-entropy of labels."""
    outputs = _logits(parameters, x)
    if targets.ndim == 2:
        return jnp.mean((outputs - targets) ** 2) / 2
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], axis=1).mean()


@partial(jax.jit, donate_argnums=(0, 1))
def _sgd(parameters: Any, state: Any, x: jax.Array, targets: jax.Array) -> tuple[Any, Any, jax.Array]:
    loss, gradients = jax.value_and_grad(_mean_loss)(parameters, x, targets)
    return jax.tree.map(lambda w, g: w - LEARNING_RATES["sgd"] * g, parameters, gradients), state, loss


@partial(jax.jit, donate_argnums=(0, 1))
def _adam(parameters: Any, state: Any, x: jax.Array, targets: jax.Array) -> tuple[Any, Any, jax.Array]:
    loss, gradients = jax.value_and_grad(_mean_loss)(parameters, x, targets)
    step, m, v = state
    step = step + 1
    m = jax.tree.map(lambda old, g: _BETA1 * old + (1 - _BETA1) * g, m, gradients)
    v = jax.tree.map(lambda old, g: _BETA2 * old + (1 - _BETA2) * g * g, v, gradients)

    def updated(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        root = jnp.sqrt(v / (1 - _BETA2**step)) + _EPSILON
        return w - LEARNING_RATES["adam"] * (m / (1 - _BETA1**step)) / root

    return jax.tree.map(updated, parameters, m, v), (step, m, v), loss


@partial(jax.jit, donate_argnums=(0, 1))
def _epoch_of_many(parameters: Any, state: Any, x: jax.Array, targets: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Train all members for an epoch, over batches (steps, batch, ...); return their mean losses too."""

    def step(carried: Any, batch: Any) -> tuple[Any, jax.Array]:
        *carried, losses = jax.vmap(_adam, in_axes=(0, 0, None, None))(*carried, *batch)
        return tuple(carried), losses

    (parameters, state), losses = jax.lax.scan(step, (parameters, state), (x, targets))
    return parameters, state, losses.mean(axis=0)


_predict = jax.jit(_logits)


def train_many(network: Network, members: int, epochs: int) -> list[float]:
    """Train many members with Adam, by vmap over a scanned epoch; return the mean losses of the last one's epochs."""
    batches = list(network.batches())
    x, targets = (jnp.asarray(np.stack(arrays)) for arrays in zip(*batches, strict=True))
    parameters = jax.tree.map(lambda w: jnp.array(np.stack([w] * members)), network.initial_parameters())
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    state: Any = (jnp.zeros(members, jnp.float32), *zeros)
    losses = []
    for _ in range(epochs):
        parameters, state, of_members = _epoch_of_many(parameters, state, x, targets)
        losses.append(float(of_members[-1]))
    return losses


class Jax:
    """JAX with batches on the device and one call of a jitted function per step."""

    def __init__(self, network: Network, optimizer: str) -> None:
        self._batches = [(jnp.asarray(x), jnp.asarray(targets)) for x, targets in network.batches()]
        self._described = network
        # Copies, because arrays that JAX shares with NumPy cannot be donated.
        self._parameters = jax.tree.map(partial(jnp.array, copy=True), network.initial_parameters())
        zeros = [jax.tree.map(jnp.zeros_like, self._parameters) for _ in range(2)]
        self._state: Any = (jnp.zeros((), jnp.float32), *zeros) if optimizer == "adam" else ()
        self._step = {"adam": _adam, "sgd": _sgd}[optimizer]
        self._row = network.data()[0][:1]

    def train(self) -> None:
        for x, targets in self._batches:
            self._parameters, self._state, _ = self._step(self._parameters, self._state, x, targets)
        jax.block_until_ready(self._parameters)

    def losses(self, steps: int) -> list[float]:
        measured = []
        for x, targets in self._described.first_batches(steps):
            self._parameters, self._state, loss = self._step(self._parameters, self._state, x, targets)
            measured.append(float(loss))
        return measured

    def predict_one(self) -> None:
        np.asarray(_predict(self._parameters, self._row))
