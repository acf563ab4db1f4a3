"""Initial weights from the data, and the NTK parametrization as factors of the learning rate.

References:
    A. Jacot, F. Gabriel & C. Hongler, "Neural tangent kernel: convergence and generalization in neural networks",
        NeurIPS (2018), arXiv:1806.07572.
    D. Holzmüller, L. Grinsztajn & I. Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
        data", NeurIPS (2024), arXiv:2407.04491.
    I. Steinwart, "A sober look at neural network initializations", arXiv:1903.11482 (2019).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.inspect.units import forward_steps
from gradflow.layers import Dense
from gradflow.layers.stack import layer_at
from gradflow.network import Sequential
from gradflow.random import SAMPLE_STREAM, RandomNumbers

_ROWS_OF_A_BIAS = 5


def fit_initial_weights(network: Sequential, x: Any) -> None:
    """Set the weights and biases of dense layers from the data, layer by layer, as RealMLP does.

    The weights of each unit are divided by the standard deviation of x weight over the rows, so that what it computes
    begins with standard deviation 1. Its bias is -Σ_r a_r (x_r weight) over five random rows r of the data, with a from
    a uniform point of the simplex, so that its boundary lies within the data ("he+5": Steinwart, 2019). Units that do
    not vary over the rows keep their weights. Dense layers inside other layers, such as `Residual`, are left as they
    are.

    Call it before training, for a network whose weights are random. The same seed and rows give the same weights.

    Args:
        network: the network; its weights change.
        x: inputs of training rows, as for ``network.predict``: at least two; a few thousand are enough.

    Raises:
        DataError: if x is invalid.
    """
    instance("network", network, Sequential, "a gradflow network")
    for index, layer in enumerate(network.layers):
        if type(layer) is not Dense:
            continue
        (inputs,) = (step.x for step in forward_steps(network, x) if step.layer is layer)
        weights = network.get_weights()
        weight = weights[f"{index}.weight"].astype(np.float64)
        outputs = network.backend.to_host(inputs).astype(np.float64) @ weight
        spread = outputs.std(axis=0)
        # The rounding of a constant output is no spread.
        varies = spread > 1e-6 * abs(outputs).max(axis=0)
        scale = np.where(varies, 1 / np.where(varies, spread, 1), 1)
        found = {f"{index}.weight": weight * scale}
        if layer.has_bias:
            found[f"{index}.bias"] = _bias(outputs * scale, RandomNumbers(network.seed, SAMPLE_STREAM + 1 + index))
        network.set_weights(found, partial=True)


def _bias(outputs: np.ndarray, random: RandomNumbers) -> np.ndarray:
    rows, units = outputs.shape
    drawn = random.uniform(0, 1, (2, _ROWS_OF_A_BIAS, units))
    shares = -np.log1p(-drawn[1])
    chosen = outputs[(drawn[0] * rows).astype(np.int64), np.arange(units)]
    total = np.maximum(shares.sum(axis=0), np.finfo(np.float64).tiny)
    bias: np.ndarray = -(chosen * shares).sum(axis=0) / total
    return bias


def ntk_factors(network: Sequential) -> dict[str, float]:
    """Return factors of the learning rate by which dense layers learn as in the NTK parametrization.

    There, a layer computes x W / √n_in + bias with W of standard deviation 1, and the learning rate acts on W (Jacot,
    Gabriel & Hongler, 2018). An optimizer whose steps do not depend on the size of the gradient, such as Adam, AdamW or
    Lion, does the same for weight = W / √n_in if its rate is 1 / √n_in times as large. Weights begin as in the NTK
    parametrization with ``initializer="lecun_normal"``. Use it as

        factors = gf.ntk_factors(network)
        gf.AdamW(0.04, factors=factors, decay_factors={name: 1 / factor for name, factor in factors.items()})

    where the second dict is for weight decay: it multiplies W by 1 - rate decay in each step, whatever n_in is.

    Args:
        network: the network.

    Returns:
        1 / √n_in by the name of the weight of each dense layer, also inside other layers.
    """
    instance("network", network, Sequential, "a gradflow network")
    found = {}
    for name in network.parameter_ranges:
        place, _, kind = name.rpartition(".")
        layer = layer_at(network.layers, place)
        if type(layer) is Dense and kind == "weight":
            found[name] = 1 / math.sqrt(layer.n_in)
    return found
