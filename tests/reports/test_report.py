"""The report as a file: valid HTML that needs nothing else, right in what it says, and never half-written."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli import main
from gradflow.losses import LOSSES
from tests.registries import forgotten

VOID = {"meta", "link", "img", "br"}
RANDOM = np.random.default_rng(0)


class Page(HTMLParser):
    """A page, whose tags must be closed in order.

    Attributes:
        text: the text of the page.
        pictures: the SVG pictures.
        headings: the texts of the headings.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.pictures, self.headings = "", list[bytes](), list[str]()
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        assert tag != "script"
        assert not any(name.startswith("on") for name in values)
        for name in ("src", "href"):
            assert (values.get(name) or "data:").startswith("data:")
        if tag == "img":
            assert values["alt"]
            self.pictures.append(base64.b64decode((values["src"] or "").removeprefix("data:image/svg+xml;base64,")))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if self._open[-1:] in (["h1"], ["h2"]):
            self.headings[-1] += data


def trained(folder: Path, loss: str = "softmax_cross_entropy", epochs: int = 6, **settings: Any) -> tuple[Any, Any]:
    """Train a small network on a table, and return the data."""
    table = {
        "<age>": RANDOM.normal(40, 10, 120),
        "city": np.array(["Rome", "Oslo & <b>Bern</b>"], object)[RANDOM.integers(0, 2, 120)],
    }
    is_classifier = loss == "softmax_cross_entropy"
    y = np.where(table["<age>"] > 40, "<yes>", "no") if is_classifier else 3 * table["<age>"]
    preprocessing = gf.data.fit_preprocessing(table)
    network = gf.MLP([preprocessing.n_out, 8, 2 if is_classifier else 1], preprocessing=preprocessing, backend="numpy")
    trainer = gf.Trainer(network, loss, gf.Adam(0.02), **settings)
    trainer.fit(table, y, epochs=epochs, output=folder, callbacks=[gf.WeightPath(folder)])
    return table, y


def test_a_classifier_with_all_there_is(tmp_path: Path) -> None:
    data = trained(tmp_path, layer_statistics=True)
    path = gf.report(tmp_path, data, data)
    assert path == tmp_path / "report.html"
    page = Page(path)
    assert page.headings == [
        f"Report on {tmp_path.name}", "Diagnosis", "What was trained", "Learning curves", "Inside the layers",
        "The ball rolling down the loss surface", "Predictions", "Which columns matter",
    ]  # fmt: skip
    for picture in page.pictures:
        ElementTree.fromstring(picture)
    assert len(page.pictures) == 2 + 3 + 1 + 2 + 1  # curves, layers, surface, predictions, importance
    for shown in ("was trained on 120 rows for 6 epochs", "Oslo & <b>Bern</b>", "<age>", "<yes>", "held-out rows"):
        assert shown in page.text
    assert "Not measured" not in page.text


def test_numbers_without_held_out_rows(tmp_path: Path) -> None:
    data = trained(tmp_path, "mean_squared_error", standardize_targets=True)
    page = Page(gf.report(tmp_path, data, output=tmp_path / "other.html"))
    assert len(page.pictures) == 1 + 1 + 1 + 1
    assert "These rows were trained on" in page.text
    assert "R2 0." in page.text
    assert "Not measured. gradflow train ... --layer-statistics" in page.text


def test_without_data_the_page_says_how_to_give_it(tmp_path: Path) -> None:
    trained(tmp_path)
    page = Page(gf.report(tmp_path))
    assert len(page.pictures) == 2
    assert page.text.count("gradflow report FOLDER --data FILE --target COLUMN") == 4
    assert "The weights along the way are there, but not the data." in page.text


def test_without_the_path_of_weights_the_page_says_how_to_keep_it(tmp_path: Path) -> None:
    data = trained(tmp_path)
    (tmp_path / "weight-path.safetensors").unlink()
    page = Page(gf.report(tmp_path, data))
    assert "callbacks=[gf.WeightPath(folder)]" in page.text


