"""Fusion of a matmul with the calls after it in a program, as an epilogue applied before the result leaves the chip.

Forward, a matmul adds the bias and applies ReLU or GELU (tanh form); for the backward pass it keeps where the result is
above 0, or the input of GELU. Backward, it applies the derivative of the activation to dL/dx, and sums the bias
gradient along with the weight gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradflow.backends.fusion import Call
from gradflow.ops import Array

TF32 = "gemm_tf32"
"""The name of the matmul whose float32 factors may be rounded to 10 bits of mantissa; otherwise it is "gemm"."""

EVERY_CLASS = "*"
"""The name that stands for all classes of matmuls."""

_SIGNS_ALIGNMENT = 128  # bits: each sign takes one bit, and a row is padded to a multiple of this

# The ops that follow a matmul, and cuBLASLt's name for the epilogue that replaces them.
_EPILOGUES = {
    ("add_bias",): "BIAS",
    ("relu_forward",): "RELU",
    ("bias_relu_forward",): "RELU_BIAS",
    ("relu_backward",): "DRELU",
    ("bias_gelu_tanh_forward",): "GELU_BIAS",
    ("gelu_tanh_forward",): "GELU_AUX",
    ("add_bias", "gelu_tanh_forward"): "GELU_AUX_BIAS",
    ("gelu_tanh_backward",): "DGELU",
    ("column_sum",): "BGRADA",
}
_KEEPING_SIGNS = {"RELU": "RELU_AUX", "RELU_BIAS": "RELU_AUX_BIAS"}
_GELU_ALIGNMENT = 8  # the input of GELU can be kept in place if the width is a multiple of this


class Group(NamedTuple):
    """A matmul and the calls after it that its epilogue replaces; or a single call.

    Attributes:
        calls: the calls, in order.
        epilogue: cuBLASLt's name for the epilogue that replaces the calls after the matmul; None for a single call.
    """

    calls: tuple[Call, ...]
    epilogue: str | None = None

    @property
    def out(self) -> Array:
        """The array that the matmul finally writes."""
        is_kept = self.epilogue in ("GELU_AUX", "GELU_AUX_BIAS")
        return self.calls[-1][1]["y"] if is_kept else self.calls[0][1]["out"]

    @property
    def vector(self) -> Array | None:
        """The bias that the epilogue adds, or the array of the column sums; otherwise None."""
        arguments = self.calls[1][1]
        return arguments.get("bias", arguments.get("sums"))

    @property
    def relu_output(self) -> Array | None:
        """The output of the ReLU that the epilogue applies or differentiates; otherwise None."""
        return self.calls[-1][1]["y"] if self.epilogue and "RELU" in self.epilogue else None

    @property
    def gelu_input(self) -> Array | None:
        """The input of the GELU that the epilogue keeps, or reads for its derivative; otherwise None."""
        has_it = self.epilogue in ("GELU_AUX", "GELU_AUX_BIAS", "DGELU")
        return self.calls[-1][1]["x"] if has_it else None

    @property
    def is_narrow(self) -> bool:
        """True for a backward group with one row, one column or an inner size of 1: its epilogue does not support that.

        An inner size of 1 makes cuBLASLt access illegal memory, or sum wrongly (release notes of CUDA 12.3 Update 1 and
        12.4).
        """
        gemm = self.calls[0][1]
        inner = gemm["a"].shape[0 if gemm.get("transpose_a") else 1]
        return self.epilogue in ("DRELU", "DGELU", "BGRADA") and 1 in (*self.out.shape, inner)


def grouped(calls: Iterable[Call]) -> list[Group]:
    """Group the calls of a program, so that the groups can run in order."""
    groups: list[Group] = []
    for call in _relu_before_dropout(calls):
        together = (*groups[-1].calls, call) if groups else (call,)
        epilogue = _EPILOGUES.get(tuple(op.name for op, _ in together[1:]))
        if epilogue and _joins(call, together[0]):
            groups[-1] = Group(together, epilogue)
        else:
            groups.append(Group((call,)))
    signs_read = {id(group.relu_output) for group in groups if group.epilogue == "DRELU" and not group.is_narrow}
    return [
        group._replace(epilogue=_KEEPING_SIGNS[group.epilogue])
        if group.epilogue in _KEEPING_SIGNS and id(group.relu_output) in signs_read
        else group
        for group in groups
    ]


def _relu_before_dropout(calls: Iterable[Call]) -> list[Call]:
    """Move the derivative of ReLU before that of dropout if both are applied to the result of the same matmul.

    Each of them sets elements to 0 and keeps or scales the others, so the result is bit-identical.
    """
    in_turn: list[Call] = []
    for call in calls:
        *_, gemm, before = [call, call, *in_turn[-2:]]
        is_after_dropout = before[0].name in ("dropout", "scheduled_dropout") and before[1]["x"] is before[1][
            "y"
        ] is gemm[1].get("out")
        if is_after_dropout and call[0].name == "relu_backward" and _joins(call, gemm):
            in_turn.insert(-1, call)
        else:
            in_turn.append(call)
    return in_turn


def _joins(call: Call, before: Call) -> bool:
    """True if the epilogue of a matmul can replace a call on its result."""
    (op, arguments), (gemm, of_gemm) = call, before
    if gemm.name not in ("gemm", TF32):
        return False
    out, transposed = of_gemm["out"], (of_gemm.get("transpose_a", False), of_gemm.get("transpose_b", False))
    match op.name:
        case "add_bias" | "relu_forward" | "bias_relu_forward" | "bias_gelu_tanh_forward":
            return arguments["x"] is arguments["y"] is out
        case "gelu_tanh_forward":
            return arguments["x"] is out is not arguments["y"] and out.shape[1] % _GELU_ALIGNMENT == 0
        case "relu_backward" | "gelu_tanh_backward":  # after dL/dx = dL/dy weightᵀ
            fits = op.name == "relu_backward" or out.shape[1] % _GELU_ALIGNMENT == 0
            return fits and transposed == (False, True) and arguments["d_y"] is arguments["d_x"] is out
        case "column_sum":  # after dL/dweight = xᵀ dL/dy
            return transposed == (True, False) and arguments["x"] is of_gemm["b"]
        case _:
            return False


def gemm_class(epilogue: str, precision: str, shape: tuple[int, int], inner: int) -> str:
    """Return the name of the class of a matmul: its epilogue, its precision, and which of its sizes are 1."""
    sizes = {"1 row": shape[0], "1 column": shape[1], "inner size 1": inner}
    return ", ".join([epilogue, precision, *(name for name, size in sizes.items() if size == 1)])


def n_sign_bytes(rows: int, columns: int) -> int:
    """Return the bytes needed to keep the signs of a matrix from the forward epilogue to the backward one."""
    return rows * sign_stride(columns) // 8


def sign_stride(columns: int) -> int:
    """Return the bits between two rows of signs."""
    return -(-columns // _SIGNS_ALIGNMENT) * _SIGNS_ALIGNMENT
