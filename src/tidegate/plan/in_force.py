"""A host as it would be with settings in force: applies them to its facts, and decides nothing.

What a kernel does at once is done here too: watermarks follow vm.min_free_kbytes. What it does in time is
taken as done: kswapd has freed up to the new high watermark, connections were made again after tcp_rmem and
tcp_wmem changed. `Setting.first` says what that takes on the real host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tidegate import setting_ids as ids
from tidegate.host.facts import BlockUser, Host, Memory, Queue, Socket, sysctl_ints
from tidegate.result import Setting
from tidegate.watermarks import Zone, setup_per_zone_wmarks, wmark_high, wmark_min

PF_IO_FLUSHER = 0x0018_0000  # PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE (kernel/sys.c:PR_SET_IO_FLUSHER)


def with_settings(host: Host, settings: Iterable[Setting]) -> Host:
    """The host with all of these in force."""
    for setting in settings:
        host = _APPLY[ids.family_of(setting.id)](host, setting)
    return host


def _name(setting: Setting) -> str:
    """What a setting with a name belongs to."""
    return setting.id.partition(":")[2]


def _sysctl(host: Host, setting: Setting) -> Host:
    # The kernel prints the numbers of a list with tabs between (kernel/sysctl.c:do_proc_doulongvec_minmax).
    return replace(host, sysctls={**host.sysctls, setting.id: "\t".join(setting.new.split())})


def _min_free(host: Host, setting: Setting) -> Host:
    return with_min_free(_sysctl(host, setting), int(setting.new))


def marked_zones(host: Host, memory: Memory, min_free_kib: int) -> tuple[Zone, ...]:
    """All zones with the watermarks of this vm.min_free_kbytes, kswapd done."""
    scale = memory.watermark_scale_factor
    marked = setup_per_zone_wmarks(
        memory.zones,
        min_free_kib,
        scale_factor=10 if scale is None else scale,
        page_bytes=host.page_bytes,
        kernel=host.kernel.version,
    )
    # kswapd goes on until every zone is at high (mm/vmscan.c:pgdat_balanced).
    return tuple(replace(zone, free=max(zone.free, min(zone.high, zone.managed))) for zone in marked)


def with_min_free(host: Host, min_free_kib: int) -> Host:
    """The host with this vm.min_free_kbytes and every zone's watermarks as the kernel would then set them."""
    if host.memory is None:
        return host
    zones = marked_zones(host, host.memory, min_free_kib)
    return replace(
        host,
        memory=replace(host.memory, min_free_kib=min_free_kib, zones=zones),
        sysctls={**host.sysctls, ids.MIN_FREE: str(min_free_kib)},
    )


def _boost(host: Host, setting: Setting) -> Host:
    """No boost any more: the one that stands goes with kswapd's next balanced pass."""
    host = _sysctl(host, setting)
    if host.memory is None:
        return host
    zones = host.memory.zones
    if setting.new == "0":
        zones = tuple(
            replace(
                zone,
                boost=0,
                min=wmark_min(zone),
                low=max(zone.low - zone.boost, 0),
                high=wmark_high(zone),
                promo=None if zone.promo is None else max(zone.promo - zone.boost, 0),
            )
            for zone in zones
        )
    memory = replace(host.memory, watermark_boost_factor=int(setting.new), zones=zones)
    return replace(host, memory=memory)


def _scale(host: Host, setting: Setting) -> Host:
    host = _sysctl(host, setting)
    if host.memory is None:
        return host
    host = replace(host, memory=replace(host.memory, watermark_scale_factor=int(setting.new)))
    known = host.memory.min_free_kib if host.memory else None
    return host if known is None else with_min_free(host, known)


def _buffer_max(host: Host, setting: Setting) -> Host:
    """tcp_rmem or tcp_wmem: block sockets that are not locked were made again and stay below the maximum."""
    host = _sysctl(host, setting)
    most = sysctl_ints(host, setting.id)[2]

    def bounded(socket: Socket) -> Socket:
        if socket.family == "unix":
            return socket
        if setting.id == ids.TCP_RMEM and not socket.rcvbuf_locked and socket.rcvbuf_bytes is not None:
            return replace(socket, rcvbuf_bytes=min(socket.rcvbuf_bytes, most))
        if setting.id == ids.TCP_WMEM and not socket.sndbuf_locked and socket.sndbuf_bytes is not None:
            return replace(socket, sndbuf_bytes=min(socket.sndbuf_bytes, most))
        return socket

    return _block_sockets(host, lambda _user, socket: bounded(socket))


def socket_key(socket: Socket) -> tuple[object, ...]:
    """What tells one connection from another."""
    return (socket.inode, socket.local, socket.local_port, socket.remote, socket.remote_port)


def _block_sockets(host: Host, change: Callable[[BlockUser, Socket], Socket]) -> Host:
    """Changes sockets of block users, and the same sockets wherever else the host lists them."""
    changed: dict[tuple[object, ...], Socket] = {}
    for user in host.users:
        for socket in user.sockets:
            before = changed.get(socket_key(socket), socket)
            changed[socket_key(socket)] = change(user, before)

    def now(sockets: tuple[Socket, ...]) -> tuple[Socket, ...]:
        return tuple(changed.get(socket_key(socket), socket) for socket in sockets)

    users = tuple(replace(user, sockets=now(user.sockets)) for user in host.users)
    return replace(host, users=users, sockets=now(host.sockets))


