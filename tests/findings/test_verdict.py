from __future__ import annotations

from dataclasses import replace

from tests.findings import hosts
from tests.findings.cases import READY_CLIENT

from tidegate.findings import judge
from tidegate.findings.verdict import Decision, decide
from tidegate.host.facts import Host
from tidegate.result import Condition, Gap, Reserve, Row, State, Topic, Verdict


def decision(host: Host, reserve: Reserve) -> Decision:
    return decide(host, reserve, judge(host, reserve))


def state(host: Host, reserve: Reserve, rule: str) -> State:
    return next(one.state for one in judge(host, reserve) if one.id == rule)


def test_swap_over_virtio_with_nothing_done_is_at_risk() -> None:
    said = decision(hosts.HOST, hosts.reserve())
    assert said.verdict is Verdict.AT_RISK
    assert "D1" in said.reason


def test_no_network_user_is_safe_and_says_why() -> None:
    said = decision(hosts.without_users(), hosts.reserve())
    assert said.verdict is Verdict.SAFE
    assert "rides on the network" in said.reason


def test_no_user_seen_but_a_hole_where_users_are_read() -> None:
    gap = Gap(path="proc/swaps", status="denied", topic=Topic.USERS)
    said = decision(replace(hosts.without_users(), gaps=(gap,)), hosts.reserve())
    assert said.verdict is Verdict.CANNOT_TELL
    assert "proc/swaps" in said.reason


def test_settings_that_hold_alone_end_d1() -> None:
    assert state(hosts.HOST, hosts.reserve(kept=True), "D1") is State.ABSENT
    assert state(hosts.HOST, hosts.reserve(kept=None), "D1") is State.UNKNOWN


def test_an_unbounded_row_is_never_safe() -> None:
    rows = (Row(holder="XFS", pages=None, why="nothing bounds its pusher", kind="others"),)
    said = decision(hosts.HOST, hosts.reserve(kept=True, rows=rows))
    assert said.verdict is Verdict.CANNOT_TELL
    assert "XFS" in said.reason


def test_a_local_server_is_at_risk_whatever_is_set() -> None:
    host = hosts.with_user(server_local=True, routes=())
    assert decision(host, hosts.reserve(kept=True)).verdict is Verdict.AT_RISK


def test_safe_lists_what_it_rests_on() -> None:
    said = decision(hosts.HOST, hosts.reserve(kept=True))
    assert said.verdict is Verdict.SAFE
    text = "\n".join(said.conditions)
    assert "while the connection of swap /dev/nbd0 holds, since only user space" in text
    assert "while the neighbour entry of 10.0.2.2 stays valid (D10)" in text
    assert "which end by themselves or by an OOM kill: tcp_mem can be used up by others (D13)" in text
    assert "as long as high - 3/8 min exceeds pins" in text
    assert len(said.conditions) == len(set(said.conditions))
    ready = decision(replace(hosts.HOST, daemons=(READY_CLIENT,)), hosts.reserve(kept=True))
    assert ready.conditions[0] == "while the connections of swap /dev/nbd0 hold"


def test_a_documented_maximum_is_a_condition() -> None:
    rows = (Row(holder="transmit of nbd0", pages=90, why="tcp_wmem", measured=False),)
    said = decision(hosts.HOST, hosts.reserve(kept=True, rows=rows))
    assert (
        "as long as transmit of nbd0 takes no more than its documented maximum of 90 pages"
    ) in said.conditions


def test_a_container_that_sees_nothing_cannot_tell() -> None:
    host = replace(hosts.without_users(), container=True)
    assert decision(host, hosts.reserve()).verdict is Verdict.CANNOT_TELL
    elsewhere = replace(hosts.without_users(), namespaces=3)
    said = decision(elsewhere, hosts.reserve())
    assert said.verdict is Verdict.SAFE
    assert "3 others" in said.conditions[0]


def test_an_unknown_deadlock_decides_when_none_applies() -> None:
    host = hosts.with_user(server_local=None)
    said = decision(host, hosts.reserve(kept=True))
    assert said.verdict is Verdict.CANNOT_TELL
    assert "D14" in said.reason


def test_the_order_is_severity_then_number() -> None:
    found = judge(hosts.HOST, hosts.reserve())
    deadlocks = [one.id for one in found if one.severity.value == "deadlock"]
    assert deadlocks[:4] == ["D1", "D2", "D3", "D8"]
    severities = [one.severity.value for one in found]
    order = ["deadlock", "fault", "stall", "loss", "note"]
    assert severities == sorted(severities, key=order.index)


def test_the_firmest_ground_speaks_first() -> None:
    host = hosts.with_nic(driver="e1000e")
    said = decision(host, hosts.reserve(need=900))
    assert "block IO may withdraw more than only block IO can take" in said.reason
    assert said.reason.endswith("(D15; also D3).")


def test_safe_says_what_the_room_below_min_holds() -> None:
    kept = hosts.reserve(kept=True)
    for below, said in ((474, True), (475, False)):
        drop = Condition(id="with_drop", left_pages=75, right_pages=below, holds=True, text="")
        found = decision(hosts.HOST, replace(kept, conditions=(*kept.conditions, drop)))
        assert found.verdict is Verdict.SAFE
        assert any("reclaim keeps up" in line for line in found.conditions) is said
