"""JAX on a GPU, with float32 GEMMs in full precision. JAX has no events, so times are wall-clock times."""

from __future__ import annotations

import jax

from benchmarks.contestants.with_jax import Jax
from benchmarks.worker import seconds_of

jax.config.update("jax_default_matmul_precision", "highest")


class JaxOnGpu(Jax):
    """JAX with batches, parameters and optimizer state on the default device, which is the GPU if JAX finds one."""

    def device_seconds(self) -> float:
        """Return the time to train on all batches once, from the first call until the last result is available."""
        return seconds_of(self.train, 1)
