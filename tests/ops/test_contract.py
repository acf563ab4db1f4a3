"""The contract: every op has a case here, a kernel, and implementations that take its arguments by their names."""

from __future__ import annotations

import inspect

import pytest

from gradflow.backends.numpy import IMPLEMENTATIONS
from gradflow.backends.sources import Language, kernels
from gradflow.ops import OPS
from tests.ops.cases import CASES, SHAPES, VALUES, Draw


def test_every_op_has_a_case() -> None:
    assert CASES.keys() == OPS.keys(), "add a Case to tests/ops/cases.py for every op"


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


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_numpy_implementation_takes_exactly_the_arguments_of_its_op(name: str) -> None:
    taken = [
        parameter.name
        for parameter in inspect.signature(IMPLEMENTATIONS[name]).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    assert taken == list(OPS[name].signature.parameters)


@pytest.mark.parametrize("language", ["cuda", "c"])
def test_every_op_but_the_matrix_product_has_a_kernel(language: Language) -> None:
    assert OPS.keys() - kernels(language).keys() == {"gemm"}


@pytest.mark.parametrize("language", ["cuda", "c"])
@pytest.mark.parametrize("name", sorted(OPS.keys() - {"gemm"}))
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
