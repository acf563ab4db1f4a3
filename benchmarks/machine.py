"""Description of the machine that produced a result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.cpu.native import native_library
from gradflow.version import __version__

_PACKAGES = ("numpy", "torch", "jax", "jaxlib", "scikit-learn", "mkl")


def machine() -> dict[str, Any]:
    """Describe the processor, cores, BLAS, threads, versions, date, and load from other programs."""
    from threadpoolctl import threadpool_info  # imported here, so that tests of the reports need no extra

    native = native_library()
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = min(pools, key=lambda pool: "numpy" not in pool["filepath"], default={})  # SciPy brings its own
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": _cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gradflow": __version__,
        "kernels": "none" if native is None else native.instructions,
        "blas": {name: blas.get(name) for name in ("internal_api", "version", "architecture", "num_threads")},
        "versions": {"numpy": np.__version__} | {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
