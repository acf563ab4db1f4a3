"""Settings in any combination: sources give the bits of memory, copies and files those of the original, resumed runs
those of undisturbed ones, and members of a pack those of the member alone."""

from __future__ import annotations

import copy
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradflow as gf
from tests.training.runs.test_resume import BrokenOffError, Dies

ROWS, EPOCHS = 90, 4
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age": RANDOM.uniform(18, 90, ROWS).round(1),
        "shop": RANDOM.integers(0, 9, ROWS),
        "city": RANDOM.choice(["Rome", "Oslo", "Lima"], ROWS),
        "day": np.datetime64("2024-01-01") + RANDOM.integers(0, 400, ROWS),
    }
)
GAPS = TABLE.assign(age=TABLE["age"].where(TABLE.index % 7 != 0), city=TABLE["city"].where(TABLE.index % 11 != 0))
RULES = {
    "age": gf.data.Standardize(missing="mark"),
    "shop": gf.Embedding(size=2, min_rows=4),
    "city": gf.Embedding(size=3, missing="mark"),
    "day": gf.data.Dates(("elapsed", "weekday")),
}
PREPROCESSING = gf.data.fit_preprocessing(GAPS, RULES)
WEIGHT = RANDOM.uniform(0.5, 2, ROWS).round(3)
NUMBERS = (TABLE["age"] * 3 + TABLE["shop"] ** 2 + 100).to_numpy()
NAMES = np.where(NUMBERS > 330, "high", np.where(NUMBERS > 250, "middle", "low")).astype(object)
TASKS: dict[str, tuple[Any, np.ndarray, int]] = {
    "names": (gf.SoftmaxCrossEntropy(label_smoothing=0.1), NAMES, 3),
    "two names": (gf.BinaryCrossEntropy(), np.where(NAMES == "high", "yes", "no").astype(object), 1),
    "labels": (gf.SoftmaxCrossEntropy(), TABLE["shop"].to_numpy() % 3, 3),
    "numbers": (gf.HuberLoss(), NUMBERS, 1),
    "quantiles": (gf.QuantileLoss([0.1, 0.5, 0.9]), NUMBERS, 3),
}
OPTIMIZERS: dict[str, Callable[[], gf.Optimizer]] = {
    "adam": lambda: gf.Adam(0.01),
    "momentum": lambda: gf.SGD(0.01, momentum=0.9),
    "adamw": lambda: gf.AdamW(gf.CosineSchedule(0.01, warmup=1), weight_decay=0.01),
    "lion": lambda: gf.Lion(0.003),
    "muon": lambda: gf.Muon(0.01, adamw_factor=0.5),
}

BACKENDS = pytest.mark.parametrize("backend", ["reference", "numpy", pytest.param("cupy", marks=pytest.mark.gpu)])


