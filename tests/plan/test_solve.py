from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.findings import hosts
from tests.findings.cases import CASES
from tests.plan import stock

from tidegate import setting_ids as ids
from tidegate.findings.accepted import Acceptance
from tidegate.host.bundled import bundled_names, bundled_record
from tidegate.host.facts import Host, Queue, RxRing, Transport, UserKind, sysctl_ints
from tidegate.host.load import reserve_of
from tidegate.host.opening import open_record
from tidegate.host.read import read_host
from tidegate.plan import ALL, FORMATS, bounds, solve, with_settings
from tidegate.plan.bounds import GOALS, Goal
from tidegate.plan.judged import judged
from tidegate.plan.settings import Texts, fixed, reserve_mem, sysctl
from tidegate.result import Law, Plan, Setting, State, Verdict
from tidegate.units import KIB

NAMED = {
    "stock": stock.host(),
    "e1000": stock.host(driver="e1000"),
    "eight connections": stock.host(connections=8),
    "too many connections": stock.host(128, connections=32, slots=4096),
    "server": stock.host(16_000, cpus=8, connections=4),
    "mlx5": stock.host(64_000, cpus=64, driver="mlx5_core", slots=1024, queues=32, connections=16),
    "ixgbe": stock.host(64_000, cpus=64, driver="ixgbe", slots=512, queues=32, connections=16, nodes=2),
    "unknown driver": stock.host(driver="nobody_knows_it"),
    "unread ring": stock.host(slots=None, queues=None),
}

RECORDED = bundled_names()

HOSTS = st.builds(
    stock.host,
    st.sampled_from((64, 112, 234, 490, 1000, 4000, 16_000, 128_000)),
    connections=st.integers(1, 16),
    driver=st.sampled_from(("virtio_net", "e1000", "e1000e", "ixgbe", "mlx5_core", "vmxnet3", "unheard_of")),
    slots=st.sampled_from((64, 256, 1024, 4096)),
    queues=st.sampled_from((1, 2, 16)),
    cpus=st.sampled_from((1, 2, 16)),
    nodes=st.sampled_from((1, 2)),
    kernel=st.sampled_from(((5, 10, 200), (6, 1, 140), (6, 12, 117), (6, 19, 1))),
)
SHARES = st.sampled_from((0.5, 2.0, 5.0, 10.0))


def new(plan: Plan, setting: str) -> str | None:
    return next((one.new for one in plan.settings if one.id == setting), None)


def setting(plan: Plan, name: str) -> Setting:
    return next(one for one in plan.settings if one.id == name)


def applying(host: Host) -> set[str]:
    return {one.id for one in judged(host).findings if one.state is State.APPLIES}


def check_plan(host: Host, plan: Plan, share: float) -> None:
    """What must be true of every plan."""
    then = with_settings(host, plan.settings)
    assert plan.after is judged(then).decision.verdict
    again = solve(then, max_share_percent=share, format=plan.format)
    assert again.settings == (), [(one.id, one.old, one.new) for one in again.settings]
    assert again.after is plan.after
    assert again.fits == plan.fits
    # Whoever allows more than 5 % of RAM is told so by a note.
    open_ = {one.id for one in judged(host).findings if one.state is not State.ABSENT}
    assert applying(then) <= open_ | ({"reserve-too-large"} if share > 5 else set())
    check_bounds(host, then, plan, share)
    total = reserve_of(then)
    if host.users and (total.need_pages is None or total.pin_pages is None):
        assert plan.rests_on != "settings_alone"
    if host.users and total.need_pages is None:
        assert plan.after is not Verdict.SAFE


