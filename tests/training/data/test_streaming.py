"""Data that stays on the host gives the same bits as data on the device, and no step waits for the host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.data.read_ahead import ReadAhead
from gradflow.random import shuffle, shuffled_rows
from gradflow.training.data import streaming

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6))
LABELS = RNG.integers(0, 3, 150)
VALUES = RNG.normal(size=(150, 3))
READER = "gradflow-read-ahead"


def trained(network: gf.Sequential, *data: Any, loss: str, **kwargs: Any) -> tuple[bytes, dict[str, list[float]]]:
    """Return the parameters after three epochs, and the measured values."""
    history = gf.Trainer(network, loss, gf.Adam(0.01)).fit(*data, epochs=3, **kwargs)
    assert not [thread for thread in threading.enumerate() if thread.name == READER]
    return network.backend.to_host(network.parameters).tobytes(), {name: history[name] for name in history}


def network_on(backend_name: str, seed: int = 5) -> gf.Sequential:
    return gf.MLP([6, 16, 3], dropout=0.2, seed=seed, backend=backend_name)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 16},
        {"batch_size": 16, "shuffle": False},
        {"batch_size": 16, "drop_last": True},
        {"batch_size": 50},
        {"batch_size": 1},
        {"batch_size": None},
        {"batch_size": 32, "accumulate": 2},
    ],
    ids=str,
)
def test_batches_are_those_of_data_on_the_device(arguments: dict[str, Any], loss: str, backend_name: str) -> None:
    y = LABELS if loss == "softmax_cross_entropy" else VALUES
    resident = trained(network_on(backend_name), X, y, loss=loss, validation_data=(X[:70], y[:70]), **arguments)
    streamed = trained(
        network_on(backend_name),
        gf.data.Arrays(X, y),
        loss=loss,
        validation_data=gf.data.Arrays(X[:70], y[:70]),
        **arguments,
    )
    assert streamed == resident


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 2000])
@pytest.mark.parametrize("arguments", [{}, {"drop_last": True}, {"accumulate": 2}], ids=str)
def test_an_epoch_of_many_chunks_gives_the_same_bits(
    arguments: dict[str, Any], chunk_bytes: int, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two and four batches each; 150 rows are nine batches and six rows."""
    fit: dict[str, Any] = {"loss": "softmax_cross_entropy", "batch_size": 16, **arguments}
    resident = trained(network_on(backend_name), X, LABELS, validation_data=(X[:70], LABELS[:70]), **fit)
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", chunk_bytes)
    held_out = gf.data.Arrays(X[:70], LABELS[:70])
    assert trained(network_on(backend_name), gf.data.Arrays(X, LABELS), validation_data=held_out, **fit) == resident


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_memory_mapped_files_are_read_in_place(dtype: str, backend_name: str, tmp_path: Path) -> None:
    x = (10 * X).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", LABELS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    labels = np.load(tmp_path / "y.npy", mmap_mode="r")
    network = network_on(backend_name)
    expected = trained(network, x, LABELS, loss="softmax_cross_entropy")
    assert trained(network_on(backend_name), mapped, labels, loss="softmax_cross_entropy") == expected
    np.testing.assert_array_equal(network.predict(mapped), network.predict(x))
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
    assert trainer.evaluate(mapped[::-1], labels[::-1]) == trainer.evaluate(x[::-1], LABELS[::-1])


