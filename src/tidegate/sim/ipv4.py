"""Protocols other than TCP, and fragments (net/ipv4/ip_input.c, ip_fragment.c, udp.c, icmp.c, raw.c, ip_forward.c).

The hunks test for the mark in tcp_v4_rcv() only. Its author later called what is left a "big hole": a marked packet
that meets UDP, ICMP, IPv6, a raw socket or forwarding is kept there. `discard_everywhere` closes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.design import Kernel
from tidegate.sim.clock import SECOND
from tidegate.sim.skbuff import Skb, is_memalloc_skb, kfree_skb
from tidegate.sim.sock import sock_queue_rcv_skb

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

IPFRAG_HIGH_BYTES = 262_144  # sysctl_ipfrag_high_thresh of 2.6.12
IPFRAG_HIGH_BYTES_NOW = 4_194_304  # and of 6.12
IPFRAG_TIME_NS = 30 * SECOND


def ip_rcv(m: Machine, skb: Skb) -> None:
    """A foreign packet that is not TCP: tested where the design says so, then kept as its protocol does."""
    frame = skb.frame
    assert frame is not None
    # 6.12 tests at the socket's filter (sk_filter_trim_cap()): what is forwarded or reassembled never comes there.
    tested = m.design.kernel is not Kernel.V6_12 or frame.protocol not in {"forward", "fragment"}
    if tested and m.design.discard_everywhere and m.design.discard and is_memalloc_skb(m, skb):
        m.drop(skb, "PFMEMALLOC")
        return
    if frame.protocol == "icmp":
        m.steps["icmp_rcv"] += 1
        m.delivered(skb)
        kfree_skb(m, skb)  # answered at once; the answer is not followed
    elif frame.protocol == "fragment":
        ip_frag_queue(m, skb)
    else:
        # ipv6, raw and udp wait for a reader; a forwarded packet for its way out (a stopped device is no reader)
        assert frame.sock is not None
        m.steps["ip_rcv"] += 1
        if sock_queue_rcv_skb(m, frame.sock, skb):
            m.delivered(skb)
        else:
            m.drop(skb, "SOCKET_RCVBUFF")


def ip_frag_queue(m: Machine, skb: Skb) -> None:
    """A fragment waits for the rest, 30 seconds long; beyond the limit the oldest go (ip_evictor)."""
    m.steps["ip_frag_queue"] += 1
    fragments = m.fragments
    m.fragment_bytes += skb.truesize
    fragments.append((m.clock.now + IPFRAG_TIME_NS, skb))
    if skb.reserve:
        m.holding.moved(skb, "fragments")
    while m.fragment_bytes > m.ipfrag_high_bytes:
        _evict(m)
    if not m.fragment_timer and fragments:
        m.fragment_timer = True
        m.clock.at(fragments[0][0], ip_expire, m)


def ip_expire(m: Machine) -> None:
    """The timer of the oldest fragment."""
    m.fragment_timer = False
    while m.fragments and m.fragments[0][0] <= m.clock.now:
        _evict(m)
    if m.fragments:
        m.fragment_timer = True
        m.clock.at(m.fragments[0][0], ip_expire, m)


def _evict(m: Machine) -> None:
    _, skb = m.fragments.popleft()
    m.fragment_bytes -= skb.truesize
    m.drop(skb, "FRAG_REASM_TIMEOUT")
