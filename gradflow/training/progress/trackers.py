"""Callbacks that send a run to TensorBoard or MLflow."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.checks import file_path, positive_integer, text
from gradflow.errors import DataError, GradflowError, TrainingWarning, warn
from gradflow.installation import pip_install
from gradflow.training.progress.callbacks import Callback

if TYPE_CHECKING:
    from gradflow.training.progress.history import History


class TensorBoard(Callback):
    """Writes the values of a run to event files: ``tensorboard --logdir runs`` shows all runs in a folder.

    Training and validation values share a chart, "loss/training" and "loss/validation". The settings are a text, and
    the hyperparameters that TensorBoard compares runs by. A resumed run continues in the same folder, and values of
    steps that are made again replace the earlier ones. A run has its own callback, with its own folder.

    Args:
        folder: the folder for the event files, such as that of the run.
        every_steps: also write the loss of every so many steps (`Callback.on_step_end`), in the subfolder "steps";
            None writes none.

    Raises:
        DataError: if an argument is invalid.
        GradflowError: if tensorboardX is not installed: the extra ``tensorboard`` installs it.
    """

    first_rank_only = one_run_only = True

    def __init__(self, folder: str | os.PathLike[str], every_steps: int | None = None) -> None:
        self._folder = file_path("folder", folder)
        self.every_steps = None if every_steps is None else positive_integer("every_steps", every_steps)
        _need("tensorboardX", "TensorBoard's files", "tensorboard")
        self._writer: Any = None
        self._steps: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and copies, without the files of a running fit."""
        return vars(self) | {"_writer": None, "_steps": None}

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        if self._writer is not None:
            raise DataError(f"the callback that writes to {self._folder} belongs to another run; give each run its own")
        self._settings = _settings(trainer)
        done = trainer.history.epochs
        self._writer = _event_writer(self._folder, done + 1 if done else None)
        self._writer.add_text("settings", f"```\n{json.dumps(trainer.config(), indent=2)}\n```")

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        if self._steps is None:  # steps and epochs are counted apart, and so is what a resumed run replaces
            self._steps = _event_writer(self._folder / "steps", step)
        self._steps.add_scalar("loss/steps", loss, step)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(_chart(name), value, epoch)

    def on_fit_end(self, trainer: Any, history: History) -> None:
        from tensorboardX.summary import hparams

        try:
            names = [_chart(name) for name in history if "/" not in name]
            for summary in hparams(self._settings | {"stopped_by": history.stopped_by}, dict.fromkeys(names)):
                self._writer.file_writer.add_summary(summary)
        finally:
            for writer in (self._writer, self._steps):
                if writer is not None:
                    writer.close()
            self._writer = self._steps = None


