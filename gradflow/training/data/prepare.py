"""Validation and conversion of user data: arrays, tables, or a source that is read batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.arrays import Arrays, is_memory_mapped
from gradflow.data.classes import (
    Classes,
    ClassFinder,
    are_names,
    class_numbers,
)
from gradflow.data.frames import as_columns
from gradflow.data.in_memory import split
from gradflow.data.rules import Moments
from gradflow.data.sources import Block, Converted, Source
from gradflow.data.table import Table
from gradflow.data.validation import as_array, as_targets, finite_targets, numbers_or_names
from gradflow.data.weights import ClassWeight, RowWeights, checked_weights, class_totals, weights_by_number
from gradflow.data.where import Where
from gradflow.errors import DataError, shown
from gradflow.losses import Loss
from gradflow.network import Sequential, input_format
from gradflow.ops import Array
from gradflow.output_scale import OutputScale
from gradflow.training.data.feed import DataSet, PassData
from gradflow.training.data.streaming import StreamedData


@dataclass(frozen=True)
class ReadyInputs:
    """Inputs that `converted_inputs` has converted, in place of x: those of all rows, or of the rows at ``places``."""

    x: Array
    feature_names: Sequence[str] | None
    places: Array | None = None

    def __len__(self) -> int:
        return len(self.x if self.places is None else self.places)


class FitData(NamedTuple):
    """The data of a fit: training data, validation data if there are any, and the scale of the targets."""

    training: PassData
    validation: PassData | None
    scale: OutputScale | None


def prepare_fit(
    network: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    class_weight: ClassWeight | None = None,
    validation_data: Any = None,
    validation_fraction: float | None = None,
    standardize_targets: bool = False,
    clamp_predictions: bool = False,
) -> FitData:
    """Validate and convert the data of `Trainer.fit`, whose arguments these are.

    Raises:
        DataError: if shapes, dtypes, values, weights or numbers of rows are invalid.
    """
    if validation_fraction is not None:
        if validation_data is not None:
            raise DataError("validation_fraction holds out rows of x, and validation_data are others; pass one of them")
        others = {
            "class_weight": class_weight,
            "standardize_targets": standardize_targets,
            "clamp_predictions": clamp_predictions,
        }
        return _prepare_parts(network, loss, x, y, sample_weight, validation_fraction, others)
    scale = network.output_scale
    if clamp_predictions or (standardize_targets and scale is None):
        of_targets = target_scale(network, loss, x, y, sample_weight)
        scale = scale or (of_targets.without_limits if standardize_targets else OutputScale.neutral(network.n_out))
        scale = scale.widened(of_targets) if clamp_predictions else scale
    prepare = partial(prepare_data, network, loss, class_weight=class_weight, scale=scale)
    training = prepare(x, y, sample_weight=sample_weight, finds_classes=True)
    if validation_data is None:
        return FitData(training, None, scale)
    if isinstance(validation_data, Source):
        validation_data = (validation_data, None)
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise DataError(
            f"validation_data must be a pair (x, y), got {type(validation_data).__name__}, or (x, y, sample_weight)"
        )
    weight = validation_data[2] if len(validation_data) == 3 else None
    validation = prepare(
        *validation_data[:2],
        sample_weight=weight,
        kind="validation ",
        feature_names=training.feature_names,
        classes=training.classes,
    )
    _check_classes(network, loss, training, validation)
    return FitData(training, validation, scale)


def _prepare_parts(
    network: Sequential, loss: Loss, x: Any, y: Any, sample_weight: Any, fraction: float, others: dict[str, Any]
) -> FitData:
    """Hold out rows for validation, of each class the same fraction, and prepare both parts."""
    if (source := _source(x, y, sample_weight, "")) is not None:
        stratify = are_labels(network, loss, source.sample().y)
        rows, held_out = source.split(validation_fraction=fraction, seed=network.seed, stratify=stratify)
        return prepare_fit(network, loss, rows, None, validation_data=held_out, **others)
    stratify = are_labels(network, loss, as_targets("y", y, network.backend))
    training, validation = split(
        x, y, sample_weight, validation_fraction=fraction, seed=network.seed, stratify=stratify
    )
    weight = None if sample_weight is None else training[2]
    try:
        return prepare_fit(network, loss, *training[:2], sample_weight=weight, validation_data=validation, **others)
    except DataError:
        prepare_fit(network, loss, x, y, sample_weight=sample_weight, **others)  # names the row among all rows
        raise


def are_labels(network: Sequential, loss: Loss, y: Array) -> bool:
    """True for one class label for each row; False for class probabilities, and for anything else."""
    if _n_classes(network, loss) is None or y.shape[1:] not in ((), (1,)):
        return False
    return y.dtype.kind != "f" or bool((y % 1 == 0).all())


def prepare_data(
    network: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    kind: str = "",
    sample_weight: Any = None,
    class_weight: ClassWeight | None = None,
    scale: OutputScale | None = None,
    feature_names: Sequence[str] | None = None,
    classes: Classes | None = None,
    finds_classes: bool = False,
) -> PassData:
    """Validate and convert data for training or evaluation. A weighted source is read once, for the mean weight.

    Args:
        network: the network.
        loss: the loss, which converts the targets.
        x, y: inputs and targets, or a source and None.
        kind: prefix for the data's name in errors.
        sample_weight, class_weight: weights of rows and classes; a source contains its row weights.
        scale: standardizes the targets.
        feature_names: names of the table columns to use; None uses those of the network, or all if it has none.
        classes: the names of the classes; None uses those of the network.
        finds_classes: find the names in the targets if there are none yet, and the targets are not class numbers; for
            that a source is read once.

    Raises:
        DataError: if shapes, dtypes, values, weights or numbers of rows are invalid.
    """
    options: dict[str, Any] = {
        "kind": kind,
        "class_weight": class_weight,
        "scale": scale,
        "feature_names": feature_names,
    }
    options |= {"classes": classes, "finds_classes": finds_classes}
    source = _source(x, y, sample_weight, kind)
    if source is None:
        return prepare_arrays(network, loss, x, y, sample_weight=sample_weight, **options)
    return _prepare_source(network, loss, source, **options)


def _prepare_source(
    network: Sequential,
    loss: Loss,
    source: Source,
    *,
    kind: str,
    class_weight: ClassWeight | None,
    scale: OutputScale | None,
    feature_names: Sequence[str] | None,
    classes: Classes | None,
    finds_classes: bool,
) -> StreamedData:
    n_classes = _n_classes(network, loss)
    sample = source.sample()
    classes = classes or _known_classes(network, loss)
    if classes is None and finds_classes:
        classes = _found_classes(network, loss, kind, source, sample)
    class_weight = _checked_class_weight(class_weight, n_classes, classes)
    of_targets = TargetFormat(network, loss, f"{kind}y", scale, classes)

    def targets_of(block: Block) -> Array:
        return of_targets(_targets(block, kind), block.where)

    def weighed(block: Block, targets: Array) -> Converted:
        weight = np.ones(len(block)) if block.sample_weight is None else block.sample_weight
        return weight, _classes_or_one(network, loss, targets)

    weights = None
    names = feature_names or _feature_names(network, sample.x)
    inputs = input_format(network, names)
    if class_weight is not None or sample.sample_weight is not None:
        parts = (block.converted(lambda block: weighed(block, targets_of(block))) for block in source.target_blocks())
        weights = RowWeights.fit(parts, class_weight, n_classes or 1, kind)

    def converted(block: Block) -> Converted:
        targets = targets_of(block)
        arrays = inputs(f"{kind}x", block.x, block.where), targets
        return arrays if weights is None else (*arrays, weights.of(*weighed(block, targets), dtype=network.dtype))

    totals = None if weights is None or n_classes is None else weights.class_totals
    return StreamedData(
        source,
        converted,
        is_weighted=weights is not None,
        class_totals=totals,
        feature_names=names,
        classes=classes,
    )


def _source(x: Any, y: Any, sample_weight: Any, kind: str) -> Source | None:
    """Return user data as a source; None for arrays that are used as a whole."""
    if not isinstance(x, Source):
        return Arrays(x, y, sample_weight) if is_memory_mapped(x) or is_memory_mapped(y) else None
    if y is not None:
        raise DataError(f"{kind}x is a source and already contains the targets; do not pass {kind}y")
    if sample_weight is not None:
        raise DataError(
            f"{kind}x is a source and must contain its weights: name their column, as in Parquet(..., "
            "sample_weight='weight'), or pass Arrays(x, y, sample_weight), or Batches of (x, y, sample_weight)"
        )
    return x


def prepare_arrays(
    network: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    kind: str = "",
    sample_weight: Any = None,
    class_weight: ClassWeight | None = None,
    scale: OutputScale | None = None,
    feature_names: Sequence[str] | None = None,
    classes: Classes | None = None,
    finds_classes: bool = False,
) -> DataSet:
    """Validate and convert inputs and targets given as arrays or tables; arguments as for `prepare_data`.

    Raises:
        DataError: if shapes, dtypes, values, weights or numbers of rows are invalid.
    """
    backend = network.backend
    inputs = converted_inputs(network, f"{kind}x", x, feature_names)
    y = as_targets(f"{kind}y", y, backend)
    if y.ndim == 0 or len(y) != len(inputs):
        rows = "no dimension" if y.ndim == 0 else f"{len(y)} rows"
        raise DataError(f"{kind}x has {len(inputs)} rows, but {kind}y has {rows}; they must match")
    where = Where(range(len(y)))
    classes = classes or _known_classes(network, loss)
    if classes is None and finds_classes:
        classes = _found_classes(network, loss, kind, None, Block(Table((), ()), y, where))
    targets = TargetFormat(network, loss, f"{kind}y", scale, classes)(y, where)
    n_classes = _n_classes(network, loss)
    class_weight = _checked_class_weight(class_weight, n_classes, classes)
    weight = None
    if sample_weight is not None or class_weight is not None:
        given, labels = np.ones(len(inputs)), _classes_or_one(network, loss, targets)
        if sample_weight is not None:
            given = _sample_weights(network, f"{kind}sample_weight", sample_weight, len(inputs))
        weights = RowWeights.fit([(given, labels)], class_weight, n_classes or 1, kind)
        weight = weights.of(given, labels, dtype=network.dtype)
    return DataSet(inputs.x, targets, weight, inputs.feature_names, classes, inputs.places)


def converted_inputs(network: Sequential, name: str, x: Any, feature_names: Sequence[str] | None = None) -> ReadyInputs:
    """Validate and convert the inputs of some data, called ``name`` in errors, unless they are ready.

    Raises:
        DataError: if shape, dtype or values are invalid.
    """
    if isinstance(x, ReadyInputs):
        return x
    x = as_columns(name, x)
    names = feature_names or _feature_names(network, x)
    return ReadyInputs(input_format(network, names)(name, x), names)


def _feature_names(network: Sequential, x: Any) -> tuple[str, ...] | None:
    """Return the feature names of the network, or of these inputs if it has none yet."""
    return network.feature_names or (x.names if isinstance(x, Table) and network.preprocessing is None else None)


def _sample_weights(network: Sequential, name: str, sample_weight: Any, rows: int) -> np.ndarray:
    values = _on_host(as_array(name, sample_weight, network.backend), network)
    return checked_weights(name, values, Where(range(rows)))


class TargetFormat(NamedTuple):
    """The targets that a loss takes, made from user data.

    Attributes:
        network, loss: the network, and the loss, which converts the targets.
        name: names the targets in errors.
        scale: standardizes the targets.
        classes: names of the classes, which the targets then hold; None if they are numbers.
    """

    network: Sequential
    loss: Loss
    name: str
    scale: OutputScale | None
    classes: Classes | None

    def __call__(self, y: Array, where: Where) -> Array:
        """Convert targets; ``where`` says which rows these are, for errors."""
        network, loss = self.network, self.loss
        if self.classes is not None and not _may_be_probabilities(network, y):
            y = class_numbers(self.name, _on_host(y, network), self.classes, where)
        elif y.dtype.kind == "O":
            raise _no_names(network, loss, self.name, y, where)
        if self.scale is None:
            return _checked_targets(loss, y, network, network.dtype)
        # Standardize in float64: large targets must not lose precision before their mean is subtracted.
        targets = _checked_targets(loss, y, network, np.dtype(np.float64))
        of_targets = self.scale.of_targets(loss.outputs_per_target) if _takes_scales(loss) else None
        if of_targets is None or targets.shape[1:] != (len(of_targets.mean),):
            raise DataError(
                "the network has an output_scale, from training a regression on standardized targets, which loss "
                f"{loss.name!r} does not support; set network.output_scale = None to train it for another task"
            )
        return of_targets.standardize(targets, network.dtype)


def _may_be_probabilities(network: Sequential, y: Array) -> bool:
    """True for targets with one probability for each class."""
    return network.n_out > 1 and y.ndim == 2 and y.shape[1] == network.n_out


def _known_classes(network: Sequential, loss: Loss) -> Classes | None:
    """Return the class names of the network.

    Raises:
        DataError: if there are any, but the loss has no classes.
    """
    if network.classes is not None and not _takes_names(network, loss):
        raise DataError(
            f"the network has classes, {', '.join(map(repr, network.classes))}, which loss {loss.name!r} does not "
            "support; set network.classes = None to train it for another task"
        )
    return network.classes


def _takes_names(network: Sequential, loss: Loss) -> bool:
    return loss.takes_classes and _n_classes(network, loss) is not None


def _found_classes(network: Sequential, loss: Loss, kind: str, source: Source | None, sample: Block) -> Classes | None:
    """Return the names of the classes in the targets, sorted; None if these are class numbers, or not classes.

    Args:
        network, loss: the network and the loss.
        kind: prefix for the data's name in errors.
        source: the data; None if the sample is all.
        sample: its first rows.

    Raises:
        DataError: if there are not as many names as classes, or not all targets are names.
    """
    n_classes = _n_classes(network, loss)
    if n_classes is None or not _takes_names(network, loss):
        return None

    def are_named(block: Block) -> bool:
        (y,) = block.converted(lambda block: (_targets(block, kind),))
        return are_names(y, n_classes, takes_probabilities=loss.output_activation == "sigmoid")

    if not are_named(sample):
        # Integers may be class numbers in the first rows, and others later.
        if source is None or source.targets_take_a_pass or sample.y.dtype.kind not in "iu":
            return None
        with closing(source.target_blocks()) as blocks:
            if not any(map(are_named, blocks)):
                return None
    elif sample.y.dtype.kind == "b":
        return (False, True)
    finder = ClassFinder(f"{kind}y", network.n_out)

    def added(block: Block) -> Converted:
        targets = _on_host(_targets(block, kind), network)
        finder.update(targets, block.where)
        return (targets,)

    for block in [sample] if source is None else source.target_blocks():
        block.converted(added)
    return finder.classes()


def _no_names(network: Sequential, loss: Loss, name: str, y: np.ndarray, where: Where) -> DataError:
    """Return the error for text where class numbers or other numbers are needed."""
    place = next((place for place, value in enumerate(y) if value is not None), 0)
    text = f"{name} holds text, such as {shown(y[place])} in {where.row(place)}"
    if _takes_names(network, loss):
        return DataError(
            f"{text}, but the network knows no class names: it was not trained yet, or on class numbers. Train it on "
            "names, or list them in the order of its outputs: network.classes = [...]"
        )
    return DataError(
        f"{text}, but loss {loss.name!r} needs numbers{_of_outputs(network, loss)}. For classes use "
        "'softmax_cross_entropy' and an output for each, or 'binary_cross_entropy' and one output; numbers stored as "
        f"text convert with {name.split()[-1]}.astype(float)"
    )


def _of_outputs(network: Sequential, loss: Loss) -> str:
    return f", {network.n_out} in each row" if loss.takes_classes else ""


def _checked_targets(loss: Loss, y: Any, network: Sequential, dtype: np.dtype) -> Array:
    """Convert targets with the loss, and check the result: a user's loss may return anything."""
    targets = loss.targets(y, network.n_out, dtype)
    if not hasattr(targets, "dtype") or targets.dtype.kind not in "fiu" or targets.ndim == 0 or len(targets) != len(y):
        returned = f"{targets.dtype} {targets.shape}" if hasattr(targets, "dtype") else shown(targets)
        raise DataError(
            f"targets(y, n_out, dtype) of loss {loss!r} must return an array of numbers with one row for each of the "
            f"{len(y)} in y, got {returned}"
        )
    return targets


