"""`QuantileNormal`: any distribution becomes normal, as by scikit-learn; ties, noise, gaps and streams."""

from __future__ import annotations

import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.data import Batches, Preprocessing, QuantileNormal, fit_preprocessing
from gradflow.data.normal_quantiles import normal_quantile

RNG = np.random.default_rng(0)
END = 5.199337582


def ranked(numbers: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return the mean of the interpolations from the left and from the right, as scikit-learn takes it."""
    fractions = np.linspace(0, 1, len(quantiles))
    right = -np.interp(-numbers, -quantiles[::-1], -fractions[::-1])
    mean = (np.interp(numbers, quantiles, fractions) + right) / 2
    mean = np.where(numbers <= quantiles[0], 0, np.where(numbers >= quantiles[-1], 1, mean))
    return np.array([NormalDist().inv_cdf(p) for p in np.clip(mean, 1e-7, 1 - 1e-7)])


def test_normal_quantiles_are_those_of_another_implementation() -> None:
    p = np.concatenate([np.logspace(-7, -0.3, 500), 1 - np.logspace(-7, -0.3, 500), [0.5, 0.075, 0.925]])
    assert_allclose(normal_quantile(p), [NormalDist().inv_cdf(each) for each in p], rtol=1e-14, atol=1e-16)
    assert_allclose(normal_quantile(np.array([0.0, 1])), [-END, END], rtol=1e-9)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.integers(-3, 3), min_size=2, max_size=80).filter(
        lambda xs: max(xs) - min(xs) > 1
    ),
    st.lists(st.floats(-2e6, 2e6), max_size=20),
    st.integers(2, 1000),
)
def test_numbers_get_the_normal_quantile_of_their_rank(
    given_numbers: list[float], others: list[float], most: int
) -> None:
    x = np.array(given_numbers, np.float64)
    fitted = fit_preprocessing(x[:, None], {0: QuantileNormal(quantiles=most)})
    edges = np.quantile(x, np.linspace(0, 1, min(most, 10, len(x))))
    found = fitted.transform(np.append(x, others)[:, None])[:, 0]
    assert_allclose(normal_cdf(found), normal_cdf(ranked(np.append(x, others), edges)), atol=1e-9)


def normal_cdf(x: np.ndarray) -> list[float]:
    return [NormalDist().cdf(each) for each in x]


@pytest.mark.parametrize("kind", ["normal", "lognormal", "counts", "two values", "few rows"])
def test_scikit_learn_makes_the_same_of_them(kind: str) -> None:
    sklearn_preprocessing = pytest.importorskip("sklearn.preprocessing")
    random = np.random.default_rng(1)
    x = {
        "normal": random.normal(size=3000),
        "lognormal": 1e6 * random.lognormal(size=1000),
        "counts": random.poisson(0.5, 400).astype(np.float64),
        "two values": random.integers(0, 2, 50).astype(np.float64),
        "few rows": random.normal(size=7),
    }[kind][:, None]
    fitted = fit_preprocessing(x, {0: QuantileNormal()})
    n = min(len(x), max(10, len(x) // 30))
    theirs = sklearn_preprocessing.QuantileTransformer(n_quantiles=n, output_distribution="normal", subsample=None)
    others = np.append(x.mean() + x.std() * random.normal(size=500), [1e300, -1e300])[:, None]
    expected = theirs.fit(x).transform(np.append(x, others, axis=0))
    assert_allclose(fitted.transform(np.append(x, others, axis=0)), expected, rtol=1e-9, atol=1e-9)


def test_the_training_data_become_normal() -> None:
    x = RNG.lognormal(3, 2, (6000, 1))
    normal = np.sort(fit_preprocessing(x, {0: QuantileNormal()}).transform(x)[:, 0])
    expected = normal_quantile((np.arange(6000) + 0.5) / 6000)
    assert_allclose(normal[60:-60], expected[60:-60], atol=0.05)
    in_order = fit_preprocessing(x, {0: QuantileNormal()}).transform(np.sort(x, axis=0))
    assert (np.diff(in_order[:, 0]) >= 0).all()


def test_noise_moves_ties_at_the_end_to_the_middle_of_their_ranks() -> None:
    x = np.repeat([0.0, 1, 2], [500, 300, 200])[:, None]
    grid = np.array([[0.0], [1], [2]])
    without, with_noise = (fit_preprocessing(x, {0: QuantileNormal(noise=noise)}) for noise in (0.0, 1e-3))
    assert_allclose(without.transform(grid)[:, 0], [-END, 0.385, END], atol=0.05)
    assert_allclose(with_noise.transform(grid)[:, 0], normal_quantile(np.array([0.25, 0.65, 0.9])), atol=0.1)
    assert fit_preprocessing(x, {0: QuantileNormal(noise=1e-3)}) == with_noise
    assert fit_preprocessing(x, {0: QuantileNormal(noise=1e-3, seed=1)}) != with_noise
    # It is a fraction of the standard deviation: the unit makes no difference, where a factor has no rounding.
    scaled = fit_preprocessing(1024 * x, {0: QuantileNormal(noise=1e-3)})
    assert_array_equal(scaled.transform(1024 * grid), with_noise.transform(grid))


def test_gaps_constants_and_files() -> None:
    x = np.column_stack([np.append(np.arange(99.0), np.nan), np.ones(100), RNG.normal(size=100)])
    rules = {0: QuantileNormal("mark"), 1: QuantileNormal(noise=0.1), 2: QuantileNormal(quantiles=3)}
    fitted = fit_preprocessing(x, rules)
    assert fitted.output_names == ["0", "2", "0 is missing"]
    assert fitted.n_numbers == 2
    assert fitted.constant_columns == ["1"]
    assert_allclose(fitted.transform(x)[-1, [0, 2]], [0, 1], atol=1e-12)
    assert_allclose(fitted.transform(x)[49, 0], 0, atol=1e-12)
    assert Preprocessing.from_config(json.loads(json.dumps(fitted.config()))) == fitted
    assert "QuantileColumn(center=1.0, scale=0.0" in repr(fitted)
    assert repr(rules[1]) == "QuantileNormal(missing='refuse', quantiles=1000, noise=0.1, seed=0)"
    with pytest.raises(gf.DataError, match="column '0' has no value in row 99"):
        fit_preprocessing(x, {0: QuantileNormal()})
    for noise in (0.0, 1e-3):
        with pytest.raises(gf.DataError, match="quantiles must be sorted, and their range finite"):
            fit_preprocessing(np.array([[-1e308], [0], [1e308]]), {0: QuantileNormal(noise=noise)})


@pytest.mark.parametrize("rows", [300, 80_000])
@pytest.mark.parametrize("sizes", [[100], [4096], [37, 4999, 1, 8192]])
def test_the_blocks_of_a_source_make_no_difference(sizes: list[int], rows: int) -> None:
    x = np.random.default_rng(rows).lognormal(10, 2, (rows, 1))
    ends = np.cumsum(np.resize(sizes, rows))
    cuts = ends[ends < rows]
    rule = {0: QuantileNormal(noise=1e-3)}
    streamed = fit_preprocessing(Batches(lambda: ((part, part[:, 0]) for part in np.split(x, cuts))), rule)
    assert streamed == fit_preprocessing(x, rule)
    column = streamed.columns[0]
    assert column.quantiles[0] <= x.min()  # type: ignore[union-attr]
    assert column.quantiles[-1] >= x.max()  # type: ignore[union-attr]
    assert len(column.quantiles) == max(10, min(1000, rows // 30))  # type: ignore[union-attr]
