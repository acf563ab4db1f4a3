"""Networks and ensembles as ONNX models, from preprocessing to class names in one graph."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from gradflow.checks import file_path, instance
from gradflow.data.classes import class_values
from gradflow.ensemble import Ensemble
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


def to_onnx(network: Sequential | Ensemble, path: str | os.PathLike[str]) -> None:
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
        network: the network or ensemble, on any backend; it is not changed.
        path: the file, such as "model.onnx"; an existing one is replaced.

    Raises:
        GradflowError: if onnx is missing, or the network has a layer of your own without a method
            ``to_onnx(graph, x)`` (`gradflow.export.OnnxGraph`).
        DataError: if the model would exceed the 2 GiB of an ONNX file, the networks of an ensemble take text and
            numbers from one column, or the arguments are not a network and a path.
        OSError: if the file cannot be written.
    """
    path = file_path("path", path)
    write_atomically(path, onnx_model(network).SerializeToString(), through_links=True)


def onnx_model(network: Sequential | Ensemble) -> Any:
    """Return the ``onnx.ModelProto`` that `to_onnx` writes.

    Raises:
        GradflowError, DataError: as `to_onnx`.
    """
    if not isinstance(network, Ensemble):
        instance("network", network, Sequential, "a gradflow network or an ensemble")
    require_onnx()
    networks = network.networks if isinstance(network, Ensemble) else (network,)
    with ExitStack() as stack:
        for each in networks:
            stack.enter_context(each.access.reading())
        return _model(network, networks)


def _model(network: Sequential | Ensemble, networks: Sequence[Sequential]) -> Any:
    import onnx
    from onnx import helper

    if (n_bytes := sum(each.state.size * each.dtype.itemsize for each in networks)) > _MOST_BYTES:
        raise DataError(f"the weights take {n_bytes:,} bytes, but an ONNX file holds less than 2 GiB")
    inputs = _inputs(networks)
    graph = OnnxGraph(networks[0].dtype, {entry.name for entry in inputs})
    outputs = _network(graph, network, inputs) if isinstance(network, Sequential) else _ensemble(graph, network, inputs)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            type(network).__name__,
            list(map(_entry, inputs)),
            list(map(_entry, outputs)),
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPERATOR_SETS.items()],
        ir_version=IR_VERSION,
        producer_name="gradflow",
        producer_version=__version__,
    )
    helper.set_model_props(model, _properties(networks[0]))
    onnx.checker.check_model(model)
    return model


def _inputs(networks: Sequence[Sequential]) -> list[Input]:
    """Return the inputs of the graph, which all networks take."""
    found = []
    for network in networks:
        if network.preprocessing is None:
            found.append([Input(ONE_TENSOR, network.dtype, network.n_in)])
        else:
            found.append(inputs_of(network.preprocessing, network.feature_names))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=False):
            are_numbers = one.dtype.kind == other.dtype.kind == "f"
            if one != (other._replace(dtype=one.dtype) if are_numbers else other):
                raise DataError(
                    f"the networks of the ensemble take different inputs, such as {one.name!r} of {one.dtype} and "
                    f"{other.name!r} of {other.dtype}; an ONNX model has one type for each"
                )
    return [
        entries[0]._replace(dtype=np.result_type(*(entry.dtype for entry in entries)))
        for entries in zip(*found, strict=True)
    ]


def _entry(value: Input) -> Any:
    """Return the declaration of an input or output of the graph; one of width 0 is a vector."""
    from onnx import TensorProto, helper

    is_text = value.dtype == np.dtype(object)
    kind = TensorProto.STRING if is_text else helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(value.name, kind, ["batch", *([value.width] if value.width else [])])


def _properties(network: Sequential) -> dict[str, str]:
    """Return the names that the graph itself does not show."""
    properties = {}
    if network.feature_names is not None:
        properties["feature_names"] = json.dumps(network.feature_names)
    if network.classes is not None:
        properties["classes"] = json.dumps(network.classes)
    return properties


