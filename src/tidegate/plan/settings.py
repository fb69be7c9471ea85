"""One function a setting: what it becomes on this host and why, or None where there is nothing to change.

A function never gives a setting that this kernel does not have or that could not be read, and never one that
makes looser what the administrator has tighter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidegate import setting_ids as ids
from tidegate.host.facts import BlockUser, Host, Memory, Route, Transport, sysctl_int, sysctl_ints
from tidegate.host.load import reserve_of, udp_batch_pages
from tidegate.plan import bounds
from tidegate.plan.bounds import Goal, PoolBounds
from tidegate.plan.in_force import marked_zones
from tidegate.reserve import Connection
from tidegate.result import Basis, Law, Setting
from tidegate.units import KIB, human_bytes

FILES = ("sysctl", "script", "tuned")
DEVICE_FILES = ("script", "tuned")

# As asked with SO_SNDBUF and SO_RCVBUF; sk_sndbuf and sk_rcvbuf become twice that. Many connections on a small
# machine get the second.
CAPS = (128 * KIB, 64 * KIB)
CAP_BYTES = CAPS[0]
# 5.16 has the option (2bb2f5fb21b0), but before 6.0 a socket keeps what it once had allocated forward, so that
# nothing shows whether a share is reserved.
RESERVE_MEM_SINCE = (6, 0, 0)
# A program connects, then hands the socket to the kernel; the others' sockets the kernel makes itself.
HANDED_OVER = frozenset({Transport.NBD, Transport.ISCSI})
QUEUE_REQUESTS = 16
QUEUE_SECTORS_KIB = 128  # a swap-out is 4 to 128 KiB (a plug's merge)
STEPS_MAX = 8
IDLE = "before swapon, or on an idle queue: the write waits for all IO in flight"
AGAIN = "before the connections are made: those that are already larger stay so until they are made again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The words of a setting that only sets a number."""

    law: Law
    why: str
    lower: str
    upper: str
    first: str = ""


def sysctl_path(name: str) -> str:
    """The file of a sysctl; a dot inside a name stands as a slash in its key and is not needed here."""
    return "/proc/sys/" + name.replace(".", "/")


def shown(host: Host, name: str) -> str | None:
    """A sysctl's value with single spaces; None when it was not read."""
    value = host.sysctls.get(name)
    return None if value is None else " ".join(value.split())


def sysctl(host: Host, name: str, new: str, texts: Texts, *, dominant: str = "") -> Setting | None:
    """A sysctl with a new value, unless it has it or is not there."""
    old, new = shown(host, name), " ".join(new.split())
    if old is None or old == new:
        return None
    return Setting(
        id=name,
        law=texts.law,
        path=sysctl_path(name),
        old=old,
        new=new,
        why=texts.why,
        basis=Basis.ARITHMETIC,
        lower=texts.lower,
        upper=texts.upper,
        dominant=dominant,
        first=texts.first,
        undo=old,
        means=FILES,
    )


_FIXED: dict[str, tuple[int, Texts]] = {
    ids.HIGH_ORDER_ALLOC_DISABLE: (
        ids.HIGH_ORDER_ALLOC_DISABLE_TARGET,
        Texts(
            law=Law.DISCARD,
            why="socket fragments and the buffers of virtio_net are single pages, not slices of 32 KiB",
            lower="1: the switch is on",
            upper="1",
        ),
    ),
    ids.SKB_DEFER_MAX: (
        ids.SKB_DEFER_MAX_TARGET,
        Texts(
            law=Law.DISCARD,
            why="consumed packets are freed at once, not later by the CPU that allocated them",
            lower="0: no packet waits",
            upper="the kernel's default of 64 a CPU",
        ),
    ),
    ids.WATERMARK_BOOST: (
        ids.WATERMARK_BOOST_TARGET,
        Texts(
            law=Law.RESERVE,
            why="the boost on fragmentation holds up those that reclaim and gives the reserve nothing",
            lower="0: no boost",
            upper="the kernel's default of 15000",
        ),
    ),
    ids.PAGE_CLUSTER: (
        ids.PAGE_CLUSTER_TARGET,
        Texts(
            law=Law.THROTTLE,
            why="a swap read brings one page: less waits on reserve pages behind a hole in the stream",
            lower="0: one page",
            upper="the kernel's default of 3 (eight pages)",
        ),
    ),
    ids.IPFRAG_HIGH_THRESH: (
        ids.IPFRAG_HIGH_THRESH_TARGET,
        Texts(
            law=Law.DISCARD,
            why="datagrams that never become whole hold at most this, for 30 seconds",
            lower="256 KiB: four whole datagrams of 64 KiB in the making",
            upper="the kernel's default of 4 MiB",
        ),
    ),
    ids.IP6FRAG_HIGH_THRESH: (
        ids.IP6FRAG_HIGH_THRESH_TARGET,
        Texts(
            law=Law.DISCARD,
            why="IPv6 datagrams that never become whole hold at most this, for 60 seconds",
            lower="256 KiB: four whole datagrams of 64 KiB in the making",
            upper="the kernel's default of 4 MiB",
        ),
    ),
}


