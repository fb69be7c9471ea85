"""Who held packets of the reserve, how many pages for how long."""

from __future__ import annotations

from tidegate.sim.clock import Clock
from tidegate.sim.holding import Held
from tidegate.sim.skbuff import Skb


def packet(pages: int = 1) -> Skb:
    skb = Skb(None, None, pages * 4096)
    skb.reserve = True
    return skb


def test_pages_times_time_by_place() -> None:
    clock = Clock()
    held = Held(clock)
    one, two = packet(), packet(2)
    held.moved(one, "rx_ring")
    clock.run(10)
    held.moved(two, "rx_ring")
    held.moved(one, "softnet")
    clock.run(14)
    held.ended(one)
    clock.run(20)
    rows = held.result([two])
    assert [(row.holder, row.page_ns, row.longest_ns, row.packets, row.at_end_pages) for row in rows] == [
        ("rx_ring", 10 + 2 * 10, 10, 2, 2),
        ("softnet", 4, 4, 1, 0),
    ]


def test_the_largest_stands_first_and_names_decide_among_equals() -> None:
    clock = Clock()
    held = Held(clock)
    for holder, pages in (("b", 1), ("c", 3), ("a", 1)):
        held.moved(packet(pages), holder)
    clock.run(1)
    assert [row.holder for row in held.result([])] == [
        "a",
        "b",
        "c",
    ]  # none has left, and none is still there
    still = [packet(3)]
    held.moved(still[0], "c")
    clock.run(2)
    assert [row.holder for row in held.result(still)] == ["c", "a", "b"]


def test_what_never_went_up_is_nobodys() -> None:
    clock = Clock()
    held = Held(clock)
    held.ended(packet())
    assert held.result([]) == ()


def test_bytes_of_several_packets_are_rounded_up_to_pages_once() -> None:
    held = Held(Clock())
    for _ in range(3):
        skb = Skb(None, None, 2048)
        held.moved(skb, "hooks")
    assert held.result([])[0].at_end_pages == 2
