"""Data: sources read batch by batch, preprocessing, validation of user data, and the embedded digits."""

from gradflow.data.any_file import open_file
from gradflow.data.arrays import Arrays
from gradflow.data.arrow import Arrow, Parquet
from gradflow.data.csv_file import CSV
from gradflow.data.dates import Dates
from gradflow.data.digits import Digits, load_digits
from gradflow.data.in_memory import split
from gradflow.data.iterables import Batches
from gradflow.data.preprocessing import Preprocessing, fit_preprocessing
from gradflow.data.profiles import profile
from gradflow.data.rules import Embedding, OneHot, QuantileNormal, RobustScale, SmoothClip, Standardize, Unchanged
from gradflow.data.sources import Source
from gradflow.data.suggestions import suggest_rule, suggest_task

__all__ = [
    "CSV",
    "Arrays",
    "Arrow",
    "Batches",
    "Dates",
    "Digits",
    "Embedding",
    "OneHot",
    "Parquet",
    "Preprocessing",
    "QuantileNormal",
    "RobustScale",
    "SmoothClip",
    "Source",
    "Standardize",
    "Unchanged",
    "fit_preprocessing",
    "load_digits",
    "open_file",
    "profile",
    "split",
    "suggest_rule",
    "suggest_task",
]
