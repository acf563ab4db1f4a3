"""A run on a stream, interrupted in the middle of an epoch and resumed, gives the same bytes as an uninterrupted
one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import gradflow as gf
from gradflow.training.data import streaming
from tests.training.data import test_streamed_weights as streams
from tests.training.data.test_streamed_weights import KINDS, Make
from tests.training.runs.test_resume import BrokenOffError, Dies, bits

ROOT = Path(__file__).resolve().parents[3]
ROWS = 1000
X, LABELS, WEIGHT = (array[:ROWS] for array in (streams.X, streams.LABELS, streams.WEIGHT))

kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend_name(request: pytest.FixtureRequest) -> str:
    """The backends that people train on."""
    name: str = request.param
    return name


def trainer(backend: str, **settings: Any) -> gf.Trainer:
    network = gf.MLP([3, 8, 3], dropout=0.2, seed=4, backend=backend)
    return gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), **settings)


def fit(of: gf.Trainer, data: tuple[Any, ...], **arguments: Any) -> gf.History:
    """Train for four epochs of ten steps; the last 10 rows of each are dropped."""
    x, y, sample_weight = (*data, None, None)[:3]
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 99, "drop_last": True, "class_weight": "balanced"}
    return of.fit(x, y, sample_weight=sample_weight, **settings | arguments)


def broken_off(backend: str, data: tuple[Any, ...], folder: Path, **arguments: Any) -> None:
    """Return a run that ends after its third epoch, with its last checkpoint in the middle of that epoch."""
    with pytest.raises(BrokenOffError):
        fit(
            trainer(backend),
            data,
            output=folder,
            checkpoint=gf.Checkpoint(every_steps=7, keep=1),
            callbacks=[Dies(3)],
            **arguments,
        )
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000000028.safetensors"]


@kinds
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("chunk_bytes", [6000, 2**19], ids=["three batches", "all batches"])
def test_a_stream_resumes_in_the_middle_of_an_epoch(
    make: Make, shuffle: bool, chunk_bytes: int, backend_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", chunk_bytes)

    def data() -> tuple[Any, ...]:
        return make(tmp_path, LABELS, WEIGHT)

    alone, resumed = trainer(backend_name), trainer(backend_name)
    validation_data = (X[:300], LABELS[:300])
    arguments: dict[str, Any] = {"shuffle": shuffle, "validation_data": validation_data}
    expected = bits(alone, fit(alone, data(), **arguments))
    broken_off(backend_name, data(), tmp_path / "run", **arguments)
    assert bits(resumed, fit(resumed, data(), resume=tmp_path / "run", **arguments)) == expected


def test_standardized_targets_of_a_stream_are_resumed(tmp_path: Path, backend_name: str) -> None:
    y = 1e6 + 3e3 * X[:, :2]

    def run(**arguments: Any) -> tuple[gf.Trainer, gf.History]:
        network = gf.MLP([3, 8, 2], seed=4, backend=backend_name)
        of = gf.Trainer(network, "mean_squared_error", gf.Adam(0.01), standardize_targets=True)
        return of, fit(of, KINDS["csv"](tmp_path, y, WEIGHT), class_weight=None, **arguments)

    expected = bits(*run())
    with pytest.raises(BrokenOffError):
        run(output=tmp_path / "run", checkpoint=gf.Checkpoint(every_steps=7), callbacks=[Dies(3)])
    resumed, history = run(resume=tmp_path / "run")
    assert bits(resumed, history) == expected
    np.testing.assert_allclose(resumed.network.predict(X).mean(), y.mean(), rtol=1e-2)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize(("begun", "resumed"), [("npy", "memory"), ("memory", "npy"), ("arrays", "npy")])
def test_npy_files_and_the_arrays_in_them_are_the_same_data(
    begun: str, resumed: str, weight: np.ndarray | None, backend_name: str, tmp_path: Path
) -> None:
    def data(kind: str) -> tuple[Any, ...]:
        in_memory = (X, LABELS) if weight is None else (X, LABELS, weight)
        return in_memory if kind == "memory" else KINDS[kind](tmp_path, LABELS, weight)

    alone, other = trainer(backend_name), trainer(backend_name)
    expected = bits(alone, fit(alone, data(resumed)))
    broken_off(backend_name, data(begun), tmp_path / "run")
    assert bits(other, fit(other, data(resumed), resume=tmp_path / "run")) == expected


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [
        ("numpy", "reference"),
        pytest.param("numpy", "cupy", marks=pytest.mark.gpu),
        pytest.param("cupy", "numpy", marks=pytest.mark.gpu),
    ],
)
@pytest.mark.parametrize("make", [KINDS["parquet"], KINDS["npy"]], ids=["parquet", "npy"])
def test_another_backend_continues_with_the_same_rows_and_masks(
    make: Make, begun: str, resumed: str, tmp_path: Path
) -> None:
    alone, other = trainer(resumed), trainer(resumed)
    history = fit(alone, make(tmp_path, LABELS, WEIGHT))
    broken_off(begun, make(tmp_path, LABELS, WEIGHT), tmp_path / "run")
    moved = fit(other, make(tmp_path, LABELS, WEIGHT), resume=tmp_path / "run")
    # Adam divides by the root of small squares, which magnifies rounding.
    np.testing.assert_allclose(moved["loss"], history["loss"], rtol=1e-5)
    for name, weight in other.network.get_weights().items():
        np.testing.assert_allclose(weight, alone.network.get_weights()[name], rtol=0, atol=1e-4)


def test_other_data_and_other_weights_are_refused(tmp_path: Path) -> None:
    """Arrays and .npy are compared as a whole, rows of other streams only up to the end of the first piece."""
    npy, parquet = KINDS["npy"], KINDS["parquet"]
    changed, lighter = LABELS.copy(), WEIGHT.copy()
    changed[-1], lighter[0] = (LABELS[-1] + 1) % 3, lighter[0] / 2
    for number, (make, labels, weight) in enumerate(
        [(npy, changed, WEIGHT), (npy, LABELS, lighter), (npy, LABELS, None), (parquet, LABELS, lighter)]
    ):
        folder = tmp_path / str(number)
        broken_off("numpy", make(tmp_path, LABELS, WEIGHT), folder)
        other = trainer("numpy")
        before = other.network.parameters.copy()
        with pytest.raises(gf.DataError, match=r"the run to resume is a different one: .*data was '1000 rows, sha256"):
            fit(other, make(tmp_path, labels, weight), resume=folder)
        np.testing.assert_array_equal(other.network.parameters, before)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.training.runs.test_resume_streams import LABELS, WEIGHT, fit, trainer
from tests.training.data.test_streamed_weights import KINDS
import gradflow as gf

kind, folder, how, fatal = sys.argv[1:]
rename = os.replace

def replace(source, target):
    rename(source, target)
    if fatal in str(target):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
data = KINDS[kind](Path(folder), LABELS, WEIGHT)
fit(trainer("numpy"), data, checkpoint=gf.Checkpoint(every_steps=3), **{how: Path(folder, "run")})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
@pytest.mark.parametrize("kind", ["parquet", "csv", "npy", "iterable"])
def test_a_killed_process_continues_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    """Killed twice, after the checkpoints of step 12 and step 27, in the middle of the second and third epochs."""

    def run(how: str, fatal: str) -> int:
        command = [sys.executable, "-c", SCRIPT, kind, str(tmp_path), how, fatal]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode

    fit(trainer("numpy"), KINDS[kind](tmp_path, LABELS, WEIGHT), output=tmp_path / "alone")
    assert run("output", "step-000000000012") == -signal.SIGKILL
    assert run("resume", "step-000000000027") == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert run("resume", "none") == 0
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    """One additional row, far beyond the first piece."""
    broken_off("numpy", KINDS["parquet"](tmp_path, LABELS, WEIGHT), tmp_path / "run")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    pyarrow.parquet.write_table(pyarrow.concat_tables([table, table[:1]]), tmp_path / "rows.parquet")
    source = gf.data.Parquet(tmp_path / "rows.parquet", target="y0", sample_weight="w", block_rows=700)
    with pytest.raises(gf.DataError, match=r"data was '1000 rows, .* but is '1001 rows, "):
        fit(trainer("numpy"), (source,), resume=tmp_path / "run")
