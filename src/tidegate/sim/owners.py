"""Who owns each page: asked at samples and at the end, and asserted, in every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tidegate.sim.skbuff import Skb
from tidegate.sim.slab import PAGE_BYTES, Cache

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

HOLDERS = (
    "free", "rx_ring", "softnet", "others_sockets", "fragments", "hooks", "block_socket", "out_of_order",
    "transmit", "writeback", "swap_in", "dirty", "programs", "eaters", "pools", "slab_slack",
)  # fmt: skip


def packets(m: Machine) -> Iterator[tuple[str, Skb]]:
    """Every skb there is, and where it is."""
    yield from (("rx_ring", skb) for skb in m.nic.area)
    yield from (("rx_ring", skb) for skb in m.nic.done if isinstance(skb, Skb))
    yield from (("softnet", skb) for skb in m.softnet)
    yield from (("fragments", skb) for _, skb in m.fragments)
    for sock in m.foreign_socks:
        yield from (("others_sockets", skb) for skb in sock.queue)
    for hook in m.hooks:
        yield from (("hooks", skb) for skb in hook.sock.queue)
    for user in m.users:
        for sender in user.senders:
            yield from (("block_socket", skb) for skb in sender.conn.sk.queue)
            yield from (("out_of_order", skb) for skb in sender.conn.ooo.values())


def held_pages(m: Machine) -> tuple[int, ...]:
    """Pages by holder, in the order of HOLDERS; they add up to the pages of the zone."""
    held = dict.fromkeys(HOLDERS, 0)
    bytes_of: dict[str, int] = {}
    for holder, skb in packets(m):
        cost = 0
        if skb.head is not None:
            cost += (PAGE_BYTES << skb.head.cache.order) // skb.head.cache.per_slab
        if skb.data is not None:
            share = (PAGE_BYTES << skb.data.cache.order) // skb.data.cache.per_slab
            cost += share if skb.shared is None else share // skb.shared[0]
        bytes_of[holder] = bytes_of.get(holder, 0) + cost
    held |= {holder: size // PAGE_BYTES for holder, size in bytes_of.items()}
    held["free"] = m.zone.free
    held["transmit"] = m.tx_pages
    held["dirty"] = sum(len(user.dirty) for user in m.users)
    held["writeback"] = sum(user.write_pages for user in m.users)
    held["swap_in"] = sum(user.read_pages for user in m.users) + sum(
        len(program.taken) for program in m.reclaim.programs
    )
    held["programs"] = m.programs_pages
    held["eaters"] = len(m.eaten)
    held["pools"] = m.pinned
    held["slab_slack"] = m.zone.pages - sum(held.values())
    return tuple(held[holder] for holder in HOLDERS)


def check_owners(m: Machine) -> None:
    """Each page has one owner, each object in use is somebody's, each queue's charge is the sum of what it holds."""
    zone = m.zone
    caches: list[Cache] = list(
        {id(c): c for c in (m.heads, m.rx_cache, m.small_cache) if c is not None}.values()
    )
    objects = dict.fromkeys(map(id, caches), 0)
    shared: set[int] = set()
    for _, skb in packets(m):
        if skb.head is not None:
            objects[id(skb.head.cache)] += 1
        if skb.data is not None and (skb.shared is None or id(skb.shared) not in shared):
            objects[id(skb.data.cache)] += 1
            if skb.shared is not None:
                shared.add(id(skb.shared))
    for cache in caches:
        assert objects[id(cache)] == cache.inuse, (cache.name, objects[id(cache)], cache.inuse)
    slabs = sum(cache.slabs << cache.order for cache in caches)
    users = sum(len(user.dirty) + user.write_pages + user.read_pages for user in m.users)
    programs = sum(len(program.taken) for program in m.reclaim.programs)
    owned = zone.free + slabs + users + programs + m.tx_pages + m.programs_pages + len(m.eaten) + m.pinned
    assert owned == zone.pages, (owned, zone.pages)
    assert zone.buddy is None or zone.buddy.free_pages == zone.free, (zone.buddy, zone.free)
    for sock in m.foreign_socks:
        assert sock.rmem == sum(skb.truesize for skb in sock.queue), sock.holder
    if m.ledger is not None:
        m.ledger.invariant()
