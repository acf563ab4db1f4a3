"""What a layer is, and the base of the activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gradflow.errors import GradflowError
from gradflow.initializers import Initializer
from gradflow.ops import Array, Executor, Op

__all__ = ["LAYERS", "Activation", "Attachment", "Layer", "ParameterSpec"]

LAYERS: dict[str, type[Layer]] = {}
"""Every layer class by name, the user's own included: how a saved network finds its layers again."""


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that a layer asks its network for.

    Attributes:
        shape: its shape.
        decayed: whether penalties and weight decay reach it; biases are left out.
        initializer: how it begins; None leaves the choice to the activation that follows.
    """

    shape: tuple[int, ...]
    decayed: bool
    initializer: Initializer | None


@dataclass(frozen=True)
class Attachment:
    """What a network gives to a layer when it takes it in.

    Attributes:
        parameters: views into the network's flat parameter vector, by name.
        gradients: views of the same shapes into its flat gradient vector.
        clock: the clock of the training run (kernels/clock.h).
        seed: the network's seed.
        index: the layer's place in the network.
    """

    parameters: dict[str, Array]
    gradients: dict[str, Array]
    clock: Array
    seed: int
    index: int


class Layer:
    """One step of the network: ``y = f(x)`` and the gradients that belong to it.

    To make a layer, write a subclass with `forward` and `backward`. They may call ops through ``ops``, or compute with
    NumPy or CuPy directly. In the first case set ``recorded = True``: the calls are then recorded once and replayed
    without running your code again. Otherwise your methods are called at every step.
    """

    recorded: ClassVar[bool] = False
    """True where forward and backward do nothing but call ops, so that a program can keep these calls."""
    elementwise: ClassVar[bool] = False
    """True where y has the shape of x and may be written over it."""
    backward_reads: ClassVar[tuple[str, ...]] = ("x", "y")
    """Which of x and y `backward` reads: these are kept until then."""
    training_only: ClassVar[bool] = False
    """True where the layer is left out at prediction."""
    preferred_initializer: ClassVar[str] = "glorot_uniform"
    """How the weights in front of this layer begin unless the user names another rule."""

    attached: Attachment | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        LAYERS[cls.__name__] = cls

    def config(self) -> dict[str, Any]:
        """The arguments that make this layer again: numbers, strings and booleans."""
        return {}

    def output_width(self, n_in: int) -> int:
        """The width of y for an x of shape (batch, n_in)."""
        return n_in

    def parameters(self) -> dict[str, ParameterSpec]:
        """The parameters that the layer needs, by name. Parameter ``weight`` becomes ``self.weight``, and its gradient
        ``self.d_weight``, once a network has taken the layer in."""
        return {}

    def attach(self, attachment: Attachment) -> None:
        """Take what the network gives; called once, by the network."""
        if self.attached is not None:
            raise GradflowError(
                f"this {type(self).__name__} belongs to a network already; make a new one for each network"
            )
        self.attached = attachment
        for name, view in attachment.parameters.items():
            setattr(self, name, view)
            setattr(self, f"d_{name}", attachment.gradients[name])

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        """Write the output y (batch, n_out) for the input x (batch, n_in)."""
        raise GradflowError(f"layer {type(self).__name__} does not define forward(ops, x, y)")

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        """From dL/dy in d_y write dL/dx into d_x, unless that is None, and the gradients of the parameters.

        d_y may be overwritten; for an elementwise layer d_x is the same array.
        """
        raise GradflowError(f"layer {type(self).__name__} does not define backward(ops, x, y, d_y, d_x)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class Activation(Layer):
    """A function of each element (of each row, for softmax), with a derivative in terms of its output.

    A subclass names its two ops: ``forward_op(x, y, **config)`` and ``backward_op(y, d_y, d_x, **config)``.
    """

    recorded = True
    elementwise = True
    backward_reads = ("y",)
    forward_op: ClassVar[Op]
    backward_op: ClassVar[Op]

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(self.forward_op, x, y, **self.config())

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is not None:
            ops(self.backward_op, y, d_y, d_x, **self.config())
