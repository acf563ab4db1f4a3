"""`fit_many`: a pack in one call, such as a model for each group of rows."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from gradflow.checks import instances, known_name
from gradflow.data.frames import as_columns
from gradflow.data.held_out import are_missing
from gradflow.data.sources import Source
from gradflow.data.table import Table
from gradflow.data.validation import host_array
from gradflow.errors import DataError, shown, unknown_name
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.optimizers import Optimizer
from gradflow.pack.each import Each, of_each
from gradflow.pack.memory import check_memory
from gradflow.pack.pack import Pack
from gradflow.training.step.objective import Objective
from gradflow.training.trainer import Trainer


def fit_many(
    networks: Sequence[Sequential] | Sequential,
    losses: str | Loss | Sequence[str | Loss],
    optimizers: str | Optimizer | Sequence[str | Optimizer],
    x: Any,
    y: Any = None,
    *,
    epochs: int | Each,
    group: Any = None,
    **settings: Any,
) -> Pack:
    """Make a pack of networks, train it, and return it.

    Args:
        networks: the networks; with ``group`` also one network, of which each group gets a copy.
        losses, optimizers: one loss and one optimizer for all, or a list with one for each member.
        x, y: the data, as for `Pack.fit`.
        epochs: maximum number of epochs.
        group: trains one network for each group of rows: an array or a column with the group of each row, or the name
            of a column of x, which is then no input. ``pack.by_group["Berlin"]`` is the network of a group. Several
            networks belong to the groups in the order of ``pack.groups``, which is sorted.
        settings: settings of `Trainer` and of `Pack.fit` by name: one value, or ``gf.Each([...])``.

    Raises:
        DataError: as for `Trainer` and `Pack.fit`; if a row has no group; or if the networks need more memory than
            there is.
    """
    valid = {*Objective.settings(), *signature(Pack.fit).parameters} - {"self", "x", "y", "epochs"}
    for name in settings:
        known_name("setting", name, valid)
    groups: tuple[Any, ...] = ()
    if group is not None:
        if "rows" in settings:
            raise DataError("group= chooses the rows of each network; omit rows=")
        x, groups, settings["rows"] = _grouped(x, group)
    members = _members(networks, len(groups) if group is not None else None)
    given: dict[str, Any] = {"loss": losses, "optimizer": optimizers}
    given = {name: Each(value) if isinstance(value, list | tuple) else value for name, value in given.items()}
    given |= {name: settings.pop(name) for name in Objective.settings() if name in settings}
    of_each_member = {name: of_each(name, value, len(members)) for name, value in given.items()}
    pack = Pack(
        [
            Trainer(network, **{name: values[place] for name, values in of_each_member.items()})
            for place, network in enumerate(members)
        ]
    )
    pack.groups, pack.may_lack_classes = groups, group is not None
    pack.fit(x, y, epochs=epochs, **settings)
    return pack


def _members(networks: Any, groups: int | None) -> list[Sequential]:
    if groups is None or not isinstance(networks, Sequential):
        given = instances("networks", networks, Sequential, "gradflow networks")
        if groups is not None and len(given) != groups:
            raise DataError(
                f"networks must be one for each of the {groups} groups, got {len(given)}; or pass one network, of "
                "which each group gets a copy"
            )
        return given
    n_bytes = networks.state.nbytes + networks.gradients.nbytes
    check_memory([n_bytes] * groups, f"copies of the network for {groups} groups")
    return [networks.copy() for _ in range(groups)]


def _grouped(x: Any, group: Any) -> tuple[Any, tuple[Any, ...], list[np.ndarray]]:
    """Return the inputs without the column of groups, the sorted groups, and the rows of each.

    Raises:
        DataError: if there is no such column, or a row has no group.
    """
    if isinstance(x, Source):
        raise DataError("group= needs data in memory, but x is a source; load it")
    if isinstance(group, str):
        x = as_columns("x", x)
        if not isinstance(x, Table):
            raise DataError(f"group={group!r} names a column, but x has no named columns; pass the column itself")
        if group not in x.names:
            raise unknown_name("column", group, x.names)
        labels = x.columns[x.names.index(group)]
        x = x.by_names("x", [name for name in x.names if name != group])
    else:
        labels = host_array("group", group)
    if labels.ndim != 1 or len(labels) != len(x):
        raise DataError(f"group must hold one group for each of the {len(x)} rows, got {shown(labels.shape)}")
    if (missing := are_missing(labels)).any():
        raise DataError(f"group has no value in row {int(np.argmax(missing))}; give each row a group")
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(labels.tolist()):
        rows.setdefault(value, []).append(row)
    groups = sorted(rows, key=lambda value: (isinstance(value, str), value))
    return x, tuple(groups), [np.array(rows[value]) for value in groups]
