"""gradflow's recipes and their peers on tables: python -m benchmarks.tables.

Every model is fitted as it comes on the same rows of the same tables, for several seeds with other rows each: 64 % of
them train, 16 % choose, 20 % test. Each fit is a line of tables.jsonl, written when it ends: an interrupted comparison
continues where it ended, and may be divided over hours or machines of one kind. tables.md is made of all lines. Fits on
fewer rows, by ``--rows 1000``, have files of their own: tables-1000-rows.jsonl and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine, results_folder
from benchmarks.markdown import machine_line, table
from benchmarks.table_data import TABLES, Parts, Table
from benchmarks.table_models import MODELS, Predict, Task
from gradflow.files import write_atomically

_SEEDS, _ROWS = 5, 5_000
_QUICK_ROWS = 400
_TIMES = {"fit_seconds": "fit, s", "fit_cpu_seconds": "fit, CPU s", "predict_seconds": "predict, s"}
"""The times of a fit, and their headings."""


def scores(of_table: Table, classes: np.ndarray, predicted: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the scores of predictions: the root mean squared error of numbers, or the log loss, accuracy and area
    under the ROC curve of classes, the mean of each class against the others if there are several."""
    predicted = np.asarray(predicted, np.float64)
    if of_table.is_values:
        return {"rmse": float(np.sqrt(np.mean((predicted.reshape(-1) - y) ** 2)))}
    numbers = np.searchsorted(classes, y)
    first = 1 if len(classes) == 2 else 0
    areas = [_area(predicted[:, place], numbers == place) for place in range(first, len(classes))]
    of_class = predicted[np.arange(len(y)), numbers] / predicted.sum(axis=1)
    return {
        "log_loss": float(-np.mean(np.log(np.maximum(of_class, 1e-15)))),
        "accuracy": float(np.mean(predicted.argmax(axis=1) == numbers)),
        "auc": float(np.mean(areas)),
    }


