"""Every code block of the docs runs and prints what the page shows; every link leads somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from docs import tables
from gradflow.initializers import initial_weight
from gradflow.layers import LAYERS
from tests.docs import screenshot
from tests.docs.pages import PAGES, PICTURES, ROOT, Block, anchors, blocks, links, run

NEEDED = {"tracking.md": ("tensorboardX", "mlflow", "sqlalchemy", "alembic")}
"""Packages that the blocks of a page need besides the library and matplotlib."""

_of_mlflow = pytest.mark.filterwarnings("ignore:.*loader strategy")  # of its store
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pages
@_of_mlflow
def test_blocks_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    for package in ("matplotlib", *NEEDED.get(page.name, ())):
        pytest.importorskip(package)
    for block, printed in run(page, tmp_path):
        assert printed == block.shown, f"{page.name}, line {block.line}"
    drawn = {picture.name for picture in tmp_path.glob("*.png")}
    shown = {Path(link).name for link in links(page) if link.endswith(".png")}
    assert drawn == shown - {screenshot.NAME}


@pytest.mark.slow
@pages
@_of_mlflow
def test_no_page_depends_on_last_bits(page: Path, tmp_path: Path) -> None:
    """Rounding errors of another processor grow during training just as changes of the initial weights do."""
    for package in ("matplotlib", *NEEDED.get(page.name, ())):
        pytest.importorskip(package)
    if page.name == "long-runs.md":
        pytest.skip("its networks must begin as those of other processes do; it prints no measured number")
    for seed in range(5):

        def nearly(*arguments: Any) -> np.ndarray:
            weight = initial_weight(*arguments)
            noise = np.random.default_rng([seed, weight.size]).uniform(-1e-6, 1e-6, weight.shape)  # noqa: B023
            return (weight * (1 + noise)).astype(weight.dtype)

        folder = tmp_path / str(seed)
        folder.mkdir()
        with patch("gradflow.parameters.initial_weight", nearly):
            for block, printed in run(page, folder):
                assert printed == block.shown, f"{page.name}, line {block.line}"


def test_cells_may_run_twice(tmp_path: Path) -> None:
    page = ROOT / "docs" / "extending.md"
    assert [printed for _, printed in run(page, tmp_path, times=2)] == [block.shown for block in blocks(page)] * 2


@pytest.mark.gpu
def test_the_page_on_gpus_runs_on_one(tmp_path: Path) -> None:
    for block, printed in run(ROOT / "docs" / "gpu-workstation.md", tmp_path, "cupy"):
        assert printed == block.shown, f"line {block.line}"


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{page.name} links out of the repository, to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}, which has {sorted(anchors(target))}"


def test_the_index_links_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in PAGES if page.parent == index.parent} - linked <= {index}


def test_pictures_are_small_and_in_use() -> None:
    shown = {Path(link).name for page in PAGES for link in links(page) if link.endswith(".png")}
    assert {picture.name for picture in PICTURES.iterdir()} == shown
    assert max(picture.stat().st_size for picture in PICTURES.iterdir()) < 60_000


@pytest.mark.thorough
@pytest.mark.skipif(screenshot.CHROMIUM is None, reason="there is no chromium")
def test_the_picture_of_the_report_can_be_drawn_again(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    screenshot.draw(tmp_path / "report.png")
    drawn, shown = (image.open(path).convert("RGB") for path in (tmp_path / "report.png", PICTURES / screenshot.NAME))
    assert drawn.size == shown.size == screenshot.SIZE
    # Figures and curves depend on the processor; the layout of the page does not.
    differs = np.abs(np.asarray(drawn, int) - np.asarray(shown, int)).max(axis=2) > 64
    assert differs.mean() < 0.2


def test_blocks_are_found_with_their_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nThen\n```python\nx = 2\n```\nand\n```text\n3\n```\n"
    )
    assert blocks(page) == [Block("print(1)\n", 3, "1\n"), Block("x = 2\n", 12, "")]
    assert [printed for _, printed in run(page, tmp_path)] == ["1\n", ""]


def test_a_page_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n```python\nprint(x + 1)\n```\n```text\n3\n```\n")
    assert [(block.shown, printed) for block, printed in run(page, tmp_path)] == [("", ""), ("3\n", "2\n")]


@pytest.mark.gpu
def test_layers_in_plain_numpy_run_on_a_gpu_as_the_page_says() -> None:
    with patch.dict(LAYERS):
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks(ROOT / "docs" / "extending.md"):
            if block.source.startswith(("import", "from")) and "(gf.Layer)" in block.source:
                exec(block.source, namespace)
        x, y = np.random.default_rng(0).normal(size=(8, 4)), np.zeros((8, 2))
        predictions = []
        for backend in ("cupy", "reference"):
            layers = [gf.Dense(4, 3), namespace["Swish"](beta=1.5), namespace["Gain"](3), gf.Dense(3, 2)]
            network = gf.Sequential(layers, dtype="float64", backend=backend)
            assert max(gf.check_gradients(network, "mean_squared_error", x, y).values()) < 1e-5
            predictions.append(network.predict(x))
        assert_allclose(*predictions, rtol=1e-12)  # float64: a few ulps, and exp differs by one or two


@pytest.mark.parametrize("page", tables.PAGES)
def test_tables_say_what_the_docstrings_say(page: str) -> None:
    assert tables.written(page) == (ROOT / page).read_text(encoding="utf-8"), f"{page} is stale; run make tables"
