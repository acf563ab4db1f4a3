"""The faults that change no result, each with the reason why."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
