"""The check-up of a GPU: gradflow's results there are compared with their definitions, and its speed is measured."""

from gradflow.doctor.findings import Check, Measurement
from gradflow.doctor.report import Checkup, check_up

__all__ = ["Check", "Checkup", "Measurement", "check_up"]
