"""Memory is measured, and prediction processes its rows in blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks.networks import Network
from benchmarks.processes import (
    _growth,
    allocated_by_fit,
    first_step_seconds,
    in_fresh_process,
    process_growth,
    process_growth_of_prediction,
)

_NETWORK = Network("test", (500, 700, 10), batch_size=64, steps=2)

linux_only = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc, as Linux has it")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_arrays_of_training_are_counted(optimizer: str) -> None:
    assert in_fresh_process(allocated_by_fit, _NETWORK, optimizer) > _NETWORK.least_bytes(optimizer)


@linux_only
def test_the_growth_of_the_process_holds_the_arrays_of_training() -> None:
    # The process may already have had some free memory.
    assert in_fresh_process(process_growth, "gradflow", _NETWORK, "adam") > 0.9 * _NETWORK.least_bytes("adam")


_N_BYTES = 50_000_000


def hold_and_release() -> None:
    np.ones(_N_BYTES, np.uint8)


@linux_only
def test_the_growth_of_the_process_is_its_peak() -> None:
    # Not in this process, in which threads of earlier tests may return memory meanwhile.
    assert_allclose(in_fresh_process(_growth, hold_and_release), _N_BYTES, rtol=0.05)  # pages and small objects


@linux_only
def test_prediction_takes_memory_for_a_block_and_not_for_all_rows() -> None:
    grown = in_fresh_process(process_growth_of_prediction, 200_000)
    assert grown["input_bytes"] == 200_000 * 64 * np.dtype(np.float32).itemsize
    assert grown["output_bytes"] == 200_000 * 10 * 4
    # The arrays of one block of 4096 rows are 4096 · (64 + 128 + 64 + 10) · 4 bytes, 4.4 MB; the inputs are 51 MB.
    assert grown["beyond_bytes"] < 8e6


def test_the_first_step_is_timed() -> None:
    seconds = first_step_seconds(1)
    assert len(seconds) == 1
    assert seconds[0] > 0
