from __future__ import annotations

from dataclasses import replace

import pytest
from tests.findings import hosts
from tests.findings.cases import CASES

from tidegate import setting_ids
from tidegate.findings import RULES, judge
from tidegate.findings.way import WAYS, shortest_way
from tidegate.result import Row, Severity, State, Way

DEADLOCKS = sorted(rule.id for rule in RULES if rule.severity is Severity.DEADLOCK)


def way_of(rule: str) -> Way:
    case = CASES[rule]
    found = [one for one in judge(case.applies, case.applies_sum) if one.id == rule]
    way = shortest_way(case.applies, case.applies_sum, found)
    assert way is not None
    return way


def test_every_deadlock_has_a_way() -> None:
    assert sorted(WAYS) == DEADLOCKS


@pytest.mark.parametrize("rule", DEADLOCKS)
def test_a_way_has_steps_and_names_known_settings(rule: str) -> None:
    way = way_of(rule)
    assert (way.source, way.finding) == ("rule", rule)
    assert len(way.steps) >= 4
    for step in way.steps:
        assert step.text.endswith(".")
        family = setting_ids.family_of(step.stopped_by) if step.stopped_by else None
        assert family is None or family in {*setting_ids.SYSCTLS, *setting_ids.FAMILIES}


def test_the_way_is_told_in_the_hosts_own_numbers() -> None:
    text = " ".join(step.text for step in way_of("D1").steps)
    for number in ("382 pages", "528 pages", "158 pages", "14,000 pages", "256 slots", "256.0 KiB", "eth0"):
        assert number in text or number.replace(".0", "") in text, number
    stopped = {step.stopped_by for step in way_of("D1").steps}
    assert {"vm.min_free_kbytes", "early-drop:eth0", "net.ipv4.tcp_mem"} <= stopped


def test_the_largest_pool_of_others_is_named() -> None:
    rows = (
        Row(holder="udp_mem", pages=9000, why="UDP", subject="net.ipv4.udp_mem", kind="pin"),
        Row(holder="tcp_mem", pages=4000, why="TCP", subject="net.ipv4.tcp_mem", kind="pin"),
    )
    reserve = hosts.reserve(rows=rows)
    way = shortest_way(hosts.HOST, reserve, judge(hosts.HOST, reserve))
    assert way is not None
    assert "net.ipv4.udp_mem" in {step.stopped_by for step in way.steps}


def test_what_was_run_is_told_before_what_was_inferred() -> None:
    reserve = hosts.reserve(need=6_000)
    way = shortest_way(hosts.HOST, reserve, judge(hosts.HOST, reserve))
    assert way is not None
    assert way.finding in {"D1", "D2"}


def test_no_deadlock_no_way() -> None:
    reserve = hosts.reserve(kept=True)
    found = judge(hosts.HOST, reserve)
    assert not [one for one in found if one.state is State.APPLIES and one.severity is Severity.DEADLOCK]
    assert shortest_way(hosts.HOST, reserve, found) is None
    assert shortest_way(replace(hosts.HOST, users=(hosts.MOUNT,)), hosts.reserve(), ()) is None
