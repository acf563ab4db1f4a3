"""gradflow: multi-layer perceptrons, trained fast, with every gradient in plain sight.

import gradflow as gf

network = gf.MLP([64, 128, 10])
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
history = trainer.fit(x, y, epochs=20)
"""

import warnings
from typing import Any

from gradflow import loading as loading  # first of all: the others take long

# isort: split
from gradflow import data, distributed, export, inspect, metrics, recipes, reports
from gradflow.data import Embedding
from gradflow.ensemble import Ensemble, select_members, with_members
from gradflow.errors import (
    BackendError,
    CheckpointWarning,
    DataError,
    DataWarning,
    DeviceLostError,
    DivergedError,
    FileFormatError,
    GradflowError,
    PictureWarning,
    RankError,
    SlowPathWarning,
    TrainingWarning,
)
from gradflow.export import to_onnx, to_torch_state_dict
from gradflow.inspect import learning_rate_range_test
from gradflow.inspect.calibration import calibrate
from gradflow.inspect.gradient_check import check_gradients
from gradflow.inspect.gradients import gradients
from gradflow.inspect.initial_weights import fit_initial_weights, ntk_factors
from gradflow.layers import (
    ELU,
    GELU,
    SELU,
    Activation,
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    EachMember,
    EmbedColumns,
    Identity,
    Increasing,
    Layer,
    LayerNorm,
    LeakyReLU,
    MeanOfMembers,
    MemberDense,
    MemberScale,
    Mish,
    Parametric,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    ReLU,
    Residual,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    quantile_bins,
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
from gradflow.mlp import MLP
from gradflow.network import Sequential
from gradflow.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, GradientDescent, Lion, Muon, Optimizer, RMSprop
from gradflow.pack import Each, EnsembleSelection, Pack, fit_many
from gradflow.reports import report
from gradflow.schedules import (
    CosineSchedule,
    CosLogSchedule,
    ExponentialSchedule,
    FlatCosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    Schedule,
    StepSchedule,
)
from gradflow.storage import save
from gradflow.tabm import TabM
from gradflow.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    JSONLines,
    MLflow,
    RunComparison,
    TensorBoard,
    Trainer,
    WeightPath,
    compare_runs,
    load,
    repeat,
)
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
    "CosLogSchedule",
    "CosineEmbedding",
    "CosineSchedule",
    "DataError",
    "DataWarning",
    "Dense",
    "DeviceLostError",
    "DivergedError",
    "Dropout",
    "Each",
    "EachMember",
    "EarlyStopping",
    "EmbedColumns",
    "Embedding",
    "Ensemble",
    "EnsembleSelection",
    "ExponentialSchedule",
    "FileFormatError",
    "FlatCosineSchedule",
    "GradflowError",
    "GradientDescent",
    "HalfSquaredError",
    "History",
    "HuberLoss",
    "Identity",
    "Increasing",
    "JSONLines",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Lion",
    "Loss",
    "MLflow",
    "MeanAbsoluteError",
    "MeanOfMembers",
    "MeanSquaredError",
    "MemberDense",
    "MemberScale",
    "Mish",
    "Muon",
    "OneCycleSchedule",
    "Optimizer",
    "Pack",
    "Parametric",
    "PeriodicEmbedding",
    "PictureWarning",
    "PiecewiseLinearEmbedding",
    "PlateauSchedule",
    "PoissonLoss",
    "QuantileLoss",
    "RMSprop",
    "RankError",
    "ReLU",
    "Residual",
    "RunComparison",
    "Scale",
    "Schedule",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SlowPathWarning",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "StepSchedule",
    "TabM",
    "Tanh",
    "TensorBoard",
    "Trainer",
    "TrainingWarning",
    "WeightPath",
    "__version__",
    "calibrate",
    "check_gradients",
    "compare_runs",
    "data",
    "distributed",
    "export",
    "fit_initial_weights",
    "fit_many",
    "gradients",
    "inspect",
    "learning_rate_range_test",
    "load",
    "metrics",
    "ntk_factors",
    "quantile_bins",
    "recipes",
    "repeat",
    "report",
    "reports",
    "save",
    "select_members",
    "to_onnx",
    "to_torch_state_dict",
    "with_members",
]


def __getattr__(name: str) -> Any:
    """Return `inspect` for its former name, `flow`, with a warning."""
    if name != "flow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("gradflow.flow is now gradflow.inspect", FutureWarning, stacklevel=2)
    return inspect