def check_bounds(host: Host, then: Host, plan: Plan, share: float) -> None:
    ram = bounds.ram_kib(host)
    if host.memory and then.memory and ram and host.memory.min_free_kib is not None:
        assert then.memory.min_free_kib is not None
        most = max(int(ram * share / 100), host.memory.min_free_kib)
        assert host.memory.min_free_kib <= then.memory.min_free_kib <= most
    for one in plan.settings:
        assert one.id not in ids.SYSCTLS or one.id in host.sysctls
        assert plan.format == ALL or plan.format in one.means
        assert one.old != one.new
        assert one.why
        assert one.lower
        assert one.upper
        if one.id in {ids.TCP_MEM, ids.UDP_MEM, ids.TCP_RMEM, ids.TCP_WMEM}:
            before, after = sysctl_ints(host, one.id), sysctl_ints(then, one.id)
            assert all(0 < now <= was for now, was in zip(after, before, strict=True))
            assert list(after) == sorted(after)
        if one.id in {ids.TCP_MEM, ids.UDP_MEM}:
            assert sysctl_ints(then, one.id)[2] >= bounds.POOL_LEAST_PAGES
        if one.id == ids.UDP_MEM:
            assert sysctl_ints(then, one.id)[0] >= bounds.UDP_LEAST_PAGES


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_plan_keeps_its_promises(name: str, format: str) -> None:
    host = NAMED[name]
    check_plan(host, solve(host, format=format), 5.0)


@pytest.mark.parametrize("rule", sorted(CASES))
def test_a_plan_keeps_its_promises_where_a_finding_applies_or_not(rule: str) -> None:
    for host in (CASES[rule].applies, CASES[rule].absent):
        check_plan(host, solve(host), 5.0)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", RECORDED)
def test_a_plan_keeps_its_promises_on_recorded_hosts(name: str, format: str) -> None:
    host = read_host(open_record(bundled_record(name)))
    check_plan(host, solve(host, format=format), 5.0)


@given(HOSTS, SHARES, st.sampled_from(FORMATS))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_plan_keeps_its_promises_on_any_stock_host(host: Host, share: float, format: str) -> None:
    check_plan(host, solve(host, max_share_percent=share, format=format), share)


@given(HOSTS, st.sampled_from(GOALS))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_more_connections_never_need_a_smaller_reserve(host: Host, goal: Goal) -> None:
    ram = bounds.ram_kib(host)
    assert ram is not None
    more = replace(host, users=(replace(host.users[0], connections=(host.users[0].connections or 0) + 1),))
    few, many = (bounds.least_min_free(one, goal, ram) for one in (host, more))
    assert many is None or (few is not None and few <= many)


@given(st.sampled_from((234, 1000, 16_000)), st.integers(1, 12))
@settings(deadline=None, derandomize=True, max_examples=36)
def test_more_connections_never_get_a_smaller_reserve_by_the_same_condition(
    ram: int, connections: int
) -> None:
    few, many = (solve(stock.host(ram, connections=number)) for number in (connections, connections + 1))
    caps = [{one.new for one in plan.settings if one.id.startswith("cap:")} for plan in (few, many)]
    fits = {"D15" in one.cures for plan in (few, many) for one in plan.settings if one.id == ids.MIN_FREE}
    if few.rests_on == many.rests_on and caps[0] == caps[1] and len(fits) < 2:
        assert int(new(few, ids.MIN_FREE) or 0) <= int(new(many, ids.MIN_FREE) or 0)


@given(HOSTS, st.sampled_from(GOALS))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_least_reserve_is_the_least(host: Host, goal: Goal) -> None:
    ram = bounds.ram_kib(host)
    total = reserve_of(host)
    assert ram is not None
    assert host.memory is not None
    assert host.memory.min_free_kib is not None
    found = bounds.least_min_free(host, goal, ram)
    if found is None or found == host.memory.min_free_kib:
        return
    assert bounds.meets_at(host, host.memory, total, goal, found)
    assert not bounds.meets_at(host, host.memory, total, goal, found - 1)


def test_a_small_guest_is_planned_by_settings_alone() -> None:
    plan = solve(stock.host())
    assert (plan.before, plan.after, plan.fits) == (Verdict.AT_RISK, Verdict.SAFE, True)
    assert plan.rests_on == "settings_alone"
    assert {"D1", "D2", "D15"} <= set(plan.cured)
    assert new(plan, "cap:swap /dev/nbd0") == "SO_SNDBUF=131072 SO_RCVBUF=131072"
    assert plan.share_percent == 5.0
    laws = [one.law for one in plan.settings]
    assert set(laws) == set(Law)
    assert plan.settings[0].id.startswith("cap:")


