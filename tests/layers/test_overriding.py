"""Overridden methods of layers run at every step or are refused: none runs only once, while its calls are recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.executors import Executor
from gradflow.layers.dense import add_bias, gemm
from gradflow.layers.tanh import tanh_backward, tanh_forward
from gradflow.ops import Array, copy
from tests.registries import forgotten

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


class ByHand:
    """Tanh in plain NumPy, or CuPy on a GPU: a mixin."""

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        y[...] = np.exp(2 * x)  # in two steps: correct only if y is a different array from x
        y[...] = np.tanh(x) + 0 * y

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is not None:
            d_x[...] = 1 - np.tanh(x) ** 2  # reads x, unlike gradflow's own
            d_x[...] = d_x * d_y


def own_tanh() -> type[gf.Layer]:
    class OwnTanh(ByHand, gf.Tanh):
        pass

    return OwnTanh


def network(tanh: type[gf.Layer], backend: str, seed: int = 1) -> gf.Sequential:
    layers = [gf.Dense(4, 5), tanh(), gf.Residual([gf.Dense(5, 5), tanh()]), gf.Dense(5, 2)]
    return gf.Sequential(layers, dtype="float64", seed=seed, backend=backend)


def test_an_overridden_layer_does_what_it_says_everywhere(backend_name: str, tmp_path: Path) -> None:
    results = []
    for tanh in (gf.Tanh, own_tanh()):
        trained = network(tanh, backend_name)
        trainer = gf.Trainer(trained, "softmax_cross_entropy", gf.Adam(0.02), metrics=["f1"], layer_statistics=True)
        history = trainer.fit(
            X, LABELS, epochs=4, batch_size=16, accumulate=2, validation_data=(X[:20], LABELS[:20]), progress=False
        )
        assert max(gf.check_gradients(trained, "softmax_cross_entropy", X, LABELS).values()) < 1e-5
        gf.save(trained, tmp_path / "model")
        results.append(
            {name: history[name] for name in history if not name.startswith("saturated")}
            | trainer.evaluate(X, LABELS)
            | gf.inspect.gradient_norms(trained, "softmax_cross_entropy", X, LABELS)
            | gf.inspect.dead_units(trained, X)
            | {
                "predictions": trained.predict(X),
                "copied": trained.copy().predict(X),
                "loaded": gf.load(tmp_path / "model", backend_name).predict(X),
            }
        )
    expected, actual = results
    for name in expected.keys() - {"1.Tanh"}:
        assert_allclose(actual[name], expected[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("states", ["in the class", "by a mixin", "below", "after it was made"])
def test_a_wrong_derivative_is_noticed_wherever_it_is(states: str, backend_name: str) -> None:
    def backward(self: Any, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is not None:
            d_x[...] = 3 * d_y

    overriding = {"backward": backward}
    made: type[gf.Layer]
    if states == "by a mixin":
        made = type("Wrong", (type("Mixin", (), overriding), gf.Tanh), {})
    else:
        made = type("Wrong", (gf.Tanh,), {} if states == "after it was made" else overriding)
    if states == "below":
        made = type("Below", (made,), {})
    wrong = network(made, backend_name)
    if states == "after it was made":
        made.backward = backward  # type: ignore[method-assign]
        with pytest.raises(gf.DataError, match="does its own array math"):
            gf.check_gradients(wrong, "softmax_cross_entropy", X, LABELS)
    else:
        assert gf.check_gradients(wrong, "softmax_cross_entropy", X, LABELS)["0.weight"] > 0.1


def test_a_layer_that_zeroes_its_gradient_is_frozen(backend_name: str) -> None:
    class Frozen(gf.Dense):
        def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
            super().backward(ops, x, y, d_y, d_x)
            self.d_weight[...] = 0

    for frozen in (Frozen(4, 5), gf.Residual([Frozen(4, 5)])):
        trained = gf.Sequential([frozen, gf.Tanh(), gf.Dense(5, 2)], backend=backend_name)
        before = trained.get_weights()
        gf.Trainer(trained, "softmax_cross_entropy", gf.SGD(0.5)).fit(X, LABELS, epochs=2, progress=False)
        name = "0.weight" if isinstance(frozen, Frozen) else "0.0.weight"
        after = trained.get_weights()
        assert_array_equal(after[name], before[name])
        assert abs(after["2.weight"] - before["2.weight"]).max() > 0.01


def test_every_kind_of_layer_may_be_overridden(backend_name: str) -> None:
    def doubled(base: type[Any]) -> type[Any]:
        class Doubled(base):  # type: ignore[misc]
            def forward(self, ops: Executor, x: Array, y: Array) -> None:
                super().forward(ops, x, y)
                y *= 2

            def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
                d_y *= 2
                y /= 2
                super().backward(ops, x, y, d_y, d_x)

        class DoubledAtPrediction(Doubled):
            def infer(self, ops: Executor, x: Array, y: Array) -> None:
                super().infer(ops, x, y)
                y *= 2

        # Otherwise prediction is the forward pass, which is doubled already.
        return DoubledAtPrediction if "infer" in vars(base) else Doubled

    bases: list[tuple[type[Any], tuple[Any, ...]]] = [
        (gf.Dense, (5, 5)),
        (gf.BatchNorm, (5,)),
        (gf.LayerNorm, (5,)),
        (gf.GELU, ()),
        (gf.Softmax, ()),
        (gf.Residual, ([gf.Dense(5, 3), gf.Tanh()],)),
    ]
    for base, arguments in bases:
        layer = doubled(base)(*arguments)
        assert not layer.recorded
        made = gf.Sequential([gf.Dense(4, 5), layer, gf.Dense(layer.output_width(5), 2)], backend=backend_name, seed=2)
        assert max(gf.check_gradients(made, "softmax_cross_entropy", X, LABELS).values()) < 1e-5, layer
        plain = gf.Sequential([gf.Dense(4, 5), base.from_config(layer.config())], backend=backend_name)
        weights = made.get_weights()
        plain.set_weights({name: weights[name] for name in plain.get_weights()})
        expected = plain.predict(X) * 2
        inside = gf.inspect.layer_outputs(made, X)
        assert_allclose(inside[f"1.{type(layer).__name__}"], expected, rtol=1e-5, atol=1e-6, err_msg=repr(layer))


def test_a_layer_that_overrides_infer_takes_part_in_prediction(backend_name: str) -> None:
    class AlwaysDropped(gf.Dropout):
        def infer(self, ops: Executor, x: Array, y: Array) -> None:
            self.forward(ops, x, y)

    made = gf.Sequential([gf.Dense(4, 50), AlwaysDropped(0.5)], backend=backend_name)
    assert 0.3 < (made.predict(X) == 0).mean() < 0.7
    pytest.importorskip("scipy")
    trainer = gf.Trainer(made, "mean_squared_error", gf.LBFGS())
    with pytest.raises(gf.DataError, match="makes the loss random"):
        trainer.fit(X, np.zeros((60, 50)), epochs=1, batch_size=None)


def test_unchanged_methods_keep_their_declarations() -> None:
    class Named(gf.Tanh):
        preferred_initializer = "he_normal"

    assert Named.recorded
    assert Named.elementwise
    assert Named.backward_reads == ("y",)


# -- recorded = True, set by the user ----------------------------------------------------------------------------------


def test_a_layer_that_only_calls_ops_may_be_recorded(backend_name: str) -> None:
    class Recorded(gf.Dense):
        recorded = True
        backward_reads = ("x",)

        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            assert (x.shape[1], x.dtype, len(x)) == (self.n_in, self.weight.dtype, x.shape[0])
            self.last = y
            ops(gemm, x.reshape(len(x), -1), self.weight[:], y)
            if self.bias is not None:
                ops(add_bias, y, self.bias, y)

    def block(dense: type[gf.Dense]) -> gf.Sequential:
        layers = [dense(4, 5), gf.Residual([gf.Tanh(), dense(5, 5)]), dense(5, 2)]
        return gf.Sequential(layers, seed=3, backend=backend_name)

    weights = []
    for dense in (gf.Dense, Recorded):
        made = block(dense)
        gf.Trainer(made, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=2, progress=False)
        weights.append(made.get_weights())
    for name, expected in weights[0].items():
        assert_array_equal(weights[1][name], expected)
    last = made.layers[0]
    assert isinstance(last, Recorded)
    assert made.backend.owns(last.last)


def test_threads_may_record_a_layer_side_by_side() -> None:
    class Recorded(gf.Dense):
        recorded = True

        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            time.sleep(0.001)  # another thread enters
            ops(gemm, x, self.weight, y)

    made = gf.Sequential([Recorded(4, 5), gf.Dense(5, 2)], backend="numpy")
    with ThreadPoolExecutor(8) as pool:
        predictions = list(pool.map(lambda rows: made.predict(X[:rows]), range(1, 41)))
    weight = made.layers[0].weight  # type: ignore[attr-defined]
    assert isinstance(weight, np.ndarray)
    for rows, prediction in enumerate(predictions, start=1):
        assert_allclose(prediction, made.predict(X)[:rows], rtol=1e-4, atol=1e-5)


def computes(how: str) -> dict[str, Any]:
    def forward(self: Any, ops: Executor, x: Any, y: Any) -> None:
        match how:
            case "numpy":
                y[...] = np.tanh(x)
            case "arithmetic":
                ops(copy, x * 2, y)
            case "in place":
                ops(tanh_forward, x, y)
                y *= 2
            case "value":
                ops(tanh_forward, x, y)
                if x.max() > 0:
                    self.n_out = 1
            case "truth":
                ops(tanh_forward, x, y)
                assert x[:1] > 0
            case "element":
                ops(tanh_forward, x, y)
                float(x[0, 0])
            case "choice":
                ops(copy, x[[0, 1]], y)
            case "array":
                ops(copy, np.asarray(x), y)
            case "clock":
                ops(tanh_forward, x, y)
                self.step = int(ops.clock[0:1])
            case "parameter":
                ops(gemm, x, self.weight, y)
                self.weight[...] = 0
            case "gradient":
                ops(gemm, x, self.weight, y)
                self.d_weight[...] = 0

    return {"forward": forward, "recorded": True}


@pytest.mark.parametrize(
    "how",
    [
        "numpy",
        "arithmetic",
        "in place",
        "value",
        "truth",
        "element",
        "choice",
        "array",
        "clock",
        "parameter",
        "gradient",
    ],
)
def test_a_recorded_method_that_computes_by_itself_is_refused(how: str, backend_name: str) -> None:
    made = type("Sly", (gf.Dense,), computes(how))(4, 4)
    sly = gf.Sequential([made, gf.Dense(4, 2)], backend=backend_name)
    with pytest.raises(gf.DataError, match=r"Sly\.forward does its own array math .* omit recorded = True"):
        sly.predict(X)
    before = sly.get_weights()
    with pytest.raises(gf.DataError, match=r"Sly\.forward does its own array math"):
        gf.Trainer(sly, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)
    for name, value in sly.get_weights().items():
        assert_array_equal(value, before[name])
    assert isinstance(made, gf.Dense)
    assert sly.backend.owns(made.weight)  # it is writable again
    assert made.attached is not None


def test_helpers_that_compute_are_noticed(backend_name: str) -> None:
    class Noise(gf.Dropout):
        def _apply(self, ops: Executor, x: Array, y: Array) -> None:
            y[...] = x + 1

    noisy = gf.Sequential([gf.Dense(4, 2), Noise(0.5)], backend=backend_name)
    with pytest.raises(gf.DataError, match=r"Noise\.forward does its own array math"):
        gf.Trainer(noisy, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)


def test_a_block_cannot_write_into_layers_inside(backend_name: str) -> None:
    class FrozenInside(gf.Residual):
        recorded = True
        backward_reads = ("x",)

        def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
            super().backward(ops, x, y, d_y, d_x)
            self.layers[0].d_weight[...] = 0  # type: ignore[attr-defined]

    made = gf.Sequential([FrozenInside([gf.Dense(4, 4)]), gf.Dense(4, 2)], backend=backend_name)
    with pytest.raises(gf.DataError, match=r"FrozenInside\.backward does its own array math \(an assignment\)"):
        gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)


@pytest.mark.parametrize("method", ["forward", "infer", "backward"])
def test_a_recorded_method_that_records_nothing_is_refused(method: str, backend_name: str) -> None:
    def nothing(self: Any, ops: Executor, *arrays: Array) -> None:
        pass

    made = type("Idle", (gf.Dense,), {method: nothing, "recorded": True})(4, 4)
    idle = gf.Sequential([gf.Dense(4, 4), made, gf.Dense(4, 2)], backend=backend_name)
    result = "d_x" if method == "backward" else "y"
    trainer = gf.Trainer(idle, "softmax_cross_entropy", "adam")
    with pytest.raises(gf.DataError, match=rf"Idle\.{method} records no op that writes {result}"):
        trainer.fit(X, LABELS, epochs=1, validation_data=(X, LABELS))


def test_only_ops_can_be_called(backend_name: str) -> None:
    class Plain(gf.Activation):
        forward_op = np.tanh  # type: ignore[assignment]

    with pytest.raises(gf.DataError, match=r"forward_op of Plain must be an op, .*, got <ufunc 'tanh'>"):
        gf.Sequential([gf.Dense(4, 2), Plain()], backend=backend_name).predict(X)


def test_an_activation_declares_what_its_derivative_reads(backend_name: str) -> None:
    class FromOutput(gf.Activation):
        forward_op, backward_op = tanh_forward, tanh_backward
        backward_reads = ("x",)

    made = gf.Sequential([gf.Dense(4, 4), FromOutput(), gf.Dense(4, 2)], backend=backend_name)
    with pytest.raises(
        gf.DataError, match=r"reads y, which its backward_reads does not name; set backward_reads = \('y'"
    ):
        gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)


def test_a_method_of_one_object_cannot_be_replaced() -> None:
    tanh: Any = gf.Tanh()
    for name in ("forward", "infer", "backward", "settings", "output_width"):
        with pytest.raises(gf.GradflowError, match=rf"Tanh\.{name} cannot be replaced in one object.*write a subclass"):
            setattr(tanh, name, lambda *arguments: None)


def test_code_of_a_library_class_that_was_replaced_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, ops: Executor, x: Array, y: Array) -> None:
        y[...] = x

    monkeypatch.setattr(gf.Dense, "forward", forward)
    with pytest.raises(gf.DataError, match=r"Dense\.forward does its own array math"):
        gf.MLP([4, 4]).predict(X)


# -- writes by a method ------------------------------------------------------------------------------------------------


def gain(**methods: Any) -> type[Any]:
    """A layer that multiplies each column, and does it by these methods instead of the correct ones."""

    class Gain(gf.Layer):
        def __init__(self, n_in: int) -> None:
            self.n_in = n_in

        def parameters(self) -> dict[str, Any]:
            return {"gain": gf.layers.ParameterSpec((self.n_in,), decayed=False, initializer=1.5)}

        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            np.multiply(x, self.gain, out=y)  # type: ignore[attr-defined]

        def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
            self.d_gain[...] = (d_y * x).sum(axis=0)  # type: ignore[attr-defined]
            if d_x is not None:
                np.multiply(d_y, self.gain, out=d_x)  # type: ignore[attr-defined]

    return type("Gain", (Gain,), methods)


def returns(self: Any, ops: Executor, x: Array, y: Array) -> Any:
    return x * self.gain


def binds(self: Any, ops: Executor, x: Array, y: Array) -> None:
    y = x * self.gain  # noqa: F841


def leaves_a_row_out(self: Any, ops: Executor, x: Array, y: Array) -> None:
    y[:-1] = x[:-1] * self.gain


def leaves_d_x_out(self: Any, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
    self.d_gain[...] = (d_y * x).sum(axis=0)


def leaves_the_gradient_out(self: Any, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
    d_gain = (d_y * x).sum(axis=0)
    if d_x is not None:
        d_x[...] = d_y + 0 * d_gain


def binds_the_gradient(self: Any, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
    self.d_gain = (d_y * x).sum(axis=0)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"forward": returns}, r"Gain\.forward (must write its result into the last argument|does not write all of y)"),
        (
            {"forward": binds},
            r"Gain\.forward does not write all of y; write into the given array, as in y\[\.\.\.\]",
        ),
        ({"forward": leaves_a_row_out}, r"Gain\.forward does not write all of y"),
        ({"backward": leaves_d_x_out}, r"Gain\.backward does not write all of d_x"),
        ({"backward": leaves_the_gradient_out}, r"Gain\.backward does not write all of self\.d_gain"),
        ({"backward": binds_the_gradient}, r"Gain\.d_gain is a view .* write into it: layer\.d_gain\[\.\.\.\] = value"),
    ],
)
def test_a_method_writes_into_the_arrays_that_are_there(methods: dict[str, Any], said: str, backend_name: str) -> None:
    made = gf.Sequential([gf.Dense(4, 4), gain(**methods)(4), gf.Dense(4, 2)], backend=backend_name)
    before = made.get_weights()
    with pytest.raises(gf.GradflowError, match=said):
        gf.Trainer(made, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)
    for name, value in made.get_weights().items():
        assert_array_equal(value, before[name])
    if "forward" in methods:
        with pytest.raises(gf.DataError, match=said):
            made.predict(X)
    else:
        with pytest.raises(gf.GradflowError, match=said):
            gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)


def test_a_recorded_layer_writes_its_gradients_by_ops(backend_name: str) -> None:
    class Forgets(gf.Dense):
        recorded = True

        def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
            if d_x is not None:
                ops(gemm, d_y, self.weight, d_x, transpose_b=True)

    made = gf.Sequential([gf.Dense(4, 4), Forgets(4, 4), gf.Dense(4, 2)], backend=backend_name)
    with pytest.raises(gf.DataError, match=r"Forgets\.backward records no op that writes self\.d_weight"):
        gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)


def test_views_change_in_place_and_are_not_replaced(backend_name: str) -> None:
    made = gf.Sequential([gf.Dense(4, 2)], backend=backend_name)
    dense: Any = made.layers[0]
    dense.weight += 1
    dense.weight[...] *= 2
    for name in ("weight", "bias", "d_weight"):
        with pytest.raises(gf.GradflowError, match=rf"Dense\.{name} is a view into a vector of the network"):
            setattr(dense, name, np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"parameters": lambda self: {"gain": (4,)}}, r"parameters\(\) of Gain\(\) must return ParameterSpec objects"),
        ({"buffers": lambda self: {"seen": 0.0}}, r"buffers\(\) of Gain\(\) must return BufferSpec objects"),
        (
            {"buffers": lambda self: {"gain": gf.layers.BufferSpec((4,), 0.0)}},
            r"buffers\(\) of Gain\(\): 'gain' is already another attribute",
        ),
        (
            {"parameters": lambda self: {"n_in": gf.layers.ParameterSpec((4,), False, 1.0)}},
            r"parameters\(\) of Gain\(\): 'n_in' is already another attribute",
        ),
        ({"output_width": lambda self, n_in: n_in / 2}, r"what output_width of Gain\(\) returns must be an integer"),
        ({"output_width": lambda self, n_in: None}, r"what output_width of Gain\(\) returns must be an integer"),
    ],
)
def test_declarations_of_a_layer_are_checked(methods: dict[str, Any], said: str) -> None:
    with pytest.raises(gf.DataError, match=said):
        gf.Sequential([gain(**methods)(4)])


def test_an_activation_without_a_derivative_says_so(backend_name: str) -> None:
    class Half(gf.Activation):
        forward_op = tanh_forward

    made = gf.Sequential([gf.Dense(4, 4), Half(), gf.Dense(4, 2)], backend=backend_name)
    made.predict(X)
    with pytest.raises(gf.DataError, match="backward_op of Half must be an op, a function decorated with"):
        gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)


@pytest.mark.parametrize("says", [("x",), ("y",), ()])
@pytest.mark.parametrize("recorded", [False, True])
def test_backward_reads_what_it_says(says: tuple[str, ...], recorded: bool, backend_name: str) -> None:
    def backward(self: Any, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert y.shape == x.shape
        assert np.empty_like(x).dtype == y.dtype
        if d_x is None:
            return
        if recorded:
            ops(tanh_backward, y, d_y, d_x)
        else:
            np.multiply(d_y, 1 - y**2, out=d_x)

    own = type("Own", (gf.Tanh,), {"backward": backward, "backward_reads": says, "recorded": recorded})
    made = gf.Sequential([gf.Dense(4, 4), own(), gf.ReLU(), gf.Dense(4, 2)], backend=backend_name)
    if says == ("y",):
        assert max(gf.check_gradients(made, "softmax_cross_entropy", X, LABELS).values()) < 1e-5
        return
    with pytest.raises(gf.DataError, match=r"Own\.backward reads x or y \(.*\), but backward_reads = "):
        gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)
    with pytest.raises(gf.DataError, match=r"name in backward_reads everything that it reads"):
        gf.Trainer(made, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)
