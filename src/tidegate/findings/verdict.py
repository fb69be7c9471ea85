"""One word for a host, the sentence that gives the reason, and what the word rests on.

AT_RISK: a finding of severity `deadlock` applies, accepted or not. CANNOT_TELL: one is unknown and none
applies, or what the host has over the network could not be read, or a row of the sum has no bound. Else
SAFE, with conditions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.findings import RULES
from tidegate.findings.exposure import NO_USERS, firmness
from tidegate.findings.host import unbounded_rows
from tidegate.findings.rule import missing
from tidegate.host.facts import Host, Transport
from tidegate.host.load import flagged
from tidegate.result import Finding, Reserve, Severity, State, Topic, Verdict

_CONDITIONS = {rule.id: rule.condition for rule in RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict with its reason in one sentence, and the conditions that SAFE rests on."""

    verdict: Verdict
    reason: str
    conditions: tuple[str, ...] = ()


def decide(host: Host, reserve: Reserve, found: Iterable[Finding]) -> Decision:
    """The verdict on a host from its findings and its sum."""
    found = tuple(found)
    deadlocks = [one for one in found if one.severity is Severity.DEADLOCK]
    if hits := sorted((one for one in deadlocks if one.state is State.APPLIES), key=firmness):
        return Decision(verdict=Verdict.AT_RISK, reason=_at_risk(hits))
    if doubt := _doubt(host, reserve, deadlocks):
        return Decision(verdict=Verdict.CANNOT_TELL, reason=doubt)
    if not host.users:
        return Decision(
            verdict=Verdict.SAFE, reason=(f"{NO_USERS[:1].upper()}{NO_USERS[1:]}."), conditions=_unseen(host)
        )
    what = f"{host.users[0].name} rides" if len(host.users) == 1 else f"{len(host.users)} block users ride"
    return Decision(
        verdict=Verdict.SAFE,
        reason=f"No known deadlock applies under the conditions given, though {what} on the network.",
        conditions=_conditions(host, reserve, found),
    )


def _at_risk(hits: list[Finding]) -> str:
    first = hits[0]
    more = f" ({first.id}; also {', '.join(one.id for one in hits[1:])})" if hits[1:] else f" ({first.id})"
    accepted = " It is accepted, and still counts." if all(one.accepted for one in hits) else ""
    return f"This host can lock up: {first.why}{more}.{accepted}"


def _doubt(host: Host, reserve: Reserve, deadlocks: list[Finding]) -> str:
    """Why it cannot be told, or nothing."""
    if holes := [gap for gap in host.gaps if gap.topic is Topic.USERS]:
        more = f" (and {len(holes) - 1} more)" if holes[1:] else ""
        return f"What this host has over the network cannot be told: {missing(holes[0])}{more}."
    if host.container and not host.users:
        return (
            "This was read inside a container, which sees one namespace only: what the host has over the "
            "network cannot be told from here."
        )
    if not host.users:
        return ""
    if unknown := [one for one in deadlocks if one.state is State.UNKNOWN]:
        ids = ", ".join(one.id for one in unknown)
        return f"Whether this host can lock up ({ids}) cannot be told: {unknown[0].why}."
    if rows := unbounded_rows(reserve):
        return f"Nothing bounds what {rows[0].holder} may take of the reserve: {rows[0].why}."
    return ""


def _conditions(host: Host, reserve: Reserve, found: tuple[Finding, ...]) -> tuple[str, ...]:
    """What SAFE rests on: no other fault, the stalls that remain, and what the arithmetic assumed."""
    faults = [one for one in found if one.severity is Severity.FAULT and one.state is not State.ABSENT]
    stalls = [one for one in found if one.severity is Severity.STALL and one.state is State.APPLIES]
    lines = [_while_connected(host, faults), *map(_condition, faults)]
    if stalls:
        names = "; ".join(f"{one.title} ({one.id})" for one in stalls)
        lines.append(f"apart from stalls, which end by themselves or by an OOM kill: {names}")
    lines += _arithmetic(reserve)
    lines += [
        f"as long as {row.holder} takes no more than its documented maximum of {row.pages:,} pages"
        for row in reserve.rows
        if not row.measured and row.pages is not None
    ]
    return tuple(dict.fromkeys((*filter(None, lines), *_unseen(host))))


def _arithmetic(reserve: Reserve) -> list[str]:
    """The inequality that SAFE rests on, and what it takes for granted.

    `high` is where kswapd brings a zone back to. Ordinary requests alone may take it down to min before
    (__alloc_pages_slowpath()); from there to the floor there is the room of `with_drop` only.
    """
    found = {one.id: one for one in reserve.conditions}
    alone, drop = found.get("settings_alone"), found.get("with_drop")
    if alone is None or not alone.holds:
        return []
    lines = [f"as long as {alone.text}"]
    left, below = alone.left_pages, None if drop is None else drop.right_pages
    if left is not None and below is not None and left > below:
        lines.append(
            f"as long as reclaim keeps up, so that a burst finds zones near high: from min down to 3/8 of it "
            f"there is room for {below:,} of those {left:,} pages"
        )
    return lines


def _while_connected(host: Host, faults: list[Finding]) -> str:
    """Only sunrpc reconnects under PF_MEMALLOC (net/sunrpc/xprtsock.c:xs_tcp_setup_socket)."""
    said = {name for one in faults if one.id == "D9-reconnect" for name in one.subjects}
    names = [
        user.name
        for user in host.users
        if user.name not in said and not (user.transport is Transport.NFS and flagged(user))
    ]
    return f"while the connections of {', '.join(names)} hold" if names else ""


def _condition(one: Finding) -> str:
    text = _CONDITIONS.get(one.id) or f"while {one.title} does not come into play"
    return f"{text.format(subjects=', '.join(one.subjects) or 'the path')} ({one.id})"


def _unseen(host: Host) -> tuple[str, ...]:
    lines = []
    if host.container:
        lines.append("as far as one namespace shows: this was read inside a container")
    if host.namespaces:
        lines.append(f"as far as this network namespace shows: {host.namespaces} others could not be seen")
    return tuple(lines)
