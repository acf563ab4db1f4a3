"""Rows are shared out by their width: the number of processors of a GPU changes no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradflow.backends import get_backend
from gradflow.backends.kernel_sources import kernels
from gradflow.doctor.kernels import Expectation, arrays_of, assert_close
from gradflow.ops import OPS
from gradflow.testing import CASES, Draw

pytestmark = pytest.mark.gpu

WIDE, NARROW = (5, 1501), (1000, 67)
BY_ROWS = sorted(name for name, kernel in kernels("cuda").items() if kernel.loop == "ROWS" and name in CASES)


def drawn(dtype: str, shape: tuple[int, int], values: str = "ordinary") -> Draw:
    draw = Draw(dtype, "large", values)
    draw.rows, draw.columns = shape
    draw.n = draw.rows * draw.columns
    return draw


def launched(backend: Any, name: str, arguments: dict[str, Any]) -> tuple[dict[str, np.ndarray], int]:
    """Return all arrays after an op has run, and the number of its threads."""
    simgpu = pytest.importorskip("simgpu")
    on_device = arguments | {key: backend.from_host(array) for key, array in arrays_of(arguments).items()}
    call = backend.bind_all([(OPS[name], on_device)])[0]
    simgpu.reset()
    with backend.running():
        call()
    threads = simgpu.stats()["kernels"][name]["threads"]
    return {key: backend.to_host(on_device[key]) for key in arrays_of(arguments)}, threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", ["ordinary", "nan", "inf"])
@pytest.mark.parametrize("name", BY_ROWS)
def test_wide_rows_match_the_definition(name: str, values: str, dtype: str) -> None:
    case = CASES[name]
    for variant in () if values in case.without else case.variants:
        arguments = case.make(drawn(dtype, WIDE, values), **variant)
        expected = Expectation(OPS[name], arguments)
        assert_close(launched(get_backend("cupy"), name, arguments)[0], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [WIDE, NARROW])
@pytest.mark.parametrize("name", BY_ROWS)
def test_bits_do_not_depend_on_the_number_of_processors(name: str, shape: tuple[int, int], dtype: str) -> None:
    from gradflow.backends.cuda.backend import CupyBackend

    case = CASES[name]
    arguments = case.make(drawn(dtype, shape), **case.variants[0])
    results = []
    for processors in (1, 3, 132):
        backend = CupyBackend()
        backend._most_blocks = processors
        results.append(launched(backend, name, arguments)[0])
    for other in results[1:]:
        for key, array in results[0].items():
            assert other[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize(
    ("name", "lanes"),
    [("softmax_forward", 256), ("add_bias", 2 * 32), ("layer_norm_forward", 256), ("gather_shuffled_batch", 2 * 32)],
)
def test_a_wide_row_has_more_lanes_than_a_warp(name: str, lanes: int) -> None:
    from gradflow.backends.cuda.backend import CupyBackend

    case = CASES[name]
    backend = CupyBackend()
    for shape, expected in ((WIDE, lanes), (NARROW, 32)):
        arguments = case.make(drawn("float32", shape), **case.variants[0])
        sizes = OPS[name].sizes(arguments)
        assert sizes["rows"] * expected <= launched(backend, name, arguments)[1] < sizes["rows"] * expected + 512
