"""Base classes of layers and activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from gradflow.configurable import Configurable
from gradflow.errors import DataError, GradflowError
from gradflow.executors import Executor
from gradflow.initializers import Initializer
from gradflow.names import is_built_in
from gradflow.ops import Array, Op

ACTIVATIONS: dict[str, type[Layer]] = {}
"""Every activation class by the name that `MLP` and the command line accept."""


class ParameterSpec(NamedTuple):
    """A parameter that a layer requests from its network.

    Attributes:
        shape: its shape.
        decayed: True if penalties and weight decay apply to it; biases are excluded.
        initializer: its initializer; None leaves the choice to the activation that follows.
    """

    shape: tuple[int, ...]
    decayed: bool
    initializer: Initializer | None


class BufferSpec(NamedTuple):
    """A buffer that a layer requests from its network: values kept between steps that no optimizer trains.

    Attributes:
        shape: its shape.
        initial: the number that it is initially filled with.
        least: the smallest value that it may contain.
    """

    shape: tuple[int, ...]
    initial: float
    least: float = -math.inf


@dataclass(frozen=True)
class Attachment:
    """The arrays and settings that a network gives to a layer that becomes part of it.

    Attributes:
        parameters: views into the network's flat parameter vector, by name.
        gradients: views of the same shapes into its flat gradient vector.
        buffers: views into its flat vector of buffers, by name.
        seed: the network's seed.
        index: the layer's index in the network; a layer that contains layers counts as many times as these.
        changing: the context in which a setting of the layer changes, such as a slope; it takes the name for errors.
        is_frozen: True if training leaves the layer unchanged; anything it writes into its gradients is then ignored.
    """

    parameters: dict[str, Array]
    gradients: dict[str, Array]
    buffers: dict[str, Array]
    seed: int
    index: int
    changing: Callable[[str], AbstractContextManager[None]]
    is_frozen: bool = False

    def views(self) -> dict[str, Array]:
        """Return the attributes that it adds to the layer: parameters, gradients and buffers."""
        return {
            **self.parameters,
            **{f"d_{name}": gradient for name, gradient in self.gradients.items()},
            **self.buffers,
        }

    def part(self, prefix: str, index: int) -> Attachment:
        """Return the part for the layer at this index: the arrays whose names begin with the prefix, without it."""

        def inside(arrays: dict[str, Array]) -> dict[str, Array]:
            return {
                name.removeprefix(f"{prefix}."): array
                for name, array in arrays.items()
                if name.startswith(f"{prefix}.")
            }

        return replace(
            self,
            parameters=inside(self.parameters),
            gradients=inside(self.gradients),
            buffers=inside(self.buffers),
            index=index,
        )


LAYERS: dict[str, type[Layer]] = {}
"""Every layer class, for loading saved networks: gradflow's classes by name, and user-defined ones by module and name,
so that a class does not replace another one of the same name."""


def full_name(cls: type[Layer]) -> str:
    """Return the name of a class, preceded by that of its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


_METHODS = ("forward", "infer", "backward", "settings", "config", "parameters", "buffers", "output_width", "attach")


def _place(cls: type[Layer], name: str) -> int:
    """Return the index, in the method resolution order, of the class that defines an attribute; 0 is `cls` itself."""
    return next(place for place, parent in enumerate(cls.__mro__) if name in vars(parent))


