"""``gradflow train ... --members``: several networks at once, whose mean is one model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli import main
from tests.cli.command import gradflow
from tests.cli.test_train_file import write_customers

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
    ensemble = gf.load(tmp_path / "run", backend="numpy")
    np.testing.assert_array_equal(ensemble.predict(x), gf.Ensemble(members).predict(x))

    resumed = gradflow("train", "--resume", tmp_path / "run", "--epochs", "4")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 12/12" in resumed.stderr
    whole = gradflow(*QUICK[:4], "--epochs", "4", "--threads", "2", "--members", "3", "--seed", "5", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    again = gf.load(tmp_path / "runs" / "digits" / "member-002", backend="numpy")
    np.testing.assert_array_equal(gf.load(tmp_path / "run" / "member-002", backend="numpy").state, again.state)


@pytest.mark.thorough
def test_no_members_are_refused(tmp_path: Path) -> None:
    result = gradflow(*QUICK, "--members", "0", folder=tmp_path)
    assert result.returncode == 2
    assert "--members must be at least 1, got 0" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_json_lines_say_of_which_member_they_are(tmp_path: Path) -> None:
    result = gradflow(*QUICK, "--members", "2", "--json-lines", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for member in range(2):
        assert [line["event"] for line in lines if line["member"] == member] == ["begin", *["epoch"] * 3, "end"]


OF_FILE = ("--epochs", "3", "--layers", "8", "--backend", "numpy", "--quiet")


@pytest.fixture
def customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_customers(Path("customers.csv"))


def _evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json"]) == 0
    values: dict[str, float] = json.loads(capsys.readouterr().out)
    return values


@pytest.mark.parametrize("way", ["load", "stream"])
def test_a_file_gives_one_model_of_several_networks(
    way: str, customers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(customers), "--target", "churn", "--members", "3", "--read", way, *OF_FILE]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[1:3] for line in shown.splitlines() if "│ member" in line] == [
        ["member", str(place)] for place in range(3)
    ]
    run = Path("runs/customers")
    members = [gf.load(run / f"member-{place:03}", backend="numpy") for place in range(3)]
    assert len({str(member.state[:4]) for member in members}) == 3
    assert len({str(member.preprocessing) for member in members}) == 1
    ensemble = gf.load(run, backend="numpy")
    source = gf.data.open_file(customers, target=None)
    expected = np.mean([member.predict(source) for member in members], axis=0)
    np.testing.assert_allclose(ensemble.predict(source), expected, rtol=1e-5)

    assert main(["predict", str(run), str(customers), "--output", "p.csv"]) == 0
    with Path("p.csv").open() as file:
        predicted = [float(row["probability of yes"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(predicted, expected[:, 0], rtol=1e-5)
    capsys.readouterr()
    assert main(["show", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "members 0, 1, 2:" in shown
    assert shown.count("Dense") == 2
    assert main(["repeat", str(run)]) == 0
    assert main(["train", str(customers), "--target", "churn", "--output", str(run), *OF_FILE]) == 2


@pytest.mark.parametrize(("target", "weight"), [("churn", "spent"), ("spent", "zip"), ("city", "spent")])
def test_an_ensemble_is_evaluated_by_its_mean_predictions(
    target: str, weight: str, customers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--target", target, "--sample-weight", weight, "--output", "run"]
    assert main(["train", str(customers), *options, "--members", "2", *OF_FILE]) == 0
    alone = [_evaluated(capsys, f"run/member-{place:03}", str(customers)) for place in (0, 1)]
    together = _evaluated(capsys, "run", str(customers))
    assert together.keys() == alone[0].keys()
    assert together["loss"] < np.mean([values["loss"] for values in alone])  # for any convex loss
    # The mean of a network and itself is the network.
    network = gf.load("run/member-000")
    gf.save(gf.Ensemble([network, network.copy()]), "run/model.safetensors")
    assert _evaluated(capsys, "run", str(customers)) == pytest.approx(alone[0], rel=1e-4)


def test_an_overwritten_run_leaves_nothing_behind(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", str(customers), "--target", "churn", *OF_FILE, "--output", "run"]
    assert main([*train, "--members", "3"]) == 0
    Path("run/member-002/notes.txt").write_text("mine")
    assert main([*train, "--members", "2"]) == 2
    assert main([*train, "--members", "2", "--overwrite"]) == 0
    assert [path.name for path in Path("run/member-002").rglob("*.*") if path.suffix in (".safetensors", ".json")] == []
    assert Path("run/member-002/notes.txt").read_text() == "mine"
    assert len(gf.load("run")) == 2
    assert main([*train, "--overwrite"]) == 0
    assert isinstance(gf.load("run"), gf.Sequential)
    assert not list(Path("run").glob("member-*/model.safetensors"))
    assert main([*train, "--members", "2", "--overwrite"]) == 0
    assert not {"config.json", "history.csv", "checkpoints"} & {
        path.name for path in Path("run").iterdir() if not path.is_dir()
    }
    assert main(["show", "run"]) == 0


def test_a_run_that_has_not_ended_is_no_model_yet(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(customers), "--target", "churn", "--members", "2", *OF_FILE]) == 0
    Path("runs/customers/model.safetensors").unlink()
    for command in (["predict", "runs/customers", str(customers)], ["report", "runs/customers"]):
        assert main(command) == 2
        assert "has not ended; finish it first: gradflow train --resume runs/customers" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/customers", "--epochs", "4"]) == 0
    assert len(gf.load("runs/customers")) == 2


def test_the_report_judges_the_ensemble(customers: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert main(["train", str(customers), "--target", "spent", "--target", "zip", "--members", "2", *OF_FILE]) == 0
    assert main(["report", "runs/customers"]) == 0
    page = Path("runs/customers/report.html").read_text()
    for words in ("2 networks of", "member-001", "zip: root mean squared error", "On 40 held-out rows"):
        assert words in page
    assert page.count("<img") == 3 + 1 + 2 + 1  # loss and metrics, surface, predictions of two targets, importance
    assert main(["report", "runs/customers/member-001"]) == 0
    assert Path("runs/customers/member-001/report.html").read_text().count("<img") == 7
