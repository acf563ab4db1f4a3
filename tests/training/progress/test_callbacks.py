"""Callbacks: what they hear after steps, how they stop a run, and the values that they add to the history."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.training.progress.json_lines import JSONLines
from tests.training.runs.test_resume import LABELS, ROWS, STEPS, BrokenOffError, Dies, X, bits, fit, trainer


class Steps(gf.Callback):
    """Collects steps and losses, and may do something at one of them."""

    def __init__(self, every: int | None = 1, at: int = 0, action: Callable[[gf.Trainer], Any] | None = None) -> None:
        self.every_steps, self._at, self._action = every, at, action
        self.heard: list[tuple[int, float]] = []

    def on_step_end(self, trainer: gf.Trainer, step: int, loss: float) -> None:
        self.heard.append((step, loss))
        if step == self._at and self._action is not None:
            self._action(trainer)

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.heard]


class Returns(gf.Callback):
    """Returns values after each epoch."""

    def __init__(self, values: Callable[[int], Any]) -> None:
        self._values = values

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> Any:
        return self._values(epoch)


class Norm(gf.Callback):
    """Adds the norm of the weights to the history, which resumed runs must continue."""

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> Mapping[str, float]:
        network = trainer.network
        return {"weight_norm": float(np.linalg.norm(network.backend.to_host(network.parameters)))}


def stop(trainer: gf.Trainer) -> None:
    trainer.stop()


# -- steps ------------------------------------------------------------------------------------------------------------


def test_steps_are_heard_at_their_intervals_and_change_nothing(backend_name: str) -> None:
    callbacks = [Steps(), Steps(3), Steps(5), Steps(1000), Steps(None)]
    heard, alone = trainer(backend_name), trainer(backend_name)
    with_callbacks = bits(heard, fit(heard, callbacks=callbacks))
    assert with_callbacks == bits(alone, fit(alone))
    steps = range(1, 4 * STEPS + 1)
    assert [callback.steps for callback in callbacks] == [
        list(steps), [step for step in steps if step % 3 == 0], [5, 10, 15, 20], [], [],
    ]  # fmt: skip


def test_the_loss_is_the_mean_over_the_rows_of_the_last_steps(backend_name: str) -> None:
    single, fours, epochs = Steps(1), Steps(4), Steps(STEPS)
    history = fit(trainer(backend_name), callbacks=[single, fours, epochs])
    of_step = dict(single.heard)
    # 4 batches of 16 rows and one of 6; step 5 ends the first epoch.
    rows = {step: 6 if step % STEPS == 0 else 16 for step in of_step}
    for step, loss in fours.heard:
        first = max(step - 3, (step - 1) // STEPS * STEPS + 1)
        steps = range(first, step + 1)
        expected = np.average([of_step[each] for each in steps], weights=[rows[each] for each in steps])
        assert_allclose(loss, expected, rtol=1e-6)
    assert_allclose([loss for _, loss in epochs.heard], history["loss"], rtol=1e-6)


@given(
    every=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    batch_size=st.integers(5, 80),
    saved_every=st.integers(1, 12),
    steps_per_launch=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_steps_are_heard_whatever_else_happens_between_them(
    every: list[int], batch_size: int, saved_every: int, steps_per_launch: int
) -> None:
    callbacks = [Steps(each) for each in every]
    of = trainer("numpy", steps_per_launch=steps_per_launch)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = gf.Checkpoint(every_steps=saved_every)
        fit(of, Path(folder), checkpoint=checkpoint, batch_size=batch_size, epochs=3, callbacks=callbacks)
    steps = 3 * -(-len(X) // min(batch_size, len(X)))
    assert [callback.steps for callback in callbacks] == [list(range(each, steps + 1, each)) for each in every]


def test_the_loss_of_a_step_is_weighted(backend_name: str) -> None:
    weights, heard = np.linspace(0, 2, len(X)), Steps(STEPS)
    history = fit(trainer(backend_name), sample_weight=weights, callbacks=[heard])
    assert_allclose([loss for _, loss in heard.heard], history["loss"], rtol=1e-6)


@pytest.mark.parametrize(("at", "epochs", "losses"), [(7, 1, 1), (5, 1, 1), (20, 4, 4), (1, 0, 0)])
def test_a_step_can_end_the_training(at: int, epochs: int, losses: int, backend_name: str) -> None:
    callback, of = Steps(1, at, stop), trainer(backend_name)
    history = fit(of, callbacks=[callback], early_stopping=None)
    assert (history.stopped_by, history.epochs, callback.steps[-1]) == ("callback", epochs, at)
    other, alone = Steps(None), trainer(backend_name)
    with pytest.raises(BrokenOffError):
        fit(alone, callbacks=[Steps(1, at, raise_)])
    assert other.heard == []
    np.testing.assert_array_equal(
        of.network.backend.to_host(of.network.state), alone.network.backend.to_host(alone.network.state)
    )


def raise_(trainer: gf.Trainer) -> None:
    raise BrokenOffError


def test_a_run_stopped_at_a_step_is_saved_and_stays_stopped(tmp_path: Path) -> None:
    stopped = trainer("numpy")
    history = fit(stopped, tmp_path, checkpoint=gf.Checkpoint(), callbacks=[Steps(1, 7, stop)])
    assert json.loads((tmp_path / "config.json").read_text())["result"]["stopped_by"] == "callback"
    assert (tmp_path / "checkpoints" / "step-000000000007.safetensors").exists()
    resumed = trainer("numpy")
    assert bits(resumed, fit(resumed, resume=tmp_path)) == bits(stopped, history)


@pytest.mark.parametrize("dies_at", [3, 5, 8])
def test_a_resumed_run_hears_each_step_once(tmp_path: Path, dies_at: int) -> None:
    before, after, whole = Steps(1, dies_at, raise_), Steps(), Steps()
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(every_steps=2), callbacks=[before])
    resumed, alone = trainer("numpy"), trainer("numpy")
    assert bits(resumed, fit(resumed, resume=tmp_path, callbacks=[after])) == bits(alone, fit(alone, callbacks=[whole]))
    saved = (dies_at - 1) // 2 * 2
    assert after.heard == whole.heard[saved:]


def test_an_interrupted_step_is_heard_once(tmp_path: Path) -> None:
    from tests.training.test_signals import ctrl_c

    heard, rest = Steps(1, 7, lambda trainer: ctrl_c()), Steps()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(), callbacks=[heard])
    fit(trainer("numpy"), resume=tmp_path, callbacks=[rest])
    assert heard.steps + rest.steps == list(range(1, 4 * STEPS + 1))


def test_a_step_may_use_the_network(backend_name: str) -> None:
    used, alone = trainer(backend_name, average=0.9), trainer(backend_name, average=0.9)
    losses = []

    def use(of: gf.Trainer) -> None:
        of.network.predict(X)
        gf.gradients(of.network, "softmax_cross_entropy", X, LABELS)
        losses.append(of.evaluate(X, LABELS)["loss"])

    arguments: dict[str, Any] = {"validation_data": (X[:20], LABELS[:20])}
    assert bits(used, fit(used, callbacks=[Steps(1, 7, use)], **arguments)) == bits(alone, fit(alone, **arguments))
    assert len(losses) == 1


def test_steps_of_a_streamed_source_and_of_large_batches_in_parts() -> None:
    for arguments in ({"accumulate": 4, "batch_size": 32}, {"shuffle": False}, {"drop_last": True}):
        streamed, in_memory = Steps(2), Steps(2)
        of, same = trainer("numpy"), trainer("numpy")
        options = {"epochs": 3, "batch_size": ROWS, "shuffle": False} | arguments
        blocks = [(X[start : start + 10], LABELS[start : start + 10]) for start in range(0, 70, 10)]
        of.fit(gf.data.Batches(blocks, rows=70, block_rows=10), callbacks=[streamed], **options)
        same.fit(X, LABELS, callbacks=[in_memory], **options)
        assert streamed.heard == in_memory.heard != []


def test_minimizers_take_no_steps() -> None:
    made = gf.Trainer(gf.MLP([6, 3], backend="numpy"), "softmax_cross_entropy", gf.LBFGS())
    with pytest.raises(gf.DataError, match="callback Steps has on_step_end, but L-BFGS takes no steps"):
        made.fit(X, LABELS, epochs=1, batch_size=None, callbacks=[Steps()])
    made.fit(X, LABELS, epochs=1, batch_size=None, callbacks=[Steps(None)])


@pytest.mark.parametrize("every", [0, -1, 1.5, "all", True])
def test_intervals_are_checked_before_anything_is_changed(every: Any, tmp_path: Path) -> None:
    with pytest.raises(gf.DataError, match="every_steps of callback Steps must be"):
        fit(trainer("numpy"), tmp_path / "run", callbacks=[Steps(every)])
    assert not (tmp_path / "run").exists()


def test_members_of_a_pack_hear_their_own_steps(backend_name: str) -> None:
    heard = [Steps(2), Steps(3), Steps(2, 4, stop)]
    trainers = [trainer(backend_name) for _ in heard]
    gf.Pack(trainers).fit(
        X, LABELS, epochs=2, batch_size=ROWS, callbacks=gf.Each([[each, Norm()] for each in heard]), progress=False
    )
    assert [each.steps for each in heard] == [[2, 4, 6, 8, 10], [3, 6, 9], [2, 4]]
    assert [each.history is not None and each.history.stopped_by for each in trainers] == ["epochs"] * 2 + ["callback"]
    assert len(trainers[0].history["weight_norm"]) == 2  # type: ignore[index]


# -- values of one's own ----------------------------------------------------------------------------------------------


def test_values_of_callbacks_are_in_the_history_its_files_and_its_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = open(tmp_path / "lines", "w+")  # noqa: SIM115
    callbacks = [Norm(), Returns(lambda epoch: {"twice": np.float32(2 * epoch), "no": np.nan}), JSONLines(lines)]
    of = trainer("numpy")
    history = fit(of, tmp_path / "run", epochs=2, callbacks=callbacks)
    assert list(history) == ["loss", "accuracy", "weight_norm", "twice", "no"]
    assert history["twice"] == [2.0, 4.0]
    assert np.isnan(history["no"]).all()
    header, *rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert header == "epoch,loss,accuracy,weight_norm,twice,no"
    assert rows[1].endswith(f"{history['weight_norm'][1]!r},4.0,nan")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["result"]["twice"] == 4.0
    lines.seek(0)
    assert json.loads(lines.read().splitlines()[2])["twice"] == 4.0  # the callbacks after it hear of it
    lines.close()
    from gradflow.training.runs.picture import run_figure

    labels = [axes.get_ylabel() for axes in run_figure(history, of.network.layers).axes]
    assert labels == ["loss", "accuracy", "weight_norm", "twice", "no"]
    assert history.plot("twice").axes[0].get_ylabel() == "twice"


def test_values_of_callbacks_are_resumed(tmp_path: Path, backend_name: str) -> None:
    alone, resumed = trainer(backend_name), trainer(backend_name)
    expected = bits(alone, fit(alone, callbacks=[Norm()]))
    with pytest.raises(BrokenOffError):
        fit(trainer(backend_name), tmp_path, checkpoint=gf.Checkpoint(every_steps=7), callbacks=[Norm(), Dies(3)])
    assert bits(resumed, fit(resumed, resume=tmp_path, callbacks=[Norm()])) == expected
    assert "weight_norm" in expected[1]


def test_a_resumed_run_needs_the_callbacks_of_its_values(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, epochs=2, checkpoint=gf.Checkpoint(), callbacks=[Norm()])
    with pytest.raises(gf.DataError, match="no callback returned a value for 'weight_norm' after epoch 3"):
        fit(trainer("numpy"), epochs=4, resume=tmp_path)
    resumed = trainer("numpy")
    assert len(fit(resumed, epochs=4, resume=tmp_path, callbacks=[Norm()])["weight_norm"]) == 4


def test_repeat_compares_the_values_of_callbacks(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, epochs=2, callbacks=[Norm()])
    assert gf.repeat(tmp_path, X, LABELS, callbacks=[Norm()]).is_same
    assert not gf.repeat(tmp_path, X, LABELS).is_same


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": 1.0}, "returned a value 'loss', but the history has one already"),
        ({"learning_rate": 1.0}, "returned a value 'learning_rate', but the history has one already"),
        ({"epoch": 1.0}, "returned a value 'epoch', but the history has one already"),
        ({"mine": 1.0}, "returned a value 'mine', but the history has one already"),
        ({"val_loss": 1.0}, "without 'val_' in front, got 'val_loss'"),
        ({"a/b": 1.0}, "without '/'"),
        ({"": 1.0}, "name its values by texts"),
        ({3: 1.0}, "name its values by texts"),
        ({"a": "high"}, "the value 'a' of on_epoch_end of callback Returns must be a number, got 'high'"),
        ({"a": None}, "must be a number, got None"),
        ({"a": np.zeros(2)}, "must be a number"),
        (1.0, "must return None or a dict of values by name, got 1.0"),
        ([("a", 1)], "must return None or a dict"),
    ],
    ids=str,
)
def test_values_that_cannot_be_in_the_history_are_refused(values: Any, said: str, tmp_path: Path) -> None:
    mine = Returns(lambda epoch: {"mine": 0.0})
    of = trainer("numpy", rule="cosine")
    with pytest.raises(gf.DataError, match=said):
        fit(of, callbacks=[mine, Returns(lambda epoch: values)])
    assert of.history is not None
    assert of.history.stopped_by == "error"
    of.history.to_csv(tmp_path / "history.csv")  # which needs as many values of each name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (lambda epoch: {"a": 1.0} if epoch == 1 else None, "no callback returned a value for 'a' after epoch 2"),
        (lambda epoch: {"a": 1.0} | ({"b": 2.0} if epoch == 2 else {}), "'b' that it did not return after the first"),
    ],
)
def test_the_names_of_values_stay_the_same(values: Callable[[int], Any], said: str, tmp_path: Path) -> None:
    of = trainer("numpy")
    with pytest.raises(gf.DataError, match=said):
        fit(of, callbacks=[Returns(values)])
    assert of.history is not None
    assert {len(of.history[name]) for name in of.history} == {2}
    of.history.to_csv(tmp_path / "history.csv")


def test_a_callback_that_raises_leaves_a_complete_history() -> None:
    of = trainer("numpy")
    with pytest.raises(BrokenOffError):
        fit(of, callbacks=[Norm(), Dies(2), Returns(lambda epoch: {"late": 1.0})])
    assert of.history is not None
    assert {name: len(of.history[name]) for name in of.history} == dict.fromkeys(
        ("loss", "accuracy", "weight_norm", "late"), 2
    )
    assert np.isnan(of.history["late"][1])


# -- the end ----------------------------------------------------------------------------------------------------------


class Ends(gf.Callback):
    """Notes why the training ended."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def on_fit_end(self, trainer: gf.Trainer, history: gf.History) -> None:
        self.reasons.append(history.stopped_by)


class FailsToBegin(gf.Callback):
    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        raise BrokenOffError


def test_callbacks_hear_of_an_error() -> None:
    ends = Ends()
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), callbacks=[ends, Dies(2)])
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), callbacks=[ends, Steps(1, 3, raise_)])
    fit(trainer("numpy"), callbacks=[ends])
    assert ends.reasons == ["error", "error", "epochs"]


def test_a_callback_that_cannot_begin_ends_those_that_have_begun() -> None:
    begun, other = Ends(), Ends()
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), callbacks=[begun, FailsToBegin(), other])
    assert (begun.reasons, other.reasons) == (["error"], [])


def test_a_stop_from_another_thread_waits_for_the_epoch() -> None:
    def in_a_thread(of: gf.Trainer) -> None:
        thread = threading.Thread(target=of.stop)
        thread.start()
        thread.join()

    class AtBegin(gf.Callback):
        def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
            in_a_thread(trainer)

    heard = Steps()
    history = fit(trainer("numpy"), callbacks=[AtBegin(), heard])
    assert (history.stopped_by, history.epochs, len(heard.heard)) == ("callback", 1, STEPS)
