"""Ensembles whose members share weights.

References:
    Y. Gorishniy, A. Kotelnikov & A. Babenko, "TabM: Advancing tabular deep learning with parameter-efficient
        ensembling", ICLR (2025), arXiv:2410.24210.
    Y. Wen, D. Tran & J. Ba, "BatchEnsemble: An alternative approach to efficient ensemble and lifelong learning",
        ICLR (2020), arXiv:2002.06715.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.checks import boolean, known_name, positive_integer, sequence
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import log_softmax, softplus
from gradflow.initializers import Initializer, checked_initializer
from gradflow.layers.base import Attachment, BufferSpec, Layer, ParameterSpec
from gradflow.layers.dense import add_bias, column_sum
from gradflow.layers.descriptions import describe_layer, layer_from_description
from gradflow.layers.stack import (
    ForwardArrays,
    attach,
    buffers_of,
    check_stack,
    layer_tuple,
    parameters_of,
    record_backward,
    record_forward,
    record_inference,
    with_inner,
)
from gradflow.ops import Array, copy, op
from gradflow.random import RandomNumbers

SCALES = ("signs", "normal")
"""The distributions from which the scales of members are drawn: ±1, or N(0, 1)."""


def _by_member(x: Array, width: int) -> Array:
    """Return a view (batch, members, width) of values that stand side by side."""
    return x.reshape(len(x), x.shape[1] // width, width)


def _scale_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    found = {"columns": arguments["scale"].size if "scale" in arguments else arguments["d_scale"].size}
    for name in ("x", "y"):
        if name in arguments:
            found["rows"], found[f"{name}_columns"] = arguments[name].shape
    return found


@op(shapes="x: rows x_columns; scale: columns; y: rows columns", writes=("y",), sizes=_scale_sizes)
def scale_members(x: Array, scale: Array, y: Array) -> None:
    """y_i,mj = x_ij s_mj, for each member m; x_i,mj s_mj if x has the columns of all members"""
    _by_member(y, x.shape[1])[...] = x[:, None] * scale.reshape(-1, x.shape[1])


@op(shapes="x: rows columns; scale: columns; y: rows y_columns", writes=("y",), sizes=_scale_sizes)
def sum_members(x: Array, scale: Array, y: Array) -> None:
    """y_ij = Σ_m x_i,mj s_mj, in float64 until the end"""
    terms = x.astype(np.float64) * scale
    y[...] = _by_member(terms, y.shape[1]).sum(axis=1)


@op(shapes="x: rows x_columns; d_y: rows columns; d_scale: columns", writes=("d_scale",), sizes=_scale_sizes)
def scale_members_gradient(x: Array, d_y: Array, d_scale: Array) -> None:
    """dL/ds_mj = Σ_i x_ij dL/dy_i,mj, in float64 until the end"""
    d_scale[...] = (x[:, None] * _by_member(d_y.astype(np.float64), x.shape[1])).sum(axis=0).reshape(-1)


def _gemm_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    weight = arguments["weight"] if "weight" in arguments else arguments["d_weight"]
    members, outputs, depth = weight.shape
    by_row = arguments["x"] if "x" in arguments else arguments["d_x"]
    rows, columns = by_row.shape
    return {
        "rows": rows, "columns": columns, "members": members, "outputs": outputs, "depth": depth,
        "y_columns": members * outputs,
    }  # fmt: skip


@op(shapes="x: rows columns; weight: members outputs columns; y: rows outputs", writes=("y",), sizes=_gemm_sizes)
def member_gemm(x: Array, weight: Array, y: Array) -> None:
    """y_r = W_m x_r, for row r of all members' rows, of member m = r mod k"""
    _rows_of(weight, y)[...] = np.matmul(_rows_of(weight, x), weight.transpose(0, 2, 1))


