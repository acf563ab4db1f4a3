"""Measurements that need a fresh process: memory used by training, and time to the first step."""

from __future__ import annotations

import gc
import multiprocessing
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.contestants import contestant
from benchmarks.networks import NETWORKS, Network

_WARM_UP = Network("warm-up", (8, 8, 4), batch_size=8, steps=2)
_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_FIRST_STEP = """
import time
import numpy as np
x, labels = np.ones((32, 64), np.float32), np.zeros(32, np.int64)
began = time.perf_counter()
import gradflow as gf
trainer = gf.Trainer(gf.MLP([64, 128, 64, 10], backend="numpy"), "softmax_cross_entropy", "adam")
trainer.fit(x, labels, epochs=1, progress=False)
print(time.perf_counter() - began)
"""


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a module's function, called in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def allocated_by_fit(network: Network, optimizer: str) -> int:
    """Return the peak memory held by Python and NumPy while creating the network and training it with gradflow, in
    bytes.

    Exact, because NumPy reports its arrays to tracemalloc; the data and everything imported before do not count.
    """
    _fit(_WARM_UP, optimizer)
    network.data()
    gc.collect()
    tracemalloc.start()
    _fit(network, optimizer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _fit(network: Network, optimizer: str) -> None:
    trainer = gf.Trainer(gf.MLP(list(network.sizes), backend="numpy"), "softmax_cross_entropy", optimizer)
    trainer.fit(*network.data(), epochs=1, batch_size=network.batch_size, shuffle=False, progress=False)


def process_growth(name: str, network: Network, optimizer: str) -> int | None:
    """Return the bytes by which the process's peak during training exceeds its size before the network was created.

    The data, and all that the library loads and allocates for a first tiny network, exist before. "gradflow" is trained
    by `Trainer.fit`. None if the system is not Linux.
    """
    if not _REFERENCES.exists():
        return None

    def train(network: Network) -> None:
        if name == "gradflow":
            _fit(network, optimizer)
        else:
            contestant(name, network, optimizer).train()

    train(_WARM_UP)
    network.data()
    return _growth(lambda: train(network))


def process_growth_of_prediction(rows: int) -> dict[str, int] | None:
    """Return, for `predict` with network S on the given number of rows, the bytes of inputs and outputs, and by how
    much the peak of the process exceeded them. None if the system is not Linux."""
    if not _REFERENCES.exists():
        return None
    network = gf.MLP(list(NETWORKS["S"].sizes), backend="numpy")
    network.output_activation = "softmax"
    x = np.ones((rows, network.n_in), np.float32)
    network.predict(x[:10000])
    output_bytes = 4 * rows * network.n_out
    growth = _growth(lambda: network.predict(x))
    return {"rows": rows, "input_bytes": x.nbytes, "output_bytes": output_bytes, "beyond_bytes": growth - output_bytes}


def _growth(run: Callable[[], object]) -> int:
    gc.collect()
    _REFERENCES.write_text("5")  # resets the recorded peak to the current size
    before = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise OSError(f"{_STATUS} has no field {field}")
    return 1024 * int(found[1])


def first_step_seconds(processes: int) -> list[float]:
    """Return the times from ``import gradflow``, with NumPy imported, to the end of the first step of network S.

    Each is measured in its own process, after one that does not count because it may have to write .pyc files.
    """
    return [
        float(subprocess.run([sys.executable, "-c", _FIRST_STEP], capture_output=True, text=True, check=True).stdout)
        for _ in range(1 + processes)
    ][1:]
