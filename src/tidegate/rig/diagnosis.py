"""From a bundle to one paragraph: which wait, which pool, which finding, with the lines that prove it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What it was."""

    finding: str | None
    text: str
    lines: tuple[str, ...] = ()
    fingerprint: str = ""


def diagnose(folder: Path) -> Diagnosis:
    """Not yet."""
    return Diagnosis(finding=None, text="")