def test_order_is_caps_then_pools_then_reserve_then_the_rest() -> None:
    names = [ids.family_of(one.id) for one in solve(stock.host()).settings]
    wanted = [ids.CAP, ids.TCP_MEM, ids.UDP_MEM, ids.MIN_FREE, ids.NEIGHBOUR]
    assert [name for name in names if name in wanted] == wanted


def test_where_caps_cannot_be_set_the_maxima_stand_in() -> None:
    plan = solve(stock.host(), format="sysctl")
    assert new(plan, ids.TCP_RMEM) == "4096 131072 262144"
    assert not any(one.id.startswith("cap:") for one in plan.settings)
    assert any(line.startswith("cap:swap /dev/nbd0") for line in plan.cannot_hold)
    assert any(line.startswith("neigh.permanent:") for line in plan.cannot_hold)
    assert plan.after is Verdict.SAFE


def test_a_large_host_need_not_touch_everybody_s_buffers() -> None:
    plan = solve(stock.host(16_000, cpus=8, connections=1), format="sysctl")
    assert new(plan, ids.TCP_RMEM) is None
    assert plan.after is Verdict.SAFE


def test_pools_of_a_large_host_end_at_what_others_may_need() -> None:
    plan = solve(stock.host(16_000, cpus=8))
    assert new(plan, ids.TCP_MEM) == "8192 10922 16384"
    assert (plan.share_percent or 0) < 2


def test_pools_still_serve_twice_what_is_in_use() -> None:
    host = stock.host(16_000)
    host = replace(host, counters={**host.counters, "sockstat.TCP.mem": 40_000})
    found = new(solve(host), ids.TCP_MEM)
    assert found is not None
    assert int(found.split()[2]) >= 80_000


def test_a_plan_that_meets_only_the_second_condition_says_so() -> None:
    plan = solve(stock.host(driver="e1000"))
    assert plan.rests_on == "with_drop"
    assert plan.fits
    assert plan.after is Verdict.AT_RISK
    assert "early drop at ingress of eth0" in plan.remains[0]


@pytest.mark.parametrize("format", [ALL, "sysctl", "script"])
@pytest.mark.parametrize("ram_mib", [71, 117, 212])
def test_pools_are_bounded_where_only_an_early_drop_holds(ram_mib: int, format: str) -> None:
    host = stock.host(ram_mib, driver="e1000", slots=256)
    plan = solve(host, format=format)
    assert plan.rests_on == "with_drop"
    assert new(plan, ids.UDP_MEM) == "96 128 192"
    assert {ids.TCP_MEM, ids.NETDEV_MAX_BACKLOG} <= {one.id for one in plan.settings}
    (udp,) = [one for one in plan.settings if one.id == ids.UDP_MEM]
    assert "rarer" in udp.why
    assert "does not prevent" in udp.why
    assert solve(with_settings(host, plan.settings), format=format).settings == ()


def test_udp_mem_is_chosen_by_its_first_number() -> None:
    equal = stock.host(net__ipv4__udp_mem="3500\t3500\t3500")
    crossed = stock.host(net__ipv4__udp_mem="3500\t20\t10")
    for host in (stock.host(), equal, crossed):
        plan = solve(host)
        first, middle, last = map(int, (new(plan, ids.UDP_MEM) or "").split())
        assert bounds.UDP_LEAST_PAGES <= first <= middle <= last
        assert plan.rests_on == "settings_alone"
        (setting,) = [one for one in plan.settings if one.id == ids.UDP_MEM]
        assert f"{first}: more" in setting.upper


def test_a_plan_that_cannot_fit_says_what_would_have_to_change() -> None:
    plan = solve(stock.host(128, connections=32, slots=4096))
    assert plan.fits is False
    assert plan.after is Verdict.AT_RISK
    assert new(plan, ids.MIN_FREE) is None
    assert any("ring" in line for line in plan.change)


