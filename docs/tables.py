"""Write the tables of docs/catalogue.md and kernels/README.md from the docstrings: ``make tables``.

A table stands between ``<!-- table: name -->`` and ``<!-- end of table -->``. A formula is the docstring of its op. The
source of a layer, loss or optimizer is what its class, or else its module, cites as "(Author, year)", and the full
reference stands under "References:" in the docstring of its module.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gradflow.backends.kernel_sources import kernel_folder, kernels
from gradflow.initializers import INITIALIZERS
from gradflow.layers import Identity, Softmax
from gradflow.losses import LOSSES
from gradflow.names import is_built_in
from gradflow.ops import OPS, Op
from gradflow.optimizers import OPTIMIZERS
from gradflow.testing.activations import ACTIVATION_CASES

ROOT = Path(__file__).resolve().parents[1]


def _text(documented: Any) -> str:
    """The docstring in one line, without arguments and errors."""
    text = inspect.getdoc(documented) or ""
    return " ".join(re.split(r"\n\n(?:Args|Raises):", text)[0].split()).removesuffix(".")


def _paragraph(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split()).removesuffix(".")


def _formula(op: Op) -> str:
    return _text(op.reference)


def _source(cls: type[Any]) -> str:
    """The publications that the class cites, else those of its module's first line."""
    texts = _text(cls), _paragraph(inspect.getmodule(cls))
    cited = (re.findall(r"\(([A-Z][^()]*, \d{4}(?:, [^()]*)?)\)", text) for text in texts)
    return "; ".join(next((found for found in cited if found), []))


def _call(cls: type[Any]) -> str:
    """The call of the class, with the defaults of its arguments."""
    parameters = inspect.signature(cls).parameters.values()
    return f"{cls.__name__}({', '.join(str(each.replace(annotation=each.empty)) for each in parameters)})"


def _table(heads: str, rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads.split(", "), ["---"] * len(heads.split(", "))]
    lines += [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def activations() -> str:
    """Every activation; a form of one that its arguments choose has a row without a name."""

    def rows() -> Iterator[tuple[str, ...]]:
        named = set()
        for layer in (*(case.make() for case in ACTIVATION_CASES.values()), Softmax()):
            name = "" if layer.name in named else f"`{layer.name}`"
            named.add(layer.name)
            formulas = _formula(layer.forward_op), _formula(layer.backward_op)
            yield name, f"`{layer!r}`", *formulas, _source(type(layer))
        yield f"`{Identity.name}`", "`Identity()`", *_paragraph(Identity).split(". ")[0].split("; "), ""

    return _table("name, layer, formula, derivative, source", rows())


def losses() -> str:
    """Every loss, with the first paragraph of its class."""
    built_in = {name: cls for name, cls in LOSSES.items() if is_built_in(cls)}
    rows = ((f"`{name}`", f"`{_call(cls)}`", _paragraph(cls), _source(cls)) for name, cls in built_in.items())
    return _table("name, loss, formula, source", rows)


def optimizers() -> str:
    """Every optimizer, with the formula of its own op, or else the first paragraph of its class."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, cls in OPTIMIZERS.items():
            if is_built_in(cls):
                op = vars(cls).get("op")
                rule = _formula(op) if isinstance(op, Op) else _paragraph(cls)
                yield f"`{name}`", f"`{_call(cls)}`", rule, _source(cls)

    return _table("name, optimizer, rule, source", rows())


def initializers() -> str:
    """Every initializer."""
    return _table("name, weights", ((f"`{name}`", _text(rule)) for name, rule in INITIALIZERS.items()))


def references() -> str:
    """The references of all modules, by author."""
    found = set()
    for name, module in sys.modules.items():
        if name.startswith("gradflow."):
            section = (inspect.getdoc(module) or "").partition("\nReferences:\n")[2]
            found |= {" ".join(each.split()) for each in re.split(r"\n    (?=\S)", "\n" + section) if each.strip()}
    by_author = sorted(found, key=lambda each: re.sub(r"^(?:\S+\. ?)+", "", each))
    return "".join(f"- {reference}\n" for reference in by_author)


def ops() -> str:
    """Every op, by the file of its kernels."""
    folder, compiled = kernel_folder(), kernels("c")

    def rows() -> Iterator[tuple[str, ...]]:
        built_in = {name: op for name, op in OPS.items() if is_built_in(op.reference)}
        for name, op in sorted(built_in.items(), key=lambda item: compiled[item[0]].file):
            names = ", ".join(f"`{kernel}`" for kernel in (name, f"bias_{name}") if kernel in compiled)
            file = compiled[name].file.relative_to(folder).as_posix()
            module = op.reference.__module__.removeprefix("gradflow.").replace(".", "/")
            yield f"`{file}`", names, _formula(op), f"`{module}.py`"

    return _table("file, kernels, formula, defined in", rows())


PAGES: dict[str, tuple[Callable[[], str], ...]] = {
    "docs/catalogue.md": (activations, losses, optimizers, initializers, references),
    "kernels/README.md": (ops,),
}
"""The tables of each page."""


def written(page: str) -> str:
    """The text of a page with its tables as the docstrings have them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for table in PAGES[page]:
        place = rf"(<!-- table: {table.__name__} -->\n).*?(<!-- end of table -->\n)"
        text, count = re.subn(place, lambda found, table=table: f"{found[1]}\n{table()}\n{found[2]}", text, flags=re.S)
        if count != 1:
            raise ValueError(f"{page} must have one place for the table {table.__name__!r}, but has {count}")
    return text


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(written(page), encoding="utf-8")