class Layer(Configurable):
    """One step of the network: ``y = f(x)`` and its gradients.

    To define a layer, write a subclass with `forward` and `backward`. They may call ops through ``ops``, or compute
    with NumPy or CuPy directly. In the first case set ``recorded = True``: the calls are then recorded once and
    replayed without running your code again. Otherwise your methods are called at every step.

    `recorded`, `elementwise` and `backward_reads` are promises about these methods. A subclass that overrides one of
    the methods, or `infer`, must make its own promises: those of its parent class no longer hold. Likewise, a subclass
    that overrides `infer` is used in prediction unless it sets ``training_only = True`` again.
    """

    recorded: ClassVar[bool] = False
    """True if forward and backward only call ops, so that a program can record these calls."""
    elementwise: ClassVar[bool] = False
    """True if y has the shape of x and may overwrite it."""
    backward_reads: ClassVar[tuple[str, ...]] = ("x", "y")
    """The arrays, of x and y, that `backward` reads; they are kept until then."""
    set_by_forward: ClassVar[tuple[str, ...]] = ()
    """The attributes that `forward` sets for `backward`; in a copy of the layer they are None."""
    training_only: ClassVar[bool] = False
    """True if prediction skips the layer."""
    first_only: ClassVar[bool] = False
    """True if the layer reads user data, and so must be the first of its network."""
    last_only: ClassVar[bool] = False
    """True if the layer makes the predictions of its network, and so must be the last before an output activation."""
    preferred_initializer: ClassVar[str | None] = "glorot_uniform"
    """Default initializer of the weights before this layer; None leaves the choice to the next layer."""

    places: int = 1
    """The number of indices that it takes in the network: one, or as many as the layers inside it take."""
    least_batch_size: int = 1
    """The minimum number of rows in a training batch; only the last batch may be smaller."""
    attached: Attachment | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        LAYERS[cls.__name__ if is_built_in(cls) else full_name(cls)] = cls
        methods = min(_place(cls, name) for name in ("forward", "infer", "backward"))
        for promise in ("recorded", "elementwise", "backward_reads"):
            if methods < _place(cls, promise):
                setattr(cls, promise, getattr(Layer, promise))
        if _place(cls, "infer") < _place(cls, "training_only"):
            cls.training_only = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Create a layer from the arguments that `config` returned."""
        return cls(**config)

    def output_width(self, n_in: int) -> int:
        """Return the width of y for an x of shape (batch, n_in)."""
        return n_in

    def parameters(self) -> dict[str, ParameterSpec]:
        """Return the parameters that the layer needs, by name. Once the layer belongs to a network, parameter
        ``weight`` is ``self.weight``, and its gradient ``self.d_weight``."""
        return {}

    def buffers(self) -> dict[str, BufferSpec]:
        """Return the buffers that the layer keeps between steps, by name. Buffer ``running_mean`` becomes
        ``self.running_mean``; it is saved and copied with the weights."""
        return {}

    @property
    def trainable(self) -> bool:
        """False if training leaves the layer unchanged, as set by ``network.frozen``."""
        return self.attached is None or not self.attached.is_frozen

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        raise GradflowError(
            "a layer is frozen by its network: set network.frozen to the indices of all layers that training must "
            "not change, such as [0, 1, 2]; () trains all"
        )

    def attach(self, attachment: Attachment) -> None:
        """Attach the layer to its network, which calls this, and calls it again when other layers are frozen."""
        self.attached = attachment
        vars(self).update(attachment.views())

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and ``copy.deepcopy``: the settings only, since the network owns the weights.

        The copy belongs to no network; a copied network attaches the copies of its layers.
        """
        state = vars(self).copy()
        if (attached := state.pop("attached", None)) is not None:
            for name in attached.views():
                state.pop(name, None)
        return state | dict.fromkeys(self.set_by_forward)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _METHODS:
            raise GradflowError(
                f"{type(self).__name__}.{name} cannot be replaced in one object: copies and files would lose it; write "
                "a subclass"
            )
        attached = self.attached
        if attached is not None and name in (views := attached.views()) and value is not views[name]:
            raise GradflowError(
                f"{type(self).__name__}.{name} is a view into a vector of the network and cannot be replaced by "
                f"another array; write into it: layer.{name}[...] = value"
            )
        is_setting = attached is not None and self.recorded and name in self.config()
        with attached.changing(f"{type(self).__name__}.{name}") if attached and is_setting else nullcontext():
            super().__setattr__(name, value)

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        """Write the output y (batch, n_out) for the input x (batch, n_in), during training."""
        raise GradflowError(f"layer {type(self).__name__} does not define forward(ops, x, y)")

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        """Write the output at prediction; by default the same as `forward`."""
        self.forward(ops, x, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        """Given dL/dy in d_y, write dL/dx into d_x, unless that is None, and the gradients of the parameters.

        d_y may be overwritten; for an elementwise layer d_x is the same array. It is called, or recorded, after
        `forward` for the same batch, so arrays that forward stored in ``self`` still belong to this batch.
        """
        raise GradflowError(f"layer {type(self).__name__} does not define backward(ops, x, y, d_y, d_x)")


class Activation(Layer, registry=ACTIVATIONS):
    """A function of each element (of each row, for softmax), with a derivative in terms of its output or its input.

    A subclass sets its `name`, under which `MLP` finds it, and its two ops: ``forward_op(x, y, **settings)`` and
    ``backward_op(y, d_y, d_x, **settings)``. If the derivative needs the input, it sets ``backward_reads = ("x",)``,
    and the second is ``backward_op(x, d_y, d_x)``.
    """

    recorded = True
    elementwise = True
    backward_reads = ("y",)
    forward_op: Op
    backward_op: Op

    def settings(self) -> dict[str, Any]:
        """Return the scalar arguments of the ops: by default all of `config`."""
        return self.config()

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(self._op("forward_op"), x, y, **self.settings())

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is None:
            return
        op = self._op("backward_op")
        source = next(iter(op.signature.parameters))
        if source not in ("x", "y"):
            source = "x" if "x" in self.backward_reads else "y"
        if source not in self.backward_reads:
            raise DataError(
                f"backward_op of {type(self).__name__} reads {source}, which its backward_reads does not name; set "
                f"backward_reads = ({source!r},)"
            )
        ops(op, x if source == "x" else y, d_y, d_x, **self.settings())

    def _op(self, name: str) -> Op:
        found = getattr(self, name, None)
        if not isinstance(found, Op):
            raise DataError(
                f"{name} of {type(self).__name__} must be an op, a function decorated with gradflow.ops.op, got "
                f"{found!r}"
            )
        return found
