"""The layers, one small file per kind: parameters, forward, backward and their formulas on one screen."""

from gradflow.layers.base import LAYERS, Activation, BufferSpec, Layer, ParameterSpec
from gradflow.layers.batch_norm import BatchNorm
from gradflow.layers.dense import Dense
from gradflow.layers.dropout import Dropout
from gradflow.layers.elu import ELU
from gradflow.layers.gelu import GELU
from gradflow.layers.identity import Identity
from gradflow.layers.layer_norm import LayerNorm
from gradflow.layers.leaky_relu import LeakyReLU
from gradflow.layers.mish import Mish
from gradflow.layers.relu import ReLU
from gradflow.layers.residual import Residual
from gradflow.layers.selu import SELU
from gradflow.layers.sigmoid import Sigmoid
from gradflow.layers.silu import SiLU
from gradflow.layers.softmax import Softmax
from gradflow.layers.softplus import Softplus
from gradflow.layers.tanh import Tanh

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "LAYERS",
    "SELU",
    "Activation",
    "BatchNorm",
    "BufferSpec",
    "Dense",
    "Dropout",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Mish",
    "ParameterSpec",
    "ReLU",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]

ACTIVATIONS: dict[str, type[Layer]] = {
    "elu": ELU,
    "gelu": GELU,
    "identity": Identity,
    "leaky_relu": LeakyReLU,
    "mish": Mish,
    "relu": ReLU,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "softmax": Softmax,
    "softplus": Softplus,
    "tanh": Tanh,
}
"""The activations by the names that `MLP` and the command line accept."""
