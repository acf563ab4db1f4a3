"""Data: sources that are read batch by batch, checks of what users pass, and the embedded digits."""

from gradflow.data.arrays import Arrays
from gradflow.data.arrow import Arrow, Parquet
from gradflow.data.csv_file import CSV
from gradflow.data.digits import Digits, load_digits
from gradflow.data.iterables import Batches
from gradflow.data.sources import Source

__all__ = ["CSV", "Arrays", "Arrow", "Batches", "Digits", "Parquet", "Source", "load_digits"]