def _add_network(graph: OnnxGraph, network: Sequential, inputs: list[Input]) -> tuple[str, str]:
    """Add the nodes of a network, and return its logits and predictions."""
    graph.dtype = network.dtype
    if network.preprocessing is not None:
        x = add_preprocessing(graph, network.preprocessing, inputs)
    else:
        x = graph.cast(inputs[0].name, network.dtype)
    graph.check_finite(x)
    logits = add_layers(graph, network.logit_layers, x)
    y = add_layers(graph, [ACTIVATIONS[network.output_activation]()], logits)
    if (scale := network.output_scale) is not None:
        y = graph("Add", graph("Mul", y, graph.constant(scale.std)), graph.constant(scale.mean))
        if scale.low is not None:
            y = graph("Max", graph("Min", y, graph.constant(scale.high)), graph.constant(scale.low))
    return logits, y


def _network(graph: OnnxGraph, network: Sequential, inputs: list[Input]) -> list[Input]:
    """Add all nodes, and return the outputs of the graph."""
    logits, y = _add_network(graph, network, inputs)
    return _outputs(graph, network, graph.with_checks(y), logits, boundary=0)


def _ensemble(graph: OnnxGraph, ensemble: Ensemble, inputs: list[Input]) -> list[Input]:
    """Add the weighted mean of the predictions of all networks, and return the outputs of the graph."""
    total = graph.constant(0, np.float64)
    for network, weight in zip(ensemble.networks, ensemble.weights, strict=True):
        if weight:
            prediction = graph.cast(_add_network(graph, network, inputs)[1], np.float64)
            total = graph("Add", total, graph("Mul", graph.constant(weight, np.float64), prediction))
    graph.dtype = np.result_type(*(network.dtype for network in ensemble.networks))
    y = graph.with_checks(graph.cast(total, graph.dtype))
    return _outputs(graph, ensemble, y, y, boundary=0.5)


def _outputs(
    graph: OnnxGraph, network: Sequential | Ensemble, y: str, decided_by: str, *, boundary: float
) -> list[Input]:
    """Add the outputs of the graph: predictions, and labels of a classifier, decided by other values (batch, n_out)."""
    if network.output_activation == "identity" and network.classes is None:
        return [_output(graph, "prediction", y, graph.dtype, network.n_out)]
    label, dtype, width = _label(graph, network, y, decided_by, boundary)
    return [
        _output(graph, "label", label, dtype, width),
        _output(graph, "probabilities", y, graph.dtype, network.n_out),
    ]


def _output(graph: OnnxGraph, name: str, value: str, dtype: np.dtype, width: int) -> Input:
    from onnx import helper

    output = graph.free_name(name)
    graph.nodes.append(helper.make_node("Identity", [value], [output]))
    return Input(output, dtype, width)


def _label(
    graph: OnnxGraph, network: Sequential | Ensemble, y: str, decided_by: str, boundary: float
) -> tuple[str, np.dtype, int]:
    """Return the predicted classes, their dtype and their width, 0 for a vector."""
    if network.output_activation == "sigmoid":
        number = graph.cast(graph("Greater", decided_by, graph.constant(boundary)), np.int64)
        if network.n_out > 1:
            refused = graph("IsNaN", y)
            least = graph.constant(np.iinfo(np.int64).min, np.int64)
            return graph("Where", refused, least, number), np.dtype(np.int64), network.n_out
        number = graph("Reshape", number, graph.constant([-1], np.int64))
    else:
        number = graph("ArgMax", decided_by, axis=1, keepdims=0)
    n_classes = max(network.n_out, 2)
    total = graph("ReduceSum", y, graph.constant([1], np.int64), keepdims=0)
    place = graph("Where", graph("IsNaN", total), graph.constant(n_classes, np.int64), number)
    names = np.arange(n_classes) if network.classes is None else class_values(network.classes)
    of_refused = {"O": "", "i": np.iinfo(np.int64).min, "f": np.nan, "b": False}[names.dtype.kind]
    labels = np.append(names, np.array([of_refused], names.dtype))
    return graph("Gather", graph.constant(labels, names.dtype), place, axis=0), names.dtype, 0
