"""Names belong to the classes that declare them, and redefining a class replaces the old one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.layers import ACTIVATIONS, LAYERS
from gradflow.losses import LOSSES
from gradflow.metrics import METRICS, get_metrics
from gradflow.metrics.base import larger_is_better
from gradflow.metrics.regression import Errors
from gradflow.ops import OPS, op
from gradflow.optimizers import OPTIMIZERS
from gradflow.recipes import RECIPES
from gradflow.schedules import SCHEDULES
from tests.registries import forgotten

# The tests find the library in the folder that they run in, but a program in another folder does not.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(gf.__file__).parents[1])}
X = np.random.default_rng(0).normal(size=(40, 3))
LABELS = (X[:, 0] > 0).astype(int)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


BASES = [
    (ACTIVATIONS, "relu", gf.ReLU),
    (OPTIMIZERS, "adam", gf.Adam),
    (LOSSES, "huber", gf.HuberLoss),
    (SCHEDULES, "step", gf.StepSchedule),
    (METRICS, "f1", gf.metrics.F1),
    (RECIPES, "plain", gf.recipes.PlainRecipe),
]


@pytest.mark.parametrize(("classes", "name", "base"), BASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_subclass_without_a_name_takes_none_away(classes: dict[str, Any], name: str, base: type[Any]) -> None:
    own: Any = type("Experiment", (base,), {})
    assert classes[name] is base
    assert own.name == "Experiment"
    assert classes["Experiment"] is own
    assert type("Again", (own,), {}).name == "Again"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("classes", "name", "base"), BASES, ids=lambda value: getattr(value, "__name__", None))
def test_the_name_of_another_class_is_refused(classes: dict[str, Any], name: str, base: type[Any]) -> None:
    with pytest.raises(gf.DataError, match=f"named '{name}' already exists: gradflow"):
        type("Mine", (base,), {"name": name})
    assert classes[name] is base


@pytest.mark.parametrize(("classes", "name", "base"), BASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_class_that_is_defined_again_takes_effect(classes: dict[str, Any], name: str, base: type[Any]) -> None:
    for _ in range(2):
        latest = type("Mine", (base,), {"name": "mine", "__module__": "__main__"})
    assert classes["mine"] is latest
    renamed = type("Renamed", (base,), {"name": "mine", "__module__": "__main__"})
    assert classes["mine"] is renamed
    with pytest.raises(gf.DataError, match=r"already exists: __main__\.Renamed; give Mine another name"):
        type("Mine", (base,), {"name": "mine", "__module__": "elsewhere"})


def test_a_name_may_come_from_a_mixin() -> None:
    class Named:
        name = "mixed"

    class Mixed(Named, gf.Adam):
        pass

    assert OPTIMIZERS["mixed"] is Mixed


def test_the_same_default_name_in_two_modules() -> None:
    for module in ("one", "other"):
        type("Experiment", (gf.Adam,), {"__module__": module})
    assert OPTIMIZERS["Experiment"].__module__ == "one"
    assert OPTIMIZERS["other.Experiment"].__module__ == "other"


def test_a_metric_declares_which_direction_is_better_by_its_own_name() -> None:
    class Misses(gf.metrics.F1):
        larger_is_better = False

    class Inaccuracy(gf.metrics.F1):
        name = "inaccuracy"
        larger_is_better = False

    class AtK(gf.metrics.F1):
        name = "at_k"

        @property
        def label(self) -> str:
            return "at_5"

    get_metrics([AtK()])
    assert [larger_is_better(f"val_{name}") for name in ("f1", "Misses", "inaccuracy", "at_5")] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("taken", ["loss", "accuracy", "learning_rate", "epoch", "val_f1", "dead/1"])
def test_a_metric_cannot_take_the_place_of_another_value(taken: str) -> None:
    metric: Any = type("Taken", (gf.metrics.F1,), {"name": taken})
    with pytest.raises(gf.DataError, match=f"a metric cannot be named '{taken}'"):
        gf.Trainer(gf.MLP([3, 2]), "softmax_cross_entropy", "adam", metrics=[metric()])


def test_missing_attributes_of_a_class_are_named() -> None:
    class Bare(gf.Loss):
        pass

    class Half(gf.Loss):
        output_activation = "identity"

    class Empty(gf.metrics.Metric):
        larger_is_better = True
        statistics = Errors

    with pytest.raises(gf.DataError, match=r"output_activation of loss Bare\(\) must be one of identity, sigmoid"):
        gf.Trainer(gf.MLP([3, 2]), Bare(), "adam")
    with pytest.raises(gf.DataError, match=r"Half\(\) must set has_accuracy"):
        gf.Trainer(gf.MLP([3, 2]), "Half", "adam")
    with pytest.raises(gf.DataError, match="metric Empty must have an attribute kinds"):
        gf.Trainer(gf.MLP([3, 2]), "mean_squared_error", "adam", metrics=["Empty"])


# -- run folders ------------------------------------------------------------------------------------------------------


def test_a_run_with_a_subclass_is_repeated_with_it(tmp_path: Path) -> None:
    class Slower(gf.Adam):
        def hyper(self) -> list[float]:
            first, *others = super().hyper()
            return [first / 2, *others]

    gf.Trainer(gf.MLP([3, 2]), "softmax_cross_entropy", Slower(0.1)).fit(X, LABELS, epochs=2, output=tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["name"] == "Slower"
    assert gf.repeat(tmp_path, X, LABELS).is_same
    del OPTIMIZERS["Slower"]
    with pytest.raises(gf.DataError, match="the run had the optimizer 'Slower', which is unknown; import"):
        gf.repeat(tmp_path, X, LABELS)


def test_a_subclass_does_not_continue_with_the_run_of_its_base(tmp_path: Path) -> None:
    class Other(gf.Adam):
        pass

    def fit(optimizer: gf.Optimizer, **arguments: Any) -> None:
        trainer = gf.Trainer(gf.MLP([3, 2]), "softmax_cross_entropy", optimizer)
        trainer.fit(X, LABELS, epochs=2, **arguments)

    fit(gf.Adam(), output=tmp_path, checkpoint=gf.Checkpoint())
    with pytest.raises(gf.DataError, match="Other"):
        fit(Other(), resume=tmp_path)


def test_a_config_without_an_argument_is_named(tmp_path: Path) -> None:
    class Scaled(gf.Adam):
        def __init__(self, learning_rate: float, scale: float) -> None:
            super().__init__(learning_rate * scale)

        def config(self) -> dict[str, Any]:
            return {"learning_rate": self.learning_rate}

    gf.Trainer(gf.MLP([3, 2]), "softmax_cross_entropy", Scaled(0.1, 2)).fit(X, LABELS, epochs=1, output=tmp_path)
    with pytest.raises(gf.DataError, match=r"'Scaled' cannot be created from .*scale.*config\(\) must return all"):
        gf.repeat(tmp_path, X, LABELS)


# -- layers -----------------------------------------------------------------------------------------------------------


def network_with_own_relu() -> tuple[gf.Sequential, gf.Sequential]:
    """A network with gradflow's layers, and one with a user's class of the same name that does something else."""

    class ReLU(gf.Layer):
        def forward(self, ops: Any, x: Any, y: Any) -> None:
            np.multiply(x, 3, out=y)

        def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
            if d_x is not None:
                np.multiply(d_y, 3, out=d_x)

    def network(relu: type[gf.Layer]) -> gf.Sequential:
        return gf.Sequential([gf.Residual([gf.Dense(3, 3), relu()]), relu(), gf.Dense(3, 2)], backend="numpy")

    return network(gf.ReLU), network(ReLU)


def test_a_layer_of_the_same_name_does_not_change_the_other(tmp_path: Path) -> None:
    built_in, own = network_with_own_relu()
    expected = [built_in.predict(X), own.predict(X)]
    assert not np.allclose(*expected)
    for network, prediction, name in zip((built_in, own), expected, ("built-in", "own"), strict=True):
        gf.save(network, tmp_path / name)
        np.testing.assert_array_equal(network.copy().predict(X), prediction)
        np.testing.assert_array_equal(gf.load(tmp_path / name, "numpy").predict(X), prediction)
    LAYERS.pop(next(name for name in LAYERS if name.endswith("network_with_own_relu.<locals>.ReLU")))
    np.testing.assert_array_equal(gf.load(tmp_path / "built-in", "numpy").predict(X), expected[0])
    with pytest.raises(gf.FileFormatError, match=r"it holds an unknown layer .*; import the module that defines it"):
        gf.load(tmp_path / "own", "numpy")


def own_layer(module: str, factor: float) -> type[gf.Layer]:
    def forward(self: gf.Layer, ops: Any, x: Any, y: Any) -> None:
        np.multiply(x, factor, out=y)

    return type("Own", (gf.Layer,), {"forward": forward, "__module__": module})


def test_two_user_layers_with_the_same_name_are_distinguished(tmp_path: Path) -> None:
    first = gf.Sequential([gf.Dense(3, 2), own_layer("one", 2.0)()], backend="numpy")
    gf.save(first, tmp_path / "alone")
    other = gf.Sequential([gf.Dense(3, 2), own_layer("other", 5.0)()], backend="numpy")
    for network in (first, other):
        gf.save(network, tmp_path / "beside")
        np.testing.assert_array_equal(gf.load(tmp_path / "beside", "numpy").predict(X), network.predict(X))
    with pytest.raises(gf.FileFormatError, match=r"several classes have that name: one\.Own, other\.Own"):
        gf.load(tmp_path / "alone", "numpy")


def test_a_layer_that_is_defined_again_takes_effect(tmp_path: Path) -> None:
    old = gf.Sequential([gf.Residual([gf.Dense(3, 3), own_layer("__main__", 2.0)()])], backend="numpy")
    gf.save(old, tmp_path / "model")
    new = gf.Sequential([gf.Residual([gf.Dense(3, 3), own_layer("__main__", 5.0)()])], backend="numpy")
    # A copy has the layers of its network, including the old class; a file knows only the name.
    np.testing.assert_array_equal(old.copy().predict(X), old.predict(X))
    np.testing.assert_array_equal(gf.load(tmp_path / "model", "numpy").predict(X), new.predict(X))


def test_a_program_that_imports_itself_defines_everything_twice(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        """
import numpy as np

