"""The reported bounds of a step, for given times."""

from __future__ import annotations

from numpy.testing import assert_allclose

import gradflow as gf
from benchmarks.networks import Network
from benchmarks.scaling import Point, _bytes_moved, bounds, regimes
from gradflow.optimizers.base import OWN


def _point(value: int, *, products: float, calls: float, copy: float) -> Point:
    """Return a step of one second; 0.05 s of its GEMM time are call overhead."""
    return Point("width", value, 1.0, products + 0.05, calls, 0.05, 1000, copy, 1, 1)


def test_bounds_are_fractions_of_the_step() -> None:
    fractions = bounds(_point(32, products=0.25, calls=0.5, copy=0.125))
    assert_allclose(list(fractions.values()), [0.5, 0.25, 0.125], rtol=1e-12)
    assert list(fractions) == ["call overhead", "GEMMs", "memory bandwidth"]


def test_neighbors_with_one_bound_are_one_line() -> None:
    points = [
        _point(32, products=0.1, calls=0.8, copy=0.0),
        _point(64, products=0.2, calls=0.6, copy=0.1),
        _point(128, products=0.3, calls=0.2, copy=0.4),
        _point(4096, products=0.9, calls=0.0, copy=0.1),
    ]
    assert regimes(points) == [
        "width 32 to 64: bound by call overhead (60% to 80% of the time)",
        "width 128: bound by memory bandwidth (40% to 40% of the time)",
        "width 4,096: bound by GEMMs (90% to 90% of the time)",
    ]


def test_bytes_moved_are_the_sizes_of_each_ops_arrays() -> None:
    rows, n_in, n_out = 8, 3, 2
    moved = _bytes_moved(Network("", (n_in, n_out), rows, steps=2))
    n_parameters = n_in * n_out + n_out
    expected = 4 * (
        2 * (rows * n_in + rows)  # the batch and its labels, read and written
        + 2 * rows * n_out
        + n_out  # the bias in place, counted as x and y
        + 2 * rows * n_out
        + 3 * rows  # logits, d_logits, labels, losses, correct
        + rows * n_out
        + n_out  # the column sum
        + 7 * n_parameters  # Adam reads four vectors and writes three
    )
    # The clock (32 bytes, in the loss, read and written by Adam, and when it advances), Adam's settings, and one scale.
    constants = 4 * 32 + 8 * (OWN + len(gf.Adam().hyper())) + 4
    assert moved == expected + constants
