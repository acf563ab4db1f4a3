"""Ensembles: networks whose predictions are averaged."""

from gradflow.ensemble.ensemble import Ensemble
from gradflow.ensemble.shared_weights import select_members, with_members
from gradflow.ensemble.stand_in import StandIn, stand_in

__all__ = ["Ensemble", "StandIn", "select_members", "stand_in", "with_members"]
