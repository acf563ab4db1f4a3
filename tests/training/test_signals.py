"""Ctrl-C and SIGTERM: all work is kept, the signal takes effect, and neither forked children nor errors change that."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.data.read_ahead import ReadAhead
from gradflow.training.signals import Interruption
from tests.training.runs.test_resume import LABELS, ROWS, X, bits, fit, trainer

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


class AfterEpoch(gf.Callback):
    """Runs a function after an epoch."""

    def __init__(self, epoch: int, action: Callable[[], Any]) -> None:
        self._epoch, self._action, self.ended = epoch, action, False

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == self._epoch:
            self._action()

    def on_fit_end(self, trainer: gf.Trainer, history: gf.History) -> None:
        self.ended = True


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


@contextmanager
def handled(number: signal.Signals, handler: Any = None) -> Iterator[list[int]]:
    """Return the signals that the program's own handler receives; afterwards the handler is the same as before."""
    received: list[int] = []
    previous = signal.signal(number, handler or (lambda number, frame: received.append(number)))
    ours = signal.getsignal(number)
    try:
        yield received
        assert signal.getsignal(number) is ours
    finally:
        signal.signal(number, previous)


def test_ctrl_c_keeps_the_work_so_far_and_reaches_the_caller(backend_name: str) -> None:
    interrupted, alone = trainer(backend_name), trainer(backend_name)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, epochs=100, callbacks=[AfterEpoch(3, ctrl_c)])
    assert signal.getsignal(signal.SIGINT) is before
    assert interrupted.history is not None
    assert interrupted.history.stopped_by == "interrupted"
    interrupted.history.stopped_by = "epochs"
    assert bits(interrupted, interrupted.history) == bits(alone, fit(alone, epochs=3))


def test_ctrl_c_ends_a_loop_of_trainings() -> None:
    begun: list[int] = []

    def ensemble() -> None:
        for number in range(3):
            begun.append(number)
            fit(trainer("numpy"), callbacks=[AfterEpoch(1, ctrl_c)])

    with pytest.raises(KeyboardInterrupt):
        ensemble()
    assert begun == [0]


def test_ctrl_c_leaves_a_run_folder_that_is_complete_and_resumed(tmp_path: Path) -> None:
    folder, alone, resumed = tmp_path / "run", trainer("numpy"), trainer("numpy")
    with pytest.raises(KeyboardInterrupt):
        fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint(), callbacks=[AfterEpoch(2, ctrl_c)])
    assert json.loads((folder / "config.json").read_text())["result"]["stopped_by"] == "interrupted"
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 2
    assert gf.load(folder / "model.safetensors").n_in == X.shape[1]
    assert bits(resumed, fit(resumed, resume=folder)) == bits(alone, fit(alone))


def test_ctrl_c_while_results_are_written_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, list[Any]()

    def interrupting(*paths: Any) -> None:
        if not calls:
            ctrl_c()
        calls.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupting)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer("numpy"), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["result"]["stopped_by"] == "epochs"
    assert (tmp_path / "history.csv").exists()


def test_a_second_ctrl_c_acts_at_once() -> None:
    def impatient() -> None:
        ctrl_c()
        ctrl_c()
        raise AssertionError("the second one did nothing")

    callback = AfterEpoch(1, impatient)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(trainer("numpy"), callbacks=[callback])
    assert caught.value.__context__ is None
    assert callback.ended


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    with handled(signal.SIGINT, signal.SIG_IGN):
        assert fit(trainer("numpy"), callbacks=[AfterEpoch(1, ctrl_c)]).stopped_by == "epochs"


def test_a_program_with_a_handler_of_its_own_gets_the_history() -> None:
    with handled(signal.SIGINT) as received:
        history = fit(trainer("numpy"), callbacks=[AfterEpoch(1, ctrl_c)])
    assert (received, history.stopped_by, history.epochs) == ([signal.SIGINT], "interrupted", 1)


def test_a_handler_that_a_callback_sets_stays() -> None:
    received: list[int] = []
    with handled(signal.SIGTERM):
        ours = signal.getsignal(signal.SIGTERM)
        action = AfterEpoch(1, lambda: signal.signal(signal.SIGTERM, lambda number, frame: received.append(number)))
        fit(trainer("numpy"), callbacks=[action, AfterEpoch(2, sigterm)])
        sigterm()
        signal.signal(signal.SIGTERM, ours)
    assert received == [signal.SIGTERM] * 2


