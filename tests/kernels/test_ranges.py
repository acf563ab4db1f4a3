"""A kernel for the C compiler can process any part of its range: the parts together give the whole, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from gradflow.backends.kernel_sources import kernels
from gradflow.ops import OPS
from gradflow.testing import CASES, Draw
from tests.kernels.c_library import COMPILER, items, run_kernel

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")

ONE_ITEM = (
    "advance",
    "advance_part",
    "advance_scheduled",
    "total",
    "clip_scale",
    "muon_scale",
    "add_weighted_total",
    "adapt_scaling",
    "record_scaled_update",
)
DIVISIBLE = sorted(name for name in OPS if name in kernels("c") and name not in ONE_ITEM)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DIVISIBLE)
def test_two_parts_are_the_whole(name: str, dtype: str) -> None:
    case = CASES[name]
    before = case.make(Draw(dtype, "large", "ordinary"), **case.variants[-1])
    if "first_bad_step" in case.variants[-1]:
        before = case.make(Draw(dtype, "large", "ordinary"), **case.variants[0])
    sizes = OPS[name].sizes(before)
    assert items(kernels("c")[name], sizes) > 4
    results = []
    for cuts in ((), (0.37,), (0.01, 0.5, 0.98)):
        arguments = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in before.items()}
        run_kernel(name, sizes, arguments, cuts=cuts)
        results.append(arguments)
    whole, *parts = results
    assert any(not np.array_equal(whole[written], before[written]) for written in OPS[name].writes)
    for part in parts:
        for written in OPS[name].writes:
            assert part[written].tobytes() == whole[written].tobytes(), written


@pytest.mark.parametrize("name", ONE_ITEM)
def test_kernels_with_one_item_have_nothing_to_divide(name: str) -> None:
    arguments = CASES[name].make(Draw("float32", "large", "ordinary"), **CASES[name].variants[0])
    assert items(kernels("c")[name], OPS[name].sizes(arguments)) == 1
