"""Forms of the ops in NumPy without temporary arrays, one file for each family.

Ops whose definition makes no temporary arrays run as they are. The others have a form here that writes into scratch
arrays, made once, when the op is bound.
"""

from gradflow.backends.numpy_forms import (
    activations,
    batches,
    cross_entropies,
    dense,
    dropout,
    layer_statistics,
    normalization,
    optimizers,
    outputs,
    regression_losses,
    smooth,
)
from gradflow.backends.numpy_forms.registry import IMPLEMENTATIONS

__all__ = [
    "IMPLEMENTATIONS",
    "activations",
    "batches",
    "cross_entropies",
    "dense",
    "dropout",
    "layer_statistics",
    "normalization",
    "optimizers",
    "outputs",
    "regression_losses",
    "smooth",
]
