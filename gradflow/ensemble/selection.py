"""Greedy selection of the members of an ensemble, with replacement (Caruana et al., 2004)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Selection(NamedTuple):
    """The members that a selection has chosen.

    Attributes:
        counts: how often each candidate was chosen.
        score: the score of their mean.
    """

    counts: np.ndarray
    score: float


def select(candidates: Sequence[np.ndarray], score: Callable[[np.ndarray], float], size: int) -> Selection:
    """Add the candidate that gives the best mean, again and again; return the best of these means.

    A candidate may be added several times, which weighs it. The first addition is the best candidate alone, so the
    result scores at least as high as each of them. Of equally good candidates the first is added.

    Args:
        candidates: the predictions of each, all of one shape.
        score: returns the score of predictions; larger is better.
        size: number of additions.
    """
    counts = np.zeros(len(candidates), np.int64)
    total = np.zeros(candidates[0].shape)
    best = Selection(counts, -np.inf)
    for step in range(1, size + 1):
        scores = [score((total + candidate) / step) for candidate in candidates]
        place = int(np.argmax(scores))
        total += candidates[place]
        counts[place] += 1
        if scores[place] > best.score or not best.counts.any():
            best = Selection(counts.copy(), scores[place])
    return best
