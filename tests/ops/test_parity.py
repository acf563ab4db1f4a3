"""Every op on every backend, and every kernel under the C compiler, compared with the op's definition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest

from gradflow.backends.kernel_sources import kernels
from gradflow.doctor.kernels import Expectation, arrays_of, assert_close, definition
from gradflow.ops import OPS, Op
from gradflow.testing import CASES, SHAPES, VALUES, Draw
from gradflow.testing.activations import ACTIVATION_CASES
from tests.ops.targets import FUSING_TARGETS, TARGETS, BackendTarget, CTarget, GuardedArray, make_target

# Every kind of shape with ordinary values, and every kind of value in one shape.
KINDS = [*((shape, "ordinary") for shape in SHAPES), *(("odd", values) for values in VALUES[1:])]

# The forward op of each elementwise activation: a kernel does the bias besides.
FUSED = [case.make().forward_op.name for case in ACTIVATION_CASES.values()]


_made_target = cache(make_target)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> BackendTarget | CTarget:
    return _made_target(request.param)


def combinations() -> Iterator[Any]:
    """All that is tested, with the targets innermost: they share what is expected."""
    for op, case in CASES.items():
        for shape, values in KINDS:
            for dtype in ("float32", "float64"):
                for name in TARGETS:
                    target, marks = (name, ()) if isinstance(name, str) else (name.values[0], name.marks)
                    if not case.without.keys() & {shape, values}:
                        label = f"{target}-{op}-{shape}-{values}-{dtype}"
                        yield pytest.param(target, op, shape, values, dtype, marks=marks, id=label)


@lru_cache(maxsize=2)
def expectations(op: str, shape: str, values: str, dtype: str) -> list[tuple[dict[str, Any], Expectation]]:
    """The arguments of each variant of a case, and what is expected."""
    drawn = [CASES[op].make(Draw(dtype, shape, values), **variant) for variant in CASES[op].variants]
    return [(arguments, Expectation(OPS[op], arguments)) for arguments in drawn]


def result(
    target: BackendTarget | CTarget, op: Op, arguments: dict[str, Any], shape: str, same: tuple[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Return all arrays after the target has run, with the two arguments named by ``same`` being one array."""
    guarded = {
        name: GuardedArray(target.backend, array, misaligned=shape == "misaligned")
        for name, array in arrays_of(arguments).items()
    }
    if same is not None:
        guarded[same[1]] = guarded[same[0]]
    target.run(op, arguments | {name: place.array for name, place in guarded.items()})
    return {name: place.read() for name, place in guarded.items()}


@pytest.mark.parametrize(("target", "op", "shape", "values", "dtype"), list(combinations()), indirect=["target"])
def test_definition(target: BackendTarget | CTarget, op: str, shape: str, values: str, dtype: str) -> None:
    for before, expected in expectations(op, shape, values, dtype):
        actual = result(target, OPS[op], before, shape)
        assert_close(actual, expected)
        for name, array in arrays_of(before).items():
            if name not in OPS[op].writes:
                np.testing.assert_array_equal(actual[name], array, f"{name} is not among the op's writes")
        for pair in OPS[op].in_place:
            if not set(pair) <= arrays_of(before).keys():
                continue  # one of the two is None here
            in_place = result(target, OPS[op], before, shape, same=pair)
            for name in set(OPS[op].writes) & actual.keys():
                np.testing.assert_array_equal(in_place[name], actual[name], f"{name} with {pair} one array")


def fused_combinations() -> Iterator[Any]:
    for name in FUSING_TARGETS:
        target, marks = (name, ()) if isinstance(name, str) else (name.values[0], name.marks)
        for activation in FUSED:
            for shape, values in KINDS:
                yield pytest.param(
                    target, activation, shape, values, marks=marks, id=f"{target}-{activation}-{shape}-{values}"
                )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("target", "activation", "shape", "values"), list(fused_combinations()), indirect=["target"])
def test_bias_and_activation_in_one_kernel(
    target: BackendTarget | CTarget, activation: str, shape: str, values: str, dtype: str
) -> None:
    settings = CASES[activation].variants[0]
    before = CASES["add_bias"].make(Draw(dtype, shape, values))
    in_between = definition(OPS["add_bias"], before)["y"]
    of_activation = {"x": in_between, "y": before["y"], **settings}
    guarded = {
        name: GuardedArray(target.backend, array, misaligned=shape == "misaligned") for name, array in before.items()
    }
    guarded["y"] = guarded["x"]  # as the recorder calls it: a dense layer adds its bias in place
    arrays = {name: place.array for name, place in guarded.items()}
    target.run_fused(OPS[activation], arrays, settings)
    assert_close({"y": guarded["y"].read()}, Expectation(OPS[activation], of_activation))


def test_every_fused_kernel_is_tested() -> None:
    fused = {f"bias_{activation}" for activation in FUSED}
    assert fused == set(kernels("c")) - set(OPS)
    of_products = {"narrow_weight_gradient", "narrow_relu_gradient"}  # tests/backends/cuda/test_epilogues.py
    assert fused | of_products == set(kernels("cuda")) - set(OPS)
