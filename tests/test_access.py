"""Networks used by several threads: predictions stay correct, and no thread reads weights that another one is
changing."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.access import Access

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
Y = np.arange(64) % 3
PATIENCE = 120
"""Seconds after which a thread that should have continued counts as hanging."""


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Make Python switch threads every few microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_get_their_own_predictions(backend_name: str) -> None:
    network = gf.MLP([8, 32, 32, 3], seed=1, backend=backend_name)
    inputs = [RNG.normal(size=(rows, 8)).astype(np.float32) for rows in (1, 1, 64, 64, 5000, 5000)]
    expected = [network.predict(x).tobytes() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(network.predict, inputs * 20))
    assert [y.tobytes() for y in found] == expected * 20


class Keeping(gf.Layer):
    """y = 2 x, by means of an array that it keeps."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        self.kept = x * 2
        y[...] = self.kept

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        if d_x is not None:
            d_x[...] = 2 * d_y


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("inside", [False, True])
def test_layers_of_python_code_serve_one_thread_at_a_time(inside: bool, backend_name: str) -> None:
    layer = gf.Residual([gf.Dense(8, 8), Keeping()]) if inside else Keeping()
    network = gf.Sequential([gf.Dense(8, 8), layer], seed=1, backend=backend_name)
    inputs = [RNG.normal(size=(50, 8)).astype(np.float32) for _ in range(4)]
    expected = [network.predict(x).tobytes() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(network.predict, inputs * 50))
    assert [y.tobytes() for y in found] == expected * 50


@pytest.mark.usefixtures("frequent_switches")
def test_evaluation_runs_beside_predictions(backend_name: str) -> None:
    network = gf.MLP([8, 32, 3], seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", metrics=["f1"])
    trainer.fit(X, Y, epochs=1, progress=False)
    expected, predicted = trainer.evaluate(X, Y), network.predict(X).tobytes()
    with ThreadPoolExecutor(4) as pool:
        evaluated = [pool.submit(trainer.evaluate, X, Y) for _ in range(20)]
        found = [pool.submit(network.predict, X) for _ in range(20)]
        assert [future.result() for future in evaluated] == [expected] * 20
        assert [future.result().tobytes() for future in found] == [predicted] * 20


@pytest.mark.usefixtures("frequent_switches")
def test_new_weights_are_seen_as_a_whole(backend_name: str) -> None:
    network = gf.MLP([8, 16, 16, 3], seed=1, backend=backend_name)
    weights = [gf.MLP([8, 16, 16, 3], seed=seed, backend=backend_name).get_weights() for seed in (1, 2)]
    expected = set()
    for each in weights:
        network.set_weights(each)
        expected.add(network.predict(X).tobytes())
    assert len(expected) == 2
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(network.predict, X) for _ in range(200)]
        for _ in range(50):
            for each in weights:
                network.set_weights(each)
        assert {future.result().tobytes() for future in found} <= expected


