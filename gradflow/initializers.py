"""Initial weights, by name. Biases begin at zero, or as `bias_rule` says.

A rule is a function ``(shape, random) -> numpy.ndarray`` for a weight of shape ``(n_in, n_out)``. Weights are generated
once, in float64 on the host, and then copied, so that they are the same on every backend.

References:
    X. Glorot & Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS (2010).
    K. He et al., "Delving deep into rectifiers", ICCV (2015).
    Y. LeCun et al., "Efficient BackProp" (1998).
    F. Mezzadri, "How to generate random matrices from the classical compact groups", *Notices of the AMS* 54 (2007).
    A. Saxe, J. McClelland & S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks", ICLR (2014).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from gradflow.checks import finite_number, known_name
from gradflow.errors import DataError, shown
from gradflow.random import RandomNumbers

Rule: TypeAlias = Callable[[tuple[int, ...], RandomNumbers], np.ndarray]
Initializer: TypeAlias = str | float | Rule
"""The name of a rule, a number to fill the weight with, or a rule."""


def glorot_uniform(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / (n_in + n_out)): Glorot & Bengio (2010), equation 16."""
    limit = math.sqrt(6 / sum(shape))
    return random.uniform(-limit, limit, shape)


def glorot_normal(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """N(0, 2 / (n_in + n_out)): Glorot & Bengio (2010), equation 12."""
    return random.normal(math.sqrt(2 / sum(shape)), shape)


def he_uniform(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / n_in): the variance of He et al. (2015), equation 10, drawn uniformly."""
    limit = math.sqrt(6 / shape[0])
    return random.uniform(-limit, limit, shape)


def he_normal(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """N(0, 2 / n_in): He et al. (2015), equation 10."""
    return random.normal(math.sqrt(2 / shape[0]), shape)


def lecun_uniform(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """U(-a, a) with a = sqrt(3 / n_in): the variance of LeCun et al. (1998), equation 16, drawn uniformly."""
    limit = math.sqrt(3 / shape[0])
    return random.uniform(-limit, limit, shape)


def lecun_normal(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """N(0, 1 / n_in): LeCun et al. (1998), "Efficient BackProp", equation 16."""
    return random.normal(math.sqrt(1 / shape[0]), shape)


def fan_in_uniform(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """U(-a, a) with a = 1 / sqrt(n_in): the rule of TabM and TabPack, and what PyTorch's ``Linear`` begins with."""
    limit = 1 / math.sqrt(shape[0])
    return random.uniform(-limit, limit, shape)


def orthogonal(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """Uniformly distributed matrix with orthonormal columns (rows, if these are fewer): Saxe et al. (2014).

    It is Q of the QR decomposition of a normal matrix, with signs chosen so that R has a positive diagonal; otherwise
    it would not be uniformly distributed (Mezzadri, 2007). LAPACK's last bits may differ between computers.
    """
    tall = random.normal(1.0, (max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r) < 0, -1, 1)
    return q if shape[0] >= shape[1] else q.T


def zeros(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """All zeros. This does not break symmetry: the units of a hidden layer cannot learn different features."""
    return np.zeros(shape)


def _numbers(rule: Rule, weight: object) -> np.ndarray:
    try:
        return np.asarray(weight, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"initializer {rule!r} must return an array of numbers, got {shown(weight)}") from error


INITIALIZERS: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, fan_in_uniform, orthogonal,
        zeros,
    )
}  # fmt: skip


def checked_initializer(initializer: Any) -> Initializer:
    """Return the initializer after checking it.

    Raises:
        DataError: if it is an unknown name, a non-finite number, or anything else.
    """
    if isinstance(initializer, str):
        return known_name("initializer", initializer, INITIALIZERS)
    if isinstance(initializer, bool | type) or not (isinstance(initializer, numbers.Real) or callable(initializer)):
        raise DataError(
            f"an initializer must be a name, a number or a function (shape, random), got {shown(initializer)}"
        )
    if isinstance(initializer, numbers.Real):
        return finite_number("a number as initializer", initializer)
    rule: Rule = initializer
    return rule


def checked_bias_initializer(initializer: Any) -> str | float:
    """Return the initializer of a bias after checking it.

    Raises:
        DataError: if it is neither "zeros", "fan_in_uniform" nor a finite number.
    """
    if isinstance(initializer, str):
        return known_name("bias_initializer", initializer, ("zeros", "fan_in_uniform"))
    return finite_number('bias_initializer, unless "zeros" or "fan_in_uniform",', initializer)


def bias_rule(initializer: str | float, n_in: int) -> Initializer:
    """Return the rule of a bias (n_out,) beside a weight (n_in, n_out): the limits depend on the inputs."""
    if initializer != "fan_in_uniform":
        return initializer
    return lambda shape, random: fan_in_uniform((n_in, *shape), random)[0]


def initial_weight(initializer: Initializer, shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """Return the initial weight of a shape, in float64.

    Raises:
        DataError: if the name is unknown, or a rule returns another shape or a non-finite value.
    """
    initializer = checked_initializer(initializer)
    if isinstance(initializer, str):
        weight = INITIALIZERS[initializer](shape, random)
    elif callable(initializer):
        weight = _numbers(initializer, initializer(shape, random))
    else:
        weight = np.full(shape, initializer)
    if weight.shape != shape or not np.isfinite(weight).all():
        raise DataError(f"initializer {initializer!r} must return finite numbers of shape {shape}, got {weight.shape}")
    return weight
