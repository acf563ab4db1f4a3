"""Weights and standardized targets of streams: the same bits as arrays in memory, and invalid weights are named."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

import gradflow as gf

ROWS = 5000
"""More rows than the sums over a stream process at once."""
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, 3))
LABELS = RNG.choice(3, size=ROWS, p=[0.1, 0.2, 0.7])
SHARES = RNG.dirichlet([1, 2, 3], ROWS)
NUMBERS = np.stack([1e6 + 3e3 * X[:, 0], np.full(ROWS, -7.0)], axis=1)
WEIGHT = RNG.gamma(0.5, size=ROWS)

TARGETS: dict[str, tuple[str, np.ndarray, int]] = {
    "labels": ("softmax_cross_entropy", LABELS, 3),
    "shares": ("softmax_cross_entropy", SHARES, 3),
    "binary": ("binary_cross_entropy", (LABELS == 2).astype(np.int64), 1),
    "numbers": ("mean_squared_error", NUMBERS, 2),
}


def columns(y: np.ndarray, weight: np.ndarray | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the columns of a file, and the arguments of its source."""
    targets = {f"y{place}": column for place, column in enumerate(y.reshape(len(y), -1).T)}
    table = {"a": X[: len(y), 0], **targets, "b": X[: len(y), 1], "c": X[: len(y), 2]}
    arguments: dict[str, Any] = {"target": list(targets) if y.ndim == 2 else "y0", "block_rows": 700}
    if weight is not None:
        table, arguments = {"w": weight, **table}, {**arguments, "sample_weight": "w"}
    return table, arguments


def npy(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    arrays = {"x": X[: len(y)], "y": y} | ({} if weight is None else {"w": weight})
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays)