@op(shapes="d_y: rows outputs; weight: members outputs columns; d_x: rows columns", writes=("d_x",), sizes=_gemm_sizes)
def member_gemm_input_gradient(d_y: Array, weight: Array, d_x: Array) -> None:
    """dL/dx_r = W_mᵀ dL/dy_r"""
    _rows_of(weight, d_x)[...] = np.matmul(_rows_of(weight, d_y), weight)


@op(
    shapes="x: rows columns; d_y: rows y_columns; d_weight: members outputs depth",
    writes=("d_weight",),
    sizes=_gemm_sizes,
)
def member_gemm_weight_gradient(x: Array, d_y: Array, d_weight: Array) -> None:
    """dL/dW_m = Σ_r dL/dy_r x_rᵀ over the rows of member m"""
    members, outputs, depth = d_weight.shape
    by_member = d_y.reshape(-1, members, outputs).transpose(1, 2, 0)
    d_weight[...] = np.matmul(by_member, x.reshape(-1, members, depth).transpose(1, 0, 2))


def _rows_of(weight: Array, rows: Array) -> Array:
    """Return a view (members, batch, n) of the rows of all members, of which the weight has as many."""
    return rows.reshape(-1, len(weight), rows.shape[1]).transpose(1, 0, 2)


def _mean_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, columns = arguments["y"].shape
    return {"rows": rows, "columns": columns, "x_columns": arguments["x"].shape[1]}


@op(shapes="x: rows x_columns; y: rows columns", writes=("y",), sizes=_mean_sizes)
def mean_class_logits(x: Array, y: Array) -> None:
    """y_ij = log mean_m softmax(x_i,m)_j"""
    logarithms = _by_member(log_softmax(x.reshape(-1, y.shape[1])).reshape(x.shape), y.shape[1])
    y[...] = np.logaddexp.reduce(logarithms, axis=1) - np.log(y.dtype.type(logarithms.shape[1]))


@op(shapes="x: rows x_columns; y: rows columns", writes=("y",), sizes=_mean_sizes)
def mean_binary_logits(x: Array, y: Array) -> None:
    """y_ij = log mean_m sigmoid(x_i,mj) - log mean_m sigmoid(-x_i,mj)"""
    z = _by_member(x, y.shape[1])
    y[...] = np.logaddexp.reduce(-softplus(-z), axis=1) - np.logaddexp.reduce(-softplus(z), axis=1)


def _side_by_side(x: Array, members: int) -> Array:
    """Return a view of the rows of all members, (batch · members, n), as (batch, members · n)."""
    return x.reshape(len(x) // members, -1)


class MemberScale(Layer):
    """Multiply by a vector for each member, for the rows of an `EachMember`: y = x ∘ s_m, + b_m with a bias.

    Around a `Dense` without bias it makes a layer of a BatchEnsemble (Wen, Tran & Ba, 2020, equation 5),
    y = ((x ∘ r) weight) ∘ s + b: ``MemberScale(n_in), Dense(n_in, n_out, bias=False), MemberScale(n_out, bias=True)``.

        dL/ds_m = Σ x ∘ d_y          dL/db_m = Σ d_y          dL/dx = d_y ∘ s_m,          Σ over the rows of member m.

    Args:
        n_in: the number of inputs, and of outputs.
        members: the number k of members, as in `EachMember`.
        bias: True for a bias, shape (members, n_in), initially 0.
        initializer: initializer of the scale, shape (members, n_in), as in `Dense`.
    """

    recorded = True
    backward_reads = ("x",)

    scale: Array
    d_scale: Array
    bias: Array | None = None
    d_bias: Array

    def __init__(self, n_in: int, *, members: int = 32, bias: bool = False, initializer: Initializer = 1.0) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.members = positive_integer("members", members)
        self.has_bias = boolean("bias", bias)
        self.initializer = checked_initializer(initializer)

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "members": self.members, "bias": self.has_bias}

    def output_width(self, n_in: int) -> int:
        return n_in

    def parameters(self) -> dict[str, ParameterSpec]:
        shape = self.members, self.n_in
        specs = {"scale": ParameterSpec(shape, decayed=True, initializer=self.initializer)}
        if self.has_bias:
            specs["bias"] = ParameterSpec(shape, decayed=False, initializer="zeros")
        return specs

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        scaled = _side_by_side(y, self.members)
        ops(scale_members, _side_by_side(x, self.members), self.scale.reshape(-1), scaled)
        if self.bias is not None:
            ops(add_bias, scaled, self.bias.reshape(-1), scaled)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        d_scaled = _side_by_side(d_y, self.members)
        ops(scale_members_gradient, _side_by_side(x, self.members), d_scaled, self.d_scale.reshape(-1))
        if self.bias is not None:
            ops(column_sum, d_scaled, self.d_bias.reshape(-1))
        if d_x is not None:
            ops(scale_members, d_scaled, self.scale.reshape(-1), _side_by_side(d_x, self.members))


