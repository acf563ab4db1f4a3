"""The prediction programs that a network keeps."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow.inference import Inference


def recordings(network: gf.Sequential, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the numbers of rows for which the network records a program from now on."""
    recorded: list[int] = []
    record = network._inference._record

    def count(rows: int, activated: bool) -> Inference:
        recorded.append(rows)
        return record(rows, activated)

    monkeypatch.setattr(network._inference, "_record", count)
    return recorded


def test_a_small_program_is_kept_whatever_sizes_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([4, 3], backend="numpy")
    recorded = recordings(network, monkeypatch)
    x = np.random.default_rng(0).normal(size=(5000, 4))
    expected = network.predict(x[:1]).tobytes()
    for rows in (*range(2, 60), 5000, *range(1000, 4000, 100)):
        network.predict(x[:rows])
        recorded.clear()
        assert network.predict(x[:1]).tobytes() == expected
        assert not recorded


def test_idle_programs_have_few_rows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([4, 3], backend="numpy")
    x = np.zeros((4096, 4))
    for rows in range(1, 4096, 40):
        network.predict(x[:rows])
    idle = [rows for (rows, _), programs in network._inference._idle.items() for _ in programs]
    assert sum(idle) == network._inference._idle_rows <= 16384
    assert max(idle) < 2000  # The large ones are gone.


def test_members_take_no_more_memory_than_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.TabM([4, 3, 2], members=64, backend="numpy")
    x = np.random.default_rng(0).normal(size=(300, 4))
    recorded = recordings(network, monkeypatch)
    predicted = network.predict(x)
    assert max(recorded) * 64 == 4096
    np.testing.assert_allclose(predicted, np.concatenate([network.predict(row) for row in np.split(x, 60)]), rtol=1e-5)
    for rows in range(1, 60):
        network.predict(x[:rows])
    assert network._inference._idle_rows * 64 <= 16384


def test_a_program_in_use_is_not_given_to_another_call() -> None:
    programs = gf.MLP([4, 3], backend="numpy")._inference
    first, second = (programs.take(2, activated=True) for _ in range(2))
    assert not np.shares_memory(first.x, second.x)
    for program in (first, second):
        programs.put_back(program, activated=True)
    assert {id(programs.take(2, activated=True)) for _ in range(2)} == {id(first), id(second)}


def test_a_failing_call_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([4, 3], backend="numpy")
    with monkeypatch.context() as patched:
        patched.setattr(network.backend, "to_host", lambda array: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            network.predict(np.zeros((2, 4)))
    assert not network._inference._idle
    assert network.predict(np.zeros((2, 4))).shape == (2, 3)
