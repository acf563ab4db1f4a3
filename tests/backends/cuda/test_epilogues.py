"""The epilogues of GEMMs, compared with the definitions of the ops that they replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradflow.backends.cuda.epilogues import grouped
from gradflow.backends.fusion import Call, fuse_bias_and_activation
from gradflow.layers.dense import add_bias, column_sum, gemm
from gradflow.layers.dropout import dropout
from gradflow.layers.gelu import gelu_tanh_backward, gelu_tanh_forward
from gradflow.layers.relu import relu_backward, relu_forward
from gradflow.layers.tanh import tanh_backward, tanh_forward
from gradflow.ops import Op

# Rows, inputs, units and following outputs: odd numbers, one of each, and just below, at and above the 128 signs of a
# block.
SHAPES = [
    (7, 13, 5, 3),
    (1, 13, 5, 3),
    (1, 1, 1, 1),
    (7, 13, 1, 3),
    (7, 1, 5, 3),
    (7, 13, 5, 1),
    (33, 20, 127, 9),
    (33, 20, 128, 9),
    (5, 20, 129, 40),
    (1, 20, 129, 40),
    (64, 256, 256, 128),
    (300, 67, 31, 1),
]


class Chain:
    """A dense layer with ReLU or GELU and the first GEMM of the following backward pass: its calls and arrays."""

    def __init__(
        self,
        backend: Any,
        shape: tuple[int, int, int, int],
        dtype: str,
        *,
        bias: bool,
        rate: float = 0.0,
        is_gelu: bool = False,
    ) -> None:
        rows, n_in, n, n_out = shape
        random = np.random.default_rng(shape)
        host = {
            "x": random.standard_normal((rows, n_in)),
            "weight": random.standard_normal((n_in, n)),
            "bias": random.standard_normal(n),
            "y": np.full((rows, n), np.nan),
            "activated": np.full((rows, n), np.nan),
            "dropped": np.full((rows, n), np.nan),
            "d_z": random.standard_normal((rows, n_out)),
            "next_weight": random.standard_normal((n, n_out)),
            "d_y": np.full((rows, n), np.nan),
            "d_weight": np.full((n_in, n), np.nan),
            "d_bias": np.full(n, np.nan),
        }
        self._backend = backend
        self.arrays = {name: backend.from_host(array.astype(dtype)) for name, array in host.items()}
        self.calls: list[Call] = []
        arrays = self.arrays
        clock = backend.from_host(np.array([3, 1, 0, 2**62]))
        settings = {"clock": clock, "threshold": int(rate * 2**32), "scale": 1 / (1 - rate), "seed": 1, "stream": 2}
        y, d_y = arrays["y"], arrays["d_y"]
        self._add(gemm, arrays["x"], arrays["weight"], y)
        if bias:
            self._add(add_bias, y, arrays["bias"], y)
        if is_gelu:
            self._add(gelu_tanh_forward, y, arrays["activated"])
        else:
            self._add(relu_forward, y, y)
        if rate:
            self._add(dropout, y, arrays["dropped"], **settings)
        self._add(gemm, arrays["d_z"], arrays["next_weight"], d_y, transpose_b=True)
        if rate:
            self._add(dropout, d_y, d_y, **settings)
        self._add(gelu_tanh_backward if is_gelu else relu_backward, y, d_y, d_y)
        self._add(gemm, arrays["x"], d_y, arrays["d_weight"], transpose_a=True)
        if bias:
            self._add(column_sum, d_y, arrays["d_bias"])

    def _add(self, op: Op, *args: Any, **kwargs: Any) -> None:
        self.calls.append((op, op.arguments(*args, **kwargs)))

    def run(self) -> int:
        """Run it; return the number of calls."""
        bound = self._backend.bind_all(self.calls)
        with self._backend.running():
            for call in bound:
                call()
        return len(bound)

    def read(self) -> dict[str, np.ndarray]:
        return {name: self._backend.to_host(array) for name, array in self.arrays.items()}


def reference_chain(shape: tuple[int, int, int, int], dtype: str, **kwargs: Any) -> dict[str, np.ndarray]:
    from gradflow.backends import get_backend

    chain = Chain(get_backend("reference"), shape, dtype, **kwargs)
    chain.run()
    return chain.read()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_layer_with_relu_is_what_its_ops_define(
    shape: tuple[int, int, int, int], bias: bool, rate: float, dtype: str
) -> None:
    from gradflow.backends import get_backend

    chain = Chain(get_backend("cupy"), shape, dtype, bias=bias, rate=rate)
    n_calls = chain.run()
    if dtype == "float32":
        assert n_calls == 3 + 2 * (rate > 0)
    assert_near(chain.read(), reference_chain(shape, dtype, bias=bias, rate=rate))


@pytest.mark.gpu
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_layer_with_gelu_is_what_its_ops_define(shape: tuple[int, int, int, int], bias: bool) -> None:
    from gradflow.backends import get_backend

    chain = Chain(get_backend("cupy"), shape, "float32", bias=bias, is_gelu=True)
    n_calls = chain.run()
    if shape[0] > 1 and shape[2] % 8 == 0:
        assert n_calls == 3
    assert_near(chain.read(), reference_chain(shape, "float32", bias=bias, is_gelu=True))


def assert_near(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        # Sums in a different order: their error grows with the number of terms, each of which is about 1 or its square.
        tolerance = 8 * np.finfo(array.dtype).eps * max(array.shape) * (1 + abs(np.nan_to_num(array)).max())
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("shape", "epilogues"),
    [
        ((7, 13, 5, 3), {"relu_aux_bias", "drelu", "bgrada"}),
        ((1, 13, 5, 3), {"relu_bias"}),
        ((7, 13, 1, 3), {"relu_bias"}),
        ((7, 13, 5, 1), {"relu_bias", "bgrada"}),
    ],
    ids=["rows", "one row", "one hidden unit", "one output"],
)
def test_requested_epilogues(shape: tuple[int, int, int, int], epilogues: set[str]) -> None:
    simgpu = pytest.importorskip("simgpu")
    from gradflow.backends.cuda.backend import CupyBackend

    chain = Chain(CupyBackend(), shape, "float32", bias=True, rate=0.0)
    simgpu.reset()
    chain.run()
    assert {name.split()[-1] for name in simgpu.stats()["cublas"]} == epilogues


def test_only_matching_ops_are_grouped() -> None:
    a, b, out, other = (np.ones((4, 4)) for _ in range(4))
    bias = np.ones(4)

    def epilogues(*calls: tuple[Any, ...]) -> list[str | None]:
        bound = [(op, op.arguments(*args)) for op, *args in calls]
        return [group.epilogue for group in grouped(fuse_bias_and_activation(bound, {"bias_relu_forward"}))]

    forward, weight_gradient, input_gradient = (
        (gemm, a, b, out),
        (gemm, a, b, out, True),
        (gemm, a, b, out, False, True),
    )
    with_bias = [forward, (add_bias, out, bias, out), (relu_forward, out, out)]
    assert epilogues(*with_bias[:2]) == ["BIAS"]
    assert epilogues(*with_bias) == ["RELU_BIAS"]
    assert epilogues(*with_bias[::2]) == ["RELU"]
    assert epilogues(*with_bias, input_gradient, (relu_backward, out, out, out)) == ["RELU_AUX_BIAS", "DRELU"]
    assert epilogues(*with_bias, input_gradient, (relu_backward, other, out, out)) == ["RELU_BIAS", "DRELU"]
    wide, input_of_gelu, narrow = np.ones((4, 8)), np.ones((4, 8)), np.ones((4, 4))
    of_gelu, backwards = (gemm, a, wide, input_of_gelu), (gemm, wide, np.ones((8, 8)), input_of_gelu, False, True)
    with_gelu = [of_gelu, (add_bias, input_of_gelu, bias, input_of_gelu), (gelu_tanh_forward, input_of_gelu, wide)]
    assert epilogues(*with_gelu) == ["GELU_AUX_BIAS"]
    assert epilogues(*with_gelu[::2]) == ["GELU_AUX"]
    assert epilogues(backwards, (gelu_tanh_backward, wide, input_of_gelu, input_of_gelu)) == ["DGELU"]
    assert epilogues(forward, (gelu_tanh_forward, out, narrow)) == [None, None]
    assert epilogues(weight_gradient, (column_sum, b, bias), (column_sum, b, bias)) == ["BGRADA", None]
    apart = [
        (forward, (add_bias, other, bias, out)),
        (forward, (add_bias, out, bias, other)),
        (forward, (relu_forward, out, other)),
        (forward, (tanh_forward, out, out)),
        (forward, (column_sum, b, bias)),
        (forward, (relu_backward, other, out, out)),
        (weight_gradient, (column_sum, a, bias)),
        (input_gradient, (relu_backward, other, out, a)),
        (input_gradient, (tanh_backward, other, out, out)),
        ((add_bias, other, bias, other), (relu_forward, out, out)),
    ]
    for first, second in apart:
        assert epilogues(first, second) == [None, None], (first[0].name, second[0].name)


def test_the_derivative_of_relu_comes_before_that_of_dropout_only_on_one_gemm() -> None:
    d_y, weight, d_x, y, other = (np.ones((4, 4)) for _ in range(5))

    def names(dropped: np.ndarray, masked: np.ndarray) -> list[str]:
        calls = [
            (gemm, gemm.arguments(d_y, weight, d_x, transpose_b=True)),
            (dropout, dropout.arguments(dropped, dropped, np.ones(4), 1, 2.0, 3, 4)),
            (relu_backward, relu_backward.arguments(y, masked, masked)),
        ]
        return [op.name for group in grouped(calls) for op, _ in group.calls]

    assert names(d_x, d_x) == ["gemm", "relu_backward", "dropout"]
    for dropped, masked in ((other, d_x), (d_x, other), (other, other)):
        assert names(dropped, masked) == ["gemm", "dropout", "relu_backward"]