def test_what_would_be_needed_beyond_the_share_is_given() -> None:
    plan = solve(stock.host(), max_share_percent=1)
    assert plan.fits is False
    assert any("--max-share is 1 %" in line for line in plan.change)


def test_a_safe_host_is_not_asked_for_memory_that_cures_nothing() -> None:
    mount = replace(
        stock.host(driver="pcnet32").users[0], swaps=False, kind=UserKind.MOUNT, name="mount /srv"
    )
    host = replace(stock.host(driver="pcnet32"), users=(mount,))
    plan = solve(host)
    assert plan.before is Verdict.SAFE
    ended = {name for one in plan.settings for name in one.cures}
    assert all(one.cures for one in plan.settings), [one.id for one in plan.settings if not one.cures]
    assert ended


def test_nothing_over_the_network_needs_no_plan() -> None:
    plan = solve(hosts.without_users(stock.host()))
    assert plan.settings == ()
    assert plan.after is Verdict.SAFE
    assert plan.conditions_after == ()


def test_an_unknown_driver_cannot_be_told() -> None:
    plan = solve(NAMED["unknown driver"])
    assert plan.fits is None
    assert plan.after is Verdict.CANNOT_TELL
    assert new(plan, ids.MIN_FREE) is None


def test_tighter_values_of_the_administrator_stay() -> None:
    host = stock.host(net__ipv4__ipfrag_high_thresh="65536", net__ipv4__udp_mem="48\t64\t96")
    plan = solve(host)
    assert new(plan, ids.IPFRAG_HIGH_THRESH) is None
    assert new(plan, ids.UDP_MEM) is None


def test_a_fixed_target_is_never_looser_than_what_is_there() -> None:
    tight = stock.host(net__ipv4__ipfrag_high_thresh="65536", net__core__high_order_alloc_disable="1")
    assert fixed(tight, ids.IPFRAG_HIGH_THRESH) is None
    assert fixed(tight, ids.HIGH_ORDER_ALLOC_DISABLE) is None
    assert fixed(stock.host(), ids.IPFRAG_HIGH_THRESH) is not None


def test_a_low_threshold_goes_before_the_high_one_that_it_would_refuse() -> None:
    names = [one.id for one in solve(stock.host(), format="sysctl").settings]
    for low, high in (
        (ids.IPFRAG_LOW_THRESH, ids.IPFRAG_HIGH_THRESH),
        (ids.IP6FRAG_LOW_THRESH, ids.IP6FRAG_HIGH_THRESH),
    ):
        assert names.index(low) + 1 == names.index(high)
    low_enough = solve(stock.host(net__ipv4__ipfrag_low_thresh="65536"))
    assert new(low_enough, ids.IPFRAG_LOW_THRESH) is None
    assert new(low_enough, ids.IPFRAG_HIGH_THRESH) == "262144"


def test_without_the_low_threshold_the_high_one_is_left_alone() -> None:
    host = stock.host()
    host = replace(
        host, sysctls={name: value for name, value in host.sysctls.items() if "ipfrag_low" not in name}
    )
    assert new(solve(host), ids.IPFRAG_HIGH_THRESH) is None


def test_a_value_that_is_there_already_is_no_setting() -> None:
    texts = Texts(law=Law.DISCARD, why="x", lower="x", upper="x")
    assert sysctl(stock.host(), ids.TCP_RMEM, "4096 131072 1916928", texts) is None
    assert sysctl(stock.host(), ids.TCP_RMEM, "4096 131072 262144", texts) is not None
    assert sysctl(stock.host(), "net.nowhere", "1", texts) is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kernel", [(5, 15, 1), (5, 17, 1), (6, 12, 117)])
def test_connections_that_could_not_be_seen(kernel: tuple[int, int, int], format: str) -> None:
    host = stock.host(kernel=kernel)
    host = replace(host, users=(replace(host.users[0], sockets=(), connections=2),), sockets=())
    check_plan(host, solve(host, format=format), 5.0)


@pytest.mark.parametrize(("transport", "can"), [(Transport.NBD, True), (Transport.NVME_TCP, False)])
def test_only_a_program_can_reserve_for_a_socket(transport: Transport, can: bool) -> None:
    user = replace(stock.host().users[0], transport=transport)
    assert (reserve_mem(stock.host(), user) is not None) is can