class MLflow(Callback):
    """Logs the values and settings of a run to MLflow.

    The fit is a run of MLflow: the one that is active (``mlflow.start_run()``), which stays active, or else a new one.
    It ends as "FINISHED", as "KILLED" after an interruption, and as "FAILED" after a divergence or an error. The steps
    are epochs; a resumed fit continues them, in the run with its ``run_id``.

    If the server cannot be reached any more while the network is trained, a warning says so, and training continues.
    A run has its own callback.

    Args:
        experiment: name of the experiment of a new run; it is created if necessary.
        run_name: name of the run; None lets MLflow choose.
        run_id: an existing run to log to.
        tracking_uri: where the runs are kept, such as "sqlite:///mlflow.db" or the address of a server; None is
            MLflow's setting.

    Attributes:
        run_id: the MLflow run of the last fit, or the one that was passed; None before the first.

    Raises:
        DataError: if an argument is invalid.
        GradflowError: if MLflow is not installed: the extra ``mlflow`` installs it.
    """

    first_rank_only = one_run_only = True

    def __init__(
        self,
        experiment: str = "Default",
        *,
        run_name: str | None = None,
        run_id: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        self._experiment = text("experiment", experiment)
        self._run_name = None if run_name is None else text("run_name", run_name)
        self._given = self.run_id = None if run_id is None else text("run_id", run_id)
        self._uri = None if tracking_uri is None else text("tracking_uri", tracking_uri)
        _need("mlflow", "MLflow's runs", "mlflow")
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and copies, without the connection of a running fit."""
        return vars(self) | {"_client": None}

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        import mlflow
        from mlflow.entities import Param

        if self._client is not None:
            raise DataError("this MLflow callback belongs to another run; give each run its own")
        client = mlflow.MlflowClient(tracking_uri=self._uri)
        active = mlflow.active_run() if (self._given, self._uri) == (None, None) else None
        self._is_own, self._is_lost = active is None, False
        if active is not None:
            self.run_id = active.info.run_id
        elif self._given is None:
            self.run_id = client.create_run(self._experiment_id(client), run_name=self._run_name).info.run_id
        else:
            client.update_run(self._given, status="RUNNING")
        self._client, run_id = client, str(self.run_id)
        known = client.get_run(run_id).data.params  # which cannot be changed, in a resumed run
        settings = {_key(name): str(value)[:_LONGEST] for name, value in _settings(trainer).items()}
        parameters = [Param(name, value) for name, value in settings.items() if name not in known]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            client.log_batch(run_id, params=parameters[start : start + _MOST_PARAMETERS])

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(_key(name), value, now, epoch) for name, value in values.items()]
        self._try(lambda: self._client.log_batch(self.run_id, metrics=metrics))

    def on_fit_end(self, trainer: Any, history: History) -> None:
        client, self._client = self._client, None
        status = {"interrupted": "KILLED", "diverged": "FAILED", "error": "FAILED"}.get(history.stopped_by, "FINISHED")
        self._try(lambda: client.set_tag(self.run_id, "stopped_by", history.stopped_by))
        if self._is_own:
            self._try(lambda: client.set_terminated(self.run_id, status))

    def _experiment_id(self, client: Any) -> str:
        found = client.get_experiment_by_name(self._experiment)
        return str(client.create_experiment(self._experiment) if found is None else found.experiment_id)

    def _try(self, log: Any) -> None:
        """Log something; if that fails, warn once: the training is worth more."""
        try:
            log()
        except Exception as error:
            if not self._is_lost:
                warn(
                    f"MLflow could not log the run {self.run_id}: {type(error).__name__}: {error}. Training continues",
                    TrainingWarning,
                )
            self._is_lost = True


_LONGEST = 500
"""Characters of a parameter of MLflow, in each of its stores."""
_MOST_PARAMETERS = 100
"""Parameters that MLflow takes at a time."""


def _need(module: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise GradflowError(f"{what} need {module}, which is not installed: {pip_install(extra)}")


def _settings(trainer: Any) -> dict[str, Any]:
    """Return the settings of a run, flat: "optimizer.learning_rate" and so on; None is left out."""
    network = trainer.network
    of_network = {
        "layers": ", ".join(map(repr, network.layers)),
        "parameters": network.n_parameters,
        "seed": network.seed,
        "dtype": str(network.dtype),
        "backend": network.backend.name,
    }
    return dict(_flat(trainer.config() | {"network": of_network}))


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _event_writer(folder: Path, purge_step: int | None) -> Any:
    """Return a writer of a new file; values of other files from ``purge_step`` on are replaced."""
    from tensorboardX import SummaryWriter

    # The names of files begin with the time in seconds, and a file of the same name would be overwritten.
    suffix = f".{time.time_ns()}"
    return SummaryWriter(str(folder), purge_step=purge_step, flush_secs=10, filename_suffix=suffix)


def _chart(name: str) -> str:
    """Return TensorBoard's name of a value: those of training and validation data share a chart."""
    if "/" in name:
        return name
    return f"{name.removeprefix('val_')}/{'validation' if name.startswith('val_') else 'training'}"


def _key(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
