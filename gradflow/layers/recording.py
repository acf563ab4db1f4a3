"""Recording what a layer does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradflow.errors import DataError
from gradflow.layers.base import Layer
from gradflow.layers.stack import with_inner
from gradflow.ops import Array, Executor
from gradflow.sealing import IN_AN_OP, is_of_users, record_sealed

__all__ = ["record_method"]

_REMEDY = f"leave recorded = True out, so that it runs at every step; or {IN_AN_OP}"


def record_method(ops: Executor, method: Callable[..., None], *args: Array | None) -> None:
    """Have the method of a layer that says ``recorded = True`` record its calls.

    Raises:
        DataError: if a user's method does something else, or does not write its result.
    """
    layer = getattr(method, "__self__", None)
    if not isinstance(layer, Layer):
        raise DataError(f"{method!r} is no method of a layer")
    methods: dict[str, Callable[..., None]] = {
        "forward": layer.forward,
        "infer": layer.infer,
        "backward": layer.backward,
    }
    if not any(map(is_of_users, methods.values())):
        method(ops, *args)
        return
    if type(layer).infer is Layer.infer:
        methods["infer"] = methods["forward"]
    name = next((name for name, other in methods.items() if other == method), "forward")
    *inputs, output = args
    is_result = output is not None and not any(output is array for array in inputs)
    record_sealed(
        ops,
        f"{type(layer).__name__}.{name}",
        method,
        *args,
        results={"d_x" if len(args) > 2 else "y": output} if is_result else {},
        remedy=_REMEDY,
        held=[(layer, list(_names(layer))) for layer in with_inner([layer])],
    )


def _names(layer: Layer) -> Iterator[str]:
    """The attributes that hold what a layer has of its network."""
    if layer.attached is None:
        return
    yield "attached"
    for name, view in vars(layer).items():
        arrays = (*layer.attached.parameters.values(), *layer.attached.gradients.values())
        if any(view is array for array in (*arrays, *layer.attached.buffers.values())):
            yield name
