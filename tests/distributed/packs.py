"""A pack whose members several ranks share out. As a program: trains it, and prints what each rank has."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from typing import Any

import numpy as np

import gradflow as gf

MEMBERS = 5


def pack() -> gf.Pack:
    """Return a pack that has not been trained."""
    networks = [gf.MLP([6, 8, 2], seed=seed, dropout=0.2, backend="numpy") for seed in range(MEMBERS)]
    rates = [0.01, 0.1, 1e30, 0.001, 0.02]  # the third diverges
    return gf.Pack(
        [gf.Trainer(network, "half_squared_error", gf.SGD(rate)) for network, rate in zip(networks, rates, strict=True)]
    )


def fit(of: gf.Pack, **changed: object) -> None:
    """Train a pack."""
    x = np.random.default_rng(0).normal(size=(80, 6))
    options: dict[str, object] = {"epochs": 4, "batch_size": 16, "validation_fraction": 0.2, "progress": False}
    of.fit(x, x[:, :2] ** 2, **(options | changed))  # type: ignore[arg-type]


def results(of: gf.Pack) -> str:
    """Return all that a training leaves in a pack, as a checksum."""
    found = [
        (
            hashlib.sha256(trainer.network.state.tobytes()).hexdigest(),
            trainer.network.epochs_begun,
            str(trainer.network.output_activation),
            repr(None if history is None else {name: history[name] for name in history}),
            None if history is None else history.stopped_by,
            {name: vector.tobytes() for name, vector in trainer.optimizer_state.on_host().items()}
            if trainer.optimizer_state is not None
            else None,
        )
        for trainer, history in zip(of.trainers, of.histories, strict=True)
    ]
    ensemble = None
    if of.ensemble is not None:
        ensemble = of.ensemble.weights, [network.state.tobytes() for network in of.ensemble.networks]
    text = repr((found, {place: str(error) for place, error in of.errors.items()}, ensemble))
    return hashlib.sha256(text.encode()).hexdigest()


def differently(what: str, rank: int) -> dict[str, object]:
    """Return the arguments of `fit` for a test, which may differ on a rank."""
    if what == "settings" and rank == 1:
        return {"batch_size": 8}
    if what == "validation":
        x = np.full((4, 6), float(rank))
        return {"validation_data": (x, x[:, :2]), "validation_fraction": None}
    held_out = {"validation_rows": [range(64, 80)] * MEMBERS, "validation_fraction": None}
    if what in ("ensemble", "patience"):
        chosen = gf.EnsembleSelection(size=8 if what == "ensemble" else 1, patience=4)
        return held_out | {"ensemble": chosen, "epochs": gf.Each([9, 2, 9, 60, 9])}
    if what == "interrupt":
        stop = gf.Each([[], [Interrupts()] if rank == 1 else [], [], [], []])
        return held_out | {"ensemble": gf.EnsembleSelection(), "epochs": 10**6, "callbacks": stop}
    return {}


class Interrupts(gf.Callback):
    """Sends Ctrl-C to this process."""

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    number, (what,) = gf.distributed.world().rank, sys.argv[1:]
    trained = pack()
    try:
        fit(trained, **differently(what, number))
    except (gf.GradflowError, KeyboardInterrupt) as error:
        print(f"{number}: {type(error).__name__}: {error}", flush=True)
    else:
        print(f"{number}: {results(trained)}", flush=True)
