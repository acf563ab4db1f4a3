"""Ensembles: networks whose predictions are averaged."""

from gradflow.ensemble.ensemble import Ensemble

__all__ = ["Ensemble"]
