"""The commands that add extras to this installation of gradflow, rebuild it or update it.

Every hint in the library takes its command from here. An editable clone is named by its folder, so that the command
works from any directory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_NAME = "gradflow-mlp"
_CUPY_EXTRAS = {"cupy-cuda12x": "cuda12", "cupy-cuda13x": "cuda13"}


def pip_install(extra: str) -> str:
    """Return the command that adds an extra: "pip install -e '/home/me/gradflow[plot]'"."""
    return f"pip install {_requirement(extra)}"


def pip_reinstall() -> str:
    """Return the command that rebuilds the same gradflow."""
    return f"pip install --force-reinstall --no-deps --no-binary {_NAME} {_requirement()}"


def update_command() -> str:
    """Return the command that updates gradflow."""
    clone = _clone()
    return f"pip install -U {_requirement()}" if clone is None else f"git pull in {clone}, then pip install -e ."


def pip_install_for_gpu() -> str:
    """Return the command that adds the GPU extra: the one of the installed CuPy, since another would overwrite it.

    A CuPy built from source, for any CUDA, has no extra of its own; the command then adds NVIDIA's cuBLAS.
    """
    installed = installed_cupy()
    if installed is None:
        return f"{pip_install('cuda12')} (or [cuda13], to match the driver)"
    extra = _CUPY_EXTRAS.get(installed)
    return pip_install(extra) if extra else "pip install nvidia-cublas-cu12 (or nvidia-cublas, for CUDA 13)"


def pip_install_for_nccl() -> str:
    """Return the command that adds NCCL for the CUDA of the installed CuPy."""
    return pip_install({"cupy-cuda13x": "multi-gpu-cuda13"}.get(installed_cupy() or "", "multi-gpu-cuda12"))


def replace_cupy(cuda: int) -> str | None:
    """Return the commands that replace the installed CuPy by the one for a CUDA version, such as 12.

    None if there is no extra for that version.
    """
    extra, installed = f"cuda{cuda}", installed_cupy()
    if extra not in _CUPY_EXTRAS.values():
        return None
    return (f"pip uninstall {installed}, then " if installed else "") + pip_install(extra)


def installed_cupy() -> str | None:
    """Return the distribution that provides CuPy, or None; the names of CuPy's wheels contain the CUDA version."""
    return next(iter(_installed_cupys()), None)


def cupy_conflict() -> str | None:
    """Return a sentence with the remedy if several CuPys are installed, which share their files; None otherwise."""
    names = _installed_cupys()
    if len(names) < 2:
        return None
    return (
        f"{' and '.join(names)} overwrite each other's files: pip uninstall {' '.join(names)}, then install one again"
    )


def _installed_cupys() -> list[str]:
    from importlib.metadata import distributions  # only hints need it, and it would slow down the import of gradflow

    return [name for name in (*_CUPY_EXTRAS, "cupy") if any(distributions(name=name))]


def _requirement(extra: str = "") -> str:
    """Return the requirement with which pip reinstalls this gradflow, quoted for a shell."""
    import shlex  # only hints need it, and it would slow down the import of gradflow

    extras = f"[{extra}]" if extra else ""
    if clone := _clone():
        return f"-e {shlex.quote(f'{clone}{extras}')}"
    origin = _origin()
    if origin is None:
        return shlex.quote(f"{_NAME}{extras}") if extra else _NAME
    url = origin["url"]
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}"
    elif url.startswith("file:"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return shlex.quote(url2pathname(urlsplit(url).path) + extras)
    return shlex.quote(f"{_NAME}{extras} @ {url}")


def _clone() -> Path | None:
    """Return the clone that contains the package (imported from there, or installed as editable), or None."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def _origin() -> dict[str, Any] | None:
    """Return the URL entry that pip recorded (PEP 610); None if the distribution came from an index."""
    from importlib.metadata import distributions

    for distribution in distributions(name=_NAME):
        if text := distribution.read_text("direct_url.json"):
            origin: dict[str, Any] = json.loads(text)
            return origin
    return None
