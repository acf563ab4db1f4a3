"""``gradflow train FILE``: decisions from the data, the run folder, and bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli import main
from tests.cli.command import environment, gradflow

_QUICK = ("--epochs", "2", "--layers", "8", "--backend", "numpy")


def write_customers(path: Path, rows: int = 200, *, seed: int = 0, delimiter: str = ",") -> Path:
    """Write a messy file: text, gaps, dates, a text target; it depends on age and city."""
    drawn = random.Random(seed)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(["id", "name", "age", "city", "income", "joined", "country", "zip", "note", "spent", "churn"])
        for row in range(rows):
            age, city = drawn.uniform(18, 90), drawn.choice(["Bern", "Oslo", "Rome, Italy"])
            churns = age / 30 + 2 * (city == "Oslo") > 2.5
            table.writerow([
                1000 + 7 * row, f"Customer {drawn.randrange(10**9)}", "" if row % 20 == 3 else f"{age:.1f}", city,
                "NA" if row % 10 == 1 else f"{drawn.lognormvariate(8, 1):.2f}",
                f"20{drawn.randrange(20, 24)}-{drawn.randrange(1, 13):02d}-15", "CH", f"0{drawn.randrange(100, 109)}",
                "", f"{3 * age + drawn.gauss(0, 1):.3f}", "yes" if churns else "no",
            ])  # fmt: skip
    return path


@pytest.fixture
def customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_customers(tmp_path / "customers.csv")
    return Path("customers.csv")


def settings(folder: str = "runs/customers") -> dict[str, Any]:
    return tomllib.loads(Path(folder, "train.toml").read_text())


def rules(folder: str = "runs/customers") -> dict[str, str]:
    return dict(rule.rsplit("=", 1) for rule in settings(folder)["rule"])


def test_everything_is_decided_and_shown_before_training(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(customers), "--target", "churn", "--backend", "numpy"]) == 0
    shown = capsys.readouterr().out
    for words in ("200 rows", "loaded into memory", "classification of 'churn' (no", "yes", "binary_cross_entropy"):
        assert words in shown
    assert rules() == {
        "id": "ignore",
        "name": "ignore",
        "age": "number:mark",
        "city": "category",
        "income": "number:mark",
        "joined": "dates",
        "country": "ignore",
        "zip": "number",
        "note": "ignore",
        "spent": "number",
    }
    network = gf.load("runs/customers")
    assert network.classes == ("no", "yes")
    assert network.n_out == 1
    held_out = [line for line in shown.splitlines() if "held-out accuracy" in line]
    assert float(held_out[0].strip("│ ").split("│")[1]) > 0.9


def test_a_dry_run_writes_nothing(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(customers), "--target", "churn", "--dry-run"]) == 0
    assert "run folder: runs/customers" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_standard_output_holds_json_lines_alone(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(customers), "--target", "churn", "--json-lines", *_QUICK]) == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["begin", "epoch", "epoch", "end"]


def test_every_decision_has_an_option(customers: Path) -> None:
    options = ["--target", "churn", "--task", "classification", "--rule", "zip=category", "--rule", "age=robust:fill"]
    options += ["--rule", "city=embedding", "--rule", "spent=ignore", "--validation-fraction", "0.5", "--seed", "3"]
    options += ["--loss", "softmax_cross_entropy", "--metrics", "log_loss", "--batch-size", "50", "--read", "stream"]
    options += ["--early-stopping", "0", "--class-weight", "yes=2", "--normalization", "layer", "--dropout", "0.1"]
    assert main(["train", str(customers), *options, *_QUICK]) == 0
    chosen = rules()
    assert [chosen[name] for name in ("zip", "age", "city", "spent", "name")] == [
        "category", "robust:fill", "embedding", "ignore", "ignore",
    ]  # fmt: skip
    config = json.loads(Path("runs/customers/config.json").read_text())
    assert config["network"]["classes"] == ["no", "yes"]
    assert (config["loss"]["name"], config["metrics"]) == ("softmax_cross_entropy", ["log_loss"])
    assert (config["batch_size"], config["early_stopping"]) == (50, None)
    assert config["class_weight"] == {"yes": 2}
    types = [layer["type"] for layer in config["network"]["layers"]]
    assert types == ["EmbedColumns", "Dense", "LayerNorm", "ReLU", "Dropout", "Dense"]
    preprocessing = gf.load("runs/customers").preprocessing
    assert preprocessing is not None
    assert "zip = 0100" in preprocessing.output_names
    assert len(gf.data.open_file(customers, target=None)) == 200


def test_numbers_are_predicted_on_standardized_targets(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--target", "spent", "--rule", "churn=ignore", "--layers", "16", "--learning-rate", "0.01")
    assert main(["train", str(customers), *options]) == 0
    assert "regression of 'spent'" in capsys.readouterr().out
    network = gf.load("runs/customers")
    assert network.output_scale is not None
    with Path("runs/customers/history.csv").open() as file:
        assert max(float(row["val_r2"]) for row in csv.DictReader(file)) > 0.8


def test_several_numbers_are_predicted_at_once(customers: Path) -> None:
    assert main(["train", str(customers), "--target", "spent", "--target", "zip", *_QUICK]) == 0
    assert gf.load("runs/customers").n_out == 2
    assert settings()["target"] == ["spent", "zip"]


def test_numbers_are_read_as_other_countries_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, delimiter, a, price, shown in (
        ("german", ";", "{0},5", "{0}.{1:03},75", "decimal point ',', '.' between thousands"),
        ("english", "\t", "{0}.5", "{0},{1:03}.75", "',' between thousands"),
        ("swiss", ",", "{0}.5", "{0}'{1:03}.75", ""),
    ):
        rows = [
            (a.format(row * 7 % 80), price.format(row % 9 + 1, row), "yes" if row > 40 else "no") for row in range(80)
        ]
        Path(f"{name}.csv").write_text("\n".join(map(delimiter.join, [("a", "price", "y"), *rows])))
        options = ("--thousands", "'") if name == "swiss" else ()
        assert main(["train", f"{name}.csv", "--target", "y", *options, *_QUICK]) == 0
        assert shown in capsys.readouterr().out
        assert main(["predict", f"runs/{name}", f"{name}.csv", "--output", f"{name}.txt"]) == 0
        preprocessing = gf.load(f"runs/{name}").preprocessing
        assert preprocessing is not None
        assert preprocessing == gf.load("runs/german").preprocessing
        assert rules(f"runs/{name}") == {"a": "number", "price": "number"}
        assert main(["repeat", f"runs/{name}"]) == 0
        assert main(["train", "--config", f"runs/{name}", "--dry-run"]) == 0
    assert "1.000,75" in Path("german.txt").read_text()  # as it was


def test_a_run_of_a_text_file_predicts_on_parquet(customers: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    options = ("--target", "churn", "--encoding", "cp1252", "--missing", "NA", "--rule", "joined=ignore")
    assert main(["train", str(customers), *options, "--read", "stream", *_QUICK]) == 0
    pandas.read_csv(customers).to_parquet("new.parquet")
    assert main(["predict", "runs/customers", "new.parquet", "--output", "p.csv"]) == 0


def test_whole_numbers_are_classes_if_they_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{row},{row * 7 % 11},{3 + row % 3}" for row in range(60)]
    Path("grades.csv").write_text("\n".join(["row,points,grade", *rows]))
    assert main(["train", "grades.csv", "--target", "grade", *_QUICK]) == 0
    assert gf.load("runs/grades").classes == (3, 4, 5)
    assert rules("runs/grades") == {"row": "ignore", "points": "number"}
    assert main(["train", "grades.csv", "--target", "grade", "--task", "regression", *_QUICK]) == 0
    assert gf.load("runs/grades-2").n_out == 1


@pytest.mark.parametrize("name", ["customers.csv.gz", "customers.parquet", "customers.feather"])
def test_other_kinds_of_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith(".gz"):
        write_customers(Path(name))
    else:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        write_customers(Path("customers.csv"))
        table = pandas.read_csv("customers.csv", parse_dates=["joined"])
        getattr(table, "to_parquet" if name.endswith("parquet") else "to_feather")(name)
    assert main(["train", name, "--target", "churn", *_QUICK]) == 0
    assert rules()["joined"] == "dates"
    assert rules()["age"] == "number:mark"


def test_a_file_loaded_and_streamed_holds_out_the_same_rows(customers: Path) -> None:
    for way in ("load", "stream"):
        assert main(["train", str(customers), "--target", "churn", "--read", way, "--output", way, *_QUICK]) == 0
    networks = [gf.load(way) for way in ("load", "stream")]
    assert networks[0].preprocessing == networks[1].preprocessing
    results = [json.loads(Path(way, "config.json").read_text())["result"] for way in ("load", "stream")]
    # Batches hold other rows: the shuffles differ.
    assert results[0]["val_loss"] == pytest.approx(results[1]["val_loss"], rel=0.2)


def test_rows_are_split_by_group_by_time_or_by_a_file(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(customers), "--target", "churn", "--group", "zip", *_QUICK]) == 0
    assert "whole groups of 'zip'" in capsys.readouterr().out
    assert "zip" not in rules()
    assert main(["train", str(customers), "--target", "churn", "--time", "joined", *_QUICK]) == 0
    assert "the last 20% of the rows by 'joined'" in capsys.readouterr().out
    preprocessing = gf.load("runs/customers-2").preprocessing
    assert preprocessing is not None
    assert "joined month sin" in preprocessing.output_names
    assert "joined elapsed" not in preprocessing.output_names
    write_customers(Path("later.csv"), rows=50, seed=1)
    assert main(["train", str(customers), "--target", "churn", "--validation", "later.csv", *_QUICK]) == 0
    config = json.loads(Path("runs/customers-3/config.json").read_text())
    assert config["data"].startswith("200 rows")
    assert config["validation_data"].startswith("50 rows")
    folder = Path("runs/customers-3").resolve()
    os.chdir(folder)
    assert main(["repeat", str(folder)]) == 0


def test_a_run_is_resumed_repeated_and_made_again_from_its_config(
    customers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(customers), "--target", "churn", *_QUICK]) == 0
    assert main(["train", "--resume", "runs/customers", "--epochs", "4"]) == 0
    assert settings()["epochs"] == 4
    assert main(["repeat", "runs/customers"]) == 0
    assert main(["train", "--config", "runs/customers/train.toml", "--quiet"]) == 0
    first, again = (Path("runs", name, "model.safetensors").read_bytes() for name in ("customers", "customers-2"))
    assert first == again
    assert main(["train", "--config", "runs/customers", "--epochs", "1", "--rule", "age=ignore", "--quiet"]) == 0
    assert settings("runs/customers-3")["epochs"] == 1
    assert rules("runs/customers-3")["age"] == "ignore"
    capsys.readouterr()

    write_customers(customers, seed=1)
    for command in (["train", "--resume", "runs/customers", "--epochs", "6"], ["repeat", "runs/customers"]):
        assert main(command) == 2
        assert f"{customers.resolve()} has changed since the run began" in capsys.readouterr().err
    assert main(["train", "--config", "runs/customers", "--quiet"]) == 0
    assert "has changed since the run whose settings these are" in capsys.readouterr().err


def test_a_run_is_replaced_only_when_told_to(customers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", str(customers), "--target", "churn", *_QUICK]
    assert main(command) == 0
    assert main(command) == 0
    assert Path("runs/customers-2/model.safetensors").is_file()
    before = Path("runs/customers/train.toml").read_bytes()
    assert main([*command, "--output", "runs/customers", "--seed", "5"]) == 2
    assert "already contains config.json" in capsys.readouterr().err
    assert Path("runs/customers/train.toml").read_bytes() == before
    assert main([*command, "--output", "runs/customers", "--seed", "5", "--overwrite"]) == 0
    assert settings()["seed"] == 5


def test_weights_of_rows_reach_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{row % 13},{row % 7 * 1.5},{row % 3}" for row in range(60)]
    Path("w.csv").write_text("\n".join(["a,y,w", *rows]))
    for way in ("load", "stream"):
        command = ["train", "w.csv", "--target", "y", "--sample-weight", "w", "--read", way, "--output", way, *_QUICK]
        assert main(command) == 0
        assert json.loads(Path(way, "config.json").read_text())["weighted"] is True
        assert rules(way) == {"a": "number"}


_CSV = "a,b,y\n" + "".join(f"{row % 17}.5,x,{'yes' if row % 2 else 'no'}\n" for row in range(30))


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (_CSV, ("--target", "z"), "--target: unknown column 'z'."),
        ("age,churn\n1,2\n", ("--target", "chrun"), "unknown column 'chrun'. Did you mean 'churn'?"),
        (_CSV, (), "which column of data.csv is to be predicted? It has a, b, y. Is it 'y'? Then add --target y"),
        ("a,b\n1,2\n", (), "It has a, b. Name it with --target COLUMN"),
        ("a,b,y\n", ("--target", "y"), "data.csv has no rows"),
        ("", ("--target", "y"), "data.csv is empty; expected a header line"),
        (_CSV, ("--target", "y", "--rule", "c=ignore"), "--rule: unknown column 'c'"),
        (_CSV, ("--target", "y", "--rule", "a=log"), "--rule must be COLUMN=RULE or COLUMN=RULE:MISSING"),
        (
            _CSV,
            ("--target", "y", "--rule", "a=ignore"),
            "has no column to learn from: 'a' as you said; 'b' a single value",
        ),
        (_CSV, ("--target", "y", "--task", "ranking"), "unknown --task 'ranking'"),
        (_CSV, ("--target", "y", "--task", "regression"), "the target 'y' holds text, but must be numbers or a class"),
        (_CSV, ("--target", "y", "--loss", "huber"), "--loss huber is not for classification"),
        (_CSV, ("--target", "b"), "the target 'b' has the same value in all rows"),
        ("a,b,y\n1,2,no\n2,3,yes\n", ("--target", "a", "--target", "y"), "the target 'y' holds text"),
        (_CSV, ("--target", "y", "--group", "d"), "--group: unknown column 'd'"),
        (_CSV, ("--target", "y", "--group", "a", "--time", "a"), "by --group or by --time, not by both"),
        (_CSV, ("--target", "y", "--validation", "v.csv"), "there is no file 'v.csv'"),
        (_CSV, ("--target", "y", "--validation", "data.csv", "--group", "a"), "so --group has no meaning"),
        (_CSV, ("--target", "y", "--read", "fast"), "unknown --read 'fast'"),
        (_CSV, ("--target", "y", "--class-weight", "maybe=2"), "unknown class 'maybe'"),
        (_CSV.replace("yes", "", 1), ("--target", "y"), "the target 'y' lacks 1 values, the first in line 3"),
        ("a,b,y\n1,2,no\n3,4,yes\n5,4,yes\n", ("--target", "y"), "the class 'no' has a single row"),
        (
            "a,y\n1,é\n".encode("cp1252").decode("latin-1"),
            ("--target", "y", "--encoding", "ascii"),
            "pass --encoding, such",
        ),
        (
            "a;b;y\n" + "".join(f"{row},5;{row}.25;{row % 2}\n" for row in range(40)),
            ("--target", "y"),
            "column 'b' has numbers with a decimal point, but 'a' such with a comma",
        ),
        (
            "a,y\n" + "".join(f"{row}%,{row % 2}\n" for row in range(40)),
            ("--target", "y"),
            "column 'a' holds numbers with a sign such as % or $; write them without it, such as '0%'",
        ),
        ("a;y\n1;2\n2;1\n", ("--target", "y", "--decimal", ";"), "decimal must be '.' or ',', got ';'"),
        (
            "a,y\n" + "".join(f"{row if row != 7 else 'unknown'},{row % 2}\n" for row in range(40)),
            ("--target", "y"),
            "column 'a' holds numbers, but for 1 of 40 values, such as 'unknown'. If these stand for missing values: "
            "--missing TEXT",
        ),
        (
            "name,y\n" + "".join(f"Customer {row * row},{row % 2}\n" for row in range(40)),
            ("--target", "y"),
            "has no column to learn from: 'name' text that differs in most rows",
        ),
        (
            "a,name\n" + "".join(f"{row % 7},Customer {row * row}\n" for row in range(40)),
            ("--target", "name"),
            "the target 'name' has too many different values for classes",
        ),
        ("a,y,when\n" + "1,2,2024-01-01\n2,3,2024-01-02\n" * 9, ("--target", "when"), "holds timestamps"),
        ("a,y\n" + "1,2\n" * 9, ("--target", "y", "--checkpoint-minutes", "0"), "--checkpoint-minutes must be above 0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    content: str,
    options: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(content)
    assert main(["train", "data.csv", *options, *_QUICK]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("error: ")
    assert expected in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("custmers.csv",), "there is no file 'custmers.csv'. Did you mean 'customers.csv'?"),
        (("digit",), "there is no file 'digit'. The images of digits are: gradflow train digits"),
        (("--config", "nowhere.toml"), "nowhere.toml: No such file or directory"),
        (("--config", "customers.csv"), "customers.csv is not a config file of gradflow train"),
        (("--config",), "--config needs a file"),
        (("--target", "churn"), "which file? Pass one"),
    ],
)
def test_a_wrong_file_is_named(
    words: tuple[str, ...], expected: str, customers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_file_called_digits_is_named_by_its_path(customers: Path) -> None:
    customers.rename("digits")
    assert main(["train", "./digits", "--target", "churn", *_QUICK]) == 0
    assert settings("runs/digits")["target"] == ["churn"]


def test_an_index_without_a_name_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(",a,y\n" + "".join(f"{row},{row * 3 % 7},{row % 2}\n" for row in range(30)))
    assert main(["train", "t.csv", "--target", "y", *_QUICK]) == 0
    assert rules("runs/t") == {"a": "number"}


def test_booleans_of_parquet_are_classes_and_dates_stay_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pyarrow = pytest.importorskip("pyarrow")
    days = np.datetime64("2024-01-01") + np.arange(60) % 50
    columns = {"day": days, "n": np.arange(60) % 7, "y": np.arange(60) % 2 == 0}
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), "t.parquet", row_group_size=9)
    for way in ("load", "stream"):
        assert main(["train", "t.parquet", "--target", "y", "--read", way, "--output", way, *_QUICK]) == 0
        assert gf.load(way).classes == (False, True)
        assert rules(way) == {"day": "dates", "n": "number"}
        assert settings(way)["metrics"] == ("roc_auc,f1" if way == "load" else "f1")


@pytest.mark.gpu
def test_a_file_is_learned_and_predicted_on_the_gpu(customers: Path) -> None:
    options = ("--target", "churn", "--rule", "city=embedding", "--epochs", "3", "--layers", "8", "--backend", "cupy")
    assert main(["train", str(customers), *options]) == 0
    assert main(["predict", "runs/customers", str(customers), "--backend", "cupy", "--output", "p.csv"]) == 0
    network = gf.load("runs/customers", backend="numpy")
    expected = network.predict(gf.data.open_file(customers, target=None))[:, 0]
    with open("p.csv", newline="") as file:
        got = [float(row["probability of yes"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_run_can_be_resumed(customers: Path) -> None:
    command = [sys.executable, "-m", "gradflow", "train", str(customers), "--target", "churn", "--early-stopping", "0"]
    with subprocess.Popen(
        [*command, "--epochs", "100000"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/100000")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "progress is saved; resume with: gradflow train --resume runs/customers" in errors
    done = json.loads(Path("runs/customers/config.json").read_text())["result"]["epochs"]
    assert main(["train", "--resume", "runs/customers", "--epochs", str(done + 3)]) == 0


@pytest.mark.parametrize("columns", ["30", "200"])
def test_a_terminal_without_color_and_of_any_width(columns: str, customers: Path) -> None:
    options = ("--target", "churn", "--dry-run")
    done = gradflow("train", customers, *options, COLUMNS=columns, NO_COLOR="1", TERM="dumb")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if line[0] in "┏┃│┌") <= int(columns)
    joined = "".join(done.stdout.replace("│", "").split())
    assert "categories" in joined or columns == "30"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_rows_are_streamed_in_bounded_memory(tmp_path: Path) -> None:
    """800,000 rows more may take 80 MB more; their numbers alone would take 134."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    drawn = np.random.default_rng(0)
    peaks = []
    for rows in (200_000, 1_000_000):
        x = drawn.normal(size=(rows, 20))
        columns = {f"x{place}": x[:, place] for place in range(20)} | {"y": x[:, 0] * 3 + x[:, 1]}
        parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=50_000)
        # VmHWM, since ru_maxrss includes what this process had when it forked.
        program = (
            "import sys; from gradflow.cli import main; code = main(sys.argv[1:]); "
            "print([line for line in open('/proc/self/status') if 'VmHWM' in line][0].split()[1], file=sys.stderr); "
            "sys.exit(code)"
        )
        command = [sys.executable, "-c", program, "train", "t.parquet", "--target", "y", "--read", "stream"]
        done = subprocess.run(
            [*command, "--epochs", "1", "--quiet", "--output", str(rows)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stderr.splitlines()[-1]))
    assert peaks[1] - peaks[0] < 80_000, peaks


