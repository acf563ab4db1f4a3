"""Searches and members of estimators are shared out over ranks, and all ranks have all results."""

from __future__ import annotations

import re
import warnings
from functools import cache

import pytest

pytest.importorskip("sklearn")
from tests.distributed.ranks import needs_mpi, results_of
from tests.distributed.searches import ALIKE, DIFFERENT

pytestmark = needs_mpi


@cache
def of_ranks(ranks: int) -> dict[str, list[str]]:
    """Return what each rank has printed, by the names of the cases."""
    lines = results_of(ranks, "import tests.distributed.searches as searches; searches.main()").splitlines()
    printed: dict[str, list[str]] = {}
    for line in sorted(lines):
        _, name, text = line.split(": ", 2)
        printed.setdefault(name, []).append(text)
    return printed


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_have_the_results_of_one_process(ranks: int, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ALIKE[name]()
    assert of_ranks(ranks)[name] == [expected] * ranks


def test_seeds_that_are_drawn_for_each_fit_give_all_ranks_the_same_results() -> None:
    first, second = of_ranks(2)["without seeds"]
    assert first == second


_OF_RANK_1 = r"RankError: rank 1 of 2 ended the training of all: "
_OTHER = r"RankError: rank 1 of 2 has {} than rank 0, .* needs random_state="
_UNPICKLED = "DataError: the other ranks cannot get the best estimator .*, since it cannot be pickled.* refit=False"
_ENDS = {
    "fails": (_OF_RANK_1 + "ValueError: no such luck", "ValueError: no such luck"),
    "interrupted": (_OF_RANK_1 + "it was interrupted", "KeyboardInterrupt: "),
    "data": 2 * (_OTHER.format("other data"),),
    "bad data": (_OF_RANK_1 + "ValueError: Found input.*90, 89", "ValueError: Found input.*90, 89"),
    "candidates": 2 * (_OTHER.format("other candidates"),),
    "folds": 2 * (_OTHER.format("other folds"),),
    "settings": 2 * (_OTHER.format("another max_iter of the estimator"),),
    "refit": (_UNPICKLED, "RankError: rank 0 of 2 ended the training of all: " + _UNPICKLED),
    "seeds of members": 2 * (_OTHER.format("another random_state of the estimator and other seeds"),),
    "a member fails": (_OF_RANK_1 + "ValueError: no such luck", "ValueError: no such luck"),
    "minimized": 2 * (r"RankError: rank 1 of 2 cannot train .*: its network\.seed is \d+, but \d+ on rank 0",),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_ranks_cannot_do_together_ends_all_with_an_error_that_names_the_rank(name: str) -> None:
    for printed, expected in zip(of_ranks(2)[name], _ENDS[name], strict=True):
        assert re.match(expected, printed)
