"""Data: batches, checks of what users pass, and the embedded digits."""

from gradflow.data.digits import Digits, load_digits

__all__ = ["Digits", "load_digits"]
