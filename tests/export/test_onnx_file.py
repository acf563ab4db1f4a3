"""A whole network as an ONNX model: from user data, through the preprocessing, to predictions and class names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.data import Dates, OneHot, QuantileNormal, RobustScale, SmoothClip, Standardize, Unchanged
from gradflow.output_scale import OutputScale
from tests.export.run import run, ulps

TIMES = np.array(["2024-02-29T12:30", "1969-12-31T23:59:59.5", "2023-12-31", "2000-03-01"], "datetime64[us]")


def column(values: Any, dtype: Any) -> np.ndarray:
    return np.array(values, dtype).reshape(-1, 1)


def network_for(preprocessing: gf.data.Preprocessing, n_out: int = 2) -> gf.Sequential:
    return gf.MLP(
        [preprocessing.n_out, 4, n_out], "tanh", preprocessing=preprocessing, dtype="float64", backend="numpy"
    )


# -- preprocessing ----------------------------------------------------------------------------------------------------

NUMBERS = np.array([3.0, -1.5, 8.25, 0.5])
WITH_GAPS = np.array([3.0, np.nan, 8.25, 0.5])
TEXT = np.array(["b", "a", "c", "b"], object)
TEXT_WITH_GAPS = np.array(["b", None, "c", "b"], object)
RULES: dict[str, tuple[np.ndarray, gf.data.ColumnRule]] = {
    "standardized": (NUMBERS, Standardize()),
    "robust": (NUMBERS, RobustScale()),
    "clipped": (NUMBERS, SmoothClip(limit=0.5)),
    "clipped, marked": (WITH_GAPS, SmoothClip("mark")),
    "clipped, constant": (np.full(4, 2.0), SmoothClip()),
    "normal": (NUMBERS, QuantileNormal()),
    "normal, marked": (WITH_GAPS, QuantileNormal("mark", noise=0.5)),
    "normal, two values": (np.array([0.0, 1, 1, 0]), QuantileNormal()),
    "normal, constant": (np.full(4, 2.0), QuantileNormal("fill")),
    "unchanged": (NUMBERS, Unchanged()),
    "constant": (np.full(4, 2.0), Standardize()),
    "filled": (WITH_GAPS, Standardize("fill")),
    "marked": (WITH_GAPS, Standardize("mark")),
    "one-hot": (TEXT, OneHot()),
    "one-hot, filled": (TEXT_WITH_GAPS, OneHot("fill")),
    "one-hot, marked": (TEXT_WITH_GAPS, OneHot("mark")),
    "one-hot, clipped": (TEXT, OneHot(clip=3.0)),
    "one-hot, clipped and marked": (TEXT_WITH_GAPS, OneHot("mark", clip=0.5)),
    "signs": (np.array(["b", "a", None, "b"], object), OneHot("fill", signs=True)),
    "signs, clipped and marked": (np.array(["b", "a", None, "b"], object), OneHot("mark", signs=True, clip=3.0)),
    "one category": (np.array(["a"] * 4, object), OneHot()),
    "numbers one-hot": (NUMBERS, OneHot()),
    "numbers one-hot, marked": (WITH_GAPS, OneHot("mark")),
    "booleans": (np.array([True, False, True, True]), OneHot()),
    "embedded": (TEXT, gf.Embedding(2, min_rows=1)),
    "embedded, rare ones together": (TEXT, gf.Embedding(2)),
    "embedded, filled": (TEXT_WITH_GAPS, gf.Embedding(2, 1, "fill")),
    "embedded, marked": (TEXT_WITH_GAPS, gf.Embedding(2, 1, "mark")),
    "numbers embedded": (WITH_GAPS, gf.Embedding(2, 1, "mark")),
    "times": (TIMES, Dates(("elapsed", "year", "month", "day", "weekday", "hour", "minute"))),
    "times with gaps": (np.append(TIMES[:3], np.datetime64("NaT")), Dates(missing="mark")),
}


def onnx_inputs(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return columns as the inputs of a model: text "" for None, and microseconds for times."""
    found = {}
    for name, values in table.items():
        if values.dtype.kind == "M":
            values = values.astype("datetime64[us]").astype(np.int64)
        elif values.dtype.kind == "O":
            values = np.array(["" if value is None else value for value in values], object)
        else:
            values = values.astype(np.float64)
        found[name] = values.reshape(-1, 1)
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_part_of_the_model(name: str) -> None:
    values, rule = RULES[name]
    table = {"first": np.array([1.0, 2, 4, 8]), "given": values}
    network = network_for(gf.data.fit_preprocessing(table, {"given": rule}))
    (found,) = run(network, onnx_inputs(table))
    assert ulps(found, network.predict(table)) <= 16  # sums of products, in float64