def _takes_scales(loss: Loss) -> bool:
    return loss.output_activation == "identity" and loss.takes_any_scale


def _targets(block: Block, kind: str) -> np.ndarray:
    """Return the targets of a block: finite numbers, booleans, or names as text objects."""
    if block.y.shape[1:] == (0,):
        raise DataError(
            f"{kind}x is a source without targets, which is enough to predict but not to train: name the column, as "
            "in CSV(..., target='y'), or let Batches yield pairs (x, y)"
        )
    return finite_targets(f"{kind}y", numbers_or_names(f"{kind}y", block.y, block.where), block.where)


def _n_classes(network: Sequential, loss: Loss) -> int | None:
    """Return the number of classes; None if the targets are not classes."""
    if loss.output_activation == "softmax":
        return network.n_out
    return 2 if loss.output_activation == "sigmoid" and network.n_out == 1 else None


def _checked_class_weight(
    class_weight: ClassWeight | None, n_classes: int | None, classes: Classes | None
) -> ClassWeight | None:
    """Return class weights by class number."""
    if class_weight is not None and n_classes is None:
        raise DataError(
            "class_weight requires classes: softmax_cross_entropy, or binary_cross_entropy and one output; use "
            "sample_weight"
        )
    return weights_by_number(class_weight, classes)


