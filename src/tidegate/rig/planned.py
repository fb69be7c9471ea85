"""The plan arm: what `tidegate plan` says for a guest of the same shape, from a record taken inside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan: its script, and what it writes by path."""

    script: str
    values: dict[str, str]
    check: str  # the word of `tidegate check` for the record


def plan_for(tried: object, tell: object) -> Planned:
    """Placeholder."""
    raise NotImplementedError
