"""The adversary: packets of others, readers, users that come and go, faults. All of it ends with the storm."""

from __future__ import annotations

import pytest
from tests.sim.machines import boot, leave_free

from tidegate.case import Traffic
from tidegate.design import without
from tidegate.sim.clock import MS, SECOND
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners
from tidegate.sim.storm import (
    EATER_EVERY_NS,
    Stream,
    admin_writes,
    connect,
    eat,
    foreign_packet,
    foreign_read,
    leave,
    start_storm,
    unasked,
)


def stream(m: Machine, *, until_ns: int = SECOND, **traffic: object) -> Stream:
    return Stream(m, Traffic(**traffic), until_ns)  # type: ignore[arg-type]


def test_packets_come_at_their_rate_in_bursts_until_the_end() -> None:
    m = boot("bare", machine={"pages": 8192})
    one = stream(m, packets_per_s=10_000, burst=10, until_ns=200 * MS, sockets=4, length_bytes=66)
    foreign_packet(one)
    m.clock.run(MS // 10)
    assert m.steps["foreign_packet"] == 10  # at the speed of the wire
    m.clock.run(SECOND)
    assert m.steps["foreign_packet"] == pytest.approx(2000, rel=0.15)
    assert max(m.foreign_socks, key=lambda sock: sock.rmem).rmem > 0
    assert len({len(sock.queue) for sock in m.foreign_socks}) <= 2  # each socket in its turn


def test_a_sender_may_respect_a_full_socket() -> None:
    for respects in (False, True):
        m = boot("bare")
        one = stream(m, sockets=1, rcvbuf_bytes=4 * 4096, sender_reads=respects, until_ns=10 * MS)
        foreign_packet(one)
        m.clock.run(SECOND)
        assert (m.drops["SOCKET_RCVBUFF"] == 0) is respects


def test_readers_empty_their_sockets() -> None:
    m = boot("bare")
    one = stream(m, sockets=2, read_ms=5, until_ns=20 * MS)
    foreign_packet(one)
    foreign_read(one)
    m.clock.run(MS)
    assert sum(len(sock.queue) for sock in one.socks) > 0
    m.clock.run(40 * MS)
    assert sum(len(sock.queue) for sock in one.socks) == 0
    check_owners(m)


def test_in_the_calm_nothing_of_it_goes_on() -> None:
    m = boot(
        "bare",
        traffic=[{"read_ms": 5}],
        hook=[{"read_ms": 5}],
        user=[{"unasked_per_s": 100}, {"name": "late", "connects_ms": 30}],
        faults={"eater_pages": 4, "eater_ms": 1},
    )
    start_storm(m)
    m.clock.run(20 * MS)
    m.calm = True
    before = dict(m.steps)
    m.clock.run(10 * SECOND)
    changed = {step for step, number in m.steps.items() if number != before.get(step, 0)}
    adversary = {"foreign_packet", "foreign_read", "hook_read", "eat", "unasked", "connect"}
    assert adversary & before.keys() > {"foreign_packet", "foreign_read", "hook_read", "unasked"}
    assert changed & adversary == set()


# Users.


def two_users(name: str, reserve: int = 120, **second: object) -> Machine:
    users = [{"connections": 1}, {"name": "second", "connections": 1, "connects_ms": 10} | second]
    return boot(name, machine={"pages": 2048, "reserve_pages": reserve}, user=users)


def test_a_user_is_admitted_when_the_reserve_has_grown_for_it() -> None:
    m = two_users("mail")
    user = m.users[1]
    pages = user.fixed_pages + user.largest_pages
    assert m.ledger is not None
    reserve, capacity = m.zone.reserve, m.ledger.capacity_pages
    leave_free(m, reserve + pages - 1)
    connect(user)
    assert (user.connected, m.zone.reserve, m.ledger.capacity_pages) == (False, reserve, capacity)
    assert "resize_waits" in m.seen
    m.zone.free += 1
    m.programs_pages -= 1
    m.clock.run(SECOND)
    assert (user.connected, m.zone.reserve, m.ledger.capacity_pages) == (
        True,
        reserve + pages,
        capacity + pages,
    )
    check_owners(m)


def test_without_resizing_it_is_refused_where_there_is_no_room() -> None:
    m = two_users("mail", 35)
    m.design = without(m.design, "resize")
    connect(m.users[1])
    assert not m.users[1].connected
    assert [one.id for one in m.milestones] == ["refused"]


def test_a_mempool_grows_by_pages_of_the_zone_and_gives_them_back() -> None:
    m = two_users("mempool")
    user = m.users[1]
    pages = user.fixed_pages + user.largest_pages
    free, (pool,) = m.zone.free, m.pools
    connect(user)
    assert (m.zone.free, m.pinned, pool.elements, user.connected) == (
        free - pages,
        120 + pages,
        120 + pages,
        True,
    )
    check_owners(m)
    leave(user)
    assert (m.zone.free, m.pinned, pool.elements) == (free, 120, 120)
    check_owners(m)


def test_who_leaves_takes_its_part_of_the_reserve_with_it_when_nothing_is_out() -> None:
    m = two_users("mail")
    user, heir = m.users[1], m.users[0]
    connect(user)
    reserve = m.zone.reserve
    user.dirty.extend([0, 2, 4])
    m.zone.free -= 3
    user.pending = 1
    leave(user)
    m.clock.run(MS * 25)
    assert (len(heir.dirty), len(user.dirty), m.zone.reserve) == (3, 0, reserve)
    assert m.steps["left"] == 0
    user.pending = 0
    m.clock.run(MS * 35)
    assert (m.steps["left"], m.zone.reserve) == (1, reserve - user.fixed_pages - user.largest_pages)
    leave(user)  # it has left already
    assert m.steps["leave"] == 1
    check_owners(m)


def test_messages_that_nobody_asked_for_come_on_every_connection() -> None:
    m = boot("bare", user=[{"unasked_per_s": 100}])
    unasked(m.users[0])
    m.clock.run(95 * MS)
    assert m.steps["unasked"] == 10
    assert m.steps["server_reply"] == 20  # two connections


# Faults.


def test_somebody_else_takes_pages_down_to_the_last() -> None:
    m = boot("bare", faults={"eater_pages": 30})
    leave_free(m, 20)
    eat(m)
    assert (m.zone.free, len(m.eaten)) == (0, 20)
    m.programs_pages -= 40
    m.zone.free += 40
    m.clock.run(EATER_EVERY_NS)
    assert (m.zone.free, len(m.eaten)) == (30, 30)
    check_owners(m)


def test_and_gives_them_back_where_it_is_told_to() -> None:
    m = boot("bare", faults={"eater_pages": 30, "eater_ms": 5})
    free = m.zone.free
    eat(m)
    assert m.zone.free == free - 30
    m.clock.run(5 * MS)
    assert (m.zone.free, len(m.eaten)) == (free, 0)


@pytest.mark.parametrize(("name", "kept"), [("mail", True), ("patch", False)])
def test_what_the_administrator_writes_does_not_lower_a_reserve_of_its_own(name: str, *, kept: bool) -> None:
    m = boot(name, faults={"admin_ms": 1, "admin_min_pages": 20})
    before = m.zone.wmark_min
    admin_writes(m)
    assert m.zone.wmark_min == (before if kept else 20)


def test_a_higher_min_holds_beside_the_reserve() -> None:
    m = boot("mail", faults={"admin_ms": 1, "admin_min_pages": 300})
    admin_writes(m)
    assert m.zone.wmark_min == 300
