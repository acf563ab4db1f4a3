"""gradflow's recipes and their peers on tables: python -m benchmarks.tables.

Every model is fitted as it comes on the same rows of the same tables, for several seeds with other rows each: 64 % of
them train, 16 % choose, 20 % test. Each fit is a line of tables.jsonl, written when it ends: an interrupted comparison
continues where it ended, and may be divided over hours or machines of one kind. tables.md is made of all lines.
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


def _metric(of_table: Table) -> str:
    return "rmse" if of_table.is_values else "log_loss"


def _mean(lines: list[dict[str, Any]], metric: str) -> float:
    return statistics.mean(line[metric] for line in lines)


def _spread(lines: list[dict[str, Any]], metric: str) -> str:
    values = [line[metric] for line in lines]
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def markdown(lines: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the results as Markdown tables: by mean rank, and by data set."""
    scored = [line for line in lines if "error" not in line]
    models = [model for model in MODELS if any(line["model"] == model for line in scored)]
    names = [name for name in TABLES if any(line["data"] == name for line in scored)]

    def of(model: str, name: str) -> list[dict[str, Any]]:
        return [line for line in scored if (line["model"], line["data"]) == (model, name)]

    ranks: dict[str, list[float]] = {model: [] for model in models}
    rows = []
    for name in names:
        metric = _metric(TABLES[name])
        means = {model: _mean(found, metric) for model in models if (found := of(model, name))}
        if len(means) == len(models):  # a rank among some is not a rank among all
            for place, model in enumerate(sorted(means, key=means.__getitem__), start=1):
                ranks[model].append(place)
        for model, found in ((model, of(model, name)) for model in means):
            others = [_spread(found, other) if other in found[0] else "" for other in ("accuracy", "auc")]
            times = [f"{statistics.median(line[key] for line in found):.2f}" for key in _TIMES]
            rows.append([f"{name}, {metric}", model, _spread(found, metric), *others, *times, str(len(found))])
    ordered = sorted(models, key=lambda model: statistics.mean(ranks[model]) if ranks[model] else len(models))
    summary = [
        [
            model,
            f"{statistics.mean(ranks[model]):.2f}" if ranks[model] else "",
            str(len(ranks[model])),
            *(f"{statistics.median(line[key] for line in scored if line['model'] == model):.2f}" for key in _TIMES),
        ]
        for model in ordered
    ]
    settings = sorted({(line["rows"], line["quick"]) for line in scored})
    parts = [
        "# Models on tables, as they come",
        machine_line({"machine": about}),
        f"At most {' or '.join(f'{rows:,}' for rows, _ in settings)} rows of each table, of which 64 % train, 16 % "
        "choose and 20 % test; models that do not choose by validation rows train on them too. Mean ± standard "
        "deviation over seeds, with other rows each; seconds are medians on the processors of this machine, all of "
        "which every model may use; CPU seconds are those that all processors together spent on the fit. The rank is "
        "that of the mean root mean squared error or log loss among all models, averaged over the tables on which all "
        "were fitted."
        + (
            " **Some fits were quick ones, which train next to nothing.**"
            if any(quick for _, quick in settings)
            else ""
        ),
        table(["model", "mean rank", "tables", *_TIMES.values()], summary),
        table(["data", "model", "error", "accuracy", "AUC", *_TIMES.values(), "seeds"], rows),
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
    """Fit what is missing in tables.jsonl, and write tables.md."""
    given = arguments_of("benchmarks.tables", __doc__, MODELS, list(TABLES)).parse_args(arguments)
    lines = compare(given, given.output / "tables.jsonl", MODELS)
    write_atomically(given.output / "tables.md", markdown(lines, machine()).encode())
    print(f"written: {given.output}")


if __name__ == "__main__":
    main()
