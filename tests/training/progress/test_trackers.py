"""TensorBoard and MLflow, read back by their own packages."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.progress import trackers
from tests.training.runs.test_resume import LABELS, BrokenOffError, Dies, X, fit, trainer
from tests.training.test_signals import AfterEpoch, ctrl_c

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*loader strategy", "ignore::FutureWarning"
)


class Norm(gf.Callback):
    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> dict[str, float]:
        return {"norm of weights, größer": float(epoch)}


# -- TensorBoard ------------------------------------------------------------------------------------------------------


def events(folder: Path) -> Any:
    """Return what TensorBoard itself reads in a folder."""
    pytest.importorskip("tensorboardX")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulators.EventAccumulator(str(folder))
    read.Reload()
    return read


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(name)]


def by_epoch(values: list[float]) -> list[tuple[int, float]]:
    return [(epoch, np.float32(value)) for epoch, value in enumerate(values, start=1)]  # type: ignore[misc]


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("tensorboardX")


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_shows_values_and_settings(tmp_path: Path) -> None:
    of = trainer("numpy", layer_statistics=True)
    history = fit(
        of, callbacks=[Norm(), gf.TensorBoard(tmp_path, every_steps=3)], validation_data=(X[:20], LABELS[:20])
    )
    assert scalars(tmp_path, "loss/training") == by_epoch(history["loss"])
    assert scalars(tmp_path, "loss/validation") == by_epoch(history["val_loss"])
    assert scalars(tmp_path, "accuracy/validation") == by_epoch(history["val_accuracy"])
    assert scalars(tmp_path, "norm_of_weights__größer/training") == by_epoch([1, 2, 3, 4])
    assert scalars(tmp_path, "dead/1") == by_epoch(history["dead/1"])
    assert [step for step, _ in scalars(tmp_path / "steps", "loss/steps")] == [3, 6, 9, 12, 15, 18]
    read = events(tmp_path)
    (text,) = read.Tensors("settings/text_summary")
    settings = json.loads(text.tensor_proto.string_val[0].decode().strip("`\n"))
    assert (settings["optimizer"]["name"], settings["batch_size"], settings["epochs"]) == ("adam", 16, 4)
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    start = plugin.HParamsPluginData.FromString(
        read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    hparams = start.session_start_info.hparams
    assert hparams["optimizer.learning_rate"].number_value == pytest.approx(0.01)
    assert hparams["stopped_by"].string_value == "epochs"


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_replaces_the_epochs_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    board = gf.TensorBoard(tmp_path / "board", every_steps=1)
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint(every_epochs=2), callbacks=[board, Dies(3)])
    assert [step for step, _ in scalars(tmp_path / "board", "loss/training")] == [1, 2, 3]
    resumed = fit(trainer("numpy"), resume=folder, callbacks=[gf.TensorBoard(tmp_path / "board", every_steps=1)])
    assert scalars(tmp_path / "board", "loss/training") == by_epoch(resumed["loss"])
    assert [step for step, _ in scalars(tmp_path / "board" / "steps", "loss/steps")] == list(range(1, 21))


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize("end", ["interrupted", "error", "diverged"])
def test_tensorboard_is_closed_whatever_ends_the_run(end: str, tmp_path: Path) -> None:
    board = gf.TensorBoard(tmp_path)
    of = trainer("numpy") if end != "diverged" else gf.Trainer(
        gf.MLP([6, 9, 3], seed=3, backend="numpy"), "mean_squared_error", gf.SGD(1e30)
    )  # fmt: skip
    y = LABELS if end != "diverged" else np.eye(3)[LABELS]
    action = {"interrupted": [AfterEpoch(2, ctrl_c)], "error": [Dies(2)], "diverged": []}[end]
    expected = {"interrupted": KeyboardInterrupt, "error": BrokenOffError, "diverged": gf.DivergedError}[end]
    with pytest.raises(expected):
        of.fit(X, y, epochs=4, batch_size=16, callbacks=[board, *action])
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    metadata = events(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    hparams = plugin.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert hparams["stopped_by"].string_value == end
    fit(trainer("numpy"), epochs=1, callbacks=[board])  # it can be used again


@pytest.mark.usefixtures("tensorboard")
def test_each_run_has_its_own_board(tmp_path: Path) -> None:
    shared = gf.TensorBoard(tmp_path)
    for threads in (1, 2):  # members that run after each other would mix their values in its files too
        with pytest.raises(gf.DataError, match=r"members 0 and 1 share a TensorBoard.*give each member its own"):
            gf.Pack([trainer("numpy"), trainer("numpy")]).fit(
                X, LABELS, epochs=3, threads=threads, callbacks=[shared], progress=False
            )
    with pytest.raises(gf.DataError, match="belongs to another run; give each run its own"):
        fit(trainer("numpy"), callbacks=[AfterEpoch(1, lambda: fit(trainer("numpy"), callbacks=[shared])), shared])
    boards = gf.Each([[gf.TensorBoard(tmp_path / str(place))] for place in range(2)])
    gf.Pack([trainer("numpy"), trainer("numpy")]).fit(X, LABELS, epochs=2, callbacks=boards, progress=False)
    assert [len(scalars(tmp_path / str(place), "loss/training")) for place in range(2)] == [2, 2]


# -- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store in a file. Making its tables takes seconds."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


def read(store: str, run_id: str | None) -> tuple[Any, Any]:
    """Return a client, and the run that it reads."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    return client, client.get_run(str(run_id))