@dataclass(frozen=True)
class Case:
    """One combination of settings."""

    task: str
    optimizer: str
    dtype: str
    with_table: bool
    normalization: str | None
    dropout: float
    frozen: bool
    standardize: bool
    average: float | None
    clip_norm: float | None
    l2: float
    batch_size: int | None
    accumulate: int
    drop_last: bool
    shuffle: bool
    weighted: bool
    class_weight: Any
    validation: str | None

    @property
    def targets(self) -> np.ndarray:
        return TASKS[self.task][1]

    @property
    def inputs(self) -> pd.DataFrame:
        return GAPS if self.with_table else TABLE[["age", "shop"]]

    def trainer(self, backend: str = "numpy", seed: int = 1) -> gf.Trainer:
        loss, _, n_out = TASKS[self.task]
        layers: list[gf.Layer] = []
        n_in = self.inputs.shape[1]
        if self.with_table:
            layers = [gf.EmbedColumns(PREPROCESSING.n_out, PREPROCESSING.tables)]
            n_in = layers[0].n_out
        layers += [gf.Dense(n_in, 6)]
        layers += {"batch": [gf.BatchNorm(6)], "layer": [gf.LayerNorm(6)]}.get(self.normalization or "", [])
        layers += [gf.SiLU(), gf.Dropout(self.dropout), gf.Residual([gf.Dense(6, 6), gf.SiLU()]), gf.Dense(6, n_out)]
        network = gf.Sequential(layers, dtype=self.dtype, seed=seed, backend=backend)
        if self.with_table:
            network.preprocessing = PREPROCESSING
        if self.frozen:
            network.frozen = [0]
        return gf.Trainer(
            network,
            copy.deepcopy(loss),
            OPTIMIZERS[self.optimizer](),
            standardize_targets=self.standardize,
            average=self.average,
            clip_norm=self.clip_norm,
            l2=self.l2,
            threads=None if backend == "cupy" else 1,
        )

    def arguments(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            "epochs": EPOCHS,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "drop_last": self.drop_last,
            "shuffle": self.shuffle,
            "class_weight": self.class_weight,
            "progress": False,
        }
        if self.validation == "fraction":
            chosen["validation_fraction"] = 0.3
        if self.validation == "data":
            chosen["validation_data"] = (self.inputs[::3], self.targets[::3])
        return chosen

    def in_memory(self) -> tuple[tuple[Any, Any], dict[str, Any]]:
        return (self.inputs, self.targets), {"sample_weight": WEIGHT} if self.weighted else {}

    def source(self, kind: str, folder: Path) -> gf.data.Source:
        """Return the rows as a source of the given kind."""
        weight = WEIGHT if self.weighted else None
        if kind == "arrays":
            return gf.data.Arrays(self.inputs, self.targets, weight)
        if kind == "batches":
            cuts = [0, 13, 14, 60, ROWS]

            def pieces() -> Iterator[tuple[Any, ...]]:
                for start, stop in pairwise(cuts):
                    piece = (self.inputs[start:stop], self.targets[start:stop])
                    yield piece if weight is None else (*piece, weight[start:stop])

            return gf.data.Batches(pieces)
        table = self.inputs.assign(y=self.targets)
        columns: dict[str, Any] = {"target": "y"}
        if weight is not None:
            table["weight"] = weight
            columns["sample_weight"] = "weight"
        path = folder / f"rows.{kind}"
        if kind == "csv":
            table.to_csv(path, index=False)
            return gf.data.CSV(path, **columns)
        table.to_parquet(path, row_group_size=25, index=False)
        return gf.data.Parquet(path, **columns)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    task = draw(st.sampled_from(list(TASKS)))
    is_number = task in ("numbers", "quantiles")
    by_name = {"names": {"high": 2.0}, "two names": {"yes": 3.0}, "labels": {2: 0.5}}
    normalization = draw(st.sampled_from([None, "layer", "batch"]))
    return Case(
        task=task,
        optimizer=draw(st.sampled_from(list(OPTIMIZERS))),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        with_table=draw(st.booleans()),
        normalization=normalization,
        dropout=draw(st.sampled_from([0.0, 0.3])),
        frozen=draw(st.booleans()),
        standardize=is_number and draw(st.booleans()),
        average=draw(st.sampled_from([None, 0.9])),
        clip_norm=draw(st.sampled_from([None, 0.5])),
        l2=draw(st.sampled_from([0.0, 1e-3])),
        batch_size=draw(st.sampled_from([None, 8, 16])),
        accumulate=draw(st.sampled_from([1, 2])),
        drop_last=draw(st.booleans()),
        shuffle=draw(st.booleans()),
        weighted=draw(st.booleans()),
        class_weight=None if is_number else draw(st.sampled_from([None, "balanced", by_name[task]])),
        validation=draw(st.sampled_from([None, "fraction", "data"])),
    )


def results(trainer: gf.Trainer) -> tuple[dict[str, bytes], dict[str, list[float]]]:
    """Return what training leaves: weights, running statistics, and the history."""
    assert trainer.history is not None
    history = {name: trainer.history[name] for name in trainer.history.keys()}  # noqa: SIM118
    return {name: array.tobytes() for name, array in trainer.network.get_weights().items()}, history


