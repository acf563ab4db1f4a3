"""``mpiexec -n 2 gradflow train FILE``: one run, and one voice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from tests.distributed.ranks import needs_mpi, run

pytestmark = [needs_mpi, pytest.mark.thorough]

_COMMAND = "import sys; from gradflow.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tables") / "big.parquet"
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    a, b = np.random.default_rng(0).normal(size=(2, 1000))
    columns = {"a": a, "b": b, "color": np.where(a > 0, "red", "blue"), "y": np.where(a > b, "yes", "no")}
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_ranks_train_one_run_and_resume_it(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", table, "--target", "y", "--epochs", "3", "--output", folder]
    ended = run(2, _COMMAND, *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("held-out accuracy") == 1
    assert ended.stderr.count("epoch 3/3") == 1
    assert sum(path.name == "model.safetensors" for path in folder.iterdir()) == 1
    resumed = run(3, _COMMAND, "train", "--resume", folder, "--epochs", "5")
    assert resumed.returncode == 0, resumed.stderr
    assert len((folder / "history.csv").read_text().splitlines()) == 6
    assert gf.load(folder).predict_classes({"a": [2.0], "b": [-2.0], "color": ["red"]}).tolist() == ["yes"]


def test_an_error_is_printed_once(table: Path, tmp_path: Path) -> None:
    ended = run(2, _COMMAND, "train", table, "--target", "price", "--output", tmp_path / "run")
    assert ended.returncode == 2
    assert len(re.findall("error: .*unknown column 'price'", ended.stderr)) == 1


def test_other_commands_run_once(tmp_path: Path) -> None:
    ended = run(2, _COMMAND, "info")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("gradflow") == run(1, _COMMAND, "info").stdout.count("gradflow") > 0
