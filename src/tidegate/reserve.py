"""The itemised sum: who may withdraw how much below the min watermark, and who may pin how much above it.

One row a holder, each with its reason. Pure arithmetic over plain inputs: the same sum is printed by `check`,
applied by the guard and proved on the model. `host/load.py` makes the inputs from a host.

Bounds are never guessed downwards: where an input is missing, its row has no bound (`pages` None).
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate import frames
from tidegate.drivers import Driver, Refill, Refiller, shape_of
from tidegate.result import Condition, Reserve, Row, ZoneLevels
from tidegate.units import KIB, bytes_to_pages
from tidegate.watermarks import (
    Zone,
    atomic_floor,
    band,
    exclusive,
    lowmem_reserve,
    normal_index,
    serves_kernel,
    wmark_high,
    wmark_min,
)

STANDARD_MTU = 1500
JUMBO_MTU = 9000  # stands in where the MTU was not read

__all__ = ["Connection", "Machine", "Other", "Pool", "Ring", "Zone", "reserve", "rows_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the sum needs to know of the machine itself."""

    zones: tuple[Zone, ...]
    page_bytes: int = 4096
    cpus: int | None = 1
    kernel: tuple[int, int, int] | None = None
    skb_defer_max: int | None = None  # 0: consumed skbs are freed at once; None: not read
    high_order_alloc_disable: bool | None = None
    memalloc_key: bool = False  # memalloc_socks_key is on for another reason than the connections given


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection of a block user, in the kernel's numbers: sk_sndbuf is twice what SO_SNDBUF asked."""

    user: str
    label: str
    transport: str  # a value of host.facts.Transport
    flagged: bool  # the transport calls sk_set_memalloc on it
    sndbuf_bytes: int | None  # most that sk_sndbuf can become; None: no bound known
    rcvbuf_bytes: int | None  # most that sk_rcvbuf can become
    requests: int | None = None  # most requests in flight on this connection
    request_bytes: int | None = None  # largest request
    reads: bool = True
    measured: bool = True
    why_sndbuf: str = ""  # where the sizes come from
    why_rcvbuf: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The receive rings of one NIC."""

    nic: str
    driver_name: str
    driver: Driver | None  # None: the driver is not in the table
    slots: int | None  # per queue, as set now
    queues: int | None
    slots_max: int | None = None  # the most the device allows
    mtu: int | None = 1500
    xdp: bool = False  # a native XDP program is attached
    users: tuple[str, ...] = ()  # block users whose packets it carries


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A shared pool that traffic of others may fill and hold for long."""

    holder: str
    amount_bytes: int | None  # None: no bound known
    why: str
    factor: bool = True  # counted by truesize: one frame may keep a larger page from being freed
    subject: str = ""
    measured: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Somebody else who reaches the pages of the reserve."""

    holder: str
    pages: int | None
    why: str
    subject: str = ""
    measured: bool = True


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


def connection_rows(connection: Connection, shape: str | None, mtu: int | None, page_bytes: int) -> list[Row]:
    """What one connection may withdraw: transmit, receive queue, socket backlog."""
    rows: list[Row] = []
    measured = connection.measured
    flag = "" if connection.flagged else "; not flagged SOCK_MEMALLOC: it takes ordinary pages"

    def row(holder: str, amount_bytes: int | None, why: str) -> None:
        pages = None if amount_bytes is None else bytes_to_pages(amount_bytes, page_bytes)
        text = why + flag
        rows.append(Row(holder=holder, pages=pages, why=text, subject=connection.user, measured=measured))

    sent, why_sent = frames.transmit_bound(
        connection.transport, connection.sndbuf_bytes, connection.requests, connection.request_bytes
    )
    row(f"transmit of {connection.label}", sent, _joined(why_sent, connection.why_sndbuf))
    asked, why_asked = frames.receive_by_requests(
        connection.transport,
        connection.requests,
        connection.request_bytes,
        reads=connection.reads,
        shape=shape,
        mtu=mtu,
    )
    queue, backlog = frames.receive_bound(connection.rcvbuf_bytes, connection.sndbuf_bytes)
    whole = None if queue is None or backlog is None else queue + backlog
    if asked is not None and (whole is None or asked < whole):
        row(f"receive of {connection.label}", asked, why_asked)
    else:
        row(f"receive queue of {connection.label}", queue, _joined("sk_rcvbuf", connection.why_rcvbuf))
        text = (
            "socket backlog while the sender holds the lock: 2*rcvbuf + sndbuf/2 + 64 KiB (tcp_add_backlog)"
        )
        row(f"backlog of {connection.label}", backlog, text)
    return rows


def ring_slots(ring: Ring) -> tuple[int | None, bool]:
    """Slots of each queue, and whether they were read; else the most that the NIC or its driver allows."""
    if ring.slots is not None:
        return ring.slots, True
    if ring.slots_max is not None:
        return ring.slots_max, False
    if ring.driver is not None and not ring.driver.ring_by_device:
        return ring.driver.ring_max, False
    return None, False


def ring_bytes(ring: Ring, *, xdp: bool) -> int | None:
    """Most that refilling this NIC's rings can take; None when ring or driver is not known."""
    if ring.driver is None:
        return None
    if ring.driver.ring_permanent:
        return 0
    slots, _ = ring_slots(ring)
    if slots is None or ring.queues is None:
        return None
    return slots * ring.queues * _slot_bytes(ring, ring.driver, xdp=xdp)


