"""Ensembles whose members share weights: predictions by hand, losses, gradients, copies, and parity with PyTorch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.functions import sigmoid, softmax

RNG = np.random.default_rng(0)
ROWS, WIDTH, MEMBERS = 33, 4, 5
X = RNG.normal(size=(ROWS, WIDTH))
WEIGHT = RNG.uniform(0.5, 2, ROWS)
TASKS: dict[str, tuple[Any, np.ndarray, int]] = {
    "numbers": ("mean_squared_error", RNG.normal(size=(ROWS, 2)), 2),
    "labels": ("softmax_cross_entropy", RNG.integers(3, size=ROWS), 3),
    "probabilities": (gf.SoftmaxCrossEntropy(label_smoothing=0.1), np.eye(3)[RNG.integers(3, size=ROWS)], 3),
    "focal": (gf.SoftmaxCrossEntropy(focal_gamma=2), RNG.integers(3, size=ROWS), 3),
    "binary": ("binary_cross_entropy", RNG.integers(2, size=ROWS), 1),
    "several labels": ("binary_cross_entropy", RNG.integers(2, size=(ROWS, 2)), 2),
    "quantiles": (gf.QuantileLoss([0.1, 0.9]), RNG.normal(size=ROWS), 2),
    "counts": ("poisson", RNG.poisson(2, size=ROWS), 1),
}
both = pytest.mark.parametrize("full", [False, True], ids=["mini", "batch_ensemble"])
every_task = pytest.mark.parametrize("task", TASKS)


def make_network(backend: str, n_out: int, *, full: bool = False, dropout: float = 0.0, **settings: Any) -> gf.TabM:
    """Return a small network whose scales and biases are all different."""
    options = {"members": MEMBERS, "batch_ensemble": full, "dropout": dropout, "seed": 3, "dtype": "float64"}
    network = gf.TabM([WIDTH, 8, 6, n_out], "tanh", backend=backend, **(options | settings))
    random = np.random.default_rng(1)
    weights = {name: random.normal(0.5, 0.5, weight.shape) for name, weight in network.get_weights().items()}
    network.set_weights(weights)
    return network


def outputs_by_hand(network: gf.TabM, x: np.ndarray, *, full: bool) -> np.ndarray:
    """Return the outputs of the members, (members, rows, n_out)."""
    w = {name.removeprefix("0."): weight for name, weight in network.get_weights().items()}
    found = []
    for member in range(MEMBERS):
        if full:
            h = np.tanh((x * w["scale"][member]) @ w["0.weight"] * w["1.scale"][member] + w["1.bias"][member])
            h = (h * w["3.scale"][member]) @ w["4.weight"] * w["5.scale"][member] + w["5.bias"][member]
            h, head = np.tanh(h), "7"
        else:
            h = np.tanh((x * w["scale"][member]) @ w["0.weight"] + w["0.bias"])
            h, head = np.tanh(h @ w["2.weight"] + w["2.bias"]), "4"
        found.append(h @ w[f"{head}.weight"][member].T + w[f"{head}.bias"][member])
    return np.array(found)


@both
@every_task
def test_prediction_by_hand(task: str, full: bool, backend_name: str) -> None:
    loss, y, n_out = TASKS[task]
    network = make_network(backend_name, n_out, full=full)
    outputs = outputs_by_hand(network, X, full=full)
    assert_allclose(network.predict(X), outputs.mean(axis=0), rtol=1e-11)

    gf.Trainer(network, loss, gf.SGD(1e-9)).fit(X, y, epochs=1, progress=False)  # sets the output activation
    outputs = outputs_by_hand(network, X, full=full)
    activation = {"softmax": softmax, "sigmoid": sigmoid, "identity": np.asarray}[network.output_activation]
    expected = np.mean([activation(each) for each in outputs], axis=0)
    assert_allclose(network.predict(X), expected, rtol=1e-10)
    if network.output_activation == "softmax":
        assert_allclose(network.logits(X), np.log(expected), rtol=1e-9)


@both
@every_task
def test_training_loss_is_the_mean_of_the_members_losses_and_the_others_are_those_of_the_ensemble(
    task: str, full: bool, backend_name: str
) -> None:
    loss, y, n_out = TASKS[task]
    network = make_network(backend_name, n_out, full=full)
    outputs = outputs_by_hand(network, X, full=full)

    def loss_of(logits: np.ndarray) -> float:
        """Return the loss of an ordinary network with these outputs."""
        single = gf.Sequential([gf.Dense(n_out, n_out, initializer=0.0)], dtype="float64", backend="numpy")
        single.set_weights({"0.weight": np.eye(n_out), "0.bias": np.zeros(n_out)})
        single.classes = None
        trainer = gf.Trainer(single, loss, "sgd")
        return trainer.evaluate(logits, y, sample_weight=WEIGHT)["loss"]

    trainer = gf.Trainer(network, loss, gf.SGD(1e-12))
    evaluated = trainer.evaluate(X, y, sample_weight=WEIGHT)
    history = trainer.fit(X, y, epochs=1, batch_size=8, sample_weight=WEIGHT, progress=False)
    assert_allclose(history["loss"][0], np.mean([loss_of(each) for each in outputs]), rtol=1e-6)
    assert_allclose(evaluated["loss"], loss_of(network.logits(X)), rtol=1e-6)
    assert evaluated["loss"] < history["loss"][0]  # Jensen's inequality: these losses are convex
    if "accuracy" in history:
        assert_allclose(history["accuracy"][0], evaluated["accuracy"], rtol=1e-9)


@both
@pytest.mark.parametrize("rows", [1, ROWS])
@every_task
def test_gradients(task: str, rows: int, full: bool, backend_name: str) -> None:
    loss, y, n_out = TASKS[task]
    network = make_network(backend_name, n_out, full=full, dropout=0.2)
    if network.backend.name != "numpy" and rows > 1:  # on which kernels are slow, in Python or simulated
        rows = 3
    errors = gf.check_gradients(network, loss, X[:rows], y[:rows])
    assert max(errors.values()) < (1e-5 if task != "quantiles" else 1e-3)


def test_gradients_of_layers_before_and_inside(backend_name: str) -> None:
    inside = [
        gf.Dense(6, 8), gf.LayerNorm(8), gf.GELU(), gf.Dropout(0.3),
        gf.Residual([gf.MemberScale(8, members=3, initializer=0.7), gf.Dense(8, 8), gf.Tanh()]),
        gf.MemberDense(8, 2, members=3, bias=False),
    ]  # fmt: skip
    layers = [gf.Dense(WIDTH, 6), gf.Tanh(), gf.EachMember(inside, members=3, chunks=[2, 4]), gf.MeanOfMembers(3)]
    network = gf.Sequential(layers, dtype="float64", backend=backend_name, seed=2)
    assert max(gf.check_gradients(network, "mean_squared_error", X[:7], TASKS["numbers"][1][:7]).values()) < 1e-5
    assert list(network.get_weights()) == [
        "0.weight", "0.bias", "2.scale", "2.0.weight", "2.0.bias", "2.1.gamma", "2.1.beta", "2.4.0.scale",
        "2.4.1.weight", "2.4.1.bias", "2.5.weight",
    ]  # fmt: skip


def test_members_without_differences_are_one_network(backend_name: str) -> None:
    """An ensemble whose members are all alike is the network that they share."""
    ensemble = gf.TabM([WIDTH, 8, 3], members=MEMBERS, dropout=0.0, dtype="float64", backend=backend_name)
    plain = gf.MLP([WIDTH, 8, 3], dtype="float64", backend=backend_name, seed=4)
    w = plain.get_weights()

    def alike(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            "0.scale": np.ones((MEMBERS, WIDTH)), "0.0.weight": w["0.weight"], "0.0.bias": w["0.bias"],
            "0.2.weight": np.tile(w["2.weight"].T, (MEMBERS, 1, 1)), "0.2.bias": np.tile(w["2.bias"], (MEMBERS, 1)),
        }  # fmt: skip

    ensemble.set_weights(alike(w))
    y = TASKS["labels"][1]
    ours, single = (gf.gradients(network, "softmax_cross_entropy", X, y) for network in (ensemble, plain))
    assert_allclose(ours["0.0.weight"], single["0.weight"], rtol=1e-10, atol=1e-14)
    assert_allclose(ours["0.2.weight"].sum(axis=0), single["2.weight"].T, rtol=1e-10, atol=1e-14)


def test_initial_values() -> None:
    network = gf.TabM([7, 16, 3], members=64, seed=1, backend="numpy")
    layer = network.layers[0]
    assert isinstance(layer, gf.EachMember)
    w = network.get_weights()
    assert set(np.unique(w["0.scale"])) == {-1.0, 1.0}
    assert abs(w["0.scale"].mean()) < 0.2
    for name, fan_in in (("0.0.weight", 7), ("0.3.weight", 16)):
        assert 0.9 / np.sqrt(fan_in) < abs(w[name]).max() <= 1 / np.sqrt(fan_in)
    assert not np.array_equal(w["0.3.weight"][0], w["0.3.weight"][1])

    chunked = gf.EachMember([gf.Dense(6, 2)], members=50, initial_scale="normal", chunks=[1, 3, 2])
    gf.Sequential([chunked, gf.MeanOfMembers(50)], backend="numpy")
    scale = chunked.scale
    assert (scale[:, 1:4] == scale[:, 1:2]).all()
    assert (scale[:, 4:] == scale[:, 4:5]).all()
    assert len(np.unique(scale)) == 150

    full = gf.TabM([7, 16, 16, 3], members=2, batch_ensemble=True, backend="numpy").get_weights()
    assert all((full[name] == 1).all() for name in ("0.1.scale", "0.4.scale", "0.6.scale"))


def test_inputs_of_one_column_share_a_random_number(backend_name: str) -> None:
    random = np.random.default_rng(0)
    columns = {
        "size": random.normal(size=60),
        "place": random.choice(["north", "south", "west"], 60),
        "shop": np.array([f"shop {number}" for number in random.integers(5, size=60)]),
    }
    preprocessing = gf.data.fit_preprocessing(columns, {"shop": gf.data.Embedding(size=3)})
    assert preprocessing.widths == [1, 3, 1]
    network = gf.TabM([preprocessing.n_out, 8, 1], members=9, preprocessing=preprocessing, backend=backend_name)
    scale = network.get_weights()["1.scale"]
    assert scale.shape == (9, 7)
    assert (scale[:, 1:4] == scale[:, 1:2]).all()
    assert (scale[:, 4:] == scale[:, 4:5]).all()
    assert len(np.unique(scale)) == 27  # normal numbers, since there are embeddings
    gf.Trainer(network, "mean_squared_error", "adam").fit(columns, random.normal(size=60), epochs=2, progress=False)


@both
@pytest.mark.parametrize("kind", ["piecewise", "periodic", "cosine"])
def test_all_components_of_a_number_share_a_random_number(
    kind: str, full: bool, backend_name: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    columns = {
        "size": random.lognormal(size=60),
        "age": random.normal(size=60),
        "place": random.choice(["north", "south", "west"], 60),
        "shop": np.array([f"shop {number}" for number in random.integers(5, size=60)]),
    }
    numbers = gf.data.QuantileNormal(noise=1e-3)
    preprocessing = gf.data.fit_preprocessing(columns, {"shop": gf.data.Embedding(size=3)}, numbers=numbers)
    width = preprocessing.n_out + 2  # behind the vectors
    bins = gf.quantile_bins(preprocessing.transform(columns)[:, :2], 4)
    embedding: Any = {
        "piecewise": lambda: gf.PiecewiseLinearEmbedding(width, bins, size=4),
        "periodic": lambda: gf.PeriodicEmbedding(width, 2, size=4),
        "cosine": lambda: gf.CosineEmbedding(width, 2, size=4),
    }[kind]()
    options: dict[str, Any] = {"members": 9, "batch_ensemble": full, "preprocessing": preprocessing}
    network = gf.TabM([preprocessing.n_out, 8, 1], embedding=embedding, backend=backend_name, **options)
    scale = network.get_weights()["2.scale"]
    assert scale.shape == (9, 4 + 4 + 3 + 3)
    for start, stop in ((0, 4), (4, 8), (8, 11), (11, 14)):
        assert (scale[:, start:stop] == scale[:, start : start + 1]).all()
    assert len(np.unique(scale)) == 9 * 4
    y = random.normal(size=60)
    history = gf.Trainer(network, "mean_squared_error", gf.Adam(0.01)).fit(columns, y, epochs=20, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    gf.save(network, tmp_path / "model")
    assert (
        gf.load(tmp_path / "model", backend=backend_name).predict(columns).tobytes()
        == network.predict(columns).tobytes()
    )


def test_an_embedding_of_other_inputs_is_refused() -> None:
    columns = {"a": np.arange(6.0), "b": list("xyzxyz"), "c": list("uvwuvw")}
    preprocessing = gf.data.fit_preprocessing(columns, {"c": gf.data.Embedding(size=3, min_rows=1)})
    for embedding, message in (
        (gf.CosineEmbedding(5, 1), "embedding must take 7 inputs, behind the vectors of 1 columns of categories, but"),
        (gf.CosineEmbedding(7), "embedding must have at most 1 columns, which are the numbers of the preprocessing"),
    ):
        with pytest.raises(gf.DataError, match=message):
            gf.TabM([5, 8, 1], preprocessing=preprocessing, embedding=embedding)


def test_embeddings_of_numbers_begin_normal_without_preprocessing() -> None:
    network = gf.TabM([4, 8, 1], members=9, embedding=gf.CosineEmbedding(4, 2, size=3), backend="numpy")
    scale = network.get_weights()["1.scale"]
    assert scale.shape == (9, 8)
    assert len(np.unique(scale)) == 9 * 4
    signs = gf.TabM(
        [4, 8, 1], members=9, embedding=gf.CosineEmbedding(4, 2, size=3), initial_scale="signs", backend="numpy"
    )
    assert set(np.unique(signs.get_weights()["1.scale"])) == {-1.0, 1.0}


@both
def test_copies_files_and_resumed_runs_agree(full: bool, backend_name: str, tmp_path: Path) -> None:
    y = TASKS["labels"][1]

    def trainer() -> gf.Trainer:
        network = make_network(backend_name, 3, full=full, dropout=0.2, dtype="float32")
        return gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))

    fit: dict[str, Any] = {"batch_size": 8, "validation_data": (X, y), "progress": False}
    whole = trainer()
    whole.fit(X, y, epochs=6, output=tmp_path / "whole", **fit)
    part = trainer()
    part.fit(X, y, epochs=3, output=tmp_path / "part", checkpoint=gf.Checkpoint(), **fit)
    resumed = gf.Trainer(
        make_network(backend_name, 3, full=full, dropout=0.2, dtype="float32"), "softmax_cross_entropy", gf.Adam(0.01)
    )
    resumed.fit(X, y, epochs=6, resume=tmp_path / "part", **fit)
    expected = whole.network.predict(X)
    assert resumed.network.predict(X).tobytes() == expected.tobytes()
    gf.save(whole.network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    assert repr(loaded.layers) == repr(whole.network.layers)
    for other in (loaded, whole.network.copy(), pickle.loads(pickle.dumps(whole.network))):
        assert other.predict(X).tobytes() == expected.tobytes()
        assert list(other.get_weights()) == list(whole.network.get_weights())
    assert_allclose(whole.network.copy(dtype="float64").predict(X), expected, rtol=1e-4, atol=1e-6)


def test_early_stopping_keeps_the_best_ensemble(backend_name: str) -> None:
    y = TASKS["labels"][1]
    network = make_network(backend_name, 3)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.3), metrics=["log_loss"])
    history = trainer.fit(
        X, y, epochs=30, validation_data=(X[::2], y[::2]), early_stopping=gf.EarlyStopping("val_log_loss", patience=3),
        progress=False,
    )  # fmt: skip
    assert_allclose(trainer.evaluate(X[::2], y[::2])["log_loss"], min(history["val_log_loss"]), rtol=1e-6)
    assert_allclose(history["val_log_loss"], history["val_loss"], rtol=1e-6)


@every_task
def test_streamed_rows_and_accumulated_parts_train_the_same(task: str, backend_name: str) -> None:
    loss, y, n_out = TASKS[task]
    found = []
    for data, settings in (
        ((X, y), {}),
        ((gf.data.Arrays(X, y),), {}),
        ((X, y), {"accumulate": 2}),
    ):
        network = make_network(backend_name, n_out, full=True)
        gf.Trainer(network, loss, gf.SGD(0.05)).fit(
            *data, epochs=3, batch_size=16, shuffle=False, progress=False, **settings
        )
        found.append(network.predict(X))
    assert_allclose(found[1], found[0], rtol=1e-10)
    if task != "quantiles":
        assert np.isfinite(found[2]).all()


def test_weights_of_rows_and_classes(backend_name: str) -> None:
    """A row of weight 2 counts as two rows."""
    y = TASKS["labels"][1]
    weight = np.where(np.arange(ROWS) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(ROWS), weight.astype(int))
    network = make_network(backend_name, 3, full=True)
    once = gf.gradients(network, "softmax_cross_entropy", X, y, sample_weight=weight)
    repeated = gf.gradients(network, "softmax_cross_entropy", X[twice], y[twice])
    for name, gradient in once.items():
        assert_allclose(gradient, repeated[name], rtol=1e-9, atol=1e-12, err_msg=name)  # weights have the mean 1


def test_a_pack_trains_each_network_as_it_would_alone(backend_name: str) -> None:
    y = TASKS["labels"][1]

    def trainers() -> list[gf.Trainer]:
        networks = [make_network(backend_name, 3, full=full, dropout=0.1, dtype="float32") for full in (False, True)]
        return [gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01)) for network in networks]

    pack, alone = gf.Pack(trainers()), trainers()
    pack.fit(X, y, epochs=3, batch_size=8, progress=False)
    for network, trainer in zip(pack, alone, strict=True):
        trainer.fit(X, y, epochs=3, batch_size=8, progress=False)
        if backend_name == "cupy":  # each member in a thread block, which adds up in another order
            assert_allclose(network.predict(X), trainer.network.predict(X), rtol=1e-4)
        else:
            assert network.predict(X).tobytes() == trainer.network.predict(X).tobytes()


def test_probabilities_far_from_a_half_keep_their_digits(backend_name: str) -> None:
    for n_out, activation in ((1, "sigmoid"), (2, "softmax")):
        layer = gf.EachMember([gf.MemberDense(1, n_out, members=2, bias=False)], members=2)
        network = gf.Sequential([layer, gf.MeanOfMembers(2)], backend=backend_name)
        weights = np.full((2, n_out, 1), -1.0)
        weights[:, 1:] = 0
        network.set_weights({"0.scale": [[1.0], [1.01]], "0.0.weight": weights})
        network.output_activation = activation
        y = network.predict(np.array([[60.0], [-60.0], [3e4], [-3e4]]))
        assert_allclose(y[0, 0], (np.exp(-60.0) + np.exp(-60.6)) / 2, rtol=1e-4)
        assert np.isfinite(network.logits([[3e4], [-3e4]])).all()
        assert_allclose(y[1:, 0], [1, 0, 1], atol=1e-30)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no layers": (lambda: gf.EachMember([]), "needs at least one layer with parameters"),
    "other members": (
        lambda: gf.EachMember([gf.Dense(3, 4), gf.MemberScale(4, members=5)], members=4),
        r"MemberScale\(.*\) works on the rows of 5 members: put it into the one with members=4",
    ),
    "other members inside a block": (
        lambda: gf.EachMember([gf.Residual([gf.MemberDense(4, 4, members=5)])], members=4),
        "works on the rows of 5 members",
    ),
    "outside": (
        lambda: gf.Sequential([gf.Residual([gf.MemberDense(4, 4)])], backend="numpy"),
        r"works on the rows of 32 members: put it into gradflow.EachMember\(\[\.\.\.\]\)",
    ),
    "mean in front": (
        lambda: gf.Sequential([gf.EachMember([gf.Dense(2, 2)]), gf.MeanOfMembers(), gf.Dense(2, 2)], backend="numpy"),
        "makes the predictions of its network: it must be the last layer",
    ),
    "mean of other members": (
        lambda: gf.Sequential([gf.EachMember([gf.Dense(2, 2)], members=5), gf.MeanOfMembers(4)], backend="numpy"),
        "needs outputs of 4 members, got 10 columns",
    ),
    "chunks": (lambda: gf.EachMember([gf.Dense(4, 2)], chunks=[1, 2]), "chunks must add up to the 4 inputs, got 3"),
    "scale": (lambda: gf.EachMember([gf.Dense(4, 2)], initial_scale="sign"), "Did you mean 'signs'"),
    "loss of values after probabilities": (
        lambda: gf.Trainer(
            gf.Sequential([gf.EachMember([gf.Dense(2, 2)]), gf.MeanOfMembers(), gf.Softmax()], backend="numpy"),
            "mean_squared_error",
            "sgd",
        ),
        r"works on the outputs of each member, but Softmax\(\) comes after their mean",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(gf.DataError, match=message):
        make()


def test_a_trailing_softmax_is_that_of_the_members(backend_name: str) -> None:
    y, found = TASKS["labels"][1], []
    for last in ([], [gf.Softmax()]):
        stack = [gf.Dense(WIDTH, 5), gf.Tanh(), gf.MemberDense(5, 3, members=4)]
        layers = [gf.EachMember(stack, members=4), gf.MeanOfMembers(4), *last]
        network = gf.Sequential(layers, seed=2, backend=backend_name)
        gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01)).fit(X, y, epochs=3, progress=False)
        found.append(network.predict(X).tobytes())
    assert found[0] == found[1]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_other_precisions(precision: str) -> None:
    y = TASKS["labels"][1]
    losses = []
    for chosen in ("float32", precision):
        network = make_network("cupy", 3, full=True, dtype="float32")
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01), precision=chosen)
        history = trainer.fit(X, y, epochs=3, validation_data=(X, y), progress=False)
        losses.append([history["loss"][-1], history["val_loss"][-1]])
        assert_allclose(network.predict(X).sum(axis=1), 1, rtol=1e-5)
    assert_allclose(losses[1], losses[0], rtol=0.03)


@pytest.mark.peers
@both
def test_outputs_and_gradients_are_those_of_the_package_tabm(full: bool, backend_name: str) -> None:
    torch, tabm = pytest.importorskip("torch"), pytest.importorskip("tabm")
    torch.manual_seed(0)
    peer = tabm.TabM(
        n_num_features=WIDTH, d_out=3, n_blocks=2, d_block=8, dropout=0.0, activation="ReLU", k=MEMBERS,
        arch_type="tabm" if full else "tabm-mini", start_scaling_init="random-signs",
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    network = gf.TabM(
        [WIDTH, 8, 8, 3], members=MEMBERS, dropout=0.0, batch_ensemble=full, dtype="float64", backend=backend_name
    )
    tensors = dict(peer.named_parameters())
    names = _names_in_tabm(full)
    assert names.keys() == network.get_weights().keys()
    assert sorted(names.values()) == sorted(tensors)

    def ours(name: str, tensor: Any) -> np.ndarray:
        array: np.ndarray = tensor.detach().numpy()
        if array.ndim == 3:
            return array.transpose(0, 2, 1)  # (k, n_in, n_out)
        return array.T if name.endswith("weight") else array

    network.set_weights({name: ours(name, tensors[names[name]]) for name in names})
    network.output_activation = "softmax"
    y = TASKS["labels"][1]
    outputs = peer(torch.tensor(X))
    assert_allclose(network.predict(X), torch.softmax(outputs, -1).mean(1).detach().numpy(), rtol=1e-10)
    targets = torch.tensor(y).repeat_interleave(MEMBERS)
    torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets).backward()
    for name, gradient in gf.gradients(network, "softmax_cross_entropy", X, y).items():
        expected = ours(name, tensors[names[name]].grad)
        assert_allclose(gradient, expected, rtol=1e-9, atol=1e-13, err_msg=name)


def _names_in_tabm(full: bool) -> dict[str, str]:
    """Return the names of the package tabm by ours."""
    if not full:
        names = {"0.scale": "backbone.affine.weight"}
        for place, block in (("0", 0), ("2", 1)):
            names |= {f"0.{place}.{part}": f"backbone.blocks.{block}.0.{part}" for part in ("weight", "bias")}
        return names | {f"0.4.{part}": f"output.{part}" for part in ("weight", "bias")}
    names = {"0.scale": "backbone.blocks.0.0.r", "0.3.scale": "backbone.blocks.1.0.r"}
    for place, block in ((0, 0), (4, 1)):
        linear = f"backbone.blocks.{block}.0"
        names |= {f"0.{place}.weight": f"{linear}.weight", f"0.{place + 1}.scale": f"{linear}.s"}
        names[f"0.{place + 1}.bias"] = f"{linear}.bias"
    return names | {f"0.7.{part}": f"output.{part}" for part in ("weight", "bias")}
