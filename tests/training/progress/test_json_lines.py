"""Training events as JSON lines, for other programs."""

from __future__ import annotations

import io
import json

import numpy as np

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2))


def test_json_lines() -> None:
    file = io.StringIO()
    network = gf.MLP([4, 2], backend="numpy")
    trainer = gf.Trainer(network, "mean_squared_error", "adam", metrics=["r2"])
    history = trainer.fit(X, Y, epochs=2, callbacks=[gf.JSONLines(file)])
    first, *epochs, last = map(json.loads, file.getvalue().splitlines())
    assert first == {"event": "begin", "epochs": 2, "parameters": 10}
    assert [line["event"] for line in epochs] == ["epoch", "epoch"]
    assert [line["loss"] for line in epochs] == history["loss"]
    assert [line["r2"] for line in epochs] == history["r2"]
    assert last == {"event": "end", "epochs": 2, "seconds": history.seconds, "stopped_by": "epochs", "best_epoch": None}


def test_lines_of_a_pack_say_of_which_member_they_are() -> None:
    file = io.StringIO()
    pack = gf.Pack(
        [gf.Trainer(gf.MLP([4, 2], seed=seed, backend="numpy"), "mean_squared_error", "adam") for seed in (0, 1)]
    )
    pack.fit(X, Y, epochs=gf.Each([3, 2]), callbacks=[gf.JSONLines(file)], threads=2, progress=False)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    for place, history in enumerate(pack.histories):
        first, *epochs, last = [line for line in lines if line["member"] == place]
        assert (first["event"], last["event"]) == ("begin", "end")
        assert history is not None
        assert [line["loss"] for line in epochs] == history["loss"]


def test_json_has_no_nan() -> None:
    file = io.StringIO()
    trainer = gf.Trainer(gf.MLP([4, 1], backend="numpy"), "binary_cross_entropy", "adam", metrics=["roc_auc"])
    trainer.fit(X, np.ones(70), epochs=1, callbacks=[gf.JSONLines(file)])
    assert json.loads(file.getvalue().splitlines()[1])["roc_auc"] is None