def _classes_or_one(network: Sequential, loss: Loss, targets: Array) -> np.ndarray:
    """Return the class of each row, or its class probabilities, on the host; 0 for all rows without classes."""
    if _n_classes(network, loss) is None:
        return np.zeros(len(targets), np.int32)
    host = _on_host(targets, network)
    return np.hstack([1 - host, host]) if loss.output_activation == "sigmoid" else host


def _on_host(array: Array, network: Sequential) -> np.ndarray:
    """Return an array as a NumPy array, after any CUDA stream of the caller has finished writing it."""
    if not hasattr(array, "__cuda_array_interface__"):
        return np.asarray(array)
    return network.backend.to_host(network.backend.adopt(array))


def target_scale(network: Sequential, loss: Loss, x: Any, y: Any, sample_weight: Any = None) -> OutputScale:
    """Return the output scale for the training targets, with their range as limits; a source is read once.

    Rows of weight 0 are ignored; other weights have no effect.

    Raises:
        DataError: if the loss is not a regression loss, or the targets are invalid.
    """
    if not _takes_scales(loss):
        raise DataError(f"standardize_targets and clamp_predictions require a regression loss, got {loss.name!r}")
    n_targets, rest = divmod(network.n_out, loss.outputs_per_target)

    def numbers(targets: Array, weights: np.ndarray | None, where: Where) -> Converted:
        if targets.dtype.kind == "O":
            raise _no_names(network, loss, "y", targets, where)
        targets = loss.targets(targets, network.n_out, np.dtype(np.float64))
        if targets.ndim != 2 or targets.shape[1] != n_targets or rest:
            raise DataError(
                f"standardize_targets and clamp_predictions need one target for each of the {network.n_out} outputs"
            )
        on_host = _on_host(targets, network)
        return (on_host if weights is None else on_host[weights > 0],)

    def parts(source: Source | None) -> Generator[Converted, None, None]:
        if source is None:
            targets, weights = as_targets("y", y, network.backend), None
            if sample_weight is not None and targets.ndim:
                weights = _sample_weights(network, "sample_weight", sample_weight, len(targets))
            yield numbers(targets, weights, Where(range(len(targets) if targets.ndim else 0)))
            return
        for block in source.target_blocks():
            yield block.converted(lambda block: numbers(_targets(block, ""), block.sample_weight, block.where))

    moments = [Moments("refuse") for _ in range(n_targets)]
    for (targets,) in parts(_source(x, y, sample_weight, "")):
        for of_column, column in zip(moments, targets.T, strict=True):
            of_column.update("y", column, Where(range(len(column))))
    of_all = [of_column.complete() for of_column in moments]
    scale = OutputScale(
        tuple(each.mean for each in of_all),
        tuple(each.std or 1.0 for each in of_all),
        tuple(each.ends[0] for each in of_all),
        tuple(each.ends[1] for each in of_all),
    )
    return scale.of_outputs(loss.outputs_per_target)


def _check_classes(network: Sequential, loss: Loss, training: PassData, validation: PassData) -> None:
    """Raise if the validation data have a class that training never sees, if the classes of both are known.

    Raises:
        DataError: naming the classes.
    """
    seen, held_out = (_class_totals(network, loss, data) for data in (training, validation))
    if seen is not None and held_out is not None and (unseen := np.flatnonzero((seen == 0) & (held_out > 0))).size:
        names = [str(number) if training.classes is None else repr(training.classes[number]) for number in unseen]
        raise DataError(
            f"validation y has classes that do not occur in training: {', '.join(names)}; split the data so that each "
            "class is in both"
        )


def _class_totals(network: Sequential, loss: Loss, data: PassData) -> np.ndarray | None:
    """Return the number of rows of each class; None if there are no classes, or a stream would have to be read."""
    n_classes = _n_classes(network, loss)
    if isinstance(data, StreamedData):
        return data.class_totals
    if n_classes is None or not isinstance(data, DataSet):
        return None
    return class_totals(_classes_or_one(network, loss, data.targets), n_classes)