import gradflow as gf
from gradflow.ops import op


class Twice(gf.Layer):
    def forward(self, ops, x, y):
        np.multiply(x, 2, out=y)


class Own(gf.Adam):
    name = "own"


@op(shapes="x, y: n", writes=("y",))
def twice(x, y):
    np.multiply(x, 2, out=y)


if __name__ == "__main__":
    import program  # noqa: F401

    network = gf.Sequential([gf.Dense(3, 2), Twice()], backend="numpy")
    gf.save(network, "model")
    print((gf.load("model").predict(np.ones((1, 3))) == network.predict(np.ones((1, 3)))).all())
"""
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_only_a_last_layer_of_the_library_is_the_output_activation() -> None:
    class Sigmoid(gf.Layer):
        def forward(self, ops: Any, x: Any, y: Any) -> None:
            np.multiply(x, 3, out=y)

    class Steep(gf.Sigmoid):
        def forward(self, ops: Any, x: Any, y: Any) -> None:
            y[...] = 1 / (1 + np.exp(-10 * x))

    for own in (Sigmoid, Steep):
        network = gf.Sequential([gf.Dense(3, 1), own()], backend="numpy")
        assert network.output_activation == "identity"
        logits = gf.Sequential([gf.Dense(3, 1)], backend="numpy", weights=network.get_weights()).predict(X)
        expected = 3 * logits if own is Sigmoid else 1 / (1 + np.exp(-10 * logits))
        np.testing.assert_allclose(network.predict(X), expected, rtol=1e-6)


def test_an_own_activation_is_found_by_its_name(tmp_path: Path) -> None:
    class Steep(gf.LeakyReLU):
        name = "steep"

        def __init__(self, slope: float = 0.5) -> None:
            super().__init__(slope)

    network = gf.MLP([3, 4, 2], "steep", seed=1, backend="numpy")
    assert type(network.layers[1]) is Steep
    expected = gf.Sequential([gf.Dense(3, 4), gf.LeakyReLU(0.5), gf.Dense(4, 2)], seed=1, backend="numpy").predict(X)
    np.testing.assert_array_equal(network.predict(X), expected)
    gf.save(network, tmp_path / "model")
    np.testing.assert_array_equal(gf.load(tmp_path / "model", "numpy").predict(X), expected)


@pytest.mark.parametrize("name", ["identity", "softmax"])
def test_an_own_activation_cannot_take_the_name_of_one_that_gradflow_applies(name: str) -> None:
    built_in = ACTIVATIONS[name]
    with pytest.raises(gf.DataError, match=f"an activation named '{name}' already exists: gradflow"):
        type("Mine", (gf.Activation,), {"name": name})
    assert ACTIVATIONS[name] is built_in


# -- ops --------------------------------------------------------------------------------------------------------------


def define(module: str, factor: float, **declared: Any) -> Any:
    def scaled(x: Any, y: Any) -> None:
        np.multiply(x, factor, out=y)

    scaled.__module__ = module
    return op(**{"shapes": "x, y: n", "writes": ("y",)} | declared)(scaled)


def test_an_op_that_is_defined_again_takes_effect() -> None:
    define("__main__", 2.0)
    define("__main__", 3.0)
    y = np.empty(2)
    OPS["scaled"].reference(np.ones(2), y)
    assert y.tolist() == [3.0, 3.0]
    with pytest.raises(gf.DataError, match="an op named 'scaled' already exists in __main__"):
        define("elsewhere", 4.0)


@pytest.mark.parametrize("name", ["bias_relu_forward", "gemm_tf32", "adam_mirrored", "adam_ending"])
def test_an_op_cannot_have_the_name_of_a_form_of_another(name: str) -> None:
    def own(x: Any, y: Any) -> None:
        np.copyto(y, x)

    own.__name__ = name
    with pytest.raises(gf.DataError, match=f"op '{name}' has the name of a form of"):
        op(shapes="x, y: n", writes=("y",))(own)
    own.__name__ = "bias_own"
    assert op(shapes="x, y: n", writes=("y",))(own).name == "bias_own"


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ({"writes": ("y", "z")}, "writes names 'z'"),
        ({"in_place": (("z", "y"),)}, "in_place names 'z'"),
        ({"shapes": "x, y: n; z: n"}, "shapes names 'z'"),
    ],
)
def test_an_op_names_only_existing_arguments(declared: dict[str, Any], what: str) -> None:
    with pytest.raises(gf.DataError, match=f"op 'scaled': {what}, but the arguments are x, y"):
        define("__main__", 2.0, **declared)
    assert "scaled" not in OPS


def test_shapes_that_a_function_gives_are_checked_too() -> None:
    made = define("__main__", 2.0, shapes=lambda arguments: "x, y: n; z: n")
    with pytest.raises(gf.DataError, match="op 'scaled': shapes names 'z', which is none of x, y"):
        made.check_shapes({"x": np.ones(2), "y": np.ones(2)})


# -- callbacks --------------------------------------------------------------------------------------------------------


def test_a_misspelled_method_of_a_callback_is_refused() -> None:
    with pytest.raises(gf.DataError, match=r"'on_epoch_ends'\. Did you mean 'on_epoch_end'"):

        class Misspelt(gf.Callback):
            def on_epoch_ends(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
                raise AssertionError