class InAnotherThread(gf.Callback):
    """Runs a function in another thread after each epoch, and keeps the exception."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self.error: BaseException | None = None

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        with ThreadPoolExecutor(1) as pool:
            self.error = pool.submit(self.run).exception(PATIENCE)


USES: dict[str, Callable[[gf.Trainer, Path], object]] = {
    "fit": lambda trainer, path: trainer.fit(X, Y, epochs=1),
    "fit of another trainer": lambda trainer, path: gf.Trainer(trainer.network, trainer.loss, "sgd").fit(
        X, Y, epochs=1
    ),
    "predict": lambda trainer, path: trainer.network.predict(X),
    "predict_classes": lambda trainer, path: trainer.network.predict_classes(X),
    "evaluate": lambda trainer, path: trainer.evaluate(X, Y),
    "get_weights": lambda trainer, path: trainer.network.get_weights(),
    "set_weights": lambda trainer, path: trainer.network.set_weights(
        gf.MLP([8, 4, 3], backend="reference").get_weights()
    ),
    "copy": lambda trainer, path: trainer.network.copy(),
    "deepcopy": lambda trainer, path: copy.deepcopy(trainer),
    "pickle": lambda trainer, path: pickle.dumps(trainer.network),
    "save": lambda trainer, path: gf.save(trainer.network, path / "model.safetensors"),
    "layer_outputs": lambda trainer, path: gf.inspect.layer_outputs(trainer.network, X),
    "gradient_norms": lambda trainer, path: gf.inspect.gradient_norms(trainer.network, trainer.loss, X, Y),
    "preprocessing": lambda trainer, path: setattr(trainer.network, "preprocessing", None),
}


@pytest.mark.parametrize("use", USES)
def test_other_threads_are_refused_while_one_trains(use: str, backend_name: str, tmp_path: Path) -> None:
    network = gf.MLP([8, 4, 3], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    watch = InAnotherThread(lambda: USES[use](trainer, tmp_path))
    history = trainer.fit(X, Y, epochs=1, callbacks=[watch], progress=False)
    with pytest.raises(gf.GradflowError, match="another thread is training this network; wait until its fit has ended"):
        raise watch.error or AssertionError("it was not refused")
    assert not list(tmp_path.iterdir())
    alone = gf.MLP([8, 4, 3], backend=backend_name)
    expected = gf.Trainer(alone, "softmax_cross_entropy", "adam").fit(X, Y, epochs=1, progress=False)
    assert history["loss"] == expected["loss"]
    USES[use](trainer, tmp_path)  # Afterwards all of it works again.


@pytest.mark.parametrize("use", [use for use in USES if not use.startswith("fit")])
def test_callbacks_may_use_the_network(use: str, backend_name: str, tmp_path: Path) -> None:
    class Using(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            USES[use](trainer, tmp_path)

    network = gf.MLP([8, 4, 3], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    assert trainer.fit(X, Y, epochs=2, callbacks=[Using()], progress=False).epochs == 2


@pytest.mark.parametrize("use", [use for use in USES if use.startswith("fit")])
def test_a_fit_within_a_fit_is_refused(use: str, backend_name: str, tmp_path: Path) -> None:
    class Fitting(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            USES[use](trainer, tmp_path)

    network = gf.MLP([8, 4, 3], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    with pytest.raises(gf.GradflowError, match="fit was called from a callback of its own fit; train a copy instead"):
        trainer.fit(X, Y, epochs=2, callbacks=[Fitting()], progress=False)
    assert trainer.fit(X, Y, epochs=1, progress=False).epochs == 1


def test_a_copy_can_be_used_while_another_thread_trains() -> None:
    network = gf.MLP([8, 4, 3], seed=1, backend="numpy")
    served, expected = network.copy(), network.predict(X).tobytes()
    watch = InAnotherThread(lambda: served.predict(X).tobytes() == expected or 1 / 0)
    gf.Trainer(network, "softmax_cross_entropy", "adam").fit(X, Y, epochs=2, callbacks=[watch], progress=False)
    assert watch.error is None


class Waiter:
    """A thread that enters a context, signals it, and leaves it on request."""

    def __init__(self, context: Callable[[], Any]) -> None:
        self.is_inside, self._may_end = threading.Event(), threading.Event()
        self._context = context
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._context():
            self.is_inside.set()
            self._may_end.wait(PATIENCE)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def has_asked(access: Access) -> bool:
    """Wait until a thread has asked to change the weights, whether or not it may yet; False if none ever does."""
    until = time.monotonic() + PATIENCE
    while access._writer is None and not access.is_training and time.monotonic() < until:
        time.sleep(0.001)
    return access._writer is not None or access.is_training


@pytest.mark.parametrize("change", ["writing", "training"])
def test_a_change_waits_for_readers_and_new_readers_wait_for_it(change: str) -> None:
    access = Access()
    readers = [Waiter(access.reading) for _ in range(2)]
    for reader in readers:
        assert reader.is_inside.wait(PATIENCE)
    writer = Waiter(getattr(access, change))
    assert has_asked(access)
    readers[0].end()
    assert not writer.is_inside.wait(0.05)
    if change == "training":
        with pytest.raises(gf.GradflowError, match="another thread is training"), access.reading():
            pass
        readers[1].end()
        assert writer.is_inside.wait(PATIENCE)
        writer.end()
    else:
        late = Waiter(access.reading)
        assert not late.is_inside.wait(0.05)
        readers[1].end()
        assert writer.is_inside.wait(PATIENCE)
        assert not late.is_inside.wait(0.05)
        writer.end()
        assert late.is_inside.wait(PATIENCE)
        late.end()


def test_a_reader_may_read_again_while_a_writer_waits() -> None:
    access = Access()
    with access.reading():
        writer = Waiter(access.writing)
        assert has_asked(access)
        assert not writer.is_inside.wait(0.05)
        with access.reading():
            assert not writer.is_inside.wait(0.05)
        assert not writer.is_inside.wait(0.05)
    assert writer.is_inside.wait(PATIENCE)
    writer.end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("held", "may_predict"), [("reading", True), ("writing", False), ("training", False)])
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have(held: str, may_predict: bool) -> None:
    network = gf.MLP([8, 4, 3], backend="numpy")
    network.predict(X)
    waiter = Waiter(getattr(network.access, held))
    assert waiter.is_inside.wait(PATIENCE)
    child = os.fork()
    if not child:
        try:
            network.predict(X)
            os._exit(0)
        except gf.GradflowError:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    waiter.end()
    assert os.waitstatus_to_exitcode(status) == (0 if may_predict else 1)
    assert network.predict(X).shape == (64, 3)
