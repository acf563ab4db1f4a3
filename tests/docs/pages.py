"""Pages of Markdown whose Python blocks run: ``python -m tests.docs.pages`` makes the pictures of all pages again.

The blocks of a page run in their order in one namespace, in a folder of their own. What a block prints stands in the
``text`` block behind it, character for character; a block that prints nothing has none.
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
    """A Python block: its source, the line on which it begins, and the output that the page shows for it."""

    source: str
    line: int
    shown: str


def blocks(page: Path) -> list[Block]:
    """The Python blocks of a page."""
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
    """Run the blocks of a page in a folder, all of them once or several times; each comes back with what it printed."""
    namespace = {"__name__": "__main__"}
    with ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        # The figures on the pages are those of the CPU, whatever "auto" would take here.
        stack.enter_context(patch.dict(os.environ, {"GRADFLOW_BACKEND": backend}))
        # What a page adds to the library must not be found by the tests that run after it.
        stack.enter_context(forgotten())
        for block in blocks(page) * times:
            printed = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.source, str(page), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            yield block, printed.getvalue()


def links(page: Path) -> list[str]:
    """The targets of all links and pictures of a page, without those inside code blocks."""
    return _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked to."""
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
