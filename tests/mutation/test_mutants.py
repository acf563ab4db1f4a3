"""The mutants of the mutation run: none is forgotten, and each changes what it should."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import mutants_of_c, mutants_of_python

FILE = Path("formula")


def faults_in_c(body: str) -> set[str]:
    text = f"GF_KERNEL(f, const real *x, gf_index n) {{\n{body}\n}}\n"
    faults = [mutant.apply(text).splitlines()[1] for mutant in mutants_of_c(FILE, text)]
    assert body not in faults
    return {" ".join(fault.split()).replace(" ;", ";") for fault in faults}


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("y = a * b;", {"y = a / b;", "y = a;", "y = b;"}),
        ("y = a / b;", {"y = a * b;", "y = a;", "y = 1 / b;"}),
        ("y = a - b;", {"y = a + b;", "y = a;", "y = - b;"}),
        ("y = -a;", {"y = a;"}),
        ("y += x[i];", {"y -= x[i];", "y = x[i];"}),
        ("y = a < b;", {"y = a <= b;", "y = a > b;"}),
        ("y = gf_exp(a);", {"y = (a);"}),
        ("y = c ? a : b;", {"y = 1 ? a : b;", "y = 0 ? a : b;"}),
        ("if (c) return;", {"if (1) return;", "if (0) return;"}),
        ("y = 0.5;", {"y = 0.25;"}),
        ("const real *row = x;", set()),
        ("GF_FOR(i, n + 1) y = a;", set()),
        ("y = (real)a;", set()),
        ("y = x[i] /* a * b */;", set()),
    ],
)
def test_faults_of_one_operation_in_c(body: str, faults: set[str]) -> None:
    assert faults_in_c(body) == faults


def test_whole_terms_are_dropped_in_c() -> None:
    faults = faults_in_c("y = a * x[i + k] - (real)f(b, c) / d;")
    assert {"y = a * x[i + k];", "y = - (real)f(b, c) / d;"} <= faults
    assert {"y = x[i + k] - (real)f(b, c) / d;", "y = a * x[i + k] - (real)f(b, c);"} <= faults
    assert {"y = a * x[i ] - (real)f(b, c) / d;", "y = a * x[ k] - (real)f(b, c) / d;"} <= faults


def faults_in_python(body: str) -> set[str]:
    text = f"@op(writes=())\ndef f():\n    {body}\n"
    faults = [mutant.apply(text) for mutant in mutants_of_python(FILE, text)]
    return {ast.unparse(ast.parse(fault).body[0].body[0]) for fault in faults}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("y = a * b", {"y = a / b", "y = a", "y = b"}),
        ("y = a / b", {"y = a * b", "y = a", "y = 1 / b"}),
        ("y = β * a - b", {"y = β * a + b", "y = β * a", "y = -b", "y = a - b", "y = β - b", "y = β / a - b"}),
        ("y = -a", {"y = a"}),
        ("y -= a", {"y += a", "y[...] = a"}),
        ("y = a <= b", {"y = a < b", "y = a > b"}),
        ("f(a)", {"pass"}),
        ("y = 1", {"y = 2", "y = 0"}),
    ],
)
def test_faults_of_one_operation_in_python(body: str, faults: set[str]) -> None:
    assert faults_in_python(body) == faults


def test_only_formulas_are_changed_in_python() -> None:
    assert list(mutants_of_python(FILE, "def repr_of(a):\n    return a + 1\n")) == []


def test_every_explained_fault_is_one_that_the_run_makes() -> None:
    root = Path(__file__).resolve().parents[2]
    for description, reason in EQUIVALENT.items():
        file = Path(description.partition(":")[0])
        text = (root / file).read_text()
        make = mutants_of_python if file.suffix == ".py" else mutants_of_c
        assert description in {mutant.describe(text) for mutant in make(file, text)}, "this line has changed"
        assert len(reason) > 10
