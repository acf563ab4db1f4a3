"""The number of processors that this process may keep busy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_GROUP = r"^\d+:(.*?):/(.*)$"  # controllers, path
_MOUNT = r"^\d+ \d+ \S+ /(\S*) /(\S*) .* - (cgroup2?) \S+ (\S+)$"  # mounted folder, mount point, version, options
# The files that set a quota, by the controller that they belong to; version 2 names none.
_FILES = {"": ("cpu.max",), "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}


def processors(root: Path = _ROOT) -> int:
    """Return the number of processors that this process may keep busy: those it may run on, within its CPU quota.

    A quota is rounded down, but to at least 1: once it is used up, the system stops all threads of the process until
    the next period, those too that the others wait for.

    Args:
        root: the folder that contains ``proc`` and ``sys``.
    """
    allowed, quota = _in_affinity_mask(), _quota(root)
    return allowed if quota is None else min(allowed, quota)


def why_fewer(root: Path = _ROOT) -> str | None:
    """Return why this process may keep fewer processors busy than the machine has; None if it may use all."""
    usable = processors(root)
    if usable >= (os.cpu_count() or 1):
        return None
    return "CPU quota of its cgroup" if usable < _in_affinity_mask() else "affinity"


def _in_affinity_mask() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _quota(root: Path) -> int | None:
    """Return the CPU quota of this process in whole processors; None if there is none.

    A quota belongs to a control group (cgroup) of Linux, and limits all groups within it. Files that are missing or
    cannot be understood set none.
    """
    quotas = [_quota_in(folder, files) for folder, files in _groups(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Iterate over this process's groups and those around them: their folders, and the files that set a quota."""
    groups = {
        controller: path
        for controllers, path in re.findall(_GROUP, _text(root / "proc/self/cgroup"), re.MULTILINE)
        for controller in controllers.split(",")
    }
    for mounted, point, version, options in re.findall(_MOUNT, _text(root / "proc/self/mountinfo"), re.MULTILINE):
        controller = "" if version == "cgroup2" else "cpu"
        if controller in ("", *options.split(",")):
            group = PurePosixPath(groups.get(controller, ""))
            inside = group.relative_to(mounted) if group.is_relative_to(mounted) else PurePosixPath()
            for folder in (inside, *inside.parents):
                yield root / point / folder, _FILES[controller]


def _quota_in(folder: Path, files: tuple[str, ...]) -> int | None:
    try:
        limit, period = (int(number) for name in files for number in _text(folder / name).split())
    except ValueError:  # "max", among others
        return None
    return max(limit // period, 1) if limit > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except (OSError, ValueError):
        return ""
