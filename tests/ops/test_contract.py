"""The contract: every op has a case, a kernel, and implementations that take its arguments by their names."""

from __future__ import annotations

import inspect
import re
from functools import partial

import numpy as np
import pytest

from gradflow.backends import ReferenceBackend, get_backend
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.kernel_sources import Language, kernels
from gradflow.errors import DataError
from gradflow.ops import OPS
from gradflow.testing import CASES, SHAPES, VALUES, Draw


def test_every_op_has_a_case() -> None:
    assert CASES.keys() == OPS.keys(), "add a Case to a file of gradflow/testing for every op"


@pytest.mark.parametrize("name", OPS)
def test_case_makes_the_arguments_of_its_op(name: str) -> None:
    case = CASES[name]
    assert case.without.keys() <= {*SHAPES, *VALUES}
    assert all(len(reason) > 10 for reason in case.without.values())
    for variant in case.variants:
        arguments = case.make(Draw("float32", "odd", "ordinary"), **variant)
        assert OPS[name].arguments(**arguments).keys() == arguments.keys()
        assert set(OPS[name].writes) <= arguments.keys()
        assert {argument for pair in OPS[name].in_place for argument in pair} <= arguments.keys()


@pytest.mark.parametrize("name", OPS)
def test_shape_of_every_array_is_stated(name: str) -> None:
    for variant in CASES[name].variants:
        arguments = CASES[name].make(Draw("float32", "odd", "ordinary"), **variant)
        OPS[name].check_shapes(arguments)
        stated = re.findall(r"\w+(?=[,:])", OPS[name].shapes(arguments))
        arrays = {key for key, value in arguments.items() if value is None or isinstance(value, np.ndarray)}
        assert sorted(stated) == sorted(arrays)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("gemm", {"b": (4, 3)}, r"'b' of shape \(k, n\) must be \(\d+, 3\) beside .* got \(4, 3\)"),
        ("add_bias", {"bias": (2,)}, r"'bias' of shape \(columns\) must be \(13,\) beside .* got \(2,\)"),
        ("relu_forward", {"y": (7, 12)}, r"'y' of shape \(\*shape\) must be \(7, 13\) beside .* got \(7, 12\)"),
        ("adam", {"second_moment": (3,)}, r"'second_moment' of shape \(n\) must be .* got \(3,\)"),
        ("adam", {"clock": (3,)}, r"'clock' of shape \(4\) must be \(4,\) beside .* got \(3,\)"),
        ("column_sum", {"x": (5,)}, r"'x' of shape \(rows, columns\) must be another number of dimensions"),
        ("softmax_cross_entropy_labels", {"targets": (2,)}, r"'targets' of shape \(rows\) must be \(7,\)"),
        ("gather_batch", {"batch_x": (2, 5)}, r"op 'gather_batch': argument 'batch_x' of shape \(rows, \*row\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, wrong: dict[str, tuple[int, ...]], message: str) -> None:
    arguments = CASES[name].make(Draw("float32", "odd", "ordinary"), **CASES[name].variants[0])
    arguments |= {key: np.zeros(shape, arguments[key].dtype) for key, shape in wrong.items()}
    for backend in (ReferenceBackend(), NumpyBackend(None), get_backend("numpy")):
        with pytest.raises(DataError, match=message):
            backend.bind(OPS[name], arguments)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.numpy_form is not None])
def test_a_numpy_form_takes_the_arguments_of_its_op_and_runs_without_kernels(name: str) -> None:
    form = OPS[name].numpy_form
    assert form is not None
    assert list(inspect.signature(form).parameters) == list(OPS[name].signature.parameters)
    arguments = CASES[name].make(Draw("float32", "odd", "ordinary"), **CASES[name].variants[0])
    bound = NumpyBackend(None).bind(OPS[name], arguments)
    assert isinstance(bound, partial)
    assert bound.func is form


def test_every_op_but_the_gemm_on_a_gpu_has_a_kernel() -> None:
    assert OPS.keys() <= kernels("c").keys()
    assert OPS.keys() - kernels("cuda").keys() == {"gemm"}


@pytest.mark.parametrize(
    ("name", "language"),
    [(name, language) for language in ("cuda", "c") for name in sorted(OPS.keys() & kernels(language))],
)
def test_kernel_takes_the_arguments_of_its_op(name: str, language: Language) -> None:
    op, kernel = OPS[name], kernels(language)[name]
    arguments = CASES[name].make(Draw("float32", "odd", "ordinary"), **CASES[name].variants[0])
    sizes = op.sizes(arguments)
    assert not sizes.keys() & op.signature.parameters.keys()
    taken = {parameter.name for parameter in kernel.parameters}
    assert taken <= op.signature.parameters.keys() | sizes.keys()
    assert op.signature.parameters.keys() <= taken
    pointers = {parameter.name for parameter in kernel.parameters if parameter.is_pointer}
    assert set(op.writes) <= pointers
