"""Findings that somebody accepted: a small TOML file, read strictly and applied visibly.

    [[accepted]]
    id = "D13"
    reason = "the storage network is closed, nobody else opens connections"
    expires = 2027-03-31

An accepted finding is shown as accepted and still counts; an expired acceptance is shown as expired.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from tidegate.errors import BadInput, Lacking
from tidegate.findings import RULES
from tidegate.result import Accepted, Finding

SIZE_MAX_BYTES = 256 * 1024  # a list of acceptances is small; anything larger is another file


class Acceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One accepted finding: its id, why, and the last day on which that holds."""

    id: str
    reason: str
    expires: dt.date


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    accepted: tuple[Acceptance, ...] = ()


def read_accepted(path: Path) -> tuple[Acceptance, ...]:
    """The acceptances of a file, in its order.

    Raises BadInput: no such file, no TOML, an unknown key or id, an empty reason, a date that is none, an id
    twice. Lacking: it may not be read.
    """
    name = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_MAX_BYTES + 1)
    except PermissionError as error:
        raise Lacking(f"{name}: may not be read ({error.strerror})") from error
    except OSError as error:
        raise BadInput(name, "", error.strerror or type(error).__name__, "a TOML file") from error
    if len(data) > SIZE_MAX_BYTES:
        raise BadInput(name, "", f"more than {SIZE_MAX_BYTES} bytes", "a list of accepted findings")
    return parse_accepted(data, name)


def parse_accepted(data: bytes, name: str) -> tuple[Acceptance, ...]:
    """The acceptances in the bytes of a file; `name` is for the error. Raises BadInput."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(name, f"byte {error.start}", "no UTF-8", "a TOML file in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(name, "", f"no TOML: {error}", "[[accepted]] with id, reason and expires") from error
    try:
        accepted = msgspec.convert(table, _File).accepted
    except msgspec.ValidationError as error:
        found, _, place = str(error).partition(" - at `$.")
        raise BadInput(name, place.rstrip("`"), found, "id and reason (text) and expires (a date)") from error
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
