"""Block users: who may enter, what a request takes on its way, and that all of it comes back."""

from __future__ import annotations

import pytest
from tests.sim.machines import boot, leave_free

from tidegate.sim.block import PAGE_SEGMENTS, BlockRequest, BlockUser, reset, submit_bio
from tidegate.sim.clock import MS, SECOND
from tidegate.sim.gfp import GFP_KERNEL
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners
from tidegate.sim.page_alloc import NONE, alloc_pages
from tidegate.sim.throttle import LayerLied

PLENTY = {"pages": 4096, "reserve_pages": 200}


def machine(name: str = "mail", *left_out: str, **user: object) -> Machine:
    return boot(name, *left_out, machine=PLENTY, user=[{"connections": 1} | user])


def request(m: Machine, *, pages: int = 1, reads: bool = False) -> BlockRequest:
    user = m.users[0]
    tokens = [alloc_pages(m.zone, GFP_KERNEL, 0, pf_memalloc=False) for _ in range(pages)]
    assert NONE not in tokens
    return BlockRequest(user, tokens, reads=reads, pf_memalloc=not reads)


def submitted(m: Machine, number: int, **kind: object) -> list[int]:
    """Submits so many; the numbers of those that were let in, in that order, now and later."""
    entered: list[int] = []
    for at in range(number):
        one = request(m, **kind)  # type: ignore[arg-type]
        if submit_bio(one):
            entered.append(at)
        else:
            one.entered = lambda at=at: entered.append(at)
    check_owners(m)
    return entered


def test_a_write_ends_with_its_reply_and_gives_everything_back() -> None:
    m = machine(request_pages=4)
    free, user = m.zone.free, m.users[0]
    submitted(m, 1, pages=4)
    assert user.write_pages == 4
    assert m.tx_pages == 5  # the data once more, and a page of headers
    m.clock.run(SECOND)
    assert (user.completed, user.pending, user.in_flight, user.swapped) == (1, 0, 0, 4)
    assert (m.zone.free, m.tx_pages, m.ledger and m.ledger.committed_pages) == (
        free,
        0,
        m.ledger and floor(m),
    )
    assert user.latency_ns > MS
    check_owners(m)


def floor(m: Machine) -> int:
    assert m.ledger is not None
    return m.ledger._floor_pages()


def test_a_read_brings_its_pages_and_they_are_dirty_again() -> None:
    m = machine(readahead_pages=4, reads_percent=1)
    user = m.users[0]
    submitted(m, 1, pages=4, reads=True)
    assert (user.read_pages, m.tx_pages) == (4, 1)
    m.clock.run(SECOND)
    assert (user.completed, user.read_pages, len(user.dirty)) == (1, 0, 4)
    assert m.steps["tcp_data_queue"] == 12  # 4 pages and a header in segments of 1448
    check_owners(m)


def test_the_queue_has_so_many_tags_and_gives_them_in_order() -> None:
    m = machine("bare", queue_depth=2)
    entered = submitted(m, 10)
    assert (entered, m.users[0].in_flight, m.users[0].queued) == ([0, 1], 2, 8)
    m.clock.run(SECOND)
    assert entered == list(range(10))


def test_who_passes_the_throttle_later_gets_a_tag_later() -> None:
    m = machine("mail", queue_depth=2)
    entered = submitted(m, 200)
    assert m.ledger is not None
    assert m.ledger.waiting("swap") > 0 < len(m.users[0].tagq)  # some wait for the throttle, others for a tag
    m.clock.run(10 * SECOND)
    assert entered == list(range(200))


def test_the_throttle_holds_back_what_is_not_accounted_for() -> None:
    m = machine("mail", queue_depth=512)
    entered = len(submitted(m, 300))
    user, ledger = m.users[0], m.ledger
    assert ledger is not None
    need = user.write_need[1]
    # The ring and what is fixed for the connection are charged beforehand, the rest is for requests.
    assert entered == (200 - 24 - user.fixed_pages) // need
    assert m.steps["throttled"] == 300 - entered
    assert "throttled" in m.seen
    m.clock.run(10 * SECOND)
    assert user.completed == 300


def test_tickets_are_a_number_of_requests() -> None:
    m = machine("mail", tickets=3)
    entered = submitted(m, 8)
    assert (entered, m.users[0].tickets) == ([0, 1, 2], 0)
    m.clock.run(10 * SECOND)
    assert (entered, m.users[0].tickets) == (list(range(8)), 3)
    assert len(submitted(machine("bare", tickets=3), 8)) == 8  # without a throttle they are nobody's


def test_more_than_was_accounted_for_names_the_layer() -> None:
    m = machine("mail", request_pages=4)
    m.users[0].write_need = [1] * 5
    with pytest.raises(LayerLied, match="tcp"):
        submitted(m, 1, pages=4)


def test_encryption_makes_a_copy_that_stays_to_the_end() -> None:
    m = machine("mail", encrypts=True, request_pages=4)
    submitted(m, 1, pages=4)
    assert m.tx_pages == 9
    sender = m.users[0].senders[0]
    m.clock.run(900_000)  # acknowledged, not yet answered
    assert (len(sender.conn.units), m.tx_pages) == (0, 4)
    m.clock.run(SECOND)
    assert (m.tx_pages, m.users[0].completed) == (0, 1)


def test_encryption_waits_for_memory_with_a_part_of_its_copy() -> None:
    m = machine("bare", encrypts=True, request_pages=4)
    one = request(m, pages=4)
    leave_free(m, 2)
    assert submit_bio(one)
    assert (len(one.copies), m.steps["crypt_waits"], m.tx_pages) == (2, 1, 2)
    m.zone.free += 1000
    m.programs_pages -= 1000
    m.clock.run(SECOND)
    assert (m.users[0].completed, m.tx_pages) == (1, 0)
    check_owners(m)


