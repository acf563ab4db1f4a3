"""The properties that the device reports, and the peak speeds that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cupy

# Float32 units per multiprocessor by compute capability (CUDA C++ Programming Guide, arithmetic throughput).
_FLOAT32_UNITS = {
    **dict.fromkeys(("70", "75", "80"), 64),
    **dict.fromkeys(("86", "87", "89", "90", "100", "103", "110", "120", "121"), 128),
}


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name, compute_capability, driver, runtime: as reported by CUDA.
        memory: bytes.
        peak_bandwidth: bytes per second of its memory, from its clock and width; None if not reported.
        peak_rate: float32 operations per second, from its units and clock; None if unknown.
    """

    name: str
    compute_capability: str
    driver: int
    runtime: int
    memory: int
    peak_bandwidth: float | None
    peak_rate: float | None

    @property
    def why_no_peak(self) -> str:
        """The reason why a peak is unknown; empty if both are known."""
        if self.peak_rate is None:
            return f"peak unknown: compute capability {self.compute_capability} is not known, or its clock"
        return "" if self.peak_bandwidth is not None else "peak unknown: no clock or width of its memory is reported"


def describe_device() -> Device:
    """Describe the current device."""
    device, runtime = cupy.cuda.Device(), cupy.cuda.runtime
    attributes: dict[str, Any] = device.attributes
    memory_clock, width = attributes.get("MemoryClockRate", 0), attributes.get("GlobalMemoryBusWidth", 0)
    units = _FLOAT32_UNITS.get(str(device.compute_capability), 0)
    rate = 2 * units * attributes.get("MultiProcessorCount", 0) * attributes.get("ClockRate", 0)
    return Device(
        name=str(runtime.getDeviceProperties(device.id)["name"].decode()),
        compute_capability=str(device.compute_capability),
        driver=runtime.driverGetVersion(),
        runtime=runtime.runtimeGetVersion(),
        memory=int(device.mem_info[1]),
        # Two transfers per clock cycle; clocks are in kHz, the width in bits.
        peak_bandwidth=2 * memory_clock * 1e3 * width / 8 or None,
        peak_rate=rate * 1e3 or None,
    )
