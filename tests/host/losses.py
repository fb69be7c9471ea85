"""What one reading of a host knows less than another: facts that went away, as words."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.host.facts import BlockUser, Daemon, Host, Link, Queue


def losses(whole: Host, less: Host) -> list[str]:
    """Facts of `whole` that `less` does not have."""
    return [*_users(whole, less), *_memory(whole, less), *_rest(whole, less)]


def _users(whole: Host, less: Host) -> Iterator[str]:
    kept = {user.name: user for user in less.users}
    for user in whole.users:
        if user.name not in kept:
            yield f"user {user.name}"
        else:
            yield from (f"{user.name}: {what}" for what in _user(user, kept[user.name]))


def _user(whole: BlockUser, less: BlockUser) -> Iterator[str]:
    if whole.transport is not less.transport:
        yield f"transport {whole.transport} became {less.transport}"
    for name in ("sockets", "peers", "daemons", "userspace"):
        if len(getattr(less, name)) < len(getattr(whole, name)):
            yield name
    if whole.server_local and not less.server_local:
        yield "server on this machine"
    if {nic for one in whole.routes for nic in one.nics} - {nic for one in less.routes for nic in one.nics}:
        yield "nics"
    if whole.connections is not None and (less.connections or 0) < whole.connections:
        yield "connections"
    if whole.swaps and not less.swaps:
        yield "swaps"
    buffers = [one for one in whole.sockets if one.rcvbuf_bytes is not None]
    if len([one for one in less.sockets if one.rcvbuf_bytes is not None]) < len(buffers):
        yield "buffers"
    yield from _queue(whole.queue, less.queue)


def _queue(whole: Queue | None, less: Queue | None) -> Iterator[str]:
    for name in ("nr_requests", "max_sectors_kib"):
        if whole and getattr(whole, name) is not None and (less is None or getattr(less, name) is None):
            yield f"queue {name}"


def _memory(whole: Host, less: Host) -> Iterator[str]:
    if whole.memory is None:
        return
    if less.memory is None:
        yield "memory"
        return
    if len(less.memory.zones) < len(whole.memory.zones):
        yield "zones"
    for name in (
        "min_free_kib",
        "watermark_scale_factor",
        "watermark_boost_factor",
        "thp_enabled",
        "total_kib",
    ):
        if getattr(whole.memory, name) is not None and getattr(less.memory, name) is None:
            yield f"memory {name}"


def _rest(whole: Host, less: Host) -> Iterator[str]:
    if less.cpus is None and whole.cpus is not None:
        yield "cpus"
    links = {link.name: link for link in less.links}
    for link in whole.links:
        yield from (f"link {link.name}: {what}" for what in _link(link, links.get(link.name)))
    if len(less.packet_sockets) < len(whole.packet_sockets):
        yield "packet sockets"
    daemons = {daemon.pid: daemon for daemon in less.daemons}
    for daemon in whole.daemons:
        yield from (f"daemon {daemon.pid}: {what}" for what in _daemon(daemon, daemons.get(daemon.pid)))
    for name in ("net.ipv4.tcp_mem", "net.ipv4.udp_mem", "net.ipv4.tcp_wmem", "vm.min_free_kbytes"):
        if name in whole.sysctls and name not in less.sysctls:
            yield name
    if whole.modules - less.modules:
        yield "modules"


def _link(whole: Link, less: Link | None) -> Iterator[str]:
    if less is None:
        yield "gone"
        return
    if set(whole.lower) - set(less.lower):
        yield "lower"
    for name in ("driver", "bond_mode", "threaded", "kind"):
        if getattr(whole, name) and not getattr(less, name):
            yield name
    if whole.ring.slots is not None and less.ring.slots is None:
        yield "ring"


def _daemon(whole: Daemon, less: Daemon | None) -> Iterator[str]:
    if less is None:
        yield "gone"
        return
    if len(less.threads) < len(whole.threads):
        yield "threads"
    if [one for one in less.threads if one.flags is None]:
        yield "flags"
    if whole.memory_max is not None and less.memory_max_known and less.memory_max is None:
        yield "memory.max"
    for name in ("locked_kib", "oom_score_adj", "cgroup"):
        if getattr(whole, name) is not None and getattr(less, name) is None:
            yield name
