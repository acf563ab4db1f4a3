"""Fusion of adjacent calls of a program into one kernel."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from typing import Any

from gradflow.backends.kernel_sources import Kernel
from gradflow.ops import Array, Op, shape_of_first

Call = tuple[Op, dict[str, Any]]

MIRRORED = "_mirrored"
"""Suffix of an optimizer op that also writes the copy of the parameters, argument ``copies``."""


ENDING = "_ending"
"""Suffix of an op that also ends the step: it advances the clock, argument ``run_clock``."""


def fuse_bias_and_activation(calls: list[Call], kernels: Container[str]) -> list[Call]:
    """Fuse a bias and the activation after it, in the same array, into one op ``bias_<activation>``.

    Args:
        calls: ops with their arguments by name, in program order.
        kernels: the names of the existing kernels.
    """
    fused: list[Call] = []
    for call in calls:
        joined = _joined(fused[-1], call, kernels) if fused else None
        if joined is None:
            fused.append(call)
        else:
            fused[-1] = joined
    return fused


def _joined(first: Call, second: Call, kernels: Container[str]) -> Call | None:
    (add_bias, of_bias), (activation, of_activation) = first, second
    in_place = of_activation.get("x") is of_activation.get("y") is of_bias.get("y")
    if add_bias.name != "add_bias" or f"bias_{activation.name}" not in kernels or not in_place:
        return None
    key = add_bias.reference, activation.reference
    if key not in _FUSED:
        _FUSED[key] = _bias_and(add_bias, activation)
    return _FUSED[key], of_activation | {"x": of_bias["x"], "bias": of_bias["bias"]}


_FUSED: dict[tuple[Any, Any], Op] = {}
"""The fused ops by what their parts do; to hash an op takes long."""


def _bias_and(add_bias: Op, activation: Op) -> Op:
    """Return the op that adds a bias and computes an activation."""

    def reference(x: Array, bias: Array, y: Array, **config: float) -> None:
        add_bias.reference(x, bias, y)
        activation.reference(y, y, **config)

    signature = inspect.signature(reference)
    name = f"bias_{activation.name}"
    return Op(name, reference, add_bias.shapes, add_bias.writes, add_bias.in_place, shape_of_first, signature)


def fuse_update_and_copy(calls: list[Call]) -> list[Call]:
    """Fuse an optimizer step and the 16-bit copy of the updated parameters into one op."""
    fused: list[Call] = []
    for op, arguments in calls:
        update, of_update = fused[-1] if fused else (op, arguments)
        changed = of_update.get("parameters") if "parameters" in update.writes else None
        if op.name == "copy" and arguments["x"] is changed is not None and arguments["y"].itemsize == 2:
            fused[-1] = update._replace(name=update.name + MIRRORED), of_update | {"copies": arguments["y"]}
        else:
            fused.append((op, arguments))
    return fused


def fuse_update_and_advance(calls: list[Call], kernels: Mapping[str, Kernel]) -> list[Call]:
    """Fuse the last op of an update and the advance of the clock after it into one op, where its kernel allows that."""
    fused: list[Call] = []
    for op, arguments in calls:
        before, of_before = fused[-1] if fused else (op, arguments)
        kernel = kernels.get(before.name.removesuffix(MIRRORED))
        if op.name in ("advance", "advance_scheduled") and kernel is not None and kernel.can_end_step:
            table = arguments.get("table")
            ending = {
                "run_clock": arguments["clock"],
                "table": table,
                "values": arguments.get("values"),
                "batch_size": arguments["batch_size"],
                "epoch_rows": arguments["epoch_rows"],
                **({"steps": 1, "entries": 0} if table is None else op.sizes(arguments)),
            }
            fused[-1] = before._replace(name=before.name + ENDING), of_before | ending
        else:
            fused.append((op, arguments))
    return fused
