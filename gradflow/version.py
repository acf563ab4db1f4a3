"""The version of gradflow, in one place."""

__version__ = "0.1.0"
