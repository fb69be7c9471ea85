"""A record in, a result out: read, sum, judge, plan, in that order and nothing else.

The live command records the host into memory and comes here too, so a saved record prints the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from tidegate import findings
from tidegate.findings.accepted import Acceptance, accept
from tidegate.findings.verdict import Decision, decide
from tidegate.findings.way import shortest_way
from tidegate.host.facts import Host
from tidegate.host.load import reserve_of
from tidegate.host.read import read_host
from tidegate.host.record import Record, Status
from tidegate.host.view import host_view, user_view
from tidegate.plan import solve
from tidegate.result import CheckResult, Finding, Reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A host with everything that was concluded of it before any plan."""

    host: Host
    reserve: Reserve
    findings: tuple[Finding, ...]
    decision: Decision


def judge_host(host: Host) -> Judged:
    """The sum, the findings and the verdict of a host as it stands."""
    reserve = reserve_of(host)
    found = findings.judge(host, reserve)
    return Judged(host=host, reserve=reserve, findings=found, decision=decide(host, reserve, found))


def check_record(
    record: Record,
    *,
    accepted: Sequence[Acceptance] = (),
    today: date | None = None,
    max_share_percent: float = 5.0,
) -> CheckResult:
    """All that there is to say of one recorded host.

    An accepted finding is shown as accepted and still counts: acceptance silences nobody. `today` decides which
    acceptances have expired; the day the record was taken when not given, so that a record always prints the same.
    """
    judged = judge_host(read_host(record))
    plan = solve(judged.host, max_share_percent=max_share_percent)
    return CheckResult(
        host=host_view(judged.host),
        verdict=judged.decision.verdict,
        reason=judged.decision.reason,
        conditions=judged.decision.conditions,
        users=tuple(user_view(user) for user in judged.host.users),
        findings=accept(judged.findings, accepted, today=today or taken_on(record)),
        reserve=judged.reserve,
        way=shortest_way(judged.host, judged.reserve, judged.findings),
        plan=plan.settings,
        remains=plan.remains,
        after=plan.after,
        gaps=judged.host.gaps,
        denied=tuple(sorted(path for path, one in record.members.items() if one.status is Status.DENIED)),
    )


def taken_on(record: Record) -> date:
    """The day a record was taken; today where it does not say."""
    try:
        return date.fromisoformat(record.taken[:10])
    except ValueError:
        return datetime.now(UTC).date()
