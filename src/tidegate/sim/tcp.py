"""TCP on the client: block IO's connections, and the one test of the mail (net/ipv4/tcp_ipv4.c, tcp_input.c).

Sequence numbers count segments. A connection sends units of one page (three segments) that stay in memory until they
are acknowledged, keeps what arrives out of order, acknowledges every second segment or after 40 ms, and retransmits
with a timer that doubles up to 120 s.

Not modelled: congestion windows (the socket buffer is smaller), SACK, windows that close, checksums.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tidegate.sim.clock import MS, SECOND
from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.skbuff import Frame, Skb, alloc_skb, is_memalloc_skb, kfree_skb
from tidegate.sim.sock import (
    Sock,
    is_memalloc_sock,
    sk_charge,
    sk_rmem_schedule,
    sk_uncharge,
    sock_queue_rcv_skb,
)

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine
    from tidegate.sim.server import Server

RTO_MIN_NS = 200 * MS  # TCP_RTO_MIN
RTO_MAX_NS = 120 * SECOND  # TCP_RTO_MAX
DELACK_NS = 40 * MS  # TCP_DELACK_MIN
DUPACKS = 3  # sysctl_tcp_reordering
ACK_BYTES = 66
SEGMENT_BYTES = 1514


class Reader(Protocol):
    """Who reads the connection: the block driver's receive thread."""

    def __call__(self, message: int, /) -> None:
        """A whole message has arrived in order."""


class Unit:
    """One page (or a header) that was sent and is not acknowledged: `end` is the segment after its last."""

    __slots__ = ("end", "free", "length", "size_bytes", "start")

    def __init__(self, start: int, end: int, size_bytes: int, length: int, free: Callable[[], None]) -> None:
        self.start = start
        self.end = end
        self.size_bytes = size_bytes  # of memory, charged to sk_wmem
        self.length = length  # of the last frame on the wire
        self.free = free


class Connection:
    """A block user's TCP connection, the client's side."""

    __slots__ = (
        "acks_due", "backoff_ns", "delack_armed", "delack_due", "dupacks", "m", "messages", "ooo",
        "ooo_bytes", "rcv_nxt", "read", "recover", "rto_armed", "rto_due", "rto_entry", "server", "sk", "snd_nxt",
        "snd_una", "units", "up", "wmem", "written",
    )  # fmt: skip

    def __init__(self, m: Machine, sk: Sock, read: Reader, written: Callable[[], None]) -> None:
        self.m = m
        self.sk = sk
        self.read = read
        self.written = written  # called when send memory was given back
        self.server: Server
        self.up = True
        self.snd_una = self.snd_nxt = self.recover = 0
        self.units: deque[Unit] = deque()
        self.wmem = 0
        self.backoff_ns = RTO_MIN_NS
        self.rto_due = 0
        self.rto_entry = 0  # of the clock; an older one does nothing
        self.rto_armed = False
        self.dupacks = 0
        self.rcv_nxt = 0
        self.ooo: dict[int, Skb] = {}
        self.ooo_bytes = 0
        self.messages: dict[int, int] = {}  # segment that ends a message -> the message
        self.acks_due = 0
        self.delack_due = 0
        self.delack_armed = False


def tcp_v4_rcv(m: Machine, skb: Skb) -> None:
    """A segment for a socket. The hunk: a marked one for a socket without SOCK_MEMALLOC is dropped here.

    "the packets that we got from reserve still can live an arbitrary time in the protocol stack": this is what
    bounds that time.
    """
    frame = skb.frame
    assert frame is not None
    sk = frame.sock
    assert sk is not None
    m.steps["tcp_v4_rcv"] += 1
    if (
        (skb.mark or m.pages_out)
        and m.design.discard
        and is_memalloc_skb(m, skb)
        and not is_memalloc_sock(sk)
    ):
        m.drop(skb, "PFMEMALLOC")
        return
    conn = frame.conn
    if conn is None:
        if sock_queue_rcv_skb(m, sk, skb):
            m.foreign["delivered"] += 1
        else:
            m.drop(skb, "SOCKET_RCVBUFF")
        return
    if not conn.up:
        conn.server.handshake(skb)
        return
    if frame.generation != conn.server.generation:  # waited in a queue while the connection was made anew
        m.drop(skb, "TCP_OLD_SEQUENCE")
        return
    tcp_ack(conn, frame.ack, pure=frame.kind == "ack")
    if frame.kind == "ack":
        kfree_skb(m, skb)
    else:
        tcp_data_queue(conn, skb)


