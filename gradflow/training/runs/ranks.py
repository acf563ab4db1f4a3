"""A run of several ranks: rank 0 keeps its folder, after all have checked that they train the same network alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gradflow.distributed import World
from gradflow.errors import RankError, collecting_warnings
from gradflow.network import Sequential
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import Checkpoints, differences
from gradflow.training.runs.run_folder import RunFolder, environment
from gradflow.training.runs.run_state import RunState
from gradflow.training.runs.snapshots import Snapshot


def check_alike(world: World, network: Sequential, run: dict[str, Any]) -> None:
    """Raise on all ranks if one has other data, settings, weights or versions than rank 0.

    Args:
        world: the ranks.
        network: the network.
        run: the description of the run (`run_folder.described_run`).

    Raises:
        RankError: naming the rank, and up to four differences.
    """
    settings = {name: value for name, value in run["settings"].items() if name != "threads"}
    described = run | {"settings": settings, "environment": _deciding(environment(network.backend))}
    first, *others = world.gathered(described)
    for rank, other in enumerate(others, 1):
        if found := differences(first, other):
            listed = "; ".join(f"{name} is {its!r}, but {of_first!r} on rank 0" for name, of_first, its in found[:4])
            raise RankError(f"rank {rank} of {world.size} cannot train with the others: its {listed}")


def _deciding(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what decides whether two processors compute the same."""
    blas = environment["blas"]
    return {name: environment[name] for name in ("versions", "backend", "kernels")} | {"blas": blas and blas["name"]}


@contextmanager
def one_voice(world: World) -> Iterator[None]:
    """Context in which no rank but the first warns."""
    with nullcontext() if world.rank == 0 else collecting_warnings(lambda message, category: None):
        yield


class SharedRunFolder(RunFolder):
    """The run folder of several ranks: rank 0 reads and writes the files.

    Args:
        path, is_resumed, overwrite: as for `RunFolder`.
        world: the ranks.
    """

    def __init__(self, path: Path, *, is_resumed: bool, overwrite: bool, world: World) -> None:
        super().__init__(path, is_resumed=is_resumed, overwrite=overwrite)
        self._world, self._is_kept_here = world, world.rank == 0
        if not self._is_kept_here:
            self._kind_of_checkpoints = _CheckpointsElsewhere

    def __enter__(self) -> RunFolder:
        return super().__enter__() if self._is_kept_here else self

    def __exit__(self, *exception: object) -> None:
        if self._is_kept_here:
            super().__exit__(*exception)

    def saved(self) -> list[Path]:
        return super().saved() if self._is_kept_here else []

    def resume(self, run: dict[str, Any]) -> Snapshot:
        read = super().resume(run) if self._is_kept_here else None
        snapshot: Snapshot = self._world.gathered(read)[0]
        return snapshot

    def write(self, network: Sequential, run: dict[str, Any], history: History) -> None:
        if self._is_kept_here:
            super().write(network, run, history)


class _CheckpointsElsewhere(Checkpoints):
    """The checkpoints that rank 0 saves, for another rank, which adds its part to them."""

    def _make_folder(self) -> None:
        pass

    def begin(self, state: RunState) -> None:
        pass

    def go_on(self, state: RunState, batches_done: int) -> None:
        pass

    def _save(self, step: int, snapshot: Snapshot) -> None:
        pass
