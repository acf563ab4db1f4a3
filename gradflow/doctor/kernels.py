"""Comparison of every kernel with the definition of its op."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from gradflow.backends import get_backend
from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.findings import Check, checked
from gradflow.ops import OPS, Op
from gradflow.testing import CASES, Case, Draw

__all__ = ["arrays_of", "assert_close", "check_kernels", "definition"]

_KINDS = (("odd", "ordinary"), ("misaligned", "ordinary"), ("large", "ordinary"), ("odd", "nan"), ("odd", "extreme"))


def check_kernels(backend: ReferenceBackend, *, quick: bool) -> Iterator[Check]:
    """Check each op that has a case, in both dtypes, with several shapes and kinds of values.

    Args:
        backend: the backend to check.
        quick: True for one shape and ordinary values only.
    """
    kinds = _KINDS[:1] if quick else _KINDS
    for name, case in CASES.items():
        yield checked("kernels", name, partial(_check_op, backend, OPS[name], case, kinds))


def _check_op(backend: ReferenceBackend, op: Op, case: Case, kinds: tuple[tuple[str, str], ...]) -> None:
    for dtype in ("float32", "float64"):
        for shape, values in kinds:
            if case.without.keys() & {shape, values}:
                continue
            for variant in case.variants:
                before = case.make(Draw(dtype, shape, values), **variant)
                after = definition(op, before)
                actual = _computed(backend, op, before, misaligned=shape == "misaligned")
                for name in op.writes:
                    if name in actual:
                        assert_close(case, name, actual[name], before, after)


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


def assert_close(case: Case, name: str, actual: np.ndarray, before: dict[str, Any], after: dict[str, Any]) -> None:
    expected = after[name]
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.kind != "f" or case.ulps == 0:
        np.testing.assert_array_equal(actual, expected, name)
        return
    with np.errstate(all="ignore"):
        magnitudes = case.magnitude(before, after) if case.magnitude else {}
        smallest, largest = np.finfo(expected.dtype).smallest_normal, np.finfo(expected.dtype).max
        magnitude = np.nan_to_num(abs(np.asarray(magnitudes.get(name, expected), np.float64)), nan=0, posinf=largest)
        allowed = case.ulps * np.spacing(np.clip(magnitude, smallest, largest).astype(expected.dtype)).astype(float)
        allowed += smallest if case.flushes else 0
        # Errors are in units of the allowed error: up to 1 is allowed.
        off = (actual.astype(np.float64) - expected) / allowed
        is_number = np.isfinite(expected) & np.isfinite(actual)
    np.testing.assert_array_equal(actual[~is_number], expected[~is_number], name)
    np.testing.assert_allclose(off[is_number], 0, rtol=0, atol=1, err_msg=f"{name}, in units of {case.ulps} ulp")
