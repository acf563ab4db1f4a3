"""The source of the package: short functions, and one meaning for each class name."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import gradflow as gf

FILES = sorted(Path(gf.__file__).parent.rglob("*.py"))
MOST_LINES = 60


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Return the number of lines of the body that are neither docstring, comment nor blank."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    code = (line.strip() for line in lines[body[0].lineno - 1 : function.end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in code)


def test_no_function_is_long() -> None:
    found = {}
    for path in FILES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{path.name}: {node.name}"] = lines_of_code(node, text.splitlines())
    assert len(found) > 1000
    assert {name: length for name, length in found.items() if length > MOST_LINES} == {}


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []
