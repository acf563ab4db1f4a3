"""A network in place of an ensemble, on which losses and metrics measure the mean predictions."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.sources import Source
from gradflow.ensemble.ensemble import Ensemble
from gradflow.layers import Dense
from gradflow.network import Sequential
from gradflow.ops import Array

_TINY = np.finfo(np.float64).tiny


class StandIn(NamedTuple):
    """Arguments with which a trainer evaluates an ensemble: ``trainer.evaluate(x, y, sample_weight=sample_weight)``.

    Attributes:
        network: a network that returns its inputs, with the classes and the target scale of the ensemble.
        x: the outputs of the ensemble before the output activation, float64 (rows, n_out): inputs of that network.
        y, sample_weight: targets and weights of these rows.
    """

    network: Sequential
    x: np.ndarray
    y: Any
    sample_weight: Any


def stand_in(ensemble: Ensemble, x: Any, y: Any = None, sample_weight: Any = None) -> StandIn:
    """Return a network and its inputs, on which any loss and metric measures the predictions of an ensemble.

    Args:
        ensemble: the ensemble.
        x: inputs as for `Ensemble.predict`, or a source with targets.
        y: the targets, unless x is a source.
        sample_weight: weights of the rows, or None.

    Raises:
        DataError: if the data do not fit the networks.
    """
    if isinstance(x, Source):
        with closing(x.blocks()) as blocks:
            parts = [(_outputs(ensemble, block), block.y, block.sample_weight) for block in blocks if len(block)]
        outputs, y = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        weights = [part[2] for part in parts if part[2] is not None]
        sample_weight = np.concatenate(weights) if weights else None
    else:
        outputs = _outputs(ensemble, x)
    first = ensemble.networks[0]
    network = Sequential([Dense(ensemble.n_out, ensemble.n_out, bias=False)], dtype="float64", backend="numpy")
    network.set_weights({"0.weight": np.eye(ensemble.n_out)})
    # The members have kept to their own limits, and their mean may be beyond those of the first.
    network.output_scale = first.output_scale and first.output_scale.without_limits
    network.classes = first.classes
    return StandIn(network, outputs, y, sample_weight)


def _outputs(ensemble: Ensemble, x: Any) -> np.ndarray:
    """Return the numbers that the output activation and the target scale turn into the predictions."""
    predicted: Array = ensemble.predict(x)
    predictions = (predicted if isinstance(predicted, np.ndarray) else predicted.get()).astype(np.float64)
    if ensemble.output_activation == "identity":
        scale = ensemble.networks[0].output_scale
        return predictions if scale is None else scale.standardize(predictions, predictions.dtype)
    outputs: np.ndarray = np.log(np.maximum(predictions, _TINY))
    if ensemble.output_activation == "sigmoid":
        outputs = outputs - np.log(np.maximum(1 - predictions, _TINY))
    return outputs
