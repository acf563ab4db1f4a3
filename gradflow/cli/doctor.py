"""``gradflow doctor``: correctness and speed of the GPU."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.backends.availability import gpu_problem
from gradflow.doctor import Check, Checkup, Measurement, check_up
from gradflow.files import write_atomically
from gradflow.version import __version__

CHECK_FAILED = 1
NO_GPU = 2

_WRITES = 1.0  # seconds between two writes of the findings so far


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all findings to this file, for a bug report.")
    ] = None,
    quick: Annotated[bool, typer.Option(metavar="", help="Run fewer and smaller cases, as a smoke test.")] = False,
    budget: Annotated[float, typer.Option(metavar="SECONDS", help="Begin nothing more after this time.")] = 170,
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
    write = partial(_write, json_file, {"quick": quick, "budget": budget})
    written = time.monotonic()
    with progress.status("checking") as status:

        def on_finding(finding: Check | Measurement, found: Checkup) -> None:
            nonlocal written
            status.update(f"{finding.group}: {finding.name}")
            if time.monotonic() - written > _WRITES:
                write(found)
                written = time.monotonic()

        found = check_up(quick=quick, budget=budget, on_finding=on_finding)
    write(found)
    _print(console, found)
    if json_file is not None:
        console.print(f"written to {json_file}", markup=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(CHECK_FAILED)


def _write(json_file: Path | None, settings: dict[str, Any], found: Checkup) -> None:
    """Write the findings so far, if there is a file for them: something must be left if the process is killed."""
    if json_file is not None:
        facts = {"gradflow": __version__, "numpy": np.__version__, "platform": platform.platform(), **settings}
        content = json.dumps(facts | found.as_dict(), indent=2) + "\n"
        write_atomically(json_file, content.encode(), through_links=True)


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
    for shape, reason in found.unsupported.items():
        console.print(f"not computed by cuBLASLt: {shape}: {reason}", markup=False, soft_wrap=True)
    if found.omitted:
        console.print(f"not done to the end, since the time was up: {', '.join(found.omitted)}", soft_wrap=True)
    measured = Table(title="measurements")
    for name in ("what", "", "measured", "beside", ""):
        measured.add_column(name, justify="right" if name in ("measured", "beside") else "left")
    for one in found.measurements:
        beside = "" if one.limit is None else f"{one.limit:,.4g} {one.unit}"
        measured.add_row(one.group, escape(one.name), f"{one.value:,.4g} {one.unit}", beside, one.limit_is)
    console.print(measured)