def test_a_handler_outside_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be restored."""
    original = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with Interruption():
        assert original(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_signals_are_left_to_the_main_thread() -> None:
    seen: list[Any] = []
    look = AfterEpoch(1, lambda: seen.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: seen.append(fit(trainer("numpy"), callbacks=[look]).stopped_by))
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT), "epochs"]


@pytest.mark.parametrize("action", [ctrl_c, sigterm])
def test_nested_trainings_both_keep_their_work(action: Callable[[], None]) -> None:
    outer, inner = trainer("numpy"), trainer("numpy")
    with handled(signal.SIGINT) as received, handled(signal.SIGTERM, signal.getsignal(signal.SIGINT)):
        fit(outer, callbacks=[AfterEpoch(2, lambda: fit(inner, callbacks=[AfterEpoch(1, action)]))])
    assert len(received) == 1
    for one, epochs in ((inner, 1), (outer, 2)):
        assert one.history is not None
        assert (one.history.stopped_by, one.history.epochs) == ("interrupted", epochs)


# -- whole programs ---------------------------------------------------------------------------------------------------

LOOP = """
import sys
import numpy as np
import gradflow as gf

class Says(gf.Callback):
    def on_epoch_end(self, trainer, epoch, values):
        if epoch == 2:
            print("in epoch 3 of model", model, flush=True)

x, y = np.random.default_rng(0).normal(size=(20000, 8)), np.arange(20000) % 3
trainers = []
try:
    for model in range(3):
        trainers.append(gf.Trainer(gf.MLP([8, 16, 3], backend="numpy"), "softmax_cross_entropy", "adam"))
        trainers[-1].fit(x, y, epochs=100_000, callbacks=[Says()], output=f"run-{model}")
finally:
    history = trainers[-1].history
    print(len(trainers), history.stopped_by, history.epochs >= 2, flush=True)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_program_that_fits_in_a_loop(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOP]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "in epoch 3 of model 0\n"
        program.send_signal(number)
        said, errors = program.communicate(timeout=120)
    if number == signal.SIGINT:
        assert said == "1 interrupted True\n"
        assert errors.rstrip().endswith("KeyboardInterrupt")
    assert program.returncode == -number
    saved = json.loads((tmp_path / "run-0" / "config.json").read_text())["result"]
    assert saved["stopped_by"] == "interrupted"
    assert gf.load(tmp_path / "run-0").n_in == 8
    assert not (tmp_path / "run-1").exists()


@posix
def test_ctrl_c_ends_a_cell_of_a_notebook_and_its_network_is_kept(tmp_path: Path) -> None:
    """In a real kernel, whose button "interrupt" sends SIGINT."""
    pytest.importorskip("ipykernel")
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        cell = LOOP.replace("finally:", "except KeyboardInterrupt:") + "    raise\n"
        # With `stop_on_error` the kernel refuses cells for a moment after one that failed.
        request = client.execute(cell, stop_on_error=False)
        said, shown = "", list[str]()
        while "in epoch 3 of model 0" not in said:
            message = client.get_iopub_msg(timeout=120)
            said += message["content"].get("text", "")
            shown.append(message["content"].get("data", {}).get("text/plain", ""))
            assert message["msg_type"] != "error", message["content"]
        assert any(line.startswith("epoch 1/100000") for line in shown)
        kernel.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=120))["parent_header"]["msg_id"] != request:
            pass  # the answers to what a client asks of a new kernel
        assert (reply["content"]["status"], reply["content"].get("ename")) == ("error", "KeyboardInterrupt")
        answers: list[dict[str, Any]] = []
        client.execute_interactive(
            "print(len(trainers), history.stopped_by, trainers[0].network.predict(x[:2]).shape)",
            output_hook=lambda message: answers.append(message["content"]),
            timeout=120,
        )
        assert "".join(answer.get("text", "") for answer in answers).endswith("1 interrupted (2, 3)\n")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


# -- errors -----------------------------------------------------------------------------------------------------------


def fail() -> None:
    raise RuntimeError("the callback's own")


@pytest.mark.parametrize("action", [ctrl_c, sigterm])
def test_a_signal_is_not_lost_when_a_callback_raises(action: Callable[[], None]) -> None:
    with handled(signal.SIGINT) as received, handled(signal.SIGTERM, signal.getsignal(signal.SIGINT)):
        with pytest.raises(RuntimeError, match="the callback's own"):
            fit(trainer("numpy"), callbacks=[AfterEpoch(1, action), AfterEpoch(1, fail)])
        assert len(received) == 1


def test_ctrl_c_ends_the_program_when_a_callback_raises() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(trainer("numpy"), callbacks=[AfterEpoch(1, ctrl_c), AfterEpoch(1, fail)])
    assert isinstance(caught.value.__context__, RuntimeError)


def test_sigterm_is_not_lost_when_results_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with handled(signal.SIGTERM) as received:
        with pytest.raises(OSError, match="the results cannot be written"):
            fit(trainer("numpy"), folder, callbacks=[AfterEpoch(1, sigterm), AfterEpoch(1, lambda: remove(folder))])
        assert received == [signal.SIGTERM]


def remove(folder: Path) -> None:
    (folder / ".lock").unlink()
    folder.rmdir()


# -- children ---------------------------------------------------------------------------------------------------------


def sleep(ready: Any) -> None:
    ready.send(True)
    signal.pause()


