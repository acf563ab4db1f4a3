"""``gradflow train digits --members``: several networks at once, and their ensemble."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from tests.cli.command import gradflow

QUICK = ("train", "digits", "--layers", "16", "--epochs", "3", "--threads", "2")


@pytest.mark.thorough
def test_members_differ_in_their_seeds_and_an_ensemble_is_saved(tmp_path: Path) -> None:
    result = gradflow(*QUICK, "--members", "3", "--seed", "5", "--output", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines() if "│ member" in line] == ["member"] * 3
    assert "│ ensemble │" in result.stdout
    assert "epoch 9/9" in result.stderr
    members = [gf.load(tmp_path / "run" / f"member-{place:03}", backend="numpy") for place in range(3)]
    seeds = [json.loads((tmp_path / "run" / f"member-{place:03}" / "config.json").read_text()) for place in range(3)]
    assert [config["network"]["seed"] for config in seeds] == [5, 6, 7]
    x = gf.data.load_digits().x_test
    ensemble = gf.load(tmp_path / "run" / "ensemble.safetensors", backend="numpy")
    np.testing.assert_array_equal(ensemble.predict(x), gf.Ensemble(members).predict(x))

    resumed = gradflow("train", "--resume", tmp_path / "run", "--epochs", "4")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 12/12" in resumed.stderr
    whole = gradflow(*QUICK[:4], "--epochs", "4", "--threads", "2", "--members", "3", "--seed", "5", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    again = gf.load(tmp_path / "runs" / "digits" / "member-002", backend="numpy")
    np.testing.assert_array_equal(gf.load(tmp_path / "run" / "member-002", backend="numpy").state, again.state)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--members", "2", "--json-lines"), "runs of several members have no JSON lines"),
        (("--members", "0"), "--members must be at least 1, got 0"),
    ],
)
def test_what_is_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = gradflow(*QUICK, *options, folder=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())
