"""Ensembles: networks whose predictions are averaged."""

from gradflow.ensemble.ensemble import Ensemble
from gradflow.ensemble.stand_in import StandIn, stand_in

__all__ = ["Ensemble", "StandIn", "stand_in"]