def tcp_data_queue(conn: Connection, skb: Skb) -> None:
    """In order: to the reader, and what was waiting behind it. Out of order: kept until the hole is filled."""
    m = conn.m
    frame = skb.frame
    assert frame is not None
    if frame.seq == conn.rcv_nxt:
        if not sk_rmem_schedule(m, conn.sk, skb) and not tcp_prune_ofo_queue(conn, skb):
            m.drop(skb, "SOCKET_RCVBUFF")
            return
        _deliver(conn, skb)
        while conn.ooo and conn.rcv_nxt in conn.ooo:
            waiting = conn.ooo.pop(conn.rcv_nxt)
            sk_uncharge(m, conn.sk, waiting)
            conn.ooo_bytes -= waiting.truesize
            m.steps["tcp_ofo_queue"] += 1
            _deliver(conn, waiting)
        _ack_later(conn)
    elif frame.seq > conn.rcv_nxt and frame.seq not in conn.ooo:
        if m.design.drop_out_of_order and is_memalloc_skb(m, skb):
            m.drop(skb, "OUT_OF_ORDER")
        elif not sk_rmem_schedule(m, conn.sk, skb):
            m.drop(skb, "SOCKET_RCVBUFF")
        else:
            m.steps["tcp_data_queue_ofo"] += 1
            sk_charge(m, conn.sk, skb)
            conn.ooo_bytes += skb.truesize
            conn.ooo[frame.seq] = skb
            if skb.reserve:
                m.holding.moved(skb, "out_of_order")
        tcp_send_ack(conn)
    else:
        m.drop(skb, "TCP_OLD_DATA")
        tcp_send_ack(conn)


def tcp_prune_ofo_queue(conn: Connection, skb: Skb) -> bool:
    """Room for the next segment at the cost of those behind it, the last first; whether there is room now."""
    m = conn.m
    while conn.ooo and not sk_rmem_schedule(m, conn.sk, skb):
        last = conn.ooo.pop(max(conn.ooo))
        sk_uncharge(m, conn.sk, last)
        conn.ooo_bytes -= last.truesize
        m.steps["tcp_prune_ofo_queue"] += 1
        m.drop(last, "OFO_PRUNED")
    return sk_rmem_schedule(m, conn.sk, skb)


def _deliver(conn: Connection, skb: Skb) -> None:
    """The receive thread runs at once, copies, and frees: nbd_read_stat() waits in the kernel for nothing else."""
    m = conn.m
    m.steps["tcp_data_queue"] += 1
    conn.rcv_nxt += 1
    message = conn.messages.pop(conn.rcv_nxt, -1)
    kfree_skb(m, skb)
    if message >= 0:
        conn.read(message)


# Acknowledgements


def _ack_later(conn: Connection) -> None:
    conn.acks_due += 1
    if conn.acks_due >= 2:
        tcp_send_ack(conn)
    elif not conn.delack_armed:
        conn.delack_armed = True
        conn.delack_due = conn.m.clock.now + DELACK_NS
        conn.m.clock.at(conn.delack_due, _delack, conn)


def _delack(conn: Connection) -> None:
    conn.delack_armed = False
    if conn.acks_due:
        tcp_send_ack(conn)


def tcp_send_ack(conn: Connection) -> None:
    """A pure acknowledgement: a small skb, from the reserve where the design says so; without one, later."""
    m = conn.m
    gfp = GFP_ATOMIC | (MEMALLOC if m.design.memalloc_acks and conn.sk.memalloc else 0)
    skb = alloc_skb(m, m.small_cache, gfp)
    if skb is None:
        m.steps["ack_failed"] += 1
        conn.acks_due = max(conn.acks_due, 1)
        if not conn.delack_armed:  # tcp_send_ack(): inet_csk_schedule_ack() and the timer, TCP_DELACK_MAX
            conn.delack_armed = True
            m.clock.after(RTO_MIN_NS, _delack, conn)
        return
    kfree_skb(m, skb)  # sent and gone: its time in the transmit ring is not modelled
    m.steps["tcp_send_ack"] += 1
    conn.acks_due = 0
    conn.server.wire(Frame("tcp", ACK_BYTES, None), "ack", 0, conn.rcv_nxt)


