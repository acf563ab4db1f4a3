"""The report in a real browser: nothing is wider than a phone, all pictures are drawn, and the console is silent."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gradflow.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# The page is inside of a frame, because windows have a minimum width; it is asked from outside, having no script.
FRAME = """<!DOCTYPE html><body><iframe width="{width}" height="900" srcdoc="{page}"></iframe><p id="found"></p><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const pictures = [...page.images];
  document.getElementById("found").textContent = JSON.stringify({{
    overflow: page.documentElement.scrollWidth - {width},
    drawn: pictures.filter(picture => picture.complete && picture.naturalWidth > 0).length,
    smallest: Math.min(...pictures.filter(picture => picture.naturalWidth > 0).map(
      picture => picture.width / picture.naturalWidth)),
  }});
}});
</script>"""


@pytest.mark.thorough
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("members", ["1", "2"])
def test_a_report_is_readable(width: int, members: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    arguments = ["train", "digits", "--epochs", "4", "--layer-statistics", "--quiet", "--output", str(folder)]
    arguments += ["--members", members]
    assert main(arguments) == main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    assert CHROMIUM is not None
    shown = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=10000", str(tmp_path / "frame.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    assert "CONSOLE" not in shown.stderr
    written = re.search(r'<p id="found">(.*?)</p>', shown.stdout)
    assert written is not None
    found = json.loads(html.unescape(written[1]))
    assert found["overflow"] <= 0
    assert found["drawn"] == page.count("<img")
    assert found["smallest"] > 0.7
