"""What a plan comes to: what holds after it, what it cures, what remains, what would have to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from tidegate import setting_ids as ids
from tidegate.findings.accepted import Acceptance, accept
from tidegate.host.facts import Host, nics_of
from tidegate.host.view import host_view
from tidegate.plan import bounds
from tidegate.plan.bounds import GOALS
from tidegate.plan.judged import Judged
from tidegate.plan.rules_of_thumb import rules_of_thumb
from tidegate.plan.settings import GOES_WITH
from tidegate.result import (
    Finding,
    Plan,
    Reserve,
    Row,
    Setting,
    Severity,
    State,
    Verdict,
)
from tidegate.units import human_pages

_LISTED = 3  # largest rows named in what would have to change


def plan_of(
    *,
    before: Judged,
    after: Judged,
    chosen: tuple[Setting, ...],
    whole: tuple[Setting, ...],
    format: str,
    max_share_percent: float,
    accepted: Sequence[Acceptance],
    today: date | None,
) -> Plan:
    """Everything there is to say of these settings on this host."""
    found = accept(after.findings, accepted, today=today or _taken_on(before.host))
    total = after.reserve
    rests_on = next((one.id for one in total.conditions if one.holds), "") if before.host.users else ""
    largest = bounds.dominant(total.rows, "need", "others", "ring", "pin")
    fits = _fits(before, after)
    return Plan(
        host=host_view(before.host),
        format=format,
        settings=chosen,
        before=before.decision.verdict,
        after=after.decision.verdict,
        reason=after.decision.reason,
        assumes=after.decision.conditions,
        fits=fits,
        rests_on=rests_on,
        conditions_before=before.reserve.conditions if before.host.users else (),
        conditions_after=total.conditions if before.host.users else (),
        cured=_cured(before.findings, after.findings),
        remains=_remains(after.host, found, rests_on, after.decision.verdict, chosen),
        change=() if fits else _change(after, max_share_percent),
        cannot_hold=_cannot_hold(chosen, whole, format),
        accepted=tuple(one for one in found if one.accepted and one.state is not State.ABSENT),
        rules_of_thumb=rules_of_thumb(before.host, after.host),
        max_share_percent=max_share_percent,
        share_percent=_share(after.host),
        dominant=largest.holder if largest else "",
    )


def _taken_on(host: Host) -> date:
    """The day the host was read; today where it does not say."""
    try:
        return date.fromisoformat(host.taken[:10])
    except ValueError:
        return datetime.now(tz=UTC).date()


def with_cures(
    chosen: tuple[Setting, ...], before: tuple[Finding, ...], after: tuple[Finding, ...]
) -> tuple[Setting, ...]:
    """The settings, each with the findings that it helps to end."""
    cured = set(_cured(before, after))
    return tuple(
        replace(
            one,
            cures=tuple(
                finding.id
                for finding in before
                if finding.id in cured
                and {one.id, ids.family_of(one.id), GOES_WITH.get(one.id, one.id)}
                & set(finding.cure.settings)
            ),
        )
        for one in chosen
    )


def _cured(before: tuple[Finding, ...], after: tuple[Finding, ...]) -> tuple[str, ...]:
    then = {one.id: one.state for one in after}
    return tuple(
        one.id for one in before if one.state is State.APPLIES and then.get(one.id) is not State.APPLIES
    )


def _fits(before: Judged, after: Judged) -> bool | None:
    """Does a condition hold after the plan and the need fit, where anything on this host rests on that."""
    total = after.reserve
    rest = [
        one
        for one in after.findings
        if one.severity is Severity.DEADLOCK
        and one.state is not State.ABSENT
        and {ids.MIN_FREE, ids.TCP_MEM, ids.UDP_MEM} & set(one.cure.settings)
    ]
    if not before.host.users or not rest:
        return True
    if any(bounds.meets(total, goal) for goal in GOALS):
        return True
    if total.need_pages is None or total.pin_pages is None or not total.zones:
        return None
    return False


def _share(host: Host) -> float | None:
    ram = bounds.ram_kib(host)
    if ram is None or host.memory is None or host.memory.min_free_kib is None:
        return None
    return round(100 * host.memory.min_free_kib / ram, 2)


def _remains(
    host: Host, found: tuple[Finding, ...], rests_on: str, verdict: Verdict, chosen: tuple[Setting, ...]
) -> tuple[str, ...]:
    """What no setting of the plan cures, worst first, and what to do instead."""
    lines = []
    open_ = [one for one in found if one.state is not State.ABSENT]
    if rests_on == "with_drop" and verdict is not Verdict.SAFE:
        nics = sorted({nic.name for user in host.users for nic in nics_of(host, user)})
        lines.append(
            "the settings hold only with an early drop at ingress"
            + (f" of {', '.join(nics)}" if nics else "")
            + " that closes when free memory is below min; no file holds one"
        )
    for one in open_:
        if one.state is State.UNKNOWN and one.severity is not Severity.DEADLOCK:
            continue
        if one.severity is Severity.NOTE:
            continue
        if one.state is State.APPLIES:
            text = f"{one.title}; instead: {one.cure.instead or _not_here(one)}"
            if one.id == "D13" and any(setting.id == ids.TCP_MEM for setting in chosen):
                text += "; the smaller tcp_mem of this plan makes it come sooner"
        else:
            text = f"cannot be told: {one.why}"
        lines.append(f"{one.id} ({one.severity.value}): {text}{_accepted(one)}")
    return tuple(lines)


def _not_here(one: Finding) -> str:
    names = ", ".join(one.cure.settings)
    return f"{names}, which nothing here can set" if names else "nothing that this host can set"


def _accepted(one: Finding) -> str:
    if one.accepted is None:
        return ""
    until = "expired" if one.accepted.expired else "until"
    return f" (accepted, {until} {one.accepted.expires}: {one.accepted.reason})"


def _change(after: Judged, max_share_percent: float) -> tuple[str, ...]:
    """What would have to change for the sum to fit."""
    host, total = after.host, after.reserve
    ram = bounds.ram_kib(host)
    lines: list[str] = []
    if open_ := [row for row in total.rows if row.pages is None]:
        lines += [f"{row.holder} must have a bound: {row.why}" for row in open_[:_LISTED]]
        return tuple(lines)
    if ram is not None:
        # Half of RAM is past all sense; it only says how far away the goal is.
        for goal in GOALS[:2]:
            tight = host if goal.condition == "with_drop" else bounds.with_least_pools(host)
            least = bounds.least_min_free(tight, goal, ram // 2)
            what = "an early drop and settings"
            if goal.condition == "settings_alone":
                what = "settings alone, others held to the least they can do with,"
            if least is not None and ram:
                share = 100 * least / ram
                lines.append(
                    f"{what} would need vm.min_free_kbytes={least} ({share:.1f} % of RAM; "
                    f"--max-share is {max_share_percent:g} %)"
                )
    rows = sorted((row for row in total.rows if row.pages), key=lambda row: -(row.pages or 0))
    lines += [_smaller(row, total) for row in rows[:_LISTED]]
    return tuple(lines)


def _smaller(row: Row, total: Reserve) -> str:
    size = human_pages(row.pages or 0, total.page_bytes)
    holder = row.holder.lower()
    if "ring" in holder:
        how = "a smaller receive ring or fewer queues (ethtool -G, -L, before connecting), or another NIC"
    elif holder.startswith(("transmit", "receive", "backlog")):
        how = "fewer connections, or smaller caps on them"
    elif row.kind == "pin":
        how = "a tighter bound on what others may hold"
    else:
        how = "find out what it needs"
    return f"{row.holder}, {size}: {how}"


def _cannot_hold(chosen: tuple[Setting, ...], whole: tuple[Setting, ...], format: str) -> tuple[str, ...]:
    """Settings of the whole plan that the format cannot put in force."""
    here = {one.id for one in chosen}
    lines = []
    for one in whole:
        if one.id in here or format in one.means:
            continue
        lines.append(f"{one.id} = {one.new}: {one.first or one.path}")
    return tuple(lines)
