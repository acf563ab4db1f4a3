"""The CPU backend: replayed steps of compiled kernels allocate no arrays."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.cpu.native import native_library

X = np.random.default_rng(0).normal(size=(2048, 64)).astype(np.float32)


class Allocations(gf.Callback):
    """The peak memory that each epoch allocates, and the memory it keeps, in bytes."""

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


@pytest.mark.skipif(native_library() is None, reason="without compiled kernels the definitions run, which allocate")
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
    assert max(allocations.peaks[1:]) < 120_000  # a hidden array takes at least 512 x 80 x 4 = 164 kB
