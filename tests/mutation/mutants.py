"""Small faults in formulas, one at a time, generated from the source itself, in C and in Python.

A fault replaces an operator by its opposite, drops one of its two operands, reverses a comparison, fixes a condition,
drops a function around its argument, changes a number, or deletes a call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A piece of a file, from `start` to `end`, replaced by `new`."""

    file: Path
    start: int
    end: int
    new: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def describe(self, text: str) -> str:
        """Return the lines before and after, on one line."""
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.end)
        before, after = text[first:last], text[first : self.start] + self.new + text[self.end : last]
        return f"{self.file}: {' '.join(before.split())}  ->  {' '.join(after.split())}"


_OPPOSITES = {
    "+": ("-",),
    "-": ("+",),
    "*": ("/",),
    "/": ("*",),
    "<": ("<=", ">"),
    "<=": ("<", ">"),
    ">": (">=", "<"),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    "+=": ("-=", "="),
    "-=": ("+=", "="),
    "^": ("|",),
    "^=": ("=",),
}
_OTHER_NUMBERS = {"0": ("1",), "1": ("2", "0"), "2": ("3",), "0.5": ("0.25",), "1.0": ("2.0",)}

# -- C ----------------------------------------------------------------------------------------------------------------

_C_TOKEN = re.compile(
    r"(?P<space>\s+|/\*.*?\*/|\#[^\n]*)"
    r"|(?P<name>[A-Za-z_]\w*(?:(?:\.|->)[A-Za-z_]\w*)*)"
    r"|(?P<number>0x[0-9A-Fa-f]+u?|\d+(?:\.\d+)?(?:e-?\d+)?[fu]?)"
    r"|(?P<sign>->|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|[-+*/^&|]=|.)",
    re.DOTALL,
)
_C_TYPES = {"real", "accumulator", "gf_index", "gf_word", "gf_long_word", "int", "const", "void", "double", "float"}
# In C only one lane works on a row, so these faults change nothing there.
_SAME_IN_C = {"gf_row_sum", "gf_row_max", "gf_row_min_index", "gf_column_block_sum"}
# In C the range comes from the caller, and a prefetch has no result: what is in these brackets does not matter.
_NOT_COMPUTED = {
    "GF_KERNEL",
    "GF_FOR",
    "GF_FOURS",
    "GF_ROWS",
    "GF_ROW_BLOCKS",
    "GF_COLUMN_BLOCKS",
    "GF_COLUMN_BLOCK_COLUMNS",
    "GF_PREFETCH_ROW",
}


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str
    start: int
    end: int


class _CSource:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(match[0], str(match.lastgroup), match.start(), match.end())
            for match in _C_TOKEN.finditer(text)
            if match.lastgroup != "space"
        ]
        self.partner: dict[int, int] = {}
        opened: list[int] = []
        for index, token in enumerate(self.tokens):
            if token.text in ("(", "[", "{"):
                opened.append(index)
            elif token.text in (")", "]", "}"):
                first = opened.pop()
                self.partner[first], self.partner[index] = index, first
        self.skipped: set[int] = set()
        for index, token in enumerate(self.tokens):
            is_definition = token.text == "GF_FUNCTION"
            if token.text in _NOT_COMPUTED or is_definition:
                bracket = next(i for i in range(index, len(self.tokens)) if self.tokens[i].text == "(")
                self.skipped |= set(range(index, self.partner[bracket] + 1))

    def is_value_end(self, index: int) -> bool:
        """True if a token can end an operand, so that the following sign has two operands."""
        token = self.tokens[index]
        if token.text == ")":
            return not self.is_cast(self.partner[index])
        return token.text == "]" or token.kind == "number" or (token.kind == "name" and token.text not in _C_TYPES)

    def is_cast(self, index: int) -> bool:
        return self.tokens[index].text == "(" and self.tokens[index + 1].text in _C_TYPES

    def first_of_factor(self, last: int) -> int:
        """Return the start of the factor that ends at a token: a name or number with its brackets, and a cast before
        it."""
        first = last
        while self.tokens[first].text in (")", "]"):
            first = self.partner[first]
            if self.tokens[first - 1].kind == "name" and self.tokens[first - 1].text not in {"return", "if"}:
                first -= 1
            elif self.tokens[first - 1].text not in (")", "]") or self.is_cast(self.partner[first - 1]):
                break
        if self.tokens[first - 1].text == ")" and self.is_cast(self.partner[first - 1]):
            first = self.partner[first - 1]
        return first

    def last_of_factor(self, first: int) -> int:
        last = first
        while self.tokens[last].text in ("-", "*", "&") or self.is_cast(last):
            last = self.partner[last] + 1 if self.is_cast(last) else last + 1
        if self.tokens[last].text == "(":
            last = self.partner[last]
        while self.tokens[last + 1].text in ("(", "["):
            last = self.partner[last + 1]
        return last

    def operand_before(self, index: int, signs: tuple[str, ...]) -> int:
        first = self.first_of_factor(index - 1)
        while self.tokens[first - 1].text in signs and self.is_value_end(first - 2):
            first = self.first_of_factor(first - 2)
        return first

    def operand_after(self, index: int, signs: tuple[str, ...]) -> int:
        last = self.last_of_factor(index + 1)
        while self.tokens[last + 1].text in signs:
            last = self.last_of_factor(last + 2)
        return last

    def first_of_condition(self, question: int) -> int:
        first = question
        while self.tokens[first - 1].text not in ("=", "+=", "-=", "return", "(", "[", "{", ",", ";"):
            first = self.partner[first - 1] if self.tokens[first - 1].text in (")", "]") else first - 1
        return first


