"""Data: sources that are read batch by batch, checks of what users pass, and the embedded digits."""

from gradflow.data.arrays import Arrays
from gradflow.data.digits import Digits, load_digits
from gradflow.data.sources import Source

__all__ = ["Arrays", "Digits", "Source", "load_digits"]