def test_any_number_becomes_the_same_normal_one() -> None:
    random = np.random.default_rng(0)
    fitted = random.poisson(1, 2000) * random.lognormal(size=2000).round(1)  # many zeros, and other ties
    preprocessing = gf.data.fit_preprocessing({"x": fitted}, {"x": QuantileNormal()})
    dense = gf.Dense(1, 1, bias=False)
    network = gf.Sequential([dense], dtype="float64", weights={"0.weight": [[1.0]]}, backend="numpy")
    network.preprocessing = preprocessing
    quantiles = preprocessing.columns[0].quantiles  # type: ignore[union-attr]
    x = np.array([*fitted, *quantiles, *random.normal(5, 5, 2000), -0.0, 1e300, -1e300])
    (found,) = run(network, {"x": x[:, None]})
    np.testing.assert_allclose(found, network.predict({"x": x}), rtol=1e-13, atol=1e-14)


def test_all_rules_together_keep_their_order() -> None:
    table = {f"{place}, {name}": values for place, (name, (values, _)) in enumerate(RULES.items())}
    rules = dict(zip(table, (rule for _, rule in RULES.values()), strict=True))
    network = network_for(gf.data.fit_preprocessing(table, rules))
    (found,) = run(network, onnx_inputs(table))
    np.testing.assert_allclose(found, network.predict(table), rtol=0, atol=1e-13)


@given(st.lists(st.integers(-(2**55), 2**56), min_size=1, max_size=20))
def test_any_time_from_before_our_era_to_far_ahead_has_the_same_parts(microseconds: list[int]) -> None:
    rule = Dates(("elapsed", "year", "month", "day", "weekday", "hour", "minute"))
    preprocessing = gf.data.fit_preprocessing({"time": TIMES}, {"time": rule})
    n = preprocessing.n_out
    weights = {"0.weight": np.eye(n), "0.bias": np.zeros(n)}
    network = gf.Sequential([gf.Dense(n, n)], dtype="float64", weights=weights, backend="numpy")
    network.preprocessing = preprocessing
    times = np.array(microseconds, np.int64)
    (found,) = run(network, {"time": times[:, None]})
    expected = network.predict({"time": times.view("datetime64[us]")})
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("standardized", np.nan),
        ("standardized", np.inf),
        ("constant", np.nan),
        ("filled", -np.inf),
        ("one-hot", "d"),
        ("one-hot", ""),
        ("one-hot, filled", "d"),
        ("one category", "b"),
        ("numbers one-hot", 4.0),
        ("numbers one-hot", np.nan),
        ("numbers one-hot, marked", np.inf),
        ("embedded", ""),
        ("times", np.iinfo(np.int64).min),
    ],
)
def test_a_row_that_predict_refuses_is_nan(name: str, value: Any) -> None:
    values, rule = RULES[name]
    network = network_for(gf.data.fit_preprocessing({"given": values, "other": NUMBERS}, {"given": rule}))
    inputs = onnx_inputs({"given": values, "other": NUMBERS})
    inputs["given"][1] = value
    (found,) = run(network, inputs)
    given = np.array([value]).view("datetime64[us]") if name == "times" else [None if value == "" else value]
    with pytest.raises(gf.DataError, match="given"):
        network.predict({"given": given, "other": [1.0]})
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2, 3]]).all()


def test_an_unseen_category_is_accepted_where_predict_accepts_it() -> None:
    for rule in (OneHot(unknown="zeros"), gf.Embedding(2, min_rows=1)):
        table = {"given": TEXT, "other": NUMBERS}
        network = network_for(gf.data.fit_preprocessing(table, {"given": rule}))
        table["given"] = np.array(["b", "new", "é", "c"], object)
        (found,) = run(network, onnx_inputs(table))
        assert ulps(found, network.predict(table)) <= 16


