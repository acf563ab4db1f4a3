"""Recording the methods of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from gradflow.errors import DataError, shown
from gradflow.executors import Executor
from gradflow.layers.base import Layer
from gradflow.layers.stack import with_inner
from gradflow.ops import Array
from gradflow.sealing import IN_AN_OP, SealedArray, is_of_users, record_sealed

_UNWRITTEN = -7.3e29
"""Marker for array elements that were not written: a number that no layer computes."""

_REMEDY = f"omit recorded = True, so that it runs at every step; or {IN_AN_OP}"


def record_method(ops: Executor, method: Callable[..., None], *args: Array | None) -> None:
    """Record the op calls of a method of a layer with ``recorded = True``.

    Raises:
        DataError: if a user's method does more than call ops, or does not write its result.
    """
    layer = getattr(method, "__self__", None)
    if not isinstance(layer, Layer):
        raise DataError(f"{method!r} is not a method of a layer")
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
    """Iterate over the names of the attributes that a layer has from its network."""
    if layer.attached is not None:
        yield "attached"
        yield from layer.attached.views().keys() & vars(layer).keys()


def called_at_each_step(ops: Executor, method: Callable[..., Any], *args: Array | None) -> Callable[[], None]:
    """Return a function that calls a method of an unrecorded layer or loss; the first call of a layer's method checks
    that results are written.

    Raises:
        DataError: from the first call, if the method returns something, or does not write all of a result.
    """
    if not isinstance(getattr(method, "__self__", None), Layer):
        return partial(method, ops, *args)  # of a loss, which checks its results itself
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
                    f"{name} does not write all of {result}; write into the given array, as in {result}[...] = ..., "
                    "and return nothing"
                )
        is_checked = True

    return call


def _name(method: Callable[..., Any]) -> str:
    """Return the name of a layer's method for errors; an inherited `infer` is reported as the user's `forward`."""
    layer = getattr(method, "__self__", None)
    methods = {name: getattr(layer, name, None) for name in ("forward", "infer", "backward")}
    if isinstance(layer, Layer) and type(layer).infer is Layer.infer:
        del methods["infer"]
    return f"{type(layer).__name__}.{next((name for name, other in methods.items() if other == method), 'forward')}"


def _for_reading(method: Callable[..., Any], *args: Array | None) -> tuple[Array | None, ...]:
    """Return the arguments of a layer's method; in `backward`, x and y are sealed unless `backward_reads` has them."""
    layer = getattr(method, "__self__", None)
    if len(args) != 4 or not isinstance(layer, Layer):
        return args
    name, reads = _name(method), layer.backward_reads

    def refuse(what: str) -> NoReturn:
        raise DataError(
            f"{name} reads x or y ({what}), but backward_reads = {reads!r} does not name it, so that another layer "
            "may have overwritten it; name in backward_reads everything that it reads"
        )

    readable = [array for which, array in zip("xy", args, strict=False) if which in reads] + [*args[2:]]
    return tuple(
        array if any(array is other for other in readable) else SealedArray(array, array, refuse, for_ops=False)
        for array in args
    )


def _results(method: Callable[..., None], *args: Array | None) -> dict[str, Array]:
    """Return the arrays that a layer's method must write, by name: its last argument, unless it equals another one, and
    for `backward` the gradients of trained parameters."""
    *inputs, output = args
    results = {}
    if output is not None and not any(output is array for array in inputs):
        results["d_x" if len(args) > 2 else "y"] = output
    layer = getattr(method, "__self__", None)
    if len(args) > 2 and isinstance(layer, Layer) and layer.attached is not None and layer.trainable:
        results |= {f"self.d_{name}": gradient for name, gradient in layer.attached.gradients.items()}
    return results
