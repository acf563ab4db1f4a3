"""Invalid input: each kind raises an error that states what was expected and what came, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradflow as gf

X = np.random.default_rng(0).normal(size=(20, 4))
LABELS = np.arange(20) % 3


def bad(x: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    x = x.copy()
    x[row, column] = value
    return x


DATA_CASES: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "too few features": (X[:, :3], LABELS, {}, "x must have 4 features, as the network's first layer expects, got 3"),
    "flat x": (X[:, 0], LABELS, {}, r"x must have shape (batch, 4), got (20,); x.reshape(1, -1)"),
    "images": (X.reshape(20, 2, 2), LABELS, {}, r"got (20, 2, 2); x.reshape(len(x), -1)"),
    "objects": (X.astype(object), LABELS, {}, "x must hold numbers, got dtype object"),
    "text": (X.astype(str), LABELS, {}, "x must hold numbers, got dtype <U"),
    "complex numbers": (X.astype(complex), LABELS, {}, "x must hold numbers, got dtype complex128"),
    "ragged lists": ([[1, 2, 3, 4], [1, 2]], LABELS[:2], {}, "x is not a rectangular array of numbers"),
    "no x": (None, LABELS, {}, "x is missing: expected an array, got None"),
    "no y": (X, None, {}, "y is missing: expected an array, got None"),
    "NaN": (bad(X, 7, 2, np.nan), LABELS, {}, "values that are not finite, the first (NaN) in row 7, column 2"),
    "infinity": (bad(X, 3, 1, -np.inf), LABELS, {}, "the first (infinity or a number too large for float32) in row 3"),
    "too large for float32": (bad(X, 0, 0, 1e300), LABELS, {}, "too large for float32) in row 0, column 0"),
    "zero rows": (X[:0], LABELS[:0], {}, "x has no rows; at least 1 is needed"),
    "other length": (X, LABELS[:19], {}, "x has 20 rows, but y has 19 rows; they must match"),
    "number for y": (X, 3, {}, "y has no dimension"),
    "an unknown label in validation": (
        X, LABELS, {"validation_data": (X, LABELS + 1)}, "class labels must be from 0 to 2 for a network with 3 output",
    ),
    "a negative label in validation": (X, LABELS, {"validation_data": (X, LABELS - 1)}, "got labels from -1 to 1"),
    "validation labels that are no integers": (
        X, LABELS, {"validation_data": (X, LABELS / 2)}, "class labels must be integers from 0 to 2, got dtype float64",
    ),
    "names of validation only": (
        X, LABELS, {"validation_data": (X, LABELS.astype(str))},
        "validation y holds text, such as '0' in row 0, but the network knows no class names",
    ),
    "too many classes": (
        X, np.arange(20) % 4, {"shuffle": False}, "y holds 4 classes (0, 1, 2, 3), which are not the class numbers 0",
    ),
    "times as labels": (X, LABELS.astype("datetime64[D]"), {}, "y holds times (dtype datetime64[D])"),
    "bytes as labels": (X, LABELS.astype("S1"), {}, "y has dtype |S1; decode it to text"),
    "complex labels": (X, LABELS + 0j, {}, "y has dtype complex128; expected numbers or text"),
    "a matrix of text": (X, np.full((20, 3), "a"), {}, "y must hold numbers, got dtype <U1"),
    "epochs 0": (X, LABELS, {"epochs": 0}, "epochs must be at least 1, got 0"),
    "half epochs": (X, LABELS, {"epochs": 1.5}, "epochs must be an integer, got 1.5"),
    "batch size 0": (X, LABELS, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "negative batch size": (X, LABELS, {"batch_size": -3}, "batch_size must be at least 1, got -3"),
    "batch size as text": (X, LABELS, {"batch_size": "32"}, "batch_size must be an integer, got '32'"),
    "validation no pair": (X, LABELS, {"validation_data": X}, "validation_data must be a pair (x, y), got ndarray"),
    "validation features": (X, LABELS, {"validation_data": (X[:, 1:], LABELS)}, "validation x must have 4 features"),
    "validation NaN": (X, LABELS, {"validation_data": (X * np.nan, LABELS)}, "validation x holds values that are"),
    "negative tolerance": (X, LABELS, {"tolerance": -1.0}, "tolerance must be at least 0, got -1.0"),
    "unknown monitor": (
        X, LABELS, {"early_stopping": gf.EarlyStopping("val_loss")},
        "early stopping cannot monitor 'val_loss'; valid names: loss, accuracy; pass validation_data",
    ),
    "monitor that is no metric": (
        X, LABELS, {"early_stopping": gf.EarlyStopping("f1")},
        "early stopping cannot monitor 'f1'; valid names: loss, accuracy; metrics= of the trainer adds more",
    ),
    "early stopping as number": (X, LABELS, {"early_stopping": 5}, "must be a gradflow.EarlyStopping, got 5"),
    "callback as class": (X, LABELS, {"callbacks": [gf.JSONLines]}, "it holds the class JSONLines; create an object"),
    "one callback": (X, LABELS, {"callbacks": gf.Callback()}, "callbacks must be a list of gradflow.Callback objects"),
    "shuffle as text": (X, LABELS, {"shuffle": "no"}, "shuffle must be True or False, got 'no'"),
    "callback as function": (X, LABELS, {"callbacks": [print]}, "must be a list of gradflow.Callback objects, but it"),
    "progress as text": (X, LABELS, {"progress": "yes"}, 'progress must be True, False or "auto", got \'yes\''),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA_CASES)
def test_fit_refuses(case: str, backend_name: str) -> None:
    x, y, arguments, message = DATA_CASES[case]
    network = gf.MLP([4, 5, 3], backend=backend_name)
    before = network.get_weights()
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    with pytest.raises(gf.DataError, match=re.escape(message)):
        trainer.fit(x, y, **{"epochs": 1, **arguments})
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == before[name].tobytes()
    assert network.output_activation == "identity"


@pytest.mark.parametrize("case", [case for case, (_, _, arguments, _) in DATA_CASES.items() if not arguments])
def test_evaluate_and_predict_refuse(case: str, backend_name: str) -> None:
    x, y, _, message = DATA_CASES[case]
    network = gf.MLP([4, 5, 3], backend=backend_name)
    with pytest.raises(gf.DataError, match=re.escape(message)):
        gf.Trainer(network, "softmax_cross_entropy", "adam").evaluate(x, y)
    if x is not X:
        for method in (network.predict, network.logits, network.predict_classes):
            with pytest.raises(gf.DataError):
                method(x)


ARGUMENT_CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown activation": (lambda: gf.MLP([4, 3, 2], "rellu"), "unknown activation 'rellu'. Did you mean 'relu'?"),
    "one size": (lambda: gf.MLP([4]), "sizes must list at least the numbers of inputs and outputs"),
    "a size for sizes": (lambda: gf.MLP(4), "sizes must be a list of the widths from the inputs to the outputs"),
    "size 0": (lambda: gf.MLP([4, 0, 2]), "sizes[1] must be at least 1, got 0"),
    "size as float": (lambda: gf.MLP([4, 2.0]), "sizes[1] must be an integer, got 2.0"),
    "dropout 1": (lambda: gf.MLP([4, 3, 2], dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
    "dropout negative": (lambda: gf.Dropout(-0.1), "rate must be at least 0 and below 1, got -0.1"),
    "input dropout 1": (lambda: gf.MLP([4, 2], input_dropout=1), "input_dropout must be at least 0 and below 1, got 1"),
    "embedding of another width": (
        lambda: gf.MLP([4, 2], embedding=gf.CosineEmbedding(3)),
        "embedding must take 4 inputs, but CosineEmbedding(n_in=3",
    ),
    "embedding of no numbers": (
        lambda: gf.TabM([4, 2], embedding=gf.Dense(4, 4)),
        "embedding must be a layer that embeds numbers, such as gradflow.PeriodicEmbedding(n_in, columns), got Dense(",
    ),
    "momentum 0": (lambda: gf.BatchNorm(4, momentum=0), "momentum must be above 0 and at most 1, got 0"),
    "momentum above 1": (lambda: gf.BatchNorm(4, momentum=1.1), "momentum must be above 0 and at most 1, got 1.1"),
    "epsilon 0": (lambda: gf.LayerNorm(4, epsilon=0.0), "epsilon must be above 0, got 0.0"),
    "width 0": (lambda: gf.BatchNorm(0), "n_in must be at least 1, got 0"),
    "norm of another width": (
        lambda: gf.Sequential([gf.Dense(4, 3), gf.LayerNorm(4)]), "has 4 inputs, but the layer before it has 3",
    ),
    "slope negative": (lambda: gf.LeakyReLU(-0.1), "slope must be at least 0, got -0.1"),
    "alpha 0": (lambda: gf.ELU(0), "alpha must be above 0, got 0"),
    "half precision": (lambda: gf.MLP([4, 2], dtype="float16"), "unknown dtype 'float16'"),
    "seed negative": (lambda: gf.MLP([4, 2], seed=-1), "seed must be between 0 and 18446744073709551615, got -1"),
    "seed as text": (lambda: gf.MLP([4, 2], seed="1"), "seed must be an integer, got '1'"),
    "unknown initializer": (lambda: gf.MLP([4, 2], initializer="he_norm"), "Did you mean 'he_normal'?"),
    "initializer of biases": (lambda: gf.MLP([4, 2], bias_initializer="he_normal"), "bias_initializer 'he_normal'"),
    "initializer of biases as function": (
        lambda: gf.MLP([4, 2], bias_initializer=np.zeros),  # type: ignore[arg-type]
        'bias_initializer, unless "zeros" or "fan_in_uniform", must be a finite number',
    ),
    "initializer as list": (lambda: gf.MLP([4, 2], initializer=[1]), "an initializer must be a name, a number or a"),
    "initializer of wrong shape": (
        lambda: gf.MLP([4, 2], initializer=lambda shape, random: np.zeros(3)),
        "must return finite numbers of shape (4, 2), got (3,)",
    ),
    "layers that do not fit": (
        lambda: gf.Sequential([gf.Dense(4, 3), gf.ReLU(), gf.Dense(5, 2)]),
        "has 5 inputs, but the layer before it has 3",
    ),
    "no layer": (lambda: gf.Sequential([]), "a network needs at least one layer with parameters"),
    "no parameters": (lambda: gf.Sequential([gf.ReLU()]), "a network needs at least one layer with parameters"),
    "class for layer": (
        lambda: gf.Sequential([gf.Dense(4, 3), gf.ReLU]), "it holds the class ReLU; create an object: ReLU(...)",
    ),
    "class for optimizer": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", gf.SGD), "got the class SGD; create an object",
    ),
    "a layer for layers": (
        lambda: gf.Sequential(gf.Dense(4, 3)), "layers must be a list of gradflow layers, got Dense(n_in=4",
    ),
    "activations": (
        lambda: gf.MLP([4, 3, 3, 2], activation=["relu", "tanh"]), "activation must be one name, for all hidden layers",
    ),
    "a word for a boolean": (lambda: gf.Dense(4, 2, bias="no"), "bias must be True or False, got 'no'"),
    "unknown loss": (lambda: gf.Trainer(gf.MLP([4, 2]), "crossentropy", "sgd"), "unknown loss 'crossentropy'"),
    "loss as number": (
        lambda: gf.Trainer(gf.MLP([4, 2]), 3, "sgd"), "loss must be a name or a gradflow Loss, got 3 of type int",
    ),
    "loss by another name": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mse", "sgd"), "unknown loss 'mse'. Did you mean 'mean_squared_error'?",
    ),
    "unknown optimizer": (lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "adamm"), "Did you mean 'adam'?"),
    "l2 negative": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "sgd", l2=-1), "l2 must be at least 0, got -1",
    ),
    "clip norm 0": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "sgd", clip_norm=0), "clip_norm must be above 0",
    ),
    "l1 negative": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "sgd", l1=-1), "l1 must be at least 0, got -1",
    ),
    "clip value 0": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "sgd", clip_value=0), "clip_value must be above 0",
    ),
    "both ways of clipping": (
        lambda: gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", "sgd", clip_value=1, clip_norm=1),
        "pass either clip_norm or clip_value, not both",
    ),
    "network as list": (lambda: gf.Trainer([4, 2], "mean_squared_error", "sgd"), "must be a gradflow network"),
    "sigmoid before softmax loss": (
        lambda: gf.Trainer(gf.Sequential([gf.Dense(4, 2), gf.Sigmoid()]), "softmax_cross_entropy", "sgd"),
        "applies softmax itself, but the network ends in Sigmoid(); omit that layer",
    ),
    "patience 0": (lambda: gf.EarlyStopping(patience=0), "patience must be at least 1, got 0"),
    "min_delta negative": (lambda: gf.EarlyStopping(min_delta=-1), "min_delta must be at least 0, got -1"),
    "monitor as number": (lambda: gf.EarlyStopping(3), "monitor must be the name of a value in the history, got 3"),
    "missing weight": (
        lambda: gf.MLP([4, 2]).set_weights({"0.weight": np.zeros((4, 2))}), "weights are missing: 0.bias",
    ),
    "unknown weight": (
        lambda: gf.MLP([4, 2]).set_weights({"0.weight": 0, "0.bias": 0, "0.bais": 0}), "Did you mean '0.bias'?",
    ),
    "misspelled weight": (lambda: gf.MLP([4, 2]).set_weights({"0.weight": 0, "0.bais": 0}), "Did you mean '0.bias'?"),
    "weights as list": (lambda: gf.MLP([4, 2]).set_weights([1, 2]), "weights must be a dict of arrays"),
    "save of a trainer": (lambda: gf.save(X, "model"), "network must be a gradflow network"),
    "load of nothing": (lambda: gf.load(""), "path must name a file or a folder, got ''"),
    "weight of wrong shape": (
        lambda: gf.MLP([4, 2]).set_weights({"0.weight": np.zeros((2, 4)), "0.bias": np.zeros(2)}),
        "weight '0.weight' must hold numbers of shape (4, 2), got float64 (2, 4)",
    ),
    "weight of NaN": (
        lambda: gf.MLP([4, 2]).set_weights({"0.weight": np.full((4, 2), np.nan), "0.bias": np.zeros(2)}),
        "weight '0.weight' holds values that are NaN, infinite or too large for float32",
    ),
    "unknown output activation": (
        lambda: setattr(gf.MLP([4, 2]), "output_activation", "sofmax"), "Did you mean 'softmax'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENT_CASES)
def test_arguments_are_refused(case: str) -> None:
    make, message = ARGUMENT_CASES[case]
    with pytest.raises(gf.DataError, match=re.escape(message)):
        make()


def settled() -> dict[str, tuple[Any, str, Any, str]]:
    """Objects with fixed attributes: the object, the name of an attribute, another value, and the advice."""
    trainer = gf.Trainer(gf.MLP([4, 2]), "mean_squared_error", gf.Adam(0.1))
    network = trainer.network
    return {
        "layers": (network, "layers", [gf.Dense(4, 2)], "create a new one from copies of the layers to keep"),
        "dtype": (network, "dtype", np.dtype("float64"), "network.copy(dtype=...)"),
        "seed": (network, "seed", 3, "create a new one with another seed"),
        "penalty": (trainer, "l2", 1.0, "create a new one: Trainer(..., l2=...)"),
        "network": (trainer, "network", gf.MLP([4, 2]), "create a new one: Trainer(..., network=...)"),
        "rate": (trainer.optimizer, "learning_rate", 0.5, "pass a schedule or a function of the time in epochs"),
        "one layer": (network.layers[0], "trainable", False, "set network.frozen to the indices"),
    }


@pytest.mark.parametrize("case", settled())
def test_settings_without_effect_are_refused(case: str) -> None:
    changed, name, value, advice = settled()[case]
    before = getattr(changed, name)
    with pytest.raises(gf.GradflowError, match=re.escape(advice)):
        setattr(changed, name, value)
    assert getattr(changed, name) is before


def test_a_network_keeps_its_layers() -> None:
    for layers in (gf.MLP([4, 3, 2]).layers, gf.Residual([gf.Dense(3, 3), gf.Tanh()]).layers):
        with pytest.raises(TypeError, match="does not support item assignment"):
            layers[1] = gf.Sigmoid()


def test_data_errors_are_value_errors() -> None:
    assert issubclass(gf.DataError, ValueError)
    for error in (gf.BackendError, gf.DataError, gf.DivergedError, gf.FileFormatError):
        assert issubclass(error, gf.GradflowError)


def test_a_layer_belongs_to_one_network() -> None:
    layer = gf.Dense(4, 2)
    gf.Sequential([layer])
    with pytest.raises(gf.GradflowError, match="already belongs to a network"):
        gf.Sequential([layer])
    twice = gf.Dense(4, 4)
    with pytest.raises(gf.DataError, match="occurs in the network twice"):
        gf.Sequential([twice, twice])


def test_set_weights_changes_nothing_when_it_refuses(backend_name: str) -> None:
    network = gf.MLP([4, 2], backend=backend_name)
    before = network.backend.to_host(network.parameters).tobytes()
    with pytest.raises(gf.DataError):
        network.set_weights({"0.weight": np.ones((4, 2)), "0.bias": np.full(2, np.inf)})
    assert network.backend.to_host(network.parameters).tobytes() == before


def masked(array: np.ndarray, row: int) -> Any:
    mask = np.zeros(array.shape, bool)
    mask[row] = True
    return np.ma.array(array, mask=mask)


WEIGHT = np.ones(20)
NETWORK = gf.MLP([4, 5, 3], backend="numpy")
TRAINER = gf.Trainer(NETWORK, "softmax_cross_entropy", "adam")
MASKED_CASES: dict[str, Callable[[], Any]] = {
    "x": lambda: TRAINER.fit(masked(X, 3), LABELS, epochs=1),
    "y": lambda: TRAINER.fit(X, masked(LABELS, 3), epochs=1),
    "sample_weight": lambda: TRAINER.fit(X, LABELS, epochs=1, sample_weight=masked(WEIGHT, 3)),
    "validation x": lambda: TRAINER.fit(X, LABELS, epochs=1, validation_data=(masked(X, 3), LABELS)),
    "a list of rows": lambda: NETWORK.predict([*X[:3], masked(X[3], 1)]),
    "a list of numbers": lambda: TRAINER.evaluate(X, [*LABELS[:3], np.ma.masked, *LABELS[4:]]),
    "evaluate": lambda: TRAINER.evaluate(X, LABELS, sample_weight=masked(WEIGHT, 3)),
    "predict": lambda: NETWORK.predict(masked(X, 3)),
    "predict_classes": lambda: NETWORK.predict_classes(masked(X, 3)),
    "Arrays": lambda: gf.data.Arrays(X, masked(LABELS, 3)),
    "weights of Arrays": lambda: gf.data.Arrays(X, LABELS, masked(WEIGHT, 3)),
    "Batches": lambda: TRAINER.fit(gf.data.Batches([(masked(X, 3), LABELS)]), epochs=1),
    "a column": lambda: NETWORK.predict({"a": masked(X[:, 0], 3), "b": X[:, 1], "c": X[:, 2], "d": X[:, 3]}),
    "fit_preprocessing": lambda: gf.data.fit_preprocessing(masked(X, 3)),
    "fit_preprocessing of columns": lambda: gf.data.fit_preprocessing({"a": masked(X[:, 0], 3), "b": X[:, 1]}),
    "set_weights": lambda: gf.MLP([20, 4]).set_weights({"0.weight": masked(X, 3), "0.bias": X[0]}),
    "check_gradients": lambda: gf.check_gradients(NETWORK, "softmax_cross_entropy", X, masked(LABELS, 3)),
    "gradient_norms": lambda: gf.inspect.gradient_norms(NETWORK, "softmax_cross_entropy", masked(X, 3), LABELS),
    "dead_units": lambda: gf.inspect.dead_units(NETWORK, masked(X, 3)),
}


@pytest.mark.parametrize("case", MASKED_CASES)
def test_masked_values_are_refused(case: str) -> None:
    with pytest.raises(gf.DataError, match=r"has masked values, the first in row 3, .* values.filled\(0\)"):
        MASKED_CASES[case]()


def test_masks_without_a_masked_value_are_accepted() -> None:
    whole = np.ma.array(X, mask=np.zeros(X.shape, bool))
    assert NETWORK.predict(whole).tobytes() == NETWORK.predict(X).tobytes()
