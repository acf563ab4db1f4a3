"""gradflow's estimators against scikit-learn's, by the same program: python -m benchmarks.estimators.

On the data sets that ship with scikit-learn, both estimators have the same parameters and seeds. Scores on held-out
rows are compared seed by seed, and the times of a fit, and of a grid search with five folds on all processors, taken in
turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.accuracy import is_as_good
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import machine_line, table
from benchmarks.real_data import DATA_SETS, HIDDEN, DataSet
from benchmarks.rounds import ratios, rounds_in_turn, spread

OURS, THEIRS = "gradflow", "scikit-learn"
_SEEDS, _SEARCHES = 20, 3
_QUICK = {"seeds": 2, "searches": 1, "data_sets": ["iris"]}
_ALPHAS = [1e-5, 1e-4, 1e-3, 1e-2]
_EPOCHS = 200


def estimator(library: str, data_set: DataSet, seed: int) -> Any:
    """Return an estimator of a library, with scikit-learn's defaults but for the widths and the size of a batch."""
    if library == OURS:
        from gradflow import sklearn as module
    else:
        from sklearn import neural_network as module
    kind = module.MLPRegressor if data_set.task == "values" else module.MLPClassifier
    return kind(hidden_layer_sizes=HIDDEN, batch_size=data_set.batch_size, max_iter=_EPOCHS, random_state=seed)


def measure(data_set: DataSet, seeds: int, searches: int) -> dict[str, Any]:
    """Return scores and seconds of fits, in the order of the seeds, and seconds of searches, by library."""
    scores: dict[str, list[float]] = {OURS: [], THEIRS: []}

    def fit(library: str) -> float:
        seed = len(scores[library])
        split, model = data_set.split(seed), estimator(library, data_set, seed)
        began = time.perf_counter()
        model.fit(split.x_train, split.y_train)
        seconds = time.perf_counter() - began
        scores[library].append(data_set.score(model.predict(split.x_test), split.y_test))
        return seconds

    def search(library: str) -> float:
        from sklearn.model_selection import GridSearchCV

        split = data_set.split(0)
        grid = GridSearchCV(estimator(library, data_set, 0), {"alpha": _ALPHAS}, cv=5, n_jobs=-1)
        began = time.perf_counter()
        grid.fit(split.x_train, split.y_train)
        return time.perf_counter() - began

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that training has not converged, in either
        seconds = rounds_in_turn({library: partial(fit, library) for library in scores}, seeds)
        of_search = rounds_in_turn({library: partial(search, library) for library in scores}, searches)
    return {"name": data_set.name, "scores": scores, "seconds": seconds, "search_seconds": of_search}


def speedup(seconds: dict[str, list[float]]) -> float:
    """Return how many times as fast as scikit-learn's our estimator is: the median of the ratios of each round."""
    return spread(ratios(seconds[THEIRS], seconds[OURS])).median


def markdown(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = []
    for entry in result["data_sets"]:
        ours, theirs = entry["scores"][OURS], entry["scores"][THEIRS]
        means = [f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f}" for scores in (ours, theirs)]
        times = [
            f"{statistics.median(entry[kind][library]):.2f}"
            for kind in ("seconds", "search_seconds")
            for library in (OURS, THEIRS)
        ]
        rows.append(
            [
                entry["name"],
                *means,
                "yes" if is_as_good(ours, theirs) else "no",
                *times[:2],
                f"{speedup(entry['seconds']):.1f}",
                *times[2:],
                f"{speedup(entry['search_seconds']):.1f}",
            ]
        )
    header = [
        "data", "score", "scikit-learn's", "as good", "fit, s", "scikit-learn's", "faster",
        "search, s", "scikit-learn's", "faster",
    ]  # fmt: skip
    parts = [
        "# Estimators, the import changed",
        machine_line(result),
        f"`MLPClassifier` and `MLPRegressor`, {HIDDEN[0]} and {HIDDEN[1]} hidden units, up to {_EPOCHS} epochs, all "
        f"else scikit-learn's defaults; {result['seeds']} seeds, with other held-out rows each. Scores: accuracy, and "
        "R² for diabetes; mean ± standard deviation; as good: within the spread of the differences over seeds. "
        f"Searches: {len(_ALPHAS)} values of alpha, five folds, `n_jobs=-1`; the first one starts the processes. "
        "Times are medians.",
        table(header, rows),
    ]
    return "\n\n".join(parts) + "\n"


def summary(result: dict[str, Any]) -> str:
    """Return the result in a sentence."""
    fits, searches = ([speedup(entry[kind]) for entry in result["data_sets"]] for kind in ("seconds", "search_seconds"))
    as_good = sum(is_as_good(entry["scores"][OURS], entry["scores"][THEIRS]) for entry in result["data_sets"])
    return (
        f"`gradflow.sklearn` against scikit-learn, the import changed: a fit is {min(fits):.1f} to {max(fits):.1f} "
        f"times as fast, a grid search {min(searches):.1f} to {max(searches):.1f} times; scores are as good on "
        f"{as_good} of {len(result['data_sets'])} data sets."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write estimators.json and estimators.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, help="default: all")
    parser.add_argument("--seeds", type=int, help=f"number of fits; default: {_SEEDS}")
    parser.add_argument("--searches", type=int, help=f"number of grid searches; default: {_SEARCHES}")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK}, to see it work")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    defaults = _QUICK if options.quick else {"seeds": _SEEDS, "searches": _SEARCHES, "data_sets": list(DATA_SETS)}
    seeds, searches, names = (getattr(options, name) or default for name, default in defaults.items())
    if min(seeds - 1, searches) < 1:
        parser.error(f"at least 2 seeds and 1 search are needed, got {seeds} and {searches}")
    result: dict[str, Any] = {"machine": machine(), "seeds": seeds, "data_sets": []}
    for name in names:
        result["data_sets"].append(measure(DATA_SETS[name], seeds, searches))
        print(f"measured: {name}", flush=True)
    write_results(options.output, "estimators", result, markdown(result))
    print(f"\n{markdown(result)}\nwritten: {options.output}")


if __name__ == "__main__":
    main()
