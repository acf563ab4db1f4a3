"""python -m benchmarks.gpu: it runs unattended, and reports if there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks.contestants import GPU_CONTESTANTS, contestant, problem_with
from benchmarks.gpu import OURS, main, markdown
from benchmarks.networks import Network
from gradflow.backends.availability import gpu_problem

_NETWORK = Network("test", (6, 8, 5, 3), batch_size=4, steps=10)


def test_without_a_gpu_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path)])
    assert ended.value.code == 2
    assert str(gpu_problem()) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_table_has_ratios_within_the_rounds() -> None:
    result = {
        "gpu": "a GPU",
        "machine": {"date": "2026-01-01", "gradflow": "0.1.0"},
        "left_out": {"JAX (GPU)": "jax is not installed"},
        "steps": [
            {
                "network": "T",
                "optimizer": "adam",
                "seconds_per_step": {OURS: [1e-6, 2e-6, 3e-6], "PyTorch (GPU)": [4e-6, 8e-6, 6e-6]},
            }
        ],
    }
    lines = markdown(result).splitlines()
    assert "| T 16-64-64-2 (256) | adam | gradflow | 2.0 | 1.5 to 2.5 | 1.00 |" in lines
    assert "| T 16-64-64-2 (256) | adam | PyTorch | 6.0 | 5.0 to 7.0 | 4.00 |" in lines
    assert lines[-1] == "Omitted: JAX (GPU): jax is not installed"


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradflow_on_the_gpu_trains_as_on_the_cpu(optimizer: str) -> None:
    on_gpu, on_cpu = (contestant(name, _NETWORK, optimizer) for name in (OURS, "gradflow"))
    assert_allclose(on_gpu.losses(10), on_cpu.losses(10), rtol=1e-5)


@pytest.mark.gpu
def test_it_runs_unattended(tmp_path: Path) -> None:
    main(["--quick", "--networks", "S", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [case["optimizer"] for case in result["steps"]] == ["sgd", "adam"]
    for case in result["steps"]:
        assert case["loss_differences"][OURS] == 0
        assert np.all(np.array(case["seconds_per_step"][OURS]) > 0)
    assert {*result["left_out"], OURS} >= {name for name in GPU_CONTESTANTS if problem_with(name)}
    assert (tmp_path / "gpu.md").read_text() == markdown(result)
