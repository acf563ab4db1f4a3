"""The commands of docs/command-line.md print what the page shows, but for measured figures."""

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


def commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str, str]]:
    """Run the commands of the page in a folder; yield them with the output that the page shows, and with theirs.

    The command export needs onnx, without which it is left out.
    """
    exec(blocks(PAGE)[0].source, {})
    for words, shown in _COMMANDS.findall(PAGE.read_text(encoding="utf-8")):
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


def test_commands_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("GRADFLOW_BACKEND", "numpy")
    found = list(commands(tmp_path, capsys))
    assert len(found) >= 6
    for words, shown, printed in found:
        assert _without_measured(printed) == _without_measured(shown), words
