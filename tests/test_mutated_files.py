"""Modified files: the loaders refuse each with a reason, or return the saved contents.

They run in their own process with a memory limit, which a signal ends if a file takes too long.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.cli.command_line import KeepsCommandLine, read_command_line
from gradflow.data import fit_preprocessing
from gradflow.files import read_json, write_json
from gradflow.storage import describe
from gradflow.training.runs.snapshots import Snapshot

if sys.platform != "linux":
    pytest.skip("memory is limited as Linux does", allow_module_level=True)

import resource

pytestmark = pytest.mark.thorough

SECONDS = 5
"""Maximum seconds of the processor per file."""

MEMORY = 64 * 2**20
"""Maximum bytes for all files together, beyond those for Python, the libraries and the unchanged file."""


def model(path: Path) -> Any:
    network = gf.load(path, backend="numpy")
    return json.dumps(describe(network)), {name: weight.tobytes() for name, weight in network.get_weights().items()}


def checkpoint(path: Path) -> Any:
    snapshot = Snapshot.read(path)
    # Compared as text, because NaN is not equal to itself.
    return json.dumps(snapshot.record), {name: vector.tobytes() for name, vector in snapshot.vectors.items()}


def json_file(path: Path) -> Any:
    return json.dumps(read_json(path))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "model.safetensors": model,
    "checkpoints/step-000000000004.safetensors": checkpoint,
    "config.json": json_file,
    "command.json": lambda path: read_command_line(path.parent),
    "gemm-check.json": json_file,
}
"""Every file that gradflow writes and reads again, in a run folder or elsewhere, and the function that reads it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them, from a run with preprocessing and scaled targets."""
    folder, chance = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    x = {"age": chance.normal(size=40), "city": chance.choice(["Bern", "Kyōto", "Ur"], 40)}
    y = chance.normal(size=40)
    preprocessing = fit_preprocessing(x)
    layers = [gf.Dense(preprocessing.n_out, 6), gf.BatchNorm(6), gf.Residual([gf.Dense(6, 6), gf.GELU()])]
    network = gf.Sequential([*layers, gf.Dropout(0.2), gf.Dense(6, 1)], backend="numpy")
    network.preprocessing = preprocessing
    trainer = gf.Trainer(network, "mean_squared_error", "adam", standardize_targets=True)
    command = KeepsCommandLine(folder, ["digits", "--layers", "16", "--output", "läufe/1"], {})
    trainer.fit(x, y, epochs=4, batch_size=None, output=folder, checkpoint=gf.Checkpoint(), callbacks=[command])
    write_json(
        folder / "gemm-check.json", {"device 1, driver 2": {}, "device 2": {"BIAS, float32": "out is off by 0.5"}}
    )
    return folder


PIECES = (
    b"", b"\0", b"\xff\xfe", b"\\ud800", b'"', b"{", b"]", b"null", b"true", b"-1", b"1e999", b"NaN", b"{}", b"[0]",
    b"9" * 5000, b"[" * 20_000, b'{"":' * 20_000,
    *(length.to_bytes(8, "little") for length in (2**32, 10**8, 2**63, 2**64 - 1)),
)  # fmt: skip
"""Inputs that parsers stumble over."""


def cut_off(content: bytes, files: int, chance: random.Random) -> Iterator[bytes]:
    """Yield the content truncated to the given number of lengths, or to each length if there are no more than that."""
    for length in chance.sample(range(len(content)), min(files, len(content))):
        yield content[:length]


def flipped(content: bytes, files: int, chance: random.Random) -> Iterator[bytes]:
    """Yield the content with a bit flipped in the given number of bytes, or in each byte if there are no more than
    that."""
    for place in chance.sample(range(len(content)), min(files, len(content))):
        yield content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def mutated(content: bytes, files: int, chance: random.Random) -> Iterator[bytes]:
    """Yield the given number of copies of the content, each with several changes."""
    for _ in range(files):
        yield mutation(content, chance)


CHANGES = {"cut off": cut_off, "with a flipped bit": flipped, "mutated": mutated}


def mutation(content: bytes, chance: random.Random) -> bytes:
    """Return the content with one to three changes: bits, bytes or words, or pieces removed, duplicated, moved or
    truncated."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        # Half of the changes hit the header, which is the parsed part.
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 600)
        place = chance.randrange(max(end, 1))
        length = chance.choice((1, 2, 8, 100))
        kind = chance.randrange(9)
        if kind == 0 and changed:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1 and changed:
            changed[place] = chance.randrange(256)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place:place] = chance.randbytes(length)
        elif kind == 5:
            changed[place : place + length] = changed[:length]
        elif kind == 6:
            changed[place : place + length] = chance.choice(PIECES)
        elif kind == 7 and (words := list(re.finditer(rb"[\w.+-]+", changed[:end]))):
            changed[slice(*chance.choice(words).span())] = chance.choice(PIECES)
        else:
            del changed[place:]
    return bytes(changed)


def load_all(name: str, whole: Path, changed: Path, files: int) -> tuple[dict[str, list[bool]], float, int]:
    """Load the given number of files of each change; return those refused, the longest time in seconds, the growth in
    bytes."""
    load, chance, slowest = LOADERS[name], random.Random(files), 0.0
    refused: dict[str, list[bool]] = {change: [] for change in CHANGES}
    content, expected = whole.read_bytes(), load(whole)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert used is not None
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(used[1]) + MEMORY,) * 2)
    for change, contents in ((change, make(content, files, chance)) for change, make in CHANGES.items()):
        for number, changed_content in enumerate(contents):
            changed.write_bytes(changed_content)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # The signal that then arrives ends the process.
            began = time.perf_counter()
            try:
                loaded, reason = load(changed), ""
            except gf.FileFormatError as error:
                loaded, reason = None, str(error)
            slowest = max(slowest, time.perf_counter() - began)
            assert str(changed) in reason or (loaded == expected and not reason), f"{change}, {number}: {reason}"
            refused[change].append(bool(reason))
    return refused, slowest, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most)


@pytest.mark.parametrize("files", [200, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LOADERS)
def test_a_changed_file_is_refused_or_means_the_same(run: Path, tmp_path: Path, name: str, files: int) -> None:
    # A process that is ended by a signal or runs out of memory breaks the pool; the file that caused it still exists.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        refused, slowest, growth = process.submit(
            load_all, name, run / name, tmp_path / Path(name).name, files
        ).result()
    for change, of_change in refused.items():
        same = len(of_change) - sum(of_change)
        print(f"{name}: {len(of_change):,} files {change}, {sum(of_change):,} refused, {same:,} as before")
        assert sum(of_change) > 0.9 * len(of_change)
    print(f"{name}: {1000 * slowest:.0f} ms for a file at most, {growth / 1e6:.0f} MB more in memory")
