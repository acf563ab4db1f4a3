"""Networks as ONNX models: preprocessing, layers, output activation, target scale and class names in one graph."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from gradflow.checks import file_path, instance
from gradflow.data.classes import class_values
from gradflow.errors import DataError
from gradflow.export.onnx_graph import IR_VERSION, OPERATOR_SETS, OnnxGraph, require_onnx
from gradflow.export.onnx_layers import add_layers
from gradflow.export.onnx_preprocessing import ONE_TENSOR, Input, add_preprocessing, inputs_of
from gradflow.files import write_atomically
from gradflow.layers import ACTIVATIONS
from gradflow.network import Sequential
from gradflow.version import __version__

_MOST_BYTES = 2**31 - 2**20
"""A protocol buffer holds less than 2 GiB; the graph itself fits into the difference."""


def to_onnx(network: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a network as an ONNX model that computes the same as `Sequential.predict`, from user data to predictions.

    It needs the extra ``onnx``. The file is written under a temporary name and renamed, so that it is never incomplete.

    Inputs: without preprocessing, one tensor ``x`` (batch, n_in) in the dtype of the network. With preprocessing, one
    input (batch, 1) for each column, under its name: float64 for numbers, strings for text, and for timestamps int64,
    the microseconds since 1970-01-01, in UTC if they have a time zone: ``times.astype("datetime64[us]").astype(int)``.
    Columns without names that hold only numbers are one tensor ``x``, float64. Missing values are NaN, the empty text
    (unless that is a category), and NumPy's NaT, which is -2**63. The batch size is free.

    Outputs: ``prediction`` (batch, n_out) of a network that predicts numbers. A classifier has ``label``, which is what
    `Sequential.predict_classes` returns, and ``probabilities`` (batch, n_out), what `predict` returns: with one output,
    the probability of the second class. Labels are int64 class numbers, or the names in ``network.classes``: strings,
    int64, float64 or bool. If a column has one of these names, an underscore is appended to that of the output.

    Rows that `predict` refuses with an error, such as those with an unknown category, have NaN in all of ``prediction``
    or ``probabilities``, since ONNX models cannot raise one. Their label is "", -2**63, NaN or False.

    `Dropout` is omitted, as in prediction, and a lower `Sequential.precision` is ignored. Activations are computed in
    float64, so that outputs keep their digits also far from 0; a runtime must support float64.

    Args:
        network: the network, on any backend; it is not changed.
        path: the file, such as "model.onnx"; an existing one is replaced.

    Raises:
        GradflowError: if onnx is missing, or the network has a layer of your own without a method
            ``to_onnx(graph, x)`` (`gradflow.export.OnnxGraph`).
        DataError: if the model would exceed the 2 GiB of an ONNX file, or the arguments are not a network and a path.
        OSError: if the file cannot be written.
    """
    path = file_path("path", path)
    write_atomically(path, onnx_model(network).SerializeToString(), through_links=True)


def onnx_model(network: Sequential) -> Any:
    """Return the ``onnx.ModelProto`` that `to_onnx` writes.

    Raises:
        GradflowError, DataError: as `to_onnx`.
    """
    instance("network", network, Sequential, "a gradflow network")
    require_onnx()
    with network.access.reading():
        return _model(network)


def _model(network: Sequential) -> Any:
    import onnx
    from onnx import helper

    if (n_bytes := network.state.size * network.dtype.itemsize) > _MOST_BYTES:
        raise DataError(f"the weights take {n_bytes:,} bytes, but an ONNX file holds less than 2 GiB")
    inputs = _inputs(network)
    graph = OnnxGraph(network.dtype, {entry.name for entry in inputs})
    outputs = _add_network(graph, network, inputs)
    rows = "batch"
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            type(network).__name__,
            [helper.make_tensor_value_info(name, _type(dtype), [rows, width]) for name, dtype, width in inputs],
            [
                helper.make_tensor_value_info(name, _type(dtype), [rows] if width == 0 else [rows, width])
                for name, dtype, width in outputs
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPERATOR_SETS.items()],
        ir_version=IR_VERSION,
        producer_name="gradflow",
        producer_version=__version__,
    )
    helper.set_model_props(model, _properties(network))
    onnx.checker.check_model(model)
    return model


def _inputs(network: Sequential) -> list[Input]:
    if network.preprocessing is None:
        return [Input(ONE_TENSOR, network.dtype, network.n_in)]
    return inputs_of(network.preprocessing, network.feature_names)


def _type(dtype: np.dtype) -> Any:
    from onnx import TensorProto, helper

    return TensorProto.STRING if dtype == np.dtype(object) else helper.np_dtype_to_tensor_dtype(dtype)


def _properties(network: Sequential) -> dict[str, str]:
    """Return the names that the graph itself does not show."""
    properties = {}
    if network.feature_names is not None:
        properties["feature_names"] = json.dumps(network.feature_names)
    if network.classes is not None:
        properties["classes"] = json.dumps(network.classes)
    return properties


def _add_network(graph: OnnxGraph, network: Sequential, inputs: list[Input]) -> list[Input]:
    """Add all nodes, and return the outputs of the graph."""
    x = inputs[0].name if network.preprocessing is None else add_preprocessing(graph, network.preprocessing, inputs)
    graph.check_finite(x)
    logits = add_layers(graph, network.logit_layers, x)
    y = add_layers(graph, [ACTIVATIONS[network.output_activation]()], logits)
    if network.output_scale is not None:
        scaled = graph("Mul", y, graph.constant(network.output_scale.std))
        y = graph("Add", scaled, graph.constant(network.output_scale.mean))
    y = graph.with_checks(y)
    is_classifier = network.output_activation != "identity" or network.classes is not None
    if not is_classifier:
        return [_output(graph, "prediction", y, network.dtype, network.n_out)]
    label, dtype, width = _label(graph, network, logits, y)
    return [
        _output(graph, "label", label, dtype, width),
        _output(graph, "probabilities", y, network.dtype, network.n_out),
    ]


def _output(graph: OnnxGraph, name: str, value: str, dtype: np.dtype, width: int) -> Input:
    from onnx import helper

    output = graph.free_name(name)
    graph.nodes.append(helper.make_node("Identity", [value], [output]))
    return Input(output, dtype, width)


def _label(graph: OnnxGraph, network: Sequential, logits: str, y: str) -> tuple[str, np.dtype, int]:
    """Return the predicted classes, their dtype and their width, 0 for a vector."""
    if network.output_activation == "sigmoid":
        number = graph.cast(graph("Greater", logits, graph.constant(0)), np.int64)
        if network.n_out > 1:
            refused = graph("IsNaN", y)
            least = graph.constant(np.iinfo(np.int64).min, np.int64)
            return graph("Where", refused, least, number), np.dtype(np.int64), network.n_out
        number = graph("Reshape", number, graph.constant([-1], np.int64))
    else:
        number = graph("ArgMax", logits, axis=1, keepdims=0)
    n_classes = max(network.n_out, 2)
    total = graph("ReduceSum", y, graph.constant([1], np.int64), keepdims=0)
    place = graph("Where", graph("IsNaN", total), graph.constant(n_classes, np.int64), number)
    names = np.arange(n_classes) if network.classes is None else class_values(network.classes)
    of_refused = {"O": "", "i": np.iinfo(np.int64).min, "f": np.nan, "b": False}[names.dtype.kind]
    labels = np.append(names, np.array([of_refused], names.dtype))
    return graph("Gather", graph.constant(labels, names.dtype), place, axis=0), names.dtype, 0