def test_columns_without_names_are_one_tensor() -> None:
    x = np.random.default_rng(0).normal(3, 2, (9, 3))
    network = network_for(gf.data.fit_preprocessing(x))
    (found,) = run(network, x)
    assert ulps(found, network.predict(x)) <= 16


def test_columns_without_names_are_inputs_of_their_own_if_one_holds_text() -> None:
    x = np.array([[1.0, "a"], [2.0, "b"], [4.0, "a"]], object)
    network = network_for(gf.data.fit_preprocessing(x))
    (found,) = run(network, {"0": column(x[:, 0], np.float64), "1": column(x[:, 1], object)})
    assert ulps(found, network.predict(x)) <= 16


def test_a_column_may_have_the_name_of_an_output_or_of_a_node() -> None:
    table = {"prediction": NUMBERS, "Sub_0": NUMBERS[::-1], "constant_0": NUMBERS**2}
    network = network_for(gf.data.fit_preprocessing(table))
    (found,) = run(network, onnx_inputs(table))
    assert ulps(found, network.predict(table)) <= 16
    assert [output.name for output in gf.export.onnx_model(network).graph.output] == ["prediction_"]


def test_a_column_without_a_name_is_refused() -> None:
    network = network_for(gf.data.fit_preprocessing({"": NUMBERS, "a": NUMBERS[::-1]}))
    with pytest.raises(gf.DataError, match="without a name"):
        gf.export.onnx_model(network)


# -- outputs ----------------------------------------------------------------------------------------------------------

X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_out", "activation", "classes"),
    [
        (3, "softmax", None),
        (3, "softmax", ["no", "perhaps", "yes"]),
        (3, "softmax", [10, -3, 7]),
        (3, "softmax", [0.5, 1.5, 2.5]),
        (3, "identity", ["no", "perhaps", "yes"]),
        (1, "sigmoid", None),
        (1, "sigmoid", ["no", "yes"]),
        (1, "sigmoid", [False, True]),
        (2, "sigmoid", None),
    ],
)
def test_a_classifier_has_labels_and_probabilities(n_out: int, activation: str, classes: Any) -> None:
    network = gf.MLP([3, 5, n_out], seed=3, backend="numpy")
    network.output_activation, network.classes = activation, classes
    label, probabilities = run(network, X)
    assert ulps(probabilities, network.predict(X)) <= 4
    expected = network.predict_classes(X)
    assert label.dtype == expected.dtype
    assert label.shape == expected.shape
    assert (label == expected).all()
    names = [output.name for output in gf.export.onnx_model(network).graph.output]
    assert names == ["label", "probabilities"]


def test_the_label_of_a_refused_row_is_none_of_the_classes() -> None:
    x = X[:2].copy()
    x[1, 0] = np.nan
    network = gf.MLP([3, 3], backend="numpy")
    network.output_activation = "softmax"
    least = np.iinfo(np.int64).min
    for classes, expected in ((None, least), (["a", "b", "c"], ""), ([3, 1, 2], least), ([0.5, 1.0, 2.0], np.nan)):
        network.classes = classes
        label, probabilities = run(network, x)
        np.testing.assert_array_equal(label[1], expected)
        assert np.isnan(probabilities[1]).all()
    several = gf.MLP([3, 2], backend="numpy")
    several.output_activation = "sigmoid"
    assert (run(several, x)[0][1] == least).all()


def test_equal_logits_give_the_first_class() -> None:
    network = gf.Sequential([gf.Dense(3, 4)], weights={"0.weight": np.zeros((3, 4)), "0.bias": np.ones(4)})
    network.output_activation = "softmax"
    assert (run(network, X)[0] == network.predict_classes(X)).all()


@pytest.mark.parametrize("last", [gf.Softmax, gf.Sigmoid])
def test_a_trailing_activation_is_applied_once(last: type[gf.Layer]) -> None:
    network = gf.Sequential([gf.Dense(3, 2), last()], backend="numpy")
    assert ulps(run(network, X)[1], network.predict(X)) <= 4


def test_predictions_are_in_the_units_of_the_targets() -> None:
    network = gf.MLP([3, 4, 2], dtype="float64", backend="numpy")
    x = X.astype(np.float64)
    for limits in ((None, None), ((995.0, -2.5), (1005.0, -1.9))):
        network.output_scale = OutputScale((1000.0, -2.0), (25.0, 1.0), *limits)
        (found,) = run(network, x)
        assert ulps(found, network.predict(x)) <= 4
        if limits[0] is not None:
            assert (found == limits[0]).any()
            assert (found == limits[1]).any()


