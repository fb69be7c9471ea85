"""A host with what the sum and the rules say of it: what a plan starts from, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate import findings
from tidegate.findings.verdict import Decision, decide
from tidegate.host.facts import Host
from tidegate.host.load import reserve_of
from tidegate.result import Finding, Reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A host with what is concluded of it."""

    host: Host
    reserve: Reserve
    findings: tuple[Finding, ...]
    decision: Decision


def judged(host: Host) -> Judged:
    """The sum, the findings and the verdict of a host."""
    total = reserve_of(host)
    found = findings.judge(host, total)
    return Judged(host=host, reserve=total, findings=found, decision=decide(host, total, found))