def arrays(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    return (gf.data.Arrays(X[: len(y)], y, weight),)


def parquet(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    table, arguments = columns(y, weight)
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "rows.parquet", row_group_size=1000)
    return (gf.data.Parquet(folder / "rows.parquet", **arguments),)


def arrow(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    table, arguments = columns(y, weight)
    with pyarrow.ipc.new_file(folder / "rows.arrow", pyarrow.table(table).schema) as file:
        file.write_table(pyarrow.table(table), max_chunksize=800)
    return (gf.data.Arrow(folder / "rows.arrow", **arguments),)


def csv(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    table, arguments = columns(y, weight)
    lines = [",".join(map(repr, row)) for row in zip(*(column.tolist() for column in table.values()), strict=True)]
    (folder / "rows.csv").write_text("\n".join([",".join(table), *lines]) + "\n")
    return (gf.data.CSV(folder / "rows.csv", **arguments),)


def iterable(folder: Path, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, ...]:
    parts = (X[: len(y)], y) if weight is None else (X[: len(y)], y, weight)

    def items() -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, len(y), 450):
            yield tuple(part[start : start + 450] for part in parts)

    return (gf.data.Batches(items, block_rows=700),)


Make = Callable[[Path, np.ndarray, np.ndarray | None], tuple[Any, ...]]
KINDS: dict[str, Make] = {make.__name__: make for make in (npy, arrays, parquet, arrow, csv, iterable)}
SHUFFLED_AS_IN_MEMORY = (npy, arrays)
"""The others shuffle by blocks."""


def trained(kind: str, backend: str, data: tuple[Any, ...], **arguments: Any) -> tuple[bytes, dict[str, Any]]:
    """Return the parameters after two epochs, and the measured values. Weights of arrays come third."""
    loss, _, n_out = TARGETS[kind]
    network = gf.MLP([3, 8, n_out], dropout=0.1, seed=5, backend=backend)
    metrics = ["r2"] if kind == "numbers" else ["f1"]
    trainer = gf.Trainer(network, loss, gf.Adam(0.01), metrics=metrics, standardize_targets=kind == "numbers")
    class_weight = arguments.pop("class_weight", None)
    x, y, sample_weight = (*data, None, None)[:3]
    validation_data = x if isinstance(x, gf.data.Source) else data
    history = trainer.fit(
        x,
        y,
        epochs=2,
        batch_size=900,
        sample_weight=sample_weight,
        class_weight=class_weight,
        validation_data=validation_data,
        **arguments,
    )
    measured = trainer.evaluate(x, y, sample_weight=sample_weight, class_weight=class_weight)
    scale = network.output_scale and network.output_scale.config()
    return network.backend.to_host(network.state).tobytes(), {
        **{name: history[name] for name in history},
        "evaluated": measured,
        "scale": scale,
    }


CASES: dict[str, tuple[str, np.ndarray | None, Any]] = {
    "labels, weighted": ("labels", WEIGHT, None),
    "labels, balanced": ("labels", None, "balanced"),
    "labels, weighted twice": ("labels", WEIGHT, {0: 3.0, 2: 0.5}),
    "shares, weighted twice": ("shares", WEIGHT, "balanced"),
    "binary, weighted twice": ("binary", WEIGHT, {1: 2.5}),
    "numbers, weighted": ("numbers", WEIGHT, None),
    "numbers": ("numbers", None, None),
}
"""The kind of targets, sample_weight and class_weight."""


@functools.cache
def trained_in_memory(case: str, backend: str, shuffle: bool) -> tuple[bytes, dict[str, Any]]:
    kind, weight, class_weight = CASES[case]
    return trained(kind, backend, (X, TARGETS[kind][1], weight), class_weight=class_weight, shuffle=shuffle)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("case", CASES)
def test_streams_are_weighed_as_arrays_in_memory(make: Make, case: str, backend_name: str, tmp_path: Path) -> None:
    kind, weight, class_weight = CASES[case]
    shuffle = make in SHUFFLED_AS_IN_MEMORY
    stream = make(tmp_path, TARGETS[kind][1], weight)
    found = trained(kind, backend_name, stream, class_weight=class_weight, shuffle=shuffle)
    assert found == trained_in_memory(case, backend_name, shuffle)


def test_a_weight_that_is_no_feature_can_be_one(tmp_path: Path) -> None:
    parquet(tmp_path, LABELS, WEIGHT)
    path = tmp_path / "rows.parquet"
    assert gf.data.Parquet(path, target="y0", sample_weight="w").features == ("a", "b", "c")
    assert gf.data.Parquet(path, target="y0", sample_weight="w", features=["a", "w"]).features == ("a", "w")
    source = gf.data.Parquet(path, target="y0", sample_weight="w")
    assert gf.data.fit_preprocessing(source).names == ("a", "b", "c")


BAD = WEIGHT.copy()
BAD[4123] = -2


@pytest.mark.parametrize(
    ("make", "weight", "message"),
    [
        (npy, BAD, "sample_weight must hold finite numbers, at least 0, got -2 in row 4123"),
        (npy, WEIGHT[:-1], "sample_weight must have shape (5000,), one weight for each row, got (4999,)"),
        (npy, 0 * WEIGHT, "sample_weight is 0 in every row"),
        (arrays, WEIGHT * np.nan, "sample_weight must hold finite numbers, at least 0, got nan in row 0"),
        (arrays, np.full(ROWS, "heavy"), "sample_weight must hold numbers, got dtype <U5"),
        (parquet, BAD, "rows.parquet: the sample_weight column 'w' must hold finite numbers, at least 0, got -2 in "
         "row 4123"),
        (arrow, np.where(BAD < 0, np.inf, BAD), "rows.arrow: the sample_weight column 'w' must hold finite numbers, at "
         "least 0, got inf in row 4123"),
        (csv, BAD, "rows.csv: the sample_weight column 'w' must hold finite numbers, at least 0, got -2 in line 4125"),
        (csv, 0 * WEIGHT, "sample_weight is 0 in every row"),
        (iterable, BAD, "sample_weight of batch 9 of the iterable must hold finite numbers, at least 0, got -2 in row "
         "4123"),
        (iterable, WEIGHT[:, None], "sample_weight of batch 0 of the iterable must have shape (450,), one weight for "
         "each row, got (450, 1)"),
    ],
)  # fmt: skip
def test_bad_weights_are_named_before_the_first_step(
    make: Make, weight: np.ndarray, message: str, tmp_path: Path
) -> None:
    network = gf.MLP([3, 3], seed=5, backend="numpy")
    before = network.parameters.copy()

    def fit() -> None:
        x, y, sample_weight = (*make(tmp_path, LABELS, weight), None, None)[:3]
        gf.Trainer(network, "softmax_cross_entropy", "adam").fit(x, y, epochs=1, sample_weight=sample_weight)

    with pytest.raises(gf.DataError, match=re.escape(message)):
        fit()
    np.testing.assert_array_equal(network.parameters, before)


def test_incompatible_arguments_are_refused(tmp_path: Path) -> None:
    def fit(*data: Any, loss: str = "softmax_cross_entropy", n_out: int = 3, **arguments: Any) -> None:
        settings = {name: arguments.pop(name) for name in ("standardize_targets",) if name in arguments}
        gf.Trainer(gf.MLP([3, n_out], backend="numpy"), loss, "adam", **settings).fit(*data, epochs=1, **arguments)

    def refused(message: str) -> Any:
        return pytest.raises(gf.DataError, match=re.escape(message))

    (source,) = parquet(tmp_path, LABELS, WEIGHT)
    path = tmp_path / "rows.parquet"
    with refused("x is a source and must contain its weights: name their column"):
        fit(source, sample_weight=WEIGHT)
    with refused("unknown column 'v'"):
        gf.data.Parquet(path, target="y0", sample_weight="v")
    with refused("class_weight requires classes"):
        fit(source, loss="mean_squared_error", n_out=1, class_weight="balanced")
    with refused("class_weight must be a dict of classes and weights, or \"balanced\", got 'even'"):
        fit(source, class_weight="even")
    with refused("class_weight gives every row of the data weight 0"):
        fit(source, class_weight={0: 0, 1: 0, 2: 0})
    with refused("require a regression loss, got 'softmax_cross_entropy'"):
        fit(source, standardize_targets=True)
    (tmp_path / "rows.csv").write_text("a,b,c,y,w\n1,2,3,0,1\n1,2,3,1,heavy\n")
    with refused("rows.csv: the sample_weight column 'w' must hold numbers"):
        fit(gf.data.CSV(tmp_path / "rows.csv", target="y", sample_weight="w"))
    (tmp_path / "rows.csv").write_text("a,b,c,y,w\n1,2,3,0,1\n1,2,3,1,\n")
    with refused("rows.csv: the sample_weight column 'w' must hold finite numbers, at least 0, got nan in line 3"):
        fit(gf.data.CSV(tmp_path / "rows.csv", target="y", sample_weight="w"))
    (tmp_path / "rows.csv").write_text("a,b,c,y\n1,2,3,0\n1,2,3,inf\n")
    with refused("rows.csv, lines 2 to 3: y holds NaN or infinity in line 3"):
        fit(
            gf.data.CSV(tmp_path / "rows.csv", target="y"),
            loss="mean_squared_error",
            n_out=1,
            standardize_targets=True,
        )
    x, y, w = X[:20], LABELS[:20], WEIGHT[:20]
    with refused(
        "batch 1 of the iterable has sample weights, but the first one has none; pass them for all batches or none"
    ):
        fit(gf.data.Batches([(x, y), (x, y, w)]))
    with refused("the first one has sample weights, but batch 1 of the iterable has none"):
        fit(gf.data.Batches([(x, y, w), (x, y)]))
    with refused("pass the function that creates it"):
        fit(gf.data.Batches(iter([(x, y)])), class_weight="balanced")


def test_classes_that_training_never_saw_are_refused_where_they_are_counted(tmp_path: Path) -> None:
    without = gf.data.Arrays(X[LABELS != 1], LABELS[LABELS != 1])
    trainer = gf.Trainer(gf.MLP([3, 3], backend="numpy"), "softmax_cross_entropy", "adam")
    with pytest.raises(gf.DataError, match="validation y has classes that do not occur in training: 1"):
        trainer.fit(without, epochs=1, class_weight={0: 2}, validation_data=(X, LABELS))
