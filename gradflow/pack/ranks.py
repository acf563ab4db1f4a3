"""A pack that several ranks train: its members are shared out, and all ranks have all results at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradflow.distributed import World
from gradflow.errors import RankError
from gradflow.training.runs.run_folder import initial_state
from gradflow.training.step.optimizer_state import OptimizerState
from gradflow.training.trainer import PreparedFit, Trainer

_DESCRIBED = ("precision", "output_scale", "feature_names", "classes")


def check_same_pack(ranks: World, trainers: Sequence[Trainer], fits: Sequence[PreparedFit]) -> None:
    """Raise on all ranks if the pack of one has other networks, settings or data than that of rank 0.

    Raises:
        RankError: naming the rank.
    """
    if ranks.size == 1:
        return
    members = [
        (repr(trainer), initial_state(trainer.network), fit.plan.epochs, fit.plan.batch_size, fit.plan.rows)
        for trainer, fit in zip(trainers, fits, strict=True)
    ]
    backend, loss, plan = trainers[0].network.backend, trainers[0].loss, fits[0].plan
    described = members, [data and data.fingerprint(backend, loss) for data in (plan.data, plan.validation)]
    first, *others = ranks.gathered(described)
    for rank, (of_rank, data) in enumerate(others, 1):
        if of_rank != first[0]:
            raise RankError(f"rank {rank} of {ranks.size} has another pack than rank 0: other networks or settings")
        if data != first[1]:
            found, expected = next((one, other) for one, other in zip(data, first[1], strict=True) if one != other)
            raise RankError(f"rank {rank} of {ranks.size} has other data than rank 0: {found}, but {expected} there")


def exchange(
    ranks: World, trainers: Sequence[Trainer], errors: dict[int, Any], warnings: list[Any]
) -> tuple[dict[int, Any], list[Any]]:
    """Give all ranks the results of all members; return the errors and the warnings of all.

    Args:
        ranks: the ranks; rank r has trained members r, r + size, and so on.
        trainers: the trainers of all members.
        errors: the errors of this rank's members, by their place.
        warnings: the warnings of this rank's members.
    """
    own = {place: _results(trainers[place]) for place in range(ranks.rank, len(trainers), ranks.size)}
    with ranks.patient():
        everything = ranks.gathered((own, errors, warnings))
    for rank, (results, of_errors, of_warnings) in enumerate(everything):
        if rank != ranks.rank:
            errors = errors | of_errors
            warnings = [*warnings, *of_warnings]
            for place, result in results.items():
                _set_results(trainers[place], *result)
    return dict(sorted(errors.items())), warnings


def _results(trainer: Trainer) -> tuple[Any, ...]:
    network = trainer.network
    described = {name: getattr(network, name) for name in _DESCRIBED}
    activation, epochs = network.output_activation, network.epochs_begun
    return (
        network.backend.to_host(network.state),
        described,
        activation,
        epochs,
        trainer.history,
        trainer.optimizer_state,
    )


def _set_results(
    trainer: Trainer,
    state: Any,
    described: dict[str, Any],
    activation: str,
    epochs: int,
    history: Any,
    optimizer: OptimizerState | None,
) -> None:
    network = trainer.network
    network.backend.copy(network.backend.from_host(state), network.state)
    if network.preprocessing is not None:
        del described["feature_names"]
    for name, value in described.items():
        setattr(network, name, value)
    if not network.ends_in_activation:
        network.output_activation = activation
    network.epochs_begun = epochs
    trainer.history, trainer.optimizer_state = history, optimizer
