"""kernels/vector_math.h, compiled as by setup.py: within the stated ulps, from the denormals to infinity."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.testing import assert_array_equal, assert_array_less

from gradflow.backends.kernel_sources import C_FLAGS, INSTRUCTION_FLAGS, kernel_folder
from tests.kernels.c_library import COMPILER
from tests.ops.targets import compiled_for


def sine_of_rest(rest: np.ndarray) -> np.ndarray:
    """sin(2π rest) for at most half a turn, from the nearest multiple of half a turn, where it is 0."""
    near = np.where(abs(rest) > 0.25, np.copysign(0.5, rest) - rest, rest)
    return np.sin(2 * np.pi * near)


# The error bounds stated by the header, and the function that defines each result.
FUNCTIONS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "exp": (2, np.exp),
    "expm1": (3, np.expm1),
    "log1p": (2, np.log1p),
    "tanh": (3, np.tanh),
    "cos_turns": (3.1, lambda t: np.sin(2 * np.pi * (0.25 - abs(t - np.rint(t))))),
    "sin_turns": (3.1, lambda t: sine_of_rest(t - np.rint(t))),
}
# Points where a branch or a clamp is, where results become denormal, 0 or infinite, and the ends of the range.
EDGES = np.float32([0, 1e-45, 1.17549435e-38, 0.29289322, 0.34657359, 0.41421356, 0.5, 0.625, 1, 87.33654, 88.72283])
EDGES = np.append(EDGES, np.float32([89, 103.97208, 104, 3.4e38]))
# Quarter turns, and the numbers from which a float has no fraction.
EDGES = np.append(EDGES, np.float32([0.125, 0.25, 0.75, 1.5, 1e3 + 0.25, 2**22 + 0.5, 2**23, 2**24]))


@pytest.fixture(scope="module", params=list(INSTRUCTION_FLAGS))
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions over arrays, for one instruction set."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    if request.param != "baseline":
        compiled_for(request.param)  # skips if this processor cannot run them
    loops = "".join(
        f"void {name}_of(const float *x, float *y, long long n)"
        f" {{ for (long long i = 0; i < n; i++) y[i] = gf_{name}_float(x[i]); }}\n"
        for name in FUNCTIONS
    )
    loops += (
        "void exp_less_infinity_of(const float *x, float *y, long long n)"
        " { for (long long i = 0; i < n; i++) y[i] = gf_exp_float(x[i]) - INFINITY; }\n"
    )
    loops = loops.replace("void", '__attribute__((visibility("default"))) void')
    header = (kernel_folder() / "vector_math.h").read_text()
    folder = tmp_path_factory.mktemp("vector_math")
    source, target = folder / "vector_math.c", folder / "vector_math.so"
    source.write_text(f"#include <math.h>\n#define GF_FUNCTION static inline\n{header}\n{loops}")
    flags = [*C_FLAGS, *INSTRUCTION_FLAGS[request.param], "-fPIC", "-shared"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(target), "-lm"], check=True)
    return ctypes.CDLL(str(target))


def computed(library: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    getattr(library, f"{name}_of")(
        ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_longlong(x.size)
    )
    return y


def assert_within_stated_ulps(library: ctypes.CDLL, name: str, x: np.ndarray) -> None:
    ulps, function = FUNCTIONS[name]
    y = computed(library, name, x)
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
        expected = exact.astype(np.float32)
        is_finite = np.isfinite(expected)
        assert_array_equal(y[~is_finite], expected[~is_finite], name)
        errors = abs(y[is_finite] - exact[is_finite]) / np.spacing(abs(expected[is_finite]))
    # A NaN among the errors fails too.
    assert_array_less(errors, ulps, f"{name}, in ulp")


def floats(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32).view(np.float32)


def test_infinity_less_infinity_is_no_number(library: ctypes.CDLL) -> None:
    """This must hold even if the compiler fuses the last product of exp with the following sum."""
    x = np.float32([np.inf, 1e30, 100, 89, 88.72284])
    assert np.isnan(computed(library, "exp_less_infinity", x)).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_four_million_floats_of_every_exponent(library: ctypes.CDLL, name: str) -> None:
    # The stride is odd and not close to a power of two, so that all kinds of mantissas occur.
    x = floats(np.arange(0, 2**32, 1021, dtype=np.uint64))
    assert_within_stated_ulps(library, name, x[~np.isnan(x)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_neighbors_of_every_edge(library: ctypes.CDLL, name: str) -> None:
    bits = (EDGES.view(np.uint32).astype(np.int64)[:, None] + np.arange(-50, 51)).reshape(-1)
    magnitudes = floats(bits[bits >= 0])
    x = np.concatenate([magnitudes, -magnitudes, np.array([np.inf, -np.inf], np.float32)])
    assert_within_stated_ulps(library, name, x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan(library: ctypes.CDLL, name: str) -> None:
    x = floats(np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FBFFFFF] * 7))
    assert np.isnan(x).all()
    assert_array_equal(computed(library, name, x), np.nan)


def blocks_of_all_floats() -> Iterator[np.ndarray]:
    """Yield every float from 2^-30 to 128 and its negative; smaller and larger ones are covered by the test with a
    stride."""
    first, last = (int(np.float32(value).view(np.uint32)) for value in (2**-30, 128))
    for sign in (0, 1 << 31):
        for begin in range(first, last, 1 << 22):
            yield floats(np.arange(begin, min(begin + (1 << 22), last), dtype=np.uint64) + sign)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_floats_near_branches_and_limits(library: ctypes.CDLL, name: str) -> None:
    for x in blocks_of_all_floats():
        assert_within_stated_ulps(library, name, x)
