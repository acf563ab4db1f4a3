"""A run with checkpoints, which ranks and their failures may end at any time. As a program: trains it.

Arguments: the run folder, "new" or "resume", and what one rank does differently.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf

EPOCHS, STEPS = 6, 16


class Once(gf.Callback):
    """Does something on one rank after the third epoch."""

    def __init__(self, rank: int, do: Any) -> None:
        self.rank, self.do = rank, do

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if epoch == 3 and gf.distributed.world().rank == self.rank:
            self.do(trainer)


def trainer(seed: int = 3) -> gf.Trainer:
    """Return the trainer of the run."""
    network = gf.MLP([12, 400, 3], dropout=0.2, seed=seed, backend="numpy")
    return gf.Trainer(network, "softmax_cross_entropy", gf.Adam(), metrics=["roc_auc", "f1"], average=0.9)


def data() -> dict[str, Any]:
    """Return the data of the run, weighted, so that its metrics are sums with rounding."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(16 * STEPS - 4, 12))
    return {"x": x, "y": (x[:, 0] > 0) + (x[:, 1] > 0).astype(int), "sample_weight": draw.uniform(0.1, 1, len(x))}


def fit(folder: Path, how: str, *, slowly: float = 0.0, of: gf.Trainer | None = None, **changed: Any) -> gf.Trainer:
    """Train or resume the run in a folder, with a checkpoint every five steps."""
    of = of or trainer()
    options = {"epochs": EPOCHS, "batch_size": 16, "progress": False, **data(), **changed}
    if slowly:
        options["callbacks"] = [Slow(slowly, folder.with_suffix(".running"))]
    if how == "new":
        of.fit(**options, output=folder, checkpoint=gf.Checkpoint(every_steps=5, keep=100))
    else:
        of.fit(**options, resume=folder)
    return of


class Slow(gf.Callback):
    """Makes epochs longer; the last one ends when a file is gone, so that whoever kills a rank is never too late."""

    def __init__(self, seconds: float, file: Path) -> None:
        self.seconds, self.file = seconds, file

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        time.sleep(self.seconds)
        while epoch == EPOCHS and self.file.exists():
            time.sleep(0.01)


def _differently(what: str, rank: int) -> dict[str, Any]:
    """Return the arguments of `fit` that are different on this rank, or for all."""
    if what == "interrupt":
        return {"callbacks": [Once(1, lambda trainer: os.kill(os.getpid(), signal.SIGINT))]}
    if what == "terminate":
        return {"callbacks": [Once(1, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))]}
    if what == "raise":
        return {"callbacks": [Once(1, lambda trainer: [][0])]}
    if what == "stop":
        return {"callbacks": [Once(1, lambda trainer: trainer.stop())]}
    if rank != 1:
        return {}
    if what == "data":
        return {"x": data()["x"] + 1e-9}
    if what == "rows":
        return {name: rows[:-1] for name, rows in data().items()}
    if what == "settings":
        return {"batch_size": 32}
    if what == "seed":
        return {"of": trainer(seed=4)}
    if what == "bad row":
        x = data()["x"]
        x[7, 2] = np.nan
        return {"x": x}
    assert what == "version"
    gf.training.runs.run_folder.__version__ = "0.0.1"  # type: ignore[attr-defined]
    return {}


if __name__ == "__main__":
    run_folder, mode, *rest = sys.argv[1:]
    number = gf.distributed.world().rank
    different = _differently(rest[0], number) if rest and not rest[0].startswith("slow") else {}
    pause = float(rest[0].removeprefix("slow")) if rest and rest[0].startswith("slow") else 0.0
    try:
        done = fit(Path(run_folder), mode, slowly=pause, **different)
    except BaseException as error:
        print(f"{number}: {type(error).__name__}: {error}", flush=True)
        raise
    print(f"{number}: {done.history and done.history.stopped_by}", flush=True)
