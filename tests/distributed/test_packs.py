"""The members of a pack are shared out over ranks, and all ranks have all results."""

from __future__ import annotations

import warnings

import pytest

from tests.distributed.packs import fit, pack, results
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


def test_another_pack_on_one_rank_is_named() -> None:
    lines = sorted(run(2, _RUN, "settings").stdout.splitlines())
    told = "RankError: rank 1 of 2 has another pack than rank 0: other networks or settings"
    assert lines == [f"{rank}: {told}" for rank in range(2)]