def test_positions_of_a_shuffle_are_found_without_the_others() -> None:
    for n in (1, 5, 128, 129, 70_000):
        places = np.arange(n // 3, n, 2)
        expected = shuffled_rows(n, seed=9, epoch=4)[places]
        np.testing.assert_array_equal(shuffle(places, n, seed=9, epoch=4), expected)


def test_bad_rows_are_named_before_training(backend_name: str, tmp_path: Path) -> None:
    x = np.zeros((300_000, 6), np.float32)
    x[280_123, 4] = np.nan
    np.save(tmp_path / "x.npy", x)
    network = network_on(backend_name)
    before = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
    for data in (gf.data.Arrays(x, np.zeros(len(x), int)), np.load(tmp_path / "x.npy", mmap_mode="r")):
        y = None if isinstance(data, gf.data.Source) else np.zeros(len(x), int)
        with pytest.raises(gf.DataError, match=r"x holds .* \(NaN\) in row 280123, column 4"):
            trainer.fit(data, y, epochs=1)
    with pytest.raises(gf.DataError, match=r"y holds 4 classes \(0, 1, 2, 3\), which are not the class numbers 0 to 2"):
        trainer.fit(gf.data.Arrays(X, np.append(LABELS[1:], 3)), epochs=1)
    with pytest.raises(gf.DataError, match="do not pass validation y"):
        trainer.fit(X, LABELS, epochs=1, validation_data=(gf.data.Arrays(X, LABELS), LABELS))
    with pytest.raises(gf.DataError, match="must have the same number of rows"):
        gf.data.Arrays(X, LABELS[:-1])
    np.testing.assert_array_equal(network.get_weights()["0.weight"], before)


class Stop(gf.Callback):
    """Raises in the first epoch."""

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        raise RuntimeError("stop")


def test_an_error_ends_the_reader(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", 1000)

    class Broken(gf.data.Arrays):
        """Fails in the middle of an epoch."""

        def batches(self, *args: Any, **kwargs: Any) -> Iterator[Any]:  # type: ignore[override]
            for number, batch in enumerate(super().batches(*args, **kwargs)):
                if number == 4:
                    raise gf.DataError("the disk is gone")
                yield batch

    with pytest.raises(gf.DataError, match="the disk is gone"):
        trained(network_on(backend_name), Broken(X, LABELS), loss="softmax_cross_entropy", batch_size=16)
    with pytest.raises(RuntimeError, match="stop"):
        trained(network_on(backend_name), gf.data.Arrays(X, LABELS), loss="softmax_cross_entropy", callbacks=[Stop()])
    assert not [thread for thread in threading.enumerate() if thread.name == READER]


def test_the_next_epoch_is_read_while_the_current_one_ends(backend_name: str) -> None:
    """Its first batch is prepared before the end of the current epoch is reported; after the last epoch nothing is
    read."""
    begun: list[int] = []
    next_is_begun = threading.Event()

    class Noting(gf.data.Arrays):
        """Records which epochs were started."""

        def batches(self, *args: Any, epochs: Any, **kwargs: Any) -> Iterator[Any]:  # type: ignore[override]
            for epoch in epochs:
                begun.append(epoch)
                next_is_begun.set()
                yield from super().batches(*args, epochs=[epoch], **kwargs)

    class Waits(gf.Callback):
        """Continues once the reader has started the next epoch; the current one is over."""

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            if epoch < 3:
                while len(begun) <= epoch:
                    next_is_begun.clear()
                    assert next_is_begun.wait(120)

    streamed = trained(
        network_on(backend_name), Noting(X, LABELS), loss="softmax_cross_entropy", batch_size=16, callbacks=[Waits()]
    )
    assert begun == [0, 1, 2]
    assert streamed == trained(network_on(backend_name), X, LABELS, loss="softmax_cross_entropy", batch_size=16)


def test_reading_ahead_makes_one_more_item_than_was_used() -> None:
    made: list[int] = []
    closed = threading.Event()
    second = threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(10):
                made.append(number)
                if number == 1:
                    second.set()
                yield number
        finally:
            closed.set()

    ahead = ReadAhead(items())  # type: ignore[arg-type]
    assert next(ahead) == 0
    assert second.wait(120)
    ahead.close()
    assert closed.wait(120)
    assert made == [0, 1]
    assert list(ReadAhead(number for number in range(5))) == list(range(5))


def foreign_array(array: Any, protocol: str) -> object:
    """An array of another library that supports only one of the protocols."""
    names = ("__dlpack__", "__dlpack_device__") if protocol == "dlpack" else (protocol,)

    def of_array(name: str) -> Any:
        attribute = getattr(array, name)
        return (lambda self, *args, **kwargs: attribute(*args, **kwargs)) if callable(attribute) else attribute

    return type("Foreign", (), {"memory": array, **{name: of_array(name) for name in names}})()


@pytest.mark.parametrize("protocol", ["__array__", "dlpack"])
def test_arrays_of_other_libraries_are_accepted(protocol: str, backend_name: str) -> None:
    x = X.astype(np.float32)
    expected = trained(network_on(backend_name), x, LABELS, loss="softmax_cross_entropy")
    foreign = foreign_array(x, protocol)
    assert trained(network_on(backend_name), foreign, LABELS, loss="softmax_cross_entropy") == expected
    source = gf.data.Arrays(foreign, LABELS)
    assert trained(network_on(backend_name), source, loss="softmax_cross_entropy") == expected


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", ["__cuda_array_interface__", "dlpack"])
def test_arrays_of_other_libraries_on_the_gpu_are_accepted(protocol: str) -> None:
    import cupy

    x = X.astype(np.float32)
    expected = trained(network_on("cupy"), x, LABELS, loss="softmax_cross_entropy")
    foreign = foreign_array(cupy.asarray(x), protocol)
    assert trained(network_on("cupy"), foreign, LABELS, loss="softmax_cross_entropy") == expected
    with pytest.raises(gf.DataError, match="x is on a GPU, but the network's backend is 'numpy'"):
        trained(network_on("numpy"), foreign, LABELS, loss="softmax_cross_entropy")
    with pytest.raises(gf.DataError, match="x is on a GPU, but must be on the host"):
        gf.data.Arrays(foreign, LABELS)


@pytest.mark.gpu
@pytest.mark.usefixtures("without_looks")
@pytest.mark.parametrize("chunks", [1, 4, 10])
def test_a_chunk_costs_one_copy_and_does_not_wait(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    simgpu = pytest.importorskip("simgpu")
    steps = 10
    together = -(-steps // chunks)
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", together * 16 * (6 + 1) * 4)

    class Counts(gf.Callback):
        """The simulator's counts at the end of each epoch."""

        def __init__(self) -> None:
            self.epochs: list[dict[str, int]] = []

        def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
            simgpu.reset()

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            stats = simgpu.stats()
            names = ("h2d", "d2h", "d2d", "mallocs", "host_allocs", "syncs", "launches", "graph_launches")
            self.epochs.append({n: stats[n]["count"] if isinstance(stats[n], dict) else stats[n] for n in names})
            self.epochs[-1]["h2d_bytes"] = stats["h2d"]["bytes"]
            simgpu.reset()

    counts = Counts()
    data = gf.data.Arrays(X, LABELS)
    gf.Trainer(network_on("cupy"), "softmax_cross_entropy", gf.Adam()).fit(
        data, epochs=3, batch_size=16, callbacks=[counts], progress=False
    )
    for epoch in counts.epochs[1:]:
        assert epoch["h2d"] == chunks
        # Six features of four bytes, and a label of four, both padded.
        n_bytes = sum(-(-together * 16 * features * 4 // 256) * 256 for features in (6, 1))
        assert epoch["h2d_bytes"] == chunks * n_bytes
        # The batches, and the sums at the end.
        assert (epoch["launches"], epoch["graph_launches"]) == (0, steps + 1)
        # The sums at its end; the reader continues from epoch to epoch without reading the clock.
        assert epoch["d2h"] == 1
        assert epoch["mallocs"] == epoch["host_allocs"] == 0
        # Reader: one for each buffer that it refills.
        assert epoch["syncs"] <= chunks + 2
