"""Names used by other libraries: each error suggests the name that is valid here."""

from __future__ import annotations

import re

import pytest

import gradflow as gf
from gradflow.errors import unknown_name
from gradflow.initializers import INITIALIZERS
from gradflow.layers import ACTIVATIONS
from gradflow.losses import LOSSES
from gradflow.metrics import METRICS, get_metrics
from gradflow.network import _DTYPES
from gradflow.optimizers import OPTIMIZERS
from gradflow.precision import PRECISIONS
from gradflow.synonyms import SYNONYMS

VALID = {
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "activation": ACTIVATIONS,
    "initializer": INITIALIZERS,
    "metric": {*METRICS, "accuracy", "top_3_accuracy", "top_5_accuracy"},
    "dtype": _DTYPES,
    "precision": PRECISIONS,
}


def test_every_synonym_names_what_is_valid() -> None:
    assert SYNONYMS.keys() == VALID.keys()
    for kind, table in SYNONYMS.items():
        for name, meant in table.items():
            assert name not in VALID[kind]
            assert set(meant) <= set(VALID[kind]), name
    get_metrics(["top_3_accuracy", "top_5_accuracy"])


@pytest.mark.parametrize(
    ("kind", "name", "suggestion"),
    [
        ("loss", "MSE", "'mean_squared_error'"),
        ("loss", "cross_entropy", "'softmax_cross_entropy' or 'binary_cross_entropy'"),
        ("loss", "L1", "'mean_absolute_error'"),
        ("loss", "HuberLoss", "'huber'"),
        ("optimizer", "AdamW", "'adamw'"),
        ("activation", "swish", "'silu'"),
        ("activation", "LeakyReLU", "'leaky_relu'"),
        ("initializer", "kaiming_normal", "'he_normal'"),
        ("initializer", "xavier_uniform_", "'glorot_uniform'"),
        ("metric", "acc", "'accuracy'"),
        ("metric", "AUC", "'roc_auc'"),
        ("dtype", "double", "'float64'"),
        ("precision", "bf16", "'bfloat16'"),
    ],
)
def test_the_intended_name_is_suggested(kind: str, name: str, suggestion: str) -> None:
    error = unknown_name(kind, name, VALID[kind])
    assert isinstance(error, gf.DataError)
    assert re.search(rf"unknown {kind} {name!r}\. Did you mean {suggestion}\? Valid names: ", str(error))


def test_a_name_unlike_all_others_gets_no_suggestion() -> None:
    assert "Did you mean" not in str(unknown_name("loss", "zzz", LOSSES))