class MemberDense(Layer):
    """A dense layer of its own for each member, for the rows of an `EachMember`: y = W_m x + b_m.

        dL/dW_m = Σ d_y xᵀ          dL/db_m = Σ d_y          dL/dx = W_mᵀ d_y,          Σ over the rows of member m.

    It is meant for the few outputs at the end, the heads: a matmul of n_out columns for each member.

    Args:
        n_in: the number of inputs.
        n_out: the number of outputs.
        members: the number k of members, as in `EachMember`.
        bias: True for a bias, shape (members, n_out), initially 0.

    The weight has the shape (members, n_out, n_in), and begins with U(-1 / √n_in, 1 / √n_in), as in TabM.
    """

    recorded = True
    backward_reads = ("x",)

    weight: Array
    d_weight: Array
    bias: Array | None = None
    d_bias: Array

    def __init__(self, n_in: int, n_out: int, *, members: int = 32, bias: bool = True) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.n_out = positive_integer("n_out", n_out)
        self.members = positive_integer("members", members)
        self.has_bias = boolean("bias", bias)

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "n_out": self.n_out, "members": self.members, "bias": self.has_bias}

    def output_width(self, n_in: int) -> int:
        return self.n_out

    def parameters(self) -> dict[str, ParameterSpec]:
        shape = self.members, self.n_out, self.n_in
        specs = {"weight": ParameterSpec(shape, decayed=True, initializer=_head)}
        if self.has_bias:
            specs["bias"] = ParameterSpec(shape[:2], decayed=False, initializer="zeros")
        return specs

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(member_gemm, x, self.weight, y)
        if self.bias is not None:
            outputs = _side_by_side(y, self.members)
            ops(add_bias, outputs, self.bias.reshape(-1), outputs)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        ops(
            member_gemm_weight_gradient, _side_by_side(x, self.members), _side_by_side(d_y, self.members), self.d_weight
        )
        if self.bias is not None:
            ops(column_sum, _side_by_side(d_y, self.members), self.d_bias.reshape(-1))
        if d_x is not None:
            ops(member_gemm_input_gradient, d_y, self.weight, d_x)