def tcp_ack(conn: Connection, ack: int, *, pure: bool) -> None:
    """Units that are acknowledged are freed; a hole that follows is filled at once."""
    if ack > conn.snd_una:
        conn.snd_una = ack
        conn.dupacks = 0
        conn.backoff_ns = RTO_MIN_NS
        units = conn.units
        freed = False
        while units and units[0].end <= ack:
            unit = units.popleft()
            conn.wmem -= unit.size_bytes
            unit.free()
            freed = True
        conn.m.steps["tcp_clean_rtx_queue"] += 1
        if units:
            tcp_rearm_rto(conn)
        if ack < conn.recover:
            tcp_retransmit_skb(conn)
        if freed:
            conn.written()
    elif pure and ack == conn.snd_una and conn.units:
        conn.dupacks += 1
        if conn.dupacks == DUPACKS and ack >= conn.recover:
            conn.recover = conn.snd_nxt
            tcp_retransmit_skb(conn)


def tcp_transmit(conn: Connection, segments: int, size_bytes: int, free: Callable[[], None]) -> int:
    """Sends a unit; the number of the segment after it."""
    start = conn.snd_nxt
    conn.snd_nxt = end = start + segments
    if not conn.units:
        tcp_rearm_rto(conn)
    conn.units.append(Unit(start, end, size_bytes, SEGMENT_BYTES, free))
    conn.wmem += size_bytes
    conn.acks_due = 0  # data carry the acknowledgement
    for seq in range(start, end):
        conn.server.wire(Frame("tcp", SEGMENT_BYTES, None), "data", seq, conn.rcv_nxt)
    conn.m.steps["tcp_write_xmit"] += 1
    return end


def tcp_rearm_rto(conn: Connection) -> None:
    """The timer starts anew. An entry that is too early puts itself off; a nearer one takes the place of a later."""
    conn.rto_due = conn.m.clock.now + conn.backoff_ns
    if not conn.rto_armed or conn.rto_due < conn.rto_entry:
        _enter_timer(conn)


def _enter_timer(conn: Connection) -> None:
    conn.rto_armed = True
    conn.rto_entry = conn.rto_due
    conn.m.clock.at(conn.rto_due, tcp_retransmit_timer, conn)


def tcp_retransmit_timer(conn: Connection) -> None:
    """Put off while acknowledgements come, else the first segment again."""
    m = conn.m
    if conn.rto_entry != m.clock.now:
        return
    if not conn.units or not conn.up:
        conn.rto_armed = False
        return
    if conn.rto_due > m.clock.now:
        _enter_timer(conn)
        return
    m.steps["tcp_retransmit_timer"] += 1
    conn.recover = conn.snd_nxt
    tcp_retransmit_skb(conn)
    conn.backoff_ns = min(conn.backoff_ns * 2, RTO_MAX_NS)
    conn.rto_due = m.clock.now + conn.backoff_ns
    _enter_timer(conn)


def tcp_retransmit_skb(conn: Connection) -> None:
    """The first unacknowledged segment again: a clone, GFP_ATOMIC; 6.12 does not give it the reserve (2.3)."""
    m = conn.m
    design = m.design
    own = design.memalloc_acks and not design.pfmemalloc and conn.sk.memalloc
    if m.heads is not None:
        clone = alloc_skb(m, m.small_cache, GFP_ATOMIC | (MEMALLOC if own else 0))
        if clone is None:
            m.steps["retransmit_failed"] += 1
            return
        kfree_skb(m, clone)
    m.steps["tcp_retransmit_skb"] += 1
    conn.server.wire(Frame("tcp", SEGMENT_BYTES, None), "data", conn.snd_una, conn.rcv_nxt)


def tcp_reset(conn: Connection) -> None:
    """The connection is gone, and all that it held with it."""
    m = conn.m
    conn.up = False
    while conn.units:
        unit = conn.units.popleft()
        conn.wmem -= unit.size_bytes
        unit.free()
    for skb in conn.ooo.values():
        sk_uncharge(m, conn.sk, skb)
        kfree_skb(m, skb)
    conn.ooo.clear()
    conn.ooo_bytes = 0
    conn.messages.clear()
    conn.snd_una = conn.snd_nxt = conn.recover = conn.rcv_nxt = 0
    conn.acks_due = conn.dupacks = 0
    conn.backoff_ns = RTO_MIN_NS
