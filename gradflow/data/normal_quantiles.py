"""Quantiles of the normal distribution, by which numbers of any distribution become normal ones.

References:
    M. J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37 (1988),
        477-484: function PPND16, whose relative error is about 1e-16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_PROBABILITY = 1e-7
"""Probabilities are limited to this, and to 1 minus it, whose quantiles are ±5.2."""

CENTRAL = 0.425
"""The largest distance of a probability from ½ at which `CENTER` holds."""
CENTER = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
"""Numerator and denominator, by falling powers of 0.425² - q², with q = p - ½; times q."""
TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
"""Numerator and denominator, by falling powers of √(-log(min(p, 1 - p))) - 1.6, down to probabilities of 1.4e-11."""


def normal_quantile(p: np.ndarray) -> np.ndarray:
    """Return the numbers below which a standard normal variable is with probability p, limited to 1e-7 from 0 and 1."""
    p = np.clip(p, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    q = p - 0.5
    center = q * _ratio(CENTER, CENTRAL**2 - np.minimum(q * q, CENTRAL**2))
    tail = np.copysign(_ratio(TAIL, np.sqrt(-np.log(np.minimum(p, 1 - p))) - 1.6), q)
    found: np.ndarray = np.where(abs(q) <= CENTRAL, center, tail)
    return found


def _ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: np.ndarray) -> np.ndarray:
    numerator, denominator = (np.polyval(coefficients, x) for coefficients in polynomials)
    ratio: np.ndarray = numerator / denominator
    return ratio
