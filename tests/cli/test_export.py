"""``gradflow export``: a model for other programs, and nothing replaced or half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import gradflow as gf
from gradflow.cli import main
from tests.cli.command import gradflow


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    table = {"age": np.array([20.0, 30, np.nan, 50]), "city": np.array(["Rome", "Oslo", "Rome", "Bern"], object)}
    preprocessing = gf.data.fit_preprocessing(table, {"age": gf.data.Standardize("fill")})
    network = gf.MLP([preprocessing.n_out, 3, 2], preprocessing=preprocessing, backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
    trainer.fit(table, np.array(["no", "yes", "no", "yes"]), epochs=2, output=tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_exported_with_its_columns_and_classes(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.onnx"
    assert main(["export", str(run_folder), str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "inputs: age: float64 (batch, 1), city: string (batch, 1)",
        "outputs: label: string (batch), probabilities: float32 (batch, 2)",
        f"written: {file}",
    ]
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    columns = {"age": np.array([[41.0], [np.nan]]), "city": np.array([["Rome"], ["Oslo"]], object)}
    label, probabilities = session.run(None, columns)
    network = gf.load(run_folder)
    table = {"age": [41.0, None], "city": ["Rome", "Oslo"]}
    assert (label == network.predict_classes(table)).all()
    np.testing.assert_allclose(probabilities, network.predict(table), rtol=0, atol=1e-6)


def test_a_run_with_several_members_is_one_model(tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "model.onnx"
    assert main(["train", "digits", "--members", "2", "--epochs", "1", "--quiet", "--output", str(folder)]) == 0
    assert main(["export", str(folder), str(file)]) == 0
    x = gf.data.load_digits().x_test.astype(np.float32)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    _, probabilities = session.run(None, {"x": x})
    np.testing.assert_allclose(probabilities, gf.load(folder).predict(x), rtol=0, atol=1e-5)


def test_a_layer_of_ones_own_is_imported(tmp_path: Path) -> None:
    (tmp_path / "own_layers.py").write_text(
        "import gradflow as gf\nclass Doubled(gf.Layer):\n    def forward(self, ops, x, y):\n        y[...] = 2 * x\n"
        "    def backward(self, ops, x, y, d_y, d_x):\n        d_x[...] = 2 * d_y\n"
    )
    made = "import own_layers, gradflow as gf; gf.save(gf.Sequential([gf.Dense(2, 2), own_layers.Doubled()]), 'm')"
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True)
    for arguments, message in (
        (("export", "m", "m.onnx"), "unknown layer 'Doubled'; name the module that defines it: gradflow --import"),
        (("--import", "own_layers", "export", "m", "m.onnx"), "Doubled"),
        (("--import", "none", "export", "m", "m.onnx"), "--import none: ModuleNotFoundError"),
    ):
        done = gradflow(*arguments, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    assert not (tmp_path / "m.onnx").exists()
    done = gradflow("--import", "own_layers", "show", "m", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Doubled" in done.stdout


def test_an_existing_file_is_replaced_on_request_only(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.onnx"
    file.write_text("of another program")
    assert main(["export", str(run_folder), str(file)]) == 2
    assert f"{file} already exists" in capsys.readouterr().err
    assert file.read_text() == "of another program"
    assert main(["export", str(run_folder / "model.safetensors"), str(file), "--overwrite"]) == 0
    assert len(file.read_bytes()) > 1000


def test_wrong_arguments_are_errors_that_write_nothing(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([run_folder, "model.pt"], "ends in .onnx"),
        ([tmp_path / "none", "model.onnx"], "there is no file"),
        ([tmp_path, "model.onnx"], "neither model.safetensors nor checkpoints"),
        ([run_folder, tmp_path / "missing" / "model.onnx"], "No such file or directory"),
        ([run_folder / "history.csv", "model.onnx"], "is not a gradflow model"),
    ):
        assert main(["export", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    assert not Path("model.onnx").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_full_disk_leaves_no_file(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["export", str(run_folder), str(tmp_path / "model.onnx")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'model.onnx'}: No space left on device\n"
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
