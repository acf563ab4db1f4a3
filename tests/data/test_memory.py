"""A file ten times larger than the memory allowed for training, splitting and prediction, for each kind of file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

COLUMNS = 128
PART_ROWS = 131_072
ALLOWED = 32 * 2**20
"""Bytes beyond the memory that Python, the libraries and a network use after training on a small file."""

ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Memory is counted as it is asked for. Arrow's own allocator reserves memory far in advance. glibc gives each thread
an arena, and keeps in it what was freed there; by chance, consecutive readers get the same one or different ones.
"""

# Pages mapped from a file are not memory of the process; the limit applies to all other memory.
WORK = """
import re, resource, sys
from pathlib import Path
import numpy as np
import gradflow as gf

kind, work, folder, allowed = *sys.argv[1:3], Path(sys.argv[3]), int(sys.argv[4])

def data(size):
    if kind == "npy":
        return tuple(np.load(folder / size / name, mmap_mode="r") for name in ("x.npy", "y.npy"))
    make = {"csv": gf.data.CSV, "parquet": gf.data.Parquet, "arrow": gf.data.Arrow}[kind]
    return make(folder / size / f"rows.{kind}", target="y", block_rows=4096), None

def train(size):
    x, y = data(size)
    trainer.fit(x, y, epochs=2, batch_size=1024)
    trainer.evaluate(x, y)
    network.predict(x[-5000:] if kind == "npy" else x)

def split(size):
    x, y = data(size)
    source = gf.data.Arrays(x, y) if kind == "npy" else x
    training, validation = source.split(**({"time": "x0"} if kind in ("parquet", "arrow") else {}))
    trainer.fit(training, epochs=1, batch_size=1024, validation_data=validation)
    rows = sum(len(network.predict(block)) for block in validation.blocks())
    assert rows == len(validation), rows

network = gf.MLP([128, 4, 1], backend="numpy")
trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(), threads=1)
work = {"train": train, "split": split}[work]
work("small")
used = int(re.search(r"VmData:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
work("large")
"""


def write(kind: str, folder: Path, rows: int) -> None:
    """Write random numbers in several parts."""
    folder.mkdir()
    random = np.random.default_rng(0)
    names = [*(f"x{number}" for number in range(COLUMNS)), "y"]
    parts = [min(PART_ROWS, rows - start) for start in range(0, rows, PART_ROWS)]

    def table(rows: int) -> pyarrow.Table:
        return pyarrow.table({name: random.random(rows, np.float32) for name in names})

    if kind == "npy":
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, COLUMNS))
        for number, part in enumerate(parts):
            x[number * PART_ROWS :][:part] = random.random((part, COLUMNS), np.float32)
        np.save(folder / "y.npy", random.random(rows, np.float32))
    elif kind == "csv":
        (folder / "rows.csv").write_text(",".join(names) + "\n" + (",".join(["0.25"] * len(names)) + "\n") * rows)
    elif kind == "parquet":
        # One page per column is held while reading: 1 MB by default, hence data_page_size.
        with pyarrow.parquet.ParquetWriter(
            folder / "rows.parquet", table(1).schema, use_dictionary=False, data_page_size=2**15
        ) as file:
            for part in parts:
                file.write_table(table(part))
    else:
        with pyarrow.ipc.new_file(folder / "rows.arrow", table(1).schema) as file:
            for part in parts:
                file.write_table(table(part))


def small_stacks() -> None:
    """Give threads small stacks: each would reserve 8 MiB, which counts even if it is never touched."""
    import resource

    resource.setrlimit(resource.RLIMIT_STACK, (2**19, 2**19))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("work", ["train", "split"])
@pytest.mark.parametrize("kind", ["npy", "parquet", "arrow", "csv"])
def test_work_takes_a_tenth_of_the_file(kind: str, work: str, tmp_path: Path) -> None:
    bytes_per_row = 5 * (COLUMNS + 1) if kind == "csv" else 4 * (COLUMNS + 1)
    write(kind, tmp_path / "small", 6000)
    write(kind, tmp_path / "large", 10 * ALLOWED // bytes_per_row + 1)
    assert sum(path.stat().st_size for path in (tmp_path / "large").iterdir()) > 10 * ALLOWED
    done = subprocess.run(
        [sys.executable, "-c", WORK, kind, work, str(tmp_path), str(ALLOWED)],
        env=os.environ | ALLOCATORS,
        preexec_fn=small_stacks,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
