"""The map of the code: its floors are those that make lint checks, and its road is the one that a batch takes."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.docs.pages import ROOT
from tests.docs.road import road_of_a_batch

PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST_FILES = 30


def test_the_floors_are_those_that_lint_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (floors,) = [contract for contract in settings["contracts"] if contract.get("containers") == ["gradflow"]]
    shown = re.search(r"<!-- floors -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1].splitlines() == floors["layers"]


def table(backend: str) -> tuple[int, list[tuple[str, str]]]:
    """Return the stated number of files on the road on a backend, and the files and functions of its table."""
    found = re.search(rf"<!-- road: {backend}, (\d+) files -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert found is not None
    stations = re.findall(r"\| `([\w/]+\.\w+)` \| `([\w.]+)` \|", found[2])
    assert len(stations) > 3
    return int(found[1]), stations


def passed(backend: str) -> dict[str, set[str]]:
    """Return the functions on the road of a real batch, by file."""
    functions: dict[str, set[str]] = {}
    for station in road_of_a_batch(backend):
        file, _, function = station.partition(": ")
        functions.setdefault(file, set()).add(function)
    return functions


def check_road(backend: str, named: list[tuple[str, str]], stated: int) -> None:
    """Check that the page names exactly the Python files on the road, functions on it, and how many files there are."""
    functions = passed(backend)
    in_python = {file for file, _ in named if file.endswith(".py")}
    assert functions.keys() == in_python
    for file, function in named:
        if file.endswith(".py"):
            assert function in functions[file], file
        else:
            path = ROOT / file if file.startswith("kernels/") else ROOT / "gradflow" / file
            assert re.search(rf"\b{function}\(|GF_KERNEL\({function},", path.read_text()), file
    assert len({file for file, _ in named}) == stated <= MOST_FILES


def test_the_page_shows_the_road_of_a_batch_on_the_cpu() -> None:
    stated, named = table("numpy")
    from gradflow.backends.cpu.native import native_library

    if native_library() is None:  # then NumPy runs what the page says of C
        pytest.skip("gradflow was installed without compiled kernels")
    check_road("numpy", named, stated)


@pytest.mark.gpu
def test_the_page_shows_the_road_of_a_batch_on_a_gpu() -> None:
    stated, instead = table("cupy")
    of_the_cpu = [station for station in table("numpy")[1] if not station[0].startswith("backends/cpu/")]
    # What replays a program is given no array.
    check_road("cupy", [station for station in [*of_the_cpu, *instead] if "graphs" not in station[0]], stated - 1)
