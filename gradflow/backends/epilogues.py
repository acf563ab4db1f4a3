"""What a product can do in its epilogue, before its result leaves the chip, of the call that follows it in a program.

Forward a product adds the bias and applies ReLU, and keeps for the backward pass where the result is above 0; backward
it applies the derivative of ReLU to dL/dx, and sums the bias gradient beside the weight gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gradflow.backends.fusion import Call
from gradflow.ops import Array

__all__ = ["Group", "grouped"]

# The op that follows a product, and cuBLASLt's name of the epilogue that does its work.
_EPILOGUES = {
    "add_bias": "BIAS",
    "relu_forward": "RELU",
    "bias_relu_forward": "RELU_BIAS",
    "relu_backward": "DRELU",
    "column_sum": "BGRADA",
}
_KEEPING_SIGNS = {"RELU": "RELU_AUX", "RELU_BIAS": "RELU_AUX_BIAS"}


@dataclass(frozen=True)
class Group:
    """A product and the call that follows it, where that joins it; or one call alone.

    Attributes:
        calls: in their order.
        epilogue: cuBLASLt's name for what the second does; None for a call alone.
    """

    calls: tuple[Call, ...]
    epilogue: str | None = None

    @property
    def vector(self) -> Array | None:
        """The bias that the epilogue adds, or the array of the column sums; else None."""
        arguments = self.calls[-1][1]
        return arguments.get("bias", arguments.get("sums")) if self.epilogue else None

    @property
    def activated(self) -> Array | None:
        """The output of the ReLU that the epilogue applies, or whose derivative; else None."""
        return self.calls[-1][1]["y"] if self.epilogue and "RELU" in self.epilogue else None

    @property
    def is_narrow(self) -> bool:
        """Whether this is backward and the result has one row or one column, which these epilogues refuse."""
        return self.epilogue in ("DRELU", "BGRADA") and 1 in self.calls[0][1]["out"].shape


def grouped(calls: Iterable[Call]) -> list[Group]:
    """The calls of a program in groups that can be run in turn."""
    groups: list[Group] = []
    for call in _products_before_dropout(calls):
        if groups and _joins(call, groups[-1].calls):
            groups[-1] = Group((*groups[-1].calls, call), _EPILOGUES[call[0].name])
        else:
            groups.append(Group((call,)))
    signs_read = {id(group.activated) for group in groups if group.epilogue == "DRELU" and not group.is_narrow}
    return [
        replace(group, epilogue=_KEEPING_SIGNS[group.epilogue])
        if group.epilogue in _KEEPING_SIGNS and id(group.activated) in signs_read
        else group
        for group in groups
    ]


def _products_before_dropout(calls: Iterable[Call]) -> list[Call]:
    """The calls, with the derivative of ReLU in front of that of dropout where both are applied to one product.

    Each sets elements to 0 and leaves the others or scales them, so that the result has the same bits.
    """
    in_turn: list[Call] = []
    for call in calls:
        *_, product, before = [call, call, *in_turn[-2:]]
        is_behind = before[0].name == "dropout" and before[1]["x"] is before[1]["y"] is product[1].get("out")
        if is_behind and call[0].name == "relu_backward" and _joins(call, [product]):
            in_turn.insert(-1, call)
        else:
            in_turn.append(call)
    return in_turn


def _joins(call: Call, before: Sequence[Call]) -> bool:
    """Whether the only call before is a product, and its epilogue can do this one."""
    (op, arguments), (gemm, product) = call, before[0]
    if len(before) > 1 or gemm.name != "gemm":
        return False
    out, transposed = product["out"], (product.get("transpose_a", False), product.get("transpose_b", False))
    match op.name:
        case "add_bias" | "relu_forward" | "bias_relu_forward":
            return arguments["x"] is arguments["y"] is out
        case "relu_backward":  # behind dL/dx = dL/dy weightᵀ
            return transposed == (False, True) and arguments["d_y"] is arguments["d_x"] is out
        case "column_sum":  # behind dL/dweight = xᵀ dL/dy
            return transposed == (True, False) and arguments["x"] is product["b"]
        case _:
            return False
