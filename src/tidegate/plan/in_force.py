"""A host as it would be with settings in force: applies them to its facts, and decides nothing.

What a kernel does at once is done here too: watermarks follow vm.min_free_kbytes. What it does in time is
taken as done: kswapd has freed up to the new high watermark, connections were made again after tcp_rmem and
tcp_wmem changed. `Setting.first` says what that takes on the real host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import groupby

from tidegate import setting_ids as ids
from tidegate.host.facts import BlockUser, Host, Memory, Queue, Route, Socket, sysctl_ints
from tidegate.result import Setting
from tidegate.watermarks import Zone, setup_per_zone_wmarks, wmark_high, wmark_min


def with_settings(host: Host, settings: Iterable[Setting]) -> Host:
    """The host with all of these in force, one after the other."""
    for family, group in groupby(settings, lambda one: ids.family_of(one.id)):
        if family in ids.SYSCTLS:
            for setting in group:
                host = _SYSCTLS.get(family, _sysctl)(host, setting)
        else:
            host = _NAMED[family](host, {one.id.partition(":")[2]: one.new for one in group})
    return host


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


Values = Mapping[str, str]  # what belongs to each user, device, peer, NIC or program


def _cap(host: Host, values: Values) -> Host:
    """SO_SNDBUF and SO_RCVBUF on every connection of a user; the kernel doubles and locks what is asked."""
    asked = {name: dict(word.split("=") for word in value.split()) for name, value in values.items()}
    host = replace(host, users=tuple(_all_seen(user) if user.name in asked else user for user in host.users))

    def capped(user: BlockUser, socket: Socket) -> Socket:
        if user.name not in asked or socket.family == "unix":
            return socket
        return replace(
            socket,
            sndbuf_bytes=2 * int(asked[user.name]["SO_SNDBUF"]),
            rcvbuf_bytes=2 * int(asked[user.name]["SO_RCVBUF"]),
            sndbuf_locked=True,
            rcvbuf_locked=True,
        )

    return _block_sockets(host, capped)


def _reserve_mem(host: Host, values: Values) -> Host:
    """SO_RESERVE_MEM: what is reserved shows as forward-allocated (net/core/sock.c:sock_reserve_memory)."""

    def reserved(user: BlockUser, socket: Socket) -> Socket:
        if user.name not in values or socket.family == "unix":
            return socket
        amount = int(values[user.name].partition("=")[2])
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
            local=user.name,  # tells them from those of other users
            local_port=0,
            remote=peer.address if peer else "",
            remote_port=peer.port if peer else 0,
            inode=-number,
        )
        for number in range(1, missing + 1)
    )
    return replace(user, sockets=user.sockets + more)


def _queues(host: Host, change: Callable[[Queue], Queue]) -> Host:
    users = tuple(replace(user, queue=user.queue and change(user.queue)) for user in host.users)
    return replace(host, users=users)


def _nr_requests(host: Host, values: Values) -> Host:
    return _queues(
        host,
        lambda queue: (
            replace(queue, nr_requests=int(values[queue.device])) if queue.device in values else queue
        ),
    )


def _max_sectors(host: Host, values: Values) -> Host:
    return _queues(
        host,
        lambda queue: (
            replace(queue, max_sectors_kib=int(values[queue.device])) if queue.device in values else queue
        ),
    )


def _neighbour(host: Host, values: Values) -> Host:
    def settled(route: Route) -> Route:
        return replace(route, neighbour_state="PERMANENT") if route.neighbour in values else route

    users = tuple(replace(user, routes=tuple(map(settled, user.routes))) for user in host.users)
    return replace(host, users=users)


def _threaded(host: Host, values: Values) -> Host:
    links = tuple(
        replace(link, threaded=values[link.name] == "1") if link.name in values else link
        for link in host.links
    )
    return replace(host, links=links)


_SYSCTLS: dict[str, Callable[[Host, Setting], Host]] = {
    ids.MIN_FREE: _min_free,
    ids.WATERMARK_BOOST: _boost,
    ids.TCP_RMEM: _buffer_max,
    ids.TCP_WMEM: _buffer_max,
}
_NAMED: dict[str, Callable[[Host, Values], Host]] = {
    ids.CAP: _cap,
    ids.RESERVE_MEM: _reserve_mem,
    ids.NR_REQUESTS: _nr_requests,
    ids.MAX_SECTORS: _max_sectors,
    ids.NEIGHBOUR: _neighbour,
    ids.THREADED: _threaded,
}
