"""`Trainer`, which trains and evaluates a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from gradflow.backends.blas import using_threads
from gradflow.checks import boolean, instance, instances, non_negative, positive_integer
from gradflow.clock import RunStatus
from gradflow.data.classes import Classes, listed
from gradflow.data.sources import Source
from gradflow.data.weights import ClassWeight, described_weight
from gradflow.distributed import World, world
from gradflow.errors import DataError, DeviceLostError, GradflowError, SlowPathWarning, warn
from gradflow.losses import Loss
from gradflow.losses.function import LossFunction
from gradflow.metrics import Metric
from gradflow.metrics.function import MetricFunction
from gradflow.network import Sequential
from gradflow.optimizers import LBFGS, Optimizer
from gradflow.output_scale import OutputScale
from gradflow.plain import plain
from gradflow.training.data.prepare import FitData, prepare_data, prepare_fit
from gradflow.training.loop import Loop, Plan, Stopping
from gradflow.training.progress.callbacks import Callback, Calls, is_own_name, may_return_values, step_interval
from gradflow.training.progress.display import progress_callback
from gradflow.training.progress.early_stopping import BestValue, EarlyStopping
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import Checkpoint
from gradflow.training.runs.ranks import SharedRunFolder, check_alike, one_voice
from gradflow.training.runs.run_folder import RunFolder, described_run, run_path
from gradflow.training.signals import Interruption
from gradflow.training.step.epoch import Pass
from gradflow.training.step.evaluation import evaluation
from gradflow.training.step.objective import Objective
from gradflow.training.step.optimizer_state import OptimizerState
from gradflow.training.step.precision import make_precision

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _alone(
    method: Callable[Concatenate[Trainer, _Arguments], _Result],
) -> Callable[Concatenate[Trainer, _Arguments], _Result]:
    """Give a method of `Trainer` exclusive use of the network while it runs."""

    @wraps(method)
    def run(trainer: Trainer, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with trainer.network.access.training(), trainer.network.backend.current():
            return method(trainer, *args, **kwargs)

    return run


def _warn_of_unused_gpu(network: Sequential, rows: int) -> None:
    if network._is_worth_a_gpu(rows):
        warn(
            f"steps on {rows:,} rows may be faster on the GPU; the network is on the CPU, where its steps on few rows "
            "are faster. Make it with backend='cupy', or with backend='numpy' if that is intended",
            SlowPathWarning,
        )


def _check_steps(optimizer: Optimizer, callbacks: Sequence[Callback]) -> None:
    """Raise if callbacks expect steps that an optimizer does not take, or their intervals are invalid."""
    with_steps = [callback for callback in callbacks if step_interval(callback) is not None]
    if with_steps and isinstance(optimizer, LBFGS):
        raise DataError(
            f"callback {type(with_steps[0]).__name__} has on_step_end, but L-BFGS takes no steps that could be "
            "counted; set every_steps = None, and use on_epoch_end"
        )


class PreparedFit(NamedTuple):
    """A call of `Trainer.fit` whose arguments have been validated.

    Attributes:
        plan: the data, their batches, and the ranks that share them.
        scale: the scale of the targets.
        stopping: when to stop.
        callbacks: the callbacks.
        folder: the folder of the run; None if it has none.
        is_resumed: True if the run in the folder continues.
        checkpoint: when to save.
        run: the description of the run, for its folder.
        settings: the arguments of `fit`, as a run folder keeps them.
    """

    plan: Plan
    scale: OutputScale | None
    stopping: Stopping
    callbacks: Sequence[Callback]
    folder: RunFolder | None
    is_resumed: bool
    checkpoint: Checkpoint | None
    run: dict[str, Any]
    settings: dict[str, Any]


def _check_same_numbers(classes: Classes | None) -> None:
    """Raise if these class names stand for other outputs than the class numbers of earlier data."""
    if classes is not None and list(classes) != list(range(len(classes))):
        raise DataError(
            f"y holds class names, {listed(classes)}, but earlier calls had class numbers, the outputs of which would "
            "get another meaning. Name all classes before the first call: network.classes = [...]"
        )


class Trainer:
    """Trains a network on a loss with an optimizer.

    The objective is the loss plus l2 / 2 · Σ weight² + l1 · Σ |weight| (biases excluded); the history reports the loss
    alone.

    Args:
        network: the network; it is trained in place.
        loss: a loss, such as `gradflow.HuberLoss(delta=2.0)`, or its name for the default settings, such as
            "mean_squared_error" (docs/catalogue.md lists them). The cross-entropies take logits, and fold in a trailing
            Sigmoid() or Softmax(). Or a function ``(outputs, targets) -> (losses, d_outputs)`` on arrays of NumPy, or
            of CuPy on a GPU, which is called at every step (docs/extending.md).
        optimizer: an optimizer, such as `gradflow.Adam()`, or its name for the default settings.
        metrics: metrics that `fit` and `evaluate` compute in addition to the loss and its accuracy: names such as "f1",
            "roc_auc", "top_3_accuracy", "r2", `gradflow.metrics` objects, or functions ``(predictions, targets) ->
            float``, also those of scikit-learn. Each is exact over all rows of an epoch.
        l2: coefficient of the L2 penalty, at least 0. (For decoupled weight decay, use `AdamW`.)
        l1: coefficient of the L1 penalty, at least 0. It drives weights that the data do not need toward 0.
        average: decay of a moving average of the weights, a = average · a + (1 - average) · weights after each step;
            0.999 looks back about a thousand steps. The average is used for validation and the best weights, and the
            network holds it after `fit`; training itself continues on the raw weights. None keeps no average.
        standardize_targets: train a regression on targets with mean 0 and standard deviation 1 in each column, computed
            from the training data of the first `fit`. The network keeps the scale: `predict` undoes it, and it is saved
            with the model. The loss is that of the standardized targets.
        clamp_predictions: clamp predictions of a regression, in each column, to the range of the targets of all fits so
            far, without rows of weight 0. Evaluation and validation see clamped predictions too, but training does not.
            The limits are saved with the model (`Sequential.output_scale`).
        clip_norm: scale the whole gradient, penalties included, by min(1, clip_norm / ‖gradient‖₂); None disables it.
        clip_value: clip each entry of the gradient, penalties included, to ±clip_value; None disables it.
        precision: precision of training and evaluation on a GPU, and then of prediction (`Sequential.precision`).
            "float32"; "tf32", which rounds the factors of matmuls to 10 mantissa bits; "bfloat16" or "float16", with
            activations and their gradients in 16 bits, and weights, optimizer state, outputs and loss in float32
            (float16 scales the loss by an adaptive factor).
        threads: maximum number of threads for gradflow's kernels, which use fewer where that is faster, and for the
            BLAS, in the whole process, while `fit` runs; the previous setting is restored afterwards. None leaves it
            unchanged.
        layer_statistics: measure for each layer the norm of its gradient, the relative change of its weights, and the
            fraction of dead or saturated units, in the last full batch of an epoch: "gradient_norm/0", "dead/1" and so
            on in the history (docs/metrics.md has the formulas). Measured steps are at least 20 steps apart; epochs in
            between repeat the values.
        steps_per_launch: number of steps per GPU launch, at least 1. More save time with small networks, but Ctrl-C
            waits for all steps of a launch. The results are the same bits; the CPU backends ignore it.

    Attributes:
        objective: the network, the loss, the optimizer and all settings above in one record; ``trainer.l2`` is
            ``trainer.objective.l2``, and so on. They cannot be changed.
        history: measurements of the last `fit`, even if it raised an error or was interrupted; None before the first.
        optimizer_state: what the optimizer has gathered in the last `fit` or `partial_fit`, with which `partial_fit`
            continues; None begins afresh. It may be set to that of another trainer of the network.

    Raises:
        DataError: for unknown names, numbers out of range, a last layer that does not match the loss, or a network or
            layer that cannot be trained in the precision.
        BackendError: if the network's backend does not support the precision.
    """

    def __init__(
        self,
        network: Sequential,
        loss: str | Loss | LossFunction,
        optimizer: str | Optimizer,
        *,
        metrics: Sequence[str | Metric | MetricFunction] = (),
        l2: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        average: float | None = None,
        standardize_targets: bool = False,
        clamp_predictions: bool = False,
        precision: str = "float32",
        threads: int | None = None,
        layer_statistics: bool = False,
        steps_per_launch: int = 1,
    ) -> None:
        self.objective = Objective.checked(
            network,
            loss,
            optimizer,
            metrics=metrics,
            l2=l2,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            average=average,
            standardize_targets=standardize_targets,
            clamp_predictions=clamp_predictions,
            precision=precision,
            threads=threads,
            layer_statistics=layer_statistics,
            steps_per_launch=steps_per_launch,
        )
        self.history: History | None = None
        self.optimizer_state: OptimizerState | None = None
        self._loop: Loop | None = None
        self._fit_settings: dict[str, Any] = {}

    def config(self) -> dict[str, Any]:
        """Return loss, optimizer and settings, with the arguments of the last `fit`, as numbers, texts and lists or
        dicts of them."""
        described: dict[str, Any] = plain("settings", self.objective.config() | self._fit_settings)
        return described

    @property
    def network(self) -> Sequential:
        """The network."""
        return self.objective.network

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.objective.loss

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self.objective.optimizer

    def __getattr__(self, name: str) -> Any:
        if name not in Objective.settings():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.objective, name)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and ``copy.deepcopy``, without a fit that is running."""
        return vars(self) | {"_loop": None}

    def __repr__(self) -> str:
        return f"Trainer({self.network!r}, {self.loss!r}, {self.optimizer!r})"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Objective._fields or (name == "objective" and name in vars(self)):
            raise GradflowError(
                f"the {name} of a trainer cannot be changed; create a new one: Trainer(..., {name}=...)"
            )
        super().__setattr__(name, value)

    @_alone
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int | None = 32,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        validation_data: tuple[Any, ...] | Source | None = None,
        validation_fraction: float | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        accumulate: int = 1,
        early_stopping: EarlyStopping | None = None,
        tolerance: float | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool | str = "auto",
        output: str | os.PathLike[str] | None = None,
        checkpoint: Checkpoint | None = None,
        resume: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> History:
        """Train for up to ``epochs`` epochs.

        Calling `fit` again continues from the current weights, with a fresh optimizer state, new shuffles and new
        dropout masks. Ctrl-C and SIGTERM end the training after the current step. All work so far is then kept in the
        network, in ``output`` and in `history`, which says ``stopped_by == "interrupted"``. After that, the signal has
        its usual effect: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process. A second signal acts at once.

        Args:
            x: inputs, shape (rows, n_in): an array; a pandas, polars or pyarrow table, or a dict of columns, whose
                names the network keeps (`Sequential.feature_names`); or a source, such as `gradflow.data.Parquet`,
                which is read batch by batch. Memory-mapped arrays (``np.load(path, mmap_mode="r")``) are also read
                batch by batch, as are arrays that do not fit on the GPU. A bad row in a stream ends the training; the
                steps before it have been made.
            y: targets, in the shape that the loss takes, or class names (`Sequential.classes`); None with a source,
                which contains them.
            epochs: maximum number of epochs, at least 1.
            batch_size: rows per step; None, or more than there are rows, makes one batch of all data.
            sample_weight: weight of each row in the loss, gradient and metrics, shape (rows,), at least 0; only ratios
                matter. The loss is the weighted mean over all rows.
            class_weight: weight of each class, as a dict by class (1 for omitted classes), or "balanced" for weights
                that give all classes the same total. It multiplies the sample weight, on validation data too.
            validation_data: ``(x, y)``, ``(x, y, sample_weight)`` or a source, on which "val_loss" and the other
                values are measured after each epoch.
            validation_fraction: hold out this fraction of the rows as validation data, at random by the seed of the
                network, and in proportion of the classes if the targets are class labels; the rows are the same in each
                call. For groups or times, split the data yourself (`gradflow.data.split`).
            shuffle: shuffle the rows in each epoch; otherwise batches come in row order.
            drop_last: leave out the rows after the last full batch (different ones in each epoch, if shuffled). Weights
                still have mean 1 over all rows, so that each step is the same as without ``drop_last``; loss, accuracy
                and metrics of an epoch are weighted means over the rows that it used.
            accumulate: process each batch in this many parts, one after the other in the same memory, and add up their
                gradients: for batches larger than memory. The result is that of the whole batch, up to rounding (and
                dropout masks).
            early_stopping: stop on a value of the history, and restore the weights of its best epoch.
            tolerance: stop once the loss has not fallen by more than this below its best for 10 epochs.
            callbacks: objects whose methods are called during training.
            progress: True shows progress, False does not; "auto" shows it on a terminal and in a notebook.
            output: a folder for model.safetensors, config.json, history.csv and, with matplotlib, curves.png. If it
                already holds files with these names, or checkpoints, they are replaced only if ``overwrite`` is True.
            checkpoint: when to save the run to ``output``/checkpoints, so that it can be resumed.
            resume: the folder of a run with checkpoints. Training resumes after the last one. The result is bit for bit
                that of an uninterrupted run, on the same backend and number of threads; another backend uses the same
                shuffles and masks. Network, data and all arguments that affect the results must be the same;
                ``epochs`` may differ if the learning rate is constant.
            overwrite: True replaces the run in ``output``. The old run stays until the first checkpoint of the new run,
                or its complete results, are on disk.

        Raises:
            DataError: if data or arguments are invalid; nothing has been changed.
            BackendError: if ``threads`` was given but cannot be set for the backend's BLAS, or GPU memory ran out.
            GradflowError: if the network is already being trained, in another thread or by the caller of a callback.
            DeviceLostError: if a GPU error requires a restart of the process.
            DivergedError: if the loss or a weight became NaN or infinite; the network then holds its best weights.
            KeyboardInterrupt: after Ctrl-C.
            FileFormatError: if there are checkpoints, but all are damaged, or the last is from a newer version.
            OSError: if ``output`` cannot be written to, before training begins.
        """
        ranks = world().on(self.network.backend)
        with ranks.together(), one_voice(ranks):
            data = prepare_fit(
                self.network,
                self.loss,
                x,
                y,
                sample_weight=sample_weight,
                class_weight=class_weight,
                validation_data=validation_data,
                validation_fraction=validation_fraction,
                standardize_targets=self.objective.standardize_targets,
                clamp_predictions=self.objective.clamp_predictions,
            )
            prepared = self._prepared(
                data,
                epochs=epochs,
                batch_size=batch_size,
                class_weight=class_weight,
                validation_fraction=validation_fraction,
                shuffle=shuffle,
                drop_last=drop_last,
                accumulate=accumulate,
                early_stopping=early_stopping,
                tolerance=tolerance,
                callbacks=instances("callbacks", callbacks, Callback, "gradflow.Callback objects"),
                progress=progress,
                output=output,
                checkpoint=checkpoint,
                resume=resume,
                overwrite=overwrite,
                ranks=ranks,
            )
        with Interruption() as interruption, using_threads(self.network.backend.blas, self._threads(ranks)):
            return self._finished(ranks, interruption, self._epochs(prepared, interruption))

    def _prepared(
        self,
        data: FitData,
        *,
        epochs: int,
        batch_size: int | None,
        class_weight: ClassWeight | None,
        validation_fraction: float | None,
        shuffle: bool,
        drop_last: bool,
        accumulate: int,
        early_stopping: EarlyStopping | None,
        tolerance: float | None,
        callbacks: Sequence[Callback],
        progress: bool | str,
        output: str | os.PathLike[str] | None,
        checkpoint: Checkpoint | None,
        resume: str | os.PathLike[str] | None,
        overwrite: bool,
        ranks: World | None = None,
    ) -> PreparedFit:
        """Validate the other arguments of `fit`; nothing is changed."""
        objective, training, ranks = self.objective, data.training, ranks or World()
        epochs = positive_integer("epochs", epochs)
        shuffle, drop_last = boolean("shuffle", shuffle), boolean("drop_last", drop_last)
        size = len(training) if batch_size is None else min(positive_integer("batch_size", batch_size), len(training))
        rows = len(training) - len(training) % size if drop_last else len(training)
        parts = positive_integer("accumulate", accumulate)
        plan = Plan(epochs, training, data.validation, rows, size, parts, shuffle, ranks)
        plan.check(objective)
        _check_steps(objective.optimizer, callbacks)
        _warn_of_unused_gpu(self.network, size)
        best = self._best_value(early_stopping, callbacks, has_validation=data.validation is not None)
        convergence = None if tolerance is None else BestValue("loss", non_negative("tolerance", tolerance))
        stopping = Stopping(best, convergence, early_stopping)
        callbacks = [*callbacks, *progress_callback(progress)]
        overwrite = boolean("overwrite", overwrite)
        settings = {
            "epochs": epochs,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "accumulate": accumulate,
            "early_stopping": early_stopping and early_stopping.config(),
            "tolerance": tolerance,
            "validation_fraction": validation_fraction,
            "weighted": training.is_weighted,
            "class_weight": described_weight(class_weight, training.classes),
        }
        run: dict[str, Any] = {}
        folder = None
        if (path := run_path(output, resume, checkpoint, overwrite=overwrite)) is not None or ranks.size > 1:
            run = described_run(objective, settings, training, data.validation)
            if ranks.size > 1:
                of_folder: dict[str, Any] = {
                    "folder": path and str(path),
                    "resume": resume is not None,
                    "overwrite": overwrite,
                }
                of_folder["checkpoint"] = checkpoint and checkpoint.config()
                of_steps = [every for callback in callbacks if (every := step_interval(callback)) is not None]
                check_alike(ranks, self.network, run | of_folder | {"every_steps of callbacks": of_steps})
            if path is not None:
                objective.check_functions()
                how = {"is_resumed": resume is not None, "overwrite": overwrite}
                folder = RunFolder(path, **how) if ranks.size == 1 else SharedRunFolder(path, **how, world=ranks)
        plan = plan.within_memory(objective)
        return PreparedFit(plan, data.scale, stopping, callbacks, folder, resume is not None, checkpoint, run, settings)

    def _epochs(
        self, fit: PreparedFit, interruption: Interruption, *, hands_out: bool = False
    ) -> Generator[Pass, None, None]:
        """Run a fit; the iterator yields what `Loop.epochs` does.

        The network must belong to this thread, which decides on the number of threads too.
        """
        self._fit_settings = fit.settings
        with fit.folder or nullcontext() as folder:
            run = fit.run
            resumed = folder.resume(run) if folder is not None and fit.is_resumed else None
            if resumed is not None:
                run = run | {"initial_state": resumed.record["run"]["initial_state"]}
            checkpoints = None if folder is None else folder.checkpoints(fit.checkpoint, run, resumed)
            loop = Loop(
                self.objective,
                fit.plan,
                *fit.stopping,
                Calls(fit.callbacks, self, fit.plan.world.rank),
                checkpoints,
                resumed,
                interruption,
            )
            yield from self._epochs_of(loop, fit.scale, folder, run, hands_out=hands_out)

    @_alone
    def partial_fit(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int | None = 32,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        shuffle: bool = True,
    ) -> dict[str, float]:
        """Train for one pass over more data, for data that arrive bit by bit; return its loss, accuracy and metrics.

        Unlike `fit`, it continues with the optimizer's state after the last `fit` or `partial_fit`: velocities, moments
        and the number of steps. ``fit(..., epochs=1)`` and further calls of ``partial_fit`` on the same data are
        ``fit(..., epochs=n)``. Arguments, signals and errors are those of `fit`, with two additions.

        Raises:
            DataError: if the learning rate or another number is scheduled, weights are averaged, or the optimizer is
                L-BFGS, which need to know when training begins and ends; or if class names follow class numbers.
        """
        objective = self.objective
        needs = (
            objective.optimizer if isinstance(objective.optimizer, LBFGS) else next(iter(objective.schedules()), None)
        )
        if needs is not None:
            raise DataError(
                f"partial_fit does not know when training ends, as {needs!r} must; use constant numbers, or fit"
            )
        if objective.average is not None:
            raise DataError("partial_fit does not know when training ends, so it keeps no average; omit average=")
        ranks = world().on(self.network.backend)
        with ranks.together(), one_voice(ranks):
            data, _, scale = prepare_fit(
                self.network,
                self.loss,
                x,
                y,
                sample_weight=sample_weight,
                class_weight=class_weight,
                standardize_targets=objective.standardize_targets,
                clamp_predictions=objective.clamp_predictions,
            )
            if self.optimizer_state is not None and self.network.classes is None:
                _check_same_numbers(data.classes)
            size = len(data) if batch_size is None else min(positive_integer("batch_size", batch_size), len(data))
            plan = Plan(1, data, None, len(data), size, 1, boolean("shuffle", shuffle), ranks)
            plan.check(objective)
            if ranks.size > 1:
                state = self.optimizer_state
                settings = {"batch_size": size, "shuffle": shuffle, "steps": 0 if state is None else state.steps}
                check_alike(ranks, self.network, described_run(objective, settings, data, None))
            plan = plan.within_memory(objective)
        with Interruption() as interruption, using_threads(self.network.backend.blas, self._threads(ranks)):
            stopping, state = (BestValue("loss"), None, None), self.optimizer_state
            loop = Loop(objective, plan, *stopping, Calls([], self), None, None, interruption, state)
            history = self._finished(ranks, interruption, self._epochs_of(loop, scale, None, {}))
        return {name: history[name][-1] for name in history}

    def _threads(self, ranks: World) -> int | None:
        """Return the number of threads to set for the BLAS; None leaves it as it is."""
        blas = self.network.backend.blas
        if self.objective.threads is not None or ranks.threads is None or blas is None or blas.threads is None:
            return self.objective.threads
        return min(ranks.threads, blas.threads)

    def _finished(self, ranks: World, interruption: Interruption, epochs: Generator[Pass, None, None]) -> History:
        """Run all epochs; return their history."""
        with ranks.together() as ending, one_voice(ranks):
            for _ in epochs:
                pass
            ending.is_interrupted = interruption.requested
        assert self.history is not None
        return self.history

    def _epochs_of(
        self,
        loop: Loop,
        scale: OutputScale | None,
        folder: RunFolder | None,
        run: dict[str, Any],
        *,
        hands_out: bool = False,
    ) -> Generator[Pass, None, None]:
        """Run the loop, and write the results, described by ``run``, to the folder, if there is one."""
        self._loop, self.history = loop, loop.history
        try:
            with loop.memory():
                yield from loop.epochs(scale, hands_out=hands_out)
                self.optimizer_state = loop.optimizer_state()
        except DeviceLostError as error:
            saved = "No weights were saved"
            if folder is not None and (files := folder.saved()):
                saved = f"The last saved weights are in {files[-1]}"
            raise DeviceLostError(f"{error}. {saved}") from error
        finally:
            self._loop = None
        if folder is not None:
            folder.write(self.network, run, loop.history)
        if loop.diverged is not None:
            raise loop.diverged

    def evaluate(
        self, x: Any, y: Any = None, *, sample_weight: Any = None, class_weight: ClassWeight | None = None
    ) -> dict[str, float]:
        """Measure the "loss", without penalties, the "accuracy" if the loss has one, and all metrics.

        The inputs x have shape (rows, n_in). As in `fit`, x may be a source that contains the targets, and rows and
        classes may have weights.

        Raises:
            DataError: if shapes, dtypes or values are invalid.
        """
        network = self.network
        with network.backend.current():
            data = prepare_data(
                network,
                self.loss,
                x,
                y,
                sample_weight=sample_weight,
                class_weight=class_weight,
                scale=network.output_scale,
            )
        status = RunStatus(network.backend)
        with network.inferring():
            precision = make_precision(self.objective.precision, network)
            if precision is not None:
                precision.refresh()
            evaluating = evaluation(self.objective, data, status.training, precision)
            evaluating.run()
        return evaluating.values(status.read().training)

    def stop(self) -> None:
        """Stop training after the current epoch, or in `Callback.on_step_end` after that step; for use in callbacks."""
        if self._loop is not None:
            self._loop.stop_requested = True

    def _best_value(
        self, early_stopping: EarlyStopping | None, callbacks: Sequence[Callback], *, has_validation: bool
    ) -> BestValue:
        """Return the value that decides which weights are best."""
        if early_stopping is None:
            return BestValue("val_loss" if has_validation else "loss")
        stopping = instance("early_stopping", early_stopping, EarlyStopping, "a gradflow.EarlyStopping")
        names = self.objective.value_names(has_validation=has_validation)
        may_be_own = is_own_name(stopping.monitor) and any(map(may_return_values, callbacks))
        if stopping.monitor not in names and not may_be_own:
            hint = "; pass validation_data for values on data that is held out"
            if has_validation or not early_stopping.monitor.startswith("val_"):
                hint = "; metrics= of the trainer adds more, and so does a callback's on_epoch_end that returns values"
            raise DataError(
                f"early stopping cannot monitor {early_stopping.monitor!r}; valid names: {', '.join(names)}{hint}"
            )
        return BestValue(stopping.monitor, stopping.min_delta, stopping.ties, stopping.larger_is_better)
