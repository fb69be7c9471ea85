"""What breaks which law, said beforehand; and on small machines the run agrees."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.machines import case_of

from tidegate.design import Design, without
from tidegate.designs import DESIGNS, design
from tidegate.judge.laws import broken_laws
from tidegate.sim.run import simulate
from tidegate.simulation import Word


def laws(name: str, *left_out: str, **parts: Any) -> set[str]:
    return set(broken_laws(case_of(**parts), without(design(name), *left_out)))


def test_the_mail_keeps_all_three_where_a_machine_is_sound() -> None:
    assert laws("mail") == set()
    assert laws("mail", traffic=[{"protocol": "udp"}, {"protocol": "fragment"}]) == set()
    assert laws("mempool", machine={"raise_min": False}) == set()


@pytest.mark.parametrize(
    ("left_out", "law"),
    [
        ("gfp_memalloc", "reserve: there is none"),
        ("discard", "discard: packets of others are kept"),
        ("sock_memalloc", "discard: a block socket has no flag, so its replies are dropped with the rest"),
        ("mark", "discard: nothing tells a packet of the reserve"),
        ("throttle", "throttle: there is none"),
        ("memalloc_acks", "throttle: acknowledgements are not accounted for"),
    ],
)
def test_what_each_part_of_the_mail_is_for(left_out: str, law: str) -> None:
    assert laws("mail", left_out) == {law}


@pytest.mark.parametrize(
    ("parts", "law"),
    [
        ({"nic": {"access": "never"}}, "reserve: this driver's receive buffers never come from it"),
        (
            {"machine": {"raise_min": False}},
            "reserve: min is raised by the reserve itself, and 3/8 of it are the reserve",
        ),
        (
            {"machine": {"page_per_skb": False, "buddy": "lists"}, "nic": {"buffer_bytes": 9000}},
            "reserve: buffers of several pages, and free pages need not lie together",
        ),
        ({"faults": {"eater_pages": 1}}, "reserve: somebody else takes it (PF_MEMALLOC)"),
        (
            {"faults": {"reset_ms": 1}},
            "reserve: a connection that is reset needs ordinary memory to come back",
        ),
        (
            {"machine": {"tcp_mem_pages": 9}},
            "reserve: the pages that all TCP sockets share are no part of it",
        ),
        (
            {"user": [{"memalloc": False}]},
            "discard: a block socket has no flag, so its replies are dropped with the rest",
        ),
        ({"hook": [{"kind": "tap"}]}, "discard: a tap keeps clones of packets of the reserve"),
        ({"machine": {"page_per_skb": False}}, "discard: other objects lie in slab pages of the reserve"),
        ({"user": [{"tickets": 3}]}, "throttle: a number of requests, not of pages"),
    ],
)
def test_what_a_machine_breaks(parts: dict[str, Any], law: str) -> None:
    assert law in laws("mail", **parts)
    assert {line.split(":")[0] for line in laws("mail", **parts)} <= {law.partition(":")[0], "discard"}


def test_the_administrator_breaks_a_reserve_that_is_no_part_of_its_own() -> None:
    faults = {"admin_ms": 1, "admin_min_pages": 9}
    assert laws("mail", faults=faults) == set()
    assert laws("mail", "resize", faults=faults) == {"reserve: the administrator writes min_free_kbytes"}


def test_the_hole_of_the_hunks_is_named_by_protocol() -> None:
    traffic = [{"protocol": name} for name in ("tcp", "icmp", "udp", "fragment")]
    assert laws("mail", "discard_everywhere", traffic=traffic) == {
        "discard: udp has no test",
        "discard: fragment has no test",
    }


def test_filters_copy_into_the_reserve_with_the_first_patch() -> None:
    for kind in ("filter", "bridge"):
        law = f"discard: a {kind} copies into the reserve"
        assert law in laws("patch_first", hook=[{"kind": kind}])
        assert law not in laws("patch", hook=[{"kind": kind}])


def test_a_coin_is_no_discard() -> None:
    assert "discard: a coin decides, for block IO too" in laws("random_drop")


def test_caps_are_a_throttle_as_long_as_they_fit_the_reserve() -> None:
    # Two connections of 12 pages and a ring of 24 are 48 of the 60 pages.
    assert laws("tidegate") == set()
    assert laws("tidegate", machine={"reserve_pages": 48}) == set()
    assert laws("tidegate", machine={"reserve_pages": 47}) == {
        "throttle: 2 capped connections and the ring may take 48 of 47 pages"
    }
    assert laws("tidegate", nic={"driver": "copy"}, machine={"reserve_pages": 25}) == set()
    assert laws("tidegate", user=[{"encrypts": True}]) == {
        "throttle: caps on sockets do not bound the copies that encryption makes"
    }
    assert laws("mainline") == {"throttle: there is none"}


@pytest.mark.parametrize("name", DESIGNS)
def test_every_line_begins_with_its_law(name: str) -> None:
    for line in broken_laws(case_of(hook=[{}], faults={"eater_pages": 2}), DESIGNS[name]):
        assert line.split(": ")[0] in {"reserve", "discard", "throttle"}


# The three laws are three: each alone left out brings a deadlock on a machine made for it.

FLOOD = {"packets_per_s": 40_000, "from_ms": 5, "sockets": 32, "rcvbuf_bytes": 1_048_576}
TIGHT = {
    "machine": {"pages": 1024, "reserve_pages": 40, "page_per_skb": True},
    "nic": {"ring": 16},
    "traffic": [FLOOD],
    "load": {"programs": 8, "dirty_us": 20},
    "run": {"storm_ms": 200, "gap_ms": 100},
}


def words(one: Design, **parts: Any) -> set[Word]:
    return {simulate(case_of(**(TIGHT | parts)), one, seed).word for seed in (1, 2)}


def test_with_all_three_it_is_seen_and_without_one_it_is_stuck() -> None:
    mail = design("mail")
    assert words(mail) == {Word.SEEN}
    for switch in ("gfp_memalloc", "discard", "sock_memalloc"):
        assert Word.STUCK in words(without(mail, switch)), switch
    far = {  # what is sent waits long for its acknowledgement
        "machine": {"pages": 2048, "reserve_pages": 60, "page_per_skb": True},
        "user": [{"connections": 4, "latency_us": 20_000, "queue_depth": 512, "sndbuf_bytes": 1_000_000}],
        "run": {"storm_ms": 1000, "gap_ms": 600},
    }
    assert words(mail, **far) == {Word.SEEN}
    assert Word.STUCK in words(without(mail, "throttle"), **far)
