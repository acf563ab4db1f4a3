"""Kernels and GEMMs on 16-bit arrays, compared with their definitions in float32."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.backends.cuda.epilogues import TF32
from gradflow.backends.kernel_sources import Form, form_text, kernels
from gradflow.executors import Eager
from gradflow.layers.dense import add_bias, column_sum, gemm
from gradflow.ops import OPS, copy
from gradflow.optimizers.base import OPTIMIZERS
from gradflow.testing import CASES, Draw
from tests.kernels.nvrtc import compile_cuda

LOW = ("float16", "bfloat16")
# Ops that layers call on 16-bit arrays, with half an ulp for the result and as much for intermediate rounding.
_ACTIVATIONS = [name for name in kernels("cuda").keys() & OPS.keys() if name.endswith(("_forward", "_backward"))]
ELEMENTWISE = sorted(
    {name for name in _ACTIVATIONS if "norm" not in name} | {"add_bias", "copy", "dropout", "scaled_copy"}
)
OF_COLUMNS = ("z", "d_z")  # the features of each column of a batch, (rows, columns, features)
UPDATING = sorted(OPTIMIZERS.keys() - {"lbfgs"})  # L-BFGS has no op
# The relative distance between neighboring numbers.
ULP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def low_dtype(name: str) -> np.dtype:
    pytest.importorskip("ml_dtypes")
    return np.dtype(name)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_kernel_reads_and_writes_16_bits(name: str, dtype: str) -> None:
    backend, low = get_backend("cupy"), low_dtype(dtype)
    arguments = CASES[name].make(Draw("float32", "odd", "ordinary"), **CASES[name].variants[0])
    if name == "scaled_copy":
        arguments["scaling"][0] = 4
    arrays = {key: value for key, value in arguments.items() if isinstance(value, np.ndarray)}
    matrices = {key for key, value in arrays.items() if value.ndim == 2 or key in OF_COLUMNS}
    with np.errstate(over="ignore"):
        rounded = {
            key: np.clip(value, -50, 50).astype(low) if key in matrices else value for key, value in arguments.items()
        }
    on_device = {
        key: backend.from_host(value) if isinstance(value, np.ndarray) else value for key, value in rounded.items()
    }
    Eager(backend)(OPS[name], **on_device)
    expected = {key: value.astype(np.float32) if key in matrices else value for key, value in rounded.items()}
    OPS[name].reference(**expected)
    for key in OPS[name].writes:
        actual = backend.to_host(on_device[key])
        assert actual.dtype == low
        np.testing.assert_allclose(actual.astype(np.float32), expected[key], rtol=2 * ULP[dtype], atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LOW)
def test_column_sums_and_copies_join_both_kinds(dtype: str) -> None:
    backend, low = get_backend("cupy"), low_dtype(dtype)
    x = np.random.default_rng(0).normal(size=(200, 7)).astype(low)
    on_device, sums, wide = backend.from_host(x), backend.empty(7, np.float32), backend.empty(x.shape, np.float32)
    ops = Eager(backend)
    ops(column_sum, on_device, sums)
    ops(copy, on_device, wide)
    np.testing.assert_allclose(backend.to_host(sums), x.astype(np.float64).sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(backend.to_host(wide), x.astype(np.float32))


@pytest.mark.gpu
@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("out_dtype", ["low", "float32"])
@pytest.mark.parametrize("dtype", LOW)
def test_gemms_of_16_bit_matrices(dtype: str, out_dtype: str, planned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.backend import CupyBackend

    backend, low = CupyBackend(), low_dtype(dtype)
    if not planned:
        monkeypatch.setattr("gradflow.backends.cuda.cublaslt.CublasLt.gemm", lambda *args, **kwargs: None)
    random = np.random.default_rng(0)
    a, b = random.normal(size=(30, 17)).astype(low), random.normal(size=(9, 17)).astype(low)
    out = backend.empty((30, 9), low if out_dtype == "low" else np.float32)
    Eager(backend)(gemm, backend.from_host(a), backend.from_host(b), out, transpose_b=True)
    expected = a.astype(np.float64) @ b.astype(np.float64).T
    tolerance = ULP[dtype] if out_dtype == "low" else 1e-6
    np.testing.assert_allclose(backend.to_host(out).astype(np.float64), expected, rtol=tolerance, atol=20 * tolerance)


@pytest.mark.gpu
def test_tf32_rounds_the_factors_and_only_where_it_is_asked_for() -> None:
    backend = get_backend("cupy")
    a, b = (np.random.default_rng(seed).normal(size=(40, 40)).astype(np.float32) for seed in (0, 1))
    outs = {}
    for tf32 in (False, True):
        out = backend.empty((40, 40), np.float32)
        op = gemm._replace(name=TF32) if tf32 else gemm
        Eager(backend)(op, backend.from_host(a), backend.from_host(b), out)
        outs[tf32] = abs(backend.to_host(out) - a.astype(np.float64) @ b).max()
    assert outs[False] < 1e-5 < outs[True] < 2e-2


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", UPDATING)
def test_an_optimizer_writes_the_copy_of_the_parameters(name: str, dtype: str) -> None:
    backend, low = get_backend("cupy"), low_dtype(dtype)
    optimizer = OPTIMIZERS[name](OPTIMIZERS[name].default_learning_rate)
    case = CASES[optimizer.op.name]
    arguments = case.make(Draw("float32", "odd", "ordinary"), **case.variants[0])
    on_device = {
        key: backend.from_host(value) if isinstance(value, np.ndarray) else value for key, value in arguments.items()
    }
    copies = backend.zeros(on_device["parameters"].shape, low)
    calls = [(optimizer.op, on_device), (copy, copy.arguments(on_device["parameters"], copies))]
    (call,) = backend.bind_all(calls)
    with backend.running():
        call()
    optimizer.op.reference(**arguments)
    parameters = backend.to_host(on_device["parameters"])
    np.testing.assert_allclose(parameters, arguments["parameters"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(backend.to_host(copies), parameters.astype(low))


@pytest.mark.nvrtc
@pytest.mark.parametrize("dtype", LOW)
def test_the_kernels_compile_with_cudas_compiler(dtype: str) -> None:
    import importlib.util

    spec = importlib.util.find_spec("nvidia.cuda_runtime")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("nvidia-cuda-runtime-cu12 is not installed")
    options = ("--gpu-architecture=compute_80", "--std=c++17", f"-I{spec.submodule_search_locations[0]}/include")
    updates = {OPTIMIZERS[name](OPTIMIZERS[name].default_learning_rate).op.name for name in UPDATING}
    for name in {*ELEMENTWISE, *updates, add_bias.name, column_sum.name}:
        kernel = kernels("cuda")[name]
        is_update = name in updates
        low = frozenset(p.name for p in kernel.parameters if p.is_pointer and p.c_type == "real" and not is_update)
        for is_ending in {False, is_update}:
            form = Form("float32", dtype, low, is_mirrored=is_update, is_ending=is_ending)
            compiled, log = compile_cuda(form_text(kernel, form), options)
            assert compiled, f"{name}:\n{log}"
            assert log.strip() == "", f"{name}:\n{log}"


def test_only_the_named_arguments_hold_16_bits() -> None:
    text = form_text(kernels("cuda")["column_sum"], Form("float32", "float16", frozenset({"x"})))
    assert "GF_KERNEL(column_sum, const gf_low *x, real *sums" in text


@pytest.mark.gpu
def test_a_gpu_before_ampere_has_no_bfloat16_and_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.backend import CupyBackend
    from gradflow.backends.cuda.cublaslt_library import CublasLtLibrary

    pytest.importorskip("ml_dtypes")
    backend = CupyBackend()
    turing = SimpleNamespace(compute_capability="75", id=backend.device_number)
    monkeypatch.setattr(backend, "_device", turing)
    monkeypatch.setattr(backend, "current", nullcontext)
    with pytest.raises(gf.BackendError, match=r"compute capability 7\.5, not 8\.0 or later\. Use precision='float16'"):
        backend.check_precision("bfloat16")
    with pytest.warns(gf.SlowPathWarning, match=r"'tf32' computes in float32 on this GPU: .*7\.5"):
        backend.check_precision("tf32")
    for precision in ("tf32", "float16", "float32"):
        backend.check_precision(precision)  # it is said once
    make, computed = CublasLtLibrary.matmul_desc, []

    def note(self: CublasLtLibrary, compute: int, scale: int) -> int:
        computed.append(compute)
        return make(self, compute, scale)

    monkeypatch.setattr(CublasLtLibrary, "matmul_desc", note)
    a = backend.from_host(np.ones((4, 4), np.float32))
    backend.fast_gemm(a=a, b=a, out=backend.zeros((4, 4), np.float32), tf32=True)
    assert computed == [68]  # CUBLAS_COMPUTE_32F, without FAST_TF32
