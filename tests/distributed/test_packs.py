"""The members of a pack are shared out over ranks, and all ranks have all results."""

from __future__ import annotations

import warnings

import pytest

from tests.distributed.packs import differently, fit, pack, results
from tests.distributed.ranks import needs_mpi, run

pytestmark = needs_mpi

_RUN = """
import runpy, warnings
warnings.simplefilter("ignore")
runpy.run_module('tests.distributed.packs', run_name='__main__', alter_sys=False)
"""


@pytest.mark.parametrize("ranks", [2, 6])  # one of which has no member
def test_all_ranks_have_the_results_of_one_process(ranks: int) -> None:
    trained = pack()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(trained)
    assert len(trained.errors) == 1
    ended = run(ranks, _RUN, "alike")
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [f"{rank}: {results(trained)}" for rank in range(ranks)]


@pytest.mark.parametrize(("ranks", "what"), [(2, "ensemble"), (6, "ensemble"), (2, "patience")])
def test_all_ranks_choose_the_ensemble_of_one_process(ranks: int, what: str) -> None:
    trained = pack()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(trained, **differently(what, 0))
    assert trained.ensemble is not None
    epochs = max(history.epochs for history in trained.histories if history)
    assert (epochs < 60) == (what == "patience")  # which was used up
    ended = run(ranks, _RUN, what)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [f"{rank}: {results(trained)}" for rank in range(ranks)]


def test_ctrl_c_on_one_rank_ends_a_pack_that_chooses_an_ensemble() -> None:
    first, second = sorted(run(2, _RUN, "interrupt").stdout.splitlines())
    assert first.startswith("0: RankError: rank 1 of 2 ended the training of all: it was interrupted")
    assert second == "1: KeyboardInterrupt: "


def test_other_validation_data_on_one_rank_are_named() -> None:
    for line in run(2, _RUN, "validation").stdout.splitlines():
        assert "RankError: rank 1 of 2 has other data than rank 0: 4 rows" in line


def test_another_pack_on_one_rank_is_named() -> None:
    lines = sorted(run(2, _RUN, "settings").stdout.splitlines())
    told = "RankError: rank 1 of 2 has another pack than rank 0: other networks or settings"
    assert lines == [f"{rank}: {told}" for rank in range(2)]
