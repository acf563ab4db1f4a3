"""Parts of the reports: tables, numbers, and the line that names the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.rounds import Spread

_BUSY_FRACTION = 0.5


def machine_line(result: dict[str, Any]) -> str:
    """Describe the machine that produced a result in one sentence."""
    machine = result["machine"]
    blas, versions = machine["blas"], machine["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, {named}; "
        f"NumPy's BLAS: {blas['internal_api']} {blas['version']} ({blas['architecture']}, {blas['num_threads']} "
        f"threads); gradflow {machine['gradflow']} with {machine['kernels']} kernels; {machine['date']}."
        f"{_busy(machine)}"
    )


def _busy(machine: dict[str, Any]) -> str:
    """Return a warning if other programs kept a large part of the processor busy."""
    load, cores = machine["load_average"], machine["cores"]
    if load is None or load < _BUSY_FRACTION * cores:
        return ""
    return (
        f" **The machine was busy with other work when this began (load average {load:.1f} on {cores} cores): a "
        "library that waits for a second thread loses most, and the ratios cannot be trusted.**"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with all columns but the first right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """Return a table for the terminal, with all columns but the first two right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if place < 2 else '>'}{widths[place]}}" for place, cell in enumerate(line)).rstrip()
        for line in [header, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


def microseconds(seconds: float) -> str:
    """Return a time in microseconds, to three digits or more."""
    value = 1e6 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def in_brackets(values: Spread, text: Callable[[float], str]) -> str:
    """Return a median with its quartiles in brackets."""
    return f"{text(values.median)} [{text(values.low)}, {text(values.high)}]"
