"""From a bundle to one paragraph: which wait, which pool, which finding, with the lines that prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.trial import TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What it was."""

    finding: str | None
    text: str
    lines: tuple[str, ...] = ()


def diagnose(result: TrialResult, facts: Mapping[str, Any], looks: Mapping[str, str]) -> Diagnosis:
    """Not yet."""
    return Diagnosis(finding=None, text="")
