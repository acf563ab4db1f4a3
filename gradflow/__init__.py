"""gradflow: multi-layer perceptrons, trained fast, with every gradient in plain sight.

import gradflow as gf

network = gf.MLP([64, 128, 10])
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
history = trainer.fit(x, y, epochs=20)
"""

from gradflow import data, flow, metrics
from gradflow.errors import (
    BackendError,
    CheckpointWarning,
    DataError,
    DeviceLostError,
    DivergedError,
    FileFormatError,
    GradflowError,
    SlowPathWarning,
)
from gradflow.flow import learning_rate_range_test
from gradflow.layers import (
    ELU,
    GELU,
    SELU,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Mish,
    ReLU,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from gradflow.losses import (
    BinaryCrossEntropy,
    HalfSquaredError,
    HuberLoss,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonLoss,
    QuantileLoss,
    SoftmaxCrossEntropy,
)
from gradflow.network import MLP, Sequential
from gradflow.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, GradientDescent, Lion, Optimizer, RMSprop
from gradflow.schedules import (
    CosineSchedule,
    ExponentialSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    Schedule,
    StepSchedule,
)
from gradflow.storage import load, save
from gradflow.training import Callback, Checkpoint, EarlyStopping, History, JSONLines, Trainer, check_gradients
from gradflow.version import __version__

__all__ = [
    "ELU",
    "GELU",
    "LBFGS",
    "MLP",
    "SELU",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "BackendError",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "CosineSchedule",
    "DataError",
    "Dense",
    "DeviceLostError",
    "DivergedError",
    "Dropout",
    "EarlyStopping",
    "ExponentialSchedule",
    "FileFormatError",
    "GradflowError",
    "GradientDescent",
    "HalfSquaredError",
    "History",
    "HuberLoss",
    "Identity",
    "JSONLines",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Lion",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mish",
    "OneCycleSchedule",
    "Optimizer",
    "PlateauSchedule",
    "PoissonLoss",
    "QuantileLoss",
    "RMSprop",
    "ReLU",
    "Residual",
    "Schedule",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SlowPathWarning",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "StepSchedule",
    "Tanh",
    "Trainer",
    "__version__",
    "check_gradients",
    "data",
    "flow",
    "learning_rate_range_test",
    "load",
    "metrics",
    "save",
]
