"""The training loop: the values it measures, the order of batches, and when and how it ends."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends.cpu.native import native_library
from gradflow.random import shuffled_rows
from gradflow.training.step.training_step import TrainingStep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(70, 2))
LABELS = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)


class Recording(gf.Callback):
    """Records the arguments of its calls."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.values: list[dict[str, float]] = []
        self.ended = False

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        self.epochs.append(epoch)
        self.values.append(values)

    def on_fit_end(self, trainer: gf.Trainer, history: gf.History) -> None:
        self.ended = True


def trained_in_numpy(weight: np.ndarray, rate: float, batches: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Train linear regression in plain NumPy; return the weight after the batches, and the loss of each."""
    losses = []
    for rows in batches:
        error = X[rows] @ weight - Y[rows]
        losses.append((error**2).mean())
        weight = weight - rate * 2 * X[rows].T @ error / error.size
    return weight, losses


@pytest.mark.parametrize("batch_size", [1, 16, 70, 1000, None])
@pytest.mark.parametrize("shuffle", [False, True])
def test_epochs_are_those_of_plain_numpy(batch_size: int | None, shuffle: bool, backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, bias=False)], dtype="float64", seed=9, backend=backend_name)
    weight = network.get_weights()["0.weight"]
    history = gf.Trainer(network, "mean_squared_error", gf.GradientDescent(0.05)).fit(
        X, Y, epochs=3, batch_size=batch_size, shuffle=shuffle
    )
    size = min(batch_size or 70, 70)
    for epoch in range(3):
        order = shuffled_rows(70, seed=9, epoch=epoch) if shuffle and size < 70 else np.arange(70)
        batches = [order[start : start + size] for start in range(0, 70, size)]
        weight, losses = trained_in_numpy(weight, 0.05, batches)
        assert_allclose(history["loss"][epoch], np.average(losses, weights=list(map(len, batches))), rtol=1e-12)
    assert_allclose(network.get_weights()["0.weight"], weight, rtol=1e-11)


def test_drop_last_leaves_out_the_rest(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, bias=False)], dtype="float64", seed=9, backend=backend_name)
    weight = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "mean_squared_error", gf.GradientDescent(0.05))
    history = trainer.fit(X, Y, epochs=2, batch_size=16, drop_last=True)
    for epoch in range(2):
        order = shuffled_rows(70, seed=9, epoch=epoch)
        batches = [order[start : start + 16] for start in range(0, 64, 16)]
        weight, losses = trained_in_numpy(weight, 0.05, batches)
        assert_allclose(history["loss"][epoch], np.mean(losses), rtol=1e-12)
    assert_allclose(network.get_weights()["0.weight"], weight, rtol=1e-11)


def test_validation_and_evaluate_agree_with_predict(backend_name: str) -> None:
    network = gf.MLP([4, 8, 2], backend=backend_name, seed=1)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))
    history = trainer.fit(X[:50], LABELS[:50], epochs=4, validation_data=(X[50:], LABELS[50:]))
    probability = network.predict(X[50:])[np.arange(20), LABELS[50:]]
    assert_allclose(history["val_loss"][-1], -np.log(probability).mean(), rtol=1e-5)
    accuracy = (network.predict_classes(X[50:]) == LABELS[50:]).mean()
    assert_allclose(history["val_accuracy"][-1], accuracy, rtol=1e-6)
    evaluated = trainer.evaluate(X[50:], LABELS[50:])
    assert evaluated.keys() == {"loss", "accuracy"}
    assert_allclose([evaluated["loss"], evaluated["accuracy"]], [history["val_loss"][-1], accuracy], rtol=1e-6)


def test_evaluation_in_several_batches_is_exact(backend_name: str) -> None:
    network = gf.MLP([4, 3, 2], backend=backend_name, dtype="float64")
    x, y = np.tile(X, (120, 1)), np.tile(Y, (120, 1))
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.01))
    assert_allclose(trainer.evaluate(x, y)["loss"], ((network.predict(x) - y) ** 2).mean(), rtol=1e-12)


def test_one_seed_one_run(backend_name: str) -> None:
    def run(seed: int) -> tuple[bytes, list[float]]:
        network = gf.MLP([4, 16, 2], dropout=0.3, backend=backend_name, seed=seed)
        history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01)).fit(X, LABELS, epochs=3, batch_size=8)
        return network.backend.to_host(network.parameters).tobytes(), history["loss"]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_fitting_again_continues_with_new_shuffles(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, bias=False)], dtype="float64", seed=9, backend=backend_name)
    weight = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "mean_squared_error", gf.GradientDescent(0.05))
    for epoch in range(2):
        trainer.fit(X, Y, epochs=1, batch_size=16)
        order = shuffled_rows(70, seed=9, epoch=epoch)
        weight, _ = trained_in_numpy(weight, 0.05, [order[start : start + 16] for start in range(0, 70, 16)])
    assert_allclose(network.get_weights()["0.weight"], weight, rtol=1e-11)


def test_l2_and_clipping_reach_the_update(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", backend=backend_name)
    before = network.get_weights()
    trainer = gf.Trainer(network, "half_squared_error", gf.SGD(0.1), l2=0.2, clip_norm=0.01)
    history = trainer.fit(X, Y, epochs=1, batch_size=None)
    error = X @ before["0.weight"] + before["0.bias"] - Y
    d_weight, d_bias = X.T @ error / len(X) + 0.2 * before["0.weight"], error.mean(axis=0)
    scale = 0.01 / np.sqrt((d_weight**2).sum() + (d_bias**2).sum())
    assert scale < 1
    assert_allclose(history["loss"], [(error**2).sum(axis=1).mean() / 2], rtol=1e-13)
    assert_allclose(network.get_weights()["0.weight"], before["0.weight"] - 0.1 * scale * d_weight, rtol=1e-12)
    assert_allclose(network.get_weights()["0.bias"], before["0.bias"] - 0.1 * scale * d_bias, rtol=1e-12)


def test_early_stopping_restores_the_best_weights(backend_name: str) -> None:
    network = gf.MLP([4, 64, 2], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.03))
    noise = np.random.default_rng(5).integers(0, 2, 30)
    history = trainer.fit(
        X[:40],
        LABELS[:40],
        epochs=500,
        validation_data=(X[40:], noise),
        early_stopping=gf.EarlyStopping(patience=5),
    )
    best = int(np.argmin(history["val_loss"])) + 1
    assert history.stopped_by == "early stopping"
    assert history.best_epoch == best
    assert len(history["loss"]) == best + 5
    assert_allclose(trainer.evaluate(X[40:], noise)["loss"], history["val_loss"][best - 1], rtol=1e-6)


def test_early_stopping_can_watch_accuracy(backend_name: str) -> None:
    network = gf.MLP([4, 8, 2], backend=backend_name)
    history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.05)).fit(
        X, LABELS, epochs=300, early_stopping=gf.EarlyStopping("accuracy", patience=8)
    )
    assert history.stopped_by == "early stopping"
    assert history.best_epoch == int(np.argmax(history["accuracy"])) + 1


def test_the_best_weights_by_training_loss_have_that_loss(backend_name: str) -> None:
    network = gf.MLP([4, 3], dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.SGD(60.0))
    history = trainer.fit(X, LABELS, epochs=60, batch_size=None, early_stopping=gf.EarlyStopping("loss", patience=5))
    assert history.stopped_by == "early stopping"
    assert history.best_epoch is not None
    assert_allclose(trainer.evaluate(X, LABELS)["loss"], min(history["loss"]), rtol=1e-12)
    assert history["loss"][history.best_epoch - 1] == min(history["loss"])


def test_stops_once_converged(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", backend=backend_name)
    history = gf.Trainer(network, "mean_squared_error", gf.GradientDescent(0.2)).fit(
        X, Y, epochs=5000, batch_size=None, tolerance=1e-9
    )
    assert history.stopped_by == "converged"
    assert len(history["loss"]) < 1000
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(70)]), Y, rcond=None)[0]
    assert_allclose(network.get_weights()["0.weight"], solution[:4], atol=1e-4)


@pytest.mark.parametrize("loss", ["mean_squared_error", "softmax_cross_entropy"])
def test_divergence_is_reported_and_the_best_weights_kept(loss: str, backend_name: str) -> None:
    network = gf.MLP([4, 8, 2], backend=backend_name)
    y = Y if loss == "mean_squared_error" else LABELS
    trainer = gf.Trainer(network, loss, gf.SGD(0.05))
    trainer.fit(X, y, epochs=2, batch_size=16)
    good = network.get_weights()
    wild = gf.Trainer(network, loss, gf.SGD(1e30))
    recording = Recording()
    with pytest.raises(gf.DivergedError, match=r"in epoch 1, at step \d of 5; .* learning rate below 1e\+30") as caught:
        wild.fit(X, y, epochs=9, batch_size=16, callbacks=[recording])
    assert caught.value.epoch == 1
    assert 2 <= caught.value.step <= 5
    assert recording.epochs == []
    assert recording.ended
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == good[name].tobytes()


def test_the_first_bad_step_is_recorded_on_the_device(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, bias=False)], backend=backend_name)
    network.set_weights({"0.weight": [[1.0]]})
    x = np.array([[1.0], [1e30], [1.0], [1.0]])

    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.25))
    with pytest.raises(gf.DivergedError) as caught:
        trainer.fit(x, np.zeros(4), epochs=1, batch_size=1, shuffle=False)
    assert (caught.value.epoch, caught.value.step) == (1, 2)
    step = TrainingStep.of(network, "mean_squared_error", gf.SGD(0.25), x, np.zeros(4), batch_size=1, shuffle=False)
    network.set_weights({"0.weight": [[1.0]]})
    step.run()
    clock = step.status.read()
    assert clock.first_bad_step == 2
    assert clock.step == (5 if backend_name == "cupy" else 3)  # the epoch ends at a look, which arrives later there


def test_callbacks_see_each_epoch_and_can_stop(backend_name: str) -> None:
    class Stopper(Recording):
        """Stops after the second epoch."""

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            super().on_epoch_end(trainer, epoch, values)
            if epoch == 2:
                trainer.stop()

    stopper = Stopper()
    network = gf.MLP([4, 8, 2], backend=backend_name)
    history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(X, LABELS, epochs=9, callbacks=[stopper])
    assert history.stopped_by == "callback"
    assert stopper.epochs == [1, 2]
    assert [values["loss"] for values in stopper.values] == history["loss"]
    assert stopper.ended


def test_run_folder(tmp_path: Path) -> None:
    network = gf.MLP([4, 8, 2], seed=6, backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), l2=1e-4)
    folder = tmp_path / "runs" / "first"
    history = trainer.fit(X, LABELS, epochs=3, validation_data=(X, LABELS), output=folder)
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "config.json", "history.csv"}
    loaded = gf.load(folder / "model.safetensors", backend="numpy")
    assert loaded.predict(X).tobytes() == network.predict(X).tobytes()
    config = json.loads((folder / "config.json").read_text())
    assert config["optimizer"] == {
        "name": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8
    }  # fmt: skip
    assert config["loss"] == {"name": "softmax_cross_entropy", "label_smoothing": 0.0, "focal_gamma": 0.0}
    assert (config["l2"], config["epochs"]) == (1e-4, 3)
    assert config["network"]["seed"] == 6
    assert config["result"]["val_loss"] == history["val_loss"][-1]
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    assert table.dtype.names == ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    assert_allclose(table["loss"], history["loss"], rtol=0)


def test_run_folder_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    network = gf.MLP([4, 2], backend="numpy")
    before = network.get_weights()
    with pytest.raises(OSError, match="file"):
        gf.Trainer(network, "mean_squared_error", "sgd").fit(X, Y, epochs=1, output=tmp_path / "file" / "run")
    assert network.get_weights()["0.weight"].tobytes() == before["0.weight"].tobytes()


def test_history_is_one_value_per_epoch(tmp_path: Path) -> None:
    network = gf.MLP([4, 2], backend="numpy")
    history = gf.Trainer(network, "mean_squared_error", "sgd").fit(X, Y, epochs=4)
    assert list(history) == ["loss"]
    assert history.epochs == 4
    assert history.seconds > 0
    assert "4 epochs" in repr(history)
    assert dict(history) == {"loss": history["loss"]}
    assert list(history.keys()) == ["loss"]
    with pytest.raises(gf.DataError, match="no 'accuracy'; it has loss"):
        history["accuracy"]


def test_a_trainer_describes_itself() -> None:
    trainer = gf.Trainer(gf.MLP([4, 2], backend="numpy"), "huber", gf.SGD(0.5))
    assert repr(trainer).startswith("Trainer(MLP([Dense(n_in=4, n_out=2, bias=True)]")
    assert "HuberLoss(delta=1.0), SGD(learning_rate=0.5" in repr(trainer)


def test_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    network = gf.MLP([4, 2], backend="numpy")
    trainer = gf.Trainer(network, "mean_squared_error", "sgd")
    trainer.fit(X, Y, epochs=20, progress=False)
    assert capsys.readouterr().err == ""
    trainer.fit(X, Y, epochs=20, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 1/20  loss ")
    assert lines[-1].startswith("epoch 20/20  loss ")
    assert len(lines) == 11


def test_float64_input_is_not_changed_by_training(backend_name: str) -> None:
    x, y = X.astype(np.float32), Y.astype(np.float32)
    x_before, y_before = x.tobytes(), y.tobytes()
    network = gf.Sequential([gf.ReLU(), gf.Dense(4, 2)], backend=backend_name)
    gf.Trainer(network, "mean_squared_error", "adam").fit(x, y, epochs=2, batch_size=None, validation_data=(x, y))
    assert (x.tobytes(), y.tobytes()) == (x_before, y_before)


@pytest.mark.parametrize(
    ("optimizer", "vectors"), [(gf.GradientDescent(0.01), 2), (gf.SGD(0.01, momentum=0.9), 3), (gf.Adam(), 4)]
)
def test_training_holds_little_besides_what_it_must(optimizer: gf.Optimizer, vectors: int) -> None:
    x, labels = np.ones((256, 784), np.float32), np.arange(256) % 10

    def train(network: gf.Sequential) -> None:
        trainer = gf.Trainer(network, "softmax_cross_entropy", optimizer)
        trainer.fit(x, labels, epochs=2, batch_size=128, progress=False)

    train(gf.MLP([784, 10], backend="numpy"))  # imports everything that training needs
    sizes = [784, 512, 256, 10]
    tracemalloc.start()
    try:
        network = gf.MLP(sizes, backend="numpy")
        tracemalloc.reset_peak()
        train(network)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Parameters, gradients and the optimizer's vectors; activations and their gradients; and the best weights so far.
    vector, activations = network.parameters.nbytes, 4 * 128 * (sizes[0] + 2 * sum(sizes[1:]))
    # Without compiled kernels, the definition of an optimizer allocates a few more vectors while it runs.
    temporaries = 0 if native_library() else 5
    assert peak < 1.1 * ((vectors + 1 + temporaries) * vector + activations)
