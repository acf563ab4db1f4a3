"""Stacks of layers: the code shared by networks and by layers that contain layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gradflow.checks import instances, integer
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.layers.base import Attachment, BufferSpec, Layer, ParameterSpec
from gradflow.ops import Array


class ForwardArrays(NamedTuple):
    """The arrays of a training forward pass: the inputs and outputs of the layers."""

    inputs: list[Array]
    outputs: list[Array]

    def without_last(self) -> ForwardArrays:
        """Return the arrays of all layers but the last."""
        return ForwardArrays(self.inputs[:-1], self.outputs[:-1])


def layer_tuple(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers of a stack as a tuple, which cannot change later.

    Raises:
        DataError: if it is not a list of layers.
    """
    return tuple(instances("layers", layers, Layer, "gradflow layers"))


def check_stack(layers: Sequence[Layer]) -> tuple[int, int]:
    """Check that the layers of a stack fit together, and return the numbers of inputs and outputs.

    Raises:
        DataError: if a layer occurs twice, belongs to a network, has invalid parameters or buffers, or does not accept
            the width of the previous layer's output; or if no layer has parameters.
    """
    everywhere = list(with_inner(layers))
    if len({id(layer) for layer in everywhere}) != len(everywhere):
        raise DataError("the same layer object occurs in the network twice; create one object for each place")
    if used := next((layer for layer in everywhere if layer.attached is not None), None):
        raise DataError(f"this {type(used).__name__} already belongs to a network; create a new one for each network")
    if late := next((layer for layer in everywhere[1:] if layer.first_only), None):
        raise DataError(f"{type(late).__name__} must be the first layer of the network, and not inside another layer")
    for layer in layers:
        _check_declared(layer)
    sized = [layer for layer in layers if layer.parameters()]
    if not sized:
        raise DataError("a network needs at least one layer with parameters, such as Dense(n_in, n_out)")
    n_in: int | None = next((layer.n_in for layer in layers if hasattr(layer, "n_in")), None)
    if n_in is None:
        raise DataError(f"the first layer with parameters must have an attribute n_in, {sized[0]!r} has none")
    width = n_in
    for layer in layers:
        expected = getattr(layer, "n_in", width)
        if expected != width:
            raise DataError(f"{layer!r} has {expected} inputs, but the layer before it has {width} outputs")
        width = layer.output_width(width)
        width = integer(f"what output_width of {layer!r} returns", width, least=1, most=2**31 - 1)
    return n_in, width


def _check_declared(layer: Layer) -> None:
    """Check that declared parameters and buffers are valid, and do not replace another attribute."""
    declared: list[tuple[str, str, Any, type[Any]]] = [
        ("parameters", name, spec, ParameterSpec) for name, spec in layer.parameters().items()
    ]
    declared += [("buffers", name, spec, BufferSpec) for name, spec in layer.buffers().items()]
    seen: set[str] = set()
    for method, name, spec, kind in declared:
        if not isinstance(spec, kind):
            raise DataError(f"{method}() of {layer!r} must return {kind.__name__} objects by name, got {spec!r}")
        attributes = {name, f"d_{name}"} if kind is ParameterSpec else {name}
        if taken := sorted(name for name in attributes if name in seen or getattr(layer, name, None) is not None):
            raise DataError(f"{method}() of {layer!r}: {taken[0]!r} is already another attribute; choose a new name")
        seen |= attributes


