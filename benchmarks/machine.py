"""Description of the machine that produced a result, and the files of its results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.cpu.native import native_library
from gradflow.backends.cpu.processors import processors
from gradflow.files import write_atomically
from gradflow.version import __version__

RESULTS = Path(__file__).parent / "results"
"""Holds a folder for each machine: times on one say little about another."""
_PACKAGES = (
    *("numpy", "torch", "jax", "jaxlib", "scikit-learn", "mkl"),
    *("cupy-cuda12x", "cupy-cuda13x", "nvidia-cublas", "nvidia-cublas-cu12", "triton"),
)


def machine() -> dict[str, Any]:
    """Describe the processor, cores, BLAS, threads, versions, date, and load from other programs."""
    from threadpoolctl import threadpool_info  # imported here, so that tests of the reports need no extra

    native = native_library()
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = min(pools, key=lambda pool: "numpy" not in pool["filepath"], default={})  # SciPy brings its own
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": processors(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gradflow": __version__,
        "kernels": "none" if native is None else native.instructions,
        "blas": {name: blas.get(name) for name in ("internal_api", "version", "architecture", "num_threads")},
        "versions": {"numpy": np.__version__} | {name: version for name in _PACKAGES if (version := _version(name))},
    }


def results_folder() -> Path:
    """Return the folder for the results of this machine: its name is made of what decides the speed.

    That is the processor, the best instruction set that the kernels have for it, the number of processors, and the
    instruction set in use if it is not the best.
    """
    native = native_library()
    best, used = ("none", "none") if native is None else (native.supported[0], native.instructions)
    return RESULTS / slug(_processor(), best, str(processors()), *([used] if used != best else []))


def write_results(folder: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Write a result as JSON, and its Markdown, under a name into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", (json.dumps(result, indent=1) + "\n").encode())
    write_atomically(folder / f"{name}.md", text.encode())


def slug(*parts: str) -> str:
    """Return a name for a folder: "Intel(R) Xeon(R) CPU @ 2.80GHz", "avx2", "8" become "intel-xeon-avx2-8"."""
    text = re.sub(r"\((r|tm)\)|@.*?ghz|\bcpu\b|(\d+-core )?processor\b", " ", " | ".join(parts).lower())
    return "-".join(re.findall(r"[a-z0-9]+", text))


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
