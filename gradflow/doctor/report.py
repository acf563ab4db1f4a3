"""The complete check-up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gradflow.backends import get_backend
from gradflow.doctor.findings import Check, Measurement
from gradflow.doctor.gemms import check_gemms
from gradflow.doctor.kernels import check_kernels

if TYPE_CHECKING:
    from gradflow.doctor.device import Device


@dataclass
class Checkup:
    """The findings on a device.

    Attributes:
        device: the device.
        checks, measurements: the findings, in the order in which they were made.
        warnings: the warnings of the backend about fast paths that fell back.
    """

    device: Device
    checks: list[Check] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.problem is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return asdict(self)


def check_up(*, quick: bool, on_finding: Callable[[Check | Measurement], None] = lambda finding: None) -> Checkup:
    """Check the GPU, then measure it.

    Args:
        quick: True for fewer and smaller cases.
        on_finding: called with each finding as soon as it is available.

    Raises:
        BackendError: if there is no usable GPU.
    """
    backend = get_backend("cupy")
    # These import CuPy.
    from gradflow.backends.cuda.backend import CupyBackend
    from gradflow.doctor.device import describe_device
    from gradflow.doctor.speed import measure_device, measure_steps
    from gradflow.doctor.training import check_training

    assert isinstance(backend, CupyBackend)
    found = Checkup(describe_device())

    def findings() -> Iterator[Check | Measurement]:
        yield from check_kernels(backend, quick=quick)
        yield from check_gemms(backend, quick=quick)
        yield from check_training(backend, quick=quick)
        yield from measure_device(backend, found.device, quick=quick)
        yield from measure_steps(backend, found.device, quick=quick)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for finding in findings():
            if isinstance(finding, Check):
                found.checks.append(finding)
            else:
                found.measurements.append(finding)
            on_finding(finding)
    found.warnings = [str(warning.message) for warning in caught]
    return found
