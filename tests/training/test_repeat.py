"""Runs of programs are repeated from their folders, and compared; if that is impossible, the error says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import NativeLibrary, native_library
from gradflow.files import read_json, write_json
from tests.training.data.test_streamed_weights import KINDS, Make
from tests.training.runs.test_resume import LABELS, RULES, BrokenOffError, Dies, X

WEIGHT = np.linspace(0.1, 3, 70)
HELD_OUT = (X[:20], LABELS[:20])


def network(backend: str = "numpy", **settings: Any) -> gf.Sequential:
    return gf.MLP([6, 9, 3], **{"dropout": 0.3, "seed": 3, "backend": backend} | settings)


def run(
    folder: Path,
    of: gf.Sequential | None = None,
    rule: Any = "adam",
    loss: Any = "softmax_cross_entropy",
    data: tuple[Any, ...] = (X, LABELS),
    settings: dict[str, Any] | None = None,
    **arguments: Any,
) -> gf.Trainer:
    optimizer = RULES[rule]() if isinstance(rule, str) else rule
    trainer = gf.Trainer(of or network(), loss, optimizer, **(settings or {}))
    trainer.fit(*data, **{"epochs": 3, "batch_size": 16, "output": folder} | arguments)
    return trainer


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_recreated(rule: str, tmp_path: Path) -> None:
    run(tmp_path, rule=rule)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    comparison = gf.repeat(tmp_path, X, LABELS)
    assert comparison == gf.RunComparison([], [], [])
    assert comparison.is_same
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_lbfgs_is_recreated(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    run(tmp_path, network(dropout=0.0, dtype="float64"), gf.LBFGS(max_iterations=5), batch_size=None)
    assert gf.repeat(tmp_path, X, LABELS) == gf.RunComparison([], [], [])


def test_all_settings_are_recreated(tmp_path: Path, backend_name: str) -> None:
    settings = {"metrics": ["f1", "top_2_accuracy"], "l2": 0.1, "l1": 0.01, "clip_norm": 2.0, "average": 0.9}
    settings |= {"layer_statistics": True}
    run(
        tmp_path,
        network(backend_name),
        gf.Adam(gf.CosineSchedule(0.02, warmup=1), beta1=0.8),
        gf.SoftmaxCrossEntropy(label_smoothing=0.1),
        settings=settings,
        sample_weight=WEIGHT,
        class_weight={0: 2.0},
        validation_data=(*HELD_OUT, WEIGHT[:20]),
        drop_last=True,
        accumulate=2,
        early_stopping=gf.EarlyStopping("val_f1", patience=2),
        epochs=6,
    )
    again = gf.repeat(tmp_path, X, LABELS, sample_weight=WEIGHT, validation_data=(*HELD_OUT, WEIGHT[:20]))
    assert again == gf.RunComparison([], [], [])


def test_classes_may_be_named_by_booleans(tmp_path: Path) -> None:
    data = (X, LABELS > 0)
    run(
        tmp_path,
        gf.MLP([6, 9, 1], backend="numpy"),
        loss="binary_cross_entropy",
        data=data,
        class_weight={True: 3, False: 1},
    )
    assert gf.repeat(tmp_path, *data) == gf.RunComparison([], [], [])


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_streams_are_gone_over_again(make: Make, tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(1e3, 5, (500, 2))
    data = make(tmp_path, y, None)
    settings = {"standardize_targets": True}
    run(tmp_path / "run", gf.MLP([3, 4, 2], backend="numpy"), loss="huber", data=data, settings=settings)
    assert gf.repeat(tmp_path / "run", *make(tmp_path, y, None)) == gf.RunComparison([], [], [])


def test_a_resumed_run_counts_as_one_run(tmp_path: Path) -> None:
    with pytest.raises(BrokenOffError):
        run(tmp_path, checkpoint=gf.Checkpoint(every_steps=7), callbacks=[Dies(2)])
    run(tmp_path, network(), resume=tmp_path)
    assert gf.repeat(tmp_path, X, LABELS).is_same


def test_a_diverged_run_diverges_again(tmp_path: Path) -> None:
    with pytest.raises(gf.DivergedError):
        run(tmp_path, network(dropout=0.0), gf.GradientDescent(1e30), "mean_squared_error", data=(X, X[:, :3]))
    assert gf.repeat(tmp_path, X, X[:, :3]).is_same


def test_arguments_that_the_folder_lacks_are_passed(tmp_path: Path) -> None:
    """Initial weights that do not come from the seed, and a callback that stops the training."""

    class Stops(gf.Callback):
        """Ends the training after two epochs."""

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            if epoch == 2:
                trainer.stop()

    def trained_before() -> gf.Sequential:
        return run(tmp_path / "before", overwrite=True).network

    def with_initializer() -> gf.Sequential:
        return network(initializer="lecun_normal")

    for number, make in enumerate((trained_before, with_initializer)):
        folder = tmp_path / str(number)
        run(folder, make(), callbacks=[Stops()])
        with pytest.raises(
            gf.DataError, match=r"the run did not start from this network: .* Pass network= in its state"
        ):
            gf.repeat(folder, X, LABELS)
        assert gf.repeat(folder, X, LABELS, network=make(), callbacks=[Stops()]).is_same
        longer = gf.repeat(folder, X, LABELS, network=make())
        assert ("epochs", 2, 3) in longer.results


def test_differences_are_named(tmp_path: Path) -> None:
    run(tmp_path / "first")
    run(tmp_path / "second", network(seed=4), rule="sgd with momentum", batch_size=8)
    found = gf.compare_runs(tmp_path / "first", tmp_path / "second")
    assert not found.is_same
    assert {"weight 0.weight", "epoch 1, loss"} <= {name for name, *_ in found.results}
    assert ("batch_size", 16, 8) in found.settings
    assert "initial_state" in {name for name, *_ in found.surroundings}
    run(tmp_path / "third", gf.MLP([6, 5, 3], backend="numpy"))
    found = gf.compare_runs(tmp_path / "first", tmp_path / "third")
    assert ("shape of weight 0.weight", (6, 9), (6, 5)) in found.results

    config = read_json(tmp_path / "first" / "config.json")
    changed(versions=config["versions"] | {"numpy": "1.0"})(tmp_path / "first")
    comparison = gf.repeat(tmp_path / "first", X, LABELS)
    assert comparison.is_same
    assert comparison.surroundings == [("versions.numpy", "1.0", np.__version__)]


def test_kernels_for_other_instructions_are_named(tmp_path: Path) -> None:
    """They give different bits, and nothing else would explain that."""
    library = native_library()
    if library is None:
        pytest.skip("there are no compiled kernels")
    *_, slowest = library.supported
    of = network()
    of.backend = NumpyBackend(NativeLibrary(library.path, library.blas, slowest))
    run(tmp_path / "slowest", of)
    run(tmp_path / "definitions", network("reference"))
    found = gf.compare_runs(tmp_path / "slowest", tmp_path / "definitions").surroundings
    assert ("kernels", slowest, None) in found


def changed(**entries: Any) -> Callable[[Path], None]:
    """Change a value in config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        write_json(path, read_json(path) | entries)

    return change


