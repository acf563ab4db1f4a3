"""The choice among algorithms, and between a GEMM with its epilogue and separate kernels; tests invent the times."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends.cuda.device_cache import DeviceCache
from gradflow.layers.dense import gemm

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(7, 13)).astype(np.float32), RNG.normal(size=(13, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, for this test alone; choices are timed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    return tmp_path / "gradflow"


class Times:
    """Stands for the timing: the first way takes 1 s, others what ``of`` says."""

    def __init__(self, of: Callable[[str, int], float]) -> None:
        self.timed: list[list[str]] = []
        self._of = of

    def __call__(self, ways: Mapping[str, list[Any]], stream: Any) -> dict[str, float]:
        self.timed.append(list(ways))
        return {key: 1.0 if number == 0 else self._of(key, number) for number, key in enumerate(ways)}


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Times]:
    def invent(of: Callable[[str, int], float]) -> Times:
        invented = Times(of)
        monkeypatch.setattr("gradflow.backends.cuda.choices.seconds_of", invented)
        return invented

    return invent


def new_backend() -> Any:
    """A backend as a new process would have it."""
    from gradflow.backends.cuda.backend import CupyBackend

    backend = CupyBackend()
    backend.choices.begin(DeviceCache("gemm-choices.json", backend.gemm_identity))
    return backend


def algorithm_of_gemm(backend: Any, a: np.ndarray = A) -> str:
    """Bind a GEMM as a program with a weight gradient, check its result, and return the algorithm that it uses."""
    out = backend.zeros((len(a), 5), np.float32)
    a_transposed = backend.from_host(np.ascontiguousarray(a.T))
    (call,) = backend.bind_all([(gemm, gemm.arguments(a_transposed, backend.from_host(B), out, transpose_a=True))])
    with backend.running():
        call()
    assert_allclose(backend.to_host(out), a @ B, rtol=1e-5, atol=1e-5)
    plans = backend._cublaslt._plans.items()
    name: str = next(plan for problem, plan in plans if problem.shapes[2] == out.shape).algorithm.name
    return name


def trained(backend: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    monkeypatch.setattr("gradflow.network.get_backend", lambda *args, **kwargs: backend)
    network = gf.MLP([13, 8, 9, 1], seed=3)
    x = np.random.default_rng(1).normal(size=(20, 13))
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.05)).fit(x, x[:, :1], epochs=3, batch_size=8)
    return network.get_weights()


def test_the_fastest_algorithm_is_kept_for_later_processes(times: Callable[..., Times]) -> None:
    first = times(lambda key, number: 0.5)
    backend = new_backend()
    chosen = algorithm_of_gemm(backend)
    assert chosen == first.timed[0][1]
    assert algorithm_of_gemm(backend) == chosen
    assert len(first.timed) == 1
    second = times(lambda key, number: 2.0)
    assert algorithm_of_gemm(new_backend()) == chosen
    assert second.timed == []


def test_predictions_and_single_gemms_are_not_timed_and_do_not_depend_on_choices(
    times: Callable[..., Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their shapes are many; and the bits of a prediction must not depend on what was trained before."""
    invented = times(lambda key, number: 0.5)
    backend = new_backend()

    def predicted() -> list[str]:
        monkeypatch.setattr("gradflow.network.get_backend", lambda *args, **kwargs: backend)
        gf.MLP([13, 8, 9, 1], seed=3).predict(np.ones((8, 13)))
        backend.bind(gemm, gemm.arguments(*(backend.zeros((4, 4), np.float32) for _ in range(3))))
        return sorted(
            f"{problem} {plan.algorithm.name}"
            for problem, plan in backend._cublaslt._plans.items()
            if not problem.is_timed
        )

    before = predicted()
    assert len(before) == 4
    assert invented.timed == []
    trained(backend, monkeypatch)
    assert len(invented.timed) > 5
    backend._cublaslt._plans.clear()
    assert predicted() == before


def test_an_algorithm_that_is_hardly_faster_is_not_chosen(times: Callable[..., Times]) -> None:
    invented = times(lambda key, number: 0.85)
    assert algorithm_of_gemm(new_backend()) == invented.timed[0][0]


