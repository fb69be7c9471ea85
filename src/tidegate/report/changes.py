"""`check --against OLD`: what changed between two results of a host.

Free pages, held bytes and near ports change from one moment to the next and say nothing about a host; they
are left out. Everything else that `check` reports is compared, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.report.screen import VERDICT_LOOK, Screen, fill, paint, screen_of, section
from tidegate.report.words import (
    NOT_KNOWN,
    UNBOUNDED,
    accepted_words,
    bytes_words,
    capped_words,
    chain_words,
    printable,
    sentence,
    state_words,
    verdict_rank,
)
from tidegate.result import CheckResult, Finding, State, UserView, Verdict

CHANGES_SCHEMA = "tidegate.changes/1"


class Area(StrEnum):
    """What a change is about, in the order in which they are shown."""

    HOST = "host"
    USER = "user"
    FINDING = "finding"
    RESERVE = "reserve"
    ZONE = "zone"
    PLAN = "plan"
    GAP = "gap"


_HEADS = {
    Area.HOST: "The host",
    Area.USER: "What rides on the network",
    Area.FINDING: "Findings",
    Area.RESERVE: "The reserve, in pages",
    Area.ZONE: "Zones, in pages",
    Area.PLAN: "The plan",
    Area.GAP: "What could not be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is not as it was; None on the side where it is not there."""

    area: Area
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All that changed between two results."""

    host: str
    old_taken: str
    new_taken: str
    old_verdict: Verdict
    new_verdict: Verdict
    old_reason: str
    new_reason: str
    changes: tuple[Change, ...]
    schema: str = CHANGES_SCHEMA


def changes(old: CheckResult, new: CheckResult) -> Changes:
    """Compares two results, part by part."""
    found = (change for area in Area for change in _compared(area, _facts(area, old), _facts(area, new)))
    return Changes(
        host=new.host.name,
        old_taken=old.host.taken,
        new_taken=new.host.taken,
        old_verdict=old.verdict,
        new_verdict=new.verdict,
        old_reason=old.reason,
        new_reason=new.reason,
        changes=tuple(found),
    )


def _compared(area: Area, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    # Results list the findings that are absent too; one that is not listed is none either.
    missing = State.ABSENT.value if area is Area.FINDING else None
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name, missing), new.get(name, missing)
        if before != now:
            yield Change(area=area, name=name, old=before, new=now)


def _facts(area: Area, result: CheckResult) -> dict[str, str]:
    """What is compared, by a name that stays the same from one record to the next."""
    match area:
        case Area.HOST:
            return _host(result)
        case Area.USER:
            return {f"{one.name}{word}": text for one in result.users for word, text in _user(one)}
        case Area.FINDING:
            return {f"{one.id} {one.title}": _finding(one) for one in result.findings}
        case Area.RESERVE:
            return _reserve(result)
        case Area.ZONE:
            return _zones(result)
        case Area.PLAN:
            return _plan(result)
        case Area.GAP:
            return {one.path: one.status for one in result.gaps}


def _host(result: CheckResult) -> dict[str, str]:
    host = result.host
    return {
        "name": host.name,
        "kernel": host.kernel,
        "memory": NOT_KNOWN if host.memory_kib is None else f"{host.memory_kib:,} KiB",
        "page": f"{host.page_bytes:,} B",
        "CPUs": NOT_KNOWN if host.cpus is None else str(host.cpus),
    }


def _user(user: UserView) -> Iterator[tuple[str, str]]:
    driver = f" ({user.driver})" if user.driver else ""
    yield "", f"over {user.transport}: {chain_words(user)}{driver}"
    # The near port differs with every connection; connections to one peer are told apart by their order.
    seen: dict[str, int] = {}
    for one in user.sockets:
        seen[one.remote] = seen.get(one.remote, 0) + 1
        number = f" ({seen[one.remote]})" if seen[one.remote] > 1 else ""
        sizes = f"send {bytes_words(one.sndbuf_bytes)}, receive {bytes_words(one.rcvbuf_bytes)}"
        yield f", socket to {one.remote}{number}", f"{sizes}, {capped_words(one)}"


def _finding(one: Finding) -> str:
    if one.state is State.ABSENT:
        return State.ABSENT.value  # how bad it would be does not matter then
    accepted = accepted_words(one)
    return f"{state_words(one)}{accepted and f', {accepted}'}"


def _reserve(result: CheckResult) -> dict[str, str]:
    reserve = result.reserve
    rows: dict[str, str] = {}
    for row in reserve.rows:
        name = f"{row.holder} ({row.subject})" if row.subject else row.holder
        rows[name] = _pages(row.pages, UNBOUNDED)
    return {
        "need": _pages(reserve.need_pages, UNBOUNDED),
        "exclusive": _pages(reserve.exclusive_pages, NOT_KNOWN),
        "band": _pages(reserve.band_pages, NOT_KNOWN),
        "others can pin": _pages(reserve.pin_pages, UNBOUNDED),
        **rows,
    }


def _zones(result: CheckResult) -> dict[str, str]:
    levels = ("managed", "high", "low", "min", "boost", "floor", "lowmem_reserve", "exclusive")
    return {
        f"node {zone.node} {zone.name} {level}": f"{getattr(zone, level):,}"
        for zone in result.reserve.zones
        for level in levels
    }


def _plan(result: CheckResult) -> dict[str, str]:
    settings = {one.id: f"{_known(one.old)} -> {_known(one.new)}" for one in result.plan}
    return settings | ({} if result.after is None else {"verdict after the plan": result.after.value})


def _pages(pages: int | None, none: str) -> str:
    return none if pages is None else f"{pages:,}"


def _known(value: str | None) -> str:
    return NOT_KNOWN if value is None else " ".join(value.split())


def changes_text(found: Changes, *, width: int = 80, colour: bool = False) -> str:
    """The changes as text that ends with a newline: the verdict first."""
    screen = screen_of(width=width, colour=colour)
    blocks = [_head(found, screen)]
    for area in Area:
        about = [one for one in found.changes if one.area is area]
        if about:
            blocks.append(
                section(_HEADS[area], (line for one in about for line in _change(one, screen)), screen)
            )
    if not found.changes:
        blocks.append(
            ["Nothing else changed."] if found.old_reason != found.new_reason else ["Nothing changed."]
        )
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _head(found: Changes, screen: Screen) -> list[str]:
    old, new = found.old_verdict, found.new_verdict
    if old is new:
        first = f"{new.value}, as before: {sentence(found.new_reason)}"
    else:
        direction = "better" if verdict_rank(new) > verdict_rank(old) else "worse"
        first = f"{new.value}, {direction} than {old.value} before: {sentence(found.new_reason)}"
    head, *rest = fill(first, screen, hang=2)
    about = printable(f"{found.host}: {found.new_taken} against {found.old_taken}")
    return [
        paint(new.value, VERDICT_LOOK[new], screen) + head.removeprefix(new.value),
        *rest,
        *(paint(line, "quiet", screen) for line in fill(about, screen, hang=2)),
    ]


def _change(one: Change, screen: Screen) -> list[str]:
    """A plus for what came, a minus for what went, a star and both values for what changed."""
    if one.old is None:
        return fill(printable(f"+ {one.name}: {one.new}"), screen, 2, 2)
    if one.new is None:
        return fill(printable(f"- {one.name}: {one.old}"), screen, 2, 2)
    return fill(printable(f"* {one.name}: {one.old}; now {one.new}"), screen, 2, 2)