def test_a_trained_network_predicts_the_same() -> None:
    digits = gf.data.load_digits()
    network = gf.Sequential(
        [gf.Dense(64, 32, bias=False), gf.BatchNorm(32), gf.Mish(), gf.Dropout(0.2), gf.Dense(32, 10)], backend="numpy"
    )
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(digits.x_train, digits.y_train, epochs=3)
    label, probabilities = run(network, digits.x_test.astype(np.float32))
    assert (label == network.predict_classes(digits.x_test)).all()
    np.testing.assert_allclose(probabilities, network.predict(digits.x_test), rtol=0, atol=2e-6)


# -- ensembles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_out", "activation"), [(3, "softmax"), (1, "sigmoid"), (2, "sigmoid"), (2, "identity")])
def test_an_ensemble_is_one_model(n_out: int, activation: str) -> None:
    networks = [gf.MLP([3, 5, n_out], seed=seed, dtype=dtype) for seed, dtype in enumerate(("float32", "float64"))]
    for network in networks:
        network.output_activation = activation
    ensemble = gf.Ensemble([*networks, networks[0].copy()], [2, 1, 0])
    x = X.astype(np.float64)
    *label, probabilities = run(ensemble, x)
    np.testing.assert_allclose(probabilities, ensemble.predict(x), rtol=0, atol=1e-6)
    assert probabilities.dtype == np.float64
    for found in label:
        assert (found == ensemble.predict_classes(x)).all()


def test_an_ensemble_includes_the_preprocessing_of_each_network() -> None:
    table = {"given": TEXT, "other": WITH_GAPS}
    rules: list[dict[str | int, Any]] = [
        {"other": Standardize("fill")},
        {"given": gf.Embedding(2, 1), "other": Standardize("mark")},
    ]
    networks = [network_for(gf.data.fit_preprocessing(table, rule)) for rule in rules]
    for network in networks:
        network.classes = ["no", "yes"]
    ensemble = gf.Ensemble(networks)
    label, found = run(ensemble, onnx_inputs(table))
    assert ulps(found, ensemble.predict(table)) <= 16
    assert (label == ensemble.predict_classes(table)).all()


@pytest.mark.parametrize("order", [1, -1])
def test_an_ensemble_that_takes_a_column_as_text_and_as_numbers_is_refused(order: int) -> None:
    tables: list[dict[str, np.ndarray]] = [{"a": TEXT}, {"a": NUMBERS}]
    ensemble = gf.Ensemble([network_for(gf.data.fit_preprocessing(table)) for table in tables[::order]])
    with pytest.raises(gf.DataError, match=r"different inputs, such as 'a' of \w+ and 'a' of"):
        gf.export.onnx_model(ensemble)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    network = gf.MLP([3, 2], backend="numpy")
    gf.to_onnx(network, path)
    written = path.read_bytes()
    onnx.checker.check_model(onnx.load(path), full_check=True)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device.*model\.onnx"):
            gf.to_onnx(gf.MLP([3, 5], backend="numpy"), path)
    assert path.read_bytes() == written
    assert list(tmp_path.iterdir()) == [path]


def test_the_names_of_columns_and_classes_are_in_the_file() -> None:
    network = gf.MLP([2, 3], backend="numpy")
    network.feature_names, network.classes = ("width", "height"), ["a", "b", "ç"]
    found = {entry.key: json.loads(entry.value) for entry in gf.export.onnx_model(network).metadata_props}
    assert found == {"feature_names": ["width", "height"], "classes": ["a", "b", "ç"]}


def test_without_onnx_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(gf.GradflowError, match=r"need onnx, which is not installed: pip install .*\[onnx\]"):
        gf.to_onnx(gf.MLP([2, 3], backend="numpy"), "model.onnx")


def test_gradflow_imports_onnx_only_where_it_is_used() -> None:
    program = "import gradflow, sys; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_weights_beyond_the_size_of_a_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.export.onnx_file._MOST_BYTES", 100)
    with pytest.raises(gf.DataError, match="124 bytes, but an ONNX file holds less than 2 GiB"):
        gf.export.onnx_model(gf.MLP([4, 5, 1], backend="numpy"))
