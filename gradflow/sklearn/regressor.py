"""`MLPRegressor`, with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from gradflow.data.rules import ColumnRule
from gradflow.errors import DataError
from gradflow.losses import HalfSquaredError, Loss, PoissonLoss, QuantileLoss, get_loss
from gradflow.recipes import Recipe
from gradflow.schedules import Schedule, Scheduled
from gradflow.sklearn.estimator import MLPEstimator
from gradflow.sklearn.inputs import as_numpy
from gradflow.sklearn.rows import Rows
from gradflow.training import Checkpoint

_SKLEARN_LOSSES = {"squared_error": HalfSquaredError, "poisson": PoissonLoss}


class MLPRegressor(RegressorMixin, MLPEstimator):  # type: ignore[misc]
    """A multi-layer perceptron that predicts numbers: scikit-learn's `MLPRegressor`, trained by gradflow.

    Every parameter and attribute of scikit-learn's estimator has its name, default and meaning, so that a program only
    changes the import. `MLPClassifier` describes what both have in common.

    Args:
        loss: "squared_error", "poisson", or a loss of gradflow, such as ``gradflow.QuantileLoss([0.1, 0.5, 0.9])``,
            which predicts several quantiles, or ``gradflow.HuberLoss()``.
        standardize: standardize inputs and targets inside the network; predictions are in the units of y, losses in
            those of the standardized targets. Counts of "poisson" stay as they are.
        scoring: what early stopping watches; None is `score`.
    """

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        scoring: Any = None,
        standardize: bool = False,
        categorical_features: str | ColumnRule | None = None,
        rules: Mapping[str | int, ColumnRule] | None = None,
        recipe: str | Recipe | None = None,
        dropout: Scheduled = 0.0,
        normalization: str | None = None,
        residual: bool = False,
        n_members: int = 1,
        schedule: str | Schedule | Callable[[float], float] | None = None,
        clip_norm: float | None = None,
        average: float | None = None,
        precision: str = "float32",
        backend: str = "auto",
        device: str | None = None,
        threads: int | None = None,
        callbacks: Sequence[Any] = (),
        output: Any = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        given = locals()
        self.__dict__.update({name: given[name] for name in MLPRegressor._get_param_names()})

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,  # noqa: N803
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on inputs X (rows, n_features), an array, a table or a sparse matrix, and numbers y.

        Args:
            X: the inputs.
            y: the target of each row, (rows,), or several, (rows, n_targets).
            sample_weight: the weight of each row, (rows,), at least 0.
            X_val, y_val, sample_weight_val: data on which early stopping computes its score, in place of a part of the
                training data.

        Raises:
            ValueError: for parameters out of range, data that do not fit, or training that diverges; then the
                estimator is what it was before.
        """
        return self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))

    @available_if(MLPEstimator._has_partial_fit)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train for one pass over some data, and keep the state of the optimizer for the next."""
        return self._fit(X, y, sample_weight, is_partial=True)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the prediction for each row of X, (rows,), or (rows, n_outputs) for several."""
        outputs = self._now._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return R² on targets y, (rows,) or (rows, n_targets); for quantiles their mean D², as `d2_pinball_score`."""
        if not isinstance(self._make_loss(), QuantileLoss):
            return float(super().score(X, y, sample_weight))
        targets = check_array(as_numpy(y), ensure_2d=False, dtype="numeric", input_name="y")
        outputs, weight = self._outputs(X), as_numpy(sample_weight)
        check_consistent_length(outputs, targets, weight)
        return self._score(targets.reshape(len(targets), -1), outputs, weight)

    # -- what the base class asks for ---------------------------------------------------------------------------------

    def _loss_names(self) -> Sequence[str]:
        return tuple(_SKLEARN_LOSSES)

    def _make_loss(self) -> Loss:
        known = _SKLEARN_LOSSES.get(self.loss) if isinstance(self.loss, str) else None
        return get_loss(self.loss) if known is None else known()

    def _encode(self, y: np.ndarray, *, is_first: bool, is_partial: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        loss, targets = self._make_loss(), np.reshape(y, (len(y), -1))
        if loss.output_activation != "identity":
            raise DataError(f"loss={self.loss!r} trains classifiers; use a regression loss, such as 'squared_error'")
        outputs = targets.shape[1] * loss.outputs_per_target
        if not is_first and outputs != self.n_outputs_:
            raise ValueError(f"y asks for {outputs} outputs, but the estimator was fitted with {self.n_outputs_}")
        self.n_outputs_ = outputs
        self.out_activation_ = "exp" if isinstance(loss, PoissonLoss) else "identity"
        return targets

    def _original(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def _predictions(self, x: Any) -> np.ndarray:
        outputs = super()._predictions(x)
        return np.exp(outputs) if self.out_activation_ == "exp" else outputs

    def _score_targets(self, x: Any, targets: np.ndarray, weight: np.ndarray | None) -> float:
        outputs = self._predictions(x)
        return self._score(targets, outputs, weight) if np.isfinite(outputs).all() else float("nan")

    def _score(self, targets: np.ndarray, outputs: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score of outputs for targets (rows, n_targets)."""
        loss = self._make_loss()
        if not isinstance(loss, QuantileLoss):
            return float(r2_score(targets, outputs, sample_weight=weight))
        predicted = outputs.reshape(*targets.shape, len(loss.quantiles))
        scores = [
            d2_pinball_score(targets, predicted[:, :, place], sample_weight=weight, alpha=level)
            for place, level in enumerate(loss.quantiles)
        ]
        return float(np.mean(scores))

    def _shown_loss(self, rows: Rows) -> Callable[[float], float]:
        kind, outputs = self._make_loss(), self.n_outputs_
        if isinstance(kind, HalfSquaredError):
            return lambda loss: loss / outputs
        if isinstance(kind, PoissonLoss):
            targets = rows.targets.astype(np.float64)
            logarithms = np.log(targets, out=np.zeros_like(targets), where=targets > 0)
            constant = float(np.average(targets * logarithms - targets, weights=rows.weight, axis=0).sum())
            return lambda loss: loss * outputs + constant
        return lambda loss: loss