def _head(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    limit = 1 / math.sqrt(shape[-1])
    return random.uniform(-limit, limit, shape)


class EachMember(Layer):
    """Run a stack of layers for each of k members, which share its weights, for x of shape (batch, n_in).

    Member m sees its own inputs, x ∘ r_m, with a learned scale r_m: TabM-mini (Gorishniy, Kotelnikov & Babenko, 2025).
    The layers of the stack process the rows of all members at once, (batch · members, width), so a `Dense` is shared by
    all members; in `MemberScale` and `MemberDense` each has its own weights. y has the shape (batch, members · n_out):
    the outputs of the members, side by side. `MeanOfMembers` averages them.

        gf.Sequential([
            gf.EachMember([gf.Dense(20, 512), gf.ReLU(), gf.MemberDense(512, 3, members=32)], members=32),
            gf.MeanOfMembers(32),
        ])

    is what ``gf.TabM([20, 512, 3])`` builds. All members see the same batches; each row of a member has its own dropout
    mask. A `BatchNorm` in the stack takes its statistics over the rows of all members.

        dL/dr_m = Σ x ∘ dL/d(x ∘ r_m)          dL/dx = Σ_m r_m ∘ dL/d(x ∘ r_m)

    Args:
        layers: the layers of the stack, at least one of them with parameters.
        members: the number k of members.
        initial_scale: the initial distribution of r: "signs", which are ±1, or "normal", N(0, 1), which TabM has after
            embeddings.
        chunks: the numbers of neighboring inputs that share one random number in each member, such as the parts of a
            one-hot category, or of an embedding; their sum is n_in. None draws one for each input.

    Attributes:
        arrays: the arrays of the layers in the training forward pass that was last recorded or run.

    Parameters: "scale", (members, n_in), and those of the layers by position: "0.weight", and so on.

    Raises:
        DataError: if the layers do not fit together, or one inside has another number of members.
    """

    recorded = True
    backward_reads = ("x",)
    set_by_forward = ("arrays",)

    scale: Array
    d_scale: Array

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        members: int = 32,
        initial_scale: str = "signs",
        chunks: Sequence[int] | None = None,
    ) -> None:
        self.layers = layer_tuple(layers)
        self.set_members(positive_integer("members", members))
        check_members(self.layers, self.members)
        self.n_in, self._width = check_stack(self.layers)
        self.initial_scale = known_name("initial_scale", initial_scale, SCALES)
        self.chunks = None if chunks is None else _checked_chunks(chunks, self.n_in)
        self.places = sum(layer.places for layer in self.layers)
        self.arrays: ForwardArrays | None = None

    def set_members(self, members: int) -> None:
        """Set the number of members, before the layer belongs to a network."""
        self.members = members
        least = max((layer.least_batch_size for layer in self.layers), default=1)
        self.least_batch_size = -(-least // members)

    def config(self) -> dict[str, Any]:
        return {
            "layers": [describe_layer(layer) for layer in self.layers],
            "members": self.members,
            "initial_scale": self.initial_scale,
            "chunks": self.chunks,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        layers = [layer_from_description(description) for description in config["layers"]]
        return cls(layers, **{name: value for name, value in config.items() if name != "layers"})

    def output_width(self, n_in: int) -> int:
        return self.members * self._width

    def parameters(self) -> dict[str, ParameterSpec]:
        scale = ParameterSpec((self.members, self.n_in), decayed=True, initializer=self._initial)
        return {"scale": scale, **parameters_of(self.layers)}

    def buffers(self) -> dict[str, BufferSpec]:
        return buffers_of(self.layers)

    def _initial(self, shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
        widths = self.chunks or [1] * self.n_in
        drawn = random.normal(1.0, (self.members, len(widths)))
        return np.repeat(np.where(drawn < 0, -1.0, 1.0) if self.initial_scale == "signs" else drawn, widths, axis=1)

    def attach(self, attachment: Attachment) -> None:
        self.attached = attachment
        self.scale, self.d_scale = attachment.parameters["scale"], attachment.gradients["scale"]
        attach(self.layers, attachment)

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self.arrays = record_forward(ops, self.layers, self._rows(ops, x))
        ops(copy, self.arrays.outputs[-1].reshape(y.shape), y)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        ops(copy, record_inference(ops, self.layers, self._rows(ops, x)).reshape(y.shape), y)

    def _rows(self, ops: Executor, x: Array) -> Array:
        """Record the inputs of the members, (batch · members, n_in)."""
        scaled = ops.backend.empty((len(x), self.members * self.n_in), x.dtype)
        ops(scale_members, x, self.scale.reshape(-1), scaled)
        return scaled.reshape(-1, self.n_in)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self.arrays is not None
        d_outputs = d_y.reshape(-1, self._width)
        d_scaled = record_backward(ops, self.layers, self.arrays, d_outputs, needs_d_input=True)
        assert d_scaled is not None
        by_batch = d_scaled.reshape(len(x), -1)
        ops(scale_members_gradient, x, by_batch, self.d_scale.reshape(-1))
        if d_x is not None:
            ops(sum_members, by_batch, self.scale.reshape(-1), d_x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.layers))}], members={self.members})"