# -- recipes ----------------------------------------------------------------------------------------------------------

_RECIPE = ("--recipe", "realmlp", "--epochs", "3", "--layers", "8,8", "--backend", "numpy")


def test_a_recipe_is_shown_and_its_config_trains_the_same_network(
    customers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(customers), "--target", "churn", *_RECIPE]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "realmlp: epochs 3, batch_size 256, monitor loss, networks 1, │ │ │ hidden 8,8, dropout 0.15" in shown
    assert "│ age │ number, coded by realmlp │" in shown
    kept = settings()
    assert (kept["recipe"], kept["epochs"], kept["layers"]) == ("realmlp", 3, "8,8")
    assert not kept.keys() & {"optimizer", "activation", "dropout", "batch-size", "members"}
    network = gf.load("runs/customers")
    assert [type(layer).__name__ for layer in network.layers[:2]] == ["PeriodicEmbedding", "Scale"]
    assert network.preprocessing.output_names[:2] == ["age", "income"]
    assert main(["train", "--config", "runs/customers", "--quiet"]) == 0
    models = [Path(folder, "model.safetensors").read_bytes() for folder in ("runs/customers", "runs/customers-2")]
    assert models[0] == models[1]
    assert main(["predict", "runs/customers", str(customers), "--output", "predictions.csv"]) == 0


