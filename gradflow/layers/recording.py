"""Recording what a layer does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gradflow.errors import DataError, shown
from gradflow.layers.base import Layer
from gradflow.layers.stack import with_inner
from gradflow.ops import Array, Executor
from gradflow.sealing import IN_AN_OP, SealedArray, is_of_users, record_sealed

__all__ = ["called_at_each_step", "record_method"]

_UNWRITTEN = -7.3e29
"""What an array holds before it is written: no number that a layer gives."""

_REMEDY = f"leave recorded = True out, so that it runs at every step; or {IN_AN_OP}"


def record_method(ops: Executor, method: Callable[..., None], *args: Array | None) -> None:
    """Have the method of a layer that says ``recorded = True`` record its calls.

    Raises:
        DataError: if a user's method does something else, or does not write its result.
    """
    layer = getattr(method, "__self__", None)
    if not isinstance(layer, Layer):
        raise DataError(f"{method!r} is no method of a layer")
    if not any(is_of_users(other) for other in (layer.forward, layer.infer, layer.backward)):
        method(ops, *args)
        return
    record_sealed(
        ops,
        _name(method),
        method,
        *_for_reading(method, *args),
        results=_results(method, *args),
        remedy=_REMEDY,
        held=[(layer, list(_names(layer))) for layer in with_inner([layer])],
    )


def _names(layer: Layer) -> Iterator[str]:
    """The attributes that hold what a layer has of its network."""
    if layer.attached is not None:
        yield "attached"
        yield from layer.attached.views().keys() & vars(layer).keys()


def called_at_each_step(ops: Executor, method: Callable[..., Any], *args: Array | None) -> Callable[[], None]:
    """What calls the method of a layer that is not recorded. The first call makes sure that it writes its results.

    Raises:
        DataError: from the first call, if the method returns something, or leaves a result or a part of it as it was.
    """
    results = _results(method, *args)
    args = _for_reading(method, *args)
    is_checked = False

    def call() -> None:
        nonlocal is_checked
        if is_checked:
            method(ops, *args)
            return
        for array in results.values():
            array.fill(_UNWRITTEN)
        returned = method(ops, *args)
        name = _name(method)
        if returned is not None:
            raise DataError(
                f"{name} must write its result into the last argument and return nothing, got {shown(returned)}"
            )
        for result, array in results.items():
            if bool((array == array.dtype.type(_UNWRITTEN)).any()):
                raise DataError(
                    f"{name} does not write all of {result}; write into the array that is there, as in "
                    f"{result}[...] = ..., and return none"
                )
        is_checked = True

    return call


def _name(method: Callable[..., Any]) -> str:
    """The name of a layer's method in errors: where prediction is the forward pass, a user wrote that."""
    layer = getattr(method, "__self__", None)
    methods = {name: getattr(layer, name, None) for name in ("forward", "infer", "backward")}
    if isinstance(layer, Layer) and type(layer).infer is Layer.infer:
        del methods["infer"]
    return f"{type(layer).__name__}.{next((name for name, other in methods.items() if other == method), 'forward')}"


def _for_reading(method: Callable[..., Any], *args: Array | None) -> tuple[Array | None, ...]:
    """The arguments of a layer's method; backwards, x or y is sealed if the layer says that it does not read it."""
    layer = getattr(method, "__self__", None)
    if len(args) != 4 or not isinstance(layer, Layer):
        return args
    name, reads = _name(method), layer.backward_reads

    def refuse(what: str) -> NoReturn:
        raise DataError(
            f"{name} reads x or y ({what}) where backward_reads = {reads!r} leaves it out, so that another layer may "
            "have written over it; name in backward_reads all that it reads"
        )

    readable = [array for which, array in zip("xy", args, strict=False) if which in reads] + [*args[2:]]
    return tuple(
        array if any(array is other for other in readable) else SealedArray(array, array, refuse, for_ops=False)
        for array in args
    )


def _results(method: Callable[..., None], *args: Array | None) -> dict[str, Array]:
    """By name, what a method of a layer must write: its last argument, unless that is another one too, and backwards
    the gradients of what is trained."""
    *inputs, output = args
    results = {}
    if output is not None and not any(output is array for array in inputs):
        results["d_x" if len(args) > 2 else "y"] = output
    layer = getattr(method, "__self__", None)
    if len(args) > 2 and isinstance(layer, Layer) and layer.attached is not None and layer.trainable:
        results |= {f"self.d_{name}": gradient for name, gradient in layer.attached.gradients.items()}
    return results
