"""A model behind FastAPI, on a real server, asked by many clients at once."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
import fastapi
import httpx
import uvicorn
from sklearn.datasets import load_digits, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import gradflow as gf
from gradflow.sklearn import MLPClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
CLIENTS = 8
SIZES = (1, 1, 1, 2, 3, 8, 33, 100)
"""Numbers of rows of the requests, most of which ask for one."""

Answer = Callable[[list[list[float]]], list[Any]]


def pipeline(path: Path) -> Answer:
    joblib.dump(make_pipeline(MinMaxScaler(), MLPClassifier((32,), max_iter=5, random_state=0)).fit(X, Y), path)
    model = joblib.load(path)
    return lambda rows: model.predict_proba(np.asarray(rows, np.float32)).tolist()


def table(path: Path) -> Answer:
    names = [f"pixel {place}" for place in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=names).assign(edge=np.where(X[:, 10] > 8, "dark", "light"))
    settings: dict[str, Any] = {"standardize": True, "categorical_features": "from_dtype"}
    joblib.dump(MLPClassifier((16,), max_iter=5, random_state=0, **settings).fit(frame, Y), path)
    model = joblib.load(path)

    def answer(rows: list[list[float]]) -> list[Any]:
        given = pd.DataFrame(rows, columns=names)
        return model.predict_proba(given.assign(edge=np.where(given["pixel 10"] > 8, "dark", "light"))).tolist()

    return answer


def network(path: Path) -> Answer:
    gf.save(gf.MLP([64, 32, 32, 10], seed=1, backend="numpy"), path)
    model = gf.load(path, backend="numpy")
    return lambda rows: model.predict(np.asarray(rows, np.float32)).tolist()


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """Serve answers at /predict, by a server in a thread of its own; yield the address."""
    app = fastapi.FastAPI()

    @app.post("/predict")
    def predict(rows: list[list[float]]) -> list[Any]:  # not async: FastAPI calls it in one of many threads
        return answer(rows)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/predict"
        finally:
            server.should_exit = True
            thread.join()


def ask(address: str, bodies: list[bytes], expected: list[list[Any]], order: np.ndarray) -> int:
    """Send requests, one after the other; return how many answers were wrong."""
    with httpx.Client(timeout=120, headers={"content-type": "application/json"}) as client:
        answers = (client.post(address, content=bodies[place]).raise_for_status().json() for place in order)
        return sum(answer != expected[place] for answer, place in zip(answers, order, strict=True))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows for which networks made from now on record programs."""
    rows_of_programs: list[int] = []
    record = gf.Sequential._recorded_inference

    def noted(network: gf.Sequential, rows: int, activated: bool) -> Any:
        rows_of_programs.append(rows)
        return record(network, rows, activated)

    monkeypatch.setattr(gf.Sequential, "_recorded_inference", noted)
    return rows_of_programs


@pytest.mark.parametrize("make", [pipeline, table, network])
@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_answer_under_load_is_the_one_given_alone(
    make: Callable[[Path], Answer], requests: int, tmp_path: Path, recorded: list[int]
) -> None:
    answer, random = make(tmp_path / "model"), np.random.default_rng(0)
    questions = [X[random.choice(len(X), rows)].tolist() for rows in SIZES * 5]
    expected = [json.loads(json.dumps(answer(rows))) for rows in questions]
    bodies = [json.dumps(rows).encode() for rows in questions]
    orders = np.array_split(random.integers(len(questions), size=requests), CLIENTS)
    recorded.clear()
    with served(answer) as address, ThreadPoolExecutor(CLIENTS) as clients:
        wrong = list(clients.map(lambda order: ask(address, bodies, expected, order), orders))
    assert wrong == [0] * CLIENTS
    # A program is recorded only while all earlier ones for as many rows are in use.
    assert max(Counter(recorded).values(), default=0) < CLIENTS
    recorded.clear()
    assert [answer(questions[0]) for _ in range(3)] == [expected[0]] * 3
    assert not recorded


def test_one_row_finds_its_program_after_any_other_numbers_of_rows(tmp_path: Path, recorded: list[int]) -> None:
    answer = pipeline(tmp_path / "model")
    expected = answer(X[:1].tolist())
    for rows in (*range(2, 300), *range(300, 1700, 50)):
        answer(X[:rows].tolist())
        recorded.clear()
        assert answer(X[:1].tolist()) == expected
        assert not recorded


def test_other_threads_predict_with_the_last_fit_until_the_next_has_ended() -> None:
    x, y = load_iris(return_X_y=True)
    model = MLPClassifier((8,), max_iter=2, random_state=0, standardize=True).fit(x, y)
    expected = model.predict_proba(x)
    seen: list[np.ndarray] = []

    class Predicts(gf.Callback):
        def on_fit_begin(self, trainer: Any, epochs: int) -> None:
            self._predict()

        def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
            self._predict()

        def _predict(self) -> None:
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(model.predict_proba, x).result())

    model.set_params(callbacks=[Predicts()], alpha=1.0).fit(x, np.array(["a", "b", "c"])[y])
    assert len(seen) == 3
    assert all(np.array_equal(each, expected) for each in seen)
    assert not np.array_equal(model.predict_proba(x), expected)
    assert set(model.predict(x)) <= {"a", "b", "c"}
    model.set_params(warm_start=True)
    with pytest.raises(gf.GradflowError, match="another thread is training this network"):
        model.fit(x, np.array(["a", "b", "c"])[y])
    assert model.set_params(callbacks=()).fit(x, np.array(["a", "b", "c"])[y]).n_iter_ == 2