def refused(folder: Path, message: str, **arguments: Any) -> None:
    with pytest.raises(gf.DataError, match=message):
        gf.repeat(folder, **{"x": X, "y": LABELS} | arguments)


def test_runs_that_cannot_be_repeated_say_why(tmp_path: Path) -> None:
    refused(tmp_path, "there is no finished run in .*config.json: No such file")
    run(tmp_path)
    refused(tmp_path, "this is not the data of the run: data was '70 rows, sha256 .*', but is '70", x=X + 1)
    refused(tmp_path, "this is not the data of the run", sample_weight=WEIGHT)
    refused(tmp_path, "this is not the validation_data of the run: .* was None, but is", validation_data=HELD_OUT)
    instead = r"Run your program again with another output=, and compare the folders with gradflow.compare_runs"
    run(tmp_path, rule=gf.Adam(lambda time: 0.01 / (1 + time)), overwrite=True)
    refused(tmp_path, f"the learning rate of the run was a function, which cannot be stored in a folder. {instead}")
    for change, message in (
        (changed(result={"stopped_by": "interrupted"}), "was interrupted; finish it first: trainer.fit"),
        (changed(loss={"name": "my_loss"}), "the run had the loss 'my_loss', which is unknown; import the module"),
        (changed(batch_size="many"), "batch_size must be an integer"),
    ):
        run(tmp_path, overwrite=True)
        change(tmp_path)
        refused(tmp_path, message)
    for name in ("model.safetensors", "history.csv"):
        run(tmp_path, overwrite=True)
        (tmp_path / name).unlink()
        refused(tmp_path, f"{name}, which a finished run has, cannot be read: No such file")
    (tmp_path / "history.csv").write_bytes(b"epoch,loss\n1,\xff\n")
    with pytest.raises(gf.FileFormatError, match=r"history\.csv is damaged: .*can't decode"):
        gf.repeat(tmp_path, X, LABELS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(gf.FileFormatError, match=r"config\.json is damaged or was edited"):
        gf.repeat(tmp_path, X, LABELS)
