"""GPU memory of a fit, computed before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradflow.backends.reference import MemoryPlan
from gradflow.clock import RunStatus
from gradflow.data.arrays import Arrays
from gradflow.errors import BackendError, SlowPathWarning, warn
from gradflow.network import recording_on
from gradflow.training.data.feed import DataSet, PassData
from gradflow.training.data.streaming import StreamedData
from gradflow.training.step.evaluation import evaluation
from gradflow.training.step.objective import Objective
from gradflow.training.step.precision import make_precision
from gradflow.training.step.training_step import TrainingStep
from gradflow.training.step.update import Update


def within_memory(
    objective: Objective, data: PassData, validation: PassData | None, *, rows: int, batch_size: int, parts: int
) -> tuple[PassData, PassData | None]:
    """Return the data of a fit: unchanged if everything fits on the device, else kept on the host, with a warning.

    Nothing is allocated. On a CPU the data are always unchanged.

    Raises:
        BackendError: if neither fits; the message lists the memory that is needed and free, and what would fit.
    """
    plan = objective.network.backend.memory_plan()
    if plan is None:
        return data, validation

    def needs(of_training: PassData, of_validation: PassData | None, size: int) -> dict[str, int]:
        return fit_memory(plan, objective, of_training, of_validation, rows=rows, batch_size=size, parts=parts)

    def fits(*arguments: Any) -> bool:
        return sum(needs(*arguments).values()) <= plan.free

    if fits(data, validation, batch_size):
        return data, validation
    needed = needs(data, validation, batch_size)
    on_host = _on_host(data), validation and _on_host(validation)
    if fits(*on_host, batch_size):
        warn(
            f"the data does not fit on the GPU: this fit needs {_readable(sum(needed.values()))}, but "
            f"{_readable(plan.free)} are free. It stays on the host: each step copies its batch while the previous "
            "step runs, with the same results; pass gradflow.data.Arrays(x, y) if that is intended",
            SlowPathWarning,
        )
        return on_host
    sizes = [batch_size >> shift for shift in range(1, batch_size.bit_length()) if (batch_size >> shift) % parts == 0]
    if size := next((size for size in sizes if fits(*on_host, size)), None):
        remedy = f"batch_size={size} would fit"
    else:
        remedy = "no smaller batch_size would fit; use a smaller network, or free other memory on the GPU"
    listed = ", ".join(f"{name} {_readable(n_bytes)}" for name, n_bytes in needed.items() if n_bytes)
    raise BackendError(
        f"this fit needs {_readable(sum(needed.values()))} of GPU memory besides the network's own, but "
        f"{_readable(plan.free)} are free. Breakdown: {listed}; {remedy}"
    )


def fit_memory(
    plan: MemoryPlan,
    objective: Objective,
    data: PassData,
    validation: PassData | None,
    *,
    rows: int,
    batch_size: int,
    parts: int,
) -> dict[str, int]:
    """Return the bytes of device memory that a fit allocates, by purpose.

    The programs of the fit are recorded on a backend that counts bytes without allocating, so this holds for all kinds
    of layers. The network's existing parameters and gradients are excluded.
    """
    network = recording_on(objective.network, plan)
    objective = objective._replace(network=network)
    status = RunStatus(plan)

    def bytes_of(make: Callable[[], object]) -> int:
        before = plan.n_bytes
        made = make()
        taken = plan.n_bytes - before
        del made
        return taken

    def update() -> Update:
        return Update(objective, epochs=1, steps=-(-rows // batch_size))

    def training() -> TrainingStep:
        return TrainingStep(objective, data, rows=rows, batch_size=batch_size, parts=parts)

    of_data = bytes_of(lambda: data.batches(plan, status, rows=rows, batch_size=batch_size, seed=0))
    of_state = bytes_of(update)
    needed = {
        "data": of_data,
        "optimizer state": of_state,
        "copies of the weights": bytes_of(lambda: plan.empty(network.state.shape, network.dtype)),
        "batches and activations": bytes_of(training) - of_data - of_state,
    }
    if validation is not None:
        precision = make_precision(objective.precision, network)  # that of the update, which is counted above
        needed["validation"] = bytes_of(lambda: evaluation(objective, validation, status.validation, precision))
    return needed


def _on_host(data: PassData) -> PassData:
    """Return the same rows, kept on the host if they are there."""
    if not isinstance(data, DataSet) or not isinstance(data.x, np.ndarray):
        return data
    x = data.inputs
    arrays = [array for array in (x, data.targets, data.row_weight) if array is not None]
    return StreamedData(
        Arrays(x, data.targets),
        lambda block: tuple(array[block.where.rows] for array in arrays),
        is_weighted=data.is_weighted,
        feature_names=data.feature_names,
        classes=data.classes,
    )


def _readable(n_bytes: int) -> str:
    """Format a number of bytes with a suitable unit."""
    for power, unit in ((3, "GB"), (2, "MB")):
        if n_bytes >= 1000**power:
            return f"{n_bytes / 1000**power:.1f} {unit}"
    return f"{n_bytes / 1000:.1f} kB"
