"""``python -m tests.docs.screenshot`` redraws the picture of the report in the README, in Chromium.

It shows the report on the run of docs/command-line.md, from the loss surface on.
"""

from __future__ import annotations

import contextlib
import html
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest.mock import patch

from gradflow.cli import main
from tests.docs.pages import PICTURES, ROOT, blocks

NAME = "report.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZE = 1000, 1215
_COLORS = 96

# The page is in a frame, which is moved up until the surface is at its top: the page itself has no script to scroll.
_FRAME = """<!DOCTYPE html><body style="margin: 0; overflow: hidden">
<iframe style="border: 0; position: absolute; width: {width}px; height: 8000px" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe");
  frame.style.top = `-${{frame.contentDocument.getElementById("surface").offsetTop}}px`;
}});
</script>"""


def draw(path: Path) -> None:
    """Train, report, and draw the picture.

    Raises:
        RuntimeError: if there is no Chromium.
    """
    from PIL import Image  # comes with matplotlib

    if CHROMIUM is None:
        raise RuntimeError("the picture of the report is drawn in Chromium, which is not installed")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(blocks(ROOT / "docs" / "command-line.md")[0].source, {})
        with patch.dict(os.environ, {"GRADFLOW_BACKEND": "numpy"}):
            trained = main(["train", "customers.csv", "--target", "churn", "--layer-statistics", "--quiet"])
            assert trained == main(["report", "runs/customers"]) == 0
        page = Path("runs/customers/report.html").read_text(encoding="utf-8")
        Path("frame.html").write_text(_FRAME.format(width=SIZE[0], page=html.escape(page)), encoding="utf-8")
        subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=browser",
                f"--window-size={SIZE[0]},{SIZE[1]}", "--virtual-time-budget=10000", "--screenshot=shot.png",
                "frame.html",
            ],
            check=True,
            timeout=120,
            capture_output=True,
        )  # fmt: skip
        shot = Image.open("shot.png").convert("RGB").crop((0, 0, *SIZE))
        # Few colors make a small file; those that cover little of it, such as the path, must stay what they are.
        shot.quantize(_COLORS, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


if __name__ == "__main__":
    draw(PICTURES / NAME)
    print(f"{NAME}: {(PICTURES / NAME).stat().st_size / 1000:.0f} kB")