def test_a_mirror_writes_to_its_legs_and_reads_from_them() -> None:
    m = machine("bare", mirror=2, connections=3)
    user = m.users[0]
    submitted(m, 1)
    assert sorted(len(sender.conn.units) for sender in user.senders) == [0, 1, 1]
    m.clock.run(SECOND)
    assert (user.completed, m.steps["server_reply"]) == (1, 2)


def test_connections_take_turns() -> None:
    m = machine("bare", connections=3)
    submitted(m, 5)
    assert [sender.conn.snd_nxt // PAGE_SEGMENTS for sender in m.users[0].senders] == [2, 2, 1]


@pytest.mark.parametrize(("name", "most"), [("mainline", 16), ("tidegate", 8)])
def test_a_send_buffer_bounds_what_is_not_acknowledged(name: str, most: int) -> None:
    m = machine(name, sndbuf_bytes=65_536, rcvbuf_bytes=262_144)
    submitted(m, 40)
    sender = m.users[0].senders[0]
    assert most * 4096 >= sender.conn.wmem > (most - 2) * 4096
    assert len(sender.queue) > 0
    assert sender.conn.sk.rcvbuf == (65_536 if name == "tidegate" else 262_144)
    m.clock.run(SECOND)
    assert m.users[0].completed == 40


def test_without_memory_the_sender_sleeps_longer_and_longer() -> None:
    m = machine("bare")
    one = request(m)
    leave_free(m, 0)
    assert submit_bio(one)
    m.clock.run(2 * MS - 1)
    assert m.steps["sk_stream_wait_memory"] == 1
    m.clock.run(2 * MS + 4 * MS + 8 * MS)
    assert m.steps["sk_stream_wait_memory"] == 4
    m.clock.run(SECOND)
    assert m.steps["sk_stream_wait_memory"] < 14  # at last every 200 ms
    m.zone.free += 100
    m.programs_pages -= 100
    m.clock.run(2 * SECOND)
    assert m.users[0].completed == 1


@pytest.mark.parametrize(
    ("name", "reads", "sends"), [("bare", True, False), ("mail", True, True), ("bare", False, True)]
)
def test_who_may_send_from_below_the_watermarks(name: str, *, reads: bool, sends: bool) -> None:
    """PF_MEMALLOC is the submitter's (kswapd writes); the mail's accounting covers every request."""
    m = machine(name, readahead_pages=1, reads_percent=1)
    one = request(m, reads=reads)
    leave_free(m, m.zone.wmark_min - 5)
    submit_bio(one)
    assert (m.tx_pages > 0) is sends


def test_the_pool_of_a_socket_is_used_when_ordinary_memory_is_short() -> None:
    m = machine("socket_pools")
    one = request(m)
    leave_free(m, 10)
    submit_bio(one)
    pool = m.pools[0]
    assert (pool.name, pool.elements - pool.free, m.tx_pages) == ("send swap/0", 2, 0)
    m.clock.run(SECOND)
    assert (m.users[0].completed, pool.free) == (1, pool.elements)


def test_the_pages_that_all_sockets_share_hold_a_sender_up() -> None:
    m = boot("bare", machine=PLENTY | {"tcp_mem_pages": 4}, user=[{"connections": 1}])
    m.tcp_bytes = 4 * 4096
    submitted(m, 1)
    assert (m.tx_pages, "tcp_mem" in m.seen) == (0, True)
    m.tcp_bytes = 0
    m.clock.run(SECOND)
    assert m.users[0].completed == 1


@pytest.mark.parametrize("kind", [{"pages": 2}, {"pages": 2, "reads": True}])
@pytest.mark.parametrize("user", [{}, {"encrypts": True}, {"mirror": 2, "connections": 2}])
@pytest.mark.parametrize("at_us", [0, 150, 700, 1300])
def test_after_a_reset_what_was_not_answered_is_sent_again(
    user: dict[str, object], kind: dict[str, object], at_us: int
) -> None:
    m = machine("mail", request_pages=2, readahead_pages=2, reads_percent=1, **user)
    submitted(m, 6, **kind)
    m.clock.run(at_us * 1000)
    reset(m.users[0])
    check_owners(m)
    assert not any(sender.conn.up for sender in m.users[0].senders)
    m.clock.run(60 * SECOND)
    assert (m.users[0].completed, m.users[0].pending, m.tx_pages) == (6, 0, 0)
    check_owners(m)


def test_a_request_whose_copy_is_not_made_yet_is_sent_once_after_a_reset() -> None:
    m = machine("bare", encrypts=True, request_pages=4)
    one = request(m, pages=4)
    leave_free(m, 2)
    submit_bio(one)
    reset(m.users[0])
    assert not m.users[0].senders[0].queue
    m.zone.free += 1000
    m.programs_pages -= 1000
    m.clock.run(60 * SECOND)
    assert (m.users[0].completed, m.steps["server_reply"]) == (1, 1)


def test_the_time_without_completion_counts_while_there_is_demand() -> None:
    m = machine("bare", service_us=5000)
    user: BlockUser = m.users[0]
    m.clock.run(10 * MS)
    assert user.open_gap() == 0
    submitted(m, 1)
    m.clock.run(13 * MS)
    assert user.open_gap() == 3 * MS
    m.clock.run(SECOND)
    assert user.open_gap() == 0
    assert 5 * MS < user.gap_ns < 6 * MS
    assert user.gap_from_ns == 10 * MS
