"""Alert rules for the metrics of `check --as prometheus`, as a YAML file that Prometheus loads.

The metrics come from a run of `check`, every few minutes or once a day, so a rule speaks of settings and
chains, not of this second's free memory. Thresholds are the laws themselves; there is nothing to tune.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

STALE_SECONDS = 2 * 24 * 3600  # a daily timer that was missed once is no news


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert: when, for how long, how bad, and what to tell the person."""

    name: str
    expr: str
    severity: str  # critical: the host can lock up; warning: look at it; info
    summary: str
    description: str
    wait: str = "0m"


RULES = (
    Rule(
        name="TidegateAtRisk",
        expr='tidegate_check_verdict{verdict="AT_RISK"} == 1',
        severity="critical",
        summary="{{ or $labels.host $labels.instance }} can lock up when memory runs out",
        description="Memory pressure and ordinary traffic are enough. Run `tidegate check` there: it shows "
        "how, and the settings that prevent it.",
    ),
    Rule(
        name="TidegateCannotTell",
        expr='tidegate_check_verdict{verdict="CANNOT_TELL"} == 1',
        severity="warning",
        summary="it cannot be told whether {{ or $labels.host $labels.instance }} can lock up",
        description="Something that decides it could not be read. `tidegate check` there names it; mostly it "
        "must run as root.",
        wait="1h",
    ),
    Rule(
        name="TidegateReserveTooSmall",
        expr="tidegate_reserve_need_bytes > tidegate_reserve_exclusive_bytes",
        severity="warning",
        summary="the reserve of {{ or $labels.host $labels.instance }} does not hold what block IO may take",
        description="Block IO may take {{ $value | humanize1024 }}B below the min watermark, and less is "
        "kept for it. `tidegate plan` has the caps and the size.",
    ),
    Rule(
        name="TidegateReserveUnbounded",
        expr="tidegate_reserve_need_unbounded == 1",
        severity="warning",
        summary="nothing bounds what block IO of {{ or $labels.host $labels.instance }} may take",
        description="No reserve is large enough. `tidegate check --all` names the row without a bound.",
    ),
    Rule(
        name="TidegateDeadlockFinding",
        expr='tidegate_finding_applies{severity="deadlock",accepted="false"} == 1',
        severity="warning",
        summary="{{ $labels.id }} applies to {{ or $labels.host $labels.instance }}",
        description="A known way to lock up. `tidegate explain {{ $labels.id }}` says how it comes about and "
        "what ends it.",
    ),
    Rule(
        name="TidegateAcceptanceExpired",
        expr="tidegate_finding_acceptance_expired == 1",
        severity="info",
        summary="the acceptance of {{ $labels.id }} on {{ or $labels.host $labels.instance }} has expired",
        description="Somebody accepted this finding until a day that has passed: renew it with a reason, or "
        "cure it.",
    ),
    Rule(
        name="TidegateReserveDrops",
        expr="increase(tidegate_pfmemalloc_drops_total[1h]) > 0",
        severity="warning",
        summary="{{ or $labels.host $labels.instance }} went into its reserve and dropped packets of others",
        description="{{ $value | humanize }} packets within an hour used the reserve and were dropped at "
        "sockets that may not: memory was short there.",
    ),
    Rule(
        name="TidegateCheckStale",
        expr=f"time() - tidegate_check_timestamp_seconds > {STALE_SECONDS}",
        severity="info",
        summary="no new check of {{ or $labels.host $labels.instance }} for {{ $value | humanizeDuration }}",
        description="The metrics are those of an old run; look after the timer that runs `tidegate check`.",
    ),
)


def alert_rules() -> str:
    """The rules as YAML. Strings are written as JSON, which is YAML too, so nothing is quoted by hand."""
    lines = [
        "# Alert rules for the metrics of `tidegate check --as prometheus`, printed by `--as alerts`.",
        "groups:",
        "  - name: tidegate",
        "    rules:",
    ]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.wait}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          description: {json.dumps(rule.description)}",
        ]
    return "\n".join(lines) + "\n"