@pytest.mark.parametrize("setting", ["0", "1"])
def test_without_a_cache_or_by_the_setting_the_heuristic_decides(
    times: Callable[..., Times], cache_folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("GRADFLOW_TUNE", setting)
    if setting == "1":
        cache_folder.write_text("a file, in which nothing can be created")
    invented = times(lambda key, number: 0.1)
    backend = new_backend()
    assert not backend.choices.is_timing
    algorithm_of_gemm(backend)
    trained(backend, monkeypatch)
    assert invented.timed == []


def test_choices_in_a_folder_that_became_read_only_are_used_and_not_extended(
    times: Callable[..., Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(lambda key, number: 0.5)
    chosen = algorithm_of_gemm(new_backend())
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    invented = times(lambda key, number: 0.5)
    backend = new_backend()
    assert algorithm_of_gemm(backend) == chosen
    assert algorithm_of_gemm(backend, A[:3]) != chosen
    assert invented.timed == []


def test_a_full_disk_ends_the_timing(times: Callable[..., Times], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    invented = times(lambda key, number: 0.5)
    backend = new_backend()
    monkeypatch.setattr("gradflow.backends.cuda.device_cache.write_json", full)
    chosen = algorithm_of_gemm(backend)
    assert chosen == algorithm_of_gemm(backend)  # this process stays with its choice
    algorithm_of_gemm(backend, A[:3])
    assert len(invented.timed) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"checksum": "0"}'])
def test_a_damaged_cache_is_replaced(times: Callable[..., Times], cache_folder: Path, content: bytes) -> None:
    cache_folder.mkdir()
    file = cache_folder / "gemm-choices.json"
    file.write_bytes(content)
    invented = times(lambda key, number: 0.5)
    chosen = algorithm_of_gemm(new_backend())
    assert algorithm_of_gemm(new_backend()) == chosen
    assert len(invented.timed) == 1
    assert chosen in file.read_text()


def test_choices_of_another_device_or_type_are_not_used(times: Callable[..., Times], cache_folder: Path) -> None:
    invented = times(lambda key, number: 0.5)
    backend = new_backend()
    algorithm_of_gemm(backend)
    stored = json.loads((cache_folder / "gemm-choices.json").read_text())
    del stored["checksum"]
    (identity,) = stored
    (name,) = stored[identity]
    assert identity == backend.gemm_identity
    cache = DeviceCache("gemm-choices.json", identity)
    cache.path.unlink()
    DeviceCache("gemm-choices.json", "another device").add(stored[identity])
    cache.add({name: ["no name"]})
    algorithm_of_gemm(new_backend())
    assert len(invented.timed) == 2


def _write(folder: str, number: int) -> None:
    os.environ["XDG_CACHE_HOME"] = folder
    for entry in range(20):
        assert DeviceCache("gemm-choices.json", f"device {number}").add({f"gemm {entry}": "a"})


def test_processes_that_write_at_once_lose_nothing(cache_folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(cache_folder.parent), number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    stored = [DeviceCache("gemm-choices.json", f"device {number}").read() or {} for number in range(2)]
    assert list(map(len, stored)) == [20, 20]
    assert {path.name for path in cache_folder.iterdir()} == {"gemm-choices.json", "gemm-choices.lock"}


def test_what_another_process_chose_first_stays(times: Callable[..., Times]) -> None:
    times(lambda key, number: 0.5)
    one, other = new_backend(), new_backend()
    save, one.choices.save = one.choices.save, lambda: None
    mine = algorithm_of_gemm(one)
    times(lambda key, number: 2.0)
    others = algorithm_of_gemm(other)
    save()
    assert mine != others
    assert algorithm_of_gemm(one) == mine
    assert algorithm_of_gemm(new_backend()) == others


def test_separate_kernels_are_used_where_they_are_faster(
    times: Callable[..., Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    simgpu = pytest.importorskip("simgpu")
    times(lambda key, number: 2.0)
    fused_backend = new_backend()
    expected = trained(fused_backend, monkeypatch)
    fused_backend._cublaslt._choices._cache.path.unlink()
    invented = times(lambda key, number: 0.1 if key == "separate" else 2.0)
    backend = new_backend()
    weights = trained(backend, monkeypatch)
    assert ["fused", "separate"] in invented.timed
    simgpu.reset()
    trained(backend, monkeypatch)
    gemms = simgpu.stats()["cublas"]
    epilogues = {name.rpartition(" ")[2] for name in gemms if "=" not in name.rpartition(" ")[2]}
    assert not epilogues
    assert all(gemm["count"] == gemm["in_graph"] for gemm in gemms.values())
    for name, weight in expected.items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_ways_that_cannot_be_captured_are_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    simgpu = pytest.importorskip("simgpu")
    backend = new_backend()
    simgpu.fail(captured=1)
    try:
        algorithm = algorithm_of_gemm(backend)
        assert simgpu.failures() == 1
    finally:
        simgpu.clear()
    assert backend.choices.known(next(iter(backend._cublaslt._plans)).key) == algorithm
    assert DeviceCache("gemm-choices.json", backend.gemm_identity).read() is None
    assert backend._fast_gemms.is_open


def test_timing_leaves_the_results_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timing itself, with the simulator's meaningless times: whatever it chooses must compute the same."""
    weights = trained(new_backend(), monkeypatch)
    monkeypatch.setenv("GRADFLOW_TUNE", "0")
    for name, weight in trained(new_backend(), monkeypatch).items():
        assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-6)
