"""The other end: it serves in order, one at a time, and sends again what was not acknowledged."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.sim.machines import boot, leave_free

from tidegate.sim.clock import MS, SECOND, US
from tidegate.sim.machine import Machine
from tidegate.sim.server import WINDOW_SEGMENTS, Server
from tidegate.sim.skbuff import Frame
from tidegate.sim.tcp import RTO_MAX_NS, RTO_MIN_NS, tcp_reset

Sent = list[tuple[int, str, int]]  # time, kind, segment


class Told(Server):
    """Keeps what it sends; nothing of it arrives."""

    def __init__(self, m: Machine) -> None:
        self.sent: Sent = []
        self.at_client: list[tuple[str, int]] = []  # kind, acknowledgement
        super().__init__(m, m.users[0].senders[0].conn, latency_ns=100 * US, service_ns=MS)
        self.conn.server = self

    def _at_client(self, arg: tuple[int, Frame]) -> None:
        self.sent.append((self.m.clock.now, arg[1].kind, arg[1].seq))

    def _to_client(self, kind: str, seq: int, length: int) -> None:
        self.at_client.append((kind, self.rcv_nxt))
        super()._to_client(kind, seq, length)


def server(**parts: Any) -> tuple[Machine, Told, Sent]:
    """A server 100 us away that takes 1 ms a request."""
    m = boot(user=[{"connections": 1}], **parts)
    one = Told(m)
    return m, one, one.sent


def data(sent: Sent) -> list[tuple[int, int]]:
    return [(time_ns, seq) for time_ns, kind, seq in sent if kind == "data"]


def request(one: Server, end: int, message: int, *segments: int) -> None:
    one.expect(end, message, 1, 82)
    for seq in segments:
        one._arrive((one.generation, "data", seq, 0))


def test_requests_are_served_one_after_the_other_in_order() -> None:
    m, one, sent = server()
    request(one, 3, 0, 0, 1, 2)
    request(one, 6, 1, 3, 4, 5)
    m.clock.run(1100 * US + 10 * US)
    assert [seq for _, seq in data(sent)] == [0]
    m.clock.run(2100 * US + 10 * US)
    assert [seq for _, seq in data(sent)] == [0, 1]
    assert one.conn.messages == {1: 0, 2: 1}


def test_a_request_is_whole_when_all_before_its_end_is_there() -> None:
    m, one, sent = server()
    request(one, 3, 0, 0, 2)
    m.clock.run(10 * MS)
    assert data(sent) == []
    request(one, 6, 1, 4, 1)
    m.clock.run(20 * MS)
    assert [seq for _, seq in data(sent)] == [0]
    one._arrive((one.generation, "data", 3, 0))
    one._arrive((one.generation, "data", 5, 0))
    m.clock.run(30 * MS)
    assert [seq for _, seq in data(sent)] == [0, 1]


def test_every_second_segment_what_is_out_of_order_and_a_filled_hole_are_acknowledged() -> None:
    m, one, sent = server()
    for seq, expected in (
        (0, []),
        (1, [2]),
        (3, [2, 2]),
        (2, [2, 2, 4]),
        (0, [2, 2, 4, 4]),
        (4, [2, 2, 4, 4]),
    ):
        one._arrive((one.generation, "data", seq, 0))
        assert [ack for _, ack in one.at_client] == expected
    m.clock.run(SECOND)
    assert [ack for _, ack in one.at_client] == [2, 2, 4, 4, 5]  # a single one after a while
    assert {kind for _, kind, _ in sent} == {"ack"}


def test_a_server_that_stalls_serves_afterwards() -> None:
    m, one, sent = server(faults={"stall_from_ms": 0, "stall_ms": 150})
    request(one, 3, 0, 0, 1, 2)
    m.clock.run(151 * MS)
    assert data(sent) == []
    m.clock.run(152 * MS)
    assert [seq for _, seq in data(sent)] == [0]


def test_a_reply_that_is_not_acknowledged_comes_again_later_and_later() -> None:
    m, one, sent = server()
    request(one, 3, 0, 0, 1, 2)
    m.clock.run(1500 * SECOND)
    times = [time_ns for time_ns, seq in data(sent) if seq == 0]
    assert len(times) == len(data(sent))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == [min(RTO_MIN_NS << number, RTO_MAX_NS) for number in range(len(gaps))]
    assert gaps[-1] == RTO_MAX_NS


def test_after_an_acknowledgement_the_timer_is_short_again() -> None:
    m, one, sent = server()
    for message in range(2):
        one._reply((one.generation, message, 1, 82))
    m.clock.run(2 * SECOND)  # the next entry would be at 3 s
    now = m.clock.now
    one._arrive((one.generation, "ack", 0, 1))
    before = len(sent)
    m.clock.run(now + 300 * MS)
    again = [time_ns for time_ns, seq in data(sent[before:]) if seq == 1]
    # At once, since what follows a hole that a timer found is sent on; then after the least time.
    assert [round((time_ns - now) / MS) for time_ns in again] == [0, 200]


def test_the_third_duplicate_acknowledgement_sends_again_once() -> None:
    m, one, sent = server()
    one._reply((one.generation, 0, 4, 1514))
    for _ in range(5):
        one._arrive((one.generation, "ack", 0, 0))
    m.clock.run(10 * MS)
    assert [seq for _, seq in data(sent)] == [0, 1, 2, 3, 0]


def test_no_more_than_a_window_is_on_the_way() -> None:
    m, one, sent = server()
    one._reply((one.generation, 0, WINDOW_SEGMENTS + 10, 1514))
    m.clock.run(10 * MS)
    assert len(data(sent)) == WINDOW_SEGMENTS
    one._arrive((one.generation, "ack", 0, 6))
    m.clock.run(20 * MS)
    assert data(sent)[-1][1] == WINDOW_SEGMENTS + 5


def test_a_message_that_nobody_asked_for_ends_no_request() -> None:
    m, one, sent = server()
    one.unasked()
    m.clock.run(10 * MS)
    assert [seq for _, seq in data(sent)] == [0]
    assert one.conn.messages == {}


def test_the_wire_loses_nothing_in_the_calm() -> None:
    m, one, _ = server(faults={"loss_ppm": 1_000_000})
    assert one._delay(1514) == -1
    m.calm = True
    assert one._delay(1514) > 0
    assert m.steps["wire_loss"] == 1


def test_frames_follow_each_other_on_the_wire_unless_they_are_overtaken() -> None:
    _, one, _ = server()
    assert [one._delay(1514) for _ in range(3)] == [112 * US, 124 * US, 136 * US]
    _, other, _ = server(faults={"reorder_ppm": 1_000_000, "reorder_us": 1000})
    delays = [other._delay(1514) for _ in range(20)]
    assert delays != sorted(delays)


# A connection that was reset.


def test_a_syn_is_sent_again_until_it_is_answered() -> None:
    m, one, _ = server()
    conn = one.conn
    tcp_reset(conn)
    one.forget()
    leave_free(m, 40)  # a SYN is ordinary memory
    one.connect()
    m.clock.run(1000 * SECOND)
    assert (conn.up, one.syn_ns) == (False, RTO_MAX_NS)
    assert m.steps["tcp_connect"] == 15  # after 1, 2, 4 .. 64, then every 120 seconds
    m.zone.free += 100
    m.programs_pages -= 100
    m.clock.run(1200 * SECOND)
    assert (conn.up, one.syn_ns) == (True, SECOND)
    assert m.steps["tcp_connect"] == 16


def test_while_it_is_down_only_the_answer_counts() -> None:
    m, one, _ = server()
    conn = one.conn
    tcp_reset(conn)
    free = m.zone.free
    written: list[bool] = []
    conn.written = lambda: written.append(conn.up)
    for kind in ("data", "syn-ack"):
        frame = Frame("tcp", 66, conn.sk, conn)
        frame.kind = kind
        skb = m.nic.area.popleft()
        skb.frame = frame
        one.handshake(skb)
        assert conn.up is (kind == "syn-ack")
    assert written == [True]
    assert m.zone.free == free + 2
