"""A step that several ranks make together: each computes its rows of the batch, and their gradients are added."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradflow.distributed import World
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.layers.dropout import dropout, scheduled_dropout
from gradflow.layers.stack import with_inner
from gradflow.names import is_built_in
from gradflow.network import Sequential
from gradflow.ops import Array, Op, copy
from gradflow.optimizers import Optimizer
from gradflow.optimizers.accumulation import accumulate
from gradflow.optimizers.clipping import chunk_squares, clip_scale
from gradflow.precision import Adapted
from gradflow.program import Recorder
from gradflow.reductions import chunk_length
from gradflow.training.step.objective import Objective

_PIECE = 2**16
"""Parameters that are updated as soon as their gradients have been added up, which are then still in the cache."""


def check_ranks(objective: Objective, world: World, *, batch_size: int, parts: int) -> None:
    """Raise for what several ranks cannot do together.

    Raises:
        DataError: naming the layer, metric or setting.
    """
    if world.size == 1:
        return
    remedy = f"train it by one process, or with GRADFLOW_DISTRIBUTED=0 by each of the {world.size} ranks for itself"
    if objective.layer_statistics:
        raise DataError("layer_statistics are not supported with several ranks: each sees only its rows; omit it")
    if not world.share_all(-(-batch_size // parts)):
        raise DataError(
            f"{world.size} ranks share each batch in fours of rows, so batch_size must be at least "
            f"{parts * (4 * world.size - 3)}, got {batch_size}; pass a larger one, or launch fewer ranks"
        )
    for layer in with_inner(objective.network.layers):
        if layer.trainable and layer.least_batch_size > 1:
            raise DataError(
                f"{layer!r} normalizes with the rows of a batch, of which each of several ranks sees only its own; use "
                f"LayerNorm, freeze the layer, or {remedy}"
            )
    for metric in objective.metrics:
        if not metric.statistics.adds_up():
            raise DataError(
                f"metric {metric.name!r}: {metric.statistics.__name__} does not say how to put the statistics of "
                "several ranks together; define merged(parts)"
            )


def of_rows(ops: Executor, rows: range) -> Executor:
    """Return an executor for some rows of a batch: they get the dropout masks of the whole batch. Layers may have
    several rows for each of them (`gradflow.layers.EachMember`)."""

    def change(op: Op, arguments: dict[str, Any]) -> tuple[Op, dict[str, Any]]:
        if op in (dropout, scheduled_dropout):
            words = arguments["x"].size // len(rows)
            arguments |= {"rows_before": rows.start, "words_before": rows.start * words}
        return op, arguments

    return Adapted(ops, change) if rows.start else ops


def record_fraction(ops: Executor, gradients: Array, fraction: float) -> None:
    """Record gradients *= fraction."""
    ops(accumulate, gradients, gradients, gradients, fraction, kept=0)


class SharedUpdate:
    """The update of the weights in blocks, one for each rank.

    A rank adds up the gradients of its block, updates these weights, and gets the others from the other ranks. Blocks
    are whole chunks of `gradflow.reductions`, so that the norm of the gradient is that of one process, bit for
    bit. Of its other blocks a rank has neither the gradient of the batch nor the state of the optimizer, until it
    collects them.

    Args:
        network: the network.
        world: the ranks.

    Attributes:
        own: the block of this rank.
    """

    def __init__(self, network: Sequential, world: World) -> None:
        self._network, self._world = network, world
        n, self._chunk = network.n_parameters, chunk_length(network.n_parameters)
        self._chunks = _blocks(-(-n // self._chunk), world.size)
        self._blocks = [slice(self._chunk * of.start, min(self._chunk * of.stop, n)) for of in self._chunks]
        self.own = self._blocks[world.rank]
        self._gradients = network.gradients[self.own]
        self._shown = world.of_ranks(network.gradients)
        if self._shown is not None:
            self._parts = [gradients[self.own] for gradients in self._shown]
        else:
            self._parts = [np.empty_like(self._gradients) for _ in range(world.size)]
            self._parts[world.rank] = self._gradients
        self._sum = np.empty(min(_PIECE, self._gradients.size), network.dtype)

    @staticmethod
    def suits(network: Sequential, optimizer: Optimizer, world: World) -> bool:
        """True if it pays, and the rule changes each parameter by its own gradient alone, at the same rates."""
        return (
            world.shares_updates(network.parameters.nbytes)
            and type(optimizer).step is Optimizer.step
            and is_built_in(optimizer.op.reference)
            and not (optimizer.factors or optimizer.decay_factors)
        )

    def record(
        self,
        recorder: Recorder,
        fractions: Sequence[float],
        optimizer: Optimizer,
        state: Mapping[str, Array],
        hyper: Array,
        gradient_scale: Array,
        clip_norm: float | None,
    ) -> None:
        """Record the sum of the gradients, and the update.

        Args:
            recorder: the recorder.
            fractions: the factor of the gradient of each rank.
            optimizer: the optimizer.
            state: its state vectors, of all parameters.
            hyper: its hyperparameters.
            gradient_scale: the factor of the gradient.
            clip_norm: the greatest norm of the gradient; None for any.
        """
        network, world = self._network, self._world
        if self._shown is not None:
            recorder.call(world.meet)
        else:
            recorder.call(partial(world.trade_blocks, network.gradients, self._blocks, self._parts))
        pieces = [
            slice(first, min(first + _PIECE, self.own.stop)) for first in range(self.own.start, self.own.stop, _PIECE)
        ]
        if clip_norm is not None:
            for piece in pieces:
                self._record_sum(recorder, piece, fractions)
            self._record_norm(recorder, hyper, gradient_scale, clip_norm)
        for piece in pieces:
            if clip_norm is None:
                self._record_sum(recorder, piece, fractions)
            optimizer.step(
                recorder,
                network.parameters[piece],
                network.gradients[piece],
                {name: vector[piece] for name, vector in state.items()},
                hyper,
                gradient_scale,
                recorder.clock,
                min(max(network.n_decayed - piece.start, 0), piece.stop - piece.start),
            )
        self._record_collection(recorder)

    def _record_sum(self, recorder: Recorder, piece: slice, fractions: Sequence[float]) -> None:
        """Record gradients = the sum of fraction times gradient over the ranks, in their order, in a piece."""
        inside = slice(piece.start - self.own.start, piece.stop - self.own.start)
        terms = [(part[inside], fraction) for part, fraction in zip(self._parts, fractions, strict=True) if fraction]
        so_far = self._sum[: piece.stop - piece.start]
        for place, (part, fraction) in enumerate(terms):
            out = self._gradients[inside] if place == len(terms) - 1 else so_far
            recorder(accumulate, part, so_far, out, fraction, kept=int(place > 0))

    def _record_norm(self, recorder: Recorder, hyper: Array, gradient_scale: Array, clip_norm: float) -> None:
        """Record the factor that limits the norm of the gradient, from sums over chunks of it in their order."""
        network, world = self._network, self._world
        squares = np.empty(self._chunks[-1].stop)
        if self._gradients.size:
            n_decayed = min(max(network.n_decayed - self.own.start, 0), self._gradients.size)
            of_block = squares[self._chunks[world.rank]]
            weights = network.parameters[self.own]
            recorder(chunk_squares, weights, self._gradients, hyper, of_block, n_decayed, self._chunk)
        recorder.call(partial(world.collect_blocks, squares, self._chunks))
        recorder(clip_scale, squares, gradient_scale, clip_norm)

    def _record_collection(self, recorder: Recorder) -> None:
        """Record the collection of the new weights of all ranks."""
        parameters, world = self._network.parameters, self._world
        shown = world.of_ranks(parameters)
        if shown is None:
            recorder.call(partial(world.collect_blocks, parameters, self._blocks))
            return
        recorder.call(world.meet)
        for rank, block in enumerate(self._blocks):
            if rank != world.rank and block.stop > block.start:
                recorder(copy, shown[rank][block], parameters[block])

    def collect(self, vector: Array) -> None:
        """Replace the other blocks of a vector by those of the ranks that have computed them."""
        self._world.collect_blocks(vector, self._blocks)


def _blocks(n: int, size: int) -> list[slice]:
    """Divide n things among ranks."""
    return [slice(*ends) for ends in itertools.pairwise(n * rank // size for rank in range(size + 1))]
