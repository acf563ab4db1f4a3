"""Timing several things in turn, and summarizing the times: medians, spreads, and ratios within each round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

_PAUSE = 0.2  # seconds: OpenBLAS's threads spin for 0.11 s after their last call and would occupy the next one's core


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; a single value is all three.

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("a spread needs at least one value, got none")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio in each round, which cancels anything that slowed the whole machine in that round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def rounds_in_turn(measurements: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the results of each round, by measurement. The order changes, so that none always follows the same other
    one.

    Args:
        measurements: by name, functions that do something and return the seconds that it took.
        rounds: the number of times each one runs.
    """
    measured: dict[str, list[float]] = {name: [] for name in measurements}
    random = Random(0)
    for _ in range(rounds):
        for name in random.sample(list(measurements), len(measurements)):
            time.sleep(_PAUSE)
            measured[name].append(measurements[name]())
    return measured
