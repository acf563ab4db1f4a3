"""`MLPClassifier`, with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from gradflow.data.rules import ColumnRule
from gradflow.data.weights import weights_by_number
from gradflow.errors import DataError
from gradflow.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy, get_loss
from gradflow.recipes import Recipe
from gradflow.schedules import Schedule, Scheduled
from gradflow.sklearn.by_recipe import recipe_of
from gradflow.sklearn.estimator import MLPEstimator
from gradflow.sklearn.inputs import as_numpy
from gradflow.sklearn.rows import Rows
from gradflow.training import Checkpoint


class MLPClassifier(ClassifierMixin, MLPEstimator):  # type: ignore[misc]
    """A multi-layer perceptron that predicts classes: scikit-learn's `MLPClassifier`, trained by gradflow.

    Every parameter and attribute of scikit-learn's estimator has its name, default and meaning, so that a program only
    changes the import. With the same ``random_state`` the initial weights are the same too, and the steps on one batch
    of all rows; shuffles differ. The last batch of an epoch, if it is smaller, has the penalty of the others, where
    scikit-learn's is larger; sample weights are relative to their mean over all rows, not over a batch. The network has
    the type of X, float32 or float64.

    Args:
        hidden_layer_sizes: the widths of the hidden layers.
        activation: "identity", "logistic", "tanh", "relu", or any other activation of gradflow, such as "gelu".
        solver: "adam", "sgd", or "lbfgs" for small data.
        alpha: the L2 penalty: alpha / 2 · Σ weight² / rows of a batch is added to its loss.
        batch_size: rows of a batch; "auto" is 200.
        learning_rate: for "sgd": "constant", "invscaling" or "adaptive" (`gradflow.sklearn.solver.Solver`).
        learning_rate_init: the learning rate at first.
        power_t: the exponent of "invscaling".
        max_iter: maximum number of epochs, or of iterations of "lbfgs".
        shuffle: shuffle the rows in each epoch.
        random_state: a seed or a generator, for the initial weights, shuffles, dropout and the split.
        tol: the improvement that counts; for "lbfgs" the largest entry of the gradient at which it ends.
        verbose: print the loss of each epoch.
        warm_start: continue with the weights of the last fit.
        momentum, nesterovs_momentum: for "sgd".
        early_stopping: hold out rows, stop when their score does not improve, and keep the weights of the best epoch.
        validation_fraction: the fraction held out; classes keep their proportions.
        beta_1, beta_2, epsilon: for "adam".
        n_iter_no_change: epochs without improvement before training ends.
        max_fun: maximum number of evaluations of "lbfgs".
        loss: "log_loss", or a loss of gradflow, such as ``gradflow.SoftmaxCrossEntropy(label_smoothing=0.1)``.
        class_weight: the weight of each class by its name, 1 for the others; or "balanced".
        scoring: what early stopping watches: a scorer of scikit-learn or its name; None is the accuracy.
        standardize: standardize numbers inside the network, in float32; gaps become the mean, and are marked.
        categorical_features: "from_dtype" encodes columns of categories or text inside the network, each category as an
            input; "embedding" learns a vector for each; or a rule for them, such as ``gradflow.Embedding(size=8)``;
            None refuses them.
        rules: the rules of single columns, as in `gradflow.data.fit_preprocessing`, by name, or by position in an
            array: ``{"day": gradflow.data.Dates()}``.
        recipe: the name of a recipe for tables, "realmlp", "tabm", "tabpack", "plain" or "auto", or one with settings
            of its own, such as ``gradflow.recipes.RealMLPRecipe(epochs=100)``. It decides on the preprocessing of
            columns, also of text and missing values, on network, optimizer and schedules, and chooses the best epoch on
            validation rows, as ``early_stopping`` does. ``hidden_layer_sizes``, ``activation``, ``dropout``,
            ``learning_rate_init``, ``batch_size``, ``max_iter``, ``n_iter_no_change`` and ``n_members`` change its
            settings unless they are at their defaults, and ``scoring`` decides which epoch is best: "neg_log_loss", as
            without it, "accuracy", "roc_auc" or another name. Other parameters of network and solver are refused.
        dropout: the dropout rate after each hidden activation, or a schedule of it.
        normalization: "batch" or "layer" normalization in each hidden layer.
        residual: shortcuts around hidden layers that keep the width.
        n_members: number of networks to train at once, from other seeds; predictions are the mean of theirs, and fitted
            attributes those of the first.
        schedule: the learning rate in each fit, in place of ``learning_rate`` and ``learning_rate_init``: a schedule of
            gradflow, such as ``gradflow.CosineSchedule(0.01, warmup=2)``, or a function of the time in epochs. The
            names "cosine", "coslog", "flat_cosine" and "one_cycle" stand for schedules with ``learning_rate_init`` as
            the highest rate, which end after ``max_iter`` epochs. Set ``n_iter_no_change=numpy.inf`` to let a schedule
            reach its end.
        clip_norm, average, precision, threads, callbacks: as in `gradflow.Trainer` and its `fit`.
        output: a folder for the run, as in `gradflow.Trainer.fit`; each fit replaces it, and a search needs None.
        checkpoint: when to save checkpoints to ``output``, a `gradflow.Checkpoint`; `gradflow.load` reads the last one
            as a network, even after the process was killed.
        backend, device: as in `gradflow.Sequential`.

    Attributes:
        classes_: the classes, sorted (n_classes,).
        coefs_, intercepts_: the weights (n_in, n_out) and biases (n_out,) of the dense layers, read-only copies.
        loss_, best_loss_, loss_curve_: the last loss with its penalty, the smallest, and that of each epoch.
        validation_scores_, best_validation_score_: the scores of early stopping, else None.
        n_iter_, t_: the number of epochs of the last fit, and of rows seen.
        n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: as in scikit-learn.
        ensemble_: the `gradflow.Ensemble` of all networks, if ``n_members`` is above 1.
        network_: the `gradflow.Sequential`, with the names of the classes, which `gradflow.save` writes.
    """

    classes_: np.ndarray

    def __init__(
        self,
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
        loss: str | Loss = "log_loss",
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.__dict__.update({name: given[name] for name in MLPClassifier._get_param_names()})

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
        """Train on inputs X (rows, n_features), an array, a table or a sparse matrix, and classes y.

        Args:
            X: the inputs.
            y: the class of each row, of any type, (rows,); or 0 and 1 for each of several labels, (rows, n_labels).
            sample_weight: the weight of each row, (rows,), at least 0.
            X_val, y_val, sample_weight_val: data on which early stopping computes its score, in place of a part of the
                training data.

        Raises:
            ValueError: for parameters out of range, data that do not fit, or training that diverges; then the
                estimator is what it was before.
        """
        return self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))

    @available_if(MLPEstimator._has_partial_fit)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:  # noqa: N803
        """Train for one pass over some data, and keep the state of the optimizer for the next.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: all classes that will ever occur, (n_classes,): needed by the first call, may be omitted later.

        Raises:
            ValueError: as for `fit`; if ``classes`` are missing, differ from those of earlier calls, or lack one in y.
        """
        before = dict(self.__dict__)
        if classes is not None:
            given = unique_labels(as_numpy(classes))
            if hasattr(self, "network_") and not np.array_equal(given, self.classes_):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
                )
            self.classes_ = given
        elif not hasattr(self, "network_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        try:
            return self._fit(X, y, sample_weight, is_partial=True)
        except BaseException:
            self.__dict__ = before
            raise

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the class of each row of X, (rows,); for several labels 0 and 1, (rows, n_labels)."""
        now = self._now
        return now._decoded(now._outputs(X))

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of each class, (rows, n_classes), in the order of ``classes_``."""
        now = self._now
        probabilities = now._outputs(X)
        if now.n_outputs_ > 1:
            return probabilities
        if len(now.classes_) == 1 and not now._is_multilabel:
            return np.ones_like(probabilities)
        return np.hstack([1 - probabilities, probabilities])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the accuracy on labels y, (rows,); for several labels (rows, n_labels), that of whole rows."""
        known = self.__dict__.get("classes_")
        if sample_weight is None and known is not None and isinstance(y, np.ndarray) and y.dtype == known.dtype:
            predicted = self.predict(X)
            if predicted.shape == y.shape and y.dtype.kind in "biuU" and y.ndim == 1:
                return float(np.mean(predicted == y))  # as scikit-learn does, after checks that take longer
        return float(super().score(X, y, sample_weight))

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            logarithms: np.ndarray = np.log(self.predict_proba(X))
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    # -- what the base class asks for ---------------------------------------------------------------------------------

    def _loss_names(self) -> Sequence[str]:
        return ("log_loss",)

    def _make_loss(self) -> Loss:
        if self.loss == "log_loss" and self.out_activation_ != "softmax":
            return BinaryCrossEntropy()
        if self.loss == "log_loss":
            return SoftmaxCrossEntropy() if self.recipe is None else recipe_of(self).loss_of_classes()
        return get_loss(self.loss)

    def _encode(self, y: np.ndarray, *, is_first: bool, is_partial: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        is_multilabel = type_of_target(y) == "multilabel-indicator"
        if is_first and not is_partial:
            self.classes_ = np.arange(y.shape[1]) if is_multilabel else unique_labels(y)
        else:
            self._check_classes(y, is_multilabel=is_multilabel, is_partial=is_partial)
        if is_first:
            self._is_multilabel = is_multilabel
            self._set_outputs()
        if is_multilabel:
            return np.asarray(y)
        encoded = np.searchsorted(self.classes_, y)
        return encoded if self.out_activation_ == "softmax" else encoded.astype(np.float32)

    def _set_outputs(self) -> None:
        """Set the number of outputs, and their activation."""
        fewest = 3 if self.recipe is None else 2
        is_softmax = len(self.classes_) >= fewest and not self._is_multilabel
        if isinstance(self.loss, Loss) or self.loss != "log_loss":
            activation = get_loss(self.loss).output_activation
            if activation not in ("sigmoid", "softmax") or (is_softmax and activation == "sigmoid"):
                raise DataError(
                    f"loss={self.loss!r} does not train a classifier of {len(self.classes_)} classes; use "
                    "gradflow.SoftmaxCrossEntropy, gradflow.BinaryCrossEntropy for two classes or labels, or 'log_loss'"
                )
            is_softmax = activation == "softmax"
        self.out_activation_ = "softmax" if is_softmax else "logistic"
        self.n_outputs_ = len(self.classes_) if is_softmax or self._is_multilabel else 1

    def _check_classes(self, y: np.ndarray, *, is_multilabel: bool, is_partial: bool) -> None:
        """Raise if these are not the classes of the fit that is continued."""
        if is_multilabel:
            if y.shape[1] != len(self.classes_):
                raise ValueError(f"y has {y.shape[1]} labels, but the estimator was fitted with {len(self.classes_)}")
            return
        classes = unique_labels(y)
        if self.warm_start and not is_partial and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _original(self, targets: np.ndarray) -> np.ndarray:
        return targets if self._is_multilabel else np.asarray(self.classes_[targets.astype(int)])

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        return None if self._is_multilabel else self._original(targets)

    def _class_names(self) -> list[Any] | None:
        is_named = self._make_loss().takes_classes and not self._is_multilabel and len(self.classes_) > 1
        return self.classes_.tolist() if is_named and self.classes_.dtype.kind in "biufUO" else None

    def _class_weights(self) -> Any:
        if self.network_.classes is not None:
            return self.class_weight
        return weights_by_number(self.class_weight, tuple(self.classes_.tolist()))

    def _score_targets(self, x: Any, targets: np.ndarray, weight: np.ndarray | None) -> float:
        outputs = self._predictions(x)
        if not np.isfinite(outputs).all():
            return float("nan")
        if self.out_activation_ == "softmax":
            correct = outputs.argmax(axis=1) == targets
        else:
            correct = ((outputs > 0.5) == (targets.reshape(outputs.shape) > 0.5)).all(axis=1)
        return float(np.average(correct, weights=weight))

    def _shown_loss(self, rows: Rows) -> Callable[[float], float]:
        factor = self._factor(self._make_loss())
        return lambda loss: loss * factor

    def _decoded(self, outputs: np.ndarray) -> np.ndarray:
        """Return the classes of predictions (rows, n_outputs)."""
        if self._is_multilabel:
            return (outputs > 0.5).astype(int)
        if self.out_activation_ == "softmax":
            return np.asarray(self.classes_[outputs.argmax(axis=1)])
        positive = (outputs[:, 0] > 0.5).astype(int)
        return np.asarray(self.classes_[np.minimum(positive, len(self.classes_) - 1)])
