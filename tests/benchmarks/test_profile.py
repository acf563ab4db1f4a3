"""python -m benchmarks.profile: it times every op of a step, and adds up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.networks import NETWORKS, Network
from benchmarks.profile import _Part, main, profile, text
from gradflow.layers.dense import add_bias


@pytest.mark.parametrize(("optimizer", "update"), [("sgd", "gradient_descent"), ("adam", "adam")])
def test_every_op_of_a_step_is_timed(optimizer: str, update: str) -> None:
    network = Network("test", (6, 8, 3), batch_size=4, steps=3)
    result = profile(network, optimizer, rounds=2, seconds=1e-5)
    ops = result["ops"]
    names = [entry["op"] for entry in ops]
    assert names[0] == "gather_shuffled_batch"
    assert names[-2:] == [update, "advance"]
    assert {entry["shape"] for entry in ops if entry["op"] == "gemm"} == {
        "4x6 6x8", "4x8 8x3", "4x8ᵀ 4x3", "4x3 8x3ᵀ", "4x6ᵀ 4x8",
    }  # fmt: skip
    assert sum(entry["flops"] for entry in ops) == network.gemm_flops
    assert ops[0]["bytes"] == 2 * 4 * (4 * 6 + 4)  # the batch and its labels, and not all of the data
    assert all(entry[name] > 0 for entry in ops for name in ("alone", "default", "bound"))
    assert all(-10 < entry["in_step"] < 10 for entry in ops)
    assert min(result["step"].values()) > 0


def test_timed_ops_leave_their_arrays_as_they_were() -> None:
    x = np.array([1.0, 2.0], np.float32)
    call = add_bias, add_bias.arguments(x[:, None], np.ones(1, np.float32), x[:, None])
    values: list[list[float]] = []

    def clock() -> float:
        values.append(x.tolist())
        return float(len(values))

    assert _Part([call, call]).seconds(0.5, clock) == 1
    assert values == [[1, 2], [3, 4]]
    assert x.tolist() == [1, 2]


def test_the_table_adds_up() -> None:
    op = {"op": "gemm", "shape": "4x6 6x8", "flops": 1, "bytes": 1, "bound_by": "flops"}
    ops = [
        op | {"default": 3e-6, "alone": 4e-6, "in_step": 5e-6, "bound": 2e-6},
        op | {"default": 1e-6, "alone": 1e-6, "in_step": 1e-6, "bound": 1e-6, "bound_by": "bytes"},
    ]
    step = {"alone": 8e-6, "default": 6e-6, "in_epoch": 7e-6}
    lines = text({"network": "test", "optimizer": "sgd", "threads": 2, "ops": ops, "step": step}).splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines}
    assert cells["gemm"][-7:] == ["1.0", "1.0", "1.0", "12%", "1.0", "bytes", "100%"]
    assert cells["all ops"][-6:] == ["4.0", "5.0", "6.0", "75%", "3.0", "60%"]
    assert cells["the step"][-6:] == ["6.0", "8.0", "8.0", "100%", "3.0", "38%"]
    assert cells["lost between"][-4:] == ["2.0", "3.0", "2.0", "25%"]
    assert lines[-1] == "By default, an epoch takes 7.0 µs per step, with what ends it."


def test_it_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.profile.machine", lambda: {"processor": "P"})  # which itself needs the extra bench
    main(["8-4-2", "--batch", "3", "--quick", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["machine"] == {"processor": "P"}
    assert "4x" not in result["ops"][1]["shape"].split()[0]
    main(["T", "--quick", "--optimizer", "sgd"])
    assert str(NETWORKS["T"]) in capsys.readouterr().out


@pytest.mark.parametrize("network", ["X", "8", "8-0-2", "8-"])
def test_a_network_that_is_none_is_refused(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([network])
    assert "network must be one of T, S, M, L, or widths such as 26-256-256-1" in capsys.readouterr().err