def _slot_bytes(ring: Ring, row: Driver, *, xdp: bool) -> int:
    """Most that one slot can hold with this MTU."""
    slot = max(row.slot_bytes, row.slot_bytes_most or 0, (row.slot_bytes_xdp or 0) if xdp else 0)
    if ring.mtu is not None and ring.mtu <= STANDARD_MTU:
        return slot
    whole = frames.kmalloc_bytes((ring.mtu or JUMBO_MTU) + frames.FRAME_OVERHEAD)
    return max(slot, whole if row.slot_bytes_jumbo is None else row.slot_bytes_jumbo)


def _ring_why(row: Driver, *, key_on: bool, used: bool) -> tuple[str, str]:
    """Why the rings count, and as what: `need`, `ring` (above the floor only), or not at all."""
    if row.ring_permanent:
        return "fixed buffers, copied from: the ring itself never asks for memory again", ""
    waits = row.refill is Refill.KEY and not key_on
    if waits and not used:
        return "the refill uses the reserve only once a block connection is flagged, and none is", ""
    if row.refill is Refill.NEVER or waits:
        why, counts = "the refill cannot use the reserve: these pages must be there above 3/8 of min", "ring"
    else:
        why, counts = "every slot may be refilled from the reserve and stays until a packet hits it", "need"
    if row.refiller is Refiller.WORKER:
        why += "; a ring that ran dry is refilled by a worker that reclaims"
    return why, counts


def ring_row(ring: Ring, *, key_on: bool, xdp: bool, page_bytes: int) -> Row:
    """The row of one NIC's rings: need when a block user rides on it, else one of the others."""
    kind = "need" if ring.users else "others"
    holder = f"receive rings of {ring.nic} ({ring.driver_name or 'driver not known'})"

    def row(pages: int | None, why: str, *, measured: bool, counts: str = kind) -> Row:
        return Row(holder=holder, pages=pages, why=why, subject=ring.nic, kind=counts, measured=measured)

    if ring.driver is None:
        known = (
            f"driver {ring.driver_name} is not in the table"
            if ring.driver_name
            else "its driver was not read"
        )
        return row(None, f"{known}: what its refill does is not known", measured=False)
    why, counts = _ring_why(ring.driver, key_on=key_on, used=bool(ring.users))
    if not counts:
        return row(0, why, measured=True)
    amount = ring_bytes(ring, xdp=xdp)
    slots, read = ring_slots(ring)
    if amount is None:
        return row(None, "the size of its rings or their number was not read", measured=False)
    size = f"{ring.queues} x {slots} slots"
    if not read:
        size += " (the most it allows: the size was not read)"
    return row(
        bytes_to_pages(amount, page_bytes),
        f"{size}: {why}",
        measured=read and ring.mtu is not None,
        counts="ring" if ring.users and counts == "ring" else kind,
    )


