"""Test cases, one for each op: how its arguments are made, and how close every backend must come to the definition.

A new op needs one entry in the `CASES` of its family's file. The tests and `gradflow doctor` then run it on every
backend with every kind of shape and of values; `Case.without` excludes a kind that the op does not support, with the
reason.
"""

from gradflow.testing import (
    activations,
    data,
    dense,
    embeddings,
    layer_statistics,
    losses,
    members,
    metrics,
    normalization,
    optimizers,
)
from gradflow.testing.case import Case
from gradflow.testing.draw import SHAPES, VALUES, Draw

__all__ = ["CASES", "SHAPES", "VALUES", "Case", "Draw"]

CASES: dict[str, Case] = {
    **dense.CASES,
    **activations.CASES,
    **normalization.CASES,
    **embeddings.CASES,
    **members.CASES,
    **losses.CASES,
    **optimizers.CASES,
    **data.CASES,
    **metrics.CASES,
    **layer_statistics.CASES,
}
"""All cases, by the names of their ops."""
