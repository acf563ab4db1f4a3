"""JAX on a GPU, with float32 GEMMs in full precision. JAX has no events, so times are wall-clock times."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

# Otherwise JAX takes three quarters of the GPU's memory, which the other contestants need.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import jax
import jax.numpy as jnp

from benchmarks.contestants import jax_for_gpu
from benchmarks.contestants.with_jax import Jax
from benchmarks.networks import Network

jax.config.update("jax_default_matmul_precision", "highest")


class JaxOnGpu(Jax):
    """JAX with batches, parameters and optimizer state on the GPU.

    Raises:
        RuntimeError: if JAX finds no GPU.
    """

    def __init__(self, network: Network, optimizer: str) -> None:
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"this JAX finds no GPU; install {jax_for_gpu()}")
        super().__init__(network, optimizer)

    def device_seconds(self) -> float:
        """Return the time to train on all batches once, from the first call until the last result is available."""
        began = time.perf_counter()
        self.train()
        return time.perf_counter() - began


class ScannedJaxOnGpu(JaxOnGpu):
    """`JaxOnGpu` with all steps of an epoch in one call: `jax.lax.scan` over the batches."""

    def __init__(self, network: Network, optimizer: str) -> None:
        super().__init__(network, optimizer)
        self._stacked = _stacked(self._batches)

        @partial(jax.jit, donate_argnums=(0, 1))
        def steps(parameters: Any, state: Any, batches: Any) -> tuple[Any, Any, jax.Array]:
            def step(carry: Any, batch: Any) -> tuple[Any, jax.Array]:
                *carry, loss = self._step(*carry, *batch)
                return tuple(carry), loss

            (parameters, state), losses = jax.lax.scan(step, (parameters, state), batches)
            return parameters, state, losses

        self._steps = steps

    def train(self) -> None:
        self._parameters, self._state, _ = self._steps(self._parameters, self._state, self._stacked)
        jax.block_until_ready(self._parameters)

    def losses(self, steps: int) -> list[float]:
        batches = _stacked([(jnp.asarray(x), jnp.asarray(y)) for x, y in self._described.first_batches(steps)])
        self._parameters, self._state, losses = self._steps(self._parameters, self._state, batches)
        return [float(loss) for loss in losses]


def _stacked(batches: list[tuple[jax.Array, jax.Array]]) -> tuple[jax.Array, ...]:
    return tuple(map(jnp.stack, zip(*batches, strict=True)))
