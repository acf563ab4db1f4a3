"""`threads=` sets the BLAS's threads while `fit` runs, and restores them afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.backends.blas import Blas, using_threads
from tests.cli.command import gradflow

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = np.arange(64) % 3


@pytest.fixture(params=["numpy", "reference"])
def blas(request: pytest.FixtureRequest) -> Blas:
    """The BLAS of a backend, if its thread count can be set."""
    found = get_backend(request.param).blas
    if found is None or found.threads is None:
        pytest.skip("no BLAS was found whose threads can be set")
    return found


class Watch(gf.Callback):
    """Records the BLAS's thread count at the end of each epoch."""

    def __init__(self, blas: Blas) -> None:
        self.blas = blas
        self.seen: list[int | None] = []

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        self.seen.append(self.blas.threads)


def fit(blas: Blas, **settings: Any) -> list[int | None]:
    watch = Watch(blas)
    for backend in ("numpy", "reference"):
        if get_backend(backend).blas == blas:
            trainer = gf.Trainer(gf.MLP([6, 8, 3], backend=backend), "softmax_cross_entropy", "sgd", **settings)
            trainer.fit(X, Y, epochs=2, callbacks=[watch], progress=False)
    assert watch.seen
    return watch.seen


@pytest.mark.parametrize("before", [1, 2])
def test_threads_are_set_while_fit_runs_and_restored(blas: Blas, before: int) -> None:
    with using_threads(blas, before):
        assert set(fit(blas, threads=3 - before)) == {3 - before}
        assert blas.threads == before


def test_without_the_argument_they_are_left_alone(blas: Blas, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Blas, threads: int) -> None:
        raise AssertionError("threads were set")

    monkeypatch.setattr(Blas, "set_threads", refuse)
    assert set(fit(blas)) == {blas.threads}


def test_an_error_in_fit_restores_them_too(blas: Blas) -> None:
    previous = blas.threads

    class Failure(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            raise ZeroDivisionError

    trainer = gf.Trainer(gf.MLP([6, 3], backend="numpy"), "softmax_cross_entropy", "sgd", threads=3)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(X, Y, epochs=2, callbacks=[Failure()], progress=False)
    assert blas.threads == previous


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_anything_but_a_positive_integer_is_refused(threads: Any) -> None:
    with pytest.raises(gf.DataError, match="threads must be"):
        gf.Trainer(gf.MLP([6, 3], backend="numpy"), "softmax_cross_entropy", "sgd", threads=threads)


def test_a_blas_that_cannot_be_identified_is_an_error(blas: Blas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.backends.blas._THREADS", ())
    with pytest.raises(gf.BackendError, match=rf"threads=2: {blas.path.name} has no function .* leave threads out"):
        fit(blas, threads=2)


@pytest.mark.gpu
def test_a_gpu_has_no_such_threads() -> None:
    trainer = gf.Trainer(gf.MLP([6, 3], backend="cupy"), "softmax_cross_entropy", "sgd", threads=2)
    with pytest.raises(gf.BackendError, match="threads=2: this backend has no BLAS on the CPU"):
        trainer.fit(X, Y, epochs=1)


def test_the_command_line_passes_them_on(blas: Blas, tmp_path: Path) -> None:
    options = ("--epochs", "1", "--threads", "1", "--backend", "numpy", "--output", tmp_path)
    done = gradflow("train", "digits", *options)
    assert done.returncode == 0, done.stderr
    assert '"threads": 1' in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    refused = gradflow("train", "digits", "--threads", "0", "--output", tmp_path / "other")
    assert (refused.returncode, refused.stderr) == (2, "error: threads must be at least 1, got 0\n")


@pytest.mark.parametrize("ends_first", [0, 1])
def test_contexts_that_overlap_restore_what_was_before_the_first(blas: Blas, ends_first: int) -> None:
    before = blas.threads
    contexts = [using_threads(blas, threads) for threads in (1, 2)]
    for context in contexts:
        context.__enter__()
    assert blas.threads == 2
    contexts[ends_first].__exit__(None, None, None)
    assert blas.threads == (2 if ends_first == 0 else 1)
    contexts[1 - ends_first].__exit__(None, None, None)
    assert blas.threads == before
