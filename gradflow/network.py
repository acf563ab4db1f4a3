"""Networks: an ordered stack of layers on one flat parameter vector and one flat gradient vector."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Self

import numpy as np

from gradflow.access import Access
from gradflow.backends import WORK_FOR_GPU, get_backend, portable_place
from gradflow.backends.availability import gpu_problem
from gradflow.backends.reference import ReferenceBackend
from gradflow.checks import boolean, integer, known_name, sequence, text
from gradflow.data.classes import Classes, checked_classes, class_values
from gradflow.data.inputs import InputFormat
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.sources import Block, Source
from gradflow.data.table import positions
from gradflow.data.where import Where
from gradflow.errors import BackendError, DataError, GradflowError, SlowPathWarning, shown, warn
from gradflow.inference import Inference, InferencePrograms
from gradflow.layers import ACTIVATIONS, EmbedColumns, Layer, Sigmoid, Softmax
from gradflow.layers.base import Attachment
from gradflow.layers.members import averaging, check_members, most_members
from gradflow.layers.stack import (
    all_recorded,
    attach,
    buffers_of,
    check_stack,
    layer_tuple,
    parameters_of,
    record_inference,
    with_inner,
)
from gradflow.losses.base import OUTPUT_ACTIVATIONS
from gradflow.ops import Array
from gradflow.output_scale import OutputScale
from gradflow.parameters import ParameterVectors, check_weights, converted_weight
from gradflow.precision import PRECISIONS, PassPrecision, check_precision
from gradflow.program import Recorder

_PREDICTION_ROWS = 4096
_NOT_PICKLED = (
    "access", "all_parameters", "backend", "gradients", "n_decayed", "n_parameters", "parameter_ranges", "parameters",
    "state", "_epochs_begun", "_inference", "_lowered", "_vectors",
)  # fmt: skip
"""Attributes that a copy recreates: those on the device, and those derived from the layers."""


class Sequential:
    """A stack of layers: the output of each is the input of the next.

    Attributes:
        layers: the layers, a tuple; ``layers[0].weight`` and so on are views into `all_parameters`.
        parameters: the flat vector of trained parameters, on the device, shape (n_parameters,): all weights, then all
            biases.
        gradients: the flat gradient vector of the last batch, of the same shape and on the device.
        all_parameters: `parameters`, followed by those of frozen layers, in one vector.
        state: `all_parameters`, followed by all buffers, such as running means, in one vector.
        parameter_ranges: start and end of each trained parameter in these vectors, by name.
        n_parameters, n_decayed: the number of trained parameters, and of those that penalties apply to.
        n_in, n_out: the numbers of inputs and outputs.
        access: coordinates the threads that use the network.

    Any number of threads may predict concurrently, and `Trainer.evaluate` may run alongside them. While a thread trains
    the network, or a method waits to change its weights, other threads raise or wait (`gradflow.access.Access`).

    ``copy.deepcopy`` and pickle create a network of the same class with the same weights, preprocessing and epoch
    count, so that training continues exactly as in the original. The copy uses the same backend, or another one, with
    a `SlowPathWarning`, if that backend or its device is unavailable.

    A trailing ``Sigmoid()`` or ``Softmax()`` sets `output_activation` and is folded into the loss if that loss works on
    logits; without one, the loss sets it when training begins.

    Args:
        layers: the layers, at least one of them with parameters, such as a `Dense`.
        dtype: "float32" or "float64", for parameters and all computation.
        seed: for initial weights, dropout and shuffles: an integer from 0 to 2**64 - 1.
        backend: "auto", "numpy", "cupy" or "reference"; "auto" selects CuPy if there is a usable GPU, and the network
            has at least 23,438 parameters, else NumPy, which is faster for smaller ones (docs/backends.md). The
            environment variable GRADFLOW_BACKEND overrides what "auto" selects.
        device: "cpu", "cuda" or, for one of several GPUs, "cuda:1"; None is the backend's: for "cupy", as for "cuda",
            the current CUDA device.
        weights: every parameter and buffer by name, as from `get_weights`, instead of random initial weights.

    Raises:
        DataError: if layers or weights do not fit together, or arguments are out of range.
        BackendError: if the backend cannot be used here; the message says why.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        dtype: str = "float32",
        seed: int = 0,
        backend: str = "auto",
        device: str | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        self.layers: tuple[Layer, ...] = layer_tuple(layers)
        self.n_in, self.n_out = check_stack(self.layers)
        check_members(self.layers, None)
        _check_last(self.layers, self.layers[-2] if self._trailing_activation else self.layers[-1])
        self.dtype = _dtype(dtype)
        self.seed = integer("seed", seed, least=0, most=2**64 - 1)
        n_parameters = sum(math.prod(spec.shape) for spec in parameters_of(self.layers).values())
        self.backend: ReferenceBackend = get_backend(backend, device, n_parameters=n_parameters)
        self._backend_is_automatic = backend == "auto" and device is None and not os.environ.get("GRADFLOW_BACKEND")
        self._activation_of_loss = "identity"
        self._output_scale: OutputScale | None = None
        self._preprocessing: Preprocessing | None = None
        self._feature_names: tuple[str, ...] | None = None
        self._classes: Classes | None = None
        self._frozen: tuple[int, ...] = ()
        self._epochs_begun = 0
        self._precision = "float32"
        if weights is not None:  # before anything is allocated
            check_weights(weights, {**parameters_of(self.layers), **buffers_of(self.layers)})
        self._open()
        attachment = self._allocate(self._new_vectors())
        if weights is None:
            self._vectors.initialize(self.seed)
        else:
            self.set_weights(weights)
        attach(self.layers, attachment)  # last, so that a failed construction leaves the layers unattached

    def _open(self) -> None:
        """Set up thread access and the inference programs."""
        self._is_recorded = all_recorded(self.layers)
        self.access = Access()
        self._inference = InferencePrograms(self.access, self._recorded_inference, members=most_members(self.layers))
        self._lowered: PassPrecision | None = None  # made by the first prediction in another precision

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in vars(self):
            raise GradflowError(f"the {name} of a network cannot be changed: {_FIXED[name]}")
        super().__setattr__(name, value)

    # -- parameters and buffers -----------------------------------------------------------------------------------

    def _allocate(self, vectors: ParameterVectors) -> Attachment:
        """Keep the vectors, and return the attachment from which layers get their views."""
        self._vectors = vectors
        self.n_parameters, self.n_decayed = vectors.n_parameters, vectors.n_decayed
        self.parameter_ranges = vectors.ranges
        self.state: Array = vectors.state
        self.all_parameters: Array = self.state[: vectors.n_all]
        self.parameters: Array = self.state[: self.n_parameters]
        self.gradients: Array = vectors.gradients[: self.n_parameters]
        views = vectors.views
        return Attachment(
            parameters={name: views[name] for name in vectors.d_views},
            gradients=vectors.d_views,
            buffers={name: view for name, view in views.items() if name not in vectors.d_views},
            seed=self.seed,
            index=0,
            changing=self._changing,
        )

    def _new_vectors(self) -> ParameterVectors:
        parameters, buffers = parameters_of(self.layers), buffers_of(self.layers)
        return ParameterVectors(self.backend, self.dtype, parameters, buffers, self._frozen)

    @contextmanager
    def _elsewhere(self, find: Callable[[int], Array | None]) -> Iterator[None]:
        """Context in which parameters, buffers and gradients lie in other memory.

        Views from before it are up to date again after it; views from within it do not change after it.

        Args:
            find: returns so many bytes of memory of the backend, uint8; None leaves them where they are.
        """
        vectors = self._vectors
        memory = find(vectors.n_bytes)
        if memory is None:
            yield
            return
        moved = vectors.moved(memory)
        self._attach(moved)
        try:
            yield
        finally:
            moved.copy_to(vectors)
            self._attach(vectors)

    def _attach(self, vectors: ParameterVectors) -> None:
        """Let network and layers use these vectors; programs with others are discarded."""
        with self.access.writing():
            attach(self.layers, self._allocate(vectors), self._frozen)
            self._inference.clear()

    @contextmanager
    def _changing(self, setting: str) -> Iterator[None]:
        """Context in which a layer setting changes; programs recorded with the old value are discarded."""
        if self.access.is_training:
            raise GradflowError(
                f"{setting} cannot be changed during training: the steps were recorded with its previous value; "
                "change it between two calls of fit"
            )
        with self.access.writing():
            yield
            self._inference.clear()

    def get_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of every parameter and buffer by name: "0.weight" (n_in, n_out), "0.bias" (n_out,), etc."""
        with self.access.reading():
            return {name: self.backend.to_host(view) for name, view in self._vectors.views.items()}

    def set_weights(self, weights: Mapping[str, Any], *, partial: bool = False) -> None:
        """Set every parameter and buffer from arrays by name, as `get_weights` returns them.

        Args:
            weights: the arrays by name.
            partial: allow missing names; those parameters and buffers keep their values.

        Raises:
            DataError: if a name is missing or unknown, or a shape or a value does not fit; then nothing is changed.
        """
        arrays = self._vectors.check(weights, partial=boolean("partial", partial))
        with self.access.writing():
            for name, array in arrays.items():
                self._vectors.set(name, array)

    @property
    def frozen(self) -> tuple[int, ...]:
        """Indices of the layers that training leaves unchanged, such as (0, 1, 2); () trains all.

        The parameters of a frozen layer have no gradient, penalty, decay or average, and do not count towards a clipped
        norm. A frozen `BatchNorm` normalizes with its running statistics, as at prediction, and does not update them; a
        frozen `Residual` is frozen with all layers inside it. `Dropout`, which has nothing to train, keeps dropping.

        It can be set at any time except during training. Training then starts afresh for the trained parameters, and
        views such as ``layers[0].weight`` are recreated. It is saved and copied with the network.
        """
        return self._frozen

    @frozen.setter
    def frozen(self, places: Iterable[int]) -> None:
        given = sequence("frozen", places, "a list of the indices of layers, such as [0, 1, 2]")
        last = len(self.layers) - 1
        found = {integer(f"frozen[{index}]", place, least=0, most=last) for index, place in enumerate(given)}
        if found == set(self._frozen):
            return
        if not any(layer.parameters() for index, layer in enumerate(self.layers) if index not in found):
            raise DataError("all layers with parameters would be frozen; leave at least one to train")
        if self.access.is_training:
            raise GradflowError("the layers of a network cannot be frozen during training; freeze them before fit")
        with self.access.writing():
            weights = self.get_weights()
            self._frozen = tuple(sorted(found))
            self._attach(self._new_vectors())
            for name, array in weights.items():
                self._vectors.set(name, array)

    # -- copies ---------------------------------------------------------------------------------------------------

    def copy(self, *, dtype: str | None = None) -> Self:
        """Return an independent network of the same class, with the same layers, weights, seed and backend.

        It has the same epoch count as this one: if both continue training, they see the same shuffles and dropout
        masks.

        Args:
            dtype: "float32" or "float64"; None keeps the dtype.

        Raises:
            DataError: if the dtype is unknown, or weights are too large for it.
        """
        state = copy.deepcopy(self.__getstate__())
        if dtype is not None and (wanted := _dtype(dtype)) != self.dtype:
            state["attributes"]["dtype"] = wanted
            for name, weight in self.get_weights().items():
                converted_weight(name, weight, wanted)
        twin = type(self).__new__(type(self))
        twin.__setstate__(state)
        return twin

    def with_head(self, layers: Sequence[Layer], *, seed: int | None = None) -> Sequential:
        """Return an independent network with copies of the same body and other last layers, for another task.

        The body is all that is in front of the last layer with parameters, and keeps its weights, and which of its
        layers are frozen. Preprocessing, feature names, dtype and backend stay; classes, output activation and output
        scale belong to the old head and are left out. The epoch count begins at 0.

        Args:
            layers: the new last layers, at least one of them with parameters, such as ``[gf.Dense(64, 5)]``.
            seed: for the initial weights of the head, dropout and shuffles; None keeps the seed.

        Raises:
            DataError: if the layers do not fit the body, or there is no body.
        """
        head = layer_tuple(layers)
        if not any(layer.parameters() for layer in head):
            raise DataError("a head needs at least one layer with parameters, such as Dense(n_in, n_out)")
        length = max(place for place, layer in enumerate(self.layers) if layer.parameters())
        if not any(layer.parameters() for layer in self.layers[:length]):
            raise DataError("the network has one layer with parameters, and so no body; create a new network")
        network = Sequential(
            [*copy.deepcopy(self.layers[:length]), *head],
            dtype=self.dtype.name,
            seed=self.seed if seed is None else seed,
            backend=self.backend.name,
            device=self.backend.place,
        )
        weights = self.get_weights()
        body = {name: weight for name, weight in weights.items() if int(name.partition(".")[0]) < length}
        network.set_weights(body, partial=True)
        network.frozen = [place for place in self._frozen if place < length]
        network._backend_is_automatic, network.precision = self._backend_is_automatic, self._precision
        network._preprocessing, network._feature_names = self._preprocessing, self._feature_names
        return network

    def __copy__(self) -> Self:
        return self.copy()  # Layers belong to one network, so a shallow copy is impossible.

    def __getstate__(self) -> dict[str, Any]:
        with self.access.reading():
            weights, epochs = self.backend.to_host(self.state), self.epochs_begun
        kept = {name: value for name, value in vars(self).items() if name not in _NOT_PICKLED}
        place = {"backend": self.backend.name, "device": portable_place(self.backend)}
        return {"attributes": kept, **place, "state": weights, "epochs_begun": epochs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        earlier_versions = {"_precision": "float32", "_backend_is_automatic": False, "_classes": None}
        vars(self).update(earlier_versions | state["attributes"])
        self.backend = _backend_of_pickle(state["backend"], state.get("device"))
        self._open()
        attach(self.layers, self._allocate(self._new_vectors()), self._frozen)
        with np.errstate(all="ignore"):
            weights = state["state"].astype(self.dtype)
        self.backend.copy(self.backend.from_host(weights), self.state)
        self.backend.to_caller(self.state)
        self._epochs_begun = state["epochs_begun"]

    @property
    def epochs_begun(self) -> int:
        """Number of epochs trained so far, including an interrupted one; the next epoch continues this count.

        Together with the seed it determines the row order and dropout masks of an epoch. It is copied and saved. While
        a network is trained, it is that of the last finished epoch.
        """
        return self._epochs_begun

    @epochs_begun.setter
    def epochs_begun(self, epochs: int) -> None:
        with self.access.writing():
            self._epochs_begun = integer("epochs_begun", epochs, least=0, most=2**62)

    # -- outputs -----------------------------------------------------------------------------------------------

    @property
    def output_activation(self) -> str:
        """Activation that turns logits into predictions: "identity", "sigmoid" or "softmax".

        A trailing `Sigmoid` or `Softmax` layer sets it; otherwise the loss does when training begins.
        """
        return self._trailing_activation or self._activation_of_loss

    @output_activation.setter
    def output_activation(self, name: str) -> None:
        known_name("output activation", name, OUTPUT_ACTIVATIONS)
        if self._trailing_activation not in (None, name):
            raise DataError(f"the network ends in {self.layers[-1]!r}, so its output activation cannot be {name!r}")
        with self.access.writing():
            self._activation_of_loss = name
            self._inference.clear()

    @property
    def output_scale(self) -> OutputScale | None:
        """Scale that `predict` uses to convert standardized outputs to target units; None leaves them as they are.

        ``Trainer(..., standardize_targets=True)`` sets it when training begins, and with ``clamp_predictions=True`` its
        limits, within which all predictions then are.
        """
        return self._output_scale

    @output_scale.setter
    def output_scale(self, scale: OutputScale | None) -> None:
        # Files and copies would turn a subclass into the base class.
        if scale is not None and type(scale) is not OutputScale:
            raise DataError(f"output_scale must be a gradflow.output_scale.OutputScale, got {shown(scale)}")
        if scale is not None and len(scale.mean) != self.n_out:
            raise DataError(f"output_scale must have one mean for each of {self.n_out} outputs, got {scale!r}")
        with self.access.writing():
            self._output_scale = scale
            self._inference.clear()

    @property
    def precision(self) -> str:
        """Precision of predictions on a GPU: "float32", or that of the training (`Trainer`), which sets it.

        The outputs are float32 in any case. In 16 bits, each call first converts the weights, which takes longer than a
        prediction of a few rows: set it to "float32" if that matters, or for all of its digits. It is saved and copied
        with the network. A CPU, or a GPU that does not support it, ignores it.
        """
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        known_name("precision", name, PRECISIONS)
        with self.access.writing():
            self._precision = name
            self._lowered = None
            self._inference.clear()

    @property
    def ends_in_activation(self) -> bool:
        """True if a trailing layer sets the output activation."""
        return self._trailing_activation is not None

    @property
    def _trailing_activation(self) -> str | None:
        # Exact types only: a subclass may compute something else, and must not be skipped.
        last = type(self.layers[-1])
        return "sigmoid" if last is Sigmoid else "softmax" if last is Softmax else None

    @property
    def logit_layers(self) -> Sequence[Layer]:
        """Layers before the output activation; a `MeanOfMembers` averages what that makes of the members' outputs."""
        layers = self.layers[:-1] if self._trailing_activation else self.layers
        return averaging(layers, self.output_activation)

    # -- inputs ---------------------------------------------------------------------------------------------------

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preprocessing applied to user data before the first layer; None passes it through unchanged.

        `gradflow.data.fit_preprocessing` creates it. It belongs to the network: training, prediction and evaluation
        apply it, and it is saved and copied with the network. It must produce as many inputs as the first layer takes.
        If it has `gradflow.data.Embedding` columns, the first layer is an `EmbedColumns` with their tables.
        """
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing | None) -> None:
        if preprocessing is not None:
            checked_preprocessing(preprocessing, self.n_in)
        if preprocessing is not None and preprocessing.tables != (tables := _tables(self.layers)):
            raise DataError(
                f"the embeddings of the preprocessing have the tables {preprocessing.tables}, but the first layer has "
                f"{tables or 'none'}; create the network with gradflow.MLP([...], preprocessing=preprocessing), or let "
                "its layers begin with gradflow.EmbedColumns(preprocessing.n_out, preprocessing.tables)"
            )
        with self.access.writing():
            self._preprocessing = preprocessing

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the input columns, in order; None if the network was trained on arrays.

        The preprocessing defines them. Without preprocessing, the first `Trainer.fit` on a table with named columns (a
        DataFrame, a dict, a file) sets them, and they are saved and copied with the network. From then on every table
        must have these columns. They are matched by name, in any order, and additional columns are ignored. Arrays, and
        tables as long as no names are known, are taken by position. Set None to forget the names.
        """
        names = self._feature_names if self._preprocessing is None else self._preprocessing.names
        return None if names is None or names == positions(len(names)) else names

    @feature_names.setter
    def feature_names(self, names: Sequence[str] | None) -> None:
        if names is not None and self._preprocessing is not None:
            raise DataError("the preprocessing determines the columns of this network, and feature_names with them")
        if names is not None:
            given = sequence("feature_names", names, "a list of names, or None")
            names = [text("each name in feature_names", name) for name in given]
        if names is not None and not len(set(names)) == len(names) == self.n_in:
            raise DataError(
                f"feature_names must be {self.n_in} different names, as the first layer expects, got {names}"
            )
        with self.access.writing():
            self._feature_names = None if names is None else tuple(names)

    # -- classes --------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> Classes | None:
        """Names of the classes, in the order of the outputs; None if the network knows classes by their numbers.

        The first `Trainer.fit` on targets that are no class numbers sets them, in sorted order: text; booleans; and
        other numbers than the integers from 0 to n_out - 1. Set them before it to choose the order, or to name classes
        that do not occur in the training data: one for each output, or two for a network with one output. From then on
        targets and class weights must have these names, and `predict_classes` returns them. They are saved and copied
        with the network. Set None to forget the names.
        """
        return self._classes

    @classes.setter
    def classes(self, names: Sequence[str | float] | None) -> None:
        classes = None if names is None else checked_classes(names, self.n_out)
        with self.access.writing():
            self._classes = classes

    # -- prediction -----------------------------------------------------------------------------------------------

    def predict(self, x: Any) -> Array:
        """Return predictions (batch, n_out) for x (batch, n_in): outputs after the output activation, in target units.

        x is an array; a table, whose columns are matched by name (`feature_names`); or a source, such as
        `gradflow.data.Parquet`, which is read block by block, in row order, and whose targets are ignored; or one block
        of it, from ``source.blocks()``, if the outputs for all rows would not fit in memory. NumPy inputs give NumPy
        outputs, and CuPy inputs give CuPy outputs. Large inputs are processed in blocks of rows.

        Raises:
            DataError: if shape, dtype or values do not fit.
        """
        return self._infer(x, activated=True)

    def logits(self, x: Any) -> Array:
        """Return pre-activation outputs (batch, n_out) for x (batch, n_in). Otherwise the same as `predict`."""
        return self._infer(x, activated=False)

    def predict_classes(self, x: Any) -> Array:
        """Return the predicted class of each row, (batch,): its name if the network has `classes`, else its number.

        With several outputs the class is that of the largest. With one sigmoid output it is the second one if p > ½,
        else the first. With several sigmoid outputs, each is 1 if p > ½, else 0, (batch, n_out). Numbers are int64;
        names are int64, float64, bool, or text as objects, which are a NumPy array in any case.

        Raises:
            DataError: if the network has one output and is not a classifier, or x does not fit.
        """
        numbers = self._predicted_numbers(x)
        if self.classes is None or numbers.ndim == 2:
            return numbers
        names = class_values(self.classes)
        if isinstance(numbers, np.ndarray):
            return names[numbers]
        with self.backend.current():
            return names[numbers.get()] if names.dtype == object else self.backend.from_host(names)[numbers]

    def _predicted_numbers(self, x: Any) -> Array:
        if self.output_activation == "sigmoid":
            with self.backend.current():
                classes = (self.logits(x) > 0).astype(np.int64)
            return classes.reshape(-1) if self.n_out == 1 else classes
        if self.n_out == 1:
            raise DataError(
                "a network with one output and no sigmoid predicts numbers, not classes; use predict(x), or train it "
                "with loss 'binary_cross_entropy'"
            )
        with self.backend.current():
            return self.logits(x).argmax(axis=1).astype(np.int64)

    def _infer(self, x: Any, *, activated: bool, where: Where | None = None) -> Array:
        if isinstance(x, Source):
            return self._infer_source(x, activated=activated)
        if isinstance(x, Block):
            return x.converted(lambda block: (self._infer(block.x, activated=activated, where=block.where),))[0]
        inputs = input_format(self)
        selected = inputs.select("x", x)
        where = where or Where(range(len(selected)))
        on_device = hasattr(x, "__cuda_array_interface__")
        shape = (len(selected), self.n_out)
        output: Array = self.backend.empty_for_caller(shape, self.dtype) if on_device else np.empty(shape, self.dtype)
        with self.inferring(), self.backend.current():
            if (precision := self._inference_precision()) is not None:
                precision.refresh()
            at_once = max(_PREDICTION_ROWS // most_members(self.layers), 1)
            for start in range(0, len(selected), at_once):
                rows = slice(start, start + at_once)
                block = inputs.convert("x", selected[rows], where[rows])
                self._infer_block(block, activated, output[rows])
        return self.backend.to_caller(output) if on_device else output

    def _infer_source(self, source: Source, *, activated: bool) -> np.ndarray:
        with self.inferring(), closing(source.blocks()) as blocks:
            outputs = [self._infer(block, activated=activated) for block in blocks if len(block)]
        if not outputs:
            raise DataError("x has no rows; at least 1 is needed")
        return np.concatenate(outputs)

    def _infer_block(self, block: Array, activated: bool, output: Array) -> None:
        inference = self._inference.take(len(block), activated=activated)
        self.backend.receive(block, inference.x)
        inference.program.run()
        if isinstance(output, np.ndarray):
            output[...] = self.backend.to_host(inference.y)
        else:
            self.backend.copy(inference.y, output)
        self._inference.put_back(inference, activated=activated)

    def _recorded_inference(self, rows: int, activated: bool) -> Inference:
        is_activated = activated and self.output_activation != "identity"
        activation = [ACTIVATIONS[self.output_activation]()] if is_activated else []
        recorder, precision = Recorder(self.backend), self._inference_precision()
        x = self.backend.empty((rows, self.n_in), self.dtype)
        if precision is None:
            y = record_inference(recorder, [*self.logit_layers, *activation], x)
        else:
            y = record_inference(recorder, activation, precision.record_inference(recorder, self.logit_layers, x))
        if activated and self.output_scale is not None:
            self.output_scale.record(recorder, y)
        return Inference(recorder.program(), x, y)

    def _inference_precision(self) -> PassPrecision | None:
        """Return the precision of predictions; None for that of the network's own arrays, also where its device does
        not support the other one."""
        kind = PRECISIONS[self._precision]
        if kind is None:
            return None
        with self.access.lock:
            if self._lowered is None:
                try:
                    check_precision(self._precision, self.backend, self.dtype, self.layers)
                except (BackendError, DataError):
                    return None
                self._lowered = kind(self.backend, self.all_parameters)
            return self._lowered

    def inferring(self) -> AbstractContextManager[None]:
        """Context in which layers compute outputs: the weights do not change, and layers that run Python code, which
        may keep state, run in one thread at a time.

        Raises:
            GradflowError: if another thread trains the network.
        """
        return self.access.reading() if self._is_recorded else self.access.writing()

    def _is_worth_a_gpu(self, rows: int) -> bool:
        """True if "auto" selected the CPU for this network, but for steps on so many rows a GPU here may be faster."""
        is_left_to_cpu = self._backend_is_automatic and self.backend.name == "numpy"
        return is_left_to_cpu and self.n_parameters * rows >= WORK_FOR_GPU and gpu_problem() is None

    def __repr__(self) -> str:
        place = self.backend.place
        device = "" if place in ("cpu", "cuda:0") else f", device={place!r}"
        return (
            f"{type(self).__name__}([{', '.join(map(repr, self.layers))}], dtype={self.dtype.name!r}, "
            f"seed={self.seed}, backend={self.backend.name!r}{device})"
        )


_DTYPES = ("float32", "float64")

_FIXED = {
    "layers": "create a new one from copies of the layers to keep: gradflow.Sequential([*copy.deepcopy(layers), ...])",
    "dtype": "network.copy(dtype=...) creates one of another dtype",
    "seed": "create a new one with another seed",
}


def _dtype(name: str) -> np.dtype:
    return np.dtype(known_name("dtype", getattr(name, "name", name), _DTYPES))


def _backend_of_pickle(name: str, device: str | None) -> ReferenceBackend:
    """Return the backend that a network was pickled with, or the automatic one, with a warning, if it is unusable."""
    try:
        return get_backend(name, device)
    except BackendError as error:
        other = get_backend("auto")
        warn(
            f"the network was pickled on another device, and is now on {other.name!r}, {other.place!r}: {error}",
            SlowPathWarning,
        )
        return other


def input_format(network: Sequential, feature_names: Sequence[str] | None = None) -> InputFormat:
    """Return the validation and conversion of user data to inputs of a network's first layer.

    Args:
        network: the network.
        feature_names: the columns to take from tables; None takes those of the network, if it has any.
    """
    names = feature_names or network.feature_names
    categories = tuple(rows for rows, _ in _tables(network.layers))
    return InputFormat(network.n_in, network.dtype, network.backend, network.preprocessing, names, categories)


def checked_preprocessing(preprocessing: Any, n_in: int) -> Preprocessing:
    """Return the preprocessing after checking that it produces as many inputs as the network takes."""
    if type(preprocessing) is not Preprocessing:
        raise DataError(
            f"preprocessing must be what gradflow.data.fit_preprocessing returns, got {shown(preprocessing)}"
        )
    if preprocessing.n_out != n_in:
        raise DataError(
            f"the preprocessing creates {preprocessing.n_out} inputs, but the first layer has {n_in}; create the "
            "network with preprocessing.n_out inputs"
        )
    return preprocessing


def _tables(layers: Sequence[Layer]) -> tuple[tuple[int, int], ...]:
    """Return the tables of embeddings that the first layer has, or none."""
    return layers[0].tables if isinstance(layers[0], EmbedColumns) else ()


def _check_last(layers: Sequence[Layer], last: Layer) -> None:
    """Check that no layer comes after one that makes the predictions, except for an output activation."""
    if wrong := next((layer for layer in with_inner(layers) if layer.last_only and layer is not last), None):
        raise DataError(
            f"{wrong!r} makes the predictions of its network: it must be the last layer, with no more than a Sigmoid "
            "or Softmax after it, and not inside another layer"
        )


def recording_on(network: Sequential, backend: ReferenceBackend) -> Sequential:
    """Return a view of a network on a backend that records programs but runs none; it shares layers and arrays.

    It serves to count memory and traffic; it must not be trained, changed, copied or saved.
    """
    view = object.__new__(type(network))
    vars(view).update(vars(network), backend=backend)
    return view
