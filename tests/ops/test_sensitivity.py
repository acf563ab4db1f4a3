"""The bounds on errors that `sensitivity` finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradflow.doctor.kernels import arrays_of, definition
from gradflow.ops import OPS
from gradflow.testing import CASES, Draw
from gradflow.testing.sensitivity import sensitivity


def size_of(name: str, written: str, arguments: dict[str, Any], **settings: Any) -> np.ndarray:
    return sensitivity(OPS[name], arguments, definition(OPS[name], arguments), **settings)[written]


def test_one_rounding_counts_by_the_result() -> None:
    x, y = np.array([1.0]), np.array([2.0**-20 - 1])
    assert_allclose(size_of("add", "out", {"x": x, "y": y, "out": np.empty(1)}), 2.0**-20, rtol=1e-6)


def test_a_sum_counts_by_its_terms() -> None:
    x = np.array([[3, 5], [-3, 0.25], [0.001, 1]])
    assert_allclose(size_of("column_sum", "sums", {"x": x, "sums": np.empty(2)}), [6.001, 6.25], rtol=1e-6)


def test_a_matrix_product_counts_by_its_terms() -> None:
    arguments = {"a": np.array([[3.0, 4.0]]), "b": np.array([[4.0], [-3.0]]), "out": np.empty((1, 1))}
    assert_allclose(size_of("gemm", "out", arguments), 24, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_difference_counts_by_what_was_rounded_before(dtype: str) -> None:
    mean, gamma = np.array([1.0], dtype), np.array([1000.0], dtype)
    arguments = {"x": np.array([[1.001]], dtype), "gamma": gamma, "beta": np.array([-1.0], dtype), "mean": mean}
    arguments |= {"variance": np.array([1.0], dtype), "y": np.empty((1, 1), dtype)}
    size = size_of("normalize_columns", "y", {**arguments, "epsilon": 0.0})
    assert_allclose(size, 1, rtol=1e-3)
    of_x = size_of("normalize_columns", "y", {**arguments, "epsilon": 0.0}, inputs=("x",))
    assert_allclose(of_x, 1001, rtol=1e-3)


def test_a_result_that_jumps_may_take_either_value() -> None:
    case = CASES["lion"]
    arguments = case.make(Draw("float64", "odd", "ordinary"), decayed=0.0)
    # 0.8 m + 0.2 · 0.7 g is 1 ulp of its terms.
    arguments["first_moment"][:], arguments["gradients"][:] = 1 + 2**-52, -0.8 / (0.2 * 0.7)
    size = size_of("lion", "parameters", arguments, ulps=3)
    assert (case.ulps * np.spacing(size) > 2 * arguments["hyper"][0]).sum() > size.size / 4


@pytest.mark.parametrize("values", ["ordinary", "inf", "denormal"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.magnitude])
def test_magnitudes_are_not_below_the_results_and_leave_the_arguments_alone(name: str, values: str) -> None:
    case, op = CASES[name], OPS[name]
    assert case.magnitude is not None
    if values in case.without:
        pytest.skip(case.without[values])
    arguments = case.make(Draw("float32", "odd", values), **case.variants[-1])
    before = {key: array.copy() for key, array in arrays_of(arguments).items()}
    after = definition(op, arguments)
    magnitudes = case.magnitude(op, arguments, after)
    for key, array in before.items():
        assert_array_equal(arguments[key], array)
    for written, magnitude in magnitudes.items():
        is_number = ~np.isnan(after[written])
        assert (magnitude[is_number] >= abs(after[written][is_number])).all()
