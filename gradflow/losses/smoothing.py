"""Label smoothing (Szegedy et al., 2016, section 7). Only the loss uses smoothed targets; all else uses plain ones.

References:
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR (2016).
"""

from __future__ import annotations

import numpy as np

from gradflow.ops import Array, op


@op(shapes="targets, smoothed: rows columns; smoothing: 1", writes=("smoothed",))
def smooth_targets(targets: Array, smoothed: Array, smoothing: Array, classes: int) -> None:
    """smoothed = (1 - smoothing) t + smoothing / classes"""
    np.multiply(targets, float(1 - smoothing[0]), out=smoothed)
    smoothed += float(smoothing[0] / classes)
