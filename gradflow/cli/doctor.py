"""``gradflow doctor``: correctness and speed of the GPU."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.backends.availability import gpu_problem
from gradflow.doctor import Checkup, check_up
from gradflow.files import write_atomically
from gradflow.version import __version__

CHECK_FAILED = 1
NO_GPU = 2


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all findings to this file, for a bug report.")
    ] = None,
    quick: Annotated[bool, typer.Option(metavar="", help="Run fewer and smaller cases, as a smoke test.")] = False,
) -> None:
    """Check that this computer's GPU computes what it should, and measure it.

    Every kernel and matmul is compared with its definition, and ways of training with each other. Ends with 0
    if all is well, with 1 if a check failed, with 2 if there is no GPU.
    """
    console = Console()
    if problem := gpu_problem():
        console.print(f"no GPU can be used: {problem}", markup=False, soft_wrap=True)
        console.print("gradflow trains on the CPU here; see gradflow info", markup=False)
        raise typer.Exit(NO_GPU)
    progress = Console(stderr=True)
    with progress.status("checking") as status:
        found = check_up(quick=quick, on_finding=lambda finding: status.update(f"{finding.group}: {finding.name}"))
    _print(console, found)
    if json_file is not None:
        facts = {
            "gradflow": __version__,
            "numpy": np.__version__,
            "platform": platform.platform(),
            "quick": quick,
            **found.as_dict(),
        }
        write_atomically(json_file, (json.dumps(facts, indent=2) + "\n").encode(), through_links=True)
        console.print(f"written to {json_file}", markup=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(CHECK_FAILED)


def _print(console: Console, found: Checkup) -> None:
    device = found.device
    console.print(f"{device.name}, compute capability {device.compute_capability}", markup=False, highlight=False)
    checks = Table(title="checks")
    for name in ("what", "passed", "failed"):
        checks.add_column(name, justify="left" if name == "what" else "right")
    made, failed = (Counter(check.group for check in some) for some in (found.checks, found.problems))
    for group, count in made.items():
        checks.add_row(group, str(count - failed[group]), str(failed[group]))
    console.print(checks)
    for check in found.problems:
        console.print(f"FAILED {check.group}: {check.name}: {check.problem}", markup=False, soft_wrap=True)
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    measured = Table(title="measurements")
    for name in ("what", "", "measured", "beside", ""):
        measured.add_column(name, justify="right" if name in ("measured", "beside") else "left")
    for one in found.measurements:
        beside = "" if one.limit is None else f"{one.limit:,.4g} {one.unit}"
        is_known = "" if one.limit is None else one.limit_is
        measured.add_row(one.group, escape(one.name), f"{one.value:,.4g} {one.unit}", beside, is_known)
    console.print(measured)
