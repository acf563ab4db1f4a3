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
from gradflow.layers.batch_norm import BatchNorm, batch_norm_backward, batch_norm_forward, normalize_columns
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


def check_ranks(objective: Objective, world: World, *, rows: int, batch_size: int, parts: int) -> None:
    """Raise for what several ranks cannot do together.

    Raises:
        DataError: naming the layer, metric or setting.
    """
    if world.size == 1:
        return
    remedy = f"train it by one process, or with GRADFLOW_DISTRIBUTED=0 by each of the {world.size} ranks for itself"
    if not world.share_all(-(-batch_size // parts)):
        raise DataError(
            f"{world.size} ranks share each batch in fours of rows, so batch_size must be at least "
            f"{parts * (4 * world.size - 3)}, got {batch_size}; pass a larger one, or launch fewer ranks"
        )
    for layer in with_inner(objective.network.layers):
        needed = max((inner.least_batch_size for inner in getattr(layer, "layers", ())), default=1)
        if not layer.trainable or layer.least_batch_size <= needed:  # layers inside come next
            continue
        if type(layer) is not BatchNorm or objective.precision in ("bfloat16", "float16"):
            raise DataError(
                f"{layer!r} normalizes with the rows of a batch, of which each of several ranks sees only its own; use "
                f"BatchNorm itself in float32, LayerNorm, freeze the layer, or {remedy}"
            )
        of_part = -(-batch_size // parts)
        for size in (batch_size % of_part, rows % batch_size, rows % batch_size % of_part):
            if size and not world.share_all(size):
                raise DataError(
                    f"{layer!r} needs rows of each batch on all of {world.size} ranks, which share them in fours, but "
                    f"the last batch of an epoch, or its last part, has {size}; pass another batch_size, or "
                    "drop_last=True"
                )
    for metric in objective.metrics:
        if not metric.statistics.adds_up():
            raise DataError(
                f"metric {metric.name!r}: {metric.statistics.__name__} does not say how to put the statistics of "
                "several ranks together; define merged(parts)"
            )


class PartOfBatch(Adapted):
    """An executor for some rows of a batch: they get the dropout masks, and the means and variances of `BatchNorm`, of
    the whole batch. Layers may have several rows for each of them (`gradflow.layers.EachMember`).

    Args:
        recorder: records the calls.
        world: the ranks.
        rows: the rows of the whole batch.
    """

    has_part_of_batch = True

    def __init__(self, recorder: Recorder, world: World, rows: int) -> None:
        super().__init__(recorder, self._changed)
        self._recorder, self._world, self._rows = recorder, world, world.rows(rows)
        self._fraction = len(self._rows) / rows

    def _changed(self, op: Op, arguments: dict[str, Any]) -> tuple[Op, dict[str, Any]]:
        if op in (dropout, scheduled_dropout):
            words = arguments["x"].size // len(self._rows)
            arguments |= {"rows_before": self._rows.start, "words_before": self._rows.start * words}
        return op, arguments

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        arguments = op.arguments(*args, **kwargs)
        if op is batch_norm_forward:
            self._normalize(**arguments)
        elif op is batch_norm_backward and arguments["share"]:
            self._normalize_backward(**arguments)
        else:
            super().__call__(op, **arguments)

    def _normalize(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        running_mean: Array,
        running_variance: Array,
        y: Array,
        momentum: float,
        epsilon: float,
    ) -> None:
        """Record `batch_norm_forward` with the statistics of the whole batch: first the mean, then the squares of the
        distances from it, so that the variance is accurate even if the mean is large."""
        rows = round(len(x) / self._fraction)
        zeros, ones, unit = (self._filled(mean, value) for value in (0, 1, 1 - epsilon))
        centered, ignored = (self.backend.empty(of.shape, of.dtype) for of in (x, mean))
        # With d_y = x it is the sum of each column that the gradient of beta is, with x - mean the sum of its squares
        # that of gamma is.
        self(batch_norm_backward, x, ones, zeros, unit, x, ignored, mean, None, epsilon, 0.0)
        self._recorder.call(self._world.sums(mean))
        record_fraction(self, mean, 1 / rows)
        self(normalize_columns, x, ones, zeros, mean, unit, centered, epsilon)
        self(batch_norm_backward, x, ones, mean, unit, centered, variance, ignored, None, epsilon, 0.0)
        self._recorder.call(self._world.sums(variance))
        record_fraction(self, variance, 1 / rows)
        for running, of_batch, share in (
            (running_mean, mean, momentum),
            (running_variance, variance, momentum * rows / (rows - 1)),
        ):
            record_fraction(self, running, 1 - momentum)
            self(accumulate, of_batch, running, running, share, kept=1)
        self(normalize_columns, x, gamma, beta, mean, variance, y, epsilon)

    def _normalize_backward(
        self,
        x: Array,
        gamma: Array,
        mean: Array,
        variance: Array,
        d_y: Array,
        d_gamma: Array,
        d_beta: Array,
        d_x: Array | None,
        epsilon: float,
        share: float,
    ) -> None:
        """Record `batch_norm_backward` with the gradients of gamma and beta of the whole batch in that of x; those of
        this rank, whose loss is the mean over its own rows, are weighted by its fraction of the rows."""
        self(batch_norm_backward, x, gamma, mean, variance, d_y, d_gamma, d_beta, None, epsilon, 0.0)
        if d_x is None:
            return
        sums = self.backend.empty((2, *mean.shape), mean.dtype)
        for of_batch, own in zip(sums, (d_gamma, d_beta), strict=True):
            self(accumulate, own, own, of_batch, self._fraction, kept=0)
        self._recorder.call(self._world.sums(sums))
        change = self.backend.empty(x.shape, x.dtype)
        self(normalize_columns, x, sums[0], sums[1], mean, variance, change, epsilon)
        self(accumulate, change.reshape(-1), d_y.reshape(-1), change.reshape(-1), -share, kept=1)
        zeros = self._filled(mean, 0)
        self(normalize_columns, change, gamma, zeros, zeros, variance, d_x, epsilon)

    def _filled(self, like: Array, value: float) -> Array:
        return self.backend.from_host(np.full(like.shape, value, like.dtype))


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
            and not optimizer.segments(network.layers, network.parameter_ranges)
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
