"""``gradflow predict``, ``evaluate`` and ``show``."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli import main
from tests.cli.command import environment, gradflow
from tests.cli.test_train_file import write_customers

_QUICK = ("--epochs", "2", "--layers", "8", "--backend", "numpy", "--quiet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run on customers, and another on numbers."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_customers(folder / "customers.csv")
    assert main(["train", str(data), "--target", "churn", "--output", str(folder / "classes"), *_QUICK]) == 0
    numbers = ("--target", "spent", "--target", "zip", "--output", str(folder / "numbers"))
    assert main(["train", str(data), *numbers, *_QUICK]) == 0
    return folder


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_customers(Path("new.csv"), rows=70, seed=9)


def _rows(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_classes_and_probabilities_follow_all_columns_in_the_order_of_rows(
    trained: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained / "classes"), str(new), "--output", "p.csv"]) == 0
    assert capsys.readouterr().err == "70 predictions: p.csv\n"
    rows, given = _rows("p.csv"), _rows("new.csv")
    network = gf.load(trained / "classes")
    expected = network.predict(gf.data.open_file(new, target=None))[:, 0]
    names = network.predict_classes(gf.data.open_file(new, target=None))
    for row, before, p, name in zip(rows, given, expected, names, strict=True):
        assert row.pop("prediction") == name
        # Blocks of other sizes may round differently.
        np.testing.assert_allclose(float(row.pop("probability of yes")), p, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(float(row.pop("probability of no")), 1 - p, rtol=1e-5, atol=1e-6)
        assert row == before  # as they were, to the last digit


def test_numbers_are_named_by_their_targets(trained: Path, new: Path) -> None:
    command = ["predict", str(trained / "numbers"), str(new), "--id", "id", "--id", "name", "--output", "p.csv"]
    assert main(command) == 0
    assert list(_rows("p.csv")[0]) == ["id", "name", "prediction of spent", "prediction of zip"]
    expected = gf.load(trained / "numbers").predict(gf.data.open_file(new, target=None))
    got = [[float(row["prediction of spent"]), float(row["prediction of zip"])] for row in _rows("p.csv")]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_parquet_gives_the_same_as_csv(trained: Path, new: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.read_csv(new, dtype={"zip": float})
    table.to_parquet("new.parquet", row_group_size=33)
    run = str(trained / "classes")
    assert main(["predict", run, "new.parquet", "--output", "p.parquet"]) == 0
    assert main(["predict", run, "new.csv", "--output", "p.csv", "--no-probabilities"]) == 0
    written = pandas.read_parquet("p.parquet")
    assert written["prediction"].tolist() == [row["prediction"] for row in _rows("p.csv")]
    pandas.testing.assert_frame_equal(written[table.columns], table, check_dtype=False)
    assert list(_rows("p.csv")[0])[-1] == "prediction"


def test_standard_output_holds_nothing_else(trained: Path, new: Path) -> None:
    done = gradflow("predict", trained / "classes", new, "--id", "id", "--output", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(csv.DictReader(done.stdout.splitlines()))) == 70
    assert gradflow("predict", trained / "classes", new, "--id", "id", "--output", "p.csv").returncode == 0
    assert Path("p.csv").read_text() == done.stdout


def test_a_file_is_replaced_only_when_told_to(trained: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.csv").write_text("mine")
    command = ["predict", str(trained / "classes"), str(new), "--output", "p.csv"]
    assert main(command) == 2
    assert "p.csv already exists; pass another --output, or --overwrite to replace it" in capsys.readouterr().err
    assert Path("p.csv").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert len(_rows("p.csv")) == 70


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "id,age\n1,2\n",
            "new.csv lacks the columns 'city', 'income', 'joined', 'zip', 'spent', from which the network",
        ),
        ("agee,city,income,joined,zip,spent\n", "Is 'age' called 'agee' there? Then rename it"),
        ("age,city,income,joined,zip,spent\n", "new.csv has no rows"),
        (
            "age,city,income,joined,zip,spent\nold,Bern,1,2024-01-01,3,4\n",
            "column 'age' holds numbers, but 'old' in line 2",
        ),
        ("age,city,income,joined,zip,spent\n1,Bern,1,soon,3,4\n", "'soon' in line 2, which is not a timestamp"),
        (
            "age,city,income,joined,zip,spent,prediction\n1,Bern,1,2024-01-01,3,4,5\n",
            "already has a column 'prediction'",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(
    content: str, expected: str, trained: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new.write_text(content)
    assert main(["predict", str(trained / "classes"), str(new), "--output", "p.csv"]) == 2
    assert expected in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["new.csv"]


def test_models_that_cannot_predict_for_a_file_say_why(
    trained: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gf.save(gf.MLP([3, 1]), "model.safetensors")
    Path("other").mkdir()
    Path("other", "config.json").write_text("{}")
    Path("foreign").mkdir()
    Path("foreign", "model.safetensors").write_bytes(b"another program's")
    for model, expected in (
        ("model.safetensors", "does not know the names of its 3 columns, since it was trained on an array"),
        ("other", "is a folder with neither model.safetensors nor checkpoints"),
        ("foreign", "is not a gradflow model or is damaged"),
        ("nowhere", "there is no file 'nowhere'"),
    ):
        assert main(["predict", model, str(new)]) == 2
        assert expected in capsys.readouterr().err
    assert main(["predict", str(trained / "classes"), str(new), "--id", "idd"]) == 2
    assert "--id: unknown column 'idd'. Did you mean 'id'?" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_full_disk_leaves_no_half_written_file(suffix: str, trained: Path, new: Path) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    program = (
        "import resource, sys; from gradflow.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "predict", str(trained / "classes"), str(new), "--output", f"p.{suffix}"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: p.{suffix}: File too large"
    assert [path.name for path in Path().iterdir()] == ["new.csv"]
    full = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m gradflow predict {trained / 'classes'} new.csv > /dev/full"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (full.returncode, full.stderr) == (2, "error: standard output: No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and signals are POSIX's")
@pytest.mark.parametrize("way", ["pipe", "interrupt"])
def test_a_reader_that_leaves_and_ctrl_c_end_predictions_cleanly(way: str, trained: Path, new: Path) -> None:
    write_customers(new, rows=30_000)
    output = "-" if way == "pipe" else "p.csv"
    program = "import sys; from gradflow.cli import main, prediction_files; "
    if way == "interrupt":
        program += (
            "import signal; write = prediction_files.CSVWriter.write; prediction_files.CSVWriter.write = "
            "lambda *block: (write(*block), signal.raise_signal(signal.SIGINT)); "
        )
    program += "sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "predict", str(trained / "classes"), str(new), "--output", output]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if way == "pipe":
            assert process.stdout.readline().startswith("id,name,")
            process.stdout.close()
        errors = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, errors) == (141 if way == "pipe" else 130, "")
    assert [path.name for path in Path().iterdir()] == ["new.csv"]


def test_evaluation_gives_the_metrics_of_the_run(trained: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained / "classes"), str(new), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values) == ["rows", "loss", "accuracy", "roc_auc", "f1"]
    network = gf.load(trained / "classes")
    trainer = gf.Trainer(network, "binary_cross_entropy", "adam", metrics=["roc_auc", "f1"])
    expected = trainer.evaluate(gf.data.open_file(new, target="churn"))
    assert values == {"rows": 70, **expected}
    assert main(["evaluate", str(trained / "classes"), str(new)]) == 0
    assert f"{expected['roc_auc']:.4f}" in capsys.readouterr().out
    assert main(["evaluate", str(trained / "numbers"), str(new), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["rows", "loss", "r2", "mean_absolute_error"]


def test_evaluation_needs_a_run_and_a_target(trained: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained / "classes" / "model.safetensors"
    assert main(["evaluate", str(model), str(new)]) == 2
    assert "is no folder of a finished run" in capsys.readouterr().err
    new.write_text(new.read_text().replace("churn", "left", 1))
    assert main(["evaluate", str(trained / "classes"), str(new)]) == 2
    assert "unknown column 'churn'" in capsys.readouterr().err
    assert main(["evaluate", str(trained / "classes"), str(new), "--target", "left"]) == 0


def test_a_run_of_a_program_is_evaluated_and_shown(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = gf.data.open_file(new, target="spent", features=["zip"])
    trainer = gf.Trainer(gf.MLP([1, 1]), "mean_squared_error", "sgd")
    trainer.fit({"zip": np.arange(9) / 9}, np.arange(9.0), epochs=1, output="mine")
    assert main(["evaluate", "mine", str(new)]) == 2
    assert "does not name its target; pass --target COLUMN" in capsys.readouterr().err
    assert main(["evaluate", "mine", str(new), "--target", "spent", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == trainer.evaluate(source)["loss"]
    assert main(["show", "mine"]) == 0
    assert "Dense" in capsys.readouterr().out


def test_a_model_is_shown_with_layers_columns_classes_and_results(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(trained / "classes")]) == 0
    shown = capsys.readouterr().out
    for words in (
        "Dense",
        "ReLU",
        "an input for each of 3: Bern, Oslo",
        "no, yes",
        "binary_cross_entropy",
        "last val_f1",
    ):
        assert words in shown
    assert main(["show", str(trained / "classes" / "model.safetensors")]) == 0
    assert "binary_cross_entropy" not in capsys.readouterr().out
    assert main(["show", str(trained / "numbers")]) == 0
    assert "spent, zip" in capsys.readouterr().out


def test_an_ensemble_predicts_and_is_shown(trained: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = gf.load(trained / "classes")
    assert isinstance(network, gf.Sequential)
    other = network.copy()
    other.set_weights({name: 0.5 * weight for name, weight in network.get_weights().items()})
    ensemble = gf.Ensemble([network, other])
    gf.save(ensemble, "both.safetensors")
    assert main(["predict", "both.safetensors", str(new), "--output", "p.csv"]) == 0
    expected = ensemble.predict(gf.data.open_file(new, target=None))[:, 0]
    got = [float(row["probability of yes"]) for row in _rows("p.csv")]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert main(["show", "both.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert "members 0, 1:" in shown
    assert "0.500, 0.500" in shown
    assert main(["evaluate", "both.safetensors", str(new)]) == 2
    assert "is no folder of a finished run" in capsys.readouterr().err


def test_several_labels_have_a_prediction_each(new: Path) -> None:
    network = gf.MLP([1, 2], seed=3)
    network.output_activation, network.feature_names = "sigmoid", ["zip"]
    gf.save(network, "labels.safetensors")
    assert main(["predict", "labels.safetensors", str(new), "--id", "zip", "--output", "p.csv"]) == 0
    rows = _rows("p.csv")
    assert list(rows[0]) == [
        "zip",
        *(f"{kind} of {label}" for kind in ("prediction", "probability") for label in (1, 2)),
    ]
    for row in rows:
        for label in (1, 2):
            assert row[f"prediction of {label}"] == str(int(float(row[f"probability of {label}"]) > 0.5))
