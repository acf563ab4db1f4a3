"""Markdown pages with Python blocks to run: ``python -m tests.docs.pages`` regenerates the pictures of all pages.

The blocks of a page run in order in one namespace, in their own folder. The output of a block is in the ``text`` block
after it, character for character; a block without output has none.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.registries import forgotten

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A Python block: its source, its first line number, and the output that the page shows for it."""

    source: str
    line: int
    shown: str


def blocks(page: Path) -> list[Block]:
    """Return the Python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    fenced = list(_FENCED.finditer(text))
    found = []
    for place, match in enumerate(fenced):
        if match[1] != "python":
            continue
        following = fenced[place + 1] if place + 1 < len(fenced) else None
        is_output = following and following[1] == "text" and not text[match.end() : following.start()].strip()
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(match[2], line, following[2] if following and is_output else ""))
    return found


def run(page: Path, folder: Path, backend: str = "numpy", times: int = 1) -> Iterator[tuple[Block, str]]:
    """Run all blocks of a page in a folder, once or several times; return each with its output."""
    namespace = {"__name__": "__main__"}
    with ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        # The figures on the pages come from the CPU, whatever "auto" would choose here.
        stack.enter_context(patch.dict(os.environ, {"GRADFLOW_BACKEND": backend}))
        # Definitions that a page adds to the library must not be visible to later tests.
        stack.enter_context(forgotten())
        for block in blocks(page) * times:
            printed = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.source, str(page), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            yield block, printed.getvalue()


def links(page: Path) -> list[str]:
    """Return the targets of all links and pictures of a page, except those inside code blocks."""
    return _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def make_pictures() -> None:
    """Run every page, and keep the pictures that it saves."""
    PICTURES.mkdir(exist_ok=True)
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            for block, printed in run(page, Path(folder)):
                if printed != block.shown:
                    print(f"{page.relative_to(ROOT)}, line {block.line}, now prints:\n{printed}")
            for picture in Path(folder).glob("*.png"):
                shutil.copy(picture, PICTURES)
                print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    make_pictures()
