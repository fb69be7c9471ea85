from __future__ import annotations

from dataclasses import replace

import pytest
from tests.findings import hosts
from tests.findings.cases import IGB, with_link
from tests.findings.hosts import with_nic

from tidegate.drivers import driver
from tidegate.findings import RULES
from tidegate.findings.nic import marks, starves
from tidegate.findings.rule import judge_rule
from tidegate.host.facts import Host, Transport
from tidegate.result import State

BY_ID = {rule.id: rule for rule in RULES}


def state(rule: str, host: Host) -> State:
    return judge_rule(BY_ID[rule], host, hosts.reserve()).state


@pytest.mark.parametrize(
    ("name", "key", "starved", "marked"),
    [
        ("virtio_net", True, True, True),  # the copied head of a small packet may carry the mark
        ("virtio_net", False, True, False),
        ("e1000", True, True, True),
        ("e1000e", True, False, True),
        ("e1000e", False, True, False),  # the key is off: ordinary memory only
        ("igb", False, False, True),
        ("mlx5_core", True, True, False),
        ("bnxt_en", True, False, True),  # as tg3 (bnxt_copy_skb)
        ("bnxt_en", False, True, False),
        ("tg3", True, False, True),  # recycles, and copies acknowledgements into the reserve
        ("tg3", False, True, False),
        ("8139cp", True, False, True),
        ("ice", True, False, True),
    ],
)
def test_what_a_driver_does_at_the_floor(name: str, key: bool, starved: bool, marked: bool) -> None:
    row = driver(name, (6, 12, 0))
    assert row is not None
    assert (starves(row, key=key), marks(row, key=key)) == (starved, marked)


def test_newer_virtio_has_no_worker_and_still_cannot_refill_from_the_reserve() -> None:
    newer = replace(hosts.HOST, kernel=replace(hosts.HOST.kernel, version=(6, 19, 0)))
    assert (state("D1", newer), state("D2", newer)) == (State.ABSENT, State.APPLIES)


def test_a_route_that_cannot_be_followed_is_unknown() -> None:
    blind = hosts.with_user(routes=(replace(hosts.ROUTE, nics=(), links=()),))
    for rule in ("D1", "D2", "D3", "D17", "D18"):
        assert state(rule, blind) is State.UNKNOWN


def test_rdma_hardware_has_no_ring_of_skbs_and_soft_rdma_has() -> None:
    host = hosts.with_user(transport=Transport.RDMA)
    assert state("D1", host) is State.ABSENT
    assert state("D1", replace(host, modules=frozenset({"siw"}))) is State.APPLIES


def test_an_unflagged_transport_is_harmed_only_where_buffers_are_marked() -> None:
    assert state("D11", hosts.with_user(host=IGB, transport=Transport.RBD)) is State.APPLIES
    assert (
        state("D11", hosts.with_user(transport=Transport.RBD)) is State.ABSENT
    )  # virtio_net, and nobody turned the key on
    tunnel = replace(hosts.NIC, name="wg0", kind="wireguard", driver="")
    e1000e = hosts.with_user(host=hosts.with_nic(driver="e1000e"), transport=Transport.RBD)
    assert state("D11", e1000e) is State.ABSENT
    assert state("D11", with_link(tunnel, e1000e)) is State.APPLIES


def test_nfs_is_flagged_only_while_it_swaps() -> None:
    swapping = hosts.with_user(host=IGB, transport=Transport.NFS)
    mounted = replace(IGB, users=(hosts.MOUNT,))
    assert (state("D11", swapping), state("D11", mounted)) == (State.ABSENT, State.APPLIES)


def test_a_ring_of_an_unknown_driver_may_drain_the_reserve() -> None:
    for name in ("mystery", ""):
        assert state("D5", hosts.with_nic(driver=name)) is State.UNKNOWN
    assert state("D5", hosts.with_nic(driver="", kind="bridge")) is State.ABSENT


def test_what_carries_a_user_must_be_known_before_it_is_called_unflagged() -> None:
    unknown = hosts.with_user(transport=Transport.OTHER)
    assert (state("D6", unknown), state("D12", unknown)) == (State.UNKNOWN, State.UNKNOWN)


@pytest.mark.parametrize(
    ("name", "found"), [("pcnet32", State.ABSENT), ("tg3", State.ABSENT), ("8139cp", State.APPLIES)]
)
def test_heads_of_small_frames_may_come_from_the_reserve(name: str, found: State) -> None:
    assert state("D3", with_nic(driver=name)) is found
