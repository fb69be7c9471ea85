"""The adversary: foreign packets, readers, faults, users that come and go. All of it ends with the storm.

Each step here is the adversary's; what it sets off (an interrupt, a discard, a retransmission) is the system's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.case import Protocol, Traffic
from tidegate.design import Pool
from tidegate.sim import block
from tidegate.sim.clock import MS, SECOND, US
from tidegate.sim.gfp import GFP_KERNEL
from tidegate.sim.nic import nic_receive
from tidegate.sim.page_alloc import (
    NONE,
    adjust_memalloc_reserve,
    alloc_pages,
    free_pages,
    setup_per_zone_wmarks,
)
from tidegate.sim.skbuff import Frame
from tidegate.sim.sock import Sock, read_all
from tidegate.sim.throttle import Refused
from tidegate.sim.vmscan import program_step

if TYPE_CHECKING:
    from tidegate.sim.block import BlockUser
    from tidegate.sim.machine import Hooked, Machine

WIRE_BYTE_NS = 8  # at 1 Gbit/s
RESIZE_RETRY_NS = 10 * MS
EATER_EVERY_NS = 50 * MS


class Stream:
    """One stream of foreign packets to a set of sockets."""

    __slots__ = (
        "burst",
        "burst_left",
        "case",
        "frames",
        "gap_ns",
        "m",
        "next",
        "read_ns",
        "socks",
        "until_ns",
        "wire_ns",
    )

    def __init__(self, m: Machine, case: Traffic, until_ns: int) -> None:
        self.m = m
        self.case = case
        holder = "fragments" if case.protocol is Protocol.FRAGMENT else "others_sockets"
        self.socks = [Sock(case.protocol.value, case.rcvbuf_bytes, holder) for _ in range(case.sockets)]
        # A foreign frame has nothing of its own: one serves all packets to its socket.
        self.frames = [Frame(case.protocol.value, case.length_bytes, sock) for sock in self.socks]
        m.foreign_socks.extend(self.socks)
        self.burst = case.burst
        self.burst_left = case.burst
        self.gap_ns = max(1, SECOND * case.burst // case.packets_per_s)
        self.wire_ns = case.length_bytes * WIRE_BYTE_NS
        self.until_ns = until_ns
        self.read_ns = case.read_ms * MS
        self.next = 0


def start_storm(m: Machine) -> None:
    """Sets off everything that the case describes."""
    case, clock = m.case, m.clock
    end = case.run.storm_ms * MS
    for traffic in case.traffic:
        stream = Stream(m, traffic, min(end, traffic.until_ms * MS or end))
        clock.at(traffic.from_ms * MS, foreign_packet, stream)
        if stream.read_ns:
            clock.at(traffic.from_ms * MS + stream.read_ns, foreign_read, stream)
    for hook in m.hooks:
        if hook.read_ns:
            clock.at(hook.read_ns, hook_read, (m, hook))
    for number, program in enumerate(m.reclaim.programs):
        clock.at(number * US, program_step, program)
    for user in m.users:
        if user.case.connects_ms:
            clock.at(user.case.connects_ms * MS, connect, user)
        if user.case.leaves_ms:
            clock.at(user.case.leaves_ms * MS, leave, user)
        if user.case.unasked_per_s:
            clock.at(user.case.connects_ms * MS + MS, unasked, user)
    _start_faults(m)


def _start_faults(m: Machine) -> None:
    faults, clock = m.case.faults, m.clock
    if faults.reset_ms:
        clock.at(faults.reset_ms * MS, connection_reset, m)
    if faults.eater_pages:
        clock.at(EATER_EVERY_NS, eat, m)
    if faults.admin_ms:
        clock.at(faults.admin_ms * MS, admin_writes, m)


def foreign_packet(stream: Stream) -> None:
    """One packet of others, and the next one: bursts at the speed of the wire, then a pause that varies by chance."""
    m = stream.m
    now = m.clock.now
    if m.calm or now >= stream.until_ns:
        return
    frames = stream.frames
    at = stream.next
    stream.next = at + 1 if at + 1 < len(frames) else 0
    frame = frames[at]
    sock = frame.sock
    assert sock is not None
    if not (stream.case.sender_reads and sock.rmem + stream.case.length_bytes > sock.rcvbuf):
        m.steps["foreign_packet"] += 1
        nic_receive(m, frame)
    stream.burst_left -= 1
    if stream.burst_left:
        m.clock.after(stream.wire_ns, foreign_packet, stream)
    else:
        stream.burst_left = stream.burst
        half = stream.gap_ns >> 1
        m.clock.after(half + m.rng.getrandbits(32) % stream.gap_ns + 1, foreign_packet, stream)


def foreign_read(stream: Stream) -> None:
    """Its readers empty their sockets."""
    m = stream.m
    if m.calm:
        return
    m.steps["foreign_read"] += 1
    for sock in stream.socks:
        read_all(m, sock)
    m.clock.after(stream.read_ns, foreign_read, stream)


def hook_read(arg: tuple[Machine, Hooked]) -> None:
    """The reader of a tap, filter or bridge."""
    m, hook = arg
    if m.calm:
        return
    m.steps["hook_read"] += 1
    read_all(m, hook.sock)
    m.clock.after(hook.read_ns, hook_read, arg)


# Users that come and go


def connect(user: BlockUser) -> None:
    """A user is loaded: first the reserve grows, with pages that are really free, then the user is admitted."""
    m = user.m
    if m.calm:
        return
    m.steps["connect"] += 1
    pages = user.fixed_pages + user.largest_pages
    if m.design.resize and not _grow(m, pages):
        m.first(
            "resize_waits",
            f"the reserve is to grow by {pages} pages for {user.name}: it waits until they are free",
            pages=pages,
        )
        m.steps["resize_waits"] += 1
        m.clock.after(RESIZE_RETRY_NS, connect, user)
        return
    if m.design.throttle and not user.case.tickets:
        assert m.ledger is not None
        if m.design.resize:
            m.ledger.resize(m.ledger.target_pages + pages)
            m.note("resized", f"the reserve has grown by {pages} pages for {user.name}", pages=m.zone.reserve)
        try:
            granted = m.ledger.connect(
                user.name, user.fixed_pages, user.largest_pages, lambda _: _connected(user)
            )
        except Refused as refused:
            m.note("refused", f"the throttle refuses {refused}", room_pages=refused.room_pages)
            if m.design.resize:
                m.ledger.resize(m.ledger.target_pages - pages, lambda _: _shrink(m, pages))
            return
        if granted is None:
            return
    _connected(user)


def _grow(m: Machine, pages: int) -> bool:
    """More reserve, once the pages are really free: of the zone, or elements for the mempool."""
    zone = m.zone
    if m.design.pool is Pool.GLOBAL:
        return adjust_memalloc_reserve(zone, pages)
    if zone.free - pages <= zone.wmark_min:  # mempool_resize() allocates with GFP_KERNEL
        if zone.kswapd is not None:
            zone.kswapd()
        return False
    tokens = [alloc_pages(zone, GFP_KERNEL, 0, pf_memalloc=False) for _ in range(pages)]
    assert NONE not in tokens, tokens
    m.pool_tokens.extend(tokens)
    m.pinned += pages
    m.pools[0].grow(pages)
    return True


def _shrink(m: Machine, pages: int) -> None:
    """Less reserve. What the pool has lent out comes back later; so much less it keeps then."""
    if m.design.pool is Pool.GLOBAL:
        adjust_memalloc_reserve(m.zone, -min(pages, m.zone.reserve))
        return
    number = m.pools[0].shrink(min(pages, len(m.pool_tokens)))
    for _ in range(number):
        free_pages(m.zone, m.pool_tokens.pop(), 0)
    m.pinned -= number


def _connected(user: BlockUser) -> None:
    user.connected = True


def leave(user: BlockUser) -> None:
    """A user is unloaded with requests in flight: nothing new; what is out comes back before the reserve shrinks."""
    m = user.m
    if not user.connected:
        return
    m.note("leaves", f"{user.name} leaves with {user.pending} requests in flight", pending=user.pending)
    m.steps["leave"] += 1
    user.leaving = True
    user.connected = False
    heir = next((one for one in m.users if one is not user), None)
    if heir is not None:
        heir.dirty.extend(user.dirty)
        user.dirty.clear()
    _left(user)


def _left(user: BlockUser) -> None:
    """The shrink waits until nothing of the user is out."""
    m = user.m
    if user.pending:
        m.clock.after(RESIZE_RETRY_NS, _left, user)
        return
    m.steps["left"] += 1
    pages = user.fixed_pages + user.largest_pages
    if m.design.throttle and not user.case.tickets and m.ledger is not None:
        m.ledger.disconnect(user.name)
        if m.design.resize:
            m.ledger.resize(max(0, m.ledger.target_pages - pages), lambda _: _shrink(m, pages))
    elif m.design.resize:
        _shrink(m, pages)
    m.note("left", f"{user.name} is gone, and its part of the reserve with it", reserve_pages=m.zone.reserve)


def unasked(user: BlockUser) -> None:
    """The server sends a message that nobody asked for, on every connection."""
    m = user.m
    if m.calm or user.leaving:
        return
    if user.connected:
        m.steps["unasked"] += 1
        for sender in user.senders:
            if sender.conn.up:
                sender.conn.server.unasked()
    m.clock.after(SECOND // user.case.unasked_per_s, unasked, user)


# Faults


def connection_reset(m: Machine) -> None:
    """Every block connection is reset by its peer."""
    m.steps["connection_reset"] += 1
    for user in m.users:
        if user.connected:
            block.reset(user)


def eat(m: Machine) -> None:
    """Somebody else with PF_MEMALLOC takes pages, down to the last, and gives them back later or never."""
    if m.calm:
        return
    m.steps["eat"] += 1
    faults = m.case.faults
    taken: list[int] = []
    while len(taken) + len(m.eaten) < faults.eater_pages:
        token = alloc_pages(m.zone, 0, 0, pf_memalloc=True)
        if token == NONE:
            break
        taken.append(token)
    m.eaten.extend(taken)
    if faults.eater_ms and taken:
        m.clock.after(faults.eater_ms * MS, _eater_frees, (m, len(taken)))
    m.clock.after(EATER_EVERY_NS, eat, m)


def _eater_frees(arg: tuple[Machine, int]) -> None:
    m, number = arg
    for _ in range(number):
        free_pages(m.zone, m.eaten.pop(), 0)


def admin_writes(m: Machine) -> None:
    """The administrator writes min_free_kbytes. Where the reserve is a part of its own, the larger holds."""
    m.steps["admin_writes"] += 1
    zone = m.zone
    wanted = m.case.faults.admin_min_pages
    m.note("admin", f"the administrator writes min_free_kbytes: min is to be {wanted} pages", pages=wanted)
    zone.admin_min = wanted
    if m.design.resize:
        adjust_memalloc_reserve(zone, 0)
    else:
        setup_per_zone_wmarks(zone, wanted)
