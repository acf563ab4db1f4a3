"""The loss around the path of the weights, in the plane in which that path is longest.

References:
    H. Li, Z. Xu, G. Taylor, C. Studer & T. Goldstein, "Visualizing the loss landscape of neural nets", NeurIPS (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradflow.clock import RunStatus
from gradflow.layers.stack import buffers_of
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.program import Recorder
from gradflow.reports.rows import SampledRows
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.runs.weight_path import WeightsByTime
from gradflow.training.step.objective import layers_before_loss
from gradflow.training.step.record import Results, record_evaluation

_MARGIN = 0.3
_WORK = 2e11
"""Multiplications for the whole grid: a few seconds on one core."""
_LEAST_ROWS, _MOST_ROWS = 32, 1000
_POINTS = 33
"""In each direction of the grid."""
_FLAT = 1e-12
"""Below this ratio of the two main variances, the path is a straight line."""
_LOW = -1e30
"""Stands for minus infinity in buffers, which must be finite."""


class Surface(NamedTuple):
    """The loss on a grid in a plane, and a path in it.

    Attributes:
        across, along: the coordinates of the grid, (points,) each.
        loss: the loss at each grid point, (points, points), with a row for each value of ``along``; NaN where it is not
            finite.
        path: the coordinates of the path, (points of the path, 2); the last point is at (0, 0).
        path_loss: the loss at the weights themselves, which the plane only passes near.
        labels: what each point of the path is.
        explained: the fractions of the path's variation along the two directions.
        rows: the number of rows on which the loss was computed.
    """

    across: np.ndarray
    along: np.ndarray
    loss: np.ndarray
    path: np.ndarray
    path_loss: np.ndarray
    labels: tuple[str, ...]
    explained: tuple[float, float]
    rows: int


def loss_surface(network: Sequential, loss: Loss, weights: WeightsByTime, rows: SampledRows) -> Surface | None:
    """Return the loss in the plane of the two main directions of a path (Li et al., 2018, section 7); None if the path
    has fewer than three different points.

    The directions are the first two principal components of the differences between each point and the last one. The
    loss is the data loss of predictions, without dropout and penalties. Buffers, such as running means, move with the
    weights.

    Args:
        network: the trained network; it is not changed.
        loss: the loss that it was trained with.
        weights: the weights along the run.
        rows: the data, of which up to 1000 rows are used.
    """
    found = _main_directions(weights.states)
    if found is None:
        return None
    directions, path, explained = found
    low, high = path.min(axis=0), path.max(axis=0)
    margin = _MARGIN * max(high - low)
    across, along = (np.linspace(low[i] - margin, high[i] + margin, _POINTS) for i in range(2))
    size = weights.states.shape[1]
    rows = rows.sample(int(np.clip(_WORK / (_POINTS**2 * size), _LEAST_ROWS, _MOST_ROWS)))
    measure = _LossOfState(network, loss, rows)
    origin = weights.states[-1]
    grid = np.array([[measure(origin + a * directions[0] + b * directions[1]) for a in across] for b in along])
    at_path = np.array([measure(state) for state in weights.states])
    return Surface(across, along, grid, path, at_path, weights.labels, explained, len(rows.y))


@np.errstate(all="ignore")
def _main_directions(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]] | None:
    """Return two orthonormal directions, the coordinates of the points along them, and the explained fractions."""
    differences = states - states[-1]
    scale = abs(differences).max()
    if len(differences) < 3 or not 0 < scale < np.inf:
        return None
    differences /= scale  # so that no square overflows
    # The few points span at most as many dimensions, so their products decide, however many weights there are.
    eigenvalues, vectors = np.linalg.eigh(differences @ differences.T)
    if not eigenvalues[-2] > _FLAT * eigenvalues[-1]:
        return None
    directions = np.stack([vectors[:, -place] @ differences / np.sqrt(eigenvalues[-place]) for place in (1, 2)])
    coordinates = scale * (differences @ directions.T)
    # The path begins at the left and above, whatever signs the eigenvectors have.
    signs = np.where(coordinates[0] * (-1, 1) < 0, -1, 1)
    first, second = (eigenvalues[:-3:-1] / eigenvalues.clip(0).sum()).tolist()
    return directions * signs[:, None], coordinates * signs, (first, second)


class _LossOfState:
    """The loss of a network on some rows, for any weights."""

    def __init__(self, network: Sequential, loss: Loss, rows: SampledRows) -> None:
        self._network = network.copy()
        backend = self._backend = self._network.backend
        data = prepare_arrays(self._network, loss, rows.x, rows.y, scale=network.output_scale).on(backend)
        self._results = Results.empty(backend, len(data), network.dtype)
        recorder = Recorder(backend, RunStatus(backend).clock)
        record_evaluation(recorder, layers_before_loss(loss, self._network), loss, data, self._results)
        self._program = recorder.program()
        self._least = _least_state(network)

    def __call__(self, state: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            values = np.maximum(state, self._least).astype(self._network.dtype)
            self._backend.copy(self._backend.from_host(values), self._network.state)
            self._program.run()
            losses = self._backend.to_host(self._results.losses)
            mean = float(losses.mean(dtype=np.float64))
        return mean if np.isfinite(mean) else np.nan


def _least_state(network: Sequential) -> np.ndarray:
    """Return the least value of each number in the state: minus infinity for weights, 0 for running variances."""
    marked, weights = network.copy(), network.get_weights()
    for name, buffer in buffers_of(network.layers).items():
        marked.set_weights({name: np.full(weights[name].shape, max(buffer.least, _LOW))}, partial=True)
    least: np.ndarray = marked.backend.to_host(marked.state).astype(np.float64)
    least[: len(network.all_parameters)] = -np.inf
    return least
