"""TCP of the client: order, acknowledgements, retransmission, and the one test of the mail."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.machines import boot, case_of, foreign_sock, leave_free

from tidegate.designs import design
from tidegate.sim.clock import MS, SECOND
from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners
from tidegate.sim.run import build, simulate
from tidegate.sim.skbuff import Frame, Skb, dev_alloc_skb
from tidegate.sim.storm import start_storm
from tidegate.sim.tcp import (
    DELACK_NS,
    RTO_MAX_NS,
    RTO_MIN_NS,
    Connection,
    tcp_prune_ofo_queue,
    tcp_reset,
    tcp_retransmit_timer,
    tcp_send_ack,
    tcp_transmit,
    tcp_v4_rcv,
)
from tidegate.simulation import Word


class Wire:
    """In the place of a server: keeps what the client sends."""

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.generation = 0
        self.sent: list[tuple[int, str, int, int]] = []  # time, kind, segment, acknowledgement

    def wire(self, frame: Frame, kind: str, seq: int, ack: int) -> None:
        self.sent.append((self.m.clock.now, kind, seq, ack))

    def acks(self) -> list[int]:
        return [ack for _, kind, _, ack in self.sent if kind == "ack"]


def connection(name: str = "mail", *, free: int | None = None, **parts: Any) -> tuple[Connection, Wire]:
    m = boot(name, user=[{"connections": 1}], **parts)
    if free is not None:
        leave_free(m, free)
    conn = m.users[0].senders[0].conn
    wire = Wire(m)
    conn.server = wire  # type: ignore[assignment]
    conn.written = lambda: None
    return conn, wire


def segment(conn: Connection, seq: int, *, ack: int = 0, kind: str = "data", mark: bool = False) -> Skb:
    m = conn.m
    skb = dev_alloc_skb(m, m.rx_cache, GFP_ATOMIC | MEMALLOC)
    assert skb is not None
    skb.mark = skb.mark or mark
    frame = skb.frame = Frame("tcp", 1514, conn.sk, conn)
    frame.kind, frame.seq, frame.ack = kind, seq, ack
    return skb


def receive(conn: Connection, *numbers: int, ack: int = 0, kind: str = "data") -> None:
    for number in numbers:
        tcp_v4_rcv(conn.m, segment(conn, number, ack=ack, kind=kind))
        check_owners(conn.m)


# Receiving.


def test_messages_are_read_when_their_last_segment_is_there_in_order() -> None:
    conn, _ = connection()
    read: list[int] = []
    conn.read = read.append
    conn.messages = {2: 7, 3: 8, 6: 9}
    free = conn.m.zone.free
    receive(conn, 0)
    assert read == []
    receive(conn, 1, 2)
    assert read == [7, 8]
    receive(conn, 5, 4)
    assert (read, conn.rcv_nxt, sorted(conn.ooo)) == ([7, 8], 3, [4, 5])
    receive(conn, 3)
    assert (read, conn.rcv_nxt, conn.ooo, conn.ooo_bytes, conn.sk.rmem) == ([7, 8, 9], 6, {}, 0, 0)
    assert conn.m.zone.free == free


def test_every_second_segment_is_acknowledged_at_once() -> None:
    conn, wire = connection()
    receive(conn, 0, 1, 2, 3)
    assert wire.acks() == [2, 4]


def test_a_single_segment_is_acknowledged_after_a_while() -> None:
    conn, wire = connection()
    receive(conn, 0)
    conn.m.clock.run(DELACK_NS - 1)
    assert wire.acks() == []
    conn.m.clock.run(DELACK_NS)
    assert wire.acks() == [1]
    conn.m.clock.run(10 * DELACK_NS)
    assert wire.acks() == [1]


def test_what_is_out_of_order_or_old_is_acknowledged_at_once() -> None:
    conn, wire = connection()
    receive(conn, 3, 4)
    assert wire.acks() == [0, 0]
    receive(conn, 3)  # again: it is dropped
    assert (wire.acks(), conn.m.drops) == ([0, 0, 0], {"TCP_OLD_DATA": 1})
    receive(conn, 0, 0)
    assert (wire.acks(), conn.m.drops) == ([0, 0, 0, 1], {"TCP_OLD_DATA": 2})


def test_a_full_buffer_takes_nothing_behind_a_hole_and_makes_room_for_what_fills_it() -> None:
    conn, _ = connection()
    conn.sk.rcvbuf = 3 * 4096 - 1
    receive(conn, 5, 9, 2, 7, 8)
    assert (sorted(conn.ooo), conn.m.drops["SOCKET_RCVBUFF"]) == ([2, 5, 9], 2)
    receive(conn, 0)
    assert (sorted(conn.ooo), conn.rcv_nxt) == ([2, 5], 1)  # the last one went first
    assert conn.m.drops["OFO_PRUNED"] == 1
    conn.sk.rcvbuf = 0
    assert tcp_prune_ofo_queue(conn, segment(conn, 1))
    assert conn.ooo == {}


def test_a_marked_segment_behind_a_hole_is_dropped_where_the_design_says_so() -> None:
    for name, kept in (("drop_throttle", 0), ("mail", 1)):
        conn, wire = connection(name)
        tcp_v4_rcv(conn.m, segment(conn, 1, mark=True))
        assert len(conn.ooo) == kept, name
        assert wire.acks() == [0]
        tcp_v4_rcv(conn.m, segment(conn, 0, mark=True))
        assert conn.rcv_nxt == 1 + kept


@pytest.mark.parametrize(
    ("name", "mark", "flagged", "dropped"),
    [
        ("mail", True, False, True),
        ("mail", True, True, False),
        ("mail", False, False, False),
        ("bare", True, False, False),
    ],
)
def test_the_one_test_of_the_mail(name: str, *, mark: bool, flagged: bool, dropped: bool) -> None:
    m = boot(name)
    sock = foreign_sock(m)
    sock.memalloc = flagged
    skb = dev_alloc_skb(m, m.rx_cache, GFP_ATOMIC)
    assert skb is not None
    skb.frame, skb.mark = Frame("tcp", 1514, sock), mark
    tcp_v4_rcv(m, skb)
    assert (m.drops["PFMEMALLOC"], len(sock.queue)) == ((1, 0) if dropped else (0, 1))
    check_owners(m)


def test_what_waited_in_a_queue_while_the_connection_was_made_anew_is_not_of_it() -> None:
    conn, wire = connection()
    receive(conn, 0, 1)
    old = [segment(conn, 2, ack=5), segment(conn, 0)]
    tcp_reset(conn)
    wire.generation, conn.up = 1, True
    for skb in old:
        tcp_v4_rcv(conn.m, skb)
    assert (conn.rcv_nxt, conn.snd_una, conn.ooo) == (0, 0, {})
    assert conn.m.drops == {"TCP_OLD_SEQUENCE": 2}
    check_owners(conn.m)


# Acknowledging out of the last memory.


@pytest.mark.parametrize(
    ("name", "sent"), [("mail", True), ("patch", False), ("mainline", True), ("bare", False)]
)
def test_an_acknowledgement_is_memory_too(name: str, *, sent: bool) -> None:
    conn, wire = connection(name, free=40)
    tcp_send_ack(conn)
    assert wire.acks() == ([0] if sent else [])
    assert conn.m.steps["ack_failed"] == (not sent)


def test_one_that_failed_is_tried_again_later() -> None:
    conn, wire = connection("patch", free=40)
    tcp_send_ack(conn)
    conn.m.zone.free += 100
    conn.m.programs_pages -= 100
    conn.m.clock.run(RTO_MIN_NS - 1)
    assert wire.acks() == []
    conn.m.clock.run(RTO_MIN_NS)
    assert wire.acks() == [0]


# Sending.


def send(conn: Connection, units: int = 1) -> list[int]:
    """Units of three segments; which of them were freed is in the list that is given back."""
    freed: list[int] = []
    for number in range(units):
        tcp_transmit(conn, 3, 4096, lambda number=number: freed.append(number))  # type: ignore[misc]
    return freed


def test_a_unit_is_freed_when_all_of_it_is_acknowledged() -> None:
    conn, wire = connection()
    freed = send(conn, 3)
    assert [seq for _, _, seq, _ in wire.sent] == list(range(9))
    assert conn.wmem == 3 * 4096
    for ack, gone in ((2, []), (3, [0]), (5, [0]), (9, [0, 1, 2])):
        receive(conn, 0, ack=ack, kind="ack")
        assert freed == gone
    assert (conn.wmem, conn.snd_una, len(conn.units)) == (0, 9, 0)


def test_the_sender_is_told_when_something_was_freed() -> None:
    conn, _ = connection()
    told: list[int] = []
    conn.written = lambda: told.append(conn.wmem)
    send(conn, 2)
    receive(conn, 0, ack=2, kind="ack")
    receive(conn, 0, ack=6, kind="ack")
    assert told == [0]


def test_data_carry_the_acknowledgement() -> None:
    conn, wire = connection()
    receive(conn, 0)
    send(conn)
    conn.m.clock.run(DELACK_NS)
    assert wire.acks() == []
    assert wire.sent[0][3] == 1


def test_the_timer_doubles_up_to_120_seconds() -> None:
    conn, wire = connection()
    send(conn)
    conn.m.clock.run(1500 * SECOND)
    again = [time_ns for time_ns, _, seq, _ in wire.sent[3:] if seq == 0]
    assert len(again) == len(wire.sent) - 3  # the first segment only
    assert again[0] == RTO_MIN_NS
    gaps = [later - earlier for earlier, later in pairwise(again)]
    assert gaps == [min(RTO_MIN_NS << number + 1, RTO_MAX_NS) for number in range(len(gaps))]
    assert gaps[-3:] == [RTO_MAX_NS] * 3 == [120 * SECOND] * 3


def test_an_acknowledgement_puts_the_timer_off_and_ends_the_doubling() -> None:
    conn, wire = connection()
    send(conn, 2)
    conn.m.clock.run(RTO_MIN_NS * 3)  # at 200 and 600 ms
    receive(conn, 0, ack=3, kind="ack")
    sent = len(wire.sent)
    now = conn.m.clock.now
    conn.m.clock.run(now + RTO_MIN_NS - 1)
    assert len(wire.sent) == sent
    conn.m.clock.run(now + 2 * RTO_MIN_NS)
    assert [(time_ns - now, seq) for time_ns, _, seq, _ in wire.sent[sent:]] == [(RTO_MIN_NS, 3)]
    conn.m.clock.run(now + 2 * SECOND)  # past the entry that was left behind
    assert sum(entry[2] is tcp_retransmit_timer for entry in conn.m.clock._heap) == 1
    receive(conn, 0, ack=6, kind="ack")
    sent = len(wire.sent)
    conn.m.clock.run(20 * SECOND)
    assert len(wire.sent) == sent
    assert not conn.rto_armed


def test_the_third_duplicate_acknowledgement_sends_again_once() -> None:
    conn, wire = connection()
    send(conn, 3)
    for number in range(1, 7):
        receive(conn, 0, ack=0, kind="ack")
        assert len(wire.sent) == (9 if number < 3 else 10)
    assert wire.sent[9][2] == 0
    receive(conn, 0, ack=4, kind="ack")  # a hole that follows is filled at once
    assert wire.sent[10][2] == 4
    receive(conn, 0, ack=9, kind="ack")
    assert len(wire.sent) == 11


def test_data_are_no_duplicate_acknowledgement() -> None:
    conn, wire = connection()
    send(conn)
    receive(conn, 0, 1, 2, 3, ack=0)
    assert [seq for _, kind, seq, _ in wire.sent if kind == "data"] == [0, 1, 2]


@pytest.mark.parametrize(("name", "sent"), [("mail", True), ("patch", False), ("mainline", False)])
def test_a_retransmission_needs_a_clone(name: str, *, sent: bool) -> None:
    """6.12 gives its acknowledgements the reserve, but not its retransmissions."""
    conn, wire = connection(name, machine={"page_per_skb": False})
    leave_free(conn.m, 40)
    conn.m.small_cache.partial = []
    if conn.m.heads is not None:
        conn.m.heads.partial = []
    send(conn)
    conn.m.clock.run(RTO_MIN_NS)
    assert len(wire.sent) == (4 if sent else 3)
    assert conn.m.steps["retransmit_failed"] == (not sent)


def test_a_reset_frees_all_that_the_connection_held() -> None:
    conn, _ = connection()
    free = conn.m.zone.free
    freed = send(conn, 2)
    receive(conn, 3, 4)
    tcp_reset(conn)
    assert freed == [0, 1]
    assert (conn.m.zone.free, conn.wmem, conn.ooo, conn.sk.rmem, conn.up) == (free, 0, {}, 0, False)
    check_owners(conn.m)


# Client and server together: whatever the wire does, each request completes once.


@settings(max_examples=25)
@given(
    loss_ppm=st.integers(0, 300_000),
    reorder_ppm=st.integers(0, 800_000),
    reorder_us=st.integers(0, 20_000),
    reads_percent=st.sampled_from([0, 40]),
    transport=st.sampled_from(["nbd", "iscsi"]),
    seed=st.integers(0, 1 << 30),
)
def test_every_request_completes_exactly_once(
    *, loss_ppm: int, reorder_ppm: int, reorder_us: int, reads_percent: int, transport: str, seed: int
) -> None:
    case = case_of(
        machine={"pages": 2048},
        traffic=[],
        user=[{"transport": transport, "reads_percent": reads_percent, "request_pages": 4, "service_us": 50}],
        load={"programs": 2, "dirtied_pages": 2600},
        faults={"loss_ppm": loss_ppm, "reorder_ppm": reorder_ppm, "reorder_us": reorder_us},
        run={"storm_ms": 300, "gap_ms": 200},
    )
    m = build(case, design("bare"), seed)
    ended: list[int] = []
    user = m.users[0]
    for sender in user.senders:
        read = sender.conn.read

        def once(message: int, read=read) -> None:  # type: ignore[no-untyped-def]
            ended.append(message)
            read(message)

        sender.conn.read = once
    start_storm(m)
    m.clock.run(300 * MS)
    m.calm = True
    m.clock.run(2000 * SECOND)
    check_owners(m)
    assert user.admitted > 20
    assert sorted(ended) == list(range(user.admitted))
    assert (user.completed, user.pending, m.tx_pages, m.reclaim.waiting()) == (user.admitted, 0, 0, 0)


def test_a_lossy_wire_alone_is_no_deadlock() -> None:
    run = simulate(case_of(traffic=[], faults={"loss_ppm": 100_000}), design("bare"), 2)
    assert run.word in {Word.SEEN, Word.LUCKY}
    assert run.steps["wire_loss"] > 10
    assert run.block_drops["WIRE"] == run.steps["wire_loss"]
