"""How much: the least vm.min_free_kbytes and the largest shared pools at which the sums fit.

All numbers come out of the same sum that `check` prints (`host.load.reserve_of`): here it is only searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tidegate import reserve, watermarks
from tidegate import setting_ids as ids
from tidegate.host.facts import Host, Memory, sysctl_int, sysctl_ints
from tidegate.host.load import connections_of, reserve_of
from tidegate.plan.in_force import marked_zones
from tidegate.result import Condition, Reserve, Row
from tidegate.units import KIB, MIB, bytes_to_pages

# What tcp_init_mem() (net/ipv4/tcp.c) and udp_init_mem() (net/ipv4/udp.c) give the smallest machine:
# limit = 128 pages, tcp_mem[2] 3/2 of it, udp_mem[0] 3/4 of it.
POOL_LEAST_PAGES = 192
UDP_LEAST_PAGES = 96
# Which of the three numbers bounds the sockets: TCP has memory_pressure and goes on up to the last one; UDP has
# none and is refused from the first one on (net/core/sock.c:__sk_mem_raise_allocated).
_BINDS = {ids.TCP_MEM: 2, ids.UDP_MEM: 0}
POOLS = frozenset({ids.TCP_MEM, ids.UDP_MEM, ids.NETDEV_MAX_BACKLOG})
# As much as a host's other traffic is left where there is room: ten TCP connections with a fully grown
# receive buffer (tcp_rmem[2], 6 MiB) or 500 at their start; 39 UDP sockets at net.core.rmem_default, and what
# the CPUs' batches let through besides.
TCP_ENOUGH_BYTES = 64 * MIB
UDP_ENOUGH_BYTES = 8 * MIB
# One pass of net_rx_action() handles net.core.netdev_budget = 300 packets: a shorter queue drops within it.
BACKLOG_LEAST = 300
BACKLOG_ENOUGH = 1000  # the kernel's default
# Where only an early drop would hold the floor, others may still pin a twentieth of RAM. A quarter would do with the
# drop in force, but a plan comes before the drop: a guest of 128 MB, virtio-net, wedged with a quarter in 3 of 6.
POOLS_SHARE = 20

_STEPS = 1024  # of the search between a pool's bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a choice of values is to reach."""

    condition: str  # settings_alone or with_drop
    sized: bool  # and the need fits what only block IO can take


