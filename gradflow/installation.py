"""Where this gradflow was installed from, and so which commands add extras to it, build it again or update it.

Every hint of the library takes its command from here: an editable clone is named as the folder that it is, so that the
command works from anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["installed_cupy", "pip_install", "pip_install_for_gpu", "pip_reinstall", "replace_cupy", "update_command"]

_NAME = "gradflow-mlp"
_CUPY_EXTRAS = {"cupy-cuda12x": "cuda12", "cupy-cuda13x": "cuda13"}


def pip_install(extra: str) -> str:
    """The command that adds an extra: "pip install -e '/home/me/gradflow[plot]'"."""
    return f"pip install {_requirement(extra)}"


def pip_reinstall() -> str:
    """The command that builds the same gradflow again."""
    return f"pip install --force-reinstall --no-deps --no-binary {_NAME} {_requirement()}"


def update_command() -> str:
    """What brings the newest gradflow."""
    clone = _clone()
    return f"pip install -U {_requirement()}" if clone is None else f"git pull in {clone}, then pip install -e ."


def pip_install_for_gpu() -> str:
    """The command that adds the GPU extra: that of the CuPy that is installed, for another would be put over it."""
    installed = installed_cupy()
    if installed is None:
        return f"{pip_install('cuda12')} (or [cuda13], to match the driver)"
    extra = _CUPY_EXTRAS.get(installed)
    return pip_install(extra) if extra else "pip install nvmath-python"


def replace_cupy(cuda: int) -> str | None:
    """The commands that put the CuPy for a version of CUDA, such as 12, in the place of the installed one.

    None if no extra has it.
    """
    extra, installed = f"cuda{cuda}", installed_cupy()
    if extra not in _CUPY_EXTRAS.values():
        return None
    return (f"pip uninstall {installed}, then " if installed else "") + pip_install(extra)


def installed_cupy() -> str | None:
    """The distribution that CuPy was installed from; CuPy's wheels have the CUDA version in their names."""
    from importlib.metadata import distributions  # only hints need it: it would slow the import of gradflow down

    return next((name for name in (*_CUPY_EXTRAS, "cupy") if any(distributions(name=name))), None)


def _requirement(extra: str = "") -> str:
    """What pip is given to install this gradflow again, quoted for a shell."""
    import shlex  # only hints need it: it would slow the import of gradflow down

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
    """The clone in which the package lies: it is imported from there, or its installation is editable."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def _origin() -> dict[str, Any] | None:
    """The address that pip was given (PEP 610); None if it found the distribution in an index."""
    from importlib.metadata import distributions

    for distribution in distributions(name=_NAME):
        if text := distribution.read_text("direct_url.json"):
            origin: dict[str, Any] = json.loads(text)
            return origin
    return None
