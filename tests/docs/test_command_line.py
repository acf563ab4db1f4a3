"""The commands of docs/command-line.md and the README print what the pages show, but for measured figures."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradflow.cli import main
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "command-line.md"
_COMMANDS = re.compile(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str, str]]:
    """Run the commands of a page in the current folder; yield them, the output that the page shows, and theirs.

    The command export needs onnx, without which it is left out.
    """
    exec(blocks(PAGE)[0].source, {})
    for words, shown in _COMMANDS.findall(page.read_text(encoding="utf-8")):
        if words.startswith("gradflow export") and importlib.util.find_spec("onnx") is None:
            continue
        printed = ""
        for line in words.splitlines():
            program, *arguments = shlex.split(line)
            if program == "head":
                rows, path = arguments
                printed += "".join(Path(path).read_text().splitlines(keepends=True)[: -int(rows)])
                continue
            assert program == "gradflow"
            assert main(arguments) == 0, line
            printed += capsys.readouterr().out
        yield words, shown, printed


def _without_measured(text: str) -> str:
    """Remove what depends on processor, clock and versions: numbers, and the widths of columns."""
    text = re.sub(r"(last|held-out) \w+ .*|\d[\d.,e-]*\d|\d", "#", text)
    return re.sub(r"[ ─━]+", " ", text)


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("GRADFLOW_BACKEND", "numpy")
    found = list(commands(page, capsys))
    assert len(found) >= 3
    for words, shown, printed in found:
        parts = map(re.escape, _without_measured(shown).split("...\n"))
        assert re.fullmatch(".*".join(parts), _without_measured(printed), re.DOTALL), words
