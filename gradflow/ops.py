"""Ops: a name, a signature, and the plain NumPy that defines the result.

An op is a function on preallocated arrays that writes its outputs in place. The function decorated with
[`op`][gradflow.ops.op] *is* the definition: short NumPy, with the formula in the docstring, in the file of the layer,
loss or optimizer that it belongs to. The ``"reference"`` backend runs that function. Other backends run their own
implementation under the same name, such as a kernel in ``kernels/``, and tests compare it with the definition.

Inputs, intermediate results and results below the smallest normal number may count as zero: a GPU and the compiled
kernels of the CPU treat them so, since computing with them takes many times as long.

Code that uses ops calls them through an *executor* (`gradflow.executors`): ``ops(relu_forward, x, y)``.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradflow.errors import DataError
from gradflow.names import is_built_in, redefines

Array: TypeAlias = Any
"""An array of a backend: `numpy.ndarray` or `cupy.ndarray`."""

OPS: dict[str, Op] = {}
"""Every op by name."""

# Entries of the clock: four integers on the device that recorded steps read (kernels/clock.h).
STEP, EPOCH, POSITION, FIRST_BAD_STEP = range(4)
CLOCK_ENTRIES = ("step", "epoch", "position", "first_bad_step")
NEVER = 2**63 - 1
"""The first bad step of a run without one."""

SATURATED = 1e3
"""At this distance from 0, exp(-|x|) is 0 in any dtype. Factors are clipped here, since 0 times infinity is NaN."""


def has_diverged(clock: Array) -> bool:
    """True if a loss or a weight was not finite, in this step or before it, so that it must not change any weights."""
    return bool(clock[FIRST_BAD_STEP] <= clock[STEP])


def record_update(parameters: Array, clock: Array) -> None:
    """Record the weights of a step: if one of them is not finite, the next step is bad."""
    if not np.isfinite(parameters).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP] + 1)


class Op(NamedTuple):
    """One op of the contract.

    Attributes:
        name: the name under which backends look up their implementation.
        reference: the NumPy function that defines the op.
        shapes: returns the shapes of the arrays, given the arguments by name, such as ``"x, y: rows columns; bias:
            columns"``. Equal names mean equal sizes; ``*rest`` stands for any remaining dimensions.
        writes: the names of the arguments that the op writes; all other arrays are read-only.
        in_place: pairs (input, output) of arguments that may be the same array.
        sizes: returns the additional integers that a kernel takes, given the arguments by name.
        numpy_form: the function that the numpy backend runs if there are no compiled kernels; None runs the definition.
            It takes the same arguments, and is worthwhile if the definition makes a step more than twice as slow.
    """

    name: str
    reference: Callable[..., None]
    shapes: Callable[[Mapping[str, Any]], str]
    writes: tuple[str, ...]
    in_place: tuple[tuple[str, str], ...]
    sizes: Callable[[Mapping[str, Any]], dict[str, int]]
    signature: inspect.Signature
    numpy_form: Callable[..., None] | None = None

    def __reduce__(self) -> tuple[Callable[[str], Op], tuple[str]]:
        """Pickle an op by name, since pickle cannot store the functions it consists of."""
        return _op_of_name, (self.name,)

    def arguments(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by name, in signature order, including defaults."""
        blank = _blank_arguments(self.reference)
        given = dict(zip(blank, args, strict=False))
        arguments = blank | given | kwargs
        is_valid = len(given) == len(args) and len(arguments) == len(blank) and given.keys().isdisjoint(kwargs)
        if is_valid and not any(value is inspect.Parameter.empty for value in arguments.values()):
            return arguments  # what `bind` would do, which takes a good part of recording
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def dimensions(self, arguments: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """Return the names of the dimensions of each array, as `shapes` gives them."""
        return _parsed(self.shapes(arguments))

    def check_shapes(self, arguments: Mapping[str, Any]) -> None:
        """Check that the shapes of the arrays fit together; otherwise kernels would read and write out of bounds.

        Raises:
            DataError: if they do not; it names the argument, the expected shape and the actual one.
        """
        sizes: dict[str, tuple[int, ...]] = {}
        for name, dimensions in self.dimensions(arguments).items():
            if name not in arguments:
                raise DataError(f"op {self.name!r}: shapes names {name!r}, which is none of {', '.join(arguments)}")
            array = arguments[name]
            if array is None:
                continue
            has_rest = dimensions[-1].startswith("*")
            fixed = len(dimensions) - has_rest
            parts = [(size,) for size in array.shape[:fixed]] + ([tuple(array.shape[fixed:])] if has_rest else [])
            known = [
                (int(dimension),) if dimension.isdigit() else sizes.setdefault(dimension, part)
                for dimension, part in zip(dimensions, parts, strict=False)
            ]
            if len(parts) != len(dimensions) or (not has_rest and array.ndim != fixed) or parts != known:
                expected = sum(known, ()) if len(known) == len(dimensions) else "another number of dimensions"
                raise DataError(
                    f"op {self.name!r}: argument {name!r} of shape ({', '.join(dimensions)}) must be {expected} beside "
                    f"the other arguments, got {tuple(array.shape)}"
                )


@cache
def _blank_arguments(reference: Callable[..., None]) -> dict[str, Any]:
    """Return the defaults of an op's arguments, in their order; nothing if it takes some only by name."""
    parameters = inspect.signature(reference).parameters
    are_positional = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters.values())
    return {name: each.default for name, each in parameters.items()} if are_positional else {}


