"""The comparison of recipes and their peers on tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import table_blocks, tables
from benchmarks.machine import RESULTS
from benchmarks.report import README
from benchmarks.table_data import TABLES, Parts, Table
from benchmarks.table_models import MODELS, Task
from tests.benchmarks.test_contention import MACHINE
from tests.benchmarks.test_tabpack import read

pytest.importorskip("pandas")
sklearn_metrics = pytest.importorskip("sklearn.metrics")

OURS = ["gradflow MLP", "gradflow TabM", "gradflow RealMLP"]
THEIRS = ["scikit-learn MLP", "HistGradientBoosting"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "read", read)
    for module in (tables, table_blocks):
        monkeypatch.setattr(module, "machine", lambda: MACHINE)


def compare(folder: Path, models: list[str]) -> str:
    """Compare, and return the tables."""
    words = ["--quick", "--data-sets", "diamonds", "wa_churn", "--seeds", "2", "--models", *models]
    tables.main([*words, "--output", str(folder)])
    return (folder / "tables.md").read_text()


def test_an_interrupted_comparison_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tmp_path, OURS[:1])
    first = tables.read_lines(tmp_path / "tables.jsonl")
    assert [(line["seed"], line["data"]) for line in first] == [
        (0, "diamonds"), (0, "wa_churn"), (1, "diamonds"), (1, "wa_churn"),
    ]  # fmt: skip
    with (tmp_path / "tables.jsonl").open("a") as file:
        file.write(json.dumps({**first[0], "model": THEIRS[1], "error": "ValueError: no"}) + "\n")
        file.write('{"data": "diam')  # as if killed
        file.write("\n")

    def fail(task: Task) -> Any:
        raise ValueError("the first line\nof several")

    monkeypatch.setitem(MODELS, "LightGBM", fail)
    text = compare(tmp_path, [*OURS[:2], *THEIRS, "LightGBM"])
    lines = tables.read_lines(tmp_path / "tables.jsonl")
    assert lines[: len(first)] == first
    scored = [line for line in lines if "error" not in line]
    assert len(scored) == 16
    assert len({(line["data"], line["seed"], line["model"]) for line in scored}) == 16
    assert "| diamonds, rmse | gradflow TabM |" in text
    assert "- LightGBM on diamonds, seed 0: ValueError: the first line\n" in text
    assert "HistGradientBoosting on diamonds" not in text  # it failed, and was fitted later


def test_other_numbers_of_rows_have_files_of_their_own(tmp_path: Path) -> None:
    words = ["--quick", "--rows", "300", "--data-sets", "diamonds", "--seeds", "1", "--models", OURS[0]]
    tables.main([*words, "--output", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"tables-300-rows.jsonl", "tables-300-rows.md"}
    assert "At most 300 rows" in (tmp_path / "tables-300-rows.md").read_text()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_models_predict_what_is_asked() -> None:
    for name in ("diamonds", "wa_churn"):
        parts = Parts.of(TABLES[name], 300, 0)
        for model in [*OURS, *THEIRS]:
            task = Task(TABLES[name], parts, 0, is_quick=True)
            predicted = MODELS[model](task)(parts.test[0])
            if task.is_values:
                assert predicted.shape == (60,)
            else:
                assert predicted.shape == (60, 2)
                np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)


def test_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    classes = np.array(["a", "b", "c"])
    y = random.choice(classes, 200)
    predicted = random.dirichlet([1, 1, 1], 200).round(2)  # with ties
    predicted = (predicted + 0.01) / (predicted + 0.01).sum(axis=1, keepdims=True)
    found = tables.scores(TABLES["wa_churn"], classes, predicted, y)
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(y, predicted, labels=classes))
    assert found["accuracy"] == pytest.approx(np.mean(classes[predicted.argmax(axis=1)] == y))
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, predicted, multi_class="ovr"))
    two = predicted[:, :2] / predicted[:, :2].sum(axis=1, keepdims=True)
    of_two = tables.scores(TABLES["wa_churn"], classes[:2], two, y_of_two := random.choice(classes[:2], 200))
    assert of_two["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y_of_two == "b", two[:, 1]))
    values = random.normal(size=50)
    assert tables.scores(TABLES["diamonds"], np.array([]), values + 2, values) == {"rmse": pytest.approx(2)}


COMMON = {"rows": 10, "quick": False, "fit_seconds": 1.0, "fit_cpu_seconds": 2.0, "predict_seconds": 0.1}


def test_ranks_are_those_of_models_fitted_on_all_tables_on_the_seeds_that_they_share() -> None:
    rmse = {
        ("diamonds", "gradflow MLP", 0): 1.0, ("diamonds", "CatBoost", 0): 2.0, ("diamonds", "CatBoost", 1): 0.0,
        ("ames", "gradflow MLP", 0): 2.0, ("ames", "CatBoost", 0): 3.0, ("ames", "XGBoost", 0): 1.0,
    }  # fmt: skip
    lines = [
        {**COMMON, "data": data, "model": model, "seed": seed, "rmse": value}
        for (data, model, seed), value in rmse.items()
    ]
    text = tables.markdown(lines, MACHINE)
    assert "| gradflow MLP | 1.00 | 2 | 1.00 | 2.00 | 0.10 |\n| CatBoost | 2.00 | 2 | 1.00 | 2.00 | 0.10 |\n\n" in text
    assert "| diamonds, rmse | CatBoost | 2.0000 |" in text  # not of the seed that the other lacks
    assert "| ames, rmse | XGBoost | 1.0000 |" in text


def test_the_readme_has_the_ranks() -> None:
    lines = [
        {**COMMON, "data": "ames", "model": model, "seed": 0, "rmse": value}
        for model, value in {"gradflow MLP": 2.0, "CatBoost": 1.0}.items()
    ]
    text = tables.readme_table(lines)
    assert text.startswith("1 tables of at most 10 rows, up to 1 seeds;")
    assert "| CatBoost | 1.00 | 1 | 1.00 | 2.00 | 0.10 |\n| gradflow MLP | 2.00 |" in text


def test_recipes_stand_beside_their_originals() -> None:
    rmse = {("gradflow TabM", 0): 1.0, ("gradflow TabM", 1): 2.0, ("TabM", 0): 1.0, ("TabM", 1): 3.0, ("TabM", 2): 9.0}
    lines = [
        {**COMMON, "data": "ames", "model": model, "seed": seed, "rmse": value, "fit_cpu_seconds": 6.0 * len(model)}
        for (model, seed), value in rmse.items()
    ]
    text = tables.markdown(lines, MACHINE)
    assert f"| ames, rmse | TabM | 1.5000 | 2.0000 | {-0.5 / np.std([1, 3], ddof=1):+.2f} | {4 / 13:.1f} | 2 |" in text


def test_blocks_are_left_out_one_at_a_time(tmp_path: Path) -> None:
    words = ["--quick", "--data-sets", "diamonds", "--seeds", "2", "--models", "RealMLP", "without scale"]
    table_blocks.main([*words, "--output", str(tmp_path)])
    lines = tables.read_lines(tmp_path / "table-blocks.jsonl")
    assert len({line["rmse"] for line in lines}) == 4
    text = (tmp_path / "table-blocks.md").read_text()
    changes = [100 * (lines[place + 1]["rmse"] / lines[place]["rmse"] - 1) for place in (0, 2)]
    assert f"| without scale | {(lines[1]['rmse'] + lines[3]['rmse']) / 2:.4f} ({np.mean(changes):+.1f} ± " in text
    before = len(lines)
    table_blocks.main([*words, "--output", str(tmp_path)])
    assert len(tables.read_lines(tmp_path / "table-blocks.jsonl")) == before


def test_the_page_on_tables_has_the_committed_results() -> None:
    page = (README.parent / "docs" / "tabular-data.md").read_text()
    folder = RESULTS / "amd-epyc-avx512-2"
    _, _, results = (folder / "table-blocks.md").read_text().partition("| recipe |")
    assert results.strip() in page
    lines = tables.read_lines(folder / "table-blocks.jsonl")
    assert table_blocks.markdown(lines, MACHINE).partition("| recipe |")[2] == results
