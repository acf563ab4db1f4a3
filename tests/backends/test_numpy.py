"""The CPU backend: replayed steps allocate no arrays."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

import gradflow as gf

X = np.random.default_rng(0).normal(size=(2048, 64)).astype(np.float32)


class Allocations(gf.Callback):
    """The memory that each epoch allocates at its peak, and keeps, in bytes."""

    def __init__(self) -> None:
        self.peaks: list[int] = []

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        gc.collect()
        tracemalloc.start()

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        self.peaks.append(tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0])
        tracemalloc.reset_peak()

    def on_fit_end(self, trainer: gf.Trainer, history: gf.History) -> None:
        tracemalloc.stop()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softmax"])
@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        ("softmax_cross_entropy", gf.Adam()),
        ("softmax_cross_entropy", gf.AdamW()),
        ("binary_cross_entropy", gf.SGD(0.01, momentum=0.9)),
        ("mean_squared_error", gf.SGD(0.01, momentum=0.9, nesterov=True)),
        ("half_squared_error", gf.GradientDescent(0.01)),
    ],
)
def test_steps_allocate_no_arrays(activation: str, loss: str, optimizer: Any) -> None:
    network = gf.MLP([64, 96, 80, 16], activation, backend="numpy")
    y = np.arange(2048) % 16
    targets = y if loss == "softmax_cross_entropy" else np.eye(16)[y]
    allocations = Allocations()
    gf.Trainer(network, loss, optimizer, l2=1e-4).fit(
        X, targets, epochs=3, batch_size=512, callbacks=[allocations], progress=False
    )
    # A hidden array takes at least 512 x 80 x 4 = 164 kB. In plain NumPy the order of 2048 rows is made once per epoch,
    # in about 85 kB, and ufuncs that broadcast have a buffer of 8192 elements, 33 kB.
    assert max(allocations.peaks[1:]) < 120_000