def test_the_picture_of_the_surface_is_a_figure_too(tmp_path: Path) -> None:
    data = trained(tmp_path)
    gf.reports.plot_loss_surface(tmp_path, data).savefig(tmp_path / "surface.png")
    assert (tmp_path / "surface.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "weight-path.safetensors").unlink()
    with pytest.raises(gf.DataError, match="weights of at least three epochs are needed"):
        gf.reports.plot_loss_surface(tmp_path, data)


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    data = trained(tmp_path)
    first = gf.report(tmp_path, data).read_bytes()
    assert gf.report(tmp_path, data, overwrite=True).read_bytes() == first


def test_a_source_serves_as_data(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(50, 3))
    network = gf.MLP([3, 4, 3], backend="numpy")
    y = RANDOM.integers(0, 3, 50)
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(x, y, epochs=2, output=tmp_path)
    page = Page(gf.report(tmp_path, gf.data.Arrays(x, y)))
    assert "On 50 training rows" in page.text
    assert "column 0" in page.text


def test_a_loss_that_is_unknown_here_leaves_the_curves(tmp_path: Path) -> None:
    data = trained(tmp_path)
    with forgotten():  # which keeps the order, too
        del LOSSES["softmax_cross_entropy"]
        page = Page(gf.report(tmp_path, data))
    assert len(page.pictures) == 2
    assert "The loss of this run is not known here" in page.text


def test_an_existing_file_is_replaced_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(gf.DataError, match=r"report\.html already exists"):
        gf.report(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device.*report\.html"):
            gf.report(tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text() == "mine"
    gf.report(tmp_path, overwrite=True)
    assert Page(tmp_path / "report.html").headings


def test_folders_without_a_whole_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(gf.DataError, match="no finished run"):
        gf.report(tmp_path)
    folder = tmp_path / "run"
    trained(folder)
    for name, kind in (("history.csv", gf.FileFormatError), ("model.safetensors", gf.FileFormatError)):
        damaged = tmp_path / f"with damaged {name}"
        shutil.copytree(folder, damaged)
        (damaged / name).write_bytes(b"loss\nx\n")
        with pytest.raises(kind, match="damaged"):
            gf.report(damaged)
        (damaged / name).unlink()
        with pytest.raises(gf.DataError, match=f"{name}, which a finished run has"):
            gf.report(damaged)
    assert not list(tmp_path.rglob("report.html"))


def test_data_of_another_shape_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(gf.DataError, match="missing from data x"):
        gf.report(tmp_path, ({"city": np.array(["Rome"], object)}, ["no"]))


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_its_packages_an_error_names_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradflow.reports.write.find_spec", lambda name: None if name == package else object())
    with pytest.raises(gf.GradflowError, match=rf"reports need {package}, not installed: pip install .*\[report\]"):
        gf.report(tmp_path)


def test_gradflow_imports_jinja2_only_where_it_is_used() -> None:
    program = "import gradflow, sys; assert not {'jinja2', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_command_knows_the_data_of_its_own_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "digits"
    for loss in ("softmax_cross_entropy", "mean_squared_error"):
        arguments = ["train", "digits", "--epochs", "3", "--quiet", "--overwrite", "--output", str(folder)]
        assert main([*arguments, "--loss", loss]) == 0
        capsys.readouterr()
        assert main(["report", str(folder), "--overwrite"]) == 0
        assert capsys.readouterr().out == f"written: {folder / 'report.html'}\n"
        page = Page(folder / "report.html")
        assert "On 359 held-out rows" in page.text
        assert "of the path's variation" in page.text


def test_the_command_takes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, y = trained(tmp_path / "run")
    lines = ["<age>,city,stays", *(f"{a},{c},{s}" for a, c, s in zip(table["<age>"], table["city"], y, strict=True))]
    file = tmp_path / "data.csv"
    file.write_text("\n".join(lines))
    folder = str(tmp_path / "run")
    assert main(["report", folder, "--data", str(file)]) == 2
    assert "pass --target COLUMN" in capsys.readouterr().err
    assert main(["report", folder, "--data", str(tmp_path / "data.txt"), "--target", "stays"]) == 2
    assert "data.txt" in capsys.readouterr().err
    assert main(["report", folder, "--data", str(tmp_path / "none.csv"), "--target", "stays"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["report", folder, "--data", str(file), "--target", "stay"]) == 2
    assert "'stays'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.html").exists()
    assert main(["report", folder, "--held-out", str(file), "--target", "stays"]) == 0
    assert "On 120 held-out rows" in Page(tmp_path / "run" / "report.html").text


def test_the_command_finds_the_file_that_a_run_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, y = trained(tmp_path / "other")
    lines = ["age,city,stays", *(f"{a},{c},{s}" for a, c, s in zip(table["<age>"], table["city"], y, strict=True))]
    file, folder = tmp_path / "people.csv", str(tmp_path / "people")
    file.write_text("\n".join(lines))
    arguments = ["--target", "stays", "--epochs", "5", "--quiet", "--output", folder]
    assert main(["train", str(file), *arguments]) == 0
    capsys.readouterr()
    assert main(["report", folder]) == 0
    page = Page(tmp_path / "people" / "report.html")
    assert "On 24 held-out rows" in page.text
    assert "The loss on 96 training rows around the path" in page.text
    assert "Lines are counted from 1" in page.text
    assert main(["report", folder, "--overwrite", "--held-out", str(file)]) == 0
    assert "On 120 held-out rows" in Page(tmp_path / "people" / "report.html").text
    before = (tmp_path / "people" / "report.html").read_bytes()
    file.write_text("\n".join(lines[:-1]))
    capsys.readouterr()
    assert main(["report", folder, "--overwrite"]) == 2
    assert "people.csv has changed since the run" in capsys.readouterr().err
    assert (tmp_path / "people" / "report.html").read_bytes() == before