def stack_rows(machine: Machine, page_bytes: int) -> list[Row]:
    """What the network stack itself may hold of consumed packets."""
    if machine.cpus is None:
        why = "number of CPUs was not read"
        return [
            Row(holder="deferred skbs", pages=None, why=why, subject="net.core.skb_defer_max", measured=False)
        ]
    pages, measured = frames.deferred_pages(machine.cpus, machine.skb_defer_max, machine.kernel, page_bytes)
    if pages == 0:
        return []
    why = "consumed TCP packets wait for the CPU that allocated them, unkicked below half the limit"
    return [
        Row(holder="deferred skbs", pages=pages, why=why, subject="net.core.skb_defer_max", measured=measured)
    ]


def physical_factor(machine: Machine, rings: tuple[Ring, ...]) -> tuple[int | None, str]:
    """How many times its accounted size a parked packet may keep from being freed, and through which NIC."""
    worst, through = 1, ""
    for ring in rings:
        if ring.driver is None:
            return None, f"{ring.nic}: driver {ring.driver_name or '?'} is not in the table"
        order0 = machine.high_order_alloc_disable is True and ring.driver.pinned_bytes_order0 is not None
        sharers = ring.driver.sharers_order0 if order0 else ring.driver.sharers
        if sharers > worst:
            pinned = ring.driver.pinned_bytes_order0 if order0 else ring.driver.pinned_bytes
            assert pinned is not None
            worst, through = (
                sharers,
                f"{ring.nic}: {sharers} packets share {pinned // KIB} KiB ({ring.driver.name})",
            )
    return worst, through


def pool_rows(machine: Machine, rings: tuple[Ring, ...], pools: tuple[Pool, ...]) -> list[Row]:
    """What others may pin physically, a row a pool; never more than the machine has."""
    factor, through = physical_factor(machine, rings)
    managed = sum(zone.managed for zone in machine.zones) or None
    rows = []
    for pool in pools:
        times = factor if pool.factor else 1
        pages: int | None = None
        why = pool.why
        if pool.amount_bytes is not None and (times is not None or pool.amount_bytes == 0):
            pages = bytes_to_pages(pool.amount_bytes * (times or 1), machine.page_bytes)
            pages = pages if managed is None else min(pages, managed)
        if pool.factor and (times is None or times > 1):
            why += f"; physically x{times or '?'} ({through})"
        rows.append(
            Row(
                holder=pool.holder, pages=pages, why=why, subject=pool.subject, kind="pin",
                measured=pool.measured and pages is not None,
            )
        )  # fmt: skip
    return rows


def _path(rings: tuple[Ring, ...], user: str) -> tuple[str | None, int | None]:
    """Class and MTU of the NICs a user's packets come through; None where they differ or are not known."""
    mine = [ring for ring in rings if user in ring.users]
    shapes = {shape_of(ring.driver, ring.mtu).value if ring.driver else None for ring in mine}
    mtus = {ring.mtu for ring in mine}
    return shapes.pop() if len(shapes) == 1 else None, mtus.pop() if len(mtus) == 1 else None


def rows_of(
    machine: Machine,
    connections: tuple[Connection, ...],
    rings: tuple[Ring, ...],
    pools: tuple[Pool, ...] = (),
    others: tuple[Other, ...] = (),
    *,
    drop: bool = False,
) -> tuple[Row, ...]:
    """Every holder with its row. `drop`: as it would be with an XDP program on the rings of block users."""
    page = machine.page_bytes
    key_on = machine.memalloc_key or any(connection.flagged for connection in connections)
    rows: list[Row] = []
    for connection in connections:
        rows += connection_rows(connection, *_path(rings, connection.user), page)
    for ring in rings:
        xdp = ring.xdp or (drop and bool(ring.users))
        if not ring.users and ring.driver is not None and ring.driver.refill is Refill.NEVER:
            continue  # neither needed nor able to reach the reserve
        row = ring_row(ring, key_on=key_on, xdp=xdp, page_bytes=page)
        if ring.users or row.pages != 0:
            rows.append(row)
    if connections:
        rows += stack_rows(machine, page)
    rows += [
        Row(
            holder=other.holder,
            pages=other.pages,
            why=other.why,
            subject=other.subject,
            kind="others",
            measured=other.measured,
        )
        for other in others
    ]
    rows += pool_rows(machine, rings, pools)
    return tuple(rows)


