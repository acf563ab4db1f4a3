"""Class names: found in targets of any kind, kept by the network, and returned by its predictions."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow import storage
from gradflow.data.classes import ClassFinder, checked_classes, class_numbers, class_values
from gradflow.data.where import Where

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 4)).astype(np.float32)
NUMBERS = (X[:, 0] > 0.4).astype(int) + (X[:, 0] > -0.4)
SPECIES = ("setosa", "versicolor", "virginica")
NAMES = np.array(SPECIES)[NUMBERS]


def network(n_out: int = 3, **arguments: Any) -> gf.Sequential:
    return gf.MLP([4, 8, n_out], **{"seed": 1, "backend": "numpy"} | arguments)


def trainer(of: gf.Sequential | None = None, loss: str | gf.Loss | None = None, **settings: Any) -> gf.Trainer:
    of = of or network()
    default = "binary_cross_entropy" if of.n_out == 1 else "softmax_cross_entropy"
    return gf.Trainer(of, loss or default, gf.Adam(0.02), **settings)


def trained(y: Any, n_out: int = 3, *, x: Any = X, **arguments: Any) -> gf.Sequential:
    made = network(n_out)
    trainer(made).fit(x, y, **{"epochs": 2, "progress": False} | arguments)
    return made


def weights(of: gf.Sequential) -> bytes:
    return of.backend.to_host(of.state).tobytes()


@contextmanager
def refused(message: str) -> Iterator[None]:
    with pytest.raises(gf.DataError, match=re.escape(message)):
        yield


# -- kinds of names ---------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[np.ndarray], Any], tuple[Any, ...]]] = {
    "text": (lambda n: np.array(SPECIES)[n], SPECIES),
    "a list": (lambda n: np.array(SPECIES)[n].tolist(), SPECIES),
    "objects": (lambda n: np.array(SPECIES, object)[n], SPECIES),
    "a column": (lambda n: np.array(SPECIES)[n].reshape(-1, 1), SPECIES),
    "integers": (lambda n: n + 1, (1, 2, 3)),
    "small integers": (lambda n: (n - 1).astype(np.int8), (-1, 0, 1)),
    "large integers": (lambda n: n.astype(np.uint64) * 2**40, (0, 2**40, 2**41)),
    "floats": (lambda n: n * 0.5, (0.0, 0.5, 1.0)),
    "float32": (lambda n: (n + 0.1).astype(np.float32), tuple(np.float32([0.1, 1.1, 2.1]).tolist())),
    "a Series": (lambda n: pd.Series(np.array(SPECIES)[n], index=range(90, 180)), SPECIES),
    "categories": (lambda n: pd.Series(np.array(SPECIES)[n], dtype="category"), SPECIES),
    "numbered categories": (lambda n: pd.Series((n + 1) * 10, dtype="category"), (10, 20, 30)),
    "strings of pandas": (lambda n: pd.Series(np.array(SPECIES)[n], dtype="string"), SPECIES),
    "strings of Arrow": (lambda n: pd.Series(np.array(SPECIES)[n], dtype=pd.ArrowDtype(pa.string())), SPECIES),
    "nullable integers": (lambda n: pd.Series(n + 5, dtype="Int32"), (5, 6, 7)),
    "a frame": (lambda n: pd.DataFrame({"species": np.array(SPECIES)[n]}), SPECIES),
    "polars": (lambda n: pl.Series(np.array(SPECIES)[n]), SPECIES),
    "categories of polars": (lambda n: pl.Series(np.array(SPECIES)[n], dtype=pl.Categorical), SPECIES),
    "pyarrow": (lambda n: pa.array(np.array(SPECIES)[n]), SPECIES),
    "chunks of pyarrow": (lambda n: pa.chunked_array([np.array(SPECIES)[n][:40], np.array(SPECIES)[n][40:]]), SPECIES),
    "a dictionary of pyarrow": (lambda n: pa.array(np.array(SPECIES)[n]).dictionary_encode(), SPECIES),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_any_kind_are_learned_as_their_numbers_are(kind: str) -> None:
    make, classes = KINDS[kind]
    named, numbered = trained(make(NUMBERS)), trained(NUMBERS)
    assert named.classes == classes
    assert list(map(type, named.classes or ())) == list(map(type, classes))
    assert numbered.classes is None
    assert weights(named) == weights(numbered)
    predicted = named.predict_classes(X)
    assert predicted.tolist() == [classes[number] for number in numbered.predict_classes(X)]
    assert predicted.dtype == (object if isinstance(classes[0], str) else type(classes[0]))
    assert trainer(named).evaluate(X, make(NUMBERS)) == trainer(numbered).evaluate(X, NUMBERS)


BOOLEANS: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda b: b,
    "list": lambda b: b.tolist(),
    "objects": lambda b: b.astype(object),
    "pandas": lambda b: pd.Series(b, dtype="boolean"),
    "polars": lambda b: pl.Series(b),
    "pyarrow": lambda b: pa.array(b),
}


@pytest.mark.parametrize("kind", BOOLEANS)
@pytest.mark.parametrize("n_out", [1, 2])
def test_booleans_are_names_of_two_classes(kind: str, n_out: int) -> None:
    is_large = NUMBERS > 0
    named, numbered = trained(BOOLEANS[kind](is_large), n_out), trained(is_large.astype(int), n_out)
    assert named.classes == (False, True)
    assert weights(named) == weights(numbered)
    assert named.predict_classes(X).dtype == bool
    np.testing.assert_array_equal(named.predict_classes(X), numbered.predict_classes(X) == 1)
    for y in (is_large, is_large.astype(int), is_large.astype(np.float32)):
        assert trainer(named).evaluate(X, y) == trainer(numbered).evaluate(X, is_large.astype(int))


def test_one_class_of_booleans_is_enough() -> None:
    assert trained(np.ones(90, bool), 1).classes == (False, True)


@pytest.mark.parametrize("y", [np.where(NUMBERS, 1, -1), np.where(NUMBERS, "yes", "no"), np.where(NUMBERS, 2.0, 0.0)])
def test_one_output_tells_two_names_apart(y: np.ndarray) -> None:
    named, numbered = trained(y, 1), trained((NUMBERS > 0).astype(int), 1)
    assert weights(named) == weights(numbered)
    assert named.classes == tuple(np.unique(y).tolist())
    is_second = named.predict(X)[:, 0] > 0.5
    np.testing.assert_array_equal(named.predict_classes(X) == max(y.tolist()), is_second)


CLASS_NUMBERS = {
    "labels": (NUMBERS, 3), "labels of which one is absent": (NUMBERS % 2, 3), "a column": (NUMBERS[:, None], 3),
    "only one label": (NUMBERS * 0, 3), "booleans of three classes": (NUMBERS > 0, 3), "binary": (NUMBERS % 2, 1),
    "probabilities": (np.eye(3)[NUMBERS], 3), "one probability": (np.linspace(0, 1, 90), 1),
    "zeros": (np.zeros(90), 1), "labels in 0 and 1": ((NUMBERS > 0) * 1.0, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CLASS_NUMBERS)
def test_class_numbers_and_probabilities_are_no_names(case: str) -> None:
    y, n_out = CLASS_NUMBERS[case]
    made = trained(y, n_out)
    assert made.classes is None
    assert made.predict_classes(X).dtype == np.int64


def test_several_labels_are_no_names() -> None:
    y = np.eye(3, dtype=bool)[NUMBERS]
    made = network()
    trainer(made, "binary_cross_entropy").fit(X, y, epochs=1)
    assert made.classes is None
    assert made.predict_classes(X).shape == (90, 3)


# -- names given by the user ------------------------------------------------------------------------------------------


def test_names_may_be_set_in_any_order_and_for_classes_that_do_not_occur() -> None:
    made = network(4)
    made.classes = ["virginica", "versicolor", "setosa", "unseen"]
    trainer(made).fit(X, NAMES, epochs=2)
    assert made.classes == ("virginica", "versicolor", "setosa", "unseen")
    numbered = trained(2 - NUMBERS, 4)
    assert weights(made) == weights(numbered)
    assert made.predict_classes(X).tolist() == [made.classes[number] for number in numbered.predict_classes(X)]
    trainer(made).fit(X, np.where(NUMBERS == 2, "unseen", NAMES), epochs=1)


def test_probabilities_go_with_names() -> None:
    named = network()
    named.classes = SPECIES
    trainer(named).fit(X, np.eye(3)[NUMBERS], epochs=2)
    assert set(named.predict_classes(X)) <= set(SPECIES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abc", "classes must be a list of class names, or None, got 'abc'"),
        ([], "classes must be the names of 3, one for each output, got none"),
        (["a", "b"], "classes must be the names of 3, one for each output, got 2: 'a', 'b'. Create a network with 2"),
        ([1, 2, 3, 4], "classes must be the names of 3, one for each output, got 4: 1, 2, 3, 4"),
        (["a", "b", "a"], "classes must be different names, but 'a' occurs twice"),
        ([1, 1.0, 2], "classes must be different names, but 1.0 occurs twice"),
        (["a", "b", 3], "classes must be all text, all numbers or all booleans, got 'a', 'b', 3"),
        ([True, False, 2], "classes must be all text, all numbers or all booleans, got True, False, 2"),
        ([0.5, 1, float("nan")], "a class name must be text, a boolean, or a finite number of 64 bits, got nan"),
        ([1, 2, 2**63], "a class name must be text, a boolean, or a finite number of 64 bits, got 9223372036854775808"),
        (["a", "b", None], "a class name must be text, a boolean, or a finite number of 64 bits, got None"),
        (["a", "b", ("c",)], "a class name must be text, a boolean, or a finite number of 64 bits, got ('c',)"),
    ],
)
def test_wrong_names_are_refused(names: Any, message: str) -> None:
    made = network()
    made.classes = SPECIES
    with refused(message):
        made.classes = names
    assert made.classes == SPECIES


def test_numpy_scalars_become_plain() -> None:
    made = network()
    made.classes = np.array([3, 1, 2], np.int16)
    assert [(name, type(name)) for name in made.classes or ()] == [(3, int), (1, int), (2, int)]
    made.classes = np.array(["c", "a", "b"])
    assert [(name, type(name)) for name in made.classes or ()] == [("c", str), ("a", str), ("b", str)]
    made.classes = None
    assert made.classes is None


# -- bad targets ------------------------------------------------------------------------------------------------------

ONE_GONE = np.where(np.arange(90) == 7, None, NAMES.astype(object))
BAD: dict[str, tuple[Any, int, str]] = {
    "None": (ONE_GONE, 3, "y has no class in row 7: remove the rows without one"),
    "NaN in a list": (np.where(ONE_GONE == None, np.nan, ONE_GONE).tolist(), 3, "y has no class in row 7"),  # noqa: E711
    "pandas.NA": (pd.Series(ONE_GONE, dtype="string"), 3, "y has no class in row 7"),
    "null": (pa.array(ONE_GONE), 3, "y has no class in row 7"),
    "NaN": (np.where(np.arange(90) == 7, np.nan, NUMBERS + 0.5), 3, "y holds NaN or infinity in row 7; remove these"),
    "a missing boolean": (
        pd.Series(NUMBERS > 0, dtype="boolean").mask(np.arange(90) == 7), 1, "y holds NaN or infinity in row 7",
    ),
    "mixed": (
        np.where(np.arange(90) == 7, 3, NAMES.astype(object)), 3, "but holds 'versicolor' in row 0, and 3 in row 7",
    ),
    "too many": (
        NAMES, 2,
        "y holds 3 classes ('setosa', 'versicolor', 'virginica'), but the network has 2 outputs, one for each class. "
        "Create a network with 3 outputs",
    ),
    "too many for one output": (
        NAMES, 1, "but the network has 1 output, for two classes. Create a network with 3 outputs, for the loss",
    ),
    "too few": (
        NAMES, 5, "Name all classes before training, network.classes = [...], or create a network with 3 outputs",
    ),
    "one class": (np.full(90, "a"), 1, "y holds 1 class ('a'), but the network has 1 output, for two classes"),
    "names of rows": ([f"row {row}" for row in range(90)], 3, "If these are numbers to predict, use a loss for"),
    "a regression": (X[:, 0], 3, "which are not the class numbers 0 to 2, but the network has 3 outputs"),
    "not all labels": (NUMBERS * 2, 4, "y holds 3 classes (0, 2, 4), which are not the class numbers 0 to 3"),
    "names in two columns": (np.stack([NAMES, NAMES], axis=1), 3, "y must hold numbers, got dtype <U10"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_targets_that_name_no_classes_are_refused(case: str) -> None:
    y, n_out, message = BAD[case]
    made = network(n_out)
    before = weights(made)
    with refused(message):
        trainer(made).fit(X, y, epochs=1)
    assert (made.classes, weights(made)) == (None, before)


def test_names_and_losses_for_numbers() -> None:
    for loss, n_out, remedy in (
        (
            "mean_squared_error",
            1,
            "but loss 'mean_squared_error' needs numbers. For classes use 'softmax_cross_entropy'",
        ),
        ("binary_cross_entropy", 3, "but loss 'binary_cross_entropy' needs numbers, 3 in each row"),
    ):
        with refused(f"y holds text, such as 'versicolor' in row 0, {remedy}"):
            trainer(network(n_out), loss).fit(X, NAMES, epochs=1)
    with refused("y holds text, such as '1.5' in row 0, but loss 'huber' needs numbers"):
        trainer(network(1), "huber", standardize_targets=True).fit(X, ["1.5"] * 90, epochs=1)
    with refused("numbers stored as text convert with y.astype(float)"):
        trainer(network(1), "huber").evaluate(X, ["1.5"] * 90)


UNKNOWN: dict[str, tuple[Any, str]] = {
    "misspelled": (
        np.where(np.arange(90) == 7, "Setosa", NAMES),
        "y holds the class 'Setosa' in row 7, but the network knows 'setosa', 'versicolor', 'virginica'. Is it 'setosa",
    ),
    "new": (np.where(np.arange(90) == 7, "rose", NAMES), "a new class needs a new network with an output for it"),
    "class numbers": (NUMBERS, "names of class numbers are numpy.array(network.classes)[y]"),
    "missing": (ONE_GONE, "y has no class in row 7"),
    "two columns": (np.zeros((90, 2)), "y must hold one class name in each row, shape (rows,), got (90, 2)"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_classes_are_refused_by_name(case: str) -> None:
    y, message = UNKNOWN[case]
    made = trained(NAMES)
    before = weights(made)
    of_made = trainer(made)
    for refuse in (
        lambda: of_made.fit(X, y, epochs=1),
        lambda: of_made.fit(gf.data.Arrays(X, y), epochs=1),
        lambda: of_made.partial_fit(X, y),
        lambda: of_made.evaluate(X, y),
        lambda: of_made.fit(X, NAMES, epochs=1, validation_data=(X, y)),
        lambda: gf.inspect.gradient_norms(made, "softmax_cross_entropy", X, y),
    ):
        with refused(message):
            refuse()
    assert (made.classes, weights(made)) == (SPECIES, before)


def test_probabilities_of_one_output_are_no_names() -> None:
    made = trained(np.where(NUMBERS, "yes", "no"), 1)
    with refused(
        "y holds the class 0.5 in row 0, which is a number, but the network knows 'no', 'yes', which are text"
    ):
        trainer(made).evaluate(X, np.full(90, 0.5))


def test_text_does_not_match_names_that_are_numbers() -> None:
    with refused("y holds the class '1' in row 0, which is text, but the network knows 1, 2, 3, which are numbers"):
        trainer(trained(NUMBERS + 1)).evaluate(X, np.full(90, "1"))


def test_an_untrained_network_cannot_be_evaluated_on_names() -> None:
    for made in (network(), trained(NUMBERS)):
        with refused("but the network knows no class names: it was not trained yet, or on class numbers"):
            trainer(made).evaluate(X, NAMES)


def test_another_task_needs_the_names_forgotten() -> None:
    made = trained(NAMES)
    with refused("the network has classes, 'setosa', 'versicolor', 'virginica', which loss 'huber' does not support"):
        trainer(made, "huber").fit(X, np.eye(3)[NUMBERS], epochs=1)
    made.classes = None
    trainer(made, "huber").fit(X, np.eye(3)[NUMBERS], epochs=1)
    trainer(made).fit(X, np.where(NUMBERS, NUMBERS, 7), epochs=1)
    assert made.classes == (1, 2, 7)


# -- sources ----------------------------------------------------------------------------------------------------------

TABLE = {f"x{column}": X[:, column].astype(float) for column in range(4)}


def csv_file(folder: Path, y: np.ndarray) -> gf.data.Source:
    pd.DataFrame(TABLE | {"y": y}).to_csv(folder / "rows.csv", index=False)
    return gf.data.CSV(folder / "rows.csv", target="y", block_rows=25)


def parquet_file(folder: Path, y: np.ndarray) -> gf.data.Source:
    pyarrow.parquet.write_table(pa.table(TABLE | {"y": y}), folder / "rows.parquet", row_group_size=40)
    return gf.data.Parquet(folder / "rows.parquet", target="y", block_rows=25)


def arrow_file(folder: Path, y: np.ndarray) -> gf.data.Source:
    table = pa.table(TABLE | {"y": y})
    with pyarrow.ipc.new_file(str(folder / "rows.arrow"), table.schema) as file:
        file.write_table(table, 40)
    return gf.data.Arrow(folder / "rows.arrow", target="y", block_rows=25)


def dictionary_file(folder: Path, y: np.ndarray) -> gf.data.Source:
    return parquet_file(folder, pa.array(y).dictionary_encode())


def arrays(folder: Path, y: np.ndarray) -> gf.data.Source:
    return gf.data.Arrays(X, y)


def mapped(folder: Path, y: np.ndarray) -> gf.data.Source:
    np.save(folder / "y.npy", y)
    return gf.data.Arrays(X, np.load(folder / "y.npy", mmap_mode="r"))


def batches(folder: Path, y: np.ndarray) -> gf.data.Source:
    return gf.data.Batches([(X[rows], y[rows].tolist()) for rows in (slice(0, 30), slice(30, 31), slice(31, 90))])


SOURCES = {
    make.__name__: make for make in (csv_file, parquet_file, arrow_file, dictionary_file, arrays, mapped, batches)
}
sources = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


@sources
@pytest.mark.parametrize("y", [NAMES, NUMBERS * 10], ids=["text", "numbers"])
def test_sources_have_names(make: Callable[[Path, Any], gf.data.Source], y: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    source, of_numbers = make(tmp_path, y), make(tmp_path / "numbers", NUMBERS)
    named, numbered = trained(None, x=source, batch_size=20), trained(None, x=of_numbers, batch_size=20)
    assert named.classes == tuple(np.unique(y).tolist())
    assert weights(named) == weights(numbered)
    assert trainer(named).evaluate(source) == trainer(numbered).evaluate(of_numbers)
    np.testing.assert_array_equal(named.predict_classes(source), named.predict_classes(X))
    trainer(named).fit(X, y, epochs=1, validation_data=source)
    trainer(named).fit(source, epochs=1, validation_data=(X, y), class_weight={y[0]: 2})


@sources
def test_weights_of_named_classes_are_those_of_their_numbers(
    make: Callable[[Path, Any], gf.data.Source], tmp_path: Path
) -> None:
    source = make(tmp_path, NAMES)
    for by_name, by_number in (({"setosa": 3, "virginica": 0.5}, {0: 3.0, 2: 0.5}), ("balanced", "balanced")):
        named = trained(None, x=source, class_weight=by_name, shuffle=False)
        assert weights(named) == weights(trained(NUMBERS, class_weight=by_number, shuffle=False))


@sources
def test_missing_and_unknown_names_in_sources(make: Callable[[Path, Any], gf.data.Source], tmp_path: Path) -> None:
    if make is not mapped:
        with pytest.raises(gf.DataError, match=r"y has no class in (row 7|line 9): remove the rows without one"):
            trained(None, x=make(tmp_path, ONE_GONE))
    made, other = trained(NAMES), np.where(np.arange(90) == 7, "rose", NAMES)
    with pytest.raises(gf.DataError, match=r"y holds the class 'rose' in (row 7|line 9), but the network knows"):
        trainer(made).evaluate(make(tmp_path, other))
    with pytest.raises(gf.DataError, match=r"validation y holds the class 'rose' in (row 7|line 9), but"):
        trainer(made).fit(X, NAMES, epochs=1, validation_data=make(tmp_path, other))


@pytest.mark.parametrize("make", [parquet_file, arrow_file, arrays, batches])
def test_booleans_in_sources(make: Callable[[Path, Any], gf.data.Source], tmp_path: Path) -> None:
    made = trained(None, 1, x=make(tmp_path, NUMBERS > 0))
    assert made.classes == (False, True)


@pytest.mark.parametrize("make", [csv_file, parquet_file, arrow_file, arrays, mapped, batches])
def test_numbers_in_sorted_rows_are_judged_by_all_of_them(
    make: Callable[[Path, Any], gf.data.Source], tmp_path: Path
) -> None:
    source = make(tmp_path, np.sort(NUMBERS) + 1)
    assert trained(None, x=source, shuffle=False).classes == (1, 2, 3)


@pytest.mark.parametrize("make", [csv_file, parquet_file, arrays])
def test_parts_of_sources_have_names(make: Callable[[Path, Any], gf.data.Source], tmp_path: Path) -> None:
    training, held_out = make(tmp_path, NAMES).split(validation_fraction=0.3, stratify=True)
    made = trained(None, x=training, validation_data=held_out, class_weight={"setosa": 2})
    assert made.classes == SPECIES
    assert set(made.predict_classes(held_out)) <= set(SPECIES)


def test_labels_that_come_too_late_name_the_remedy() -> None:
    parts = [(X[start : start + 30], np.full(30, start // 30 + 1)) for start in (0, 30, 60)]
    made = network()
    with refused("got labels from 3 to 3; name other labels before training: network.classes = [...]"):
        trainer(made).fit(gf.data.Batches(parts, rows=90, block_rows=30), epochs=1, shuffle=False)
    made.classes = [1, 2, 3]
    trainer(made).fit(gf.data.Batches(parts, rows=90, block_rows=30), epochs=1)


@pytest.mark.parametrize("part", [False, True])
def test_finding_names_leaves_the_inputs_alone(part: bool) -> None:
    source = gf.data.Arrays(X, NAMES)
    source = source.split(seed=1)[0] if part else source
    assert {block.x.shape[1] for block in source.target_blocks()} == {0}
    assert np.concatenate([block.y for block in source.target_blocks()]).tolist() == [
        name for block in source.blocks() for name in block.y.tolist()
    ]


def test_numbers_of_mapped_arrays_are_judged_by_all_rows(tmp_path: Path) -> None:
    x, y = np.zeros((500_000, 4), np.float32), np.sort(np.arange(500_000) % 3) + 1
    made = network()
    trainer(made).fit(gf.data.Arrays(x, y), epochs=1, batch_size=100_000)
    assert made.classes == (1, 2, 3)


def test_a_file_is_not_read_more_often_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def counted(y: np.ndarray, **arguments: Any) -> int:
        passes.clear()
        source: Any = csv_file(tmp_path, y)
        lines = source._lines
        monkeypatch.setattr(source, "_lines", lambda: passes.append(1) or lines())
        trained(None, x=source, epochs=1, **arguments)
        return len(passes)

    assert counted(NAMES) == counted(NUMBERS)


@pytest.mark.parametrize("n_out", [1, 3])
def test_from_a_csv_file_to_a_loaded_model_that_predicts_names(n_out: int, tmp_path: Path) -> None:
    names = NAMES if n_out == 3 else np.where(NUMBERS, "large", "small")
    text, gap = np.where(X[:, 1] > 0, "red", "blue"), np.where(np.arange(90) % 9, TABLE["x0"] * 1000, np.nan)
    columns = {"petal": gap, "color": text, "x2": TABLE["x2"], "species": names}
    pd.DataFrame(columns).to_csv(tmp_path / "irises.csv.gz", index=False)
    training, held_out = gf.data.CSV(tmp_path / "irises.csv.gz", target="species").split(stratify=True)
    preprocessing = gf.data.fit_preprocessing(training, numbers=gf.data.Standardize("mark"))
    made = gf.MLP([preprocessing.n_out, 12, n_out], seed=1, backend="numpy")
    made.preprocessing = preprocessing
    step = trainer(made, metrics=["f1"])
    step.fit(training, epochs=60, validation_data=held_out, class_weight="balanced", progress=False)
    gf.save(made, tmp_path / "model.safetensors")
    loaded = gf.load(tmp_path / "model.safetensors")
    is_known = np.isfinite(gap)
    table = {name: values[is_known] for name, values in reversed(columns.items()) if name != "species"}
    assert (loaded.predict_classes(table) == names[is_known]).mean() > 0.85
    everything = gf.data.CSV(tmp_path / "irises.csv.gz", target=None, features=["petal", "color", "x2"])
    np.testing.assert_array_equal(loaded.predict_classes(everything), made.predict_classes(pd.DataFrame(columns)))
    assert trainer(loaded, metrics=["f1"]).evaluate(held_out) == step.evaluate(held_out)


# -- copies, files and runs -------------------------------------------------------------------------------------------


def test_names_are_copied_saved_and_pickled(tmp_path: Path) -> None:
    for y in (NAMES, NUMBERS + 1, NUMBERS / 2):
        made = trained(y)
        gf.save(made, tmp_path / "model.safetensors")
        for other in (
            gf.load(tmp_path / "model.safetensors"), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.copy(),
            made.copy(dtype="float64"),
        ):  # fmt: skip
            assert other.classes == made.classes
            assert list(map(type, other.classes)) == list(map(type, made.classes or ()))
            np.testing.assert_array_equal(other.predict_classes(X), made.predict_classes(X))


def test_any_text_is_saved(tmp_path: Path) -> None:
    made = network()
    made.classes = ["\ud800 half a pair", "a zero\0", "日本"]
    gf.save(made, tmp_path / "model.safetensors")
    assert gf.load(tmp_path / "model.safetensors").classes == made.classes


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "a", "b"], "abc", 5, {"a": 1}, [None, 1, 2], [1, "a", True], []])
def test_a_file_with_wrong_names_is_refused(classes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = storage.describe
    monkeypatch.setattr(storage, "describe", lambda network: describe(network) | {"classes": classes})
    gf.save(network(), tmp_path / "model.safetensors")
    with pytest.raises(gf.FileFormatError, match="the description of the network is damaged: "):
        gf.load(tmp_path / "model.safetensors")


def test_a_failed_fit_leaves_the_names_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    made = network()
    for classes in (None, SPECIES[::-1]):
        made.classes = classes
        with pytest.raises(OSError, match="checkpoints cannot be saved here"):
            trainer(made).fit(X, NAMES, epochs=1, output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=1))
        assert made.classes == classes


def test_a_run_with_other_names_is_not_resumed(tmp_path: Path) -> None:
    every = gf.Checkpoint(every_epochs=1)
    trainer().fit(X, NAMES, epochs=1, output=tmp_path, checkpoint=every, class_weight={"setosa": 2.0})
    with refused("the run to resume is a different one: network.classes[2] was 'virginica', but is 'zinnia'"):
        renamed = np.where(NAMES == "virginica", "zinnia", NAMES)
        trainer().fit(X, renamed, epochs=2, resume=tmp_path, class_weight={"setosa": 2.0})
    with refused("settings.class_weight.setosa was 2.0, but is 3.0"):
        trainer().fit(X, NAMES, epochs=2, resume=tmp_path, class_weight={"setosa": 3.0})
    resumed = trainer()
    resumed.fit(X, NAMES, epochs=2, resume=tmp_path, class_weight={"setosa": 2.0})
    assert weights(resumed.network) == weights(trained(NAMES, class_weight={"setosa": 2.0}))
    assert gf.load(tmp_path / "model.safetensors").classes == SPECIES
    assert gf.load(max((tmp_path / "checkpoints").iterdir())).classes == SPECIES
    assert gf.repeat(tmp_path, X, NAMES).is_same
    with refused("y holds the class 'zinnia' in row"):
        gf.repeat(tmp_path, X, renamed)
    with refused("this is not the data of the run: its classes were ['setosa', 'versicolor', 'virginica'], but are"):
        gf.repeat(tmp_path, X, renamed, network=network())


def test_a_new_head_has_names_of_its_own() -> None:
    body = trained(NAMES)
    made = gf.Sequential([*copy.deepcopy(body.layers[:-1]), gf.Dense(8, 2)], backend="numpy")
    assert made.classes is None
    trainer(made).fit(X, np.where(NUMBERS, "large", "small"), epochs=1)
    assert made.classes == ("large", "small")


def test_parts_that_lack_a_class_are_learned_one_after_the_other() -> None:
    made = network()
    step = trainer(made)
    with refused("y holds 2 classes ('setosa', 'virginica'), but the network has 3 outputs"):
        step.partial_fit(X[NUMBERS != 1], NAMES[NUMBERS != 1])
    for second in (NAMES, NUMBERS + 1):
        numbered = trainer()
        numbered.partial_fit(X[NUMBERS != 0], NUMBERS[NUMBERS != 0])
        with refused("but earlier calls had class numbers, the outputs of which would get another meaning. Name all"):
            numbered.partial_fit(X, second)
    flags = trainer(network(1))
    flags.partial_fit(X, (NUMBERS > 0).astype(int))
    flags.partial_fit(X, NUMBERS > 0)
    made.classes = SPECIES
    for number in range(3):
        rows = np.flatnonzero(NUMBERS == number)  # noqa: SIM300
        step.partial_fit(X[rows], NAMES[rows])
    assert made.classes == SPECIES


# -- weights, metrics and tools ---------------------------------------------------------------------------------------


def test_class_weights_have_the_names_of_classes() -> None:
    named = trained(NAMES, class_weight={"setosa": 3, "virginica": 0.5})
    assert weights(named) == weights(trained(NUMBERS, class_weight={0: 3, 2: 0.5}))
    assert weights(trained(NUMBERS + 1, class_weight={1: 3, 3: 0.5})) == weights(named)
    assert weights(trained(NAMES, class_weight="balanced")) == weights(trained(NUMBERS, class_weight="balanced"))
    by_number, flags = {1: 2.0}, NUMBERS > 0
    for by_name in ({True: 2.0}, {1: 2.0}, {np.True_: 2.0}):
        assert weights(trained(flags, 1, class_weight=by_name)) == weights(
            trained(flags.astype(int), 1, class_weight=by_number)
        )
    with refused(
        "class_weight names the class 'Setosa', but the classes are 'setosa', 'versicolor', 'virginica'. Is it"
    ):
        trained(NAMES, class_weight={"Setosa": 2})
    with refused("class_weight names the class 0, but the classes are 'setosa', 'versicolor', 'virginica'"):
        trained(NAMES, class_weight={0: 2})
    with refused("class_weight of class setosa must be a finite number, at least 0, got -1"):
        trained(NAMES, class_weight={"setosa": -1})


def test_errors_about_validation_data_show_names() -> None:
    seen = NAMES != "setosa"
    made = network()
    made.classes = SPECIES
    with refused("validation y has classes that do not occur in training: 'setosa'; split the data so that each class"):
        trainer(made).fit(X[seen], NAMES[seen], epochs=1, validation_data=(X, NAMES))


def test_metrics_and_early_stopping_take_names() -> None:
    metrics = ["f1", "roc_auc", "balanced_accuracy", "log_loss", "top_2_accuracy"]

    def history(y: np.ndarray) -> dict[str, list[float]]:
        made = trainer(metrics=metrics)
        stop = gf.EarlyStopping("val_f1", patience=3)
        found = made.fit(X[:60], y[:60], epochs=5, validation_data=(X[60:], y[60:]), early_stopping=stop)
        return {name: found[name] for name in found} | made.evaluate(X, y)

    assert history(NAMES) == history(NUMBERS)


def test_tools_take_names() -> None:
    loss = "softmax_cross_entropy"
    untrained = network()
    assert gf.check_gradients(untrained, loss, X, NAMES) == gf.check_gradients(untrained, loss, X, NUMBERS)
    norms = gf.inspect.gradient_norms(untrained, loss, X, NAMES)
    assert norms == gf.inspect.gradient_norms(untrained, loss, X, NUMBERS)
    assert untrained.classes is None
    by_name, by_number = (
        gf.inspect.learning_rate_range_test(trainer(), X, y, steps=20, highest=0.1) for y in (NAMES, NUMBERS)
    )
    np.testing.assert_array_equal(by_name.losses, by_number.losses)
    weighted = [
        gf.gradients(untrained, loss, X, y, class_weight=by)["0.weight"]
        for y, by in ((NAMES, {"setosa": 2}), (NUMBERS, {0: 2}))
    ]
    np.testing.assert_array_equal(*weighted)


def test_focal_loss_and_trailing_activations() -> None:
    focal = network()
    trainer(focal, gf.SoftmaxCrossEntropy(focal_gamma=2)).fit(X, NAMES, epochs=1)
    assert focal.classes == SPECIES
    for layer, y in ((gf.Softmax(), NAMES), (gf.Sigmoid(), np.where(NUMBERS, "b", "a"))):
        made = gf.Sequential([gf.Dense(4, 3 if y is NAMES else 1), layer], backend="numpy")
        trainer(made).fit(X, y, epochs=1)
        assert set(made.predict_classes(X)) <= set(np.unique(y))


@pytest.mark.gpu
def test_names_on_a_gpu() -> None:
    import cupy

    x, y = cupy.asarray(X), cupy.asarray(NUMBERS + 1)
    made = network(backend="cupy")
    trainer(made).fit(x, y, epochs=1)
    assert made.classes == (1, 2, 3)
    on_device = made.predict_classes(x)
    assert isinstance(on_device, cupy.ndarray)
    np.testing.assert_array_equal(on_device.get(), made.predict_classes(X))
    assert trainer(made).evaluate(x, y) == trainer(made).evaluate(X, NUMBERS + 1)
    text = network(backend="cupy")
    trainer(text).fit(x, NAMES, epochs=1)
    assert isinstance(text.predict_classes(x), np.ndarray)
    assert text.predict_classes(x).tolist() == text.predict_classes(X).tolist()


# -- any names --------------------------------------------------------------------------------------------------------

ANY_NAMES = st.one_of(
    st.lists(st.text(), min_size=2, unique=True),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, unique=True),
)


@given(ANY_NAMES, st.data())
def test_names_come_back(names: list[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(names), max_size=20)) + names
    y = np.array(rows, object if isinstance(names[0], str) else None)
    where = Where(range(len(y)))
    finder = ClassFinder("y", len(names) if len(names) > 2 else 1)
    for start in range(0, len(y), 7):
        finder.update(y[start : start + 7], where[start : start + 7])
    assert finder.classes() == tuple(sorted(names))
    classes = checked_classes(names, len(names))
    assert class_values(classes)[class_numbers("y", y, classes, where)].tolist() == rows


def test_memory_for_names_is_bounded() -> None:
    finder = ClassFinder("y", 3)
    with refused("y holds more than "):
        for start in range(0, 10**6, 500):
            finder.update(np.arange(start, start + 500).astype(str).astype(object), Where(range(500)))
    assert len(finder._found) < 2000
