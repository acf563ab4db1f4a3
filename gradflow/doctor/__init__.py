"""The check-up of a GPU: what gradflow computes there is compared with what it should be, and measured."""

from gradflow.doctor.checkup import Checkup, check_up
from gradflow.doctor.findings import Check, Measurement

__all__ = ["Check", "Checkup", "Measurement", "check_up"]
