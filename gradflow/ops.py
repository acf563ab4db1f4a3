"""What an op is: a name, a signature, and the plain NumPy that defines its result.

An op is a function on preallocated arrays that writes its outputs in place. The function decorated with
[`op`][gradflow.ops.op] *is* the definition: short NumPy, formula in the docstring, in the file of the layer, loss or
optimizer that it belongs to. The ``"reference"`` backend runs that function; other backends run what they have
under the same name, such as a kernel in ``kernels/``, and are held to it by test.

The code that uses ops calls them through an *executor*: ``ops(relu_forward, x, y)``. `Eager` runs each call at once;
`gradflow.training.program.Recorder` keeps the calls for replay. Both run the same bound calls.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from gradflow.errors import DataError
from gradflow.names import is_built_in, redefines

if TYPE_CHECKING:
    from gradflow.backends.reference import ReferenceBackend

__all__ = ["CLOCK_ENTRIES", "OPS", "SATURATED", "Array", "Eager", "Executor", "Op", "has_diverged", "op"]

Array: TypeAlias = Any
"""An array of a backend: `numpy.ndarray` or `cupy.ndarray`."""

OPS: dict[str, Op] = {}
"""Every op by name."""

# The entries of the clock, the four integers on the device that recorded steps read (kernels/clock.h).
STEP, EPOCH, POSITION, FIRST_BAD_STEP = range(4)
CLOCK_ENTRIES = ("step", "epoch", "position", "first_bad_step")

SATURATED = 1e3
"""So far from 0 exp(-|x|) is 0 in any dtype. Products with it keep to this side of infinity: 0 times that is NaN."""


def has_diverged(clock: Array) -> bool:
    """Whether this or an earlier step had a loss that was not finite: then nothing may be learned from it."""
    return bool(clock[FIRST_BAD_STEP] <= clock[STEP])


class Op(NamedTuple):
    """One op of the contract.

    Attributes:
        name: the name under which backends look for their own form of it.
        reference: the NumPy function that defines it.
        shapes: from the arguments by name, the shapes of the arrays, such as ``"x, y: rows columns; bias: columns"``.
            Equal names mean equal sizes; ``*rest`` stands for any dimensions that are left.
        writes: the names of the arguments that it writes; all other arrays are read only.
        in_place: pairs (input, output) of arguments that may be the same array.
        sizes: from the arguments by name, the integers that a kernel takes besides them.
        numpy_form: what the numpy backend runs where there are no compiled kernels; None runs the definition. It takes
            the same arguments, and is worth it where the definition makes a step more than twice as slow.
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
        """A copy of an op is the op of that name: pickle cannot hold the functions that it is made of."""
        return _op_of_name, (self.name,)

    def arguments(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments of a call by name, in the order of the signature, defaults included."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def check_shapes(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arrays whose shapes do not fit together: kernels would read and write outside of them.

        Raises:
            DataError: naming the argument, the shape expected and the shape that came.
        """
        sizes: dict[str, tuple[int, ...]] = {}
        for name, dimensions in _parsed(self.shapes(arguments)).items():
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


def _op_of_name(name: str) -> Op:
    if name not in OPS:
        raise DataError(f"there is no op named {name!r}; import the module that defines it before unpickling")
    return OPS[name]


@cache
def _parsed(shapes: str) -> dict[str, tuple[str, ...]]:
    """The dimensions by argument of a description such as "x, y: rows columns; bias: columns"."""
    dimensions: dict[str, tuple[str, ...]] = {}
    for part in shapes.split(";"):
        names, _, description = part.partition(":")
        dimensions |= {name.strip(): tuple(description.split()) for name in names.split(",")}
    return dimensions


def shape_of_first(arguments: Mapping[str, Any]) -> dict[str, int]:
    """The usual sizes: `n` elements, and for a matrix `rows` and `columns`, of the first array."""
    first = next(iter(arguments.values()))
    sizes = {"n": first.size}
    if first.ndim == 2:
        sizes["rows"], sizes["columns"] = first.shape
    return sizes


def _variant_of(name: str) -> str | None:
    """The op of which backends look for a form under this name: fused with a bias or a copy, or in TF32."""
    plain = name.removeprefix("bias_").removesuffix("_mirrored").removesuffix("_tf32")
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
        DataError: if an op of the name exists already, unless the function is the same one defined again, as a cell of
            a notebook does that runs twice; or if shapes, writes or in_place name an argument that there is not.
    """

    def define(reference: Callable[..., None]) -> Op:
        name = reference.__name__
        if name in OPS and not redefines(reference, OPS[name].reference):
            raise DataError(
                f"an op named {name!r} exists already, in {OPS[name].reference.__module__}; choose another name"
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


class Executor(Protocol):
    """What layers, losses and optimizers call ops through.

    A layer that holds layers calls their methods with ``record(method, *args, recorded=layer.recorded)``.
    """

    backend: ReferenceBackend

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None: ...

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None: ...


class Eager:
    """The executor that runs each call at once: for debugging and for layers that are not recorded."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.backend = backend

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        with self.backend.running():
            self.backend.bind(op, op.arguments(*args, **kwargs))()

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        """Run a layer's method at once: there is no program to keep it in."""
        method(self, *args)


@op(shapes="x, y: *shape", writes=("y",))
def copy(x: Array, y: Array) -> None:
    """y = x"""
    y[...] = x