def test_a_cap_of_the_administrator_stays() -> None:
    host = stock.host()
    tight = replace(
        host.users[0].sockets[0],
        sndbuf_bytes=65536,
        rcvbuf_bytes=65536,
        sndbuf_locked=True,
        rcvbuf_locked=True,
    )
    host = replace(host, users=(replace(host.users[0], sockets=(tight,)),), sockets=(tight,))
    assert new(solve(host), "cap:swap /dev/nbd0") is None


def test_no_setting_that_the_kernel_does_not_have() -> None:
    host = stock.host(kernel=(5, 10, 200))
    host = replace(
        host, sysctls={name: value for name, value in host.sysctls.items() if "skb_defer" not in name}
    )
    names = {one.id for one in solve(host).settings}
    assert ids.SKB_DEFER_MAX not in names
    assert not any(name.startswith(ids.RESERVE_MEM) for name in names)


def test_a_raise_says_what_must_be_free_and_goes_in_steps() -> None:
    host = stock.host()
    assert host.memory is not None
    used = tuple(replace(zone, free=zone.low) for zone in host.memory.zones)
    short = replace(host, memory=replace(host.memory, zones=used))
    raised = setting(solve(short), ids.MIN_FREE)
    steps = [int(value) for value in raised.steps]
    assert steps == sorted(steps)
    assert steps[-1] == int(raised.new)
    assert len(steps) > 2
    assert "pages free" in raised.first
    assert setting(solve(host), ids.MIN_FREE).steps == ()


def test_queue_depths_come_with_a_warning_and_only_where_they_help() -> None:
    host = stock.host(1000)
    queue = Queue(
        device="nvme1n1",
        nr_requests=1023,
        max_sectors_kib=1280,
        scheduler="none",
        hw_queues=4,
        wbt_usec=None,
        read_ahead_kib=128,
    )
    user = replace(host.users[0], transport=Transport.NVME_TCP, queue=queue, connections=16, sockets=())
    host = replace(host, users=(user,))
    names = {one.id: one for one in solve(host, format="script").settings}
    if "queue.nr_requests:nvme1n1" in names:
        assert "idle queue" in names["queue.nr_requests:nvme1n1"].first
    assert "queue.nr_requests:nvme1n1" not in {one.id for one in solve(host, format="sysctl").settings}


def test_threaded_polling_is_switched_off() -> None:
    host = stock.host()
    host = replace(host, links=(replace(host.links[0], threaded=True),))
    found = setting(solve(host, format="tuned"), "threaded:eth0")
    assert (found.path, found.old, found.new) == ("/sys/class/net/eth0/threaded", "1", "0")


def test_accepted_findings_are_shown_and_still_count() -> None:
    accepted = (Acceptance(id="D16", reason="the server is fast", expires=date(2027, 3, 31)),)
    plan = solve(stock.host(), accepted=accepted)
    assert [one.id for one in plan.accepted] == ["D16"]
    assert any("accepted, until 2027-03-31: the server is fast" in line for line in plan.remains)
    assert plan.settings == solve(stock.host()).settings


def test_published_numbers_are_tried_on_this_host() -> None:
    found = {one.name: one for one in solve(stock.host()).rules_of_thumb}
    assert found["kernel default"].min_free_kib == 1958
    assert found["kernel default"].holds_now is False
    assert found["512 MiB, or 1.83 GiB"].holds_planned is False  # more than the machine has
    assert found["ten times the default"].holds_planned is True


def test_unbounded_rows_are_never_safe_after_a_plan() -> None:
    host = stock.host()
    nic = replace(host.links[0], ring=RxRing(slots=None, slots_max=None, queues=None))
    plan = solve(replace(host, links=(nic,)))
    assert plan.after is not Verdict.SAFE
    assert plan.fits is None


def test_the_share_is_of_ram() -> None:
    host = stock.host(1000)
    assert bounds.share_kib(host, 5) == 1000 * KIB * 5 // 100
