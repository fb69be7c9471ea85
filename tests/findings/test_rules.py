from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.findings import hosts
from tests.findings.cases import CASES, Case, daemon, with_daemon

from tidegate.findings import RULES, judge
from tidegate.findings.rule import Rule, judge_rule
from tidegate.findings.verdict import decide
from tidegate.host.facts import Host
from tidegate.result import Finding, Gap, Reserve, Severity, State, Topic, Verdict

BY_ID = {rule.id: rule for rule in RULES}
ALL = sorted(CASES)


def asked(rule: str, host: Host, reserve: Reserve) -> Finding:
    return judge_rule(BY_ID[rule], host, reserve)


def test_every_rule_has_a_host_where_it_applies_and_one_where_it_is_absent() -> None:
    assert sorted(BY_ID) == ALL
    numbered = {rule.id.split("-")[0] for rule in RULES if rule.id[0] == "D" and rule.id[1].isdigit()}
    assert numbered == {f"D{number}" for number in range(1, 24)}
    assert len(RULES) == 36


@pytest.mark.parametrize("rule", ALL)
def test_applies(rule: str) -> None:
    case = CASES[rule]
    found = asked(rule, case.applies, case.applies_sum)
    assert found.state is State.APPLIES, found.why
    assert found.severity is case.severity
    assert found.evidence
    assert all(one.source and one.value for one in found.evidence)
    assert found.why
    assert found.cure.settings or found.cure.instead
    assert found.cure.curable or found.cure.instead


@pytest.mark.parametrize("rule", ALL)
def test_absent(rule: str) -> None:
    case = CASES[rule]
    found = asked(rule, case.absent, case.absent_sum)
    assert found.state is State.ABSENT, found.why


@pytest.mark.parametrize("rule", ALL)
def test_a_gap_in_a_needed_topic_makes_absent_unknown(rule: str) -> None:
    case = CASES[rule]
    for topic in BY_ID[rule].needs:
        gap = Gap(path="some/file", status="denied", topic=topic)
        found = asked(rule, replace(case.absent, gaps=(gap,)), case.absent_sum)
        assert found.state is State.UNKNOWN
        assert "some/file" in found.why


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_says_all_that_explain_prints(rule: Rule) -> None:
    for text in (rule.title, rule.argument, rule.mechanism, rule.reproduce):
        assert text.strip()
    assert rule.functions
    assert rule.sources
    assert rule.needs
    assert rule.place in {"ring", "socket", "path", "daemon", "host"}
    assert not rule.title[0].isupper() or rule.title.startswith("WireGuard")
    if rule.severity is Severity.FAULT:
        assert "{subjects}" in rule.condition


def everything_missing(host: Host) -> Host:
    """The same users, and nothing else that could be read."""
    return replace(
        host,
        memory=None,
        cpus=None,
        links=(),
        sockets=(),
        daemons=(),
        sysctls={},
        counters={},
        texts={},
        users=tuple(
            replace(user, routes=(), sockets=(), queue=None, server_local=None) for user in host.users
        ),
    )


def test_nothing_read_beside_the_users_is_never_safe() -> None:
    empty = replace(hosts.reserve(None, None, kept=None), zones=(), pin_pages=None)
    for case in CASES.values():
        host = everything_missing(case.applies)
        assert decide(host, empty, judge(host, empty)).verdict is not Verdict.SAFE


gaps = st.lists(
    st.builds(
        Gap,
        path=st.sampled_from(["proc/swaps", "proc/zoneinfo", "netlink/links.json"]),
        status=st.sampled_from(["denied", "damaged", "not held"]),
        topic=st.sampled_from(list(Topic)),
    ),
    max_size=4,
)
situations = st.sampled_from(list(CASES.values())).flatmap(
    lambda case: st.sampled_from([(case.applies, case.applies_sum), (case.absent, case.absent_sum)])
)


@given(situation=situations, gaps=gaps, kept=st.sampled_from([True, False, None]))
def test_a_gap_never_makes_a_host_look_safer(
    situation: tuple[Host, Reserve], gaps: list[Gap], kept: bool | None
) -> None:
    host, before = situation
    reserve = replace(before, conditions=tuple(replace(one, holds=kept) for one in before.conditions))
    whole = judge(host, reserve)
    poor = replace(host, gaps=tuple(gaps))
    found = {one.id: one for one in judge(poor, reserve)}
    for one in whole:
        if one.state is not State.ABSENT:
            assert found[one.id].state is not State.ABSENT
    if decide(host, reserve, whole).verdict is not Verdict.SAFE:
        assert decide(poor, reserve, tuple(found.values())).verdict is not Verdict.SAFE


def _case(rule: str) -> Case:
    return CASES[rule]


