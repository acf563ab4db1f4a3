"""The report on a training run: one HTML file with pictures and a diagnosis in words."""

from gradflow.reports.write import plot_loss_surface, report

__all__ = ["plot_loss_surface", "report"]
