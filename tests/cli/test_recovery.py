"""Interrupted, resumed and repeated runs of the command."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gradflow as gf
from gradflow.files import read_json, write_json
from tests.cli.command import environment, gradflow

pytestmark = pytest.mark.thorough

_RUN = ("train", "digits", "--layers", "16", "--backend", "numpy", "--seed", "5")


def _results(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "history.csv").read_bytes()


_SIGNALED = """
import signal, sys
import gradflow as gf
from gradflow.cli import main

append, number, has_sent = gf.History.append, int(sys.argv[1]), False

def append_and_signal(history, values):
    global has_sent
    append(history, values)
    if not has_sent:
        has_sent = True
        signal.raise_signal(number)

gf.History.append = append_and_signal
sys.exit(main(sys.argv[2:]))
"""


def _after_an_epoch_signaled(number: signal.Signals, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that gets a signal after its first epoch."""
    command = [sys.executable, "-c", _SIGNALED, str(int(number)), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_continues_unchanged(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder = tmp_path / "run"
    assert gradflow(*_RUN, "--epochs", "3", "--output", folder, "--layer-statistics").returncode == 0
    stopped = _after_an_epoch_signaled(number, "train", "--resume", str(folder), "--epochs", "300")
    errors = stopped.stderr
    assert stopped.returncode == code, errors
    assert "/300  loss" in errors
    assert f"progress is saved; resume with: gradflow train --resume {folder}" in errors
    assert "Traceback" not in errors
    assert json.loads((folder / "config.json").read_text())["result"]["stopped_by"] == "interrupted"
    unfinished = gradflow("repeat", folder)
    assert (unfinished.returncode, unfinished.stdout) == (2, "")
    assert "was interrupted; finish it first" in unfinished.stderr

    resumed = gradflow("train", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    options = ("--epochs", "300", "--layer-statistics", "--quiet", "--output")
    assert gradflow(*_RUN, *options, tmp_path / "alone").returncode == 0
    assert _results(folder) == _results(tmp_path / "alone")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_repetition_without_a_verdict(tmp_path: Path, number: signal.Signals, code: int) -> None:
    assert gradflow(*_RUN, "--epochs", "2", "--output", tmp_path, "--quiet").returncode == 0
    done = _after_an_epoch_signaled(number, "repeat", str(tmp_path))
    assert (done.returncode, done.stdout) == (code, "")
    assert "the repetition was interrupted, and nothing was compared" in done.stderr
    assert "Traceback" not in done.stderr
    assert "resume with" not in done.stderr


def test_repeat_runs_again_and_compares(tmp_path: Path) -> None:
    assert gradflow(*_RUN, "--epochs", "3", "--output", tmp_path, "--quiet").returncode == 0
    before = _results(tmp_path)
    same = gradflow("repeat", tmp_path)
    assert same.returncode == 0, same.stderr
    assert "identical, bit for bit" in same.stdout
    assert _results(tmp_path) == before

    network = gf.load(tmp_path / "model.safetensors", backend="numpy")
    weights = network.get_weights()
    weights["0.weight"][0, 0] += 0.5
    network.set_weights(weights)
    gf.save(network, tmp_path / "model.safetensors")
    config = read_json(tmp_path / "config.json")
    config["versions"]["numpy"] = "1.0"
    write_json(tmp_path / "config.json", config)
    other = gradflow("repeat", tmp_path)
    assert other.returncode == 1, other.stderr
    for words in ("0.weight", "apart by 0.5", "versions.numpy", "1.0"):
        assert words in other.stdout


def _resume(folder: Path, *options: str) -> str:
    """Resume a run; return its standard error."""
    done = gradflow("train", "--resume", folder, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_run_that_is_trained_longer_is_one_run_of_that_length(tmp_path: Path) -> None:
    """Its command is saved with the new length: to resume it again, and to repeat it."""
    longer, alone = tmp_path / "the longer run", tmp_path / "alone"
    assert gradflow(*_RUN, "--epochs=3", "--output", longer, "--quiet").returncode == 0
    advice = _resume(longer)
    assert advice == (
        f"the run in {longer} had already ended, after 3 epochs: nothing to do; train it longer with: "
        f"gradflow train --resume '{longer}' --epochs 6"
    )
    done = gradflow(*shlex.split(advice.partition("gradflow ")[2]))
    assert done.returncode == 0, done.stderr
    assert gradflow(*_RUN, "--epochs", "6", "--output", alone, "--quiet").returncode == 0
    assert _results(longer) == _results(alone)
    assert "after 6 epochs: nothing to do" in _resume(longer)
    fewer = gradflow("train", "--resume", longer, "--epochs", "2")
    assert fewer.stderr.endswith("has already begun epoch 6; pass at least that many, got --epochs 2\n")
    for folder in (longer, alone):
        same = gradflow("repeat", folder)
        assert same.returncode == 0, same.stdout


def test_a_run_that_stopped_early_trains_no_further(tmp_path: Path) -> None:
    options = ("--epochs", "60", "--early-stopping", "1", "--learning-rate", "0.05", "--quiet")
    assert gradflow(*_RUN, *options, "--output", tmp_path).returncode == 0
    before = _results(tmp_path)
    assert _resume(tmp_path).endswith("nothing to do (stopped early)")
    assert _results(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        ("digits", "--resume", "--output", "run"),
        ("digits", "--resume", "run"),
        ("--resume", "run", "digits"),
        ("--epochs", "9", "digits"),
    ],
)
def test_there_is_one_way_to_resume_and_the_others_lead_to_it(words: tuple[str, ...], tmp_path: Path) -> None:
    done = gradflow("train", *words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "gradflow train --resume FOLDER takes no option but --epochs" in done.stderr
    assert not list(tmp_path.iterdir())


def test_settings_that_the_command_does_not_have_are_named(tmp_path: Path) -> None:
    """A program has continued training with settings other than those given to the command."""
    assert gradflow(*_RUN, "--epochs", "2", "--dropout", "0", "--output", tmp_path, "--quiet").returncode == 0
    data = gf.data.load_digits()
    trainer = gf.Trainer(gf.MLP([64, 16, 10], seed=5, backend="numpy"), "softmax_cross_entropy", "adam")
    held_out = (data.x_test, data.y_test)
    trainer.fit(data.x_train, data.y_train, epochs=3, validation_data=held_out, resume=tmp_path)
    other = gradflow("repeat", tmp_path)
    assert other.returncode == 1
    table = other.stdout.partition("settings: different")[2]
    assert [word.strip() for word in next(line for line in table.splitlines() if "epochs" in line).split("│")[1:4]] == [
        "epochs", "3", "2",
    ]  # fmt: skip


def test_runs_that_cannot_be_resumed_say_why(tmp_path: Path) -> None:
    for command, message in (
        (("train", "--resume", tmp_path), "contains no run of the gradflow command"),
        (("repeat", tmp_path), "there is no finished run in"),
    ):
        done = gradflow(*command)
        assert done.returncode == 2
        assert message in done.stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "command.json").write_text("{")
    damaged = gradflow("train", "--resume", tmp_path)
    assert damaged.returncode == 2
    assert "command.json is damaged" in damaged.stderr


def test_a_run_of_a_program_is_repeated_by_one(tmp_path: Path) -> None:
    data = gf.data.load_digits()
    trainer = gf.Trainer(gf.MLP([64, 10], backend="numpy"), "softmax_cross_entropy", "adam")
    trainer.fit(data.x_train, data.y_train, epochs=1, output=tmp_path)
    done = gradflow("repeat", tmp_path)
    assert done.returncode == 2
    assert "to repeat it, gradflow.repeat(folder, x, y)" in done.stderr
    assert gf.repeat(tmp_path, data.x_train, data.y_train).is_same
