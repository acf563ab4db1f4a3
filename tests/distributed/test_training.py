"""Several ranks train as one process does, up to rounding, and alike each time."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.distributed.ranks import ROOT, needs_mpi, results_of
from tests.distributed.scenarios import SCENARIOS, results
from tests.docs.pages import blocks

pytestmark = needs_mpi

_ALL = "import runpy, sys; runpy.run_module('tests.distributed.scenarios', run_name='__main__', alter_sys=False)"


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run all scenarios on so many ranks, once; the program checks that all ranks have the same."""
    folder: Path = tmp_path_factory.mktemp("scenarios")

    @cache
    def found(ranks: int) -> dict[str, Any]:
        results_of(ranks, _ALL, folder / f"{ranks}.json")
        return json.loads((folder / f"{ranks}.json").read_text())

    return found


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_train_as_one_process_does(of_ranks: Any, ranks: int, name: str) -> None:
    one, several = results(name), of_ranks(ranks)[name]
    rounding = 1e-4 if name == "parts_without_the_rest" else 1e-8  # it is in float32
    assert several["stopped_by"] == one["stopped_by"]
    assert several["best_epoch"] == one["best_epoch"]
    assert several["values"].keys() == one["values"].keys()
    for value in one["values"]:
        np.testing.assert_allclose(several["values"][value], one["values"][value], rtol=rounding, err_msg=value)
    np.testing.assert_allclose(several["weights"], one["weights"], rtol=rounding, atol=rounding)


