"""The contribution of each block of a recipe: python -m benchmarks.table_blocks.

RealMLP, and RealMLP without one block at a time, are fitted on three tables by `benchmarks.tables`, whose options and
rows it has. Each fit is a line of table-blocks.jsonl, written when it ends; table-blocks.md is made of all lines.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.machine import machine
from benchmarks.markdown import machine_line, table
from benchmarks.table_data import TABLES
from benchmarks.table_models import Predict, Task, by_recipe
from benchmarks.tables import arguments_of, compare, metric_of
from gradflow.files import write_atomically
from gradflow.recipes import RealMLPRecipe
from gradflow.recipes.realmlp import BLOCKS as _BLOCKS_OF_REALMLP

_DATA_SETS = ["diamonds", "wa_churn", "phoneme"]
_WHOLE = "RealMLP"

BLOCKS: dict[str, Callable[[Task], Predict]] = {
    _WHOLE: partial(by_recipe, recipe=RealMLPRecipe()),
    **{f"without {name}": partial(by_recipe, recipe=RealMLPRecipe(without=[name])) for name in _BLOCKS_OF_REALMLP},
}
"""The recipe, and those without a block."""


def markdown(lines: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return a table of the errors, and how many percent larger they are than those of the whole recipe."""
    scored = [line for line in lines if "error" not in line]
    names = [name for name in TABLES if any(line["data"] == name for line in scored)]
    rows = [[model, *(_cell(scored, model, name) for name in names)] for model in BLOCKS]
    heads = [f"{name}, {metric_of(name)}" for name in names]
    seeds = len({line["seed"] for line in scored})
    return (
        "\n\n".join(
            [
                "# What each block of RealMLP contributes",
                machine_line({"machine": about}),
                f"Mean error on test rows over {seeds} seeds, with other rows each, and the mean change against the "
                "whole recipe with its standard error, on the same rows. A positive change is what the block gains.",
                table(["recipe", *heads], rows),
            ]
        )
        + "\n"
    )


def _cell(scored: list[dict[str, Any]], model: str, name: str) -> str:
    metric = metric_of(name)
    of_model, of_whole = (
        {(line["seed"], line["rows"]): line[metric] for line in scored if (line["data"], line["model"]) == (name, each)}
        for each in (model, _WHOLE)
    )
    if not of_model:
        return ""
    cell = f"{statistics.mean(of_model.values()):.4f}"
    changes = [100 * (of_model[fit] / of_whole[fit] - 1) for fit in of_model if fit in of_whole]
    if model == _WHOLE or not changes:
        return cell
    error = f" ± {statistics.stdev(changes) / len(changes) ** 0.5:.1f}" if len(changes) > 1 else ""
    return f"{cell} ({statistics.mean(changes):+.1f}{error} %)"


def main(arguments: list[str] | None = None) -> None:
    """Fit what is missing in table-blocks.jsonl, and write table-blocks.md."""
    given = arguments_of("benchmarks.table_blocks", __doc__, BLOCKS, _DATA_SETS).parse_args(arguments)
    lines = compare(given, given.output / "table-blocks.jsonl", BLOCKS)
    write_atomically(given.output / "table-blocks.md", markdown(lines, machine()).encode())
    print(f"written: {given.output}")


if __name__ == "__main__":
    main()
