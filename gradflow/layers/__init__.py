"""The layers, one small file for each kind: parameters, forward, backward and their formulas on one screen."""

from gradflow.layers.base import LAYERS, Activation, Layer, ParameterSpec
from gradflow.layers.dense import Dense
from gradflow.layers.dropout import Dropout
from gradflow.layers.elu import ELU
from gradflow.layers.identity import Identity
from gradflow.layers.leaky_relu import LeakyReLU
from gradflow.layers.relu import ReLU
from gradflow.layers.sigmoid import Sigmoid
from gradflow.layers.softmax import Softmax
from gradflow.layers.tanh import Tanh

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "LAYERS",
    "Activation",
    "Dense",
    "Dropout",
    "Identity",
    "Layer",
    "LeakyReLU",
    "ParameterSpec",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]

ACTIVATIONS: dict[str, type[Layer]] = {
    "elu": ELU,
    "identity": Identity,
    "leaky_relu": LeakyReLU,
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "tanh": Tanh,
}
"""The activations by the names that `MLP` and the command line take."""
