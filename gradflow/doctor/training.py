"""Ways of training that must agree: captured or launched one by one, resident or streamed, on the GPU or the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gradflow.backends.cuda.backend import CupyBackend
from gradflow.data.arrays import Arrays
from gradflow.doctor.findings import Check, checked
from gradflow.network import MLP
from gradflow.optimizers import Adam
from gradflow.training.trainer import Trainer


def check_training(backend: CupyBackend, *, quick: bool) -> Iterator[Check]:
    """Check that several ways of a short training run agree.

    Args:
        backend: the backend to check.
        quick: True for fewer rows and epochs.
    """
    rows, epochs = (70, 2) if quick else (1000, 3)
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 20), dtype=np.float32)
    y = (x[:, :3].argmax(axis=1)).astype(np.int64)

    def trained(dtype: str, source: object = None) -> np.ndarray:
        network = MLP([20, 32, 24, 3], dropout=0.1, dtype=dtype, seed=4, backend=backend.name)
        trainer = Trainer(network, "softmax_cross_entropy", Adam(0.01), l2=1e-4, clip_norm=1.0)
        data = (x, y) if source is None else (source,)
        trainer.fit(*data, epochs=epochs, batch_size=32, progress=False)
        return network.backend.to_host(network.parameters)

    def without_graphs() -> np.ndarray:
        with backend.graphs.path.closed():
            return trained("float32")

    def streamed_from_disk() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            for name, array in (("x", x), ("y", y)):
                np.save(Path(folder, name), array)
            mapped = (np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in ("x", "y"))
            return trained("float32", source=Arrays(*mapped))

    def on_the_cpu() -> np.ndarray:
        network = MLP([20, 32, 24, 3], dropout=0.1, dtype="float64", seed=4, backend="numpy")
        trainer = Trainer(network, "softmax_cross_entropy", Adam(0.01), l2=1e-4, clip_norm=1.0)
        trainer.fit(x, y, epochs=epochs, batch_size=32, progress=False)
        return np.asarray(network.parameters)

    def same_bits(other: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: np.testing.assert_array_equal(other(), trained("float32"))

    yield checked("training", "the same seed twice gives the same bits", same_bits(lambda: trained("float32")))
    yield checked(
        "training",
        "captured and replayed as launched one by one",
        same_bits(without_graphs),
    )
    yield checked(
        "training", "streamed from the host as resident", same_bits(lambda: trained("float32", source=Arrays(x, y)))
    )
    yield checked("training", "streamed from files as resident", same_bits(streamed_from_disk))
    yield checked(
        "training",
        "on the GPU as on the CPU (float64)",
        # Later steps amplify the rounding errors of each step.
        lambda: np.testing.assert_allclose(trained("float64"), on_the_cpu(), rtol=1e-6, atol=1e-8),
    )
