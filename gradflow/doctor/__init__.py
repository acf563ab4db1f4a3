"""The check-up of a GPU: gradflow's results there are compared with their definitions, and its speed is measured."""

from gradflow.doctor.checkup import Checkup, check_up
from gradflow.doctor.findings import Check, Measurement

__all__ = ["Check", "Checkup", "Measurement", "check_up"]
