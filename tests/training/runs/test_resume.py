"""An interrupted and resumed run gives the same bits as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from tests.optimizers.cases import OPTIMIZER_CASES

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((70, 6)).astype(np.float32)
LABELS = RANDOM.integers(3, size=70)
ROWS = 16
STEPS = 5


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend_name(request: pytest.FixtureRequest) -> str:
    """The backends that people train on."""
    name: str = request.param
    return name


RULES: dict[str, Callable[[], gf.Optimizer]] = {
    **{name: partial(case.make, 0.01) for name, case in OPTIMIZER_CASES.items()},
    "cosine": lambda: gf.Adam(gf.CosineSchedule(0.02, warmup=1)),
    "coslog": lambda: gf.Adam(gf.CosLogSchedule(0.02)),
    "factors": lambda: gf.AdamW(gf.CosineSchedule(0.02), factors={"0": 0.3, "bias": 2}, decay_factors={"0": 4}),
    "plateau": lambda: gf.Adam(gf.PlateauSchedule(0.02, patience=1)),
}


class BrokenOffError(Exception):
    """Ends a run before anything can be saved."""


class Dies(gf.Callback):
    """Ends the process's work at the end of an epoch, as a crash would."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == self._epoch:
            raise BrokenOffError


def network(backend: str, *, seed: int = 3, dropout: float = 0.3) -> gf.Sequential:
    return gf.MLP([6, 9, 3], dropout=dropout, seed=seed, backend=backend)


def trainer(backend: str, rule: str = "adam", **arguments: Any) -> gf.Trainer:
    return gf.Trainer(network(backend), "softmax_cross_entropy", RULES[rule](), **arguments)


def fit(of: gf.Trainer, folder: Path | None = None, **arguments: Any) -> gf.History:
    return of.fit(X, LABELS, **{"epochs": 4, "batch_size": ROWS, "output": folder} | arguments)


def bits(of: gf.Trainer, history: gf.History) -> tuple[bytes, dict[str, list[float]], str, int | None]:
    """Return everything that a run leaves, except the time it took."""
    state = of.network.backend.to_host(of.network.state).tobytes()
    return state, {name: history[name] for name in history}, history.stopped_by, history.best_epoch


def resumed_is_uninterrupted(
    folder: Path, make: Callable[[], gf.Trainer], checkpoint: gf.Checkpoint, **arguments: Any
) -> list[str]:
    """Interrupt a run after its third epoch, resume it, compare. Return the names of the checkpoints it was resumed
    from."""
    uninterrupted = make()
    expected = bits(uninterrupted, fit(uninterrupted, **arguments))
    with pytest.raises(BrokenOffError):
        fit(make(), folder, checkpoint=checkpoint, callbacks=[Dies(3)], **arguments)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    resumed = make()
    assert bits(resumed, fit(resumed, resume=folder, **arguments)) == expected
    return names


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_resumes_in_the_middle_of_an_epoch(tmp_path: Path, backend_name: str, rule: str) -> None:
    names = resumed_is_uninterrupted(tmp_path, lambda: trainer(backend_name, rule), gf.Checkpoint(every_steps=7))
    assert names == [f"step-{step:012d}.safetensors" for step in (0, 7, 14)]


@pytest.mark.parametrize("rule", ["sgd with momentum", "cosine"])
def test_every_rule_resumes_at_the_end_of_an_epoch(tmp_path: Path, backend_name: str, rule: str) -> None:
    names = resumed_is_uninterrupted(tmp_path, lambda: trainer(backend_name, rule), gf.Checkpoint(), drop_last=True)
    assert names == [f"step-{step:012d}.safetensors" for step in (0, 4, 8)]


@pytest.mark.parametrize("every", [{"every_steps": 7}, {"every_epochs": 2}], ids=str)
@pytest.mark.parametrize(
    "arguments",
    [
        {"early_stopping": gf.EarlyStopping("loss", patience=2)},
        {"early_stopping": gf.EarlyStopping(patience=1), "validation_data": (X[:20], LABELS[:20])},
        {"tolerance": 10.0, "epochs": 14},
        {"accumulate": 2, "sample_weight": np.linspace(0.5, 2, 70)},
        {"shuffle": False, "class_weight": {0: 2.0}},
    ],
    ids=lambda arguments: "+".join(arguments),
)
def test_all_state_of_a_run_is_resumed(
    tmp_path: Path, backend_name: str, every: dict[str, int], arguments: dict[str, Any]
) -> None:
    resumed_is_uninterrupted(tmp_path, lambda: trainer(backend_name), gf.Checkpoint(**every), **arguments)


@pytest.mark.parametrize(
    "settings",
    [{"average": 0.9}, {"clip_norm": 0.5}, {"metrics": ["roc_auc", "f1"]}],
    ids=lambda settings: next(iter(settings)),
)
def test_average_clipping_and_metrics_are_resumed(tmp_path: Path, backend_name: str, settings: dict[str, Any]) -> None:
    resumed_is_uninterrupted(tmp_path, lambda: trainer(backend_name, **settings), gf.Checkpoint(every_steps=7))


def test_running_values_of_batch_normalization_are_resumed(tmp_path: Path, backend_name: str) -> None:
    def make() -> gf.Trainer:
        layers = [gf.Dense(6, 9), gf.BatchNorm(9), gf.ReLU(), gf.Dense(9, 3)]
        return gf.Trainer(gf.Sequential(layers, backend=backend_name), "softmax_cross_entropy", gf.Adam(0.01))

    resumed_is_uninterrupted(tmp_path, make, gf.Checkpoint(every_steps=7), drop_last=True)


def test_lbfgs_resumes_from_the_end_of_an_epoch(tmp_path: Path) -> None:
    pytest.importorskip("scipy")

    def make() -> gf.Trainer:
        return gf.Trainer(network("numpy", dropout=0.0), "softmax_cross_entropy", gf.LBFGS(), l2=1e-3)

    resumed_is_uninterrupted(tmp_path, make, gf.Checkpoint(), batch_size=None)


def test_time_makes_a_checkpoint_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10**9, 45))
    monkeypatch.setattr("gradflow.training.runs.checkpoints.time.monotonic", lambda: next(now))
    names = resumed_is_uninterrupted(tmp_path, lambda: trainer("numpy"), gf.Checkpoint(every_minutes=1, keep=99))
    # Each reading of the clock is 45 s after the previous one; it is read at least once per block of steps.
    assert len(names) >= 3


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings", [{"steps_per_launch": 3}, {"precision": "bfloat16"}, {"precision": "float16"}], ids=str
)
def test_gpu_only_state_is_resumed(tmp_path: Path, settings: dict[str, Any]) -> None:
    resumed_is_uninterrupted(tmp_path, lambda: trainer("cupy", **settings), gf.Checkpoint(every_steps=7))
