"""Ways of training that must agree: captured or launched one by one, resident or streamed, on the GPU or the CPU, and
in each precision with epilogues or without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from gradflow.backends.cuda.backend import CupyBackend
from gradflow.data.arrays import Arrays
from gradflow.doctor.findings import Check, checked
from gradflow.doctor.gemms import precisions
from gradflow.layers.base import Layer
from gradflow.layers.dense import Dense
from gradflow.layers.gelu import GELU
from gradflow.layers.relu import ReLU
from gradflow.mlp import MLP
from gradflow.network import Sequential
from gradflow.optimizers import Adam
from gradflow.training.trainer import Trainer

_TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 3e-2}
"""For the losses of the epochs, as a fraction: later steps amplify the rounding errors of each step."""
_GELU_TOLERANCE = 1e-3
"""At least, since cuBLASLt does not say how exact its GELU is."""
_ACTIVATIONS: dict[str, Callable[[], Layer]] = {"ReLU": ReLU, "GELU": partial(GELU, "tanh")}


def check_training(backend: CupyBackend, *, quick: bool) -> Iterator[Check]:
    """Check that several ways of a short training run agree.

    Args:
        backend: the backend to check.
        quick: True for fewer rows and epochs.
    """
    runs = _Runs(backend, *((70, 2) if quick else (1000, 3)))

    def same_bits(other: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: np.testing.assert_array_equal(other(), runs.parameters())

    yield checked("training", "the same seed twice gives the same bits", same_bits(runs.parameters))
    yield checked("training", "captured and replayed as launched one by one", same_bits(runs.without_graphs))
    yield checked("training", "streamed from the host as resident", same_bits(runs.streamed))
    yield checked("training", "streamed from files as resident", same_bits(runs.streamed_from_disk))
    yield checked(
        "training",
        "on the GPU as on the CPU (float64)",
        lambda: np.testing.assert_allclose(
            runs.parameters("float64"), runs.parameters("float64", backend="numpy"), rtol=1e-6, atol=1e-8
        ),
    )
    yield from _check_precisions(runs)


def _check_precisions(runs: _Runs) -> Iterator[Check]:
    """Check each precision against separate matmuls in the same precision, and against float32 on the CPU."""
    for name in _ACTIVATIONS:
        on_the_cpu = runs.losses(name, "float32", backend="numpy")
        for precision in [precision for precision in precisions(runs.backend) if precision in _TOLERANCES]:

            def agree(
                other: Callable[[], list[float]], activation: str = name, precision: str = precision
            ) -> Callable[[], None]:
                allowed = max(_TOLERANCES[precision], _GELU_TOLERANCE if activation == "GELU" else 0)
                return lambda: np.testing.assert_allclose(
                    runs.losses(activation, precision), other(), rtol=allowed, atol=0
                )

            def separately(activation: str = name, precision: str = precision) -> list[float]:
                return runs.losses(activation, precision, within=runs.backend.without_fast_gemms())

            yield checked("training", f"{name}, {precision}: with epilogues as without", agree(separately))
            yield checked("training", f"{name}, {precision}: as float32 on the CPU", agree(partial(list, on_the_cpu)))


class _Runs:
    """Short training runs on the same data from the same weights.

    Args:
        backend: the GPU.
        rows: rows of the data.
        epochs: epochs of each run.
    """

    def __init__(self, backend: CupyBackend, rows: int, epochs: int) -> None:
        self.backend = backend
        self._epochs = epochs
        self._x = np.random.default_rng(0).standard_normal((rows, 20), dtype=np.float32)

    @cached_property
    def _y(self) -> np.ndarray:
        y: np.ndarray = self._x[:, :3].argmax(axis=1).astype(np.int64)
        return y

    def parameters(self, dtype: str = "float32", source: object = None, backend: str = "cupy") -> np.ndarray:
        """Return the parameters after training, on the host."""
        network = MLP([20, 32, 24, 3], dropout=0.1, dtype=dtype, seed=4, backend=backend)
        trainer = Trainer(network, "softmax_cross_entropy", Adam(0.01), l2=1e-4, clip_norm=1.0)
        data = (self._x, self._y) if source is None else (source,)
        trainer.fit(*data, epochs=self._epochs, batch_size=32, progress=False)
        return network.backend.to_host(network.parameters)

    def without_graphs(self) -> np.ndarray:
        """Return the parameters after training kernel by kernel."""
        with self.backend.graphs.path.closed():
            return self.parameters()

    def streamed(self) -> np.ndarray:
        """Return the parameters after training on data that stays on the host."""
        return self.parameters(source=Arrays(self._x, self._y))

    def streamed_from_disk(self) -> np.ndarray:
        """Return the parameters after training on data in files."""
        with tempfile.TemporaryDirectory() as folder:
            for name, array in (("x", self._x), ("y", self._y)):
                np.save(Path(folder, name), array)
            mapped = (np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in ("x", "y"))
            return self.parameters(source=Arrays(*mapped))

    def losses(
        self,
        activation: str,
        precision: str,
        backend: str = "cupy",
        within: AbstractContextManager[None] | None = None,
    ) -> list[float]:
        """Return the loss of each epoch of a network without dropout, trained within a context."""
        with nullcontext() if within is None else within:
            between = _ACTIVATIONS[activation]
            layers = [Dense(20, 136), between(), Dense(136, 24), between(), Dense(24, 3)]
            network = Sequential(layers, seed=4, backend=backend)
            trainer = Trainer(network, "softmax_cross_entropy", Adam(0.001), precision=precision)
            return trainer.fit(self._x, self._y, epochs=self._epochs, batch_size=32, progress=False)["loss"]
