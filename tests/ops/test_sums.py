"""Sums whose work is split into parts: every width and length around the edges of the parts, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from gradflow.ops import OPS
from gradflow.optimizers.base import hyper_vector
from gradflow.reductions import chunk_length
from tests.ops.targets import TARGETS, BackendTarget, CTarget, make_target

# On a GPU a block processes 32 columns and 32 lanes of rows, and the C form 64 columns.
ROWS = (1, 2, 31, 32, 33, 65)
COLUMNS = (1, 2, 31, 32, 33, 63, 64, 65, 129, 400)


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> BackendTarget | CTarget:
    return make_target(request.param)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("rows", ROWS)
def test_column_sum_of_integers_is_exact(target: BackendTarget | CTarget, rows: int) -> None:
    backend = target.backend
    for columns in COLUMNS:
        x = np.random.default_rng(columns).integers(-50, 50, (rows, columns)).astype(np.float32)
        sums = backend.from_host(np.full(columns, np.nan, np.float32))
        target.run(OPS["column_sum"], {"x": backend.from_host(x), "sums": sums})
        np.testing.assert_array_equal(backend.to_host(sums), x.astype(int).sum(axis=0), f"{columns} columns")


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("chunk", [1, 5, 32, 1024])
def test_chunk_sums_at_the_edges_of_chunks(target: BackendTarget | CTarget, chunk: int) -> None:
    backend = target.backend
    for n in sorted({1, chunk - 1, chunk, chunk + 1, 3 * chunk - 1, 3 * chunk, 3 * chunk + 1} - {0}):
        x = np.random.default_rng(n).integers(-50, 50, n).astype(np.float32)
        chunks = [x[start : start + chunk].astype(int) for start in range(0, n, chunk)]
        partials = backend.from_host(np.full(len(chunks), np.nan))
        target.run(OPS["chunk_sums"], {"x": backend.from_host(x), "partials": partials, "chunk": chunk})
        np.testing.assert_array_equal(backend.to_host(partials), [part.sum() for part in chunks], f"n = {n}")
        result = backend.from_host(np.full(1, np.nan))
        target.run(OPS["total"], {"partials": partials, "result": result})
        np.testing.assert_array_equal(backend.to_host(result), [x.astype(int).sum()], f"n = {n}")


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("n_decayed", [0, 1, 4, 5, 6, 14])
def test_chunk_squares_with_the_penalty_ending_at_the_edges_of_chunks(
    target: BackendTarget | CTarget, n_decayed: int
) -> None:
    backend, chunk = target.backend, 5
    w, g = (np.random.default_rng(seed).integers(-9, 9, 14).astype(np.float32) for seed in (1, 2))
    regularized = g.astype(int) + 2 * w.astype(int) * (np.arange(14) < n_decayed)
    partials = backend.from_host(np.full(3, np.nan))
    arguments = {
        "parameters": w,
        "gradients": g,
        "hyper": hyper_vector([], learning_rate=0.1, l2=2.0),
        "partials": partials,
    }
    on_device = {name: backend.from_host(array) for name, array in arguments.items() if name != "partials"}
    target.run(OPS["chunk_squares"], {**on_device, "partials": partials, "n_decayed": n_decayed, "chunk": chunk})
    expected = [(regularized[start : start + chunk] ** 2).sum() for start in (0, 5, 10)]
    np.testing.assert_array_equal(backend.to_host(partials), expected)


def test_chunks_are_neither_too_short_nor_too_many() -> None:
    for n in (1, 1023, 1024, 1025, 4096 * 1024, 4096 * 1024 + 1, 10**9):
        length = chunk_length(n)
        assert length >= 1024
        assert -(-n // length) <= 4096


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize(("clip_norm", "scale"), [(2.5, 0.5), (5.0, 1.0), (5.000001, 1.0), (1e9, 1.0), (0.0, 0.0)])
def test_clipping_scales_down_and_never_up(target: BackendTarget | CTarget, clip_norm: float, scale: float) -> None:
    backend = target.backend
    partials = backend.from_host(np.array([9.0, 16.0]))
    gradient_scale = backend.from_host(np.full(1, np.nan, np.float32))
    target.run(OPS["clip_scale"], {"partials": partials, "gradient_scale": gradient_scale, "clip_norm": clip_norm})
    np.testing.assert_array_equal(backend.to_host(gradient_scale), [np.float32(scale)])


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("unweighted", [0, 1, 40])
def test_rows_without_weight_do_not_affect_the_moments_of_errors(
    target: BackendTarget | CTarget, unweighted: int
) -> None:
    backend, random = target.backend, np.random.default_rng(unweighted)
    rows = unweighted + 40
    targets, outputs = (random.integers(-9, 9, (rows, 3)).astype(np.float64) for _ in range(2))
    targets[:unweighted] = 1e17  # next to which the other targets have no digits
    weight = np.where(np.arange(rows) < unweighted, 0.0, 0.25)
    arguments = {"outputs": outputs, "targets": targets, "row_weight": weight, "moments": np.zeros((5, 3))}
    on_device = {name: backend.from_host(array) for name, array in arguments.items()}
    target.run(OPS["add_error_moments"], on_device)
    t, error = targets[unweighted:], (outputs - targets)[unweighted:]
    sums = [(0.25 * part).sum(axis=0) for part in (error**2, abs(error), (t - t.mean(axis=0)) ** 2)]
    expected = [*sums[:2], t.mean(axis=0), sums[2], np.full(3, 10.0)]
    np.testing.assert_allclose(backend.to_host(on_device["moments"]), expected, rtol=1e-12)
