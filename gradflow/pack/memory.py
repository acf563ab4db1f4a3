"""Memory of a pack, checked before it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from gradflow.errors import DataError
from gradflow.training.trainer import Trainer

_MEMORY = Path("/proc/meminfo")


def check_memory(needed: Sequence[int], what: str) -> None:
    """Raise if so much memory is not available here, where the system tells (Linux).

    Args:
        needed: the bytes of each member.
        what: names the members in the message.

    Raises:
        DataError: saying how many would fit.
    """
    available = available_bytes()
    if available is None or sum(needed) <= available:
        return
    fitting = sum(total <= available for total in accumulate(needed))
    raise DataError(
        f"{what} need {sum(needed) / 1e9:.1f} GB of memory, but {available / 1e9:.1f} GB are available; {fitting} of "
        "them would fit. Train them in several packs, or make the networks smaller"
    )


def available_bytes() -> int | None:
    """Return the bytes of memory that programs can still use; None if the system does not tell."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None


def training_bytes(trainer: Trainer) -> int:
    """Return the bytes of the vectors that a training keeps besides the network."""
    network, objective = trainer.network, trainer.objective
    vectors = len(trainer.optimizer.state) + 2 * (objective.average is not None)
    return int(vectors * network.n_parameters + 2 * network.state.size) * network.dtype.itemsize
