"""Measurements of the epochs: the history, callbacks, early stopping, and what shows and writes them."""
