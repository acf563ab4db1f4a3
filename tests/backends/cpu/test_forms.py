"""Programs of one form: the second takes over what was found out about the first, and has its own arguments."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradflow as gf
from gradflow.backends.cpu import forms
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.forms import form_of
from gradflow.backends.cpu.native import NativeLibrary, native_library
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.ops import OPS
from gradflow.program import Recorder
from gradflow.testing import CASES, Draw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 70)


@pytest.fixture
def library() -> NativeLibrary:
    found = native_library()
    if found is None:
        pytest.skip("the C kernels were not built, or are left out")
    return found


def trained(backend: NumpyBackend, hidden: int, seed: int, dropout: float, rate: float, l2: float, clip: Any) -> bytes:
    network = gf.MLP([6, hidden, hidden, 3], dropout=dropout, seed=seed, backend="numpy")
    network.backend = backend
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(rate), l2=l2, clip_norm=clip)
    trainer.fit(X, LABELS, epochs=2, batch_size=16, validation_data=(X, LABELS), progress=False)
    return network.state.tobytes() + str(list(trainer.history["val_loss"])).encode()


@settings(max_examples=25, deadline=None)
@given(
    members=st.lists(
        st.tuples(
            st.sampled_from([3, 8]),
            st.integers(0, 2**63 - 1),
            st.sampled_from([0.0, 0.2, 0.5]),
            st.floats(1e-4, 1e-1),
            st.sampled_from([0.0, 1e-3, 0.1]),
            st.sampled_from([None, 0.5, 1.0]),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_networks_of_one_form_have_the_bits_of_networks_that_are_bound_alone(members: list[Any]) -> None:
    library = native_library()
    shared = NumpyBackend(library)
    assert [trained(shared, *each) for each in members] == [trained(NumpyBackend(library), *each) for each in members]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OPS)
def test_the_second_call_of_a_form_computes_what_the_first_does(op: str, dtype: str, library: NativeLibrary) -> None:
    for variant in CASES[op].variants:
        results = []
        shared = NumpyBackend(library)
        for backend in (shared, shared, NumpyBackend(library)):
            arguments = CASES[op].make(Draw(dtype, "odd", "ordinary"), **variant)
            (call,) = backend.bind_all([(OPS[op], arguments)])
            call()
            results.append({name: value.tobytes() for name, value in arguments.items() if hasattr(value, "tobytes")})
        assert results[0] == results[1] == results[2]


def count_bound(backend: NumpyBackend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that receives the names of the ops that are bound one by one."""
    bound: list[str] = []
    bind_one = backend._bind_one
    monkeypatch.setattr(backend, "_bind_one", lambda op, arguments: (bound.append(op.name), bind_one(op, arguments))[1])
    return bound


def test_only_the_first_network_of_a_form_is_bound_call_by_call(
    library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = NumpyBackend(library)
    bound = count_bound(backend, monkeypatch)
    trained(backend, 8, 1, 0.2, 1e-3, 1e-3, None)
    assert bound
    bound.clear()
    trained(backend, 8, 2, 0.2, 1e-2, 1e-4, None)
    assert not bound
    trained(backend, 9, 2, 0.2, 1e-2, 1e-4, None)
    assert bound


def copies(backend: NumpyBackend, pairs: list[tuple[np.ndarray, np.ndarray]]) -> NativeProgram:
    recorder = Recorder(backend)
    for x, y in pairs:
        recorder(OPS["copy"], x, y)
    (program,) = recorder.program()._calls
    assert isinstance(program, NativeProgram)
    return program


def test_arrays_that_overlap_in_another_way_make_another_form(
    library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = NumpyBackend(library)
    bound = count_bound(backend, monkeypatch)
    phases = []
    for first in (50, 25):
        whole, target = np.zeros(100, np.float32), np.zeros(50, np.float32)
        program = copies(backend, [(np.ones(50, np.float32), whole[:50]), (whole[first:][:50], target)])
        phases.append(len(program._phases))
        program()
        np.testing.assert_array_equal(target, whole[first:][:50])
    assert phases == [1, 2]
    assert len(bound) == 4


@given(
    places=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=8),
    moved=st.integers(0, 5),
)
def test_forms_tell_overlaps_apart_wherever_the_arrays_lie(places: list[tuple[int, int]], moved: int) -> None:
    """Equal keys mean: the same pairs overlap, at the same distances."""
    buffers = np.zeros((2, 50), np.float32)
    one, other = (
        [buffer[first + skip :][:size] for first, size in places]
        for buffer, skip in zip(buffers, (0, moved), strict=True)
    )
    keys = [form_of([(OPS["copy"], {"x": array, "y": array}) for array in arrays]).key for arrays in (one, other)]
    assert keys[0] == keys[1]
    for place, step in itertools.product(range(len(places)), (-1, 1)):
        first, size = places[place]
        if not 0 <= first + step <= 45 or not size:
            continue
        changed = list(one)
        changed[place] = buffers[0][first + step :][:size]
        overlaps = [
            {(a, b): (p.ctypes.data - q.ctypes.data) for a, p in enumerate(arrays) for b, q in enumerate(arrays)
             if np.shares_memory(p, q)}
            for arrays in (one, changed)
        ]  # fmt: skip
        key = form_of([(OPS["copy"], {"x": array, "y": array}) for array in changed]).key
        if overlaps[0] != overlaps[1]:
            assert key != keys[0]


def test_a_form_keeps_no_array_alive(library: NativeLibrary) -> None:
    backend = NumpyBackend(library)
    x, y = np.zeros(100, np.float32), np.ones(100, np.float32)
    kept = weakref.ref(x)
    program = copies(backend, [(x, y)])
    again = copies(backend, [(y, np.zeros(100, np.float32))])
    del x
    gc.collect()
    assert kept() is not None  # the program needs it
    program()
    assert not y.any()
    del program
    gc.collect()
    assert kept() is None
    again()


def test_few_forms_are_kept(library: NativeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_MOST", 3)
    backend = NumpyBackend(library)
    for size in (5, 6, 7, 8, 5):
        x, y = np.arange(size, dtype=np.float32), np.zeros(size, np.float32)
        copies(backend, [(x, y)])()
        np.testing.assert_array_equal(y, x)
    assert len(backend._forms._known) == 3