def terminated_child(ends: list[int | None]) -> None:
    """Fork a child as multiprocessing does, and ask it to end."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=sleep, args=(there,))
    child.start()
    here.recv()
    child.terminate()
    child.join(30)
    ends.append(child.exitcode)
    child.kill()


@posix
def test_a_forked_child_ends_at_its_first_sigterm() -> None:
    ends: list[int | None] = []
    assert fit(trainer("numpy"), callbacks=[AfterEpoch(1, lambda: terminated_child(ends))]).stopped_by == "epochs"
    assert ends == [-signal.SIGTERM]


@posix
def test_a_child_forked_in_a_thread_or_in_a_nested_training_ends_too() -> None:
    ends: list[int | None] = []

    def in_a_thread() -> None:
        thread = threading.Thread(target=terminated_child, args=(ends,))
        thread.start()
        thread.join()

    fit(
        trainer("numpy"),
        callbacks=[AfterEpoch(1, lambda: fit(trainer("numpy"), callbacks=[AfterEpoch(1, in_a_thread)]))],
    )
    assert ends == [-signal.SIGTERM]


@posix
def test_a_child_does_not_get_its_parents_signal() -> None:
    """It is forked after the signal arrived, and leaves `fit` by an exception."""
    codes: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            fail()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    me = os.getpid()
    with handled(signal.SIGINT) as received:
        try:
            fit(trainer("numpy"), callbacks=[AfterEpoch(1, ctrl_c), AfterEpoch(1, fork)])
        except RuntimeError:
            if os.getpid() != me:
                os._exit(7 + len(received))
            raise
    assert (codes, received) == ([7], [signal.SIGINT])


# -- a hanging source --------------------------------------------------------------------------------------------------


class Hangs:
    """Batches of which one never arrives; before that they send a signal to the main thread."""

    def __init__(self, number: signal.Signals, at: int) -> None:
        self._number, self._at, self.asked = number, at, 0
        self.may_send, self.is_released = threading.Event(), threading.Event()
        self.may_send.set()

    def __call__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, 70, 10):
            self.asked += 1
            if self.asked == self._at:
                self.may_send.wait(120)
                signal.pthread_kill(threading.main_thread().ident or 0, self._number)
                self.is_released.wait(120)
            yield X[start : start + 10], LABELS[start : start + 10]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["training", "validation"])
def test_one_signal_is_enough_where_a_source_hangs(tmp_path: Path, number: signal.Signals, kind: str) -> None:
    hanging = Hangs(number, at=20)
    source = gf.data.Batches(hanging, rows=70, block_rows=10)
    of, checkpoint = trainer("numpy"), gf.Checkpoint(every_epochs=100)
    with handled(number) as received:
        try:
            if kind == "training":
                history = of.fit(source, epochs=9, batch_size=ROWS, output=tmp_path, checkpoint=checkpoint)
            else:
                history = fit(of, tmp_path, epochs=9, validation_data=source, checkpoint=checkpoint)
        finally:
            was_waited_for = hanging.is_released.is_set()
            hanging.is_released.set()
    assert (received, history.stopped_by, was_waited_for) == ([number], "interrupted", False)
    assert json.loads((tmp_path / "config.json").read_text())["result"]["stopped_by"] == "interrupted"
    if kind == "training":
        resumed, alone = trainer("numpy"), trainer("numpy")
        source = gf.data.Batches(Hangs(number, at=-1), rows=70, block_rows=10)
        after = bits(resumed, resumed.fit(source, epochs=9, batch_size=ROWS, resume=tmp_path))
        assert after == bits(alone, alone.fit(source, epochs=9, batch_size=ROWS))


@posix
def test_one_signal_is_enough_where_a_source_hangs_that_nobody_needs_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of the next epoch are read while a callback ends the training."""
    counted = Hangs(signal.SIGINT, at=-1)
    trainer("numpy").fit(gf.data.Batches(counted, rows=70, block_rows=10), epochs=1)
    of = trainer("numpy")
    hanging = Hangs(signal.SIGINT, at=counted.asked + 1)
    hanging.may_send.clear()
    close, has_stopped = ReadAhead.close, threading.Event()

    def sending(ahead: Any) -> None:
        if has_stopped.is_set():
            hanging.may_send.set()
        close(ahead)

    monkeypatch.setattr(ReadAhead, "close", sending)
    stop = AfterEpoch(1, lambda: (of.stop(), has_stopped.set()))
    try:
        with pytest.raises(KeyboardInterrupt):
            of.fit(gf.data.Batches(hanging, rows=70, block_rows=10), epochs=2, callbacks=[stop])
    finally:
        hanging.may_send.set()
        hanging.is_released.set()
    assert of.history is not None
    assert of.history.epochs == 1


@posix
def test_ctrl_c_ends_an_evaluation_whose_source_hangs() -> None:
    hanging = Hangs(signal.SIGINT, at=10)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer("numpy").evaluate(gf.data.Batches(hanging, rows=70, block_rows=10))
    finally:
        hanging.is_released.set()
