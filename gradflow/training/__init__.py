"""Training: training steps, the loop over epochs, and run folders."""

from gradflow.training.callbacks import Callback
from gradflow.training.checkpoints import Checkpoint
from gradflow.training.comparison import RunComparison, compare_runs
from gradflow.training.early_stopping import EarlyStopping
from gradflow.training.gradient_check import check_gradients
from gradflow.training.history import History
from gradflow.training.json_lines import JSONLines
from gradflow.training.loading import load
from gradflow.training.repetition import repeat
from gradflow.training.trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "JSONLines",
    "RunComparison",
    "Trainer",
    "check_gradients",
    "compare_runs",
    "load",
    "repeat",
]
