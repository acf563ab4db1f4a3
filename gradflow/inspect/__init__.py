"""Inspection of training: gradient norms by parameter, dead and saturated units, and plots of these."""

from gradflow.inspect.gradients import gradient_norms
from gradflow.inspect.plots import plot_curves, plot_gradient_norms
from gradflow.inspect.rate_range import RangeTest, learning_rate_range_test
from gradflow.inspect.units import dead_units, layer_outputs, saturated_units

__all__ = [
    "RangeTest",
    "dead_units",
    "gradient_norms",
    "layer_outputs",
    "learning_rate_range_test",
    "plot_curves",
    "plot_gradient_norms",
    "saturated_units",
]
