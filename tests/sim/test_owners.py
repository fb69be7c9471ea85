"""The invariants that every run asserts, each seen to fail on a fault that is planted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim.machines import case_of

import tidegate.sim.block
import tidegate.sim.run
import tidegate.sim.sock
from tidegate.designs import DESIGNS, design
from tidegate.sim.clock import MS
from tidegate.sim.gfp import GFP_KERNEL
from tidegate.sim.machine import Machine
from tidegate.sim.owners import HOLDERS, check_owners, held_pages, packets
from tidegate.sim.page_alloc import alloc_pages, free_pages
from tidegate.sim.run import build, simulate
from tidegate.sim.skbuff import Skb, kfree_skb
from tidegate.sim.slab import cache_free
from tidegate.sim.storm import start_storm

BUSY = {
    "machine": {"page_per_skb": False, "buddy": "lists", "reserve_pages": 100},
    "hook": [{"kind": "tap", "rcvbuf_bytes": 65_536}],
    "user": [{"connections": 2, "reads_percent": 30, "encrypts": True}],
    "traffic": [{"sockets": 8, "rcvbuf_bytes": 65_536}, {"protocol": "fragment", "packets_per_s": 1000}],
    "faults": {"loss_ppm": 20_000, "reorder_ppm": 100_000, "eater_pages": 5, "eater_ms": 3},
}


def busy(name: str = "mail", until_ms: int = 90) -> Machine:
    """A machine in the middle of its storm, with something in most places."""
    m = build(case_of(**BUSY), design(name), 3)
    start_storm(m)
    m.clock.run(until_ms * MS)
    return m


@pytest.mark.parametrize("name", DESIGNS)
def test_pages_have_one_owner_at_any_moment(name: str) -> None:
    m = build(case_of(**BUSY), design(name), 1)
    start_storm(m)
    for at in range(1, 40):
        m.clock.run(at * 5 * MS)
        check_owners(m)
        held = held_pages(m)
        assert sum(held) == m.zone.pages
        assert min(held) >= 0, dict(zip(HOLDERS, held, strict=True))


def test_the_busy_machine_has_something_in_many_places() -> None:
    m = busy()
    held = dict(zip(HOLDERS, held_pages(m), strict=True))
    assert {name for name, pages in held.items() if pages} >= {
        "free", "rx_ring", "others_sockets", "hooks", "fragments", "transmit", "writeback", "dirty",
    }  # fmt: skip
    assert len({id(skb) for _, skb in packets(m)}) == sum(1 for _ in packets(m))


def steal_a_page(m: Machine) -> None:
    alloc_pages(m.zone, GFP_KERNEL, 0, pf_memalloc=True)


def free_a_page_twice(m: Machine) -> None:
    m.zone.buddy = None
    free_pages(m.zone, m.users[0].dirty[0], 0)


def free_a_page_twice_in_the_lists(m: Machine) -> None:
    free_pages(m.zone, m.users[0].dirty[0], 0)
    free_pages(m.zone, m.users[0].dirty[0], 0)


def free_a_packet_that_is_queued(m: Machine) -> None:
    kfree_skb(m, next(sock.queue[0] for sock in m.foreign_socks if sock.queue))


def lose_a_packet(m: Machine) -> None:
    next(sock for sock in m.foreign_socks if sock.queue).queue.popleft()


def forget_an_object(m: Machine) -> None:
    cache_free(m.zone, next(skb.head for _, skb in packets(m) if skb.head is not None))


def count_too_much_in_a_socket(m: Machine) -> None:
    m.foreign_socks[0].rmem += 1


def keep_what_was_sent(m: Machine) -> None:
    m.tx_pages += 1


def forget_a_ticket(m: Machine) -> None:
    assert m.ledger is not None
    m.ledger._holders["swap"].admitted_pages -= 1


def promise_more_than_there_is(m: Machine) -> None:
    assert m.ledger is not None
    m.ledger.capacity_pages = 5


def let_lists_and_number_differ(m: Machine) -> None:
    assert m.zone.buddy is not None
    m.zone.buddy.alloc(0)


FAULTS: list[Callable[[Machine], None]] = [
    steal_a_page,
    free_a_page_twice,
    free_a_page_twice_in_the_lists,
    free_a_packet_that_is_queued,
    lose_a_packet,
    forget_an_object,
    count_too_much_in_a_socket,
    keep_what_was_sent,
    forget_a_ticket,
    promise_more_than_there_is,
    let_lists_and_number_differ,
]


def planted(m: Machine, fault: Callable[[Machine], None]) -> None:
    fault(m)
    check_owners(m)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_seen(fault: Callable[[Machine], None]) -> None:
    m = busy()
    check_owners(m)
    with pytest.raises(AssertionError):
        planted(m, fault)


# The same in whole runs: the mechanism with a mistake in it ends with an assertion, not with a word.


def kfree_skb_leaks(m: Machine, skb: Skb) -> None:
    if skb.frame is None or skb.frame.block or m.steps["tcp_v4_rcv"] % 50:
        kfree_skb(m, skb)


@pytest.mark.parametrize(
    "mistake", ["reader forgets to free", "pages are freed twice", "a ticket ends early"]
)
def test_a_mistake_in_the_mechanism_ends_the_run(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(traffic=[{"read_ms": 5}])
    assert simulate(case, design("mail"), 1).steps["end_request"] > 0
    if mistake == "reader forgets to free":
        monkeypatch.setattr(tidegate.sim.sock, "kfree_skb", kfree_skb_leaks)
    elif mistake == "pages are freed twice":
        monkeypatch.setattr(
            tidegate.sim.block, "_tx_free_ticket", lambda m, token, _: free_pages(m.zone, token, 0)
        )
    else:
        ended = tidegate.sim.block.end_request

        def early(request: tidegate.sim.block.BlockRequest) -> None:
            ledger = request.user.m.ledger
            assert ledger is not None
            if request.ticket is not None and request.message == 20:
                ledger._holders["swap"].admitted_pages -= request.ticket.need_pages
            ended(request)

        monkeypatch.setattr(tidegate.sim.block, "end_request", early)
    with pytest.raises(AssertionError):
        simulate(case, design("mail"), 1)
