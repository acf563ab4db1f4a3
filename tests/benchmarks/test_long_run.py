"""python -m benchmarks.long_run: its table, and a short run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.long_run import main, markdown, summary
from tests.benchmarks.test_contention import MACHINE

RESULT = {
    "machine": MACHINE,
    "epochs": 12,
    "threads": 1,
    "seconds_per_epoch": {
        "adam": [0.3, 0.1, 0.1, 0.1, 0.2, 9.0, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2],
        "sgd": [0.1] * 12,
    },
}


def test_medians_of_the_first_and_of_the_last_epochs_are_compared() -> None:
    lines = markdown(RESULT).splitlines()
    assert "| adam | 0.100 | 9.000 | 0.200 | 2.00 |" in lines
    assert "| sgd | 0.100 | 0.100 | 0.100 | 1.00 |" in lines
    assert summary(RESULT) == (
        "In a training of 12 epochs, the last ones take 2.00 (adam) and 1.00 (sgd) times as long as the first."
    )


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.long_run.machine", lambda: MACHINE)  # which itself needs the extra bench
    monkeypatch.setattr("benchmarks.long_run._DATA_TIMES", 1)
    monkeypatch.setattr("benchmarks.long_run._WIDTH", 8)
    main(["--epochs", "11", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "long_run.json").read_text())
    assert {name: len(seconds) for name, seconds in result["seconds_per_epoch"].items()} == {"adam": 11, "sgd": 11}
    assert (tmp_path / "long_run.md").read_text() == markdown(result)
    assert markdown(result) in capsys.readouterr().out


def test_too_few_epochs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--epochs", "10"])
    assert "--epochs must be more than 10, got 10" in capsys.readouterr().err
