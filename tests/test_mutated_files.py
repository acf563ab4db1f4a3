"""Files that something has changed: the loaders refuse each with a reason, or give what was saved."""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradflow as gf
from gradflow.cli.command_line import KeepsCommandLine, read_command_line
from gradflow.storage import describe
from gradflow.training.snapshots import Snapshot
from tests.training.test_resume import fit, trainer


def model(path: Path) -> Any:
    network = gf.load(path, backend="numpy")
    return describe(network), {name: weight.tobytes() for name, weight in network.get_weights().items()}


def checkpoint(path: Path) -> Any:
    snapshot = Snapshot.read(path)
    # Compared as text, for NaN is not equal to itself.
    return json.dumps(snapshot.record), {name: vector.tobytes() for name, vector in snapshot.vectors.items()}


LOADERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("model.safetensors", model),
    "checkpoint": ("checkpoints/step-000000000020.safetensors", checkpoint),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint())
    return folder


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to three changes: bits, bytes, pieces that are gone, doubled, moved or cut off."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        # Half of the changes meet the header, which is what is parsed.
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 600)
        place = chance.randrange(max(end, 1))
        length = chance.choice((1, 2, 8, 100))
        kind = chance.randrange(7)
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
        else:
            del changed[place:]
    return bytes(changed)


@pytest.mark.parametrize("files", [500, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_changed_file_is_refused_or_means_the_same(run: Path, tmp_path: Path, kind: str, files: int) -> None:
    name, load = LOADERS[kind]
    content, expected = (run / name).read_bytes(), load(run / name)
    path, chance = tmp_path / "file.safetensors", random.Random(files)
    refused = 0
    tracemalloc.start()
    try:
        for number in range(files):
            path.write_bytes(mutated(content, chance))
            try:
                loaded = load(path)
            except gf.FileFormatError:
                refused += 1
            else:
                assert loaded == expected, number
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > 0.9 * files
    assert most < 100 * len(content) + 5_000_000


@pytest.mark.parametrize("files", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_changed_command_is_refused_or_is_words(run: Path, tmp_path: Path, files: int) -> None:
    KeepsCommandLine(tmp_path, ["digits", "--layers", "16", "--seed", "5"]).on_fit_begin(trainer("numpy"), 1)
    path, chance = tmp_path / "command.json", random.Random(files)
    content = path.read_bytes()
    for _ in range(files):
        path.write_bytes(mutated(content, chance))
        with contextlib.suppress(gf.FileFormatError):
            assert all(isinstance(word, str) for word in read_command_line(tmp_path))
