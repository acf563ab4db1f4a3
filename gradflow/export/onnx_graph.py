"""`OnnxGraph`: an ONNX graph, written node by node."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.errors import GradflowError
from gradflow.installation import pip_install

ML_DOMAIN = "ai.onnx.ml"
OPERATOR_SETS = {"": 18, ML_DOMAIN: 4}
IR_VERSION = 9


def require_onnx() -> None:
    """Raise an error if the package onnx is missing.

    Raises:
        GradflowError: with the command that installs it.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise GradflowError(f"ONNX files need onnx, which is not installed: {pip_install('onnx')}") from error


class OnnxGraph:
    """An ONNX graph that grows node by node. Values are called by names, which are text.

    Attributes:
        dtype: the dtype of the network, and of the values between its layers.

    Args:
        dtype: that dtype.
        taken: names that values of the graph must not have.
    """

    def __init__(self, dtype: np.dtype, taken: set[str]) -> None:
        require_onnx()
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.finite: list[str] = []
        self._taken = set(taken)

    def free_name(self, name: str) -> str:
        """Reserve a name, with underscores behind it if it is taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its first output.

        Args:
            operator: an operator of ONNX: opset 18, or version 4 of ai.onnx.ml.
            inputs: the names of its inputs.
            domain: "" or "ai.onnx.ml".
            attributes: those of the operator.
        """
        from onnx import helper

        output = self.free_name(f"{operator}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant, and return its name.

        Args:
            value: an array, also one on a GPU, or a number.
            dtype: its dtype; None takes that of the network.
        """
        from onnx import numpy_helper

        value = value.get() if hasattr(value, "__cuda_array_interface__") else value
        name = self.free_name(f"constant_{len(self.initializers)}")
        array = np.ascontiguousarray(np.asarray(value, self.dtype if dtype is None else dtype))
        self.initializers.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Convert a value to a dtype."""
        from onnx import helper

        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def columns(self, x: str, places: Any) -> str:
        """Select columns of a value (batch, n)."""
        return self("Gather", x, self.constant(places, np.int64), axis=1)

    def check_finite(self, x: str) -> None:
        """Let the outputs be NaN in each row in which a value (batch, n), float32 or float64, is not finite."""
        self.finite.append(x)

    def refuse(self, mask: str) -> None:
        """Let the outputs be NaN in each row in which a mask (batch, n) is true."""
        nan, zero = (self.constant(value, np.float64) for value in (np.nan, 0.0))
        self.check_finite(self("Where", mask, nan, zero))

    def with_checks(self, y: str) -> str:
        """Add NaN to the rows of an output (batch, n) that `check_finite` or `refuse` name, and 0 to the others."""
        axis = self.constant([1], np.int64)
        for x in self.finite:
            nothing = self("ReduceSum", self("Sub", x, x), axis, keepdims=1)
            y = self("Add", y, self.cast(nothing, self.dtype))
        return y
