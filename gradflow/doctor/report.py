"""The complete check-up."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gradflow.backends import get_backend
from gradflow.doctor.findings import Check, Measurement
from gradflow.doctor.gemms import check_gemms
from gradflow.doctor.kernels import check_kernels

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend
    from gradflow.doctor.device import Device


@dataclass
class Checkup:
    """The findings on a device.

    Attributes:
        device: the device.
        matmuls: what the results of fast matmuls depend on; None if cuBLASLt cannot be used.
        checks, measurements: the findings, in the order in which they were made.
        warnings: the warnings of the backend about fast paths that fell back.
        unsupported: the matmuls that cuBLASLt does not compute, or not right, with the reason.
        omitted: the parts for which no time was left, or not enough; at first, all of them.
    """

    device: Device
    matmuls: str | None = None
    checks: list[Check] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unsupported: dict[str, str] = field(default_factory=dict)
    omitted: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.problem is not None]

    def add(self, finding: Check | Measurement) -> None:
        """Add a finding."""
        if isinstance(finding, Check):
            self.checks.append(finding)
        else:
            self.measurements.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return asdict(self)


def check_up(
    *,
    quick: bool,
    budget: float = float("inf"),
    on_finding: Callable[[Check | Measurement, Checkup], None] = lambda finding, found: None,
) -> Checkup:
    """Check the GPU, then measure it.

    Args:
        quick: True for fewer and smaller cases.
        budget: the seconds after which nothing more is begun.
        on_finding: called with each finding as soon as it is available, and with all findings so far.

    Raises:
        BackendError: if there is no usable GPU.
    """
    end = time.monotonic() + budget
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backend: Any = get_backend("cupy")
        from gradflow.doctor.device import describe_device  # imports CuPy

        found = Checkup(describe_device(), backend.gemm_identity)
        parts = _parts(backend, found.device, quick)
        found.omitted = list(parts)
        for name, findings in parts.items():
            for finding in _to_the_end(name, findings):
                found.add(finding)
                found.warnings = list(dict.fromkeys(str(warning.message) for warning in caught))
                found.unsupported = backend.refused_gemms | backend.unsupported_gemms
                on_finding(finding, found)
                if time.monotonic() > end:
                    return found
            found.omitted.remove(name)
    return found


def _parts(backend: CupyBackend, device: Device, quick: bool) -> dict[str, Callable[[], Iterator[Check | Measurement]]]:
    # These import CuPy.
    from gradflow.doctor.speed import measure_device, measure_steps
    from gradflow.doctor.training import check_training

    return {
        "products": partial(check_gemms, backend, quick=quick),
        "training": partial(check_training, backend, quick=quick),
        "kernels": partial(check_kernels, backend, quick=quick),
        "speed": partial(measure_device, backend, device, quick=quick),
        "steps": partial(measure_steps, backend, device, quick=quick),
    }


def _to_the_end(name: str, findings: Callable[[], Iterator[Check | Measurement]]) -> Iterator[Check | Measurement]:
    """Yield the findings of a part; an exception that ends it is one of them."""
    try:
        yield from findings()
    except Exception as error:  # a faulty device can raise anything
        yield Check(name, "to the end", f"{type(error).__name__}: {' '.join(str(error).split())}")
