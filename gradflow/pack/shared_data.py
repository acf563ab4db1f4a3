"""The data of a pack: validated and converted once for all members that take them in the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradflow.checks import positive_fraction
from gradflow.data.arrays import is_memory_mapped
from gradflow.data.frames import as_columns
from gradflow.data.in_memory import rows_of, split
from gradflow.data.sources import Source
from gradflow.data.validation import as_targets, host_array
from gradflow.errors import DataError, shown
from gradflow.names import is_built_in
from gradflow.network import Sequential, input_format
from gradflow.training.data.prepare import FitData, ReadyInputs, are_labels, converted_inputs, prepare_fit
from gradflow.training.trainer import Trainer


class SharedData:
    """Inputs and targets in memory, or a source, of which each member uses all rows, or some.

    The inputs are held once for each form in which members take them: dtype, preprocessing, columns. Rows of them are
    not copied. Targets and weights are held once for each choice of rows.

    Args:
        x, y: as for `Trainer.fit`.
    """

    def __init__(self, x: Any, y: Any) -> None:
        self._is_streamed = isinstance(x, Source) or is_memory_mapped(x) or is_memory_mapped(y)
        self.x = x if self._is_streamed else as_columns("x", x)
        self.y = y
        self._inputs: dict[Any, ReadyInputs] = {}
        self._prepared: dict[Any, FitData] = {}
        self._classes: set[Any] = set()
        self._missing: dict[int, Sequence[Any]] = {}
        self._splits: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        self._kept: list[Any] = []  # objects whose ids are in the keys

    def check_rows(self, rows: Any, name: str) -> np.ndarray:
        """Return the rows that a member uses, int64, from indices or a mask.

        Raises:
            DataError: if they are neither, or a row does not exist.
        """
        if self._is_streamed:
            raise DataError(
                f"{name} needs data in memory, but x is read from a source; load it, or pass a source for each part "
                "(Source.split)"
            )
        self._check_length("y", host_array("y", self.y))
        given, count = host_array(name, rows), len(self.x)
        if given.dtype == np.bool_ and given.shape == (count,):
            given = np.flatnonzero(given)
        if given.ndim != 1 or given.dtype.kind not in "iu" or not given.size:
            raise DataError(
                f"{name} must be the indices of at least one row, or a mask of shape ({count},), got {shown(rows)}"
            )
        if given.min() < 0 or given.max() >= count:
            raise DataError(f"{name} must hold indices from 0 to {count - 1}, got {given.min()} to {given.max()}")
        return np.ascontiguousarray(given, np.int64)

    def of_member(
        self,
        trainer: Trainer,
        rows: np.ndarray | None,
        validation_rows: np.ndarray | None,
        *,
        sample_weight: Any,
        class_weight: Any,
        validation_data: Any,
        validation_fraction: float | None,
    ) -> FitData:
        """Return the data of a member's fit, with the bits of ``fit(x[rows], y[rows])``.

        Raises:
            DataError: as for `Trainer.fit`.
        """
        given = validation_rows, validation_data, validation_fraction
        if sum(value is not None for value in given) > 1:
            raise DataError("pass one of validation_rows, validation_data and validation_fraction")
        if validation_fraction is not None:
            validation_fraction = positive_fraction("validation_fraction", validation_fraction)
        if validation_fraction is not None and not self._is_streamed:
            rows, validation_rows = self._held_out(trainer, rows, validation_fraction)
            validation_fraction = None
        parts = (rows, validation_rows, sample_weight, class_weight, validation_data)
        scaling = {
            "standardize_targets": trainer.objective.standardize_targets,
            "clamp_predictions": trainer.objective.clamp_predictions,
        }
        key = (_form(trainer), *scaling.values(), validation_fraction, *map(id, parts))
        if key not in self._prepared:
            self._kept.append(parts)
            network = trainer.network
            x, y, weight = self._chosen(network, rows, sample_weight)
            if validation_rows is not None:
                held_out = self._chosen(network, validation_rows, sample_weight)
                validation_data = held_out if sample_weight is not None else held_out[:2]
            elif isinstance(validation_data, tuple | list) and len(validation_data) in (2, 3):
                names = x.feature_names if isinstance(x, ReadyInputs) else None
                inputs = self._ready(network, "validation x", validation_data[0], names)
                validation_data = (inputs, *validation_data[1:])
            self._prepared[key] = prepare_fit(
                network,
                trainer.loss,
                x,
                y,
                sample_weight=weight,
                class_weight=class_weight,
                validation_data=validation_data,
                validation_fraction=validation_fraction,
                **scaling,
            )
        return self._prepared[key]

    def _held_out(self, trainer: Trainer, rows: np.ndarray | None, fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows for training and those for validation that ``validation_fraction`` means."""
        network = trainer.network
        key = (id(rows), fraction, network.seed, network.n_out, type(trainer.loss))
        if key not in self._splits:
            self._kept.append(rows)
            among = np.arange(len(self.x)) if rows is None else rows
            y = self.y if rows is None else rows_of(self.y, rows)
            stratify = are_labels(network, trainer.loss, as_targets("y", y, network.backend))
            parts = split(among, y, validation_fraction=fraction, seed=network.seed, stratify=stratify)
            self._splits[key] = parts[0][0], parts[1][0]
        return self._splits[key]

    def held_out_targets(self, chosen: Mapping[str, Sequence[Any]]) -> Any:
        """Return the targets of the validation data that all members share, as the user passed them.

        Raises:
            DataError: if they do not share any.
        """
        (rows, *others), data = chosen["validation_rows"], chosen["validation_data"]
        if rows is not None and all(other is not None and np.array_equal(rows, other) for other in others):
            return rows_of(self.y, rows)
        if isinstance(data[0], tuple | list) and all(each is data[0] for each in data):
            return data[0][1]
        raise DataError(
            "ensemble= needs validation data in memory that all members share: pass one validation_data=(x, y), or the "
            "same validation_rows for each"
        )

    def missing_classes(self, rows: np.ndarray | None) -> Sequence[Any]:
        """Return the class labels that occur in y, but not in these rows."""
        if rows is None:
            return ()
        if id(rows) not in self._missing:
            labels = host_array("y", self.y)
            if not self._classes and labels.ndim == 1:
                self._classes = set(labels.tolist())
            chosen = set(labels[rows].tolist()) if labels.ndim == 1 else set()
            self._missing[id(rows)] = sorted(self._classes - chosen, key=str)
        return self._missing[id(rows)]

    def _chosen(self, network: Sequential, rows: np.ndarray | None, weight: Any) -> tuple[Any, Any, Any]:
        inputs = self._ready(network, "x", self.x)
        if rows is None:
            return inputs, self.y, weight
        if weight is not None:
            self._check_length("sample_weight", weight)
        y, weight = (None if values is None else rows_of(values, rows) for values in (self.y, weight))
        return replace(inputs, places=rows), y, weight

    def _check_length(self, name: str, values: Any) -> None:
        if len(values) != len(self.x):
            raise DataError(f"x has {len(self.x)} rows, but {name} has {len(values)}; they must match")

    def _ready(self, network: Sequential, name: str, x: Any, feature_names: Sequence[str] | None = None) -> Any:
        if isinstance(x, Source) or is_memory_mapped(x) or (name == "x" and self._is_streamed):
            return x
        key = (id(x), feature_names and tuple(feature_names), _form_of_inputs(network))
        if key not in self._inputs:
            self._kept.append(x)
            self._inputs[key] = converted_inputs(network, name, x, feature_names)
        return self._inputs[key]


def _form_of_inputs(network: Sequential) -> tuple[Any, ...]:
    preprocessing = network.preprocessing and repr(network.preprocessing.config())
    categories = input_format(network).categories
    return network.n_in, network.dtype.name, network.backend.name, preprocessing, network.feature_names, categories


def _form(trainer: Trainer) -> tuple[Any, ...]:
    network, loss = trainer.network, trainer.loss
    of_loss = repr(loss) if is_built_in(type(loss)) else id(loss)
    return *_form_of_inputs(network), network.n_out, network.output_scale, repr(network.classes), of_loss
