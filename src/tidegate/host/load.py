"""From a host's facts to the inputs of the sum. Decides nothing that the host does not say."""

from __future__ import annotations

from tidegate import reserve
from tidegate.drivers import driver
from tidegate.host.facts import BlockUser, Host, Link, Socket, Transport, UserKind, sysctl_int, sysctl_ints
from tidegate.result import Reserve
from tidegate.units import KIB

# Transports that carry no skbs of their own on this host.
_NO_SKBS = frozenset({Transport.RDMA})
# Transports whose connections are TCP sockets that autotune up to tcp_wmem[2] and tcp_rmem[2].
_FLAGGED = frozenset({Transport.NBD, Transport.ISCSI, Transport.NVME_TCP})
_NBD_TAGS = 128


def machine_of(host: Host) -> reserve.Machine:
    """The machine itself."""
    alloc = sysctl_int(host, "net.core.high_order_alloc_disable")
    return reserve.Machine(
        zones=host.memory.zones if host.memory else (),
        page_bytes=host.page_bytes,
        cpus=host.cpus,
        kernel=host.kernel.version,
        skb_defer_max=sysctl_int(host, "net.core.skb_defer_max"),
        high_order_alloc_disable=None if alloc is None else bool(alloc),
    )


def flagged(user: BlockUser) -> bool:
    """Does the transport set SOCK_MEMALLOC on this user's sockets: sunrpc only for swap (xs_enable_swap)."""
    return user.transport in _FLAGGED or (
        user.transport is Transport.NFS and (user.swaps or user.kind is UserKind.SWAPFILE)
    )


def _buffer(now: int | None, locked: bool | None, most: int | None, name: str) -> tuple[int | None, str]:
    """Most that a socket buffer can become, and where that is from."""
    if locked and now is not None:
        return now, "locked by the socket option"
    if most is None:
        return None, f"{name} was not read"
    return max(most, now or 0), f"not locked: grows to {name}[2]"


def _requests(user: BlockUser) -> tuple[int | None, int | None]:
    """Requests in flight and their largest size, per connection; the driver's tags bound them too."""
    if user.queue is None or user.queue.nr_requests is None or user.queue.max_sectors_kib is None:
        return None, None
    requests = user.queue.nr_requests
    if user.transport is Transport.NBD:
        requests = min(requests, _NBD_TAGS)
    return requests, user.queue.max_sectors_kib * KIB


def _connection(host: Host, user: BlockUser, socket: Socket | None, label: str) -> reserve.Connection:
    sends, receives = sysctl_ints(host, "net.ipv4.tcp_wmem"), sysctl_ints(host, "net.ipv4.tcp_rmem")
    send_max = sends[2] if len(sends) == 3 else None
    receive_max = receives[2] if len(receives) == 3 else None
    unix = socket is not None and socket.family == "unix"
    send_locked = unix or (socket.sndbuf_locked if socket else None)
    receive_locked = unix or (socket.rcvbuf_locked if socket else None)
    sndbuf, why_send = _buffer(socket.sndbuf_bytes if socket else None, send_locked, send_max, "tcp_wmem")
    rcvbuf, why_receive = _buffer(
        socket.rcvbuf_bytes if socket else None, receive_locked, receive_max, "tcp_rmem"
    )
    requests, request_bytes = _requests(user)
    return reserve.Connection(
        user=user.name,
        label=label,
        transport=user.transport.value,
        flagged=flagged(user),
        sndbuf_bytes=sndbuf,
        rcvbuf_bytes=rcvbuf,
        capped=bool(send_locked and receive_locked),
        requests=requests,
        request_bytes=request_bytes,
        measured=sndbuf is not None and rcvbuf is not None,
        why=why_send if why_send == why_receive else f"{why_send}; {why_receive}",
    )


