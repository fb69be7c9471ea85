"""Protocols other than TCP: the hole that the hunks leave, and what 6.12 leaves of it."""

from __future__ import annotations

import pytest
from tests.sim.machines import boot, foreign_sock, leave_free, packet

from tidegate.sim.clock import SECOND
from tidegate.sim.dev import netif_receive_skb
from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners

OTHERS = ["udp", "icmp", "ipv6", "raw", "forward", "fragment"]


def met(name: str, protocol: str) -> Machine:
    """A marked packet of a protocol has come."""
    m = boot(name)
    leave_free(m, 40)
    skb = packet(m, GFP_ATOMIC | MEMALLOC, protocol)
    assert skb.mark
    netif_receive_skb(m, skb)
    check_owners(m)
    return m


@pytest.mark.parametrize("protocol", OTHERS)
def test_the_hunks_test_tcp_only(protocol: str) -> None:
    m = met("patch", protocol)
    assert m.drops["PFMEMALLOC"] == 0
    assert m.zone.reserve_out == (0 if protocol == "icmp" else 1)  # icmp is answered at once


@pytest.mark.parametrize("protocol", ["tcp", *OTHERS])
def test_the_mail_wants_it_everywhere(protocol: str) -> None:
    m = met("mail", protocol)
    assert (m.drops["PFMEMALLOC"], m.zone.reserve_out) == (1, 0)


@pytest.mark.parametrize("protocol", OTHERS)
def test_6_12_tests_at_sockets_only(protocol: str) -> None:
    m = met("mainline", protocol)
    forgotten = protocol in {"forward", "fragment"}
    assert (m.drops["PFMEMALLOC"], m.zone.reserve_out) == ((0, 1) if forgotten else (1, 0))


def test_what_is_delivered_and_what_is_dropped_is_counted() -> None:
    m = boot("bare")
    sock = foreign_sock(m, "udp", rcvbuf=4096)
    for protocol in ("udp", "udp", "icmp"):
        netif_receive_skb(m, packet(m, GFP_ATOMIC, protocol, sock))
    assert m.foreign == {"delivered": 2, "dropped": 1}
    assert m.drops == {"SOCKET_RCVBUFF": 1}


def test_a_fragment_waits_thirty_seconds() -> None:
    m = boot("bare")
    free = m.zone.free
    netif_receive_skb(m, packet(m, GFP_ATOMIC, "fragment"))
    m.clock.run(SECOND)
    netif_receive_skb(m, packet(m, GFP_ATOMIC, "fragment"))
    m.clock.run(30 * SECOND - 1)
    assert (m.zone.free, m.fragment_bytes) == (free - 2, 8192)
    check_owners(m)
    m.clock.run(30 * SECOND)
    assert (m.zone.free, m.fragment_bytes) == (free - 1, 4096)
    m.clock.run(31 * SECOND)
    assert (m.zone.free, m.fragment_bytes, m.drops["FRAG_REASM_TIMEOUT"]) == (free, 0, 2)
    assert not m.fragment_timer
    netif_receive_skb(m, packet(m, GFP_ATOMIC, "fragment"))
    m.clock.run(61 * SECOND)
    assert m.fragment_bytes == 0  # the timer is set again


@pytest.mark.parametrize(("name", "pages"), [("bare", 64), ("mainline", 1024)])
def test_the_oldest_fragments_go_beyond_the_limit(name: str, pages: int) -> None:
    m = boot(name, machine={"pages": 2048})
    for _ in range(pages + 3):
        netif_receive_skb(m, packet(m, GFP_ATOMIC, "fragment"))
    assert (len(m.fragments), m.drops["FRAG_REASM_TIMEOUT"]) == (pages, 3)