def trained(case: Case, trainer: gf.Trainer, **arguments: Any) -> gf.Trainer:
    (x, y), weights = case.in_memory()
    trainer.fit(x, y, **weights, **case.arguments() | arguments)
    return trainer


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.TrainingWarning)
        yield


@BACKENDS
@settings(max_examples=10)
@given(case=cases(), kind=st.sampled_from(["arrays", "batches", "csv", "parquet"]))
def test_a_source_gives_the_bits_of_memory(backend: str, case: Case, kind: str) -> None:
    # Streams are shuffled by blocks, and so differently.
    case = case if kind == "arrays" else replace(case, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        source = case.source(kind, Path(folder))
        streamed, arguments = case.trainer(backend), case.arguments()
        if arguments.pop("validation_fraction", None):
            stratify = case.task not in ("numbers", "quantiles")
            source, held_out = source.split(validation_fraction=0.3, stratify=stratify, seed=1)
            arguments["validation_data"] = held_out
        streamed.fit(source, **arguments)
    in_memory = trained(case, case.trainer(backend))
    assert results(streamed) == results(in_memory)
    for name in ("classes", "feature_names", "output_scale"):
        assert getattr(streamed.network, name) == getattr(in_memory.network, name)


@BACKENDS
@settings(max_examples=10)
@given(case=cases())
def test_copies_and_files_predict_and_learn_on_alike(backend: str, case: Case) -> None:
    network = trained(case, case.trainer(backend)).network
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        gf.save(network, path)
        twins = [gf.load(path, backend), pickle.loads(pickle.dumps(network)), network.copy(), copy.deepcopy(network)]
    loss = TASKS[case.task][0]
    learned = []
    for each in (network, *twins):
        assert each.predict(case.inputs).tobytes() == network.predict(case.inputs).tobytes()
        assert (each.classes, each.feature_names, each.frozen) == (
            network.classes,
            network.feature_names,
            network.frozen,
        )
    for each in (network, *twins):
        again = gf.Trainer(each, loss, OPTIMIZERS[case.optimizer](), standardize_targets=case.standardize)
        learned.append(results(trained(case, again, epochs=2)))
    assert all(each == learned[0] for each in learned)


@BACKENDS
@settings(max_examples=10)
@given(case=cases(), kind=st.sampled_from([None, "csv", "parquet"]), epoch=st.integers(1, EPOCHS - 1))
def test_a_resumed_run_is_one_that_was_never_interrupted(
    backend: str, case: Case, kind: str | None, epoch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = {"output": str(Path(folder) / "run"), "checkpoint": gf.Checkpoint(every_steps=2)}

        def fit(trainer: gf.Trainer, **arguments: Any) -> gf.Trainer:
            if kind is None:
                return trained(case, trainer, **arguments)
            chosen = case.arguments() | arguments
            if chosen.pop("validation_fraction", None):
                chosen["validation_data"] = (case.inputs[::3], case.targets[::3])
            trainer.fit(case.source(kind, Path(folder)), **chosen)
            return trainer

        with pytest.raises(BrokenOffError):
            fit(case.trainer(backend), callbacks=[Dies(epoch)], **runs)
        resumed = fit(case.trainer(backend), resume=runs["output"])
        assert results(resumed) == results(fit(case.trainer(backend)))


@settings(max_examples=10)
@given(case=cases(), other=cases())
def test_members_of_a_pack_get_the_bits_that_they_get_alone(case: Case, other: Case) -> None:
    shared = (
        "task",
        "with_table",
        "batch_size",
        "accumulate",
        "drop_last",
        "shuffle",
        "weighted",
        "class_weight",
        "validation",
    )
    other = replace(other, **{name: getattr(case, name) for name in shared}, standardize=case.standardize)
    members = [case.trainer(), other.trainer(seed=2), case.trainer(seed=3)]
    pack = gf.Pack(members)
    (x, y), weights = case.in_memory()
    pack.fit(x, y, **weights, **case.arguments())
    alone = [trained(case, each) for each in (case.trainer(), other.trainer(seed=2), case.trainer(seed=3))]
    assert [results(member) for member in members] == [results(each) for each in alone]
