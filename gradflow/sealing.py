"""Sealed arrays, which user-defined methods get while they run once to record their op calls.

A sealed array can be passed to ops. Reading, writing or computing with it raises an error: that would happen only
during recording and never again, so that training would continue with values computed from uninitialized arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.names import is_built_in
from gradflow.ops import Array, Op
from gradflow.schedules import Scheduled

IN_AN_OP = "put the formula into an op: a function decorated with gradflow.ops.op, which this method calls"
"""Advice for a method that does its own array math, if there is no other remedy."""

# Threads that predict with one network may record programs concurrently, but its layers have one set of attributes.
_ONE_AT_A_TIME = threading.RLock()

_FACTS = ("shape", "dtype", "ndim", "size", "itemsize", "nbytes")
_OF_FACTS = (np.shape, np.ndim, np.size, np.empty_like, np.zeros_like, np.ones_like)


class SealedArray(NDArrayOperatorsMixin):
    """An array that exposes its shape and dtype, and can be sliced into views and passed to ops.

    Args:
        array: the array.
        root: the array that it is a view of, or the array itself.
        refuse: raises an error that names the forbidden operation.
        for_ops: True if it may be passed to ops.
    """

    def __init__(self, array: Array, root: Array, refuse: Callable[[str], NoReturn], *, for_ops: bool = True) -> None:
        self.array = array
        self.root = root
        self._refuse = refuse
        self._for_ops = for_ops

    def opened(self) -> Array:
        """Return the array, for an op."""
        return self.array if self._for_ops else self._refuse("an op")

    def _view(self, array: Array) -> SealedArray:
        return SealedArray(array, self.root, self._refuse, for_ops=self._for_ops)

    def __getattr__(self, name: str) -> Any:
        if name in _FACTS:
            return getattr(self.array, name)
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse(name)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> SealedArray:
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, slice | int) or part is Ellipsis or part is None for part in keys):
            self._refuse("selected elements of an array")
        view = self.array[key]
        if view.ndim == 0:
            self._refuse("an element of an array")
        return self._view(view)

    def reshape(self, *shape: Any) -> SealedArray:
        return self._view(self.array.reshape(*shape))

    @property
    def T(self) -> SealedArray:  # noqa: N802
        return self._view(self.array.T)

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> NoReturn:
        self._refuse(f"numpy.{ufunc.__name__}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in _OF_FACTS:
            self._refuse(f"numpy.{function.__name__}")
        return function(*map(_opened, args), **kwargs)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse("a conversion to a NumPy array")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self._refuse("an assignment")

    def _read(self) -> NoReturn:
        self._refuse("a read of an array's values")

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __contains__ = _read


class Sealing:
    """The executor that a user's method records through: it unseals the arrays for ops, and keeps track of them.

    Attributes:
        passed, written: arrays that were passed to ops, and arrays that the ops write.
    """

    def __init__(self, ops: Executor, refuse: Callable[[str], NoReturn]) -> None:
        self.backend, self.has_part_of_batch = ops.backend, ops.has_part_of_batch
        self.passed: list[Array] = []
        self.written: list[Array] = []
        self._ops = ops
        self._refuse = refuse
        self._sealed: dict[int, SealedArray] = {}

    @property
    def clock(self) -> Any:
        """The clock of the training run, sealed."""
        return self.seal(self._ops.clock)

    def value(self, of: Scheduled) -> Any:
        """Return a number that may be scheduled, on the device, sealed."""
        return self.seal(self._ops.value(of))

    def seal(self, value: Any) -> Any:
        """Seal an array (always to the same object), or the arrays in a record or mapping; return the rest as is."""
        if isinstance(value, Mapping):
            return {name: self.seal(item) for name, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(map(self.seal, value))
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **self.seal(vars(value)))
        if isinstance(value, SealedArray) or not (hasattr(value, "shape") and hasattr(value, "flags")):
            return value
        return self._sealed.setdefault(id(value), SealedArray(value, value, self._refuse))

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        if not isinstance(op, Op):
            raise DataError(f"{op!r} is not an op; decorate the function with gradflow.ops.op(shapes=..., writes=...)")
        arguments = op.arguments(*args, **kwargs)
        self._note(arguments.values(), (arguments.get(name) for name in op.writes))
        opened = {
            name: value.opened() if isinstance(value, SealedArray) else value for name, value in arguments.items()
        }
        self._ops(op, **opened)

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        """Record the method of a layer inside this one."""
        if recorded:
            method(self, *args)
        else:
            self._note(args, args)
            self._ops.record(method, *map(_opened, args), recorded=False)

    def _note(self, passed: Iterable[Any], written: Iterable[Any]) -> None:
        self.passed += [_root(value) for value in passed]
        self.written += [_root(value) for value in written]


def record_sealed(
    ops: Executor,
    name: str,
    method: Callable[..., None],
    *args: Any,
    results: Mapping[str, Array],
    remedy: str = IN_AN_OP,
    held: Sequence[tuple[Any, Iterable[str]]] = (),
) -> list[Array]:
    """Record the op calls of a user's method, with sealed arrays; return the arrays that it passed to ops.

    Args:
        ops: the executor that records the calls.
        name: names the method in errors.
        method: the method; its first argument is the executor.
        args: its other arguments: arrays, or mappings and named tuples of arrays.
        results: the arrays that its ops must write, by name.
        remedy: advice for a method that does its own array math.
        held: objects, each with the names of its attributes that hold arrays; they are sealed during recording.

    Raises:
        DataError: if the method itself reads, writes or computes with arrays, or no recorded op writes a result.
    """

    def refuse(what: str) -> NoReturn:
        raise DataError(
            f"{name} does its own array math ({what}) while its calls of ops are recorded. Recording happens only "
            f"once, so later steps would not repeat that math. To fix this, {remedy}"
        )

    sealing = Sealing(ops, refuse)
    sealed = [sealing.seal(arg) for arg in args]
    with _sealed_attributes(sealing, held):
        method(sealing, *sealed)
    for result, array in results.items():
        if not any(array is written for written in sealing.written):
            raise DataError(f"{name} records no op that writes {result}. To fix this, {remedy}")
    return sealing.passed


def is_of_users(method: Callable[..., None]) -> bool:
    """True if a method is not entirely gradflow's own: its object's class is user-defined, or its code was replaced."""
    function = getattr(method, "__func__", method)
    module = getattr(function, "__globals__", {}).get("__name__", "")
    owner = getattr(method, "__self__", None)
    return not is_built_in(type(owner)) or module.partition(".")[0] != __name__.partition(".")[0]


@contextmanager
def _sealed_attributes(sealing: Sealing, held: Sequence[tuple[Any, Iterable[str]]]) -> Iterator[None]:
    """Seal attributes of objects; on exit, unseal them and any arguments that a method has stored."""
    with _ONE_AT_A_TIME:
        before = [(holder, name, getattr(holder, name)) for holder, names in held for name in names]
        for holder, name, value in before:
            vars(holder)[name] = sealing.seal(value)
        try:
            yield
        finally:
            for holder, name, value in before:
                vars(holder)[name] = value
            for holder, _ in held:
                vars(holder).update({name: _opened(value) for name, value in vars(holder).items()})


def _opened(value: Any) -> Any:
    return value.array if isinstance(value, SealedArray) else value


def _root(value: Any) -> Any:
    return value.root if isinstance(value, SealedArray) else value
