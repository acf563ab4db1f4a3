"""GEMMs by cuBLASLt: planned once, captured in a graph, and abandoned with a warning if they fail."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.backends.reference import ReferenceBackend
from gradflow.layers.dense import gemm
from gradflow.layers.relu import relu_forward

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(7, 13)).astype(np.float32), RNG.normal(size=(13, 5)).astype(np.float32)


@pytest.fixture
def backend() -> Any:
    """A GPU backend of its own, which has not planned or abandoned anything."""
    from gradflow.backends.cuda.backend import CupyBackend

    return CupyBackend()


def bound_gemm(backend: ReferenceBackend, a: np.ndarray = A, b: np.ndarray = B) -> tuple[Any, Any]:
    """A bound GEMM and the array it writes."""
    out = backend.zeros((len(a), b.shape[1]), a.dtype)
    arguments = gemm.arguments(backend.from_host(a), backend.from_host(b), out)
    return backend.bind(gemm, arguments), out


def test_a_gemm_is_captured_in_a_graph(backend: Any) -> None:
    call, out = bound_gemm(backend)
    out.data.memset_async(0, out.nbytes, backend.stream)
    with backend.stream:
        backend.stream.begin_capture()
        call()
        graph = backend.stream.end_capture()
    assert not backend.to_host(out).any()
    graph.launch(backend.stream)
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)


def test_a_gemm_is_one_call_of_cublaslt(backend: Any) -> None:
    simgpu = pytest.importorskip("simgpu")
    call, _ = bound_gemm(backend)
    with backend.running():
        simgpu.reset()
        call()
    (name,) = simgpu.stats()["cublas"]
    assert name.startswith("ltmatmul f32")
    assert simgpu.stats()["launches"] == simgpu.stats()["mallocs"] == 0


def test_the_heuristic_is_asked_once_for_each_shape(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.cublaslt_library import CublasLtLibrary

    asked = []
    ask = CublasLtLibrary.algorithms

    def count(self: Any, *args: Any, **preferences: int) -> Any:
        asked.append(args)
        return ask(self, *args, **preferences)

    monkeypatch.setattr(CublasLtLibrary, "algorithms", count)
    for a, b in ((A, B), (A, B), (A[:3], B), (A.astype(np.float64), B.astype(np.float64)), (A, B)):
        bound_gemm(backend, a, b)
    assert len(asked) == 3


def test_without_the_library_gemms_are_plain(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    break_at_once(monkeypatch)
    with pytest.warns(gf.SlowPathWarning, match="cuBLASLt cannot be used.*no such library.*install NVIDIA's cuBLAS"):
        call, out = bound_gemm(backend)
    with backend.running():
        call()
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)
    bound_gemm(backend)  # warned of only once


def test_a_gemm_that_fails_is_repeated_by_the_plain_path(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.fallback import FallbackCall  # which imports CuPy

    call, out = bound_gemm(backend)
    break_when_first_run(monkeypatch)
    with (
        backend.running(),
        pytest.warns(gf.SlowPathWarning, match=r"failed to compute a matmul, \(7, 13\).*EXECUTION_FAILED.*another way"),
    ):
        call()
    monkeypatch.undo()
    with backend.running():
        call()
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)
    assert list(backend.unsupported_gemms) == ["(7, 13) and (13, 5) to (7, 5), float32, DEFAULT"]
    assert not isinstance(bound_gemm(backend)[0], FallbackCall)  # it is not planned again
    assert isinstance(bound_gemm(backend, A[:3])[0], FallbackCall)


def test_a_failure_in_a_capture_is_left_to_the_capturing_code(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.cublaslt_library import CublasLtError

    call, out = bound_gemm(backend)
    with backend.stream:
        backend.stream.begin_capture()
        break_when_first_run(monkeypatch)
        with pytest.raises(CublasLtError, match="EXECUTION_FAILED"):
            call()
        monkeypatch.undo()
        backend.stream.end_capture()
        call()
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", ["matmul_desc", "set_attributes", "matrix_layout", "algorithms"])
def test_a_gemm_without_a_plan_is_plain_and_listed(
    backend: Any, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    from gradflow.backends.cuda.cublaslt_library import CublasLtError, CublasLtLibrary

    def refuse(*args: Any, **preferences: int) -> None:
        raise CublasLtError("CUBLAS_STATUS_NOT_SUPPORTED", 15)

    monkeypatch.setattr(CublasLtLibrary, function, refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call, out = bound_gemm(backend)
    with backend.running():
        call()
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)
    ((name, reason),) = backend.unsupported_gemms.items()
    assert name == "(7, 13) and (13, 5) to (7, 5), float32, DEFAULT"
    assert "NOT_SUPPORTED" in reason


def test_gemms_of_views_at_any_address(backend: Any) -> None:
    flat = backend.from_host(np.arange(200, dtype=np.float32))
    for first in range(1, 6):
        a, b = flat[first : first + 91].reshape(7, 13), flat[100 + first : 165 + first].reshape(13, 5)
        out = backend.empty(35 + first, np.float32)[first:].reshape(7, 5)
        with backend.running():
            backend.bind(gemm, gemm.arguments(a, b, out))()
        assert_array_equal(backend.to_host(out), backend.to_host(a) @ backend.to_host(b))


def trained(backend: Any, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> dict[str, np.ndarray]:
    """Return the weights of a network on the backend after several steps."""
    monkeypatch.setattr("gradflow.network.get_backend", lambda *args, **kwargs: backend)
    network = gf.MLP([13, 8, 9, 1], dropout=0.1, seed=3)
    x = np.random.default_rng(1).normal(size=(20, 13))
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.05)).fit(x, x[:, :1], epochs=3, batch_size=8, **kwargs)
    return network.get_weights()


def break_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda import pathfinder

    def find(name: str) -> None:
        raise RuntimeError(f"no such library: {name}")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", find)


def break_when_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.cublaslt_library import CublasLtError, CublasLtLibrary

    def fail(*args: Any) -> None:
        raise CublasLtError("CUBLAS_STATUS_EXECUTION_FAILED", 13)

    monkeypatch.setattr(CublasLtLibrary, "matmul", fail)


def test_training_without_cublaslt_warns_once_and_learns_the_same(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(backend, monkeypatch)
    break_at_once(monkeypatch)
    without = type(backend)()
    with pytest.warns(gf.SlowPathWarning, match="cuBLASLt cannot be used") as caught:
        weights = trained(without, monkeypatch)
    assert len(caught) == 1
    for name, weight in expected.items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_gemms_that_fail_when_first_run_are_plain_and_listed(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these: cuBLAS has had algorithms that its heuristic proposes and that do not run."""
    expected = trained(backend, monkeypatch)
    break_when_first_run(monkeypatch)
    without = type(backend)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = trained(without, monkeypatch)
        monkeypatch.undo()
        bound_gemm(without, A[:2], B[:, :4])
    assert without._fast_gemms.is_open
    assert len(without.unsupported_gemms) > 5
    assert all("EXECUTION_FAILED" in reason for reason in without.unsupported_gemms.values())
    assert not any("(2, 13)" in name for name in without.unsupported_gemms)
    for name, weight in expected.items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_the_next_algorithm_is_used_if_the_first_does_not_run(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.cublaslt_library import Algorithm, CublasLtError, CublasLtLibrary

    run, tried = CublasLtLibrary.matmul, []

    def fail_first(self: Any, *arguments: Any) -> None:
        tried.append(arguments[12])
        if arguments[12] == tried[0]:
            raise CublasLtError("CUBLAS_STATUS_NOT_SUPPORTED", 15)
        run(self, *arguments)

    monkeypatch.setattr(CublasLtLibrary, "matmul", fail_first)
    call, out = bound_gemm(backend)
    assert tried[1] - tried[0] == ctypes.sizeof(Algorithm)
    with backend.running():
        call()
    assert tried[2] == tried[1]
    assert not backend.unsupported_gemms
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("epilogue", ["RELU_AUX_BIAS", "DRELU", "BGRADA", "BIAS"])
@pytest.mark.parametrize("fails_in", ["captures", "all runs"])
def test_a_program_stays_a_graph_when_a_gemm_of_it_fails(
    backend: Any, monkeypatch: pytest.MonkeyPatch, epilogue: str, fails_in: str
) -> None:
    """Other calls, which a graph can contain, replace only this matmul. If it fails in captures only, it runs alone."""
    simgpu = pytest.importorskip("simgpu")
    from cupy.cuda import get_current_stream

    from gradflow.backends.cuda.cublaslt_library import EPILOGUES, CublasLtError, CublasLtLibrary

    expected = trained(backend, monkeypatch)
    run, describe, faulty = CublasLtLibrary.matmul, CublasLtLibrary.set_attributes, dict[int, int]()

    def note(self: Any, description: int, **attributes: int) -> None:
        describe(self, description, **attributes)
        faulty.pop(description, None)
        if attributes["EPILOGUE"] == EPILOGUES[epilogue]:
            faulty[description] = 0

    def fail(self: Any, *arguments: Any) -> None:
        if arguments[1] in faulty:
            faulty[arguments[1]] += 1
            is_planning = faulty[arguments[1]] == 1
            if get_current_stream().is_capturing() or (fails_in == "all runs" and not is_planning):
                raise CublasLtError("CUBLAS_STATUS_EXECUTION_FAILED", 13)
        run(self, *arguments)

    monkeypatch.setattr(CublasLtLibrary, "set_attributes", note)
    monkeypatch.setattr(CublasLtLibrary, "matmul", fail)
    without = type(backend)()

    class Counts(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            self.last = simgpu.stats()
            simgpu.reset()

    counts = Counts()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights = trained(without, monkeypatch, callbacks=[counts])
    assert {warning.category for warning in caught} == {gf.SlowPathWarning}
    assert faulty
    assert without.graphs.path.is_open
    assert without._fast_gemms.is_open
    gemms = counts.last["cublas"]
    assert all(name.startswith("ltmatmul") for name in gemms)
    outside = {name for name, gemm in gemms.items() if gemm["in_graph"] < gemm["count"]}
    if fails_in == "captures":
        assert {name.rpartition(" ")[2].upper() for name in outside} == {epilogue}
        assert not without.unsupported_gemms
    else:
        assert not outside
        assert counts.last["launches"] == 0
        assert all(name.endswith(epilogue) for name in without.unsupported_gemms)
    for name, weight in expected.items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_programs_that_were_bound_before_a_failure_are_graphs_of_what_replaces_it(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if all of cuBLASLt is given up: its plain products run between the graphs, which stay in use."""
    simgpu = pytest.importorskip("simgpu")
    call, out = bound_gemm(backend)
    y = backend.zeros((7, 5), np.float32)
    relu = backend.bind(relu_forward, relu_forward.arguments(out, y))
    with pytest.warns(gf.SlowPathWarning, match="cuBLASLt cannot be used"):
        backend._fast_gemms.give_up(RuntimeError("it is gone"))
    run = backend.replay([relu, call, relu])
    simgpu.reset()
    run(1)
    assert simgpu.stats()["graph_launches"] == 2
    assert backend.graphs.path.is_open
    assert_allclose(backend.to_host(y), np.maximum(A @ B, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("refused", ["RELU_AUX_BIAS", "DRELU", "BGRADA", "BIAS"])
def test_a_refused_epilogue_becomes_separate_kernels(
    backend: Any, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    from gradflow.backends.cuda.cublaslt_library import EPILOGUES

    expected = trained(backend, monkeypatch)
    bind = type(backend._cublaslt).gemm

    def refuse(self: Any, *args: Any, epilogue: str = "DEFAULT", **kwargs: Any) -> Any:
        if epilogue != refused:
            return bind(self, *args, epilogue=epilogue, **kwargs)
        self.unsupported[refused] = "no"
        return None

    assert refused in EPILOGUES
    monkeypatch.setattr(type(backend._cublaslt), "gemm", refuse)
    without = type(backend)()
    weights = trained(without, monkeypatch)
    assert list(without.unsupported_gemms) == [refused]
    for name, weight in expected.items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_the_numbers_of_the_library_are_those_of_nvmath_python() -> None:
    """A second reading of cublasLt.h."""
    bindings = pytest.importorskip("nvmath.bindings.cublasLt")
    from gradflow.backends.cuda import cublaslt_library as ours

    for name, number in ours.EPILOGUES.items():
        assert number == bindings.Epilogue[name], name
    for kind, attributes in (("desc", ours._DESC_ATTRIBUTES), ("preference", ours._PREFERENCE_ATTRIBUTES)):
        of_kind = getattr(bindings, f"Matmul{kind.capitalize()}Attribute")
        for name, (number, c_type) in attributes.items():
            dtype = getattr(bindings, f"get_matmul_{kind}_attribute_dtype")(of_kind[name])
            assert number == of_kind[name], name
            assert ctypes.sizeof(c_type) == np.dtype(dtype).itemsize, name
    assert ctypes.sizeof(ours.Algorithm) == bindings.matmul_heuristic_result_dtype.itemsize
    assert ours.Algorithm.workspace_bytes.offset == bindings.matmul_heuristic_result_dtype.fields["workspace_size"][1]


def test_descriptors_are_destroyed_with_their_owners(backend: Any) -> None:
    simgpu = pytest.importorskip("simgpu")
    before = simgpu.cublaslt_objects()
    calls = [bound_gemm(backend)[0] for _ in range(3)]
    assert simgpu.cublaslt_objects() == before + 3 + 3  # layouts of one plan, descriptions of three matmuls
    backend._cublaslt._plans.clear()
    del calls[1:]
    assert simgpu.cublaslt_objects() == before + 3 + 1
    del calls
    assert simgpu.cublaslt_objects() == before


def test_an_algorithm_that_the_heuristic_marks_as_unsupported_is_not_used(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simgpu")
    from gradflow.backends.cuda.cublaslt_library import CublasLtLibrary

    run, used = CublasLtLibrary.matmul, []

    def note(self: Any, *arguments: Any) -> None:
        used.append(arguments[12])
        run(self, *arguments)

    monkeypatch.setattr(CublasLtLibrary, "matmul", note)
    monkeypatch.setenv("SIMGPU_CUBLASLT", "default=state")
    call, out = bound_gemm(backend)
    with backend.running():
        call()
    assert len(set(used)) == 1  # the unsupported one was not tried
    assert_allclose(backend.to_host(out), A @ B, rtol=1e-5, atol=1e-5)
    assert not backend.unsupported_gemms


def test_the_whole_workspace_is_passed_even_if_the_algorithm_asks_for_none(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradflow.backends.cuda.cublaslt_library import CublasLtLibrary

    run, passed = CublasLtLibrary.matmul, []

    def note(self: Any, *arguments: Any) -> None:
        passed.append(arguments[13:15])
        run(self, *arguments)

    monkeypatch.setattr(CublasLtLibrary, "matmul", note)
    bound_gemm(backend)
    workspace = backend._cublaslt._workspace
    assert passed == [(workspace.data.ptr, workspace.nbytes)]
    assert workspace.nbytes >= 4 << 20
