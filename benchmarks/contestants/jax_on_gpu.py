"""JAX on a GPU, with float32 products in full precision. It has no events: time is that of the clock on the wall."""

from __future__ import annotations

import jax

from benchmarks.contestants.with_jax import Jax
from benchmarks.worker import seconds_of

__all__ = ["JaxOnGpu"]

jax.config.update("jax_default_matmul_precision", "highest")


class JaxOnGpu(Jax):
    """Batches, parameters and optimizer state lie on the default device, which is the GPU where JAX has one."""

    def device_seconds(self) -> float:
        """The time of a pass over all batches, from the first call until the last result is there."""
        return seconds_of(self.train, 1)