def test_as_many_ranks_give_the_same_bits(of_ranks: Any, tmp_path: Path) -> None:
    results_of(3, _ALL, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == of_ranks(3)


_WITHOUT = {
    "shared memory": "gradflow.distributed.mpi.shared_memory = lambda world, waiting: None",
    "room in it": "gradflow.distributed.shared_memory.SharedMemory.room = lambda memory, n_bytes: None",
}


@pytest.mark.parametrize("what", _WITHOUT)
@pytest.mark.parametrize("ranks", [2, 3])
def test_blocks_of_the_weights_have_the_same_bits_without(of_ranks: Any, ranks: int, what: str, tmp_path: Path) -> None:
    program = f"import gradflow.distributed.mpi\n{_WITHOUT[what]}\n{_ALL}"
    results_of(ranks, program, tmp_path / "again.json", "updated_in_blocks")
    (found,) = json.loads((tmp_path / "again.json").read_text()).values()
    assert found == of_ranks(ranks)["updated_in_blocks"]


_STATE = """
import json
import numpy as np
import gradflow as gf
x = np.random.default_rng(0).normal(size=(96, 4))
network = gf.MLP([4, 400, 2], seed=0, backend="numpy", dtype="float64")
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
before, layer = network.parameters, network.layers[0].weight
for _ in range(2):
    trainer.partial_fit(x, (x[:, 0] > 0).astype(int), batch_size=32)
assert np.shares_memory(before, network.parameters) and np.shares_memory(layer, network.parameters)
assert (before == network.parameters).all() and (layer == network.layers[0].weight).all()
state = trainer.optimizer_state.on_host()
print(json.dumps([network.gradients.tolist(), *(state[name].tolist() for name in sorted(state))]))
"""


def test_all_ranks_end_with_the_whole_gradient_and_state_of_the_optimizer() -> None:
    (one,), two = (results_of(ranks, _STATE).splitlines() for ranks in (1, 2))
    assert two[0] == two[1]
    for found, expected in zip(json.loads(two[0]), json.loads(one), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_the_program_of_the_page_prints_the_same_on_two_ranks(tmp_path: Path) -> None:
    (block,) = blocks(ROOT / "docs" / "distributed.md")
    (tmp_path / "train.py").write_text(block.source)
    program = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    assert results_of(2, program, tmp_path / "train.py") == block.shown


_DIVERGING = """
import numpy as np
import gradflow as gf
x = np.random.default_rng(0).normal(size=(64, 4))
x[60] = 1e200  # in the rows of the last rank
trainer = gf.Trainer(gf.MLP([4, 1], seed=0, backend="numpy"), "half_squared_error", gf.SGD(0.1))
try:
    trainer.fit(x.astype(np.float64), x[:, :1] * 0, epochs=3, batch_size=32, shuffle=False)
except gf.DivergedError as error:
    print(error.epoch, error.step, trainer.network.parameters.tolist(), str(error).partition("Cause")[0])
"""


def test_a_loss_that_explodes_on_one_rank_ends_all_with_the_weights_from_before(tmp_path: Path) -> None:
    program = _DIVERGING.replace("seed=0,", "seed=0, dtype='float64',")
    lines = results_of(2, program).splitlines()
    (alone,) = results_of(1, program).splitlines()
    assert lines == [alone, alone]
    assert alone.startswith("1 2 ")


_OTHER_WAYS = """
import json
import warnings
import numpy as np
import gradflow as gf
from gradflow.sklearn import MLPClassifier
warnings.simplefilter("ignore")  # of three epochs only
x = np.random.default_rng(0).normal(size=(90, 4))
y = (x[:, 0] > 0).astype(int)
trainer = gf.Trainer(gf.MLP([4, 8, 2], seed=0, backend="numpy", dtype="float64"), "softmax_cross_entropy", gf.Adam())
values = [trainer.partial_fit(x[first : first + 30], y[first : first + 30], batch_size=16) for first in (0, 30, 60)]
settings = {"random_state": 0, "max_iter": 3}
estimators = [MLPClassifier((8,), early_stopping=True, **settings), MLPClassifier(recipe="realmlp", **settings)]
probabilities = [estimator.fit(x, y).predict_proba(x[:5]).tolist() for estimator in estimators]
minimum = MLPClassifier((8,), solver="lbfgs", **settings).fit(x, y)
print(json.dumps([trainer.network.predict(x[:5]).tolist(), values, probabilities, minimum.predict_proba(x).tolist()]))
"""


def test_partial_fit_and_estimators_train_on_ranks_too() -> None:
    one, two = (results_of(ranks, _OTHER_WAYS).splitlines() for ranks in (1, 2))
    assert two[0] == two[1]
    (predicted, values, probabilities, minimized), expected = json.loads(two[0]), json.loads(one[0])
    np.testing.assert_allclose(predicted, expected[0], rtol=1e-9)
    for of_call, alone in zip(values, expected[1], strict=True):
        assert of_call == pytest.approx(alone, rel=1e-9)
    np.testing.assert_allclose(probabilities, expected[2], rtol=1e-4)
    np.testing.assert_allclose(minimized, expected[3], rtol=1e-6)


_REFUSED = """
import numpy as np
import gradflow as gf
x = np.random.default_rng(0).normal(size=(40, 4))
class Normalizing(gf.BatchNorm):
    pass
def fit(layer, **options):
    trainer = gf.Trainer(gf.Sequential([gf.Dense(4, 3), layer, gf.Dense(3, 1)]), "half_squared_error", gf.SGD(0.1))
    try:
        trainer.fit(x, x[:, :1], epochs=2, progress=False, **options)
        print("trained")
    except gf.DataError as error:
        print(error)
fit(gf.BatchNorm(3), batch_size=36)
fit(gf.BatchNorm(3), batch_size=36, drop_last=True)
fit(Normalizing(3), batch_size=20)
"""


def test_batches_without_rows_for_each_rank_and_other_normalizations_are_refused() -> None:
    lines = results_of(2, _REFUSED).splitlines()
    assert len(lines) == 6
    (small, trained, other) = sorted(set(lines), key=lines.index)
    assert "needs rows of each batch on all of 2 ranks" in small
    assert "has 4; pass another batch_size, or drop_last=True" in small
    assert trained == "trained"
    assert "Normalizing(n_in=3" in other
    assert "use BatchNorm itself in float32, LayerNorm" in other


_STEPS = """
import numpy as np
import gradflow as gf
x = np.random.default_rng(0).normal(size=(64, 4))
rank = gf.distributed.world().rank
class Stop(gf.Callback):
    every_steps = 2
    def on_step_end(self, trainer, step, loss):
        if rank == 1 and step == 6:
            trainer.stop()
class Other(Stop):
    every_steps = 2 + rank
for callback in (Stop(), Other()):
    trainer = gf.Trainer(gf.MLP([4, 3, 1], backend="numpy"), "half_squared_error", gf.SGD(0.1))
    try:
        history = trainer.fit(x, x[:, :1], epochs=3, batch_size=8, callbacks=[callback], progress=False)
        print(history.stopped_by, history.epochs)
    except gf.RankError as error:
        print(error)
"""


def test_a_callback_of_one_rank_stops_all_after_a_step_and_ranks_hear_of_the_same_steps() -> None:
    stopped, other = sorted(set(results_of(2, _STEPS).splitlines()), key=len)
    assert stopped == "callback 0"
    assert "rank 1 of 2 cannot train with the others" in other
    assert "every_steps of callbacks[0] is 3, but 2 on rank 0" in other
