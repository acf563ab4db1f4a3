"""Rules of columns as text, such as ``income=robust:mark``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gradflow.data import Dates, Embedding, OneHot, QuantileNormal, RobustScale, SmoothClip, Standardize, Unchanged
from gradflow.data.columns import MISSING
from gradflow.data.rules import ColumnRule
from gradflow.errors import DataError

IGNORE = "ignore"
_RULES: dict[str, type[ColumnRule]] = {
    "number": Standardize,
    "robust": RobustScale,
    "clipped": SmoothClip,
    "normal": QuantileNormal,
    "unchanged": Unchanged,
    "category": OneHot,
    "embedding": Embedding,
    "dates": Dates,
}
OF_TEXT = (OneHot, Embedding, Dates)
"""The rules of columns that are read as text, even if they look like numbers."""
NAMES = ", ".join([*_RULES, IGNORE])
_PATTERN = re.compile(
    rf"(?P<column>.+)=(?P<rule>{'|'.join([*_RULES, IGNORE])})(:(?P<missing>{'|'.join(MISSING)}))?", re.S
)


def rules_of(texts: Iterable[str]) -> dict[str, ColumnRule | None]:
    """Return the rules of texts by column; None leaves a column out. Later ones replace earlier ones.

    Raises:
        DataError: for a text without a column or a known rule.
    """
    rules: dict[str, ColumnRule | None] = {}
    for text in texts:
        found = _PATTERN.fullmatch(text)
        if found is None or (found["missing"] and found["rule"] in (IGNORE, "unchanged")):
            raise DataError(
                f"--rule must be COLUMN=RULE or COLUMN=RULE:MISSING, with a rule of {NAMES}, and refuse, fill or mark "
                f"for missing values; got {text!r}"
            )
        rules[found["column"]] = rule_of(found["rule"], found["missing"] or "refuse")
    return rules


def rule_of(name: str, missing: str) -> ColumnRule | None:
    """Return the rule of this name; categories that training did not see are accepted."""
    if name == IGNORE:
        return None
    if name == "unchanged":
        return Unchanged()
    if name == "category":
        return OneHot(missing=missing, unknown="zeros")
    return _RULES[name](missing=missing)  # type: ignore[call-arg]  # all others have this argument


def text_of(rule: ColumnRule | None) -> str:
    """Return the text of a rule, such as "robust:mark"."""
    if rule is None:
        return IGNORE
    name = next(name for name, cls in _RULES.items() if type(rule) is cls)
    missing = getattr(rule, "missing", "refuse")
    return name if missing == "refuse" else f"{name}:{missing}"
