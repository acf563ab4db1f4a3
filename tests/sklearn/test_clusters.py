"""Searches on the workers of other schedulers, and the threads that a worker takes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score

from gradflow.backends.cpu.native import native_library
from gradflow.sklearn import MLPClassifier
from tests.docs.pages import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True)
VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
MODEL = MLPClassifier((16,), max_iter=10, random_state=0, standardize=True)


@contextmanager
def dask() -> Iterator[None]:
    import distributed

    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        yield


@contextmanager
def ray() -> Iterator[None]:
    import ray
    import ray.util.joblib

    ray.util.joblib.register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with joblib.parallel_config("ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()


def threads(_: object = None) -> int:
    """Return the maximum number of threads of matmuls and kernels in this process."""
    library = native_library()
    return 1 if library is None or library.blas is None else library.blas.threads or 1


def check_search(scheduler: AbstractContextManager[Any]) -> None:
    """Check that a search on the workers of a scheduler gives the same bits, and that each takes one thread."""
    search = GridSearchCV(MODEL, {"alpha": [1e-4, 1e-2], "schedule": [None, "cosine"]}, cv=2, error_score="raise")
    expected = clone(search).fit(X, Y)
    with scheduler:
        search.fit(X, Y)
        assert set(joblib.Parallel()(joblib.delayed(threads)() for _ in range(4))) == {1}
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert search.predict_proba(X).tobytes() == expected.predict_proba(X).tobytes()


@pytest.mark.parametrize("name", ["loky", "multiprocessing"])
def test_a_search_finds_the_same_in_processes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    check_search(joblib.parallel_config(name, n_jobs=2))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_search_finds_the_same_on_a_cluster(name: str) -> None:
    """In an interpreter of its own: Ray changes joblib's other pools for the whole process."""
    pytest.importorskip("distributed" if name == "dask" else name)
    code = f"import warnings; warnings.simplefilter('ignore'); from tests.sklearn.test_clusters import *; run({name!r})"
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]


def run(name: str) -> None:
    check_search(dask() if name == "dask" else ray())


_TRIALS = """
import sys, warnings
warnings.simplefilter("ignore")
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tests.sklearn.test_clusters import score, threads

optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = JournalStorage(JournalFileBackend(sys.argv[1]))
study = optuna.create_study(study_name="alphas", storage=storage, direction="maximize", load_if_exists=True)
study.optimize(score, n_trials=4)
assert threads() == 1
"""


def score(trial: Any) -> float:
    """Return the mean score of a model with the penalty and the schedule of a trial."""
    parameters = {
        "alpha": trial.suggest_float("alpha", 1e-5, 1e-1, log=True),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
    }
    model = clone(MODEL).set_params(alpha=parameters["alpha"])
    model.set_params(schedule=None if parameters["schedule"] == "constant" else "cosine")
    return float(cross_val_score(model, X, Y, cv=2, error_score="raise").mean())


@pytest.mark.thorough
def test_processes_share_a_study_of_optuna(tmp_path: Path) -> None:
    """Each trial is one process's, and its score is what this process computes for its parameters."""
    optuna = pytest.importorskip("optuna")
    path = tmp_path / "journal.log"
    command = [sys.executable, "-c", _TRIALS, str(path)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    trials = optuna.load_study(study_name="alphas", storage=storage).trials
    assert sorted(trial.number for trial in trials) == list(range(8))
    for trial in trials:
        assert trial.value == score(optuna.trial.FixedTrial(trial.params))


def test_a_search_finds_the_same_in_threads() -> None:
    search = GridSearchCV(MODEL, {"alpha": [1e-4, 1e-2]}, cv=2, error_score="raise")
    expected = clone(search).fit(X, Y)
    with joblib.parallel_config("threading", n_jobs=4):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


@pytest.mark.thorough
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_workers_of_a_pool_take_one_thread_each(kind: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before, context = threads(), multiprocessing.get_context(method)
    if kind == "Pool":
        with context.Pool(2) as pool:
            found = pool.map(threads, range(4))
    else:
        with ProcessPoolExecutor(2, context) as executor:
            found = list(executor.map(threads, range(4)))
    assert set(found) == {1}
    assert threads() == before


def test_workers_take_as_many_threads_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(threads) == threads()
