"""Comparison of every kernel with the definition of its op."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from gradflow.backends import get_backend
from gradflow.backends.fusion import Call
from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.findings import Check, checked
from gradflow.ops import OPS, SATURATED, Op
from gradflow.testing import CASES, Case, Draw

_KINDS = (("odd", "ordinary"), ("misaligned", "ordinary"), ("large", "ordinary"), ("odd", "nan"), ("odd", "extreme"))

_FLUSHED = SATURATED
"""In smallest normal numbers: what is lost if an intermediate result counts as zero before a factor of this size."""


def check_kernels(backend: ReferenceBackend, *, quick: bool) -> Iterator[Check]:
    """Check each op that has a case, in both dtypes, with several shapes and kinds of values.

    Args:
        backend: the backend to check.
        quick: True for one shape and ordinary values only.
    """
    kinds = _KINDS[:1] if quick else _KINDS
    with contextlib.suppress(Exception):  # each check reports what is wrong with its own kernel
        backend.bind_all([call for name in CASES for call in _one_call_of_each_dtype(backend, OPS[name])])
    for name, case in CASES.items():
        yield checked("kernels", name, partial(_check_op, backend, OPS[name], case, kinds))


def _one_call_of_each_dtype(backend: ReferenceBackend, op: Op) -> Iterator[Call]:
    """Yield calls of an op. Bound together with those of all others, their kernels are compiled in parallel."""
    case = CASES[op.name]
    for dtype in ("float32", "float64"):
        arguments = case.make(Draw(dtype, *_KINDS[0]), **case.variants[0])
        yield op, arguments | {name: backend.from_host(array) for name, array in arrays_of(arguments).items()}


def _check_op(backend: ReferenceBackend, op: Op, case: Case, kinds: tuple[tuple[str, str], ...]) -> None:
    for dtype in ("float32", "float64"):
        for shape, values in kinds:
            if case.without.keys() & {shape, values}:
                continue
            for variant in case.variants:
                before = case.make(Draw(dtype, shape, values), **variant)
                actual = _computed(backend, op, before, misaligned=shape == "misaligned")
                assert_close(actual, Expectation(op, before))


def _computed(
    backend: ReferenceBackend, op: Op, arguments: dict[str, Any], *, misaligned: bool
) -> dict[str, np.ndarray]:
    """Run the op on the backend and return all arrays; misaligned ones start one element after an aligned address."""
    placed = {}
    for name, array in arrays_of(arguments).items():
        flat = np.concatenate([np.zeros(int(misaligned), array.dtype), array.reshape(-1)])
        placed[name] = backend.from_host(flat)[int(misaligned) :].reshape(array.shape)
    with backend.running():
        backend.bind(op, arguments | placed)()
    return {name: backend.to_host(array) for name, array in placed.items()}


def arrays_of(arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}


def definition(op: Op, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return copies of the arguments after the definition has run on them."""
    copies = arguments | {name: array.copy() for name, array in arrays_of(arguments).items()}
    with get_backend("reference").running():
        op.reference(**copies)
    return copies


class Expectation:
    """The results of an op by its definition.

    Attributes:
        case: the case of the op.
        results: the arrays that the op writes.
    """

    def __init__(self, op: Op, arguments: dict[str, Any]) -> None:
        self.case = CASES[op.name]
        self._call = op, arguments, definition(op, arguments)
        self.results: dict[str, np.ndarray] = {
            name: array for name in op.writes if (array := self._call[2][name]) is not None
        }

    @cached_property
    def flushed(self) -> Expectation | None:
        """The results where inputs below the smallest normal number count as zero; None if there are none.

        A GPU and the compiled kernels take them as zero, and so the contract of ops allows it.
        """
        op, arguments, _ = self._call
        inputs = {name: flushed(array) for name, array in arrays_of(arguments).items()}
        if all(
            np.array_equal(array, arguments[name], equal_nan=array.dtype.kind == "f") for name, array in inputs.items()
        ):
            return None
        return Expectation(op, arguments | inputs)

    @cached_property
    def magnitudes(self) -> dict[str, np.ndarray]:
        """The numbers whose ulps count, for arrays whose own numbers are not these."""
        return self.case.magnitude(*self._call) if self.case.magnitude else {}


def is_subnormal(array: np.ndarray) -> np.ndarray:
    """Return a mask of the numbers between zero and the smallest normal number."""
    if array.dtype.kind != "f":
        return np.zeros(array.shape, bool)
    mask: np.ndarray = (array != 0) & (abs(array) < np.finfo(array.dtype).smallest_normal)
    return mask


def flushed(array: np.ndarray) -> np.ndarray:
    """Return an array in which subnormal numbers are zero."""
    return np.where(is_subnormal(array), array.dtype.type(0), array)


def assert_close(actual: dict[str, np.ndarray], expected: Expectation) -> None:
    """Compare the arrays that an op has written with its definition's, on inputs as they are, or flushed to zero."""
    try:
        _assert_close(actual, expected)
    except AssertionError:
        if expected.flushed is None:
            raise
        _assert_close(actual, expected.flushed)


def _assert_close(actual: dict[str, np.ndarray], expected: Expectation) -> None:
    case = expected.case
    for name, result in expected.results.items():
        assert actual[name].dtype == result.dtype
        assert actual[name].shape == result.shape
        if result.dtype.kind != "f" or case.ulps == 0:
            np.testing.assert_array_equal(flushed(actual[name]), flushed(result), name)
            continue
        is_number = np.isfinite(result) & np.isfinite(actual[name])
        np.testing.assert_array_equal(actual[name][~is_number], result[~is_number], name)
        errors = _errors(case, actual[name], result, result)[is_number]
        # Magnitudes are never below the results, and take many times as long.
        if case.magnitude and (abs(errors) > 1).any():
            errors = _errors(case, actual[name], result, expected.magnitudes[name])[is_number]
        np.testing.assert_allclose(errors, 0, rtol=0, atol=1, err_msg=f"{name}, in units of {case.ulps} ulp")


@np.errstate(all="ignore")
def _errors(case: Case, actual: np.ndarray, expected: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Return how far numbers are from those expected, in units of what the case allows."""
    smallest, largest = np.finfo(expected.dtype).smallest_normal, np.finfo(expected.dtype).max
    size = np.clip(np.nan_to_num(abs(magnitude), nan=0, posinf=largest), smallest, largest).astype(expected.dtype)
    allowed = case.ulps * np.spacing(size).astype(np.float64) + _FLUSHED * smallest
    errors: np.ndarray = (actual.astype(np.float64) - expected) / allowed
    return errors
