"""Fits of estimators that several ranks share out: rank r of n makes fits r, r + n, and so on; all get all results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import joblib

from gradflow.distributed import World
from gradflow.errors import RankError, collecting_warnings, warn

_MAY_DIFFER = ("callbacks", "device", "threads", "verbose")
"""Parameters of estimators that a rank may have to itself."""
_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


def share_out(
    ranks: World, work: Sequence[_Work], run: Callable[[Sequence[_Work]], Sequence[_Result]]
) -> list[_Result]:
    """Do pieces of work on all ranks; return their results, in the order of the pieces. Rank 0 gives all warnings.

    Args:
        ranks: the ranks, each of which has all of the work.
        work: the pieces.
        run: does some of them; returns their results, which can be pickled.

    Raises:
        RankError: if another rank failed; it names the rank.
    """
    if ranks.size == 1:
        return list(run(work))
    warnings: list[tuple[str, type[Warning]]] = []
    with collecting_warnings(lambda message, category: warnings.append((message, category))):
        own = run(work[ranks.rank :: ranks.size])
    with ranks.patient():
        results, of_ranks = zip(*ranks.gathered((own, warnings)), strict=True)
    for message, category in [warning for of_rank in of_ranks for warning in of_rank] if ranks.rank == 0 else []:
        warn(message, category)
    return [results[place % ranks.size][place // ranks.size] for place in range(len(work))]


def check_same(ranks: World, estimator: Any, data: Sequence[Any], more: Mapping[str, Any]) -> None:
    """Raise on all ranks if one would make other fits than rank 0.

    Args:
        ranks: the ranks.
        estimator: the estimator.
        data: the data of all fits.
        more: what else decides on the results: any objects, by what a rank has if they differ, such as "other folds".

    Raises:
        RankError: naming the rank, and what is different.
    """
    if ranks.size == 1:
        return
    settings = {
        f"another {name} of the estimator": value
        for name, value in estimator.get_params(deep=True).items()
        if not hasattr(value, "get_params") and not name.endswith(_MAY_DIFFER)
    }
    described = {"other data": data, **settings, **more}
    first, *others = ranks.gathered({name: _digest(value) for name, value in described.items()})
    for rank, other in enumerate(others, 1):
        if other != first:
            names = [name for name in first if other.get(name) != first[name]]
            raise RankError(
                f"rank {rank} of {ranks.size} has {' and '.join(names)} than rank 0, with which it shares out fits; "
                "what is drawn at random needs random_state="
            )


def _digest(value: Any) -> str:
    """Return a checksum of an object; that of its kind, if it cannot be pickled."""
    try:
        return str(joblib.hash(value))
    except Exception:  # of the object's own methods, too
        return str(type(value))