def _op_of_name(name: str) -> Op:
    if name not in OPS:
        raise DataError(f"there is no op named {name!r}; import the module that defines it before unpickling")
    return OPS[name]


@cache
def _parsed(shapes: str) -> dict[str, tuple[str, ...]]:
    """Parse a description such as "x, y: rows columns; bias: columns" into dimensions by argument."""
    dimensions: dict[str, tuple[str, ...]] = {}
    for part in shapes.split(";"):
        names, _, description = part.partition(":")
        dimensions |= {name.strip(): tuple(description.split()) for name in names.split(",")}
    return dimensions


def shape_of_first(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the usual sizes of the first array: `n` elements, and `rows` and `columns` for a matrix."""
    first = next(iter(arguments.values()))
    sizes = {"n": first.size}
    if first.ndim == 2:
        sizes["rows"], sizes["columns"] = first.shape
    return sizes


def _variant_of(name: str) -> str | None:
    """Return the op of which this name denotes a backend variant (fused with others, or in TF32), or None."""
    plain = name.removeprefix("bias_").removesuffix("_ending").removesuffix("_mirrored").removesuffix("_tf32")
    return None if plain == name else plain


def op(
    *,
    shapes: str | Callable[[Mapping[str, Any]], str],
    writes: tuple[str, ...],
    in_place: tuple[tuple[str, str], ...] = (),
    sizes: Callable[[Mapping[str, Any]], dict[str, int]] = shape_of_first,
    numpy_form: Callable[..., None] | None = None,
) -> Callable[[Callable[..., None]], Op]:
    """Make a function on NumPy arrays the definition of an op of the same name.

    Raises:
        DataError: if an op of that name exists, unless it is the same function defined again, as when a notebook cell
            runs twice; or if shapes, writes or in_place name a nonexistent argument.
    """

    def define(reference: Callable[..., None]) -> Op:
        name = reference.__name__
        if name in OPS and not redefines(reference, OPS[name].reference):
            raise DataError(
                f"an op named {name!r} already exists in {OPS[name].reference.__module__}; choose another name"
            )
        if not is_built_in(reference) and _variant_of(name) in OPS:
            raise DataError(f"op {name!r} has the name of a form of {_variant_of(name)!r}; choose another name")
        signature = inspect.signature(reference)
        named: dict[str, Iterable[str]] = {"writes": writes, "in_place": itertools.chain(*in_place)}
        if not callable(shapes):
            named["shapes"] = _parsed(shapes)
        for what, arguments in named.items():
            if unknown := [argument for argument in arguments if argument not in signature.parameters]:
                raise DataError(
                    f"op {name!r}: {what} names {unknown[0]!r}, but the arguments are {', '.join(signature.parameters)}"
                )
        shapes_of = shapes if callable(shapes) else lambda arguments: shapes
        OPS[name] = Op(name, reference, shapes_of, writes, in_place, sizes, signature, numpy_form)
        return OPS[name]

    return define


@op(shapes="x, y: *shape", writes=("y",))
def copy(x: Array, y: Array) -> None:
    """y = x"""
    y[...] = x


@op(shapes="y: *shape", writes=("y",))
def clear(y: Array) -> None:
    """y = 0"""
    y[...] = 0