def fixed(host: Host, name: str) -> Setting | None:
    """A sysctl whose target no arithmetic of a host sizes; tighter values of the administrator stay."""
    target, texts = _FIXED[name]
    now = sysctl_int(host, name)
    if now is None or (now >= target if name == ids.HIGH_ORDER_ALLOC_DISABLE else now <= target):
        return None
    return sysctl(host, name, str(target), texts)


FIXED = tuple(_FIXED)

# The kernel refuses a high threshold below the low one: which goes before which, with its target.
LOW_BEFORE_HIGH = {
    ids.IPFRAG_HIGH_THRESH: (ids.IPFRAG_LOW_THRESH, ids.IPFRAG_LOW_THRESH_TARGET),
    ids.IP6FRAG_HIGH_THRESH: (ids.IP6FRAG_LOW_THRESH, ids.IP6FRAG_LOW_THRESH_TARGET),
}
# Settings that mean nothing without another one.
GOES_WITH = {low: high for high, (low, _) in LOW_BEFORE_HIGH.items()}


def with_threshold(host: Host, high: Setting) -> tuple[Setting, ...]:
    """A setting, after the low threshold that would make the kernel refuse it; nothing where that was not read."""
    if high.id not in LOW_BEFORE_HIGH:
        return (high,)
    name, target = LOW_BEFORE_HIGH[high.id]
    now = sysctl_int(host, name)
    if now is None:
        return ()
    if now <= int(high.new):
        return (high,)
    low = sysctl(
        host,
        name,
        str(target),
        Texts(
            law=Law.DISCARD,
            why="the kernel refuses a high threshold below this one, so it goes first",
            lower="0",
            upper=f"{high.new}: the high threshold",
        ),
    )
    return (low, high) if low else (high,)


_POOLS = {
    ids.TCP_MEM: "all TCP sockets together hold at most this",
    ids.UDP_MEM: "all UDP sockets together hold at most the first and each CPU's batch",
    ids.NETDEV_MAX_BACKLOG: "so many packets wait for the stack on each CPU",
}


def pool(host: Host, limits: PoolBounds, new: str, goal: Goal | None, *, dominant: str) -> Setting | None:
    """tcp_mem, udp_mem or the softnet backlog at a value that fits; no goal: none can be reached."""
    most = bounds.binding(limits.id, new)
    if goal is not None and goal.condition == "settings_alone":
        why = "more could take memory down to the ring's floor"
        upper = f"{most}: more, and it would no longer fit beside the reserve"
    else:
        why = "a lockup is rarer with less to pin, but this alone does not prevent it"
        upper = f"{most}: more, and others could pin more than a twentieth of RAM"
        if most <= limits.least:
            upper = f"{most}: it stands at the least already"
    if most >= limits.enough:
        upper = f"{most}: as much as others are likely to need; more would make the reserve larger"
    return sysctl(
        host,
        limits.id,
        new,
        Texts(
            law=Law.DISCARD,
            why=f"{_POOLS[limits.id]}{_pool_size(host, limits.id, most)}: {why}",
            lower=limits.why_least,
            upper=upper,
        ),
        dominant=dominant,
    )


def _pool_size(host: Host, name: str, most: int) -> str:
    """What a pool's limit leaves everybody, in bytes; packets of the backlog have no size of their own."""
    if name == ids.NETDEV_MAX_BACKLOG:
        return ""
    if name == ids.UDP_MEM:
        most += udp_batch_pages(host) or 0
    return f", {human_bytes(most * host.page_bytes)}"


def min_free(host: Host, new_kib: int, goal: Goal, most_kib: int) -> Setting | None:
    """vm.min_free_kbytes at a value at which the sum fits, with how to get there.

    `host` is as it will be but for this.
    """
    total = reserve_of(host)
    row = bounds.dominant(total.rows, "need", "others", "ring", "pin")
    least = bounds.least_min_free(host, goal, new_kib, total)
    if goal.condition == "settings_alone":
        why = "others cannot bring free memory down to 3/8 of min, where the receive ring runs dry"
    else:
        why = "with an early drop that closes at min, what block IO and rings take below min is there"
    made = sysctl(
        host,
        ids.MIN_FREE,
        str(new_kib),
        Texts(
            law=Law.RESERVE,
            why=why,
            lower=f"{least} kB: the least at which the sum fits",
            upper=f"{max(most_kib, new_kib)} kB: the share of RAM that it may take",
        ),
        dominant=row.holder if row else "",
    )
    if made is None or host.memory is None or host.memory.min_free_kib is None:
        return made
    first, steps = _raise(host, host.memory, new_kib)
    return replace(made, first=first, steps=steps)


