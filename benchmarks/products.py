"""Every matmul of a training step, our own against the BLAS: python -m benchmarks.products.

On one thread, in float32, with each instruction set that the kernels have for this processor, in processes of its own;
against NumPy's BLAS, and MKL if it is installed. Beside the times stands the limit up to which gradflow uses its own
matmuls. With --core-type SKYLAKEX, OpenBLAS runs the kernels that Intel's processors with AVX-512 would get.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import aligned, machine_line, microseconds, table
from benchmarks.networks import NETWORKS, Network
from benchmarks.processes import in_fresh_process
from gradflow.backends.blas import Blas, installed_mkl, numpy_blas
from gradflow.backends.cpu.native import NativeLibrary, native_library
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.errors import BackendError
from gradflow.layers.dense import gemm

OWN = "gradflow"
_ROUNDS, _QUICK_ROUNDS = 15, 2
_SECONDS, _QUICK_SECONDS = 2e-3, 1e-5
_CORE_TYPE = "OPENBLAS_CORETYPE"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Product:
    """A matmul of a training step: op(a) op(b), of `rows` times `depth` and `depth` times `columns`."""

    network: str
    kind: str
    rows: int
    depth: int
    columns: int

    @property
    def shape(self) -> str:
        """The shapes of both factors, with ᵀ behind a matrix that is stored transposed."""
        return (
            f"{self.rows}x{self.depth}{'ᵀ' if self.transpose_a else ''} "
            f"{self.depth}x{self.columns}{'ᵀ' if self.transpose_b else ''}"
        )

    @property
    def transpose_a(self) -> bool:
        """True for gradients of weights: the inputs are stored as rows of a batch."""
        return self.kind == "dL/dw"

    @property
    def transpose_b(self) -> bool:
        """True for gradients of inputs: a weight is stored by inputs and outputs."""
        return self.kind == "dL/dx"

    @property
    def flops(self) -> int:
        """The number of multiplications and additions."""
        return 2 * self.rows * self.depth * self.columns

    def arguments(self) -> dict[str, Any]:
        """Return matrices of random numbers, and one for the result."""
        random = np.random.default_rng(0)
        a = random.standard_normal((self.depth, self.rows) if self.transpose_a else (self.rows, self.depth), np.float32)
        b = random.standard_normal(
            (self.columns, self.depth) if self.transpose_b else (self.depth, self.columns), np.float32
        )
        out = np.empty((self.rows, self.columns), np.float32)
        return gemm.arguments(a, b, out, self.transpose_a, self.transpose_b)


def products(network: Network) -> list[Product]:
    """Return the matmuls of a step, layer by layer; the first layer needs no dL/dx."""
    batch, found = network.batch_size, []
    for layer, (n_in, n_out) in enumerate(network.layers):
        found.append(Product(network.name, "forward", batch, n_in, n_out))
        found.append(Product(network.name, "dL/dw", n_in, batch, n_out))
        if layer > 0:
            found.append(Product(network.name, "dL/dx", batch, n_out, n_in))
    return found


def _blases() -> dict[str, Blas]:
    """Return NumPy's BLAS and MKL, by their names, as far as there are such."""
    return {blas.description.partition(" ")[0]: blas for blas in (numpy_blas(), installed_mkl()) if blas is not None}


