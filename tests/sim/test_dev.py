"""From the driver to the protocols: softnet and its bypass, hooks, the coin, the drop at ingress."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.machines import boot, foreign_sock, leave_free, packet

from tidegate.sim.dev import netif_receive_skb, netif_rx
from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners
from tidegate.sim.skbuff import Skb


def short(name: str = "mail", *left_out: str, **parts: Any) -> Machine:
    m = boot(name, *left_out, **parts)
    leave_free(m, 40)
    return m


def marked(m: Machine, protocol: str = "tcp") -> Skb:
    skb = packet(m, GFP_ATOMIC | MEMALLOC, protocol)
    assert skb.reserve
    return skb


def test_a_marked_packet_passes_the_queue() -> None:
    m = short()
    assert netif_rx(m, marked(m))
    assert (len(m.softnet), m.drops["PFMEMALLOC"], m.steps["netif_rx_bypass"]) == (0, 1, 1)


def test_without_the_bypass_it_waits_with_all_others() -> None:
    m = short("mail", "bypass")
    assert not netif_rx(m, marked(m))
    assert (len(m.softnet), m.softnet_marked) == (1, 1)
    m.clock.run(m.packet_ns)
    assert (len(m.softnet), m.softnet_marked, m.drops["PFMEMALLOC"]) == (0, 0, 1)


def test_softnet_takes_one_more_than_its_limit() -> None:
    # 2.6.12 queues while qlen <= netdev_max_backlog.
    m = boot(machine={"backlog_packets": 3})
    for _ in range(6):
        netif_rx(m, packet(m, GFP_ATOMIC))
    assert (len(m.softnet), m.drops["CPU_BACKLOG"]) == (4, 2)


def test_the_softirq_takes_one_packet_at_a_time_in_order() -> None:
    m = boot()
    sock = foreign_sock(m)
    skbs = [packet(m, GFP_ATOMIC, "tcp", sock) for _ in range(3)]
    for skb in skbs:
        netif_rx(m, skb)
    m.clock.run(m.packet_ns)
    assert list(sock.queue) == skbs[:1]
    m.clock.run(2 * m.packet_ns)
    assert list(sock.queue) == skbs[:2]
    m.clock.run(10 * m.packet_ns)
    assert (list(sock.queue), m.softnet_running, m.steps["net_rx_action"]) == (skbs, False, 3)


def test_the_queue_has_a_share_of_the_reserve_where_it_is_throttled() -> None:
    m = short("softnet_throttled")
    assert m.softnet_share == 15  # a quarter of 60
    for _ in range(17):
        netif_rx(m, marked(m))
    netif_rx(m, packet(short_free(m), GFP_ATOMIC))
    assert (m.softnet_marked, len(m.softnet), m.drops["SOFTNET_THROTTLE"]) == (15, 16, 2)


def short_free(m: Machine) -> Machine:
    """The same machine, with ordinary memory again."""
    m.zone.free += 100
    m.programs_pages -= 100
    return m


def test_the_coin_falls_only_while_the_reserve_is_used() -> None:
    m = boot("random_drop")
    sock = foreign_sock(m)
    for _ in range(50):
        netif_receive_skb(m, packet(m, GFP_ATOMIC, "tcp", sock))
    assert (len(sock.queue), m.steps["coin"]) == (50, 0)
    leave_free(m, 50)
    marked(m)
    for _ in range(40):
        netif_receive_skb(m, marked(m))
    assert 8 < m.drops["COIN"] < 32
    assert m.drops["PFMEMALLOC"] == 0


def test_the_gate_closes_below_min_and_opens_a_quarter_above() -> None:
    m = boot("tidegate")
    zone = m.zone
    leave_free(m, zone.wmark_min + 2)
    sock = foreign_sock(m)

    def passes() -> bool:
        before = m.drops["EARLY_DROP"]
        netif_receive_skb(m, packet(m, GFP_ATOMIC, "tcp", sock))
        return m.drops["EARLY_DROP"] == before

    # While the packet is looked at, one page less is free than before it.
    assert passes()
    assert zone.free == zone.wmark_min + 1
    assert not passes()
    assert not passes()  # its page came back, and still
    free_at(m, zone.wmark_min * 5 // 4)
    assert not passes()
    free_at(m, zone.wmark_min * 5 // 4 + 2)
    assert passes()
    free_at(m, zone.wmark_min + 5)
    assert passes()


def free_at(m: Machine, pages: int) -> None:
    m.programs_pages -= pages - m.zone.free
    m.zone.free = pages


def test_a_tap_keeps_clones_of_the_reserve_where_the_clone_loses_its_mark() -> None:
    kept = {}
    for name, left_out in (("patch", ()), ("patch", ("clone_clears",)), ("mail", ()), ("mainline", ())):
        m = short(name, *left_out, hook=[{"kind": "tap"}])
        skb = marked(m)
        netif_receive_skb(m, skb)
        assert m.drops["PFMEMALLOC"] == 1  # the packet itself is thrown away
        kept[name, left_out] = len(m.hooks[0].sock.queue)
        assert m.steps["hook"] == (name != "mainline")
        assert m.zone.reserve_out == len(m.hooks[0].sock.queue)
        check_owners(m)
    assert kept == {
        ("patch", ()): 1,
        ("patch", ("clone_clears",)): 1,  # marked, but nothing tests it there
        ("mail", ()): 1,
        ("mainline", ()): 0,  # taps do not see packets of the reserve
    }
    m = short("mail", "clone_clears", hook=[{"kind": "tap"}])
    netif_receive_skb(m, marked(m))
    assert (len(m.hooks[0].sock.queue), m.drops["PFMEMALLOC_HOOK"]) == (0, 1)


@pytest.mark.parametrize("kind", ["filter", "bridge"])
@pytest.mark.parametrize(("name", "copies"), [("patch_first", 1), ("patch", 0)])
def test_a_filter_copies_into_the_reserve_only_with_the_first_patch(
    name: str, copies: int, kind: str
) -> None:
    m = short(name, hook=[{"kind": kind}])
    netif_receive_skb(m, marked(m))
    assert len(m.hooks[0].sock.queue) == copies
    check_owners(m)


def test_a_hook_with_a_full_queue_costs_nothing() -> None:
    m = boot("bare", hook=[{"kind": "tap", "rcvbuf_bytes": 4096 * 2}])
    sock = foreign_sock(m)
    for _ in range(5):
        netif_receive_skb(m, packet(m, GFP_ATOMIC, "tcp", sock))
    assert (len(m.hooks[0].sock.queue), m.steps["hook"], len(sock.queue)) == (2, 2, 5)
    check_owners(m)
