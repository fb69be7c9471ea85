"""Sockets: what their queues hold, and who may use the reserve (net/core/sock.c, include/net/sock.h)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tidegate.sim.skbuff import Skb, kfree_skb

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

PAGE_BYTES = 4096


class Sock:
    """A socket's receive side. `rmem` is the truesize of what is queued, bounded by `rcvbuf`; both bytes."""

    __slots__ = ("holder", "memalloc", "protocol", "queue", "rcvbuf", "rmem")

    def __init__(self, protocol: str, rcvbuf: int, holder: str) -> None:
        self.protocol = protocol
        self.rcvbuf = rcvbuf
        self.holder = holder
        self.rmem = 0
        self.memalloc = False  # SOCK_MEMALLOC
        self.queue: deque[Skb] = deque()


def sk_set_memalloc(m: Machine, sk: Sock) -> None:
    """The hunk: block IO says that its socket may use the reserve. Without the hunk nothing happens."""
    if m.design.sock_memalloc:
        sk.memalloc = True


def is_memalloc_sock(sk: Sock) -> bool:
    """The hunk of sock.h."""
    return sk.memalloc


def sk_rmem_schedule(m: Machine, sk: Sock, skb: Skb) -> bool:
    """Whether the socket may charge this packet: its own buffer first, then the pages that all TCP sockets share.

    TCP looks at what is charged already (tcp_data_queue(): sk_rmem_alloc > sk_rcvbuf), so an empty queue takes a
    packet of any size; the others add the new one first. Since 3.6 a marked packet on a flagged socket passes the
    shared bound (__sk_rmem_schedule()), never its own.
    """
    tcp = sk.protocol == "tcp"
    if (sk.rmem if tcp else sk.rmem + skb.truesize) > sk.rcvbuf:
        return False
    full = m.tcp_mem_bytes and tcp and m.tcp_bytes + skb.truesize > m.tcp_mem_bytes
    if full and not (m.design.pfmemalloc and skb.mark and sk.memalloc):
        m.tcp_pressure()
        return False
    return True


def sk_charge(m: Machine, sk: Sock, skb: Skb) -> None:
    """skb_set_owner_r()."""
    sk.rmem += skb.truesize
    if sk.protocol == "tcp":
        m.tcp_bytes += skb.truesize
    if skb.reserve:
        m.holding.moved(skb, sk.holder)


def sk_uncharge(m: Machine, sk: Sock, skb: Skb) -> None:
    """sock_rfree()."""
    sk.rmem -= skb.truesize
    assert sk.rmem >= 0, sk.holder
    if sk.protocol == "tcp":
        m.tcp_bytes -= skb.truesize


def sock_queue_rcv_skb(m: Machine, sk: Sock, skb: Skb) -> bool:
    """Queues a packet for a reader; false where the socket takes no more (the caller drops it)."""
    if not sk_rmem_schedule(m, sk, skb):
        return False
    sk_charge(m, sk, skb)
    sk.queue.append(skb)
    return True


def read_all(m: Machine, sk: Sock) -> int:
    """What a reader does: everything queued is taken and freed; the number of packets."""
    queue = sk.queue
    taken = len(queue)
    while queue:
        skb = queue.popleft()
        sk_uncharge(m, sk, skb)
        kfree_skb(m, skb)
    return taken