def connections_of(host: Host) -> tuple[reserve.Connection, ...]:
    """Every connection of every block user once; those that should be there and were not seen too."""
    made: list[reserve.Connection] = []
    seen: set[tuple[object, ...]] = set()
    for user in host.users:
        if user.transport in _NO_SKBS:
            continue
        shared = 0
        for socket in user.sockets:
            key = (socket.inode, socket.local, socket.local_port, socket.remote, socket.remote_port)
            if key in seen:
                shared += 1
                continue
            seen.add(key)
            made.append(_connection(host, user, socket, f"{socket.remote}:{socket.remote_port}"))
        expected = user.connections if user.connections is not None else max(len(user.sockets), 1)
        made += [
            _connection(host, user, None, f"connection {number + 1} (not seen)")
            for number in range(len(user.sockets), expected)
        ]
    return tuple(made)


def _is_nic(link: Link) -> bool:
    return bool(link.driver) and link.up is not False and link.kind not in ("veth", "tun", "bridge", "bond")


def rings_of(host: Host) -> tuple[reserve.Ring, ...]:
    """The rings of every NIC that is up."""
    made = []
    for link in host.links:
        if not _is_nic(link):
            continue
        users = tuple(
            user.name for user in host.users if any(link.name in route.nics for route in user.routes)
        )
        row = driver(link.driver, host.kernel.version)
        features = link.features or {}
        made.append(
            reserve.Ring(
                nic=link.name,
                driver_name=link.driver,
                driver=row,
                slots=link.ring.slots,
                queues=link.ring.queues,
                mtu=link.mtu,
                xdp=link.xdp in ("native", "multi"),
                users=users,
                gro=features.get("rx-gro", True),
            )
        )
    return tuple(made)


def _limit_pages(host: Host, name: str) -> int | None:
    limits = sysctl_ints(host, name)
    return limits[2] if len(limits) == 3 else None


def pools_of(host: Host) -> tuple[reserve.Pool, ...]:
    """The shared pools that other traffic may fill."""
    made = []
    for name, what in (("tcp_mem", "TCP sockets"), ("udp_mem", "UDP sockets")):
        pages = _limit_pages(host, f"net.ipv4.{name}")
        made.append(
            reserve.Pool(
                holder=name,
                amount_bytes=None if pages is None else pages * host.page_bytes,
                why=f"{what} of everybody, in pages: {name}[2]"
                if pages is not None
                else f"{name} was not read",
                subject=f"net.ipv4.{name}",
            )
        )
    for name, what in (("net.ipv4.ipfrag_high_thresh", "IPv4"), ("net.ipv6.ip6frag_high_thresh", "IPv6")):
        amount = sysctl_int(host, name)
        made.append(
            reserve.Pool(
                holder=f"{what} fragments",
                amount_bytes=amount,
                why=f"incomplete datagrams, 30 to 60 s: {name}"
                if amount is not None
                else f"{name} was not read",
                subject=name,
            )
        )
    made += [
        reserve.Pool(
            holder=f"packet socket {socket.inode}",
            amount_bytes=socket.rcvbuf_bytes,
            why="an AF_PACKET socket that may not be read: its receive buffer",
            subject=socket.evidence,
        )
        for socket in host.packet_sockets
    ]
    backlog = sysctl_int(host, "net.core.netdev_max_backlog")
    known = backlog is not None and host.cpus is not None
    made.append(
        reserve.Pool(
            holder="softnet backlog",
            amount_bytes=(backlog or 0) * (host.cpus or 0) * host.page_bytes if known else None,
            why="packets of netif_rx and RPS before anybody looks at them: a page each, for each CPU",
            factor=False,
            subject="net.core.netdev_max_backlog",
        )
    )
    return tuple(made)


def others_of(host: Host) -> tuple[reserve.Other, ...]:
    """Everybody else who runs under PF_MEMALLOC here."""
    made = []
    for user in host.users:
        if user.transport is Transport.SMB:
            why = "cifs_demultiplex_thread() runs under PF_MEMALLOC for its whole life; nothing counts it"
            made.append(
                reserve.Other(holder="CIFS demultiplex thread", pages=None, why=why, subject=user.name)
            )
            break
    return tuple(made)


def reserve_of(host: Host) -> Reserve:
    """The itemised sum of a host."""
    return reserve.reserve(
        machine_of(host), connections_of(host), rings_of(host), pools_of(host), others_of(host)
    )
