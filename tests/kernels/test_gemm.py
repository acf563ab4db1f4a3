"""The GEMM, in every tile size, with few columns, and over several parts of the depth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from gradflow.layers.dense import gemm
from tests.kernels.c_library import COMPILER, run_kernel
from tests.ops.targets import COMPILED_TARGETS, make_target

OWN_PRODUCTS = ("c", *COMPILED_TARGETS)


@pytest.mark.parametrize("target", OWN_PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    rows=st.one_of(st.integers(1, 40), st.integers(190, 270)),
    columns=st.one_of(st.integers(1, 32), st.integers(33, 70), st.integers(120, 300)),
    depth=st.one_of(st.integers(0, 40), st.sampled_from([127, 128, 129, 255, 256, 257, 512, 700])),
    transpose_a=st.booleans(),
    transpose_b=st.booleans(),
)
@example(rows=3, columns=64, depth=2, transpose_a=True, transpose_b=True)  # neighbors in a row of op(b) are 2 apart
@example(rows=9, columns=6, depth=40, transpose_a=False, transpose_b=False)  # few columns, of more than one vector
@example(rows=9, columns=3, depth=300, transpose_a=False, transpose_b=False)
# the largest number of rows that counts as few
@example(rows=192, columns=300, depth=300, transpose_a=False, transpose_b=False)
@example(rows=530, columns=70, depth=3, transpose_a=True, transpose_b=False)  # rows so far apart that they are copied
@example(rows=20, columns=530, depth=4, transpose_a=False, transpose_b=False)
@example(rows=256, columns=300, depth=3, transpose_a=False, transpose_b=False)  # whole blocks of rows
def test_every_element_is_the_sum_of_its_products(
    target: str, dtype: str, rows: int, columns: int, depth: int, transpose_a: bool, transpose_b: bool
) -> None:
    random = np.random.default_rng([rows, columns, depth])
    a = random.standard_normal((depth, rows) if transpose_a else (rows, depth)).astype(dtype)
    b = random.standard_normal((columns, depth) if transpose_b else (depth, columns)).astype(dtype)
    out = np.full((rows, columns), np.nan, dtype)
    make_target(target).run(gemm, gemm.arguments(a, b, out, transpose_a, transpose_b))
    wider = np.float64 if dtype == "float32" else np.longdouble
    exact_a, exact_b = (a.T if transpose_a else a).astype(wider), (b.T if transpose_b else b).astype(wider)
    # An error of half an ulp in each product and each sum: a sum of `depth` terms is known to that many of them.
    terms = abs(exact_a) @ abs(exact_b)
    error = abs(out - exact_a @ exact_b)
    assert_allclose(error / np.where(terms == 0, 1, terms), 0, atol=(depth + 1) * np.finfo(dtype).eps)


FEW_AND_MANY_COLUMNS = (1, 2, 3, 4, 5, 6, 7, 10, 13, 53)


@pytest.mark.parametrize("target", OWN_PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", FEW_AND_MANY_COLUMNS)
def test_an_element_has_the_same_bits_wherever_it_lies(target: str, dtype: str, columns: int) -> None:
    """A row is therefore predicted identically alone and among others."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((65, 300)).astype(dtype), random.standard_normal((300, columns)).astype(dtype)
    whole = np.empty((65, columns), dtype)
    make_target(target).run(gemm, gemm.arguments(a, b, whole))
    for row in range(65):
        alone = np.empty((1, columns), dtype)
        make_target(target).run(gemm, gemm.arguments(a[row : row + 1], b, alone))
        assert alone.tobytes() == whole[row].tobytes()


@pytest.mark.parametrize("target", OWN_PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", FEW_AND_MANY_COLUMNS)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), [(False, False), (True, False), (False, True)])
def test_an_infinite_element_changes_its_own_row_or_column_only(
    target: str, dtype: str, columns: int, transpose_a: bool, transpose_b: bool
) -> None:
    """Whole vectors are loaded where fewer elements belong to the sum: their neighbors must not count, not even times
    zero."""
    rows, depth = 67, 37
    random = np.random.default_rng(0)
    a = random.standard_normal((depth, rows) if transpose_a else (rows, depth)).astype(dtype)
    b = random.standard_normal((columns, depth) if transpose_b else (depth, columns)).astype(dtype)
    (a.T if transpose_a else a)[[0, 40, 66], [36, 0, 20]] = np.inf
    (b.T if transpose_b else b)[1, columns // 2] = np.nan
    out = np.zeros((rows, columns), dtype)
    make_target(target).run(gemm, gemm.arguments(a, b, out, transpose_a, transpose_b))
    is_changed = np.zeros((rows, columns), bool)
    is_changed[[0, 40, 66]] = is_changed[:, columns // 2] = True
    assert_array_equal(np.isfinite(out), ~is_changed)


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize(("rows", "columns"), [(50, 300), (192, 300), (300, 300), (300, 3), (300, 2)])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_a_part_writes_its_own_blocks_and_no_others(rows: int, columns: int, transpose_a: bool) -> None:
    """Two threads that add to the same block would both be wrong, although running them one after the other gives the
    same. The bits do not depend on how the blocks are shared out."""
    random = np.random.default_rng(0)
    a = random.standard_normal((270, rows) if transpose_a else (rows, 270), np.float32)
    b = random.standard_normal((270, columns), np.float32)
    whole = np.empty((rows, columns), np.float32)
    arguments = gemm.arguments(a, b, whole, transpose_a)
    run_kernel("gemm", gemm.sizes(arguments), arguments)
    writes = np.zeros((rows, columns), int)
    for part in range(3):
        out = np.full((rows, columns), np.nan, np.float32)
        arguments = gemm.arguments(a, b, out, transpose_a)
        run_kernel("gemm", gemm.sizes(arguments), arguments, cuts=(0.2, 0.5), only=part)
        is_written = np.isfinite(out)
        assert is_written.any()
        assert_array_equal(out[is_written], whole[is_written])
        writes += is_written
    assert_array_equal(writes, 1)
