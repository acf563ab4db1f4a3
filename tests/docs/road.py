"""Follows a batch through `Trainer.fit`: the functions that are given its data on the way to the changed weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import gradflow as gf
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.ops import CLOCK_ENTRIES, Array, Op
from gradflow.program import Recorder

PACKAGE = Path(gf.__file__).parent


@dataclass
class Call:
    """A call of a function of gradflow, or of an op: the memory that it was given, what came of it, and its caller."""

    station: str
    given: frozenset[int]
    made: frozenset[int]
    caller: Call | None
    is_end: bool = False


class Road:
    """Notes the calls of gradflow's functions while it is active."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._running: list[Call] = []
        self._memory: dict[int, Array] = {}  # keeps it alive, so that each address stands for one array
        self._parameters: int | None = None

    def __enter__(self) -> Road:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, returned: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event not in ("call", "return") or PACKAGE not in path.parents:
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + 2]
        arguments = {name: value for name, value in frame.f_locals.items() if name in names}
        if "self" in arguments:
            arguments["self"] = _records_of(arguments["self"])
        if code is Recorder.__call__.__code__:
            if event == "call":
                self._note_op(arguments["op"], arguments["args"], arguments["kwargs"])
            return
        if event == "return":
            if self._running:
                self._running.pop().made = self._arrays(returned)
            return
        station = f"{path.relative_to(PACKAGE).as_posix()}: {code.co_qualname}"
        caller = self._running[-1] if self._running else None
        # A backend keeps the arrays, with which its calls then run.
        call = Call(station, self._arrays(arguments), frozenset(), caller, is_end=station.startswith("backends/"))
        self.calls.append(call)
        self._running.append(call)

    def _note_op(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = op.arguments(*args, **kwargs)
        written = {name: arguments[name] for name in op.writes}
        read = {name: value for name, value in arguments.items() if name not in written or name == "parameters"}
        given, made = self._arrays(read), self._arrays(written)
        if "parameters" in written:
            (self._parameters,) = self._arrays(written["parameters"])
        self.calls.append(Call("program.py: Recorder.__call__", given, made, self._running[-1], is_end=True))

    def _arrays(self, value: Any) -> frozenset[int]:
        return frozenset(map(self._owner, _floats_and_labels(value)))

    def _owner(self, array: Array) -> int:
        while isinstance(array.base, type(array)):
            array = array.base
        self._memory[id(array)] = array
        return id(array)

    def stations(self, *user_data: np.ndarray) -> list[str]:
        """Return the functions on the road from the user's data to the changed weights, in the order of first calls.

        An array is on the road if it comes of the user's data, and the update of the weights comes of it. A function is
        on the road if it is given such an array and hands it on: to another one, to an op, or back to its caller. One
        that only looks at it is not.
        """
        from_data = set(map(self._owner, user_data))
        for call in self.calls:
            if call.given & from_data:
                from_data |= call.made
        to_weights = {self._parameters}
        for call in reversed(self.calls):
            if call.made & to_weights:
                to_weights |= call.given
        arrays = from_data & to_weights - {self._parameters}
        handing_on: set[int] = set()
        for call in reversed(self.calls):
            if call.given & arrays and (call.is_end or call.made & arrays or id(call) in handing_on):
                handing_on |= {id(call), id(call.caller)}
        return list(
            dict.fromkeys(call.station for call in self.calls if id(call) in handing_on and call.given & arrays)
        )


def _records_of(owner: Any) -> list[Any]:
    """Return the records that an object holds, such as the data of a fit or the batches of a step."""
    return [
        value for value in getattr(owner, "__dict__", {}).values() if is_dataclass(value) or isinstance(value, tuple)
    ]


def _floats_and_labels(value: Any, depth: int = 5) -> Iterator[Array]:
    """Iterate over the arrays in a value, on any backend: numbers and labels, but not the clock."""
    if hasattr(value, "dtype") and hasattr(value, "base") and not isinstance(value, np.generic):
        if (value.dtype, value.shape) != (np.int64, (len(CLOCK_ENTRIES),)):
            yield value
        return
    if depth == 0:
        return
    if isinstance(value, dict):
        value = value.values()
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    elif not isinstance(value, tuple | list):
        return
    for item in value:
        yield from _floats_and_labels(item, depth - 1)


def road_of_a_batch(backend: str) -> list[str]:
    """Return the stations of a fit on a backend: Dense-ReLU-Dense, softmax cross-entropy on labels, Adam."""
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    labels = np.arange(200) % 4
    network = gf.MLP([16, 32, 4], backend=backend)
    if isinstance(network.backend, NumpyBackend):
        network.backend = NumpyBackend(network.backend.native)  # one that has bound no program of this form
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    with Road() as road:
        trainer.fit(x, labels, epochs=1, batch_size=32, progress=False)
    return road.stations(x, labels)