def test_a_recipe_of_several_networks_is_an_ensemble(customers: Path) -> None:
    arguments = ["train", str(customers), "--target", "spent", *_RECIPE, "--members", "2", "--quiet"]
    assert main(arguments) == 0
    assert len(gf.load("runs/customers")) == 2
    assert main(["evaluate", "runs/customers", str(customers)]) == 0


def test_a_recipe_of_streamed_rows(customers: Path) -> None:
    arguments = ["train", str(customers), "--target", "churn", *_RECIPE, "--quiet", "--read", "stream"]
    assert main(arguments) == 0
    streamed, loaded = gf.load("runs/customers"), Path("runs/customers-2")
    assert main([*arguments[:-1], "load"]) == 0
    assert streamed.preprocessing.config() == gf.load(loaded).preprocessing.config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "realmpl"], "unknown recipe 'realmpl'. Did you mean 'realmlp'?"),
        (["--recipe", "tabm", "--optimizer", "adam"], "--recipe tabm decides that itself: omit --optimizer"),
        (["--recipe", "tabm", "--l2", "0.1"], "omit --l2"),
        (["--recipe", "tabm", "--members", "0"], "--members must be at least 1, got 0"),
        (["--recipe", "realmlp", "--early-stopping", "3"], "--recipe realmlp has no use for --early-stopping; omit it"),
        (["--recipe", "plain", "--layers", "a"], "--layers must be whole numbers"),
    ],
)
def test_options_that_contradict_a_recipe_are_refused(
    customers: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["train", str(customers), "--target", "churn", *options]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()
