"""Findings that somebody accepted: a small TOML file, read strictly and applied visibly.

    [[accepted]]
    id = "D13"
    reason = "the storage network is closed, nobody else opens connections"
    expires = 2027-03-31

An accepted finding is shown as accepted and still counts; an expired acceptance is shown as expired.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.errors import BadInput
from tidegate.findings import RULES
from tidegate.result import Accepted, Finding
from tidegate.strict_toml import Table, convert, parse_toml, read_toml

MEANT = "a TOML file of [[accepted]], each with id and reason (text) and expires (a date)"


class Acceptance(Table, frozen=True):
    """One accepted finding: its id, why, and the last day on which that holds."""

    id: str
    reason: str
    expires: dt.date


class _File(Table, frozen=True):
    accepted: tuple[Acceptance, ...] = ()


def read_accepted(path: Path) -> tuple[Acceptance, ...]:
    """The acceptances of a file, in its order.

    Raises BadInput: no such file, no TOML, an unknown key or id, an empty reason, a date that is none, an id
    twice. Lacking: it may not be read.
    """
    return _checked(read_toml(path, MEANT), str(path))


def parse_accepted(data: bytes, name: str) -> tuple[Acceptance, ...]:
    """The acceptances in the bytes of a file; `name` is for the error. Raises BadInput."""
    return _checked(parse_toml(data, name, MEANT), name)


def _checked(table: dict[str, Any], name: str) -> tuple[Acceptance, ...]:
    accepted = convert(table, _File, name, MEANT).accepted
    _check(accepted, name)
    return accepted


def _check(accepted: Sequence[Acceptance], name: str) -> None:
    known = {rule.id for rule in RULES}
    seen: set[str] = set()
    for index, one in enumerate(accepted):
        place = f"accepted[{index}]"
        if one.id not in known:
            raise BadInput(
                name, (f"{place}.id"), repr(one.id), ("the id of a finding (tidegate explain lists them)")
            )
        if one.id in seen:
            raise BadInput(name, f"{place}.id", f"{one.id!r} a second time", "each id once")
        if not one.reason.strip():
            raise BadInput(name, f"{place}.reason", "an empty text", "why it is accepted")
        seen.add(one.id)


def accept(
    found: Iterable[Finding], accepted: Iterable[Acceptance], *, today: dt.date
) -> tuple[Finding, ...]:
    """The findings with what was accepted marked on them; nothing is taken away."""
    by_id = {one.id: one for one in accepted}
    return tuple(_marked(one, by_id.get(one.id), today) for one in found)


def _marked(finding: Finding, acceptance: Acceptance | None, today: dt.date) -> Finding:
    if acceptance is None:
        return finding
    return replace(
        finding,
        accepted=Accepted(
            reason=acceptance.reason,
            expires=acceptance.expires.isoformat(),
            expired=acceptance.expires < today,
        ),
    )
