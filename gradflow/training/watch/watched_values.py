"""Warnings about values watched by early stopping or a schedule that can never improve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from gradflow.metrics import EpochMetrics
from gradflow.schedules import PlateauSchedule, Schedule
from gradflow.training.progress.early_stopping import EarlyStopping


def useless_values(
    early_stopping: EarlyStopping | None,
    schedule: Schedule,
    values: Mapping[str, float],
    training: EpochMetrics,
    validation: EpochMetrics | None,
) -> Iterator[str]:
    """Yield a warning for each watched value that can never improve, with what the data lack; call after epoch 1.

    Args:
        early_stopping, schedule: the watchers.
        values: the values of the epoch by name.
        training, validation: the metrics of the epoch's training and validation data.
    """
    watched = {}
    if isinstance(schedule, PlateauSchedule):
        watched[schedule.monitor or ("val_loss" if "val_loss" in values else "loss")] = "the plateau schedule"
    if early_stopping is not None and early_stopping.monitor in values:  # not a value of a callback
        watched[early_stopping.monitor] = "early stopping"
    for name, watcher in watched.items():
        is_held_out = validation is not None and name.startswith("val_")
        measured, data = (validation, "the validation data has") if is_held_out else (training, "the data has")
        assert measured is not None
        if (missing := measured.missing(name.removeprefix("val_") if is_held_out else name)) is not None:
            yield (
                f"{watcher} monitors {name!r}, but {data} no {missing}: it is {values[name]:g} in every epoch, so "
                "that no epoch counts as better than another. Monitor another value, such as "
                f"{'val_loss' if is_held_out else 'loss'!r}"
            )
        elif math.isnan(values[name]):
            yield (
                f"{watcher} monitors {name!r}, which was NaN in the first epoch; until it is finite, no epoch counts "
                "as better than another. Monitor another value, such as 'loss'"
            )