def with_inner(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Iterate over the layers, each followed by the layers inside it."""
    for layer in layers:
        yield layer
        yield from with_inner(getattr(layer, "layers", ()))
        if isinstance(projection := getattr(layer, "projection", None), Layer):
            yield projection


def parameters_of(layers: Sequence[Layer]) -> dict[str, ParameterSpec]:
    """Return the parameters of a stack by name, such as "0.weight". If a layer names no initializer, the following
    layers determine it."""
    specs = {}
    for index, layer in enumerate(layers):
        preferred = [later.preferred_initializer for later in layers[index + 1 :]]
        following = next((name for name in preferred if name is not None), "glorot_uniform")
        for name, spec in layer.parameters().items():
            initializer = following if spec.initializer is None else spec.initializer
            specs[f"{index}.{name}"] = ParameterSpec(spec.shape, spec.decayed, initializer)
    return specs


def buffers_of(layers: Sequence[Layer]) -> dict[str, BufferSpec]:
    """Return the buffers of a stack by name, such as "1.running_mean"."""
    return {f"{index}.{name}": spec for index, layer in enumerate(layers) for name, spec in layer.buffers().items()}


def all_recorded(layers: Sequence[Layer]) -> bool:
    """True if no layer of a stack, including layers inside layers, runs Python code at each step."""
    return all(layer.recorded for layer in with_inner(layers))


def attach(layers: Sequence[Layer], attachment: Attachment, frozen: Collection[int] = ()) -> None:
    """Give each layer of a stack its part of the attachment; the layers at the indices in ``frozen`` are frozen."""
    place = attachment.index
    for index, layer in enumerate(layers):
        part = attachment.part(str(index), place)
        layer.attach(replace(part, is_frozen=True) if index in frozen else part)
        place += layer.places


def record_forward(ops: Executor, layers: Sequence[Layer], x: Array) -> ForwardArrays:
    """Record the training forward pass on a batch x (batch, n_in). Arrays that the backward pass reads are kept; where
    it reads none, elementwise layers work in place, but never on x."""
    inputs: list[Array] = []
    outputs: list[Array] = []
    for index, layer in enumerate(layers):
        current = outputs[-1] if outputs else x
        is_kept = "x" in layer.backward_reads or "y" in layers[index - 1].backward_reads
        y = current if layer.elementwise and outputs and not is_kept else _output(ops, layer, current)
        ops.record(layer.forward, current, y, recorded=layer.recorded)
        inputs.append(current)
        outputs.append(y)
    return ForwardArrays(inputs, outputs)


def outputs_by_place(layers: Sequence[Layer], arrays: ForwardArrays) -> Iterator[tuple[str, Layer, Array]]:
    """Iterate over the place, layer and output of each layer in a stack, including layers inside layers: "0", "1.0"."""
    for index, (layer, y) in enumerate(zip(layers, arrays.outputs, strict=True)):
        yield str(index), layer, y
        inside = getattr(layer, "arrays", None)
        # A layer that runs at every step has different arrays each time.
        if layer.recorded and isinstance(inside, ForwardArrays):
            for place, of_layer, output in outputs_by_place(getattr(layer, "layers", ()), inside):
                yield f"{index}.{place}", of_layer, output


def layer_at(layers: Sequence[Layer], place: str) -> Layer:
    """Return the layer of a stack at a place such as "1", or "1.0" and "1.projection" inside layers."""
    first, *inside = place.split(".")
    layer = layers[int(first)]
    for part in inside:
        layer = getattr(layer, "layers", ())[int(part)] if part.isdigit() else getattr(layer, part)
    return layer


def record_inference(ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
    """Record the prediction forward pass, and return its output (batch, n_out), which is x itself if all layers are
    skipped."""
    current = x
    for layer in layers:
        if not layer.training_only:
            y = current if layer.elementwise and current is not x else _output(ops, layer, current)
            ops.record(layer.infer, current, y, recorded=layer.recorded)
            current = y
    return current


def _output(ops: Executor, layer: Layer, x: Array) -> Array:
    return ops.backend.empty((len(x), layer.output_width(x.shape[1])), x.dtype)


def record_backward(
    ops: Executor, layers: Sequence[Layer], arrays: ForwardArrays, d_output: Array, *, needs_d_input: bool = False
) -> Array | None:
    """Record the backward pass from dL/doutput to the gradient of every parameter; d_output is overwritten.

    Returns:
        dL/dinput if ``needs_d_input``, else None: the pass then stops at the first layer with trainable parameters.
    """
    trained = (index for index, layer in enumerate(layers) if layer.trainable and layer.parameters())
    first = 0 if needs_d_input else next(trained)
    width = max(array.shape[1] for array in (*arrays.inputs, d_output))
    spare = [ops.backend.empty(len(d_output) * width, d_output.dtype) for _ in range(2)]
    d_y = d_output
    for index in reversed(range(first, len(layers))):
        layer, x, y = layers[index], arrays.inputs[index], arrays.outputs[index]
        if index == first and not needs_d_input:
            d_x = None
        elif layer.elementwise:
            d_x = d_y
        else:
            spare.reverse()
            d_x = spare[0][: x.size].reshape(x.shape)
        ops.record(layer.backward, x, y, d_y, d_x, recorded=layer.recorded)
        if d_x is not None:
            d_y = d_x
    return d_y if needs_d_input else None
