"""A backend of matplotlib that opens windows, as far as pyplot can tell; ``shown`` holds the figures in them."""

from __future__ import annotations

from typing import Any

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

shown: list[Any] = []


class FigureManager(FigureManagerBase):
    """A window."""

    def show(self) -> None:
        shown.append(self.canvas.figure)


class FigureCanvas(FigureCanvasAgg):
    """The content of a window."""

    manager_class = FigureManager
