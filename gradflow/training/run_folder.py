"""The run folder: what a training run leaves behind."""

from __future__ import annotations

import importlib.util
import io
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.files import write_atomically
from gradflow.network import Sequential
from gradflow.storage import describe, save
from gradflow.training.history import History
from gradflow.version import __version__

__all__ = ["RunFolder"]


class RunFolder:
    """A folder with model.safetensors, config.json, history.csv and, where matplotlib is installed, curves.png.

    Raises:
        OSError: if the folder cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".gradflow-write-test"
        write_atomically(probe, b"")
        probe.unlink()

    @property
    def model(self) -> Path:
        """Where the weights go."""
        return self.path / "model.safetensors"

    def write(self, network: Sequential, config: dict[str, Any], history: History) -> None:
        """Write all files, each whole or not at all."""
        save(network, self.model)
        full = {
            "network": describe(network),
            **config,
            "result": {
                "epochs": history.epochs,
                "seconds": history.seconds,
                "stopped_by": history.stopped_by,
                "best_epoch": history.best_epoch,
                **history.last(),
            },
            "versions": {"gradflow": __version__, "numpy": np.__version__, "python": platform.python_version()},
            "backend": network.backend.name,
            "device": network.backend.device,
        }
        write_atomically(self.path / "config.json", (json.dumps(full, indent=2) + "\n").encode())
        history.to_csv(self.path / "history.csv")
        if history.epochs and importlib.util.find_spec("matplotlib") is not None:
            write_atomically(self.path / "curves.png", _curves(history))


def _curves(history: History) -> bytes:
    """The learning curves as a PNG: losses, and accuracies where there are any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [kind for kind in ("loss", "accuracy") if kind in history]
    figure = Figure(figsize=(5 * len(kinds), 4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = range(1, history.epochs + 1)
    for place, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), place)
        for name, label in ((kind, "training"), (f"val_{kind}", "validation")):
            if name in history:
                axes.plot(epochs, history[name], label=label)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()
