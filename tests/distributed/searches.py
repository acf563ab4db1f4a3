"""Fits of estimators that several ranks share out."""

from __future__ import annotations

import hashlib
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradflow as gf
from gradflow.sklearn import MLPClassifier, MLPRegressor, PackSearchCV

X = np.random.default_rng(0).normal(size=(90, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
ALPHAS: dict[str, Any] = {"alpha": [1e-5, 1e-3, 0.1], "hidden_layer_sizes": [(8,), (6, 6)]}


def classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier(**({"max_iter": 4, "random_state": 0} | settings))


def search(estimator: Any = None, drawn: Any = None, **settings: Any) -> PackSearchCV:
    """Return a search that has not been fitted."""
    options: dict[str, Any] = {"n_iter": 3, "random_state": 1, "cv": 3} | settings
    return PackSearchCV(classifier() if estimator is None else estimator, ALPHAS if drawn is None else drawn, **options)


def _checksum(*found: Any) -> str:
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _of(searched: PackSearchCV) -> str:
    """Return the results of a search, but its times, as a checksum."""
    results = {name: list(of) for name, of in searched.cv_results_.items() if "time" not in name}
    if not searched.refit:
        return _checksum(results, hasattr(searched, "best_estimator_"))
    best = searched.best_estimator_.predict_proba(X).tobytes()
    return _checksum(results, searched.best_params_, searched.best_index_, searched.best_score_, searched.refit, best)


def _fitted(estimator: Any) -> str:
    networks = [network.state.tobytes() for network in getattr(estimator, "ensemble_", [])]
    return _checksum(networks, estimator.predict(X).tobytes(), estimator.n_iter_)


class Picky(gf.Callback):
    """Raises an error where the network is wide."""

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        if trainer.network.layers[0].n_out == 7:
            raise ValueError("no such luck")


def _inner_search() -> GridSearchCV:
    return GridSearchCV(classifier(), {"alpha": [1e-5, 0.1]}, cv=2)


ALIKE: dict[str, Callable[[], str]] = {
    "search": lambda: _of(search().fit(X, Y, sample_weight=np.linspace(0.1, 1, 90))),
    "fewer fits than ranks": lambda: _of(search(n_iter=1, cv=ShuffleSplit(1, random_state=0)).fit(X, Y)),
    "several scores": lambda: _of(search(scoring=["accuracy", "f1"], refit="f1", return_train_score=True).fit(X, Y)),
    "search in a search": lambda: _of(
        search(_inner_search(), {"estimator__max_iter": [2, 3]}, n_iter=2, threads=1).fit(X, Y)
    ),
    "no refit": lambda: _of(search(refit=False).fit(X, Y)),
    "pipeline": lambda: _of(
        search(make_pipeline(StandardScaler(), classifier()), {"mlpclassifier__alpha": [0, 1]}, n_iter=2).fit(X, Y)
    ),
    "of another library": lambda: _of(search(LogisticRegression(), {"C": [0.1, 1, 10]}).fit(X, Y)),
    "failing fits": lambda: _of(
        search(classifier(callbacks=[Picky()]), {"hidden_layer_sizes": [(8,), (7,)]}, n_iter=2, error_score=0.25).fit(
            X, Y
        )
    ),
    "members": lambda: _fitted(classifier(n_members=3).fit(X, Y)),
    "members of a recipe": lambda: _fitted(classifier(recipe="tabpack", n_members=3, max_iter=2).fit(X, Y)),
    "early stopped members": lambda: _fitted(
        MLPRegressor(n_members=2, early_stopping=True, max_iter=4, random_state=0).fit(X, Y)
    ),
}
"""Fits that give the same bits on any number of ranks."""


class Does(gf.Callback):
    """Does something on rank 1 of two, after the second epoch."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if epoch == 2 and RANK == 1:
            self.do()


RANK = 0


def fail() -> None:
    raise ValueError("no such luck")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _endless_classifier(do: Callable[[], object]) -> MLPClassifier:
    return classifier(max_iter=10**6, n_iter_no_change=10**6, callbacks=[Does(do)])


def _endless(do: Callable[[], object]) -> PackSearchCV:
    return search(_endless_classifier(do), error_score="raise", threads=1)


DIFFERENT: dict[str, Callable[[], object]] = {
    "fails": lambda: _endless(fail).fit(X, Y),
    "interrupted": lambda: _endless(interrupt).fit(X, Y),
    "data": lambda: search().fit(X + 1e-9 * RANK, Y),
    "bad data": lambda: search().fit(X, Y if RANK == 0 else Y[1:]),
    "candidates": lambda: search(random_state=RANK).fit(X, Y),
    "folds": lambda: search(cv=KFold(3, shuffle=True, random_state=RANK)).fit(X, Y),
    "settings": lambda: search(classifier(max_iter=4 + RANK)).fit(X, Y),
    "refit": lambda: search(classifier(callbacks=[Does(lambda: None)])).fit(X, Y),
    "seeds of members": lambda: classifier(n_members=2, random_state=RANK).fit(X, Y),
    "a member fails": lambda: _endless_classifier(fail).set_params(n_members=2).fit(X, Y),
    "minimized": lambda: classifier(solver="lbfgs", random_state=RANK).fit(X, Y),
}
"""Fits that ranks cannot make together."""


def main() -> None:
    """Do everything on all ranks, and print what each has; on three, only what they can do together."""
    global RANK
    RANK = gf.distributed.world().rank
    warnings.simplefilter("ignore")
    for name, do in ALIKE.items():
        print(f"{RANK}: {name}: {do()}", flush=True)
    if gf.distributed.world().size > 2:
        return
    drawn = search(classifier(random_state=None)).fit(X, Y)  # another seed for each fit
    print(f"{RANK}: without seeds: {_of(drawn)}", flush=True)
    for name, do_other in DIFFERENT.items():
        try:
            do_other()
        except (Exception, KeyboardInterrupt) as error:
            print(f"{RANK}: {name}: {type(error).__name__}: {error}", flush=True)