def _measure(network: Network, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return the times of each product in this process: the best of several rounds, in each of which all take turns."""
    library = native_library()
    assert library is not None
    library.largest_gemm = 1 << 62
    measured = []
    for product in products(network):
        arguments = product.arguments()
        calls = {OWN: library.bind(gemm, arguments)}
        for name, blas in _blases().items():
            calls[name] = library.blas_gemm(blas, **arguments, leaves_threads=False)
        programs = {name: library.program([call]) for name, call in calls.items() if call is not None}
        times = {name: max(1, math.ceil(seconds / _seconds(program, 1))) for name, program in programs.items()}
        best = dict.fromkeys(programs, math.inf)
        for _ in range(rounds):
            for name, program in programs.items():
                best[name] = min(best[name], _seconds(program, times[name]))
        entry = {"network": product.network, "kind": product.kind, "shape": product.shape, "flops": product.flops}
        measured.append({**entry, "seconds": best})
    return measured


def _seconds(program: NativeProgram, times: int) -> float:
    program()
    began = time.perf_counter()
    program(times)
    return (time.perf_counter() - began) / times


def _limits() -> dict[str, int]:
    """Return the most multiplications for which gradflow uses its own matmul beside each BLAS, in this process."""
    library = native_library()
    assert library is not None
    return {
        name: NativeLibrary(library.path, blas, library.instructions).largest_gemm for name, blas in _blases().items()
    }


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _ratio(entry: dict[str, Any]) -> float:
    """Return our time as a multiple of the best other."""
    return float(entry["seconds"][OWN] / min(time for name, time in entry["seconds"].items() if name != OWN))


def _table(of_set: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = list(of_set["products"][0]["seconds"])
    header = ["network", "product", "matrices", *(f"{name}: µs | GFLOP/s" for name in names), "ratio"]
    rows = [
        [
            entry["network"],
            entry["kind"],
            entry["shape"],
            *(f"{microseconds(time)} | {entry['flops'] / time / 1e9:.0f}" for time in entry["seconds"].values()),
            f"{_ratio(entry):.2f}",
        ]
        for entry in of_set["products"]
    ]
    return [cell for title in header for cell in title.split(" | ")], [" | ".join(row).split(" | ") for row in rows]


def _limit(multiplications: int) -> str:
    return "of any size" if multiplications >= 1 << 62 else f"of up to {multiplications:,} multiplications"


def _limits_line(of_set: dict[str, Any]) -> str:
    used = "; ".join(f"beside {name} {_limit(limit)}" for name, limit in of_set["limits"].items())
    ratios = [_ratio(entry) for entry in of_set["products"]]
    worst = max(of_set["products"], key=_ratio)
    return (
        f"gradflow uses its own matmuls {used}. They take {min(ratios):.2f} to {max(ratios):.2f} times as long as the "
        f"best other; longest, {worst['shape']}."
    )


def markdown(result: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    others = f" OpenBLAS runs its kernels for {result['core_type']}." if result["core_type"] else ""
    parts = [
        "# Matmuls of the networks' training steps",
        machine_line(result) + others,
        "On one thread, in float32: microseconds, GFLOP/s, and our time as a multiple of the best other. The best of "
        f"{result['rounds']} rounds, in which all take turns. A matrix with ᵀ is stored transposed.",
    ]
    for instructions, of_set in result["instructions"].items():
        parts += [f"## Our kernels for {instructions}", _limits_line(of_set), table(*_table(of_set))]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write products.json and products.md, whose names end with the core type if one is given."""
    options = _options(arguments)
    core_type = {_CORE_TYPE: options.core_type} if options.core_type else {}
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "instructions": {}}
    result["core_type"] = options.core_type or os.environ.get(_CORE_TYPE)
    for instructions in options.instructions:
        with _environment({**_ONE_THREAD, **core_type, "GRADFLOW_NATIVE": instructions}):
            of_set: dict[str, Any] = {"limits": in_fresh_process(_limits), "products": []}
            for name in options.networks:
                found = in_fresh_process(_measure, NETWORKS[name], options.rounds, options.seconds)
                of_set["products"] += found
        result["instructions"][instructions] = of_set
        print(f"{instructions}: {_limits_line(of_set)}\n\n{aligned(*_table(of_set))}\n", flush=True)
    name = f"products-{options.core_type.lower()}" if options.core_type else "products"
    write_results(options.output, name, result, markdown(result))
    print(f"written: {options.output / name}.md")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    library = native_library()
    if library is None or not _blases():
        raise BackendError("the compiled kernels, or a BLAS to compare them with, are missing: see gradflow info")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument(
        "--instructions", nargs="+", choices=library.supported, default=library.supported, help="default: all"
    )
    parser.add_argument("--core-type", help="the processor for whose kind OpenBLAS runs its kernels; default: this one")
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default: {_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a few short rounds, to see it work")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    options.seconds = _QUICK_SECONDS if options.quick else _SECONDS
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


if __name__ == "__main__":
    main()
