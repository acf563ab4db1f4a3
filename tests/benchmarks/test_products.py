"""python -m benchmarks.products: it times every matmul of a step with every instruction set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.networks import NETWORKS, Network
from benchmarks.products import OWN, Product, main, markdown, products
from gradflow.backends.cpu.native import native_library
from tests.benchmarks.test_contention import MACHINE


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_the_products_are_those_of_a_step(network: Network) -> None:
    found = products(network)
    assert sum(product.flops for product in found) == network.gemm_flops
    assert [product.kind for product in found[:3]] == ["forward", "dL/dw", "forward"]


@pytest.mark.parametrize(
    ("kind", "shape", "a", "b"),
    [
        ("forward", "4x3 3x2", (4, 3), (3, 2)),
        ("dL/dw", "4x3ᵀ 3x2", (3, 4), (3, 2)),
        ("dL/dx", "4x3 3x2ᵀ", (4, 3), (2, 3)),
    ],
)
def test_matrices_are_stored_as_in_training(kind: str, shape: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    product = Product("T", kind, rows=4, depth=3, columns=2)
    arguments = product.arguments()
    assert product.shape == shape
    assert (arguments["a"].shape, arguments["b"].shape, arguments["out"].shape) == (a, b, (4, 2))
    assert all(np.isfinite(arguments[name]).all() for name in "ab")


def test_times_are_compared_with_the_best_other() -> None:
    entry = {"network": "T", "kind": "forward", "shape": "4x3 3x2", "flops": 48}
    of_set = {
        "limits": {"OpenBLAS": 1 << 62, "MKL": 1 << 20},
        "products": [{**entry, "seconds": {OWN: 3e-6, "OpenBLAS": 4e-6, "MKL": 2e-6}}],
    }
    page = markdown({"machine": MACHINE, "rounds": 3, "core_type": "SKYLAKEX", "instructions": {"avx2": of_set}})
    assert "OpenBLAS runs its kernels for SKYLAKEX." in page
    assert "## Our kernels for avx2" in page
    assert "beside OpenBLAS of any size; beside MKL of up to 1,048,576 multiplications" in page
    assert "1.50 to 1.50 times as long as the best other; longest, 4x3 3x2." in page
    assert "| T | forward | 4x3 3x2 | 3.0 | 0 | 4.0 | 0 | 2.0 | 0 | 1.50 |" in page


def test_a_short_run_measures_every_product(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.products.machine", lambda: MACHINE)  # which itself needs the extra bench
    library = native_library()
    if library is None or library.blas is None:
        pytest.skip("there are no compiled kernels, or no BLAS beside them")
    fastest = library.supported[0]
    options = ["--quick", "--networks", "S", "--instructions", fastest, "--output", str(tmp_path)]
    main([*options, "--core-type", "Haswell"])
    result = json.loads((tmp_path / "products-haswell.json").read_text())
    measured = result["instructions"][fastest]["products"]
    assert [entry["shape"] for entry in measured] == [product.shape for product in products(NETWORKS["S"])]
    assert all(entry["seconds"][OWN] > 0 and len(entry["seconds"]) > 1 for entry in measured)
    assert (tmp_path / "products-haswell.md").read_text() == markdown(result)
    assert "gradflow uses its own matmuls beside" in capsys.readouterr().out
