"""``gradflow train digits``."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.losses import LOSSES
from tests.cli.command import environment, gradflow

_QUICK = ("train", "digits", "--layers", "16", "--dropout", "0", "--backend", "numpy")


def _table(printed: str) -> dict[str, str]:
    """Return the rows of the summary by name."""
    cells = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    return {name.strip(): value.strip() for name, value in cells}


def test_the_default_recipe_reaches_97_percent_of_the_held_out_digits(tmp_path: Path) -> None:
    done = gradflow("train", "digits", "--backend", "numpy", "--quiet", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(_table(done.stdout)["held-out accuracy"]) >= 0.97
    assert "run folder: runs/digits" in done.stdout
    assert (tmp_path / "runs" / "digits" / "model.safetensors").is_file()


@pytest.mark.gpu
def test_digits_are_learned_on_the_gpu(tmp_path: Path) -> None:
    # Fewer steps than the default recipe, to save time on the simulator; it reaches 0.98 on the CPU.
    options = ("--dropout", "0", "--epochs", "12", "--batch-size", "64", "--learning-rate", "0.005")
    done = gradflow("train", "digits", "--backend", "cupy", *options, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    table = _table(done.stdout)
    assert table["backend"] == "cupy"
    assert float(table["held-out accuracy"]) >= 0.97


def test_summary_agrees_with_the_run_folder(tmp_path: Path) -> None:
    done = gradflow(*_QUICK, "--epochs", "3", "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"model.safetensors", "config.json", "history.csv"}
    table = _table(done.stdout)
    assert (table["device"], table["backend"], table["epochs"]) == ("CPU", "numpy", "3")
    assert table["parameters"] == f"{64 * 16 + 16 + 16 * 10 + 10:,}"

    network, digits = gf.load(tmp_path / "run" / "model.safetensors"), gf.data.load_digits()
    for name, x, labels in (
        ("training", digits.x_train, digits.y_train),
        ("held-out", digits.x_test, digits.y_test),
    ):
        p = network.predict(x).astype(np.float64)
        # The table has four decimals.
        np.testing.assert_allclose(
            float(table[f"{name} loss"]), -np.log(p[np.arange(len(p)), labels]).mean(), rtol=0, atol=6e-5
        )
        np.testing.assert_allclose(
            float(table[f"{name} accuracy"]), (p.argmax(axis=1) == labels).mean(), rtol=0, atol=6e-5
        )
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    np.testing.assert_allclose(float(table["held-out loss"]), float(rows[-1]["val_loss"]), rtol=0, atol=6e-5)


def test_progress_goes_to_standard_error_unless_quiet(tmp_path: Path) -> None:
    shown = gradflow(*_QUICK, "--epochs", "2", "--output", tmp_path)
    assert [line.split("  ")[0] for line in shown.stderr.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    assert "loss" in shown.stderr
    assert "accuracy" in shown.stderr
    quiet = gradflow(*_QUICK, "--epochs", "2", "--output", tmp_path, "--quiet", "--overwrite")
    assert quiet.stderr == ""
    assert "measured after training, without dropout" in quiet.stdout  # progress is not
    assert quiet.stdout.splitlines()[-1] == shown.stdout.splitlines()[-1] == f"run folder: {tmp_path}"


def test_standard_output_contains_only_json_lines(tmp_path: Path) -> None:
    done = gradflow(*_QUICK, "--epochs", "3", "--json-lines", "--layer-statistics", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *epochs, last = map(json.loads, done.stdout.splitlines())
    assert (first["event"], last["event"], last["epochs"]) == ("begin", "end", 3)
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    for line, row in zip(epochs, rows, strict=True):
        assert line.pop("event") == "epoch"
        assert {name: repr(value) for name, value in line.items()} == row
    assert {"gradient_norm/0", "update_ratio/2", "dead/1"} <= epochs[0].keys()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX's")
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_closed_pipe_ends_the_command_silently(tmp_path: Path, has_ended: bool) -> None:
    folder = tmp_path / "run"
    options = ("--epochs", "1", "--quiet") if has_ended else ("--epochs", "100000", "--json-lines")
    command = [sys.executable, "-m", "gradflow", *_QUICK, *options, "--output", str(folder)]
    reading, writing = os.pipe()
    with open(reading) as printed, open(writing) as to_process:
        if has_ended:
            printed.close()  # before it can print anything
        with subprocess.Popen(
            command, env=environment(), stdout=to_process, stderr=subprocess.PIPE, text=True
        ) as process:
            to_process.close()
            if not has_ended:
                assert json.loads(printed.readline())["event"] == "begin"
                printed.close()
            _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (141, "")
    # An unfinished run can be resumed, and no output claims that it has finished.
    names = {path.name for path in folder.iterdir()} - {"curves.png", "weight-path.safetensors"}
    results = {"config.json", "history.csv", "model.safetensors"} if has_ended else set()
    assert names == {".lock", "checkpoints", "command.json"} | results


def test_a_run_replaces_another_only_when_told_to(tmp_path: Path) -> None:
    def train(*options: str) -> subprocess.CompletedProcess[str]:
        return gradflow(*_QUICK, "--epochs", "1", "--quiet", *options, folder=tmp_path)

    for name in ("digits", "digits-2"):
        assert train().stdout.splitlines()[-1] == f"run folder: runs/{name}"
    model = (tmp_path / "runs" / "digits" / "model.safetensors").read_bytes()
    refused = train("--output", "runs/digits", "--seed", "1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: runs/digits already contains config.json, which a new run would replace. Pass another --output, or "
        "--overwrite to replace it, or resume that run: gradflow train --resume runs/digits\n"
    )
    assert (tmp_path / "runs" / "digits" / "model.safetensors").read_bytes() == model
    assert train("--overwrite", "--seed", "1").stdout.splitlines()[-1] == "run folder: runs/digits"
    assert (tmp_path / "runs" / "digits" / "model.safetensors").read_bytes() != model
    command = json.loads((tmp_path / "runs" / "digits" / "command.json").read_text())["arguments"]
    assert "--overwrite" not in command


def test_flags_take_no_value_and_the_help_says_so() -> None:
    shown = gradflow("train", "digits", "--help", COLUMNS="100").stdout
    assert "--resume" not in shown.partition("Options")[2].replace("train --resume", "")
    for flag in ("--overwrite", "--layer-statistics", "--quiet", "--json-lines"):
        line = next(line for line in shown.splitlines() if f"│ {flag} " in line)
        assert "<" not in line


def test_a_resumed_run_appends_json_lines(tmp_path: Path) -> None:
    done = gradflow(*_QUICK, "--epochs", "2", "--json-lines", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    again = gradflow("train", "--resume", tmp_path)
    assert again.returncode == 0, again.stderr
    assert [json.loads(line)["event"] for line in again.stdout.splitlines()] == ["begin", "end"]


def test_a_warning_is_one_line_on_standard_error(tmp_path: Path) -> None:
    rate = ("--optimizer", "gradient_descent", "--learning-rate", "1e-7")
    done = gradflow(*_QUICK, "--epochs", "40", *rate, "--json-lines", "--output", tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the loss has stalled: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stdout.splitlines()) == 42


def test_every_option_reaches_the_run(tmp_path: Path) -> None:
    options = {
        "--layers": "12, 8",
        "--activation": "tanh",
        "--loss": "half_squared_error",
        "--optimizer": "sgd",
        "--learning-rate": "0.05",
        "--epochs": "4",
        "--batch-size": "100",
        "--dropout": "0.25",
        "--l2": "0.001",
        "--clip-norm": "0.5",
        "--early-stopping": "3",
        "--backend": "reference",
        "--dtype": "float64",
        "--seed": "7",
        "--output": str(tmp_path),
    }
    words = (word for option in options.items() for word in option)
    done = gradflow("train", "digits", "--layer-statistics", *words)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    layers = config["network"]["layers"]
    assert [layer["type"] for layer in layers] == ["Dense", "Tanh", "Dropout", "Dense", "Tanh", "Dropout", "Dense"]
    assert [layer["n_out"] for layer in layers if layer["type"] == "Dense"] == [12, 8, 10]
    assert layers[2]["rate"] == 0.25
    assert (config["network"]["dtype"], config["network"]["seed"]) == ("float64", 7)
    assert (config["loss"]["name"], config["optimizer"]["name"]) == ("half_squared_error", "sgd")
    assert config["optimizer"]["learning_rate"] == 0.05
    assert (config["epochs"], config["batch_size"]) == (4, 100)
    assert (config["l2"], config["clip_norm"]) == (0.001, 0.5)
    assert config["early_stopping"]["patience"] == 3
    assert config["early_stopping"]["monitor"] == "val_loss"
    assert config["backend"] == "reference"
    assert config["layer_statistics"] is True


def test_schedule_normalization_metrics_and_weights_reach_the_run(tmp_path: Path) -> None:
    options = ("--normalization", "batch", "--schedule", "step:every=1,factor=0.5", "--learning-rate", "0.1")
    options += ("--optimizer", "sgd", "--momentum", "0.5", "--metrics", "f1, top_3_accuracy", "--l1", "0.001")
    weights = ("--class-weight", "3=2", "--class-weight", "7=0.5")
    done = gradflow(*_QUICK, *options, *weights, "--epochs", "2", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    assert [layer["type"] for layer in config["network"]["layers"]] == ["Dense", "BatchNorm", "ReLU", "Dense"]
    assert config["optimizer"] == {
        "name": "sgd",
        "learning_rate": {"name": "step", "learning_rate": 0.1, "every": 1.0, "factor": 0.5},
        "momentum": 0.5,
        "nesterov": False,
    }
    assert (config["l1"], config["metrics"]) == (0.001, ["f1", "top_3_accuracy"])
    assert config["class_weight"] == {"3": 2, "7": 0.5}
    assert {"held-out f1", "training top_3_accuracy"} <= _table(done.stdout).keys()


def test_factors_and_schedules_of_dropout_and_decay_reach_the_run_and_a_repetition(tmp_path: Path) -> None:
    options = ("--optimizer", "adamw", "--factor", "0=0.5", "--factor", "bias=2", "--decay-factor", "Dense=3")
    options += ("--dropout", "0.5", "--dropout-schedule", "cosine:final=0.1", "--weight-decay-schedule", "step:every=1")
    done = gradflow(*_QUICK[:4], "--backend", "numpy", *options, "--epochs", "2", "--quiet", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    rate = next(layer["rate"] for layer in config["network"]["layers"] if layer["type"] == "Dropout")
    assert (rate["name"], rate["learning_rate"], rate["final"]) == ("cosine", 0.5, 0.1)
    assert config["optimizer"]["factors"] == {"0": 0.5, "bias": 2}
    assert config["optimizer"]["decay_factors"] == {"Dense": 3}
    assert config["optimizer"]["weight_decay"]["name"] == "step"
    assert config["optimizer"]["weight_decay"]["learning_rate"] == 0.01
    assert gradflow("repeat", tmp_path).returncode == 0


def test_the_whole_data_as_one_batch_and_no_hidden_layer(tmp_path: Path) -> None:
    done = gradflow(*_QUICK, "--layers", "none", "--batch-size", "all", "--epochs", "2", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert _table(done.stdout)["parameters"] == "650"
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] is None


# These losses estimate the median of an output that is 1 for one digit in ten, which stays 0 until images are told
# apart well.
_OF_MEDIANS = {"mean_absolute_error", "quantile"}


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_digits_are_learned_with_every_loss(loss: str, tmp_path: Path) -> None:
    options = ("--layers", "32", "--epochs", "8", "--learning-rate", "0.005", "--loss", loss)
    done = gradflow(*_QUICK, *options, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(_table(done.stdout)["held-out accuracy"]) > (0.15 if loss in _OF_MEDIANS else 0.9)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert gradflow(*_QUICK, "--epochs", "1", "--seed", seed, "--output", tmp_path / name).returncode == 0
        models.append(gf.load(tmp_path / name / "model.safetensors", backend="numpy").get_weights())
    first, again, other = models
    for name, weight in first.items():
        assert weight.tobytes() == again[name].tobytes()
    assert first["0.weight"].tobytes() != other["0.weight"].tobytes()


def test_early_stopping_names_the_epoch_that_was_kept(tmp_path: Path) -> None:
    options = ("--epochs", "60", "--early-stopping", "1", "--learning-rate", "0.05")
    done = gradflow(*_QUICK, *options, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "config.json").read_text())["result"]
    assert result["epochs"] < 60
    assert _table(done.stdout)["epochs"] == (
        f"{result['epochs']}, stopped early; weights of epoch {result['best_epoch']}"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--activation", "rellu"), "unknown activation 'rellu'. Did you mean 'relu'?"),
        (("--loss", "softmax_crossentropy"), "Did you mean 'softmax_cross_entropy'?"),
        (("--optimizer", "adma"), "Did you mean 'adam'?"),
        (("--backend", "nunpy"), "Did you mean 'numpy'?"),
        (("--dtype", "float16"), "Valid names: float32, float64"),
        (("--learning-rate", "-0.1"), "--learning-rate must be above 0, got -0.1"),
        (("--learning-rate", "nan"), "--learning-rate must be a finite number above 0, got nan"),
        (("--layers", "abc"), "--layers must be whole numbers above 0 separated by commas"),
        (("--layers", "64,0"), "got '64,0'"),
        (("--layers", ""), "got ''"),
        (("--batch-size", "0"), "--batch-size must be at least 1, got 0"),
        (("--batch-size", "some"), "--batch-size must be a whole number of rows, or all; got 'some'"),
        (("--epochs", "0"), "epochs must be at least 1, got 0"),
        (("--dropout", "1"), "dropout must be at least 0 and below 1, got 1.0"),
        (("--l2", "-1"), "l2 must be at least 0, got -1.0"),
        (("--clip-norm", "0"), "--clip-norm must be above 0, got 0.0"),
        (("--early-stopping", "0"), "patience must be at least 1, got 0"),
        (("--seed", "-1"), "seed must be between 0 and"),
        (("--layers", "10000000,10000000"), "cannot be allocated here; make its layers narrower"),
        (("--optimizer", "lbfgs"), "add --batch-size all --dropout 0"),
        (("--normalization", "bach"), "Did you mean 'batch'?"),
        (("--metrics", "roc_acu"), "Did you mean 'roc_auc'?"),
        (("--schedule", "cosin"), "Did you mean 'cosine'?"),
        (("--schedule", "step"), "--schedule step needs every: step:every=..."),
        (("--schedule", "cosine:warm=2"), "unknown setting of --schedule cosine 'warm'. Did you mean 'warmup'?"),
        (("--schedule", "cosine:warmup"), "must be a name, or have settings as in name:setting=value,..."),
        (("--factor", "9=0.1"), "unknown layer or parameter in --factor '9'"),
        (("--factor", "0"), "--factor must be such as 0=0.1, or bias=2, got '0'"),
        (("--factor", "0=-1"), "--factor"),
        (
            ("--optimizer", "sgd", "--decay-factor", "0=2"),
            "--optimizer sgd has no --decay-factor; adamw, lion and muon",
        ),
        (("--weight-decay-schedule", "cosine"), "--optimizer adam has no --weight-decay; adamw, lion and muon have it"),
        (
            ("--optimizer", "lion", "--weight-decay-schedule", "cosine"),
            "no effect on a value of 0; pass --weight",
        ),
        (
            ("--dropout", "0", "--dropout-schedule", "cosine"),
            "--dropout-schedule cosine has no effect on a value of 0; pass --dropout",
        ),
        (("--dropout", "0.1", "--dropout-schedule", "step"), "--dropout-schedule step needs every: step:every=..."),
        (("--momentum", "0.9"), "--optimizer adam has no --momentum; muon and sgd have it"),
        (("--optimizer", "sgd", "--weight-decay", "0.1"), "has no --weight-decay; adamw, lion and muon have it"),
        (("--class-weight", "ten=2"), "unknown class 'ten'"),
        (("--class-weight", "1=much"), "--class-weight must be such as yes=2, or balanced, got '1=much'"),
        (
            ("--optimizer", "lbfgs", "--batch-size", "all", "--dropout", "0", "--clip-norm", "1"),
            "--clip-norm is not supported with L-BFGS; omit it",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(options: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = gradflow("train", "digits", "--backend", "numpy", *options, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_output_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = gradflow(*_QUICK, "--output", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'file' / 'run'}: a run cannot be saved here: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_divergence_ends_with_3_and_leaves_the_best_weights(tmp_path: Path) -> None:
    options = ("--activation", "identity", "--optimizer", "sgd", "--learning-rate", "1e9", "--output", tmp_path)
    done = gradflow(*_QUICK, *options)
    assert done.returncode == 3
    assert "the loss became NaN or infinite in epoch 1" in done.stderr
    assert "--clip-norm 1.0" in done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    weights = gf.load(tmp_path / "model.safetensors", backend="numpy").get_weights()
    assert all(np.isfinite(weight).all() for weight in weights.values())


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_run_is_saved_and_ends_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradflow", *_QUICK, "--epochs", "100000", "--output", str(tmp_path)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/100000")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: progress is saved" in errors
    assert _table(printed)["epochs"].endswith(", interrupted")
    assert gf.load(tmp_path / "model.safetensors", backend="numpy").n_in == 64
    assert json.loads((tmp_path / "config.json").read_text())["result"]["stopped_by"] == "interrupted"