def _raise(host: Host, memory: Memory, new_kib: int) -> tuple[str, tuple[str, ...]]:
    """How many pages must be free before a raise, and the values on the way when they are not.

    A floor is not a stock: raised above what is free, it stops everybody who may not go below min until
    kswapd has made up for it, and kswapd frees by writing over the network.
    """
    assert memory.min_free_kib is not None
    high = sum(zone.high for zone in bounds.kernel_zones(marked_zones(host, memory, new_kib)))
    free = sum(zone.free for zone in bounds.kernel_zones(memory.zones))
    first = f"{high:,} pages free (the new high watermarks); {free:,} were when this host was read"
    if free >= high:
        return first, ()
    # Each step adds at most a quarter of what is there, so that kswapd has little to make up for each time.
    steps: list[str] = []
    at = memory.min_free_kib
    while at < new_kib and len(steps) < STEPS_MAX:
        at = min(new_kib, at + max(at // 4, new_kib // STEPS_MAX, 1))
        steps.append(str(at))
    if steps[-1] != str(new_kib):
        steps.append(str(new_kib))
    return f"{first}; so in steps, each when the high watermarks of the step are free", tuple(steps)


def buffer_max(host: Host, name: str, most_bytes: int) -> Setting | None:
    """The third number of tcp_rmem or tcp_wmem: what a connection that is not capped may grow to."""
    now = sysctl_ints(host, name)
    if len(now) != 3 or now[2] <= most_bytes:
        return None
    new = f"{min(now[0], most_bytes)} {min(now[1], most_bytes)} {most_bytes}"
    what = "receive" if name == ids.TCP_RMEM else "send"
    return sysctl(
        host,
        name,
        new,
        Texts(
            law=Law.THROTTLE,
            why=f"in the place of caps: the {what} buffer of every TCP connection ends at this",
            lower=f"{human_bytes(2 * CAPS[-1])}: less slows every connection of this host",
            upper=f"{human_bytes(most_bytes)}: more, and the need of the connections would ask for more than "
            "a fifth of the share",
            first=AGAIN,
        ),
    )


def cap(user: BlockUser, connections: Sequence[Connection], most: int) -> Setting | None:
    """SO_SNDBUF and SO_RCVBUF of `most` bytes on the connections of one block user."""
    open_ = [one for one in connections if one.user == user.name and not _is_capped(one, most)]
    if not open_ or (user.sockets and all(socket.family == "unix" for socket in user.sockets)):
        return None
    locked = [socket for socket in user.sockets if socket.sndbuf_locked and socket.rcvbuf_locked]
    sndbuf = min([most, *(socket.sndbuf_bytes // 2 for socket in locked if socket.sndbuf_bytes)])
    rcvbuf = min([most, *(socket.rcvbuf_bytes // 2 for socket in locked if socket.rcvbuf_bytes)])
    now = {(one.sndbuf_bytes, one.rcvbuf_bytes) for one in open_}
    biggest = max(now, key=lambda pair: (pair[0] or 0) + (pair[1] or 0))
    old = f"sndbuf up to {_size(biggest[0])}, rcvbuf up to {_size(biggest[1])}"
    return Setting(
        id=ids.of(ids.CAP, user.name),
        law=Law.THROTTLE,
        path=f"socket:{user.name}",
        old=old,
        new=f"SO_SNDBUF={sndbuf} SO_RCVBUF={rcvbuf}",
        why="a connection holds at most this, less than a tenth of buffers that tune themselves",
        basis=Basis.ARITHMETIC,
        lower=f"{human_bytes(CAPS[-1])}: one segment of the largest size each way",
        upper=f"{human_bytes(CAPS[0])} asked; the kernel doubles it and locks it",
        dominant=f"transmit and receive of {user.name}",
        first=_cap_first(user),
        undo="make the connection again",
    )


def _is_capped(one: Connection, most: int) -> bool:
    sizes = (one.sndbuf_bytes, one.rcvbuf_bytes)
    return all(size is not None and size <= 2 * most for size in sizes)


def _cap_first(user: BlockUser) -> str:
    if user.transport is Transport.ISCSI:
        return (
            "node.conn[0].tcp.window_size of the session (iscsiadm), before login: iscsid sets both from it"
        )
    if user.transport is Transport.DRBD:
        return "sndbuf-size and rcvbuf-size in the resource's net section, before connecting"
    if user.transport not in HANDED_OVER:
        return "from a BPF iterator over TCP sockets: the kernel itself makes these"
    return "by the program that connects, before the hand-over, or from a BPF iterator over TCP sockets"


def reserve_mem(host: Host, user: BlockUser) -> Setting | None:
    """SO_RESERVE_MEM: a share of tcp_mem of its own for a block connection."""
    inet = [socket for socket in user.sockets if socket.family != "unix"]
    if host.kernel.version < RESERVE_MEM_SINCE or not inet or user.transport not in HANDED_OVER:
        return None  # bpf_setsockopt() does not offer it
    whole = [
        (socket.sndbuf_bytes or 0) + (socket.rcvbuf_bytes or 0)
        for socket in inet
        if socket.sndbuf_locked and socket.rcvbuf_locked
    ]
    amount = min(4 * CAP_BYTES, max(whole, default=4 * CAP_BYTES))
    return Setting(
        id=ids.of(ids.RESERVE_MEM, user.name),
        law=Law.RESERVE,
        path=f"socket:{user.name}",
        old=None,
        new=f"SO_RESERVE_MEM={amount}",
        why="when others fill tcp_mem the connection still has a share of its own",
        basis=Basis.ARITHMETIC,
        lower=f"{human_bytes(amount)}: its send and receive buffer",
        upper="tcp_mem, of which it is a part",
        first="by the program that connects, before the hand-over, and not in the root memory cgroup",
        undo="make the connection again",
    )


def _size(amount: int | None) -> str:
    return "?" if amount is None else human_bytes(amount)


def nr_requests(user: BlockUser) -> Setting | None:
    """Fewer requests in flight on a block user's queue."""
    queue = user.queue
    if queue is None or queue.nr_requests is None or queue.nr_requests <= QUEUE_REQUESTS:
        return None
    return _queue_setting(
        ids.of(ids.NR_REQUESTS, queue.device),
        f"/sys/block/{queue.device}/queue/nr_requests",
        queue.nr_requests,
        QUEUE_REQUESTS,
        why="fewer requests can be in flight, so that less waits for its reply on reserve pages",
        lower="4: BLKDEV_MIN_RQ",
    )


def max_sectors(user: BlockUser) -> Setting | None:
    """Smaller requests on a block user's queue."""
    queue = user.queue
    if queue is None or queue.max_sectors_kib is None or queue.max_sectors_kib <= QUEUE_SECTORS_KIB:
        return None
    return _queue_setting(
        ids.of(ids.MAX_SECTORS, queue.device),
        f"/sys/block/{queue.device}/queue/max_sectors_kb",
        queue.max_sectors_kib,
        QUEUE_SECTORS_KIB,
        why="a request is smaller, so that its reply withdraws less at once",
        lower="one page",
    )


def _queue_setting(name: str, path: str, old: int, new: int, *, why: str, lower: str) -> Setting:
    return Setting(
        id=name,
        law=Law.THROTTLE,
        path=path,
        old=str(old),
        new=str(new),
        why=why,
        basis=Basis.ARITHMETIC,
        lower=lower,
        upper=f"{old}: what it is now",
        first=IDLE,
        undo=str(old),
        means=DEVICE_FILES,
    )


def neighbour(host: Host, address: str) -> Setting | None:
    """A permanent neighbour entry for the server, or for the gateway to it."""
    found = _route_to(host, address)
    if found is None or found.local or not found.device or found.neighbour_state == "PERMANENT":
        return None
    return Setting(
        id=ids.of(ids.NEIGHBOUR, address),
        law=Law.RESERVE,
        path=f"neigh:{address} dev {found.device}",
        old=found.neighbour_state,
        new="PERMANENT",
        why="resolving the address takes ordinary memory; after three failures nothing is sent",
        basis=Basis.ARITHMETIC,
        lower="PERMANENT",
        upper="write it again when the server's or gateway's hardware address changes",
        undo="nud reachable",
        means=("script",),
    )


def _route_to(host: Host, address: str) -> Route | None:
    for user in host.users:
        for route in user.routes:
            if route.neighbour == address:
                return route
    return None


def threaded(host: Host, nic: str) -> Setting | None:
    """Threaded NAPI off, so that PF_MEMALLOC of the interrupted task's softirq counts in the receive path."""
    if not any(link.name == nic and link.threaded for link in host.links):
        return None
    return Setting(
        id=ids.of(ids.THREADED, nic),
        law=Law.RESERVE,
        path=f"/sys/class/net/{nic}/threaded",
        old="1",
        new="0",
        why="in a NAPI thread PF_MEMALLOC is without effect (__gfp_pfmemalloc_flags)",
        basis=Basis.ARITHMETIC,
        lower="0",
        upper="0",
        undo="1",
        means=DEVICE_FILES,
    )
