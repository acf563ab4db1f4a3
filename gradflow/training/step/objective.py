"""`Objective`: network, loss and optimizer of a training, and every setting of a `Trainer`, in one record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import boolean, fraction, instance, non_negative, positive, positive_integer, sequence
from gradflow.errors import DataError
from gradflow.layers import Increasing, Layer, MeanOfMembers
from gradflow.layers.members import averaging
from gradflow.layers.stack import with_inner
from gradflow.losses import Loss, QuantileLoss, get_loss
from gradflow.losses.function import FunctionLoss
from gradflow.metrics import Kind, Metric, Task, get_metrics
from gradflow.metrics.function import FunctionMetric
from gradflow.names import function_at, import_path
from gradflow.network import Sequential
from gradflow.optimizers import Optimizer, get_optimizer
from gradflow.precision import check_precision
from gradflow.schedules import ConstantSchedule, Schedule, schedules_of
from gradflow.training.step.learning_rates import ScheduledValue


class Objective(NamedTuple):
    """A network, a loss and an optimizer, with the settings of `Trainer`, which documents them.

    `checked` validates them; the constructor takes valid ones.
    """

    network: Sequential
    loss: Loss
    optimizer: Optimizer
    metrics: Sequence[Metric] = ()
    l2: float = 0.0
    l1: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    average: float | None = None
    standardize_targets: bool = False
    clamp_predictions: bool = False
    precision: str = "float32"
    threads: int | None = None
    layer_statistics: bool = False
    steps_per_launch: int = 1

    @classmethod
    def checked(cls, network: Any, loss: Any, optimizer: Any, **settings: Any) -> Objective:
        """Return the objective of these arguments of `Trainer`.

        Raises:
            DataError: for unknown names, numbers out of range, a last layer that does not match the loss, or a network
                or layer that cannot be trained in the precision.
            BackendError: if the network's backend does not support the precision.
        """
        instance("network", network, Sequential, "a gradflow network")
        given = cls(network, get_loss(loss), get_optimizer(optimizer), **settings)
        checked = given._replace(
            metrics=_checked_metrics(given),
            l2=non_negative("l2", given.l2),
            l1=non_negative("l1", given.l1),
            clip_norm=None if given.clip_norm is None else positive("clip_norm", given.clip_norm),
            clip_value=None if given.clip_value is None else positive("clip_value", given.clip_value),
            average=None if given.average is None else fraction("average", given.average),
            standardize_targets=boolean("standardize_targets", given.standardize_targets),
            clamp_predictions=boolean("clamp_predictions", given.clamp_predictions),
            precision=check_precision(given.precision, network.backend, network.dtype, network.layers),
            threads=None if given.threads is None else positive_integer("threads", given.threads),
            layer_statistics=boolean("layer_statistics", given.layer_statistics),
            steps_per_launch=positive_integer("steps_per_launch", given.steps_per_launch),
        )
        if checked.clip_norm is not None and checked.clip_value is not None:
            raise DataError(
                "pass either clip_norm or clip_value, not both; clip_norm preserves the gradient's direction"
            )
        _check_increasing(checked.loss, layers_before_loss(checked.loss, network))
        checked.optimizer.segments(network.layers, network.parameter_ranges)
        return checked

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Return the names of the settings, which have defaults."""
        return tuple(cls._field_defaults)

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers before the loss (`layers_before_loss`)."""
        return layers_before_loss(self.loss, self.network)

    def task(self, rows: int) -> Task:
        """Return the prediction task of epochs of up to ``rows`` rows, for metrics."""
        network = self.network
        scale = network.output_scale
        std = np.ones(network.n_out) if scale is None else np.array(scale.std)
        mean = np.zeros(network.n_out) if scale is None else np.array(scale.mean)
        return Task(task_kind(self.loss, network.n_out), network.backend, network.n_out, rows, network.dtype, std, mean)

    def value_names(self, *, has_validation: bool) -> list[str]:
        """Return the names of the values in the history, besides learning rates and layer statistics."""
        names = ["loss", *(["accuracy"] if self.loss.has_accuracy else []), *(metric.label for metric in self.metrics)]
        return names + [f"val_{name}" for name in names] if has_validation else names

    def scheduled_values(self) -> list[ScheduledValue]:
        """Return the scheduled values of layers and loss, each schedule once."""
        owners = [*with_inner(self.layers), self.loss]
        found = {
            id(schedule): ScheduledValue(f"{name} of {type(owner).__name__}", schedule, name in owner.fractions)
            for owner in owners
            for name, schedule in schedules_of(owner).items()
        }
        return list(found.values())

    def schedules(self) -> list[Schedule]:
        """Return the schedules of all values that change during training."""
        given = [self.optimizer.schedule, self.optimizer.weight_decay]
        changing = [each for each in given if isinstance(each, Schedule) and type(each) is not ConstantSchedule]
        return [*changing, *(value.schedule for value in self.scheduled_values())]

    def config(self) -> dict[str, Any]:
        """Return loss, optimizer and settings as JSON for the run folder."""
        return {
            "loss": {"name": self.loss.name, **self.loss.config()},
            "optimizer": {"name": self.optimizer.name, **self.optimizer.config()} | _described(self.optimizer.schedule),
            **{name: getattr(self, name) for name in self.settings()},
            "metrics": [metric.saved_name for metric in self.metrics],
        }

    def check_functions(self) -> None:
        """Check that functions that are loss or metrics can be found by the names that a run folder keeps.

        Raises:
            DataError: naming one that cannot.
        """
        for part in (self.loss, *self.metrics):
            if isinstance(part, FunctionLoss | FunctionMetric):
                path = import_path(part.function)
                if function_at(path) is not part.function:
                    raise DataError(
                        f"a run folder keeps a function by the name by which it can be imported, but {path} is not the "
                        f"function that you passed; define it with def at the top level of a module, or omit output="
                    )


def layers_before_loss(loss: Loss, network: Sequential) -> Sequence[Layer]:
    """Return the layers before the loss, without a trailing activation that the loss folds in.

    Raises:
        DataError: if the trailing activation is not the one of the loss.
    """
    if loss.output_activation == "identity":
        if network.ends_in_activation and isinstance(network.logit_layers[-1], MeanOfMembers):
            raise DataError(
                f"loss {loss.name!r} works on the outputs of each member, but {network.layers[-1]!r} comes after their "
                "mean; omit that layer"
            )
        return averaging(network.layers, "identity")
    if network.ends_in_activation and network.output_activation != loss.output_activation:
        raise DataError(
            f"loss {loss.name!r} applies {loss.output_activation} itself, but the network ends in "
            f"{network.layers[-1]!r}; omit that layer"
        )
    return averaging(network.logit_layers, loss.output_activation)


def _check_increasing(loss: Loss, layers: Sequence[Layer]) -> None:
    """Check that quantiles whose order a layer enforces are in this order, and those of one target."""
    if not isinstance(loss, QuantileLoss):
        return
    for layer in with_inner(layers):
        if isinstance(layer, Increasing) and (layer.size, loss.quantiles) != (
            len(loss.quantiles),
            sorted(loss.quantiles),
        ):
            raise DataError(
                f"{layer!r} makes {layer.size} neighboring outputs increase, so the quantiles of the loss must be as "
                f"many, in ascending order, got {loss.quantiles}"
            )


def task_kind(loss: Loss, n_out: int) -> Kind:
    """Return the kind of task that a loss defines for a network with ``n_out`` outputs."""
    if loss.output_activation == "softmax":
        return "classes"
    if loss.output_activation == "sigmoid":
        return "binary" if n_out == 1 else "multi-label"
    return "numbers"


def _checked_metrics(given: Objective) -> list[Metric]:
    """Return the metrics without the loss's own accuracy; raise if the task does not support one of them."""
    loss, n_out = given.loss, given.network.n_out
    metrics = sequence("metrics", given.metrics, "a list of names, functions or gradflow metrics")
    is_accuracy = [isinstance(metric, str) and metric == "accuracy" for metric in metrics]
    if any(is_accuracy) and not loss.has_accuracy:
        raise DataError(f"loss {loss.name!r} has no accuracy; omit it from metrics")
    found = get_metrics([metric for metric, skipped in zip(metrics, is_accuracy, strict=True) if not skipped])
    if found and not loss.predicts_targets:
        raise DataError(
            f"the outputs of loss {loss.name!r} are not direct predictions of the targets, so it supports no metrics; "
            "compute them from network.predict(x)"
        )
    for metric in found:
        metric.check(task_kind(loss, n_out), n_out)
    return found


def _described(schedule: Schedule) -> dict[str, Any]:
    """Return the learning rate as JSON for the run folder."""
    if type(schedule) is ConstantSchedule:
        return {"learning_rate": schedule.learning_rate}
    return {"learning_rate": {"name": schedule.name, **schedule.config()}}
