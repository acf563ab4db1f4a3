"""Rules of columns that depend on what the training data hold: whether values are missing, how many categories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradflow.checks import instance, known_name, positive_integer
from gradflow.data.columns import MISSING, CategoryColumn, Column, EmbeddingColumn, as_numbers
from gradflow.data.rules import CategoryFit, ColumnFit, ColumnRule, OneHot
from gradflow.data.where import Where

_MOST = 100_000


class MarkGaps(ColumnRule):
    """A rule of numbers that marks missing values, but only in columns that lack some in the training data.

    In other columns it fills them, so that an input which is 0 in all training rows does not take its place among the
    others.

    Args:
        rule: the rule of numbers, with ``missing="mark"``.
    """

    def __init__(self, rule: ColumnRule) -> None:
        self.rule = instance("rule", rule, ColumnRule, "a rule, such as gradflow.data.Standardize(missing='mark')")

    def begin(self) -> ColumnFit:
        return _MarkGapsFit(self.rule.begin())

    def __repr__(self) -> str:
        return f"MarkGaps({self.rule!r})"


class _MarkGapsFit(ColumnFit):
    def __init__(self, fit: ColumnFit) -> None:
        self._fit, self._has_gaps = fit, False

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        self._fit.update(name, values, where)
        self._has_gaps = self._has_gaps or bool(np.isnan(as_numbers(name, values, where)).any())

    def result(self) -> Column:
        column = self._fit.result()
        filled: Column = column if self._has_gaps else replace(column, missing="fill")  # type: ignore[call-arg]
        return filled


class Categories(ColumnRule):
    """Encode each category as one input, and learn a vector for each in columns with many of them.

    Args:
        most_inputs: columns with at most so many categories, a missing one included, have an input for each.
        size: the size of the vectors in other columns.
        missing: "fill" missing values with 0 in all inputs, or "mark" them in an extra input where the training data
            lack some; with vectors they are a category that is not in the training data.
    """

    def __init__(self, most_inputs: int = 9, size: int = 8, missing: str = "fill") -> None:
        self.most_inputs = positive_integer("most_inputs", most_inputs)
        self.size = positive_integer("size", size)
        self.missing = known_name("missing", missing, [name for name in MISSING if name != "refuse"])

    def begin(self) -> ColumnFit:
        return _CategoriesFit(self)

    def __repr__(self) -> str:
        return f"Categories(most_inputs={self.most_inputs}, size={self.size}, missing={self.missing!r})"


class _CategoriesFit(CategoryFit):
    def __init__(self, rule: Categories) -> None:
        super().__init__(OneHot(missing="fill", unknown="zeros", most=_MOST))
        self._categories = rule

    def result(self) -> CategoryColumn | EmbeddingColumn:
        categories, rule = tuple(self.sorted_categories()), self._categories
        if len(categories) + 1 > rule.most_inputs:
            return EmbeddingColumn(categories, rule.size, "fill")
        return CategoryColumn(categories, rule.missing if self.missing else "fill", "zeros")