def test_mlflow_keeps_values_and_settings(store: str) -> None:
    logger = gf.MLflow("digits", run_name="first", tracking_uri=store)
    assert logger.run_id is None
    history = fit(trainer("numpy", "cosine"), callbacks=[Norm(), logger], validation_data=(X[:20], LABELS[:20]))
    client, run = read(store, logger.run_id)
    for name in ("loss", "val_loss", "learning_rate"):
        logged = client.get_metric_history(logger.run_id, name)
        assert [(each.step, each.value) for each in logged] == list(enumerate(history[name], start=1))
    assert run.data.metrics["norm of weights_ gr__er"] == 4.0
    assert (run.info.status, run.info.run_name, run.data.tags["stopped_by"]) == ("FINISHED", "first", "epochs")
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    expected = {"batch_size": "16", "epochs": "4", "loss.name": "softmax_cross_entropy", "network.seed": "3"}
    assert expected.items() <= run.data.params.items()
    assert run.data.params["optimizer.learning_rate.name"] == "cosine"
    again = gf.MLflow("digits", tracking_uri=store)
    fit(trainer("numpy"), epochs=1, callbacks=[again])
    assert read(store, again.run_id)[1].info.experiment_id == run.info.experiment_id
    assert again.run_id != logger.run_id


def test_mlflow_continues_a_resumed_run(store: str, tmp_path: Path) -> None:
    logger = gf.MLflow(tracking_uri=store)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(), callbacks=[logger, AfterEpoch(2, ctrl_c)])
    client, run = read(store, logger.run_id)
    assert (run.info.status, run.data.tags["stopped_by"]) == ("KILLED", "interrupted")
    history = fit(trainer("numpy"), resume=tmp_path, callbacks=[gf.MLflow(run_id=logger.run_id, tracking_uri=store)])
    logged = client.get_metric_history(logger.run_id, "loss")
    assert [(each.step, each.value) for each in logged] == list(enumerate(history["loss"], start=1))
    assert read(store, logger.run_id)[1].info.status == "FINISHED"


@pytest.mark.parametrize("rate", [None, 1e30], ids=["error", "diverged"])
def test_mlflow_notes_a_failure(store: str, rate: float | None) -> None:
    logger = gf.MLflow(tracking_uri=store)
    of = trainer("numpy") if rate is None else gf.Trainer(
        gf.MLP([6, 9, 3], backend="numpy"), "mean_squared_error", gf.SGD(rate)
    )  # fmt: skip
    y, callbacks = (LABELS, [logger, Dies(2)]) if rate is None else (np.eye(3)[LABELS], [logger])
    with pytest.raises((BrokenOffError, gf.DivergedError)):
        of.fit(X, y, epochs=4, callbacks=callbacks)
    assert read(store, logger.run_id)[1].info.status == "FAILED"


def test_mlflow_uses_the_run_that_is_active(store: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(store)
    try:
        with mlflow.start_run() as active:
            logger = gf.MLflow()
            fit(trainer("numpy"), epochs=2, callbacks=[logger])
            assert logger.run_id == active.info.run_id
            assert read(store, logger.run_id)[1].info.status == "RUNNING"
        assert len(read(store, logger.run_id)[0].get_metric_history(logger.run_id, "loss")) == 2
    finally:
        mlflow.set_tracking_uri(None)


def test_training_goes_on_if_mlflow_is_gone(store: str) -> None:
    logger = gf.MLflow(tracking_uri=store)

    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("no route to host")

    def lose() -> None:
        logger._client = Gone()

    with pytest.warns(gf.TrainingWarning, match="MLflow could not log the run .*no route to host") as caught:
        history = fit(trainer("numpy"), callbacks=[AfterEpoch(2, lose), logger])
    ours = [warning for warning in caught if warning.category is gf.TrainingWarning]  # MLflow has some of its own
    assert (len(ours), history.epochs) == (1, 4)


def test_each_run_has_its_own_mlflow_run(store: str) -> None:
    shared = gf.MLflow(tracking_uri=store)
    with pytest.raises(gf.DataError, match="members 0 and 1 share a MLflow"):
        gf.Pack([trainer("numpy"), trainer("numpy")]).fit(X, LABELS, epochs=3, callbacks=[shared], progress=False)
    with pytest.raises(gf.DataError, match="belongs to another run; give each run its own"):
        fit(trainer("numpy"), callbacks=[AfterEpoch(1, lambda: fit(trainer("numpy"), callbacks=[shared])), shared])


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda folder: gf.TensorBoard(folder, 5), lambda folder: gf.MLflow("mine")])
def test_trackers_are_copied_and_pickled(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pytest.importorskip("mlflow")
    tracker = make(tmp_path)
    before = dict(vars(tracker))
    of_fit = "_writer" if "_writer" in before else "_client"
    setattr(tracker, of_fit, threading.Lock())  # what a running fit has cannot be copied
    for other in (copy.deepcopy(tracker), pickle.loads(pickle.dumps(tracker))):
        assert {name: vars(other)[name] for name in before} == before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gf.TensorBoard("runs"), r"TensorBoard's files need tensorboardX, .*pip install .*\[tensorboard\]"),
        (lambda: gf.MLflow(), r"MLflow's runs need mlflow, .*pip install .*\[mlflow\]"),
    ],
)
def test_missing_packages(make: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gf.GradflowError, match=said):
        make()


@pytest.mark.parametrize("arguments", [{"every_steps": 0}, {"every_steps": "all"}, {"folder": 3}])
def test_arguments_of_tensorboard(arguments: dict[str, Any]) -> None:
    with pytest.raises(gf.DataError):
        gf.TensorBoard(**{"folder": "runs"} | arguments)


@pytest.mark.parametrize("name", ["experiment", "run_name", "run_id", "tracking_uri"])
def test_arguments_of_mlflow(name: str) -> None:
    with pytest.raises(gf.DataError, match=f"{name} must be a string"):
        gf.MLflow(**{name: 3})  # type: ignore[arg-type]
