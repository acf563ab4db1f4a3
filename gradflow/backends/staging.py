"""How batches that are made on the host reach the steps: two buffers on the host take turns, one lies on the device."""

from __future__ import annotations

import numpy as np

from gradflow.ops import Array

__all__ = ["Staging"]


class Staging:
    """Buffers of bytes on the CPU. One host buffer can be filled while the other is brought over.

    Attributes:
        host: uint8 (n_bytes,), twice: what the host fills in turn.
        device: uint8 (n_bytes,): what the ops of a step read.
    """

    def __init__(self, n_bytes: int) -> None:
        self.host = (np.empty(n_bytes, np.uint8), np.empty(n_bytes, np.uint8))
        self.device: Array = np.empty(n_bytes, np.uint8)

    def bring(self, index: int) -> None:
        """Put what lies in a host buffer into the device buffer, behind the work so far and ahead of all that comes."""
        np.copyto(self.device, self.host[index])

    def wait_until_brought(self, index: int) -> None:
        """Return once the host buffer may be filled again. Another thread than that which brings may call it."""