def mutants_of_c(file: Path, text: str) -> Iterator[Mutant]:
    """Return all mutants of a kernel file."""
    source = _CSource(text)
    tokens = source.tokens

    def replaced(first: int, last: int, new: str) -> Mutant:
        return Mutant(file, tokens[first].start, tokens[last].end, new)

    for index, token in enumerate(tokens):
        if index in source.skipped:
            continue
        is_binary = token.text in _OPPOSITES and index > 0 and source.is_value_end(index - 1)
        if is_binary:
            for opposite in _OPPOSITES[token.text]:
                yield replaced(index, index, opposite)
        if is_binary and token.text in ("+", "-", "*", "/"):
            inner = ("*", "/") if token.text in ("+", "-") else ()
            first, last = source.operand_before(index, inner), source.operand_after(index, inner)
            yield replaced(index, last, "")
            if (tokens[first].text, token.text) != ("1", "/"):
                yield replaced(first, index, {"-": "-", "/": "1 /"}.get(token.text, ""))
        if token.text == "-" and not is_binary:
            yield replaced(index, index, "")
        if token.text == "?":
            for decided in ("1", "0"):
                yield replaced(source.first_of_condition(index), index - 1, decided)
        if token.text == "if":
            for decided in ("(1)", "(0)"):
                yield replaced(index + 1, source.partner[index + 1], decided)
        if token.text.startswith("gf_") and tokens[index + 1].text == "(" and token.text not in _SAME_IN_C:
            arguments = tokens[index + 2 : source.partner[index + 1]]
            if all(argument.text != "," for argument in arguments):
                yield replaced(index, index, "")
        if token.kind == "number":
            for other in _OTHER_NUMBERS.get(token.text, ()):
                yield replaced(index, index, other)


# -- Python -----------------------------------------------------------------------------------------------------------

_SIGNS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def mutants_of_python(file: Path, text: str) -> Iterator[Mutant]:
    """Return all mutants of a module's formulas: its ops, their helpers, code that layers call, and host
    computations."""
    line_starts = [0]
    for line in text.splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line.encode()))
    encoded = text.encode()

    def offset(line: int, column: int) -> int:
        return len(encoded[: line_starts[line - 1] + column].decode())

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)

    def piece(node: ast.expr) -> str:
        return "(" + text[slice(*span(node))] + ")"

    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef) or not _is_formula(function):
            continue
        for node in (child for statement in function.body for child in ast.walk(statement)):
            if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
                left, right, sign = piece(node.left), piece(node.right), _SIGNS[type(node.op)]
                yield Mutant(file, *span(node), left)
                if (left, sign) != ("(1)", "/"):
                    yield Mutant(file, *span(node), {"-": "-", "/": "1 / "}.get(sign, "") + right)
                for opposite in _OPPOSITES[sign]:
                    yield Mutant(file, *span(node), f"{left} {opposite} {right}")
            elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SIGNS:
                left, right, sign = piece(node.left), piece(node.comparators[0]), _SIGNS[type(node.ops[0])]
                for opposite in _OPPOSITES[sign]:
                    yield Mutant(file, *span(node), f"({left} {opposite} {right})")
            elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                yield Mutant(file, *span(node), piece(node.operand))
            elif isinstance(node, ast.If):
                yield Mutant(file, *span(node.test), "True")
                yield Mutant(file, *span(node.test), "False")
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield Mutant(file, *span(node), "pass")
            elif isinstance(node, ast.AugAssign) and type(node.op) in _SIGNS:
                target, value = text[slice(*span(node.target))], text[slice(*span(node.value))]
                opposite = _OPPOSITES[_SIGNS[type(node.op)]][0]
                yield Mutant(file, *span(node), f"{target} {opposite}= {value}")
                yield Mutant(file, *span(node), f"{target}[...] = {value}")
            elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
                for other in _OTHER_NUMBERS.get(str(node.value), ()):
                    yield Mutant(file, *span(node), other)


_SHARED_BY_FORMULAS = (
    "regularized",
    "with_penalties",
    "_change",
    "record_losses",
    "record_class_correct",
    "record_side_correct",
    "sigmoid",
    "softplus",
    "softmax",
    "log_softmax",
    "row_weights",
    "_record_correct",
    "factor",
    "_add_counts",
)
_ON_THE_HOST = (
    "value",
    "_ratio",
    "_mean_over_classes",
    "rates",
    "_fraction_of_cycle",
    "_numbers",
    "_one_hot",
    "_at",
    "is_due",
)
_CALLS_OF_OPS = ("forward", "backward", "_apply", "run")


def _is_formula(function: ast.FunctionDef) -> bool:
    is_op = any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "op" for d in function.decorator_list)
    return is_op or function.name in _SHARED_BY_FORMULAS + _ON_THE_HOST + _CALLS_OF_OPS
