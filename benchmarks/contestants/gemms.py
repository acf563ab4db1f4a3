"""The GEMMs of a training step and nothing else: a lower bound for any step on the same BLAS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.networks import Network
from gradflow.backends.cpu.native import native_library


class _Gemms:
    """Operands of the GEMMs of a step: (a, b, out, transposed a, transposed b)."""

    def __init__(self, network: Network, optimizer: str) -> None:
        random = np.random.default_rng(2)

        def matrix(rows: int, columns: int) -> np.ndarray:
            return random.standard_normal((rows, columns), dtype=np.float32)

        self._steps = network.steps
        outputs = [matrix(network.batch_size, width) for width in network.sizes]
        weights = [matrix(n_in, n_out) for n_in, n_out in network.layers]
        d_weights = [np.empty_like(weight) for weight in weights]
        d_outputs = [matrix(network.batch_size, width) for width in network.sizes]
        layers = range(len(weights))
        forward = [(outputs[i], weights[i], np.empty_like(outputs[i + 1]), False, False) for i in layers]
        backward = []
        for i in reversed(layers):
            backward.append((outputs[i], d_outputs[i + 1], d_weights[i], True, False))
            if i > 0:
                backward.append((d_outputs[i + 1], weights[i], np.empty_like(d_outputs[i]), False, True))
        self._gemms = [*forward, *backward]

    def losses(self, steps: int) -> list[float]:
        return []

    def predict_one(self) -> None:
        pass


class NumpyGemms(_Gemms):
    """GEMMs by numpy.dot with ``out``."""

    def __init__(self, network: Network, optimizer: str) -> None:
        super().__init__(network, optimizer)
        self._calls: list[Callable[[], object]] = [
            partial(np.dot, a.T if transpose_a else a, b.T if transpose_b else b, out=out)
            for a, b, out, transpose_a, transpose_b in self._gemms
        ]

    def train(self) -> None:
        for _ in range(self._steps):
            for call in self._calls:
                call()


class GradflowGemms(_Gemms):
    """GEMMs by the BLAS that gradflow uses for large matrices, called from C by a program that contains nothing
    else."""

    def __init__(self, network: Network, optimizer: str) -> None:
        super().__init__(network, optimizer)
        native = native_library()
        assert native is not None
        assert native.blas is not None
        self._program = native.program(
            [
                native.blas_gemm(
                    native.blas, a, b, out, transpose_a=transpose_a, transpose_b=transpose_b, leaves_threads=False
                )
                for a, b, out, transpose_a, transpose_b in self._gemms
            ]
        )

    def train(self) -> None:
        self._program(self._steps)