def _area(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the probability that a positive row has a higher score than a negative one; equal scores count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = is_positive.sum(), (~is_positive).sum()
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def measure(task: Task, fit: Callable[[Task], Predict]) -> dict[str, Any]:
    """Fit a model, and return its scores on the test rows, with the seconds of fit and prediction.

    A busy machine lengthens the time of a fit; the seconds that its processors spent on it change far less.
    """
    x, y = task.parts.test
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    predict = fit(task)
    fitted, cpu_fitted = time.perf_counter(), _cpu_seconds()
    predicted = predict(x)
    ended = time.perf_counter()
    classes = np.array([]) if task.is_values else task.classes
    return {
        **scores(task.table, classes, predicted, y),
        "fit_seconds": round(fitted - began, 3),
        "fit_cpu_seconds": round(cpu_fitted - cpu_began, 3),
        "predict_seconds": round(ended - fitted, 4),
    }


def _cpu_seconds() -> float:
    """Return the processor time of this process, with all its threads, and of its children that have ended."""
    return sum(os.times()[:4])


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["data"], line["seed"], line["model"], line["rows"], line["quick"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines that were written so far; the last one may have been cut off."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


def fits(
    given: argparse.Namespace, done: list[dict[str, Any]], models: Mapping[str, Callable[[Task], Predict]]
) -> Iterator[dict[str, Any]]:
    """Fit what is missing, and yield a line for each; a model that fails has an error in place of scores, and is tried
    again the next time."""
    known = {_key(line) for line in done if "error" not in line}
    for seed in range(given.seeds):
        for name in given.data_sets:
            common = {"data": name, "seed": seed, "rows": given.rows, "quick": given.quick}
            missing = [model for model in given.models if _key(common | {"model": model}) not in known]
            if not missing:
                continue
            task = Task(TABLES[name], Parts.of(TABLES[name], given.rows, seed), seed, given.quick)
            for model in missing:
                try:
                    yield {**common, "model": model, **measure(task, models[model])}
                except Exception as error:
                    traceback.print_exc()
                    first_line = next(iter(str(error).splitlines()), "")
                    yield {**common, "model": model, "error": f"{type(error).__name__}: {first_line}"}


Lines = list[dict[str, Any]]


def metric_of(name: str) -> str:
    """Return the score that counts on a table."""
    return "rmse" if TABLES[name].is_values else "log_loss"


def _mean(lines: Lines, key: str) -> float:
    return statistics.mean(line[key] for line in lines)


def _median(lines: Lines, key: str) -> float:
    return statistics.median(line[key] for line in lines)


def _spread(lines: Lines, key: str) -> str:
    spread = f" ± {_deviation(lines, key):.4f}" if len(lines) > 1 else ""
    return f"{_mean(lines, key):.4f}{spread}"


def _deviation(lines: Lines, key: str) -> float:
    return statistics.stdev(line[key] for line in lines)


def _grouped(lines: Lines) -> dict[str, dict[str, Lines]]:
    """Return the lines with scores by table and model, of as many seeds as all models have that were fitted on every
    table; those of other models have their own seeds."""
    scored = [line for line in lines if "error" not in line]
    names = [name for name in TABLES if any(line["data"] == name for line in scored)]
    groups: dict[str, dict[str, Lines]] = {name: {} for name in names}
    for name in names:
        for model in MODELS:
            found = [line for line in scored if (line["data"], line["model"]) == (name, model)]
            if found:
                groups[name][model] = found
    for of_models in groups.values():
        seeds = set.intersection(*({line["seed"] for line in of_models[model]} for model in _everywhere(groups)))
        for model in _everywhere(groups):
            of_models[model] = [line for line in of_models[model] if line["seed"] in seeds]
    return groups


def _everywhere(groups: dict[str, dict[str, Lines]]) -> list[str]:
    """Return the models that were fitted on every table: a rank among some is not a rank among all."""
    return [model for model in MODELS if all(model in of_models for of_models in groups.values())]


def readme_table(lines: Lines) -> str:
    """Return what the README says of the results."""
    groups = _grouped(lines)
    rows = max(line["rows"] for line in lines)
    seeds = max(len(found) for of_models in groups.values() for found in of_models.values())
    return (
        f"{len(groups)} tables of at most {rows:,} rows, up to {seeds} seeds; models as they come, by the mean rank of "
        "their root mean squared error or log loss on test rows. Other work on the machine changes CPU seconds least."
        f"\n\n{_summary(groups)}"
    )


def _summary(groups: dict[str, dict[str, Lines]]) -> str:
    """Return the table of mean ranks."""
    ranks: dict[str, list[int]] = {model: [] for model in _everywhere(groups)}
    for name, of_models in groups.items():
        means = {model: _mean(of_models[model], metric_of(name)) for model in ranks}
        for place, model in enumerate(sorted(means, key=means.__getitem__), start=1):
            ranks[model].append(place)
    rows = []
    for model in sorted(ranks, key=lambda model: statistics.mean(ranks[model])):
        fits = [line for of_models in groups.values() for line in of_models[model]]
        times = [f"{_median(fits, key):.2f}" for key in _TIMES]
        rows.append([model, f"{statistics.mean(ranks[model]):.2f}", str(len(groups)), *times])
    return table(["model", "mean rank", "tables", *_TIMES.values()], rows)


def _against_originals(groups: dict[str, dict[str, Lines]]) -> str:
    """Return the table of recipes beside their originals, on the seeds that both have."""
    rows = []
    for name, of_models in groups.items():
        for original in ("RealMLP", "TabM"):
            ours, theirs = (
                {line["seed"]: line for line in of_models.get(model, [])}
                for model in (f"gradflow {original}", original)
            )
            seeds = sorted(ours.keys() & theirs.keys())
            if not seeds:
                continue
            both = [[lines[seed] for seed in seeds] for lines in (ours, theirs)]
            metric = metric_of(name)
            means = [_mean(lines, metric) for lines in both]
            apart = f"{(means[0] - means[1]) / _deviation(both[1], metric):+.2f}" if len(seeds) > 1 else ""
            faster = _median(both[1], "fit_cpu_seconds") / _median(both[0], "fit_cpu_seconds")
            cells = [f"{name}, {metric}", original, *(f"{mean:.4f}" for mean in means), apart, f"{faster:.1f}"]
            rows.append([*cells, str(len(seeds))])
    heads = ["data", "recipe", "gradflow", "original", "difference, sd", "times as fast, CPU", "seeds"]
    return table(heads, rows)


def _details(groups: dict[str, dict[str, Lines]]) -> str:
    """Return the table of all scores."""
    rows = []
    for name, of_models in groups.items():
        for model, lines in of_models.items():
            others = [_spread(lines, other) if other in lines[0] else "" for other in ("accuracy", "auc")]
            times = [f"{_median(lines, key):.2f}" for key in _TIMES]
            head = f"{name}, {metric_of(name)}"
            rows.append([head, model, _spread(lines, metric_of(name)), *others, *times, str(len(lines))])
    return table(["data", "model", "error", "accuracy", "AUC", *_TIMES.values(), "seeds"], rows)


def markdown(lines: Lines, about: dict[str, Any]) -> str:
    """Return the results as Markdown tables: by mean rank, against the originals, and by data set."""
    scored = [line for line in lines if "error" not in line]
    groups = _grouped(lines)
    settings = sorted({(line["rows"], line["quick"]) for line in scored})
    has_quick = any(quick for _, quick in settings)
    warning = " **Some fits were quick ones, which train next to nothing.**" if has_quick else ""
    parts = [
        "# Models on tables, as they come",
        machine_line({"machine": about}),
        f"At most {' or '.join(f'{rows:,}' for rows, _ in settings)} rows of each table, of which 64 % train, 16 % "
        "choose and 20 % test; models that do not choose by validation rows train on them too. Mean ± standard "
        "deviation over seeds, with other rows each; seconds are medians on the processors of this machine, all of "
        "which every model may use; CPU seconds are those that all processors together spent on the fit, which other "
        "work on the machine changes less. The rank is that of the mean root mean squared error or log loss among the "
        f"models that were fitted on all tables, on the seeds that all of them have.{warning}",
        _summary(groups),
        "Recipes and the PyTorch programs that they follow: mean error, the difference in standard deviations of the "
        "original over seeds (below 0: gradflow is better), and the CPU seconds of the original's fit in those of "
        "gradflow's.",
        _against_originals(groups),
        "All scores:",
        _details(groups),
    ]
    known = {_key(line) for line in scored}
    failed = {_key(line): line for line in lines if "error" in line and _key(line) not in known}
    named = [f"- {line['model']} on {line['data']}, seed {line['seed']}: {line['error']}" for line in failed.values()]
    return "\n\n".join(parts + (["Fits that failed:", "\n".join(named)] if named else [])) + "\n"


def compare(given: argparse.Namespace, path: Path, models: Mapping[str, Callable[[Task], Predict]]) -> list[Any]:
    """Fit what is missing in a file of lines, append it, and return all lines."""
    given.rows = given.rows or (_QUICK_ROWS if given.quick else _ROWS)
    given.output.mkdir(parents=True, exist_ok=True)
    lines = read_lines(path)
    origin = {name: value for name, value in machine().items() if name in ("processor", "cores", "date")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that models did not converge
        for found in fits(given, lines, models):
            line = found | origin
            lines.append(line)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
    return lines


def arguments_of(program: str, description: str | None, models: Iterable[str], data_sets: list[str]) -> Any:
    """Return the parser of the arguments of a comparison."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--data-sets", nargs="+", choices=TABLES, default=data_sets, help="default: %(default)s")
    parser.add_argument("--models", nargs="+", choices=models, default=list(models), help="default: all")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help="default: %(default)s")
    parser.add_argument("--rows", type=int, help=f"most rows of a table; default: {_ROWS}")
    parser.add_argument("--quick", action="store_true", help="few rows and next to no training, to see it work")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Fit what is missing in the file of lines, and write the tables of all lines."""
    given = arguments_of("benchmarks.tables", __doc__, MODELS, list(TABLES)).parse_args(arguments)
    name = "tables" if given.rows is None else f"tables-{given.rows}-rows"
    lines = compare(given, given.output / f"{name}.jsonl", MODELS)
    write_atomically(given.output / f"{name}.md", markdown(lines, machine()).encode())
    print(f"written: {given.output}")


if __name__ == "__main__":
    main()
