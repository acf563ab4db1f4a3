"""Training: training steps, the loop over epochs, and run folders."""

from gradflow.training.progress.callbacks import Callback
from gradflow.training.progress.early_stopping import EarlyStopping
from gradflow.training.progress.history import History
from gradflow.training.progress.json_lines import JSONLines
from gradflow.training.progress.trackers import MLflow, TensorBoard
from gradflow.training.repetition import repeat
from gradflow.training.runs.checkpoints import Checkpoint
from gradflow.training.runs.comparison import RunComparison, compare_runs
from gradflow.training.runs.loading import load
from gradflow.training.runs.weight_path import WeightPath
from gradflow.training.trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "JSONLines",
    "MLflow",
    "RunComparison",
    "TensorBoard",
    "Trainer",
    "WeightPath",
    "compare_runs",
    "load",
    "repeat",
]
