"""A diagnosis of a run, in words, with remedies to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gradflow.errors import GradflowError
from gradflow.layers.stack import layer_at
from gradflow.network import Sequential
from gradflow.reports.predictions import Classified
from gradflow.reports.rows import SampledRows
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.progress.history import History
from gradflow.training.step.objective import Objective
from gradflow.training.watch.diagnosis import SATURATED_FRACTION, VANISHED, LookAtLayers
from gradflow.training.watch.loss_watch import LEARNT, PROGRESS

_RISEN = 1.05
"""The validation loss has risen if it is above this many times its lowest value,"""
_SINCE = 0.25
"""and the lowest was before this last fraction of the epochs."""
_FALLING = 0.05
"""The loss is still falling if it fell by this fraction during the last fifth of the epochs."""
_MANY_DEAD = 0.5
_SLOW, _FAST = 1e-5, 1e-1
"""Update ratios beyond these are far from 0.001."""
_RARELY_FOUND = 0.5
_UNCALIBRATED = 0.1
_LEAST_ROWS = 20
"""Rows of a class from which its recall is judged."""


class Finding(NamedTuple):
    """Something that the run shows.

    Attributes:
        text: what it is.
        advice: what to try; "" if nothing need change.
    """

    text: str
    advice: str = ""


def diagnose(
    network: Sequential,
    objective: Objective | None,
    history: History,
    rows: SampledRows | None,
    judged: Classified | None,
) -> list[Finding]:
    """Return what stands out in a run, the most serious first.

    Args:
        network: the trained network.
        objective: what it was trained with; None if that is unknown here.
        history: the history of the run.
        rows: training data; None without any.
        judged: the predictions of classes; None without any.
    """
    memorizes = list(_of_memory(history))
    found = [*memorizes, *_of_learning(objective, history, rows, is_learned=bool(memorizes))]
    found += [] if memorizes else _of_curves(history)
    found += [*_of_layers(network, history), *_of_classes(judged)]
    if not any(finding.advice for finding in found):
        found.append(
            Finding("Nothing else stands out: no layer stalls, and no curve says that another setting is due.")
        )
    return found


@np.errstate(all="ignore")
def _of_learning(
    objective: Objective | None, history: History, rows: SampledRows | None, *, is_learned: bool
) -> Iterator[Finding]:
    """Yield findings about whether anything was learned, from the diagnosis that watches training too."""
    losses = np.array(history["loss"])
    if history.stopped_by == "diverged" or not np.isfinite(losses[-1]):
        yield Finding(
            "The run diverged: the loss or a weight became infinite or NaN.",
            "Train with a lower learning rate, a tenth of it to begin with, or with clip_norm=1.0.",
        )
    if objective is None or rows is None:
        return
    given = objective.optimizer.learning_rate
    rate = given if isinstance(given, float) else history.last().get("learning_rate", 0.0)
    try:
        data = prepare_arrays(
            objective.network, objective.loss, rows.x, rows.y, scale=objective.network.output_scale
        ).on(objective.network.backend)
        look = LookAtLayers(objective, data)
        constant = look.loss_of_one_answer()
        if losses[-1] > LEARNT * constant and not is_learned:
            yield Finding(
                f"Little was learned: the training loss is {losses[-1]:.3g}, and that of a constant prediction "
                f"{constant:.3g}.",
                look.cause(rate)
                or "Try a larger network, more epochs, or another learning rate; or the columns say little about it.",
            )
        if advice := look.unit_size_advice():
            yield Finding(f"{advice}.", "Networks learn slowly from inputs and targets far from unit size.")
    except GradflowError:
        return  # the data is not that of the run, or memory is short: the rest of the report does not need it


def _of_memory(history: History) -> Iterator[Finding]:
    """Yield a finding if the validation loss has risen while the training loss fell."""
    losses = history["loss"]
    if "val_loss" not in history or not np.isfinite(validation := np.array(history["val_loss"])).any():
        return
    best = int(np.nanargmin(validation))
    if validation[-1] > _RISEN * validation[best] and best + 1 < (1 - _SINCE) * len(validation):
        kept = f" The model is that of epoch {history.best_epoch}." if history.best_epoch else ""
        yield Finding(
            f"The network memorizes: the validation loss was lowest in epoch {best + 1} ({validation[best]:.3g}) "
            f"and has risen to {validation[-1]:.3g} since, while the training loss fell to {losses[-1]:.3g}.{kept}",
            "More data helps most; or dropout, weight decay"
            f"{' or a smaller network' if kept else ', a smaller network, or early stopping'}.",
        )


def _of_curves(history: History) -> Iterator[Finding]:
    losses = np.array(history["loss"])
    fifth = max(len(losses) // 5, 1)
    if len(losses) > 2 and losses[-1] < (1 - _FALLING) * losses[-1 - fifth]:
        fallen = 1 - losses[-1] / losses[-1 - fifth]
        yield Finding(
            f"The loss was still falling: by {fallen:.0%} during the last {fifth} of {len(losses)} epochs.",
            "Train for more epochs, or with a higher learning rate.",
        )
    elif len(losses) > 2 and abs(losses[-1] - losses[-1 - fifth]) <= PROGRESS * abs(losses[-1 - fifth]):
        yield Finding(f"The loss has settled: it changed by less than {PROGRESS:.0%} during the last {fifth} epochs.")


def _of_layers(network: Sequential, history: History) -> Iterator[Finding]:
    last = _by_kind(history.last())
    for place, fraction in last.get("dead", {}).items():
        if fraction >= _MANY_DEAD:
            yield Finding(
                f"{fraction:.0%} of the units of {_named(network, place)} are dead: they output 0 for every row, and "
                "learn nothing more.",
                "Train with a lower learning rate, or with leaky_relu, gelu or silu.",
            )
    for place, fraction in last.get("saturated", {}).items():
        if fraction >= SATURATED_FRACTION:
            yield Finding(
                f"{fraction:.0%} of the outputs of {_named(network, place)} are near a limit, where hardly any "
                "gradient passes.",
                "Use smaller initial weights, standardized inputs, or relu.",
            )
    norms = last.get("gradient_norm", {})
    largest = max(norms.values(), default=0.0)
    for place, norm in norms.items():
        if norm < VANISHED * largest:
            yield Finding(
                f"The gradient of {_named(network, place)} has vanished: it is {norm / largest:.1g} times the largest "
                "of a layer.",
                "Try relu, BatchNorm or LayerNorm between the layers, Residual blocks, or fewer layers.",
            )
    ratios = {place: ratio for place, ratio in last.get("update_ratio", {}).items() if ratio > 0}
    far = [place for place, ratio in ratios.items() if not _SLOW <= ratio <= _FAST]
    for place in far[:1]:
        is_fast = ratios[place] > _FAST
        yield Finding(
            f"The steps are {'large' if is_fast else 'small'} for the weights of {_named(network, place)}: "
            f"{ratios[place]:.1g} times their size, where about 0.001 is usual.",
            "Lower the learning rate, or let it fall with a schedule."
            if is_fast
            else "Raise the learning rate, unless the loss has settled.",
        )


def _by_kind(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return layer statistics by kind and place: {"dead": {"1": 0.2}}."""
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        kind, is_layer, place = name.partition("/")
        if is_layer:
            found.setdefault(kind, {})[place] = value
    return found


def _named(network: Sequential, place: str) -> str:
    return f"layer {place}, {layer_at(network.layers, place)!r}"


def _of_classes(judged: Classified | None) -> Iterator[Finding]:
    if judged is None:
        return
    totals = judged.confusion.sum(axis=1)
    recall = judged.confusion.diagonal() / np.maximum(totals, 1)
    for place in np.flatnonzero((totals >= _LEAST_ROWS) & (recall < _RARELY_FOUND)).tolist():
        others = judged.confusion[place].copy()
        others[place] = 0
        yield Finding(
            f"Class {judged.names[place]} is found in {recall[place]:.0%} of its rows only; most others are taken for "
            f"{judged.names[int(others.argmax())]}.",
            "Collect more rows of it, or train with class_weight='balanced'.",
        )
    if judged.calibration_error > _UNCALIBRATED:
        mean = float(np.average(judged.confidence - judged.accuracy, weights=judged.rows))
        yield Finding(
            f"The probabilities are too {'high' if mean > 0 else 'low'}: on average by {judged.calibration_error:.2f}.",
            "Train with label_smoothing, weight decay or early stopping, or average an ensemble."
            if mean > 0
            else "Train for more epochs, or with less regularization.",
        )
