"""Packs: many networks trained side by side on the same data."""

from gradflow.pack.each import Each
from gradflow.pack.groups import fit_many
from gradflow.pack.pack import Pack
from gradflow.pack.selection import EnsembleSelection

__all__ = ["Each", "EnsembleSelection", "Pack", "fit_many"]
