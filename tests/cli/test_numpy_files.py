"""``.npy`` and ``.npz`` on the command line: columns by their places, targets from a column or another file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli import main
from gradflow.data.numpy_file import NumPyFile, columns_of_targets
from tests.cli.test_train_file import settings

QUICK = ("--epochs", "2", "--layers", "8", "--backend", "numpy", "--quiet")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("xy.npy", np.column_stack([X, Y]))
    np.savez("xy.npz", x=X, y=Y)
    return tmp_path


def probabilities(path: str) -> np.ndarray:
    with Path(path).open() as file:
        return np.array(
            [[float(row["probability of 0"]), float(row["probability of 1"])] for row in csv.DictReader(file)]
        )


@pytest.mark.parametrize(("file", "target"), [("x.npy", "y.npy"), ("xy.npy", "3"), ("xy.npy", "-1"), ("xy.npz", "y")])
def test_the_same_network_from_every_way_to_give_the_arrays(
    file: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", file, "--target", target, *QUICK, "--output", "run"]) == 0
    assert main(["train", "x.npy", "--target", "y.npy", *QUICK, "--output", "same"]) == 0
    network = gf.load("run")
    assert network.preprocessing.names == ("0", "1", "2")
    np.testing.assert_array_equal(network.state, gf.load("same").state)
    assert main(["predict", "run", "x.npy", "--output", "p.csv"]) == 0
    assert Path("p.csv").read_text().startswith("prediction,probability of 0,probability of 1\n")
    np.testing.assert_allclose(probabilities("p.csv")[:, 1:], network.predict(X), rtol=1e-5, atol=1e-6)
    assert main(["predict", "run", "x.npy", "--id", "1", "--output", "with.csv"]) == 0
    with Path("with.csv").open() as rows:
        np.testing.assert_array_equal([float(row["1"]) for row in csv.DictReader(rows)], X[:, 1])
    capsys.readouterr()
    assert main(["evaluate", "run", file, "--target", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 120
    assert main(["report", "run"]) == main(["repeat", "run"]) == 0


def test_targets_of_several_columns_and_of_text() -> None:
    np.save("two.npy", X[:, :2] * 3)
    np.save("names.npy", np.array(["no", "yes"])[Y])
    assert main(["train", "x.npy", "--target", "two.npy", *QUICK]) == 0
    assert settings("runs/x")["target"] == [str(Path("two.npy").resolve()) + end for end in (" 0", " 1")]
    assert main(["predict", "runs/x", "x.npy", "--output", "p.csv"]) == 0
    assert Path("p.csv").read_text().splitlines()[0] == "prediction of two.npy 0,prediction of two.npy 1"
    assert main(["train", "x.npy", "--target", "names.npy", *QUICK]) == 0
    assert gf.load("runs/x-2").classes == ("no", "yes")


def test_a_run_of_arrays_predicts_on_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    network = gf.MLP([3, 2], backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    trainer.fit(X, Y, epochs=1, output="run", progress=False)
    assert main(["predict", "run", "x.npy", "--output", "p.csv"]) == 0
    np.testing.assert_allclose(probabilities("p.csv"), network.predict(X), rtol=1e-5, atol=1e-6)
    capsys.readouterr()
    assert main(["evaluate", "run", "xy.npy", "--target", "-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(trainer.evaluate(X, Y)["loss"])
    assert main(["predict", "run", "xy.npy"]) == 2
    assert "xy.npy has 4 columns of inputs, but the network takes 3" in capsys.readouterr().err


def test_an_archive_of_columns_is_a_table() -> None:
    days = np.datetime64("2024-01-01") + RANDOM.integers(0, 400, 120)
    np.savez("t.npz", age=X[:, 0], city=np.array(["Oslo", ""])[Y], joined=days, image=X[:, :2].reshape(120, 2), y=Y)
    source = gf.data.open_file("t.npz", target="y")
    assert isinstance(source, NumPyFile)
    assert source.names == ("age", "city", "joined", "0", "1", "y")
    columns = gf.data.profile(gf.data.open_file("t.npz", target=None))
    assert [columns[name].kind for name in ("age", "city", "joined", "0")] == ["numbers", "text", "times", "numbers"]
    assert columns["city"].missing == int(Y.sum())
    assert main(["train", "t.npz", "--target", "y", *QUICK]) == 0
    preprocessing = gf.load("runs/t").preprocessing
    assert preprocessing is not None
    assert preprocessing.names == ("age", "city", "joined", "0", "1")
    np.savez("two.npz", a=X, b=X[:, :2])
    assert gf.data.open_file("two.npz", target="b 1").features == ("a 0", "a 1", "a 2", "b 0")


def test_records_have_their_names() -> None:
    records = np.zeros(3, [("age", float), ("city", "U5")])
    np.save("records.npy", records)
    assert gf.data.open_file("records.npy", target="age").features == ("city",)


def test_a_large_file_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.data.numpy_file._PIECE_FIELDS", 30)
    source = gf.data.open_file("xy.npy", target="3")
    blocks = list(source.blocks())
    assert [len(block) for block in blocks] == [7] * 17 + [1]
    np.testing.assert_array_equal(np.concatenate([block.y for block in blocks]), Y)
    assert blocks[0].y.dtype == np.int64
    for way in ("load", "stream"):
        assert main(["train", "xy.npy", "--target", "3", "--read", way, "--output", way, *QUICK]) == 0
    assert gf.load("load").preprocessing == gf.load("stream").preprocessing


def test_targets_that_changed_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x.npy", "--target", "y.npy", *QUICK]) == 0
    np.save("y.npy", 1 - Y)
    for command in (["train", "--resume", "runs/x", "--epochs", "3"], ["repeat", "runs/x"], ["report", "runs/x"]):
        assert main(command) == 2
        assert "has changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "x.npy"], "--target -1 for the last one, or name a file with as many rows: --target y.npy"),
        (["train", "x.npy", "--target", "7"], "unknown column '7'"),
        (["train", "x.npy", "--target", "-9"], "unknown column '-9'"),
        (["train", "x.npy", "--target", "none.npy"], "there is no file"),
        (["train", "x.npy", "--target", "short.npy"], "must have as many rows as '0', 120, but"),
        (["train", "x.npy", "--target", "y.npy", "--delimiter", ";"], "is no text file"),
        (["train", "images.npy", "--target", "y.npy"], "has shape (120, 2, 2) and dtype float64"),
        (["train", "objects.npy", "--target", "0"], "holds Python objects, which may be a program"),
        (["train", "objects.npz", "--target", "x"], "holds Python objects, which may be a program"),
        (["train", "cut.npy", "--target", "0"], "is damaged or not a NumPy file"),
        (["train", "cut.npz", "--target", "0"], "is damaged or not a NumPy file"),
        (["train", "empty.npy", "--target", "0"], "has no rows"),
        (["train", "lengths.npz", "--target", "y"], "must have as many rows"),
        (["train", "twice.npz", "--target", "y"], "has two columns named '0'; rename one of its arrays"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("short.npy", Y[:100])
    np.save("images.npy", np.zeros((120, 2, 2)))
    np.save("objects.npy", np.array([None, 1], object))
    np.savez("objects.npz", x=np.array([None, 1], object))
    np.save("empty.npy", np.zeros((0, 2)))
    np.savez("lengths.npz", x=X, y=Y[:5])
    np.savez("twice.npz", **{"x": X, "0": Y, "y": Y})
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:200])
    Path("cut.npz").write_bytes(Path("xy.npz").read_bytes()[:200])
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_targets_of_the_training_are_not_those_of_other_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x.npy", "--target", "y.npy", *QUICK]) == 0
    assert main(["evaluate", "runs/x", "x.npy"]) == 2
    assert "the targets of the training were a file of their own" in capsys.readouterr().err


def test_columns_of_a_text_file_may_have_numbers_as_names(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text("0,1,2,y\n" + "".join(f"{a},{b},{c},{y}\n" for (a, b, c), y in zip(X, Y, strict=True)))
    assert main(["train", "t.csv", "--target", "y", *QUICK]) == 0
    assert main(["predict", "runs/t", "t.csv", "--output", "p.csv"]) == main(["predict", "runs/t", "x.npy"]) == 0
    np.testing.assert_allclose(probabilities("p.csv")[:, 1:], gf.load("runs/t").predict(X), rtol=1e-5, atol=1e-6)


def test_names_of_targets_are_taken_as_they_are_from_other_files() -> None:
    Path("t.csv").write_text("a,-1\n1,2\n")
    assert columns_of_targets(Path("t.csv"), ["-1", "y.npy"]) == ["-1", "y.npy"]