GOALS = (
    Goal(condition="settings_alone", sized=True),
    Goal(condition="with_drop", sized=True),
    Goal(condition="with_drop", sized=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBounds:
    """Between which values a shared pool may lie, in its own unit (pages, or packets): the number that binds."""

    id: str
    now: int
    least: int
    enough: int
    why_least: str

    def at(self, step: int) -> int:
        """The value at a step of the search; never more than it is now."""
        return self.least + (self.enough - self.least) * step // _STEPS


def ram_kib(host: Host) -> int | None:
    """MemTotal, or the managed pages of all zones where that was not read."""
    if host.memory is None:
        return None
    if host.memory.total_kib:
        return host.memory.total_kib
    managed = sum(zone.managed for zone in host.memory.zones)
    return managed * host.page_bytes // KIB or None


def share_kib(host: Host, max_share_percent: float) -> int | None:
    """The most that vm.min_free_kbytes may be raised to: this share of RAM."""
    ram = ram_kib(host)
    return None if ram is None else int(ram * max_share_percent / 100)


def kernel_zones(zones: tuple[watermarks.Zone, ...]) -> tuple[watermarks.Zone, ...]:
    """The zones that the kernel's own requests can be served from."""
    return tuple(zone for zone in zones if watermarks.serves_kernel(zone))


def connections_fit(host: Host, most_kib: int) -> bool:
    """Do the block connections alone need no more than a fifth of the share."""
    names = {user.name for user in host.users}
    rows = [row.pages for row in reserve_of(host).rows if row.kind == "need" and row.subject in names]
    if None in rows:
        return False
    return sum(pages or 0 for pages in rows) * host.page_bytes <= most_kib * KIB // 5


def others_bounded(host: Host, total: Reserve) -> bool:
    """Others pin no more than a twentieth of RAM."""
    ram = ram_kib(host)
    if ram is None or total.pin_pages is None:
        return False
    return total.pin_pages <= ram * KIB // host.page_bytes // POOLS_SHARE


def condition(conditions: tuple[Condition, ...], name: str) -> Condition | None:
    """A condition by its id."""
    return next((one for one in conditions if one.id == name), None)


def holds(conditions: tuple[Condition, ...], name: str) -> bool | None:
    """Whether a condition holds; None when it cannot be told."""
    found = condition(conditions, name)
    return None if found is None else found.holds


def sized(need: int | None, exclusive: int | None) -> bool | None:
    """Does the need fit what only block IO can take."""
    return None if need is None or exclusive is None else need <= exclusive


def meets(total: Reserve, goal: Goal) -> bool:
    """Does the host, as summed, reach the goal."""
    fits = not goal.sized or sized(total.need_pages, total.exclusive_pages) is True
    return fits and holds(total.conditions, goal.condition) is True


def meets_at(host: Host, memory: Memory, total: Reserve, goal: Goal, min_free_kib: int) -> bool:
    """The same with another vm.min_free_kbytes: only watermarks change, so only they are computed again."""
    zones = marked_zones(host, memory, min_free_kib)
    index = watermarks.normal_index(zones)
    left = {one.id: one.left_pages for one in total.conditions}
    found = reserve.conditions(zones, index, left.get("settings_alone"), left.get("with_drop"))
    if holds(found, goal.condition) is not True:
        return False
    cpus = host.cpus or 1
    only = sum(watermarks.exclusive(zone, index, cpus, host.page_bytes) for zone in zones)
    return not goal.sized or sized(total.need_pages, only) is True


def least_min_free(host: Host, goal: Goal, most_kib: int, total: Reserve | None = None) -> int | None:
    """The least vm.min_free_kbytes, from the present one up, that reaches the goal; None: beyond the most."""
    total = total or reserve_of(host)
    memory = host.memory
    if memory is None or memory.min_free_kib is None:
        return None
    now = memory.min_free_kib
    if meets(total, goal):
        return now
    if most_kib <= now or not meets_at(host, memory, total, goal, most_kib):
        return None
    found = watermarks.least_min_free_kib(
        1, lambda kib: int(meets_at(host, memory, total, goal, kib)), most_kib
    )
    return None if found is None else max(found, now + 1)


def pools(host: Host) -> tuple[PoolBounds, ...]:
    """The shared pools of this host that a sysctl bounds, with the room there is to move them."""
    made = []
    for name, enough_bytes, sockets in (
        (ids.TCP_MEM, TCP_ENOUGH_BYTES, True),
        (ids.UDP_MEM, UDP_ENOUGH_BYTES, False),
    ):
        now = sysctl_ints(host, name)
        if len(now) == 3:
            least, why = _pool_least(host, name, block_sockets=sockets)
            enough = max(enough_bytes // host.page_bytes, 2 * least)
            made.append(_bounds(name, now[_BINDS[name]], least, enough, why))
    backlog = sysctl_int(host, ids.NETDEV_MAX_BACKLOG)
    if backlog is not None:
        why = f"{BACKLOG_LEAST} packets: what one pass of net_rx_action() handles"
        made.append(_bounds(ids.NETDEV_MAX_BACKLOG, backlog, BACKLOG_LEAST, BACKLOG_ENOUGH, why))
    return tuple(made)


def _bounds(name: str, now: int, least: int, enough: int, why: str) -> PoolBounds:
    return PoolBounds(id=name, now=now, least=min(least, now), enough=min(enough, now), why_least=why)


def _pool_least(host: Host, name: str, *, block_sockets: bool) -> tuple[int, str]:
    """Below this a pool would not serve the host any more, and why."""
    protocol = "TCP" if name == ids.TCP_MEM else "UDP"
    smallest = POOL_LEAST_PAGES if name == ids.TCP_MEM else UDP_LEAST_PAGES
    used = 2 * host.counters.get(f"sockstat.{protocol}.mem", 0)
    own = 0
    if block_sockets:
        # Locked or at the end of tcp_rmem and tcp_wmem: with less, the block connections alone could fill tcp_mem.
        own = sum((one.sndbuf_bytes or 0) + (one.rcvbuf_bytes or 0) for one in connections_of(host))
    with_own = smallest + bytes_to_pages(own, host.page_bytes)
    choices = (
        (smallest, "what the kernel gives the smallest machine"),
        (used, "twice what is in use now"),
        (with_own, "that of the smallest machine and the block sockets' own"),
    )
    pages, why = max(choices, key=lambda choice: choice[0])
    return pages, f"{pages} pages: {why}"


def pool_values(host: Host, bounds: tuple[PoolBounds, ...], step: int) -> dict[str, str]:
    """The sysctls of all pools at a step of the search."""
    values = {}
    for pool in bounds:
        value = pool.at(step)
        if pool.id == ids.NETDEV_MAX_BACKLOG:
            values[pool.id] = str(value)
            continue
        # The kernel's own proportions: min and pressure are 1/2 and 2/3 of max (tcp_init_mem, udp_init_mem).
        low, pressure, most = sysctl_ints(host, pool.id)
        if _BINDS[pool.id] == 2:
            values[pool.id] = f"{min(low, value // 2)}\t{min(pressure, value * 2 // 3)}\t{value}"
        else:
            middle = max(value, min(pressure, value * 4 // 3))
            values[pool.id] = f"{value}\t{middle}\t{max(middle, min(most, 2 * value))}"
    return values


def binding(name: str, value: str) -> int:
    """The number of a pool's sysctl that binds: pages, or packets of the backlog."""
    return int(value.split()[_BINDS.get(name, 0)])


def with_pools(host: Host, values: Mapping[str, str]) -> Host:
    """The host with these sysctls; pools move nothing else."""
    return replace(host, sysctls={**host.sysctls, **values})


def with_least_pools(host: Host) -> Host:
    """The host with its shared pools as tight as they can be."""
    return with_pools(host, pool_values(host, pools(host), 0))


def largest_pools(host: Host, goal: Goal, most_kib: int) -> tuple[dict[str, str], int] | None:
    """The largest pools at which `most_kib` reach the goal, and the min_free_kbytes that goes with them.

    That is the least one where the pools are as large as anybody may want, else all of the share.
    """
    bounds = pools(host)

    def tried(step: int) -> tuple[dict[str, str], int] | None:
        values = pool_values(host, bounds, step)
        found = least_min_free(with_pools(host, values), goal, most_kib)
        return None if found is None else (values, found)

    if (best := tried(_STEPS)) is not None:
        return best
    step = _largest_step(lambda step: tried(step) is not None)
    return None if step is None else (pool_values(host, bounds, step), most_kib)


def _largest_step(fits: Callable[[int], bool]) -> int | None:
    """The largest step of the search that fits, where smaller ones fit too; None when none does."""
    if fits(_STEPS):
        return _STEPS
    if not fits(0):
        return None
    enough, short = 0, _STEPS
    while short - enough > 1:
        middle = (enough + short) // 2
        if fits(middle):
            enough = middle
        else:
            short = middle
    return enough


def outer_pools(host: Host) -> dict[str, str]:
    """Pools that end at a twentieth of RAM, or at their least where that is less than they need."""
    bounds = pools(host)

    def fits(step: int) -> bool:
        tried = with_pools(host, pool_values(host, bounds, step))
        return others_bounded(tried, reserve_of(tried))

    if others_bounded(host, reserve_of(host)):
        return {}
    return pool_values(host, bounds, _largest_step(fits) or 0)


def dominant(rows: tuple[Row, ...], *kinds: str) -> Row | None:
    """The largest row of these kinds; one without bound is larger than any other."""
    among = [row for row in rows if row.kind in kinds and row.pages != 0]
    return max(among, key=lambda row: float("inf") if row.pages is None else row.pages, default=None)
