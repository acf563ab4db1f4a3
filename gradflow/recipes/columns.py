"""`MarkGaps`: a rule of columns that depends on whether the training data lack values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.data.columns import Column, as_numbers, holds_text
from gradflow.data.frames import is_missing
from gradflow.data.rules import ColumnFit, ColumnRule
from gradflow.data.where import Where


class MarkGaps(ColumnRule):
    """A rule that marks missing values, but only in columns that lack some in the training data.

    In other columns it fills them: an input that is 0 in all training rows would teach nothing.

    Args:
        rule: the rule of numbers, categories or times, with ``missing="mark"``.
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
        if values.dtype.kind == "M":
            gone: Any = np.isnat(values)
        else:
            is_text = holds_text(values)
            gone = [is_missing(value) for value in values] if is_text else np.isnan(as_numbers(name, values, where))
        self._has_gaps = self._has_gaps or bool(np.any(gone))

    @property
    def categories(self) -> Counter[str | float] | None:
        return self._fit.categories

    def result(self) -> Column:
        column: Any = self._fit.result()
        found: Column = column if self._has_gaps else replace(column, missing="fill")
        return found
