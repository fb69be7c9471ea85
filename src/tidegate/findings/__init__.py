"""The known ways to deadlock, stall or lose, and what they say of one host."""

from __future__ import annotations

from tidegate.findings import configured, daemon, path, ring, socket, transmit
from tidegate.findings import host as host_
from tidegate.findings.rule import Rule, judge_rule
from tidegate.host.facts import Host
from tidegate.result import Finding, Reserve, Severity

RULES: tuple[Rule, ...] = (
    *ring.RULES,
    *socket.RULES,
    *path.RULES,
    *transmit.RULES,
    *daemon.RULES,
    *host_.RULES,
    *configured.RULES,
)

_SEVERITIES = tuple(Severity)


def judge(host: Host, reserve: Reserve) -> tuple[Finding, ...]:
    """Every rule's answer, worst severity first, then by id."""
    found = (judge_rule(rule, host, reserve) for rule in RULES)
    return tuple(sorted(found, key=lambda one: (_SEVERITIES.index(one.severity), id_order(one.id))))


def id_order(rule_id: str) -> tuple[int, int, str]:
    """D2 before D10, words after the numbers."""
    head = rule_id.partition("-")[0]
    if head[:1] == "D" and head[1:].isdigit():
        return (0, int(head[1:]), rule_id)
    return (1, 0, rule_id)