def _cap(host: Host, setting: Setting) -> Host:
    """SO_SNDBUF and SO_RCVBUF on every connection of a user; the kernel doubles and locks what is asked."""
    asked = dict(word.split("=") for word in setting.new.split())
    sndbuf, rcvbuf = 2 * int(asked["SO_SNDBUF"]), 2 * int(asked["SO_RCVBUF"])
    name = _name(setting)
    host = replace(host, users=tuple(_all_seen(user) if user.name == name else user for user in host.users))

    def capped(user: BlockUser, socket: Socket) -> Socket:
        if user.name != name or socket.family == "unix":
            return socket
        return replace(
            socket, sndbuf_bytes=sndbuf, rcvbuf_bytes=rcvbuf, sndbuf_locked=True, rcvbuf_locked=True
        )

    return _block_sockets(host, capped)


def _reserve_mem(host: Host, setting: Setting) -> Host:
    """SO_RESERVE_MEM: what is reserved shows as forward-allocated (net/core/sock.c:sock_reserve_memory)."""
    name, amount = _name(setting), int(setting.new.partition("=")[2])

    def reserved(user: BlockUser, socket: Socket) -> Socket:
        if user.name != name or socket.family == "unix":
            return socket
        return replace(socket, fwd_bytes=max(socket.fwd_bytes or 0, amount))

    return _block_sockets(host, reserved)


def _all_seen(user: BlockUser) -> BlockUser:
    """A cap reaches the connections that this record could not see as well."""
    missing = (user.connections if user.connections is not None else 1) - len(user.sockets)
    peer = user.peers[0] if user.peers else None
    more = tuple(
        Socket(
            family="inet",
            kind="tcp",
            state="ESTAB",
            local="",
            local_port=0,
            remote=peer.address if peer else "",
            remote_port=peer.port if peer else 0,
            inode=-number,
        )
        for number in range(1, missing + 1)
    )
    return replace(user, sockets=user.sockets + more)


def _queue(host: Host, setting: Setting) -> Host:
    device, value = _name(setting), int(setting.new)
    family = ids.family_of(setting.id)

    def now(queue: Queue | None) -> Queue | None:
        if queue is None or queue.device != device:
            return queue
        if family == ids.NR_REQUESTS:
            return replace(queue, nr_requests=value)
        return replace(queue, max_sectors_kib=value)

    return replace(host, users=tuple(replace(user, queue=now(user.queue)) for user in host.users))


def _neighbour(host: Host, setting: Setting) -> Host:
    peer = _name(setting)
    users = tuple(
        replace(
            user,
            routes=tuple(
                replace(route, neighbour_state="PERMANENT")
                if (route.neighbour or route.peer) == peer
                else route
                for route in user.routes
            ),
        )
        for user in host.users
    )
    return replace(host, users=users)


def _threaded(host: Host, setting: Setting) -> Host:
    nic, on = _name(setting), setting.new == "1"
    links = tuple(replace(link, threaded=on) if link.name == nic else link for link in host.links)
    return replace(host, links=links)


def _ring(host: Host, setting: Setting) -> Host:
    nic, slots = _name(setting), int(setting.new)
    links = tuple(
        replace(link, ring=replace(link.ring, slots=slots)) if link.name == nic else link
        for link in host.links
    )
    return replace(host, links=links)


def _io_flusher(host: Host, setting: Setting) -> Host:
    comm = _name(setting)
    daemons = tuple(
        replace(
            daemon,
            locked_kib=daemon.resident_kib,
            threads=tuple(
                replace(thread, flags=(thread.flags or 0) | PF_IO_FLUSHER) for thread in daemon.threads
            ),
        )
        if daemon.comm == comm
        else daemon
        for daemon in host.daemons
    )
    return replace(host, daemons=daemons)


def _not_a_fact(host: Host, _setting: Setting) -> Host:
    """A host's facts do not show it, so nothing of what is judged changes."""
    return host


_APPLY: dict[str, Callable[[Host, Setting], Host]] = {
    **dict.fromkeys(ids.SYSCTLS, _sysctl),
    ids.MIN_FREE: _min_free,
    ids.WATERMARK_BOOST: _boost,
    ids.WATERMARK_SCALE: _scale,
    ids.TCP_RMEM: _buffer_max,
    ids.TCP_WMEM: _buffer_max,
    ids.CAP: _cap,
    ids.RESERVE_MEM: _reserve_mem,
    ids.NR_REQUESTS: _queue,
    ids.MAX_SECTORS: _queue,
    ids.NEIGHBOUR: _neighbour,
    ids.THREADED: _threaded,
    ids.RING: _ring,
    ids.IO_FLUSHER: _io_flusher,
    ids.EARLY_DROP: _not_a_fact,
}