def total(rows: tuple[Row, ...], *kinds: str) -> int | None:
    """Sum of the rows of these kinds; None when one of them has no bound."""
    amounts = [row.pages for row in rows if row.kind in kinds]
    return None if None in amounts else sum(pages for pages in amounts if pages is not None)


def zone_levels(zone: Zone, index: int, cpus: int | None, page_bytes: int) -> ZoneLevels:
    """One zone with its floors, as check reports it."""
    return ZoneLevels(
        node=zone.node,
        name=zone.name,
        managed=zone.managed,
        free=zone.free,
        boost=zone.boost,
        min=zone.min,
        low=zone.low,
        high=zone.high,
        floor=atomic_floor(zone, index) if serves_kernel(zone) else 0,
        lowmem_reserve=lowmem_reserve(zone, index),
        exclusive=exclusive(zone, index, cpus or 1, page_bytes),
    )


def room(zones: tuple[Zone, ...], index: int, *, high: bool) -> int:
    """Pages between high (or min) and the atomic floor, over the zones that serve the kernel's requests.

    All nodes together: GFP_ATOMIC and memalloc requests start at their own node and go on through the whole
    zonelist (get_page_from_freelist(); neither is held by a cpuset), so they fail only when every zone is down.
    """
    pages = 0
    for zone in filter(serves_kernel, zones):
        level = (wmark_high(zone) if high else wmark_min(zone)) + lowmem_reserve(zone, index)
        pages += max(min(level, zone.managed) - atomic_floor(zone, index), 0)
    return pages


def conditions(
    zones: tuple[Zone, ...], index: int, alone: int | None, need_drop: int | None
) -> tuple[Condition, ...]:
    """The two inequalities a plan can rest on, from their left sides.

    `alone`: what others can pin, block IO and the rings together; `need_drop`: block IO and rings.
    """
    above = room(zones, index, high=True) if zones else None
    below = room(zones, index, high=False) if zones else None

    def holds(left: int | None, right: int | None) -> bool | None:
        return None if left is None or right is None else left <= right

    return (
        Condition(
            id="settings_alone",
            left_pages=alone,
            right_pages=above,
            holds=holds(alone, above),
            text="what others can pin plus what block IO and rings take fits between high and 3/8 of min",
        ),
        Condition(
            id="with_drop",
            left_pages=need_drop,
            right_pages=below,
            holds=holds(need_drop, below),
            text="with an early drop that closes at min: what block IO and rings take fits into 5/8 of min",
        ),
    )


def reserve(
    machine: Machine,
    connections: tuple[Connection, ...],
    rings: tuple[Ring, ...],
    pools: tuple[Pool, ...] = (),
    others: tuple[Other, ...] = (),
) -> Reserve:
    """The whole sum of a machine."""
    rows = rows_of(machine, connections, rings, pools, others)
    with_drop = rows_of(machine, connections, rings, pools, others, drop=True)
    index = normal_index(machine.zones)
    levels = tuple(zone_levels(zone, index, machine.cpus, machine.page_bytes) for zone in machine.zones)
    need = total(rows, "need", "others")  # what is taken from below the floor
    taken = total(rows, "need", "others", "ring")  # and with the rings that can only be filled above it
    pins = total(rows, "pin")
    if pins is not None and machine.zones:
        pins = min(pins, sum(zone.managed for zone in machine.zones))  # nobody can pin more than there is
    return Reserve(
        page_bytes=machine.page_bytes,
        need_pages=need,
        exclusive_pages=sum(level.exclusive for level in levels) if levels and machine.cpus else None,
        band_pages=band(machine.zones, index, machine.kernel),
        pin_pages=pins,
        rows=rows,
        zones=levels,
        conditions=conditions(
            machine.zones,
            index,
            None if taken is None or pins is None else taken + pins,
            total(with_drop, "need", "others", "ring"),
        ),
    )