@pytest.mark.parametrize("rule", ["D1", "D2", "D3", "D15"])
def test_without_swap_the_same_mechanism_is_a_stall(rule: str) -> None:
    case = _case(rule)
    host = replace(case.applies, users=(hosts.MOUNT,))
    found = asked(rule, host, case.applies_sum)
    assert (found.state, found.severity) == (State.APPLIES, Severity.STALL)
    assert "OOM killer" in found.why


@pytest.mark.parametrize("rule", ["D9-serving", "D14"])
def test_a_writable_mount_served_from_here_stays_a_deadlock(rule: str) -> None:
    user = replace(hosts.MOUNT, server_local=True)
    case = _case(rule)
    host = replace(
        case.applies,
        users=(user,),
        daemons=tuple(replace(one, users=(user.name,)) for one in case.applies.daemons),
    )
    assert asked(rule, host, case.applies_sum).severity is Severity.DEADLOCK
    read_only = replace(host, users=(replace(user, writable=False),))
    assert asked(rule, read_only, case.applies_sum).severity is Severity.STALL


def test_what_cannot_be_told_of_a_swap_is_not_hidden_by_a_milder_mount() -> None:
    unseen = replace(hosts.SWAP, name="swap /dev/nbd1", routes=())
    host = replace(hosts.HOST, users=(hosts.MOUNT, unseen))
    found = asked("D1", host, hosts.reserve())
    assert (found.state, found.severity) == (State.UNKNOWN, Severity.DEADLOCK)


def test_an_unknown_driver_is_never_a_guess() -> None:
    found = asked("D2", hosts.with_nic(driver="mystery"), hosts.reserve())
    assert found.state is State.UNKNOWN
    assert "mystery" in found.why


def test_pins_that_are_too_many_alone_decide_without_the_whole_sum() -> None:
    partial = replace(hosts.reserve(need=None, kept=None), pin_pages=14_000)
    room = replace(partial.conditions[0], left_pages=None, right_pages=475)
    assert asked("D2", hosts.HOST, replace(partial, conditions=(room,))).state is State.APPLIES
    little = replace(partial, conditions=(room,), pin_pages=100)
    assert asked("D2", hosts.HOST, little).state is State.UNKNOWN
    assert asked("D2", hosts.HOST, replace(partial, conditions=())).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("flags", "locked_kib", "state"),
    [
        (0x00580100, 64_000, State.ABSENT),
        (0x00480100, 64_000, State.APPLIES),  # PF_MEMALLOC_NOIO alone: some kernel caller's, not the prctl's
        (0x00400100, 64_000, State.APPLIES),
        (0x00580100, 0, State.APPLIES),
        (0x00580100, 4_000, State.APPLIES),  # a part of what is resident is locked
        (0x00580100, 8_992, State.ABSENT),  # all but the vDSO
        (0x00580100, None, State.UNKNOWN),
        (None, 64_000, State.UNKNOWN),
        (None, 0, State.APPLIES),  # one lack is enough
    ],
)
def test_a_serving_program_needs_both(flags: int | None, locked_kib: int | None, state: State) -> None:
    host = with_daemon(daemon(flags=flags, locked_kib=locked_kib))
    assert asked("D9-serving", host, hosts.reserve()).state is state


def test_a_server_in_user_space_that_was_not_seen_is_unknown() -> None:
    host = hosts.with_user(userspace=("nbdkit",))
    found = asked("D9-serving", host, hosts.reserve())
    assert (found.state, found.severity) == (State.UNKNOWN, Severity.DEADLOCK)


def test_a_program_that_cleared_the_flag_is_named_though_no_thread_has_it() -> None:
    host = with_daemon(daemon("reconnects", comm="iscsid"))
    found = asked("io-flusher-inverted", host, hosts.reserve())
    assert (found.state, found.severity) == (State.APPLIES, Severity.FAULT)
    assert "no thread has it" in found.why
    other = with_daemon(daemon("reconnects", comm="nbd-client"))
    assert asked("io-flusher-inverted", other, hosts.reserve()).state is State.ABSENT


def test_the_log_process_of_a_protected_iscsid_is_not_in_the_path() -> None:
    main = daemon("reconnects", flags=0x00580140, locked_kib=15_796, resident_kib=15_804, comm="iscsid")
    log = daemon("reconnects", flags=0x00400040, pid=214, comm="iscsid")
    both = replace(hosts.HOST, daemons=(log, main))
    for rule in ("D9-reconnect", "io-flusher-inverted"):
        assert asked(rule, both, hosts.reserve()).state is State.ABSENT
        assert asked(rule, with_daemon(log), hosts.reserve()).state is State.APPLIES
