"""Factors of the learning rate and of weight decay, by layer and by kind of parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gradflow.checks import non_negative, positive
from gradflow.errors import DataError, shown, unknown_name
from gradflow.layers import Layer
from gradflow.layers.stack import layer_at, parameters_of

Segment = tuple[int, float, float]
"""A run of parameters with the same factors: its end, and the factors of learning rate and weight decay."""


def checked_factors(name: str, factors: Mapping[str, float] | None, *, may_be_zero: bool) -> dict[str, float]:
    """Return factors by name, after checking all that does not depend on the network."""
    if factors is None:
        return {}
    if not isinstance(factors, Mapping) or not all(isinstance(key, str) for key in factors):
        raise DataError(
            f"{name} must be a dict of numbers by layer or kind of parameter, such as {{'0': 0.1, 'bias': 0.1}}, got "
            f"{shown(factors)}"
        )
    check = non_negative if may_be_zero else positive
    return {key: check(f"{name}[{key!r}]", factor) for key, factor in factors.items()}


def segments(
    layers: Sequence[Layer],
    ranges: Mapping[str, tuple[int, int]],
    rate: Mapping[str, float],
    decay: Mapping[str, float],
    own: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> list[Segment]:
    """Return the segments of the flat vector of parameters; none if all factors are 1.

    Args:
        layers: the layers of the network.
        ranges: start and end of each trained parameter, by name.
        rate, decay: the factors of learning rate and weight decay, by the names of `names_of`.
        own: further factors of both, by parameter.

    Raises:
        DataError: if a name fits no parameter, or one of ``decay`` fits only parameters that do not decay.
    """
    if not rate and not decay and not own:
        return []
    specs = parameters_of(layers)
    names = {parameter: names_of(layers, parameter) for parameter in specs}
    decayed = [parameter for parameter, spec in specs.items() if spec.decayed]
    _check_known("factors", rate, names.values())
    _check_known("decay_factors", decay, names.values())
    for name in decay:
        if not any(name in names[parameter] for parameter in decayed):
            raise DataError(f"decay_factors: weight decay applies to weights, and {name!r} names none; omit it")
    found: list[Segment] = []
    for parameter, (_, end) in sorted(ranges.items(), key=lambda item: item[1]):
        of_rate, of_decay = own.get(parameter, (1.0, 1.0))
        segment = end, of_rate * _product(rate, names[parameter]), of_decay * _product(decay, names[parameter])
        if found and found[-1][1:] == segment[1:]:
            found.pop()
        found.append(segment)
    return [] if len(found) == 1 and found[0][1:] == (1, 1) else found


def names_of(layers: Sequence[Layer], parameter: str) -> set[str]:
    """Return the names by which factors find a parameter: of "2.0.weight", "2", "2.0", "2.0.weight", "weight", and the
    classes of these layers, alone and with the kind of parameter: "Dense", "Dense.weight"."""
    parts = parameter.split(".")
    places = [".".join(parts[:length]) for length in range(1, len(parts))]
    classes = {type(layer_at(layers, place)).__name__ for place in places}
    return {*places, parameter, parts[-1], *classes, *(f"{cls}.{parts[-1]}" for cls in classes)}


def _check_known(argument: str, factors: Iterable[str], names: Iterable[set[str]]) -> None:
    known = set[str]().union(*names)
    for name in factors:
        if name not in known:
            raise unknown_name(f"layer or parameter in {argument}", name, known)


def _product(factors: Mapping[str, Any], names: set[str]) -> float:
    product = 1.0
    for name, factor in factors.items():
        if name in names:
            product *= factor
    return product
