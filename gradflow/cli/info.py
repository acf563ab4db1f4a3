"""``gradflow info``: the backend that gradflow uses here, and why."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.backends import LEAST_PARAMETERS, get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.backends.blas import installed_mkl
from gradflow.backends.cpu.native import native_library, native_problem
from gradflow.backends.cpu.processors import processors, why_fewer
from gradflow.backends.kernel_sources import kernel_folder
from gradflow.cli.threads import ThreadGain, thread_gain
from gradflow.errors import GradflowError
from gradflow.installation import installed_cupy, pip_install
from gradflow.version import __version__

_TF32_SPEEDUP = {(8, 0): 8, (9, 0): 7, (10, 0): 14}
"""GPUs of data centers by compute capability (data sheets of A100, H100, B200; without sparsity). Others: 1 to 2."""


def info(
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for other programs.")] = False,
) -> None:
    """Show versions, the backend that is chosen and why, and the GPU."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _rows(facts):
        table.add_row(name, escape(value))
    Console().print(table)


def _facts() -> dict[str, Any]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    backend, reason = _choice()
    return {
        "gradflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": processors(),
        "processors_of_machine": os.cpu_count(),
        "why_fewer_processors": why_fewer(),
        "numpy": np.__version__,
        "blas": {"name": blas.get("name"), "version": blas.get("version")},
        "cupy": _cupy_version(),
        "backend": backend,
        "reason": reason,
        "cpu": _cpu(),
        "gpus": [] if gpu_problem() else _gpus(),
        "products_without_plan": {} if gpu_problem() else _gemms_without_plan(),
        "kernels": str(kernel_folder()),
    }


def _choice() -> tuple[str | None, str]:
    """Return the backend that "auto" selects, or None if it cannot be used, and the reason."""
    wish = os.environ.get("GRADFLOW_BACKEND") or "auto"
    try:
        name = get_backend().name
    except GradflowError as error:
        return None, f"GRADFLOW_BACKEND={wish}: {error}"
    if wish != "auto":
        return name, f"selected by GRADFLOW_BACKEND={wish}"
    problem = gpu_problem()
    if problem:
        return name, f"not cupy: {problem}"
    return name, (
        f"a GPU is available; for networks of fewer than {LEAST_PARAMETERS:,} parameters numpy is selected, since "
        "their steps are faster on the CPU (an estimate)"
    )


def _cpu() -> dict[str, Any]:
    """Describe what the backend "numpy" runs on."""
    library, blas = native_library(), get_backend("numpy").blas
    gain = None if library is None else thread_gain(library)
    return {
        "kernels": "NumPy" if library is None else "compiled",
        "instructions": None if library is None else library.instructions,
        "library": None if library is None else str(library.path),
        "blas": None
        if blas is None
        else {
            "name": blas.description,
            "path": str(blas.path),
            "integer_bits": blas.bits,
            "threads": blas.threads,
            "called_by": "NumPy" if library is None or library.blas is None else "compiled kernels",
        },
        "threads": None if gain is None else gain._asdict(),
        "faster": _remedies(),
    }


def _remedies() -> list[str]:
    """Return suggestions that would make training on this CPU faster."""
    remedies = []
    if problem := native_problem():
        remedies.append(problem)
    elif installed_mkl() is None and platform.machine() in ("x86_64", "AMD64"):
        remedies.append(f"with wide layers on an Intel processor: {pip_install('mkl')}")
    return remedies


def _cupy_version() -> str | None:
    """Return the version of CuPy, even if it cannot be imported; its wheels have the CUDA version in their names."""
    name = installed_cupy()
    return None if name is None else version(name)


def _gpus() -> list[dict[str, Any]]:
    from cupy.cuda import runtime

    driver = runtime.driverGetVersion()
    found = []
    for device in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(device)
        found.append(
            {
                "name": properties["name"].decode(),
                "memory_bytes": properties["totalGlobalMem"],
                "compute_capability": f"{properties['major']}.{properties['minor']}",
                "driver_cuda_version": f"{driver // 1000}.{driver % 1000 // 10}",
                "tf32_speedup": _tf32_speedup(properties["major"], properties["minor"]),
            }
        )
    return found


def _tf32_speedup(major: int, minor: int) -> int | None:
    """Return how many times as fast as in float32 matmuls can be in TF32, from the peaks that NVIDIA states; None on a
    GPU without TF32."""
    return _TF32_SPEEDUP.get((major, minor), 2) if major >= 8 else None


def _gemms_without_plan() -> dict[str, str]:
    """Return the matmuls of the self-check that cuBLASLt does not support on this GPU, with the reason."""
    from gradflow.backends.cuda.backend import CupyBackend
    from gradflow.backends.cuda.self_check import wrong_classes

    checked: Any = get_backend("cupy")
    backend = CupyBackend()
    backend.refused_gemms.update(checked.refused_gemms)  # some may crash
    wrong_classes(backend)
    return backend.unsupported_gemms


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    blas = facts["blas"]
    rows = [
        ("gradflow", facts["gradflow"]),
        ("Python", f"{facts['python']} on {facts['platform']}"),
        ("processors", _processors(facts)),
        ("NumPy", f"{facts['numpy']}, with {blas['name']} {blas['version']}"),
        ("CuPy", facts["cupy"] or "not installed"),
        ("backend", facts["backend"] or "none"),
        ("why", facts["reason"]),
    ]
    rows += _cpu_rows(facts["cpu"])
    rows += [
        (
            "GPU",
            f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.1f} GiB, compute capability {gpu['compute_capability']}, "
            f"driver for CUDA up to {gpu['driver_cuda_version']}",
        )
        for gpu in facts["gpus"]
    ]
    rows += [("GPU precision", text) for text in sorted({_precisions(gpu["tf32_speedup"]) for gpu in facts["gpus"]})]
    rows += [("GPU matmul", f"{name}: fallback in use, {why}") for name, why in facts["products_without_plan"].items()]
    return [*rows, ("kernels", facts["kernels"])]


def _precisions(speedup: int | None) -> str:
    if speedup is None:
        return "float32; this GPU is too old for TF32"
    return (
        f"float32 unless you ask for another; with precision='tf32' matmuls can be up to {speedup} times as fast, by "
        "NVIDIA's figures, and their factors have 10 bits (gradflow doctor measures it)"
    )


def _processors(facts: dict[str, Any]) -> str:
    reason = facts["why_fewer_processors"]
    return f"{facts['processors']}" + (f" of {facts['processors_of_machine']} ({reason})" if reason else "")


def _cpu_rows(cpu: dict[str, Any]) -> list[tuple[str, str]]:
    kernels, blas = "plain NumPy", "NumPy's, which gradflow does not know: programs call np.matmul"
    if cpu["kernels"] == "compiled":
        kernels = f"compiled, for {cpu['instructions']}: {cpu['library']}"
    if cpu["blas"] is not None:
        blas = "{name}, {integer_bits}-bit integers, {threads} threads, called by {called_by}: {path}".format(
            **cpu["blas"]
        )
    rows = [("CPU kernels", kernels), ("CPU matmuls", blas)]
    if cpu["threads"] is not None:
        rows.append(("CPU threads", str(ThreadGain(**cpu["threads"]))))
    return rows + [("faster", remedy) for remedy in cpu["faster"]]