class MeanOfMembers(Layer):
    """Average the outputs of k members, for x of shape (batch, members · n_out) and y of shape (batch, n_out).

    It is the last layer of a network whose members share weights (`EachMember`), and makes predictions of theirs: the
    mean of the members' values, or of their probabilities. In that case y are the logits of the mean, so that the
    network's output activation turns them into it: log mean softmax(z_m), and log mean sigmoid(z_m) - log mean
    sigmoid(-z_m). Metrics, validation and early stopping see this prediction.

    Training minimizes another number: the mean of the members' losses, not the loss of their mean, with which members
    would learn to correct each other in place of the targets. The loss works on x, so there is no `backward`.

    Args:
        members: the number k of members.
    """

    recorded = True
    last_only = True
    activation = "identity"
    """The output activation whose results it averages; its network, or the loss in training, sets it."""

    def __init__(self, members: int = 32) -> None:
        self.members = positive_integer("members", members)

    def config(self) -> dict[str, Any]:
        return {"members": self.members}

    def output_width(self, n_in: int) -> int:
        width, rest = divmod(n_in, self.members)
        if rest:
            raise DataError(f"{self!r} needs outputs of {self.members} members, got {n_in} columns")
        return width

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        if self.activation == "softmax":
            ops(mean_class_logits, x, y)
        elif self.activation == "sigmoid":
            ops(mean_binary_logits, x, y)
        else:
            share = ops.backend.from_host(np.full(x.shape[1], 1 / self.members, np.float64).astype(x.dtype))
            ops(sum_members, x, share, y)

    def by_member(self, x: Array) -> Array:
        """Return a view of x with a row for each member of each row of the batch, (batch · members, n_out)."""
        return x.reshape(len(x) * self.members, -1)


def averaging(layers: Sequence[Layer], activation: str) -> Sequence[Layer]:
    """Return layers whose `MeanOfMembers`, if they end in one, averages what an output activation makes of outputs."""
    if not isinstance(layers[-1], MeanOfMembers):
        return layers
    mean = MeanOfMembers(layers[-1].members)
    mean.activation = activation
    return [*layers[:-1], mean]


def most_members(layers: Sequence[Layer]) -> int:
    """Return the largest number of members that layers run for each row of a batch; 1 if there are none."""
    return max((layer.members for layer in with_inner(layers) if isinstance(layer, EachMember)), default=1)


def check_members(layers: Sequence[Layer], members: int | None) -> None:
    """Check that layers for the rows of members are in an `EachMember` with as many members (None: in none).

    Raises:
        DataError: naming a layer that is not.
    """
    for layer in layers:
        if isinstance(layer, MemberScale | MemberDense) and layer.members != members:
            where = "gradflow.EachMember([...])" if members is None else f"the one with members={members}"
            raise DataError(
                f"{layer!r} works on the rows of {layer.members} members: put it into {where}, with the same members"
            )
        if not isinstance(layer, EachMember):
            check_members(getattr(layer, "layers", ()), members)


def _checked_chunks(chunks: Any, n_in: int) -> list[int]:
    found = [
        positive_integer(f"chunks[{index}]", width)
        for index, width in enumerate(sequence("chunks", chunks, "a list of numbers of inputs, such as [1, 1, 5]"))
    ]
    if sum(found) != n_in:
        raise DataError(f"chunks must add up to the {n_in} inputs, got {sum(found)}")
    return found
