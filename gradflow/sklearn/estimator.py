"""The base class of `MLPClassifier` and `MLPRegressor`: training, and fitted attributes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from gradflow.backends.blas import using_threads
from gradflow.checks import positive_integer
from gradflow.data.frames import as_columns
from gradflow.data.preprocessing import Preprocessing
from gradflow.distributed import alone, world
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError, DivergedError, warn
from gradflow.layers import EmbedColumns
from gradflow.losses import BinaryCrossEntropy, Loss, PoissonLoss
from gradflow.losses.base import LOSSES
from gradflow.network import Sequential
from gradflow.optimizers import LBFGS
from gradflow.sklearn.by_recipe import fit_by_recipe
from gradflow.sklearn.inputs import as_numpy, check_kind, check_labels, check_no_text, explaining, fit_inputs
from gradflow.sklearn.layers import initial_weights, make_stack
from gradflow.sklearn.members import fit_at_once, may_use_gpu
from gradflow.sklearn.parameters import check_parameters, check_same_network, hidden_sizes, of_network, schedule_of
from gradflow.sklearn.ranks import check_same, share_out
from gradflow.sklearn.rows import Rows
from gradflow.sklearn.solver import Solver
from gradflow.sklearn.sparse import dense_if_small, is_sparse, row_blocks
from gradflow.sklearn.watch import Penalty, Watch
from gradflow.training import Trainer
from gradflow.training.data.prepare import prepare_fit
from gradflow.training.runs.ranks import check_alike, one_voice
from gradflow.training.runs.run_folder import described_run
from gradflow.training.signals import Interruption
from gradflow.training.step.lbfgs import Minimization
from gradflow.training.step.objective import Objective
from gradflow.training.step.optimizer_state import OptimizerState
from gradflow.training.step.ranks import check_ranks
from gradflow.training.step.training_step import TrainingStep
from gradflow.training.watch.unit_size import Remedies, advising

_BATCH_ROWS = 200  # of batch_size="auto"
_DTYPES = (np.float64, np.float32)
_SPARSE = ("csr", "csc")
_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Epochs(NamedTuple):
    """The epochs of a fit, ready to begin.

    Attributes:
        trainer: the trainer.
        watch: the callback that keeps the attributes of the estimator.
        settings: other arguments of `Trainer.fit`.
    """

    trainer: Trainer
    watch: Watch
    settings: dict[str, Any]


class MLPEstimator(BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators.

    A subclass defines the loss, and how targets are encoded, scored and predicted.
    """

    network_: Sequential
    ensemble_: Ensemble
    n_outputs_: int
    out_activation_: str

    # -- what subclasses define ---------------------------------------------------------------------------------------

    @abstractmethod
    def _make_loss(self) -> Loss:
        """Return the loss."""

    @abstractmethod
    def _encode(self, y: np.ndarray, *, is_first: bool, is_partial: bool) -> np.ndarray:
        """Return targets as the loss takes them, and set ``n_outputs_`` and ``out_activation_``."""

    @abstractmethod
    def _original(self, targets: np.ndarray) -> np.ndarray:
        """Return encoded targets as the user gave them."""

    @abstractmethod
    def _score_targets(self, x: Any, targets: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score on encoded targets."""

    @abstractmethod
    def _shown_loss(self, rows: Rows) -> Callable[[float], float]:
        """Return the function that converts a mean loss of gradflow to what scikit-learn shows, without the penalty."""

    # -- training -----------------------------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        *,
        validation: tuple[Any, Any, Any] = (None, None, None),
        is_partial: bool = False,
    ) -> Self:
        if not is_partial and self.recipe is None and positive_integer("n_members", self.n_members) > 1:
            return self._fit_members(X, y, sample_weight, validation)
        fitted, network = object.__new__(type(self)), self.__dict__.get("network_")
        fitted.__dict__.update(self.__dict__)
        weights = None if network is None else (network.get_weights(), network.epochs_begun)
        try:
            fitted._train(X, y, sample_weight, validation, is_partial=is_partial)
        except BaseException:
            if network is not None and weights is not None:
                network.set_weights(weights[0])
                network.epochs_begun = weights[1]
            raise
        self._become(fitted)
        return self

    def _train(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        *,
        is_partial: bool,
    ) -> None:
        """Train, and set the fitted attributes one by one."""
        check_parameters(self, [*LOSSES, *self._loss_names()], is_partial=is_partial)
        is_first = not (self.__sklearn_is_fitted__() and (self.warm_start or is_partial))
        if not is_first:
            if "_made_with" not in self.__dict__:
                raise DataError("a recipe has trained this network; clone the estimator to train another one")
            check_same_network(self, self._made_with)
        rows = self._validated(X, y, sample_weight, is_first=is_first, is_partial=is_partial)
        random = check_random_state(self.random_state)
        if self.recipe is not None:
            self.__dict__.pop("ensemble_", None)
            fit_by_recipe(self, *self._with_validation(rows, validation, random), random)
            return
        if is_first:
            self._begin(rows.x, self._fitted_inputs(rows.x), random)
        self.__dict__.pop("ensemble_", None)
        with advising(self._remedies()):
            if is_partial:
                self._fit_once(rows)
                return
            rows, held_out = self._with_validation(rows, validation, random)
            if self.solver == "lbfgs":
                self._minimize(rows)
            else:
                self._fit_epochs(rows, held_out)

    @property
    def _now(self) -> Self:
        """This estimator with the attributes of now: one whose attributes a fit in another thread does not replace."""
        now = object.__new__(type(self))
        now.__dict__ = self.__dict__
        return now

    def _become(self, fitted: MLPEstimator) -> None:
        """Take over what was fitted, at once, so that other threads see all of it or none; parameters stay."""
        others = {name: value for name, value in self.__dict__.items() if not name.endswith("_")}
        parameters = {name: self.__dict__[name] for name in self._get_param_names()}
        self.__dict__ = others | fitted.__dict__ | parameters

    def _fit_members(self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any]) -> Self:  # noqa: N803
        """Fit an estimator for each member, and keep their ensemble, and the other attributes of the first. Several
        ranks share out the members."""
        check_parameters(self, [*LOSSES, *self._loss_names()], is_partial=False)
        ranks = world()
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=self.n_members)
        settings: dict[str, Any] = {"n_members": 1, "threads": None}
        members = [clone(self).set_params(random_state=int(seed), **settings) for seed in seeds]

        def fit(own: Sequence[Self]) -> list[dict[str, Any]]:
            fits = [partial(member._fit, X, y, sample_weight, validation=validation) for member in own]
            fit_at_once(fits, 1 if may_use_gpu(self) else self.threads or ranks.threads, ranks)
            return [member._learned() for member in own]

        with ranks.together(), one_voice(ranks), alone():
            check_same(ranks, self, [X, y, sample_weight, validation], {"other seeds": seeds})
            for member, learned in zip(members, share_out(ranks, members, fit), strict=True):
                member.__dict__.update(learned)
        members[0].__dict__["ensemble_"] = Ensemble([member.network_ for member in members])
        self._become(members[0])
        return self

    def _learned(self) -> dict[str, Any]:
        """Return the attributes that are no parameters."""
        names = set(self._get_param_names())
        return {name: value for name, value in self.__dict__.items() if name not in names}

    def _validated(self, X: Any, y: Any, sample_weight: Any, *, is_first: bool, is_partial: bool) -> Rows:  # noqa: N803
        is_numeric = not is_classifier(self)
        check_kind(X)
        X, y, sample_weight = map(as_numpy, (X, y, sample_weight))  # noqa: N806
        if is_numeric:
            check_no_text(y, type(self).__name__)
        elif y is not None:
            check_labels(y)
        if self._takes_tables:
            if y is None:
                raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
            x = self._as_inputs(X, reset=is_first)
            y = check_array(y, ensure_2d=False, dtype="numeric" if is_numeric else None, input_name="y")
            check_consistent_length(x, y)
        else:
            checks = {"multi_output": True, "y_numeric": is_numeric}
            with explaining(X, is_fit=is_first):
                x, y = validate_data(self, X, y, accept_sparse=_SPARSE, dtype=_DTYPES, reset=is_first, **checks)
            x = x.toarray() if is_sparse(x) and self.solver == "lbfgs" else dense_if_small(x)
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, x, ensure_non_negative=True)
        if weight is not None and not weight.any():  # which versions of scikit-learn before 1.8 accept
            raise DataError("sample_weight is 0 in every row; nothing would be learned")
        return Rows(x, self._encode(y, is_first=is_first, is_partial=is_partial), weight)

    @property
    def _takes_tables(self) -> bool:
        is_tabular = self.standardize or self.categorical_features is not None or self.rules
        return bool(is_tabular or self.recipe is not None)

    def _as_inputs(self, X: Any, *, reset: bool) -> Any:  # noqa: N803
        """Return validated inputs: an array (rows, n_features), or a table for the network's preprocessing."""
        if self.recipe is not None and is_sparse(X):
            raise DataError("a recipe needs the values of columns, not a sparse matrix; pass X.toarray()")
        if self._takes_tables and not is_sparse(X):
            if isinstance(X, list | tuple) and np.asarray(X).dtype.kind == "U":
                X = np.asarray(X, object)  # noqa: N806  # numbers beside text stay numbers
            if not hasattr(X, "columns"):
                X = check_array(X, dtype=None, ensure_all_finite="allow-nan")  # noqa: N806
            as_columns("X", X)  # refuses a table with two columns of one name, among others
            validate_data(self, X, skip_check_array=True, reset=reset)
            return X
        with explaining(X, is_fit=reset):
            x = validate_data(self, X, accept_sparse=_SPARSE, dtype=_DTYPES, reset=reset)
        return x.toarray() if is_sparse(x) and reset else dense_if_small(x)

    def _fitted_inputs(self, x: Any) -> Preprocessing | None:
        """Return the preprocessing of inputs, fitted on them; None without."""
        if not self._takes_tables:
            return None
        return fit_inputs(
            x, standardize=self.standardize, categorical_features=self.categorical_features, rules=self.rules
        )

    def _begin(self, x: Any, preprocessing: Preprocessing | None, random: Any) -> None:
        """Make the network, and reset the attributes that later fits continue."""
        dtype = x.dtype if preprocessing is None else np.dtype(np.float32)
        n_in = x.shape[1] if preprocessing is None else preprocessing.n_out
        first = []
        if preprocessing is not None and preprocessing.tables:
            first = [EmbedColumns(n_in, preprocessing.tables)]
            n_in = first[0].n_out
        sizes = [n_in, *hidden_sizes(self.hidden_layer_sizes), self.n_outputs_]
        stack = make_stack(
            sizes,
            self.activation,
            first=first,
            dropout=self.dropout,
            normalization=self.normalization,
            residual=self.residual,
        )
        weights = initial_weights(sizes, stack.dense, self.activation, random, dtype)
        seed = int(random.randint(2**31 - 1))
        has_others = bool(first) or self.normalization is not None  # which begin with gradflow's initial values
        settings = {"dtype": dtype.name, "seed": seed, "backend": self.backend, "device": self.device}
        self.network_ = Sequential(stack.layers, weights=None if has_others else weights, **settings)
        self.network_.preprocessing = preprocessing
        if has_others:
            self.network_.set_weights(weights, partial=True)
        self.network_.output_activation = self._make_loss().output_activation
        self.network_.classes = self._class_names()
        self._dense_names = stack.dense
        self._made_with = of_network(self)
        self.n_layers_ = len(sizes)
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        self._optimizer_state: OptimizerState | None = None
        for name in ("loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_"):
            self.__dict__.pop(name, None)

    def _begin_epochs(self) -> None:
        """Prepare the attributes that epochs change; a warm start may follow fits with and without early stopping."""
        known = dict(self.__dict__).get
        self.n_iter_, self.loss_curve_ = 0, list(known("loss_curve_", []))
        self.best_loss_: float | None = None
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: float | None = None
        if self.early_stopping:
            score = known("best_validation_score_")
            self.validation_scores_ = list(known("validation_scores_") or [])
            self.best_validation_score_ = -math.inf if score is None else score
        else:
            loss = known("best_loss_")
            self.best_loss_ = math.inf if loss is None else loss

    def _trainer(self, loss: Loss, rows: Rows, batch_rows: int, *, is_partial: bool) -> Trainer:
        factor = self._factor(loss)
        return Trainer(
            self.network_,
            loss,
            self._optimizer.optimizer(factor=factor, is_partial=is_partial),
            l2=self.alpha / (batch_rows * rows.mean_weight * factor),
            clip_norm=self.clip_norm,
            average=self.average,
            standardize_targets=self._standardizes_targets(loss),
            precision=self.precision,
            threads=self.threads,
        )

    def _fit_epochs(self, rows: Rows, validation: Rows | None) -> None:
        fit, error = self._epochs(rows, validation), None
        x, targets, weight = self._as_given(rows).source
        settings = {"progress": False, "output": self.output, "overwrite": self.output is not None}
        try:
            fit.trainer.fit(x, targets, sample_weight=weight, checkpoint=self.checkpoint, **settings, **fit.settings)
        except (DivergedError, KeyboardInterrupt) as caught:
            error = caught
        self._epochs_ended(fit, error)

    def _epochs(self, rows: Rows, validation: Rows | None) -> Epochs:
        """Prepare the epochs of a fit.

        Args:
            rows: the rows to train on, whose inputs are not looked at.
            validation: the rows for early stopping.
        """
        loss, batch_rows = self._make_loss(), self._batch_rows(rows.n_rows)
        self._optimizer = self._solver()
        trainer = self._trainer(loss, rows, batch_rows, is_partial=False)
        watch = self._watch(rows, batch_rows, None if validation is None else partial(self._score_on, validation))
        self._begin_epochs()
        settings = {
            "epochs": self.max_iter,
            "batch_size": batch_rows,
            "class_weight": self._class_weights(),
            "shuffle": self.shuffle,
            "callbacks": [watch, *self.callbacks],
        }
        return Epochs(trainer, watch, settings)

    def _epochs_ended(self, fit: Epochs, error: BaseException | None) -> None:
        """Set the attributes that the end of the epochs decides, which may have been a divergence or Ctrl-C.

        Raises:
            ValueError: if the fit diverged, without early stopping, which has the best weights.
        """
        if isinstance(error, DivergedError):
            if not self.early_stopping:
                raise ValueError(f"{_NOT_FINITE} {error}") from error
            fit.watch.diverged()
        elif error is not None:
            warn("Training interrupted by user.", UserWarning)
        self._optimizer_state = fit.trainer.optimizer_state
        if self.n_iter_ == self.max_iter and not fit.watch.has_converged:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
            )

    def _watch(self, rows: Rows, batch_rows: int, score: Callable[[], float] | None) -> Watch:
        count = rows.n_rows
        penalty = Penalty(self.alpha, count * rows.mean_weight, -(-count // batch_rows))
        return Watch(
            self,
            self._optimizer,
            rows=count,
            penalty=penalty,
            loss=self._shown_loss(rows),
            score=score,
        )

    def _fit_once(self, rows: Rows) -> None:
        """Train for one pass, with the optimizer as the last pass left it."""
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        loss, batch_rows = self._make_loss(), self._batch_rows(rows.n_rows)
        if not hasattr(self, "_optimizer"):
            self._optimizer = self._solver()
        trainer = self._trainer(loss, rows, batch_rows, is_partial=True)
        trainer.optimizer_state = self._optimizer_state
        watch = self._watch(rows, batch_rows, None)
        self._begin_epochs()
        watch.on_fit_begin(trainer, 1)
        try:
            x, targets, weight = self._as_given(rows).source
            values = trainer.partial_fit(
                x,
                targets,
                batch_size=batch_rows,
                sample_weight=weight,
                class_weight=self._class_weights(),
                shuffle=self.shuffle,
            )
        except DivergedError as error:
            raise ValueError(f"{_NOT_FINITE} {error}") from error
        watch.on_epoch_end(trainer, 1, values)
        self._optimizer_state = trainer.optimizer_state

    def _minimize(self, rows: Rows) -> None:
        """Run L-BFGS."""
        loss, network, count = self._make_loss(), self.network_, rows.n_rows
        factor = self._factor(loss)
        optimizer = LBFGS(self.max_iter, gradient_tolerance=self.tol / factor, max_evaluations=self.max_fun)
        l2 = self.alpha / (count * rows.mean_weight * factor)
        objective, ranks = Objective.checked(network, loss, optimizer, l2=l2), world().on(network.backend)
        with (
            network.access.training(),
            using_threads(network.backend.blas, self.threads or ranks.threads),
            ranks.together() as ending,
            one_voice(ranks),
        ):
            data, _, network.output_scale = prepare_fit(
                network,
                loss,
                rows.x,
                self._as_given(rows).targets,
                sample_weight=rows.weight,
                class_weight=self._class_weights(),
                standardize_targets=self._standardizes_targets(loss),
            )
            check_ranks(objective, ranks, rows=count, batch_size=count, parts=1)
            if ranks.size > 1:
                check_alike(ranks, network, described_run(objective, {}, data, None))
            step = TrainingStep(objective, data, batch_size=count, shuffle=False, world=ranks)
            search = Minimization(objective, step)
            with Interruption() as interruption:
                is_finished = search.run(lambda: any(ranks.gathered(interruption.requested)))
                ending.is_interrupted = interruption.requested
        if not is_finished:
            raise KeyboardInterrupt
        minimum = search.minimum
        if not (np.isfinite(minimum.value) and np.isfinite(minimum.point).all()):
            raise ValueError(_NOT_FINITE)
        self.n_iter_ = min(minimum.iterations, self.max_iter)
        squares = float(np.square(minimum.point[: network.n_decayed]).sum())
        penalty = Penalty(self.alpha, count * rows.mean_weight, 1).mean(squares, squares)
        self.loss_ = self._shown_loss(rows)(minimum.value - l2 / 2 * squares) + penalty
        if minimum.problem is not None:
            warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s): {minimum.problem}. Increase max_iter or "
                "max_fun, or scale the data",
                ConvergenceWarning,
            )

    def _with_validation(self, rows: Rows, given: tuple[Any, Any, Any], random: Any) -> tuple[Rows, Rows | None]:
        """Return the rows for training, and those for early stopping, if there is any."""
        if given[0] is None and given[1] is None:
            uses_epochs = self.early_stopping and self.solver != "lbfgs"
            if not uses_epochs and self.recipe is None:
                return rows, None
            split = rows.split if self.recipe is None else rows.split_anyway
            return split(self.validation_fraction, self._strata(rows.targets), random)
        if self.recipe is None and (not self.early_stopping or self.solver == "lbfgs"):
            raise DataError("X_val and y_val are for early stopping; pass early_stopping=True, and no solver='lbfgs'")
        if given[0] is None or given[1] is None:
            raise DataError("X_val and y_val belong together; pass both or neither")
        return rows, self._validated(*given, is_first=False, is_partial=True)

    def _score_on(self, rows: Rows) -> float:
        """Return the score that early stopping watches."""
        if self.scoring is None:
            return self._score_targets(*rows)
        weight = {} if rows.weight is None else {"sample_weight": rows.weight}
        # The rows have been validated, and may have lost their columns' names, which the scorer would miss.
        nameless = object.__new__(type(self))
        names = {"feature_names_in_"} if isinstance(rows.x, np.ndarray) else set()
        nameless.__dict__.update({name: value for name, value in self.__dict__.items() if name not in names})
        return float(check_scoring(self, self.scoring)(nameless, rows.x, self._original(rows.targets), **weight))

    def _batch_rows(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(_BATCH_ROWS, rows)
        if self.batch_size > rows:
            warn(
                f"batch_size={self.batch_size} is larger than the number of rows, {rows}, which form a single batch",
                UserWarning,
            )
        return min(int(self.batch_size), rows)

    def _factor(self, loss: Loss) -> float:
        """Return how many times scikit-learn's gradient, a sum over outputs, is gradflow's."""
        return float(self.n_outputs_) if isinstance(loss, BinaryCrossEntropy | PoissonLoss) else 1.0

    def _remedies(self) -> Remedies:
        """Return the terms of advice on training."""
        return Remedies(
            inputs="Pass standardize=True, or scale X first",
            targets="Pass standardize=True, or scale y first",
            learning_rate="learning_rate_init" if self.schedule is None else "a schedule with a rate",
            factor=self._factor(self._make_loss()) if self.solver == "sgd" else 1.0,
            gradients="Try activation='relu', normalization='batch' or 'layer', residual=True, or fewer layers",
            penalties="a smaller alpha",
        )

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Return classes that early stopping's split must keep in proportion; None if there are none."""
        return None

    def _standardizes_targets(self, loss: Loss) -> bool:
        return bool(self.standardize and loss.output_activation == "identity" and loss.takes_any_scale)

    def _class_names(self) -> list[Any] | None:
        """Return the names of the classes that the network keeps; None if it has none."""
        return None

    def _as_given(self, rows: Rows) -> Rows:
        """Return rows with the names of classes, if the network has them, in place of their numbers."""
        return rows if self.network_.classes is None else rows._replace(targets=self._original(rows.targets))

    def _class_weights(self) -> Any:
        """Return class weights as `Trainer.fit` takes them."""
        return None

    def _solver(self) -> Solver:
        return Solver(
            self.solver,
            self.learning_rate_init,
            self.learning_rate if (schedule := schedule_of(self)) is None else schedule,
            power_t=self.power_t,
            momentum=self.momentum,
            nesterovs_momentum=self.nesterovs_momentum,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    # -- parameters ---------------------------------------------------------------------------------------------------

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()  # from the signature, which takes a good part of a short fit
        return names

    @abstractmethod
    def _loss_names(self) -> Sequence[str]:
        """Return scikit-learn's names of losses."""

    # -- fitted attributes --------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.recipe is None
        tags.input_tags.allow_nan = self._takes_tables
        encodes = self.categorical_features is not None or self.rules or self.recipe is not None
        tags.input_tags.categorical = tags.input_tags.string = bool(encodes)
        return tags

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weight (n_in, n_out) of each layer: read-only copies; `set_weights` of ``network_`` changes them."""
        return self._dense("weight")

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The bias (n_out,) of each layer: read-only copies."""
        return self._dense("bias")

    def _dense(self, kind: str) -> list[np.ndarray]:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"this {type(self).__name__} is not fitted yet; call fit first")
        weights = self.network_.get_weights()
        arrays = [weights[f"{name}.{kind}"] for name in self._dense_names]
        for array in arrays:
            array.flags.writeable = False
        return arrays

    def _outputs(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return predictions (rows, n_outputs) of the network."""
        check_is_fitted(self)
        check_kind(X)
        return self._predictions(self._as_inputs(as_numpy(X), reset=False))

    def _predictions(self, x: Any) -> np.ndarray:
        model = self.__dict__.get("ensemble_", self.network_)
        if is_sparse(x):
            return np.concatenate([model.predict(block) for block in row_blocks(x)])
        outputs: np.ndarray = model.predict(x)
        return outputs

    def _has_partial_fit(self) -> bool:
        if self.recipe is not None:
            raise AttributeError("partial_fit is not available with a recipe, which chooses the best of all epochs")
        if self.solver not in ("sgd", "adam"):
            raise AttributeError(f"partial_fit is only available for the solvers sgd and adam, not {self.solver!r}")
        return True
