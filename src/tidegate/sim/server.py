"""The other end of a connection: a storage server that has memory enough, and the wire to it.

Its TCP is the same as the client's, as far as it matters: it keeps what is out of order, acknowledges, and
retransmits with back-off, so that a reply that was dropped comes again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tidegate.sim.clock import MS, SECOND, US
from tidegate.sim.gfp import GFP_ATOMIC
from tidegate.sim.nic import nic_receive
from tidegate.sim.skbuff import HEAD_BYTES, Frame, Skb, alloc_skb, kfree_skb
from tidegate.sim.tcp import ACK_BYTES, DELACK_NS, DUPACKS, RTO_MAX_NS, RTO_MIN_NS, Connection

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

FRAME_NS = 12 * US  # a full frame at 1 Gbit/s
WINDOW_SEGMENTS = 64  # that the server has on the way at most, and no more than the client's socket holds
SYN_NS = 1 * SECOND  # TCP_TIMEOUT_INIT of today; 3 s in 2005


class Server:
    """The server's side of one connection."""

    __slots__ = (
        "backoff_ns",
        "conn",
        "delack_armed",
        "dupacks",
        "expected",
        "free_at",
        "generation",
        "latency_ns",
        "loss_ppm",
        "m",
        "ooo",
        "rcv_nxt",
        "recover",
        "reorder_ns",
        "reorder_ppm",
        "replies",
        "rto_armed",
        "rto_due",
        "rto_entry",
        "service_ns",
        "snd_nxt",
        "snd_una",
        "stall_from",
        "stall_until",
        "syn_ns",
        "unacked",
        "window",
        "wire_free",
    )  # fmt: skip

    def __init__(self, m: Machine, conn: Connection, *, latency_ns: int, service_ns: int) -> None:
        faults = m.case.faults
        self.m = m
        self.conn = conn
        self.latency_ns = latency_ns
        self.service_ns = service_ns
        self.loss_ppm = faults.loss_ppm
        self.reorder_ppm = faults.reorder_ppm
        self.reorder_ns = faults.reorder_us * US
        self.stall_from = faults.stall_from_ms * MS
        self.stall_until = (faults.stall_from_ms + faults.stall_ms) * MS
        self.generation = 0
        self.wire_free = 0
        self.free_at = 0
        self.syn_ns = SYN_NS
        # tcp_select_window(): a receiver offers no more than its buffer holds, in what segments cost it (truesize)
        truesize = m.rx_cache.object_bytes + (HEAD_BYTES if m.heads is not None else 0)
        self.window = min(WINDOW_SEGMENTS, max(2, conn.sk.rcvbuf // truesize))
        self.forget()

    def forget(self) -> None:
        """A new connection begins."""
        self.rcv_nxt = 0
        self.ooo: set[int] = set()
        self.expected: deque[tuple[int, int, int, int]] = deque()  # end, message, reply segments, bytes
        self.snd_una = self.snd_nxt = self.recover = 0
        self.replies: deque[tuple[int, int]] = deque()  # segments that may be sent: number, length
        self.unacked: dict[int, int] = {}  # segment -> length
        self.backoff_ns = RTO_MIN_NS
        self.rto_due = self.rto_entry = 0
        self.rto_armed = False
        self.dupacks = 0
        self.delack_armed = False
        self.generation += 1

    # The wire

    def wire(self, frame: Frame, kind: str, seq: int, ack: int) -> None:
        """From the client to the server: in order, unless it is lost or overtaken."""
        delay = self._delay(frame.length)
        if delay >= 0:
            self.m.clock.after(delay, self._arrive, (self.generation, kind, seq, ack))

    def _to_client(self, kind: str, seq: int, length: int) -> None:
        delay = self._delay(length)
        if delay < 0:
            return
        frame = Frame("tcp", length, self.conn.sk, self.conn)
        frame.kind = kind
        frame.seq = seq
        frame.ack = self.rcv_nxt
        frame.generation = self.generation
        self.m.clock.after(delay, self._at_client, (self.generation, frame))

    def _at_client(self, arg: tuple[int, Frame]) -> None:
        if arg[0] == self.generation:
            self.m.steps["wire"] += 1
            nic_receive(self.m, arg[1])

    def _delay(self, length: int) -> int:
        """Nanoseconds until it arrives; -1 where the wire loses it. The adversary stops with the storm."""
        m = self.m
        now = m.clock.now
        self.wire_free = max(self.wire_free, now) + (FRAME_NS if length > 256 else US)
        delay = self.wire_free - now + self.latency_ns
        if m.calm:
            return delay
        if self.loss_ppm and m.rng.randrange(1_000_000) < self.loss_ppm:
            m.steps["wire_loss"] += 1
            m.block_drops["WIRE"] += 1
            return -1
        if self.reorder_ppm and m.rng.randrange(1_000_000) < self.reorder_ppm:
            m.steps["wire_reorder"] += 1
            delay += m.rng.randrange(self.reorder_ns + 1)
        return delay

    # What arrives

    def expect(self, end: int, message: int, segments: int, length: int) -> None:
        """The client has begun a request: when everything before segment `end` is here, it is whole."""
        self.expected.append((end, message, segments, length))

    def _arrive(self, arg: tuple[int, str, int, int]) -> None:
        generation, kind, seq, ack = arg
        if generation != self.generation:
            return
        self._acked(ack, pure=kind == "ack")
        if kind == "ack":
            return
        if seq != self.rcv_nxt:
            if seq > self.rcv_nxt:
                self.ooo.add(seq)
            self._to_client("ack", 0, ACK_BYTES)
            return
        self.rcv_nxt += 1
        filled = bool(self.ooo)
        while self.rcv_nxt in self.ooo:
            self.ooo.discard(self.rcv_nxt)
            self.rcv_nxt += 1
        while self.expected and self.expected[0][0] <= self.rcv_nxt:
            _, message, segments, length = self.expected.popleft()
            self._serve(message, segments, length)
        if filled or self.rcv_nxt & 1 == 0:
            self._to_client("ack", 0, ACK_BYTES)
        elif not self.delack_armed:
            self.delack_armed = True
            self.m.clock.after(DELACK_NS, self._delack, self.generation)

    def _delack(self, generation: int) -> None:
        if generation == self.generation:
            self.delack_armed = False
            self._to_client("ack", 0, ACK_BYTES)

    def _serve(self, message: int, segments: int, length: int) -> None:
        now = self.m.clock.now
        start = max(now, self.free_at)
        if self.stall_from <= start < self.stall_until:
            start = self.stall_until
        self.free_at = start + self.service_ns
        self.m.clock.at(self.free_at, self._reply, (self.generation, message, segments, length))

    def _reply(self, arg: tuple[int, int, int, int]) -> None:
        generation, message, segments, length = arg
        if generation != self.generation:
            return
        self.m.steps["server_reply"] += 1
        first = self.snd_nxt + len(self.replies)
        for number in range(first, first + segments):
            self.replies.append((number, length))
        if message >= 0:
            self.conn.messages[first + segments] = message
        self._send()

    def unasked(self) -> None:
        """A message that nobody asked for (NOP-In, an event, a callback)."""
        self._reply((self.generation, -1, 1, 114))

    def _send(self) -> None:
        while self.replies and len(self.unacked) < self.window:
            number, length = self.replies.popleft()
            if not self.unacked:
                self._rearm()
            self.snd_nxt = number + 1
            self.unacked[number] = length
            self._to_client("data", number, length)

    def _rearm(self) -> None:
        """tcp_rearm_rto(), as the client's."""
        self.rto_due = self.m.clock.now + self.backoff_ns
        if not self.rto_armed or self.rto_due < self.rto_entry:
            self._enter_timer()

    def _enter_timer(self) -> None:
        self.rto_armed = True
        self.rto_entry = self.rto_due
        self.m.clock.at(self.rto_due, self._timer, self.generation)

    def _acked(self, ack: int, *, pure: bool) -> None:
        if ack > self.snd_una:
            for number in range(self.snd_una, ack):
                del self.unacked[number]
            self.snd_una = ack
            self.dupacks = 0
            self.backoff_ns = RTO_MIN_NS
            if self.unacked:
                self._rearm()
            if ack < self.recover:
                self._again()
            self._send()
        elif pure and ack == self.snd_una and self.unacked:
            self.dupacks += 1
            if self.dupacks == DUPACKS and ack >= self.recover:
                self.recover = self.snd_nxt
                self._again()

    def _again(self) -> None:
        self.m.steps["server_retransmit"] += 1
        self._to_client("data", self.snd_una, self.unacked[self.snd_una])

    def _timer(self, generation: int) -> None:
        if generation != self.generation or self.rto_entry != self.m.clock.now:
            return
        if not self.unacked:
            self.rto_armed = False
            return
        if self.rto_due <= self.m.clock.now:
            self.recover = self.snd_nxt
            self._again()
            self.backoff_ns = min(self.backoff_ns * 2, RTO_MAX_NS)
            self.rto_due = self.m.clock.now + self.backoff_ns
        self._enter_timer()

    # A connection that was reset

    def connect(self) -> None:
        """The client's SYN, which is ordinary memory; sent again until the answer has come."""
        m = self.m
        conn = self.conn
        if conn.up:
            return
        skb = alloc_skb(m, m.small_cache, GFP_ATOMIC)
        m.steps["tcp_connect"] += 1
        if skb is not None:
            kfree_skb(m, skb)
            m.clock.after(2 * self.latency_ns, self._syn_ack, self.generation)
        m.clock.after(self.syn_ns, self._connect_again, self.generation)
        self.syn_ns = min(self.syn_ns * 2, RTO_MAX_NS)

    def _connect_again(self, generation: int) -> None:
        if generation == self.generation and not self.conn.up:
            self.connect()

    def _syn_ack(self, generation: int) -> None:
        if generation == self.generation and not self.conn.up:
            frame = Frame("tcp", ACK_BYTES, self.conn.sk, self.conn)
            frame.kind = "syn-ack"
            nic_receive(self.m, frame)

    def handshake(self, skb: Skb) -> None:
        """Something for a connection that is not up: only the answer to the SYN counts."""
        m = self.m
        frame = skb.frame
        syn_ack = frame is not None and frame.kind == "syn-ack"
        kfree_skb(m, skb)
        if syn_ack and not self.conn.up:
            self.syn_ns = SYN_NS
            self.forget()
            self.conn.up = True
            self.conn.written()
