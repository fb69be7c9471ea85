"""From a host's facts to the inputs of the sum. Decides nothing that the host does not say.

What could not be read is never taken to be small: its row then has no bound.
"""

from __future__ import annotations

from tidegate import frames, reserve
from tidegate.drivers import driver
from tidegate.host.facts import BlockUser, Host, Link, Socket, Transport, UserKind, sysctl_int, sysctl_ints
from tidegate.result import Reserve, Topic
from tidegate.units import KIB, MIB

# Transports that carry no skbs of their own on real hardware.
_NO_SKBS = frozenset({Transport.RDMA})
# The callers of sk_set_memalloc() besides sunrpc and WireGuard.
_FLAGGED = frozenset({Transport.NBD, Transport.ISCSI, Transport.NVME_TCP})
_FRAG_DEFAULT_BYTES = 4 * MIB  # IPV6_FRAG_HIGH_THRESH
_TUN_QUEUE = 1000  # tx_queue_len of a tap; 500 of a tun
_SKB_MAX = 64 * KIB
_VERDICTS = 1024  # NFQNL_QMAX_DEFAULT
_CONNTRACK = 320  # an entry of nf_conntrack with its usual extensions
_QDISC = 32 * MIB  # memory_limit of fq_codel
_SWAP_CLUSTER_MAX = 32  # pages that reclaim takes off the lists at once
_XFS_BUFFER = 64 * KIB  # XFS_MAX_BLOCKSIZE
_NFS_REQUEST = 12 * KIB  # nfs_page 32 of 192, nfs_direct_req, nfs_pgio_header, rpc_task and its buffer


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
        memalloc_key=bool(_wireguard(host)),
    )


def _wireguard(host: Host) -> list[str]:
    """Its sockets carry SOCK_MEMALLOC (drivers/net/wireguard/socket.c:set_sock_opts)."""
    return [link.name for link in host.links if link.kind == "wireguard" and link.up is not False]


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
        requests = min(requests, frames.NBD_TAGS)
    return requests, user.queue.max_sectors_kib * KIB


def _third(host: Host, name: str) -> int | None:
    """The maximum of a sysctl of three numbers."""
    numbers = sysctl_ints(host, name)
    return numbers[2] if len(numbers) == 3 else None


def _connection(host: Host, user: BlockUser, socket: Socket | None, label: str) -> reserve.Connection:
    unix = socket is not None and socket.family == "unix"  # its buffers never grow by themselves
    send_locked = unix or (socket.sndbuf_locked if socket else None)
    receive_locked = unix or (socket.rcvbuf_locked if socket else None)
    send_now = socket.sndbuf_bytes if socket else None
    receive_now = socket.rcvbuf_bytes if socket else None
    sndbuf, why_send = _buffer(send_now, send_locked, _third(host, "net.ipv4.tcp_wmem"), "tcp_wmem")
    rcvbuf, why_receive = _buffer(receive_now, receive_locked, _third(host, "net.ipv4.tcp_rmem"), "tcp_rmem")
    requests, request_bytes = _requests(user)
    return reserve.Connection(
        user=user.name,
        label=label,
        transport=user.transport.value,
        flagged=flagged(user),
        sndbuf_bytes=sndbuf,
        rcvbuf_bytes=rcvbuf,
        requests=requests,
        request_bytes=request_bytes,
        measured=socket is not None and sndbuf is not None and rcvbuf is not None,
        why_sndbuf=why_send,
        why_rcvbuf=why_receive,
    )


def _label(user: BlockUser, socket: Socket) -> str:
    """The server's end; with the own port where a user has several connections to it."""
    if not socket.remote:
        return f"socket {socket.inode}"
    peers = [(other.remote, other.remote_port) for other in user.sockets]
    peer = f"{socket.remote}:{socket.remote_port}"
    several = peers.count((socket.remote, socket.remote_port)) > 1
    return f"{peer} from port {socket.local_port}" if several else peer


def connections_of(host: Host) -> tuple[reserve.Connection, ...]:
    """Every connection of every block user once; those that should be there and were not seen too."""
    made: list[reserve.Connection] = []
    seen: set[tuple[object, ...]] = set()
    for user in host.users:
        if user.transport in _NO_SKBS:
            continue
        for socket in user.sockets:
            key = (socket.inode, socket.local, socket.local_port, socket.remote, socket.remote_port)
            if key in seen:
                continue  # several disks of one session, several mounts of one server
            seen.add(key)
            made.append(_connection(host, user, socket, _label(user, socket)))
        expected = user.connections if user.connections is not None else max(len(user.sockets), 1)
        made += [
            _connection(host, user, None, f"{user.name}, connection {number + 1} (not seen)")
            for number in range(len(user.sockets), expected)
        ]
    return tuple(made)


def _users_on(host: Host, link: Link) -> tuple[str, ...]:
    return tuple(user.name for user in host.users if any(link.name in route.nics for route in user.routes))


def _is_nic(host: Host, link: Link) -> bool:
    """A device at the bottom, in use: one with a driver of its own, or one that a block user stands on."""
    if link.name == "lo" or link.up is False:
        return False
    return bool(_users_on(host, link)) or (bool(link.driver) and link.kind in ("", "veth", "tun"))


def _unseen_rings(host: Host) -> list[reserve.Ring]:
    """A ring without a driver for everything that should be there and could not be read."""
    made = []
    if not host.links:
        made.append(reserve.Ring(nic="?", driver_name="", driver=None, slots=None, queues=None))
    seen = {link.name for link in host.links}
    for user in host.users:
        away = [route for route in user.routes if not route.local]
        lost = any(not route.nics or not seen.issuperset(route.nics) for route in away)
        lost = lost or (not user.routes and user.server_local is not True)
        if lost and user.transport not in _NO_SKBS:
            name = f"the NIC of {user.name}"
            made.append(
                reserve.Ring(
                    nic=name, driver_name="", driver=None, slots=None, queues=None, users=(user.name,)
                )
            )
    return made


def rings_of(host: Host) -> tuple[reserve.Ring, ...]:
    """The rings of every NIC that is up, and of those that must exist and were not seen."""
    made = [
        reserve.Ring(
            nic=link.name,
            driver_name=link.driver or link.kind,
            driver=driver(link.driver or link.kind, host.kernel.version),
            slots=link.ring.slots,
            slots_max=link.ring.slots_max,
            queues=link.ring.queues,
            mtu=link.mtu,
            xdp=link.xdp in ("native", "multi"),
            users=_users_on(host, link),
        )
        for link in host.links
        if _is_nic(host, link)
    ]
    return (*made, *_unseen_rings(host))


def udp_batch_pages(host: Host) -> int | None:
    """What UDP sockets may hold beyond udp_mem[0]; None when it or the number of CPUs was hidden.

    Each CPU charges the protocol in batches (proto_memory_pcpu_drain()): what it took since the last one is not
    in the total that is compared. SK_MEMORY_PCPU_RESERVE is 1 MiB, a sysctl since 6.7 (12a686c2e761). Kernels
    before 6.0 (3cd3399dd7a8) charge at once, but vendors took the batches back into theirs.
    """
    name = "net.core.mem_pcpu_rsv"
    batch = sysctl_int(host, name)
    if host.cpus is None or (batch is None and _hidden(host, name)):
        return None
    return (MIB // host.page_bytes if batch is None else batch) * host.cpus


def _hidden(host: Host, name: str) -> bool:
    """Was a sysctl there, but not to be read: its default may not stand in."""
    return name in host.sysctls or any(gap.path.endswith(name.replace(".", "/")) for gap in host.gaps)


def _protocol_pools(host: Host) -> list[reserve.Pool]:
    tcp = _third(host, "net.ipv4.tcp_mem")
    return [
        reserve.Pool(
            holder="TCP sockets",
            amount_bytes=None if tcp is None else tcp * host.page_bytes,
            why="tcp_mem was not read" if tcp is None else "what all of them may hold, in pages: tcp_mem[2]",
            subject="net.ipv4.tcp_mem",
        ),
        _udp_pool(host),
    ]


def _udp_pool(host: Host) -> reserve.Pool:
    """UDP has no memory_pressure, so that __sk_mem_raise_allocated() refuses it from udp_mem[0] on, not from [2].

    Above [0] a socket still gets its least (sk_get_rmem0(): udp_rmem_min): as many pages as there are sockets,
    which nothing counts here.
    """
    numbers = sysctl_ints(host, "net.ipv4.udp_mem")
    batch = udp_batch_pages(host)
    amount = None
    if len(numbers) != 3:
        why = "udp_mem was not read"
    elif batch is None:
        why = "the number of CPUs or mem_pcpu_rsv was not read: each CPU may let more through than udp_mem[0]"
    else:
        amount = (numbers[0] + batch) * host.page_bytes
        why = (
            f"what all of them may hold, in pages: udp_mem[0], {numbers[0]}, from which UDP is refused "
            f"(__sk_mem_raise_allocated: it has no memory_pressure), and {batch} of the CPUs' batches "
            "(SK_MEMORY_PCPU_RESERVE); each socket's least, udp_rmem_min, comes on top"
        )
    return reserve.Pool(holder="UDP sockets", amount_bytes=amount, why=why, subject="net.ipv4.udp_mem")


def _fragment_pools(host: Host) -> list[reserve.Pool]:
    """Incomplete datagrams: one limit a protocol, and one more where connection tracking reassembles IPv6."""
    lists = [
        ("IPv4 fragments", "net.ipv4.ipfrag_high_thresh", 30),
        ("IPv6 fragments", "net.ipv6.ip6frag_high_thresh", 60),
    ]
    if "nf_defrag_ipv6" in host.modules:
        lists.append(
            ("IPv6 fragments of connection tracking", "net.netfilter.nf_conntrack_frag6_high_thresh", 60)
        )
    made = []
    for holder, name, seconds in lists:
        amount, measured = sysctl_int(host, name), True
        if amount is None and not _hidden(host, name) and not name.startswith("net.ipv4"):
            amount, measured = _FRAG_DEFAULT_BYTES, False
        why = f"incomplete datagrams, up to {seconds} s: {name}"
        if amount is None:
            why = f"{name} was not read"
        elif not measured:
            why += " is not there; the kernel's default stands in"
        made.append(
            reserve.Pool(holder=holder, amount_bytes=amount, why=why, subject=name, measured=measured)
        )
    return made


def _socket_pools(host: Host) -> list[reserve.Pool]:
    """Sockets that no protocol's limit covers: packet and raw sockets hold what their own buffer allows."""
    made = [
        reserve.Pool(
            holder=f"packet socket {socket.inode} (ethertype 0x{socket.protocol:04x})",
            amount_bytes=socket.rcvbuf_bytes,
            why="parks packets until somebody reads it: its receive buffer",
            subject=socket.evidence,
        )
        for socket in host.packet_sockets
    ]
    made += [
        reserve.Pool(
            holder=f"raw socket {socket.inode}",
            amount_bytes=socket.rcvbuf_bytes,
            why="parks packets until somebody reads it: its receive buffer",
            subject=socket.evidence,
        )
        for socket in host.sockets
        if socket.kind == "raw"
    ]
    return made


def _queue_pools(host: Host) -> list[reserve.Pool]:
    """Queues that count packets or entries instead of bytes."""
    made = []
    backlog = sysctl_int(host, "net.core.netdev_max_backlog")
    merged = any(link.rps is not False for link in host.links if _is_nic(host, link))  # GRO comes before RPS
    each = _SKB_MAX if merged or any(link.kind == "veth" for link in host.links) else host.page_bytes
    why = "packets of netif_rx and RPS before anybody looks at them"
    if backlog is None or host.cpus is None:
        amount, why = None, "netdev_max_backlog or the number of CPUs was not read"
    else:
        amount = backlog * host.cpus * each
        why += f": {backlog} of {each} bytes for each of {host.cpus} CPUs"
    made.append(
        reserve.Pool(
            holder="softnet backlog",
            amount_bytes=amount,
            why=why,
            factor=False,
            subject="net.core.netdev_max_backlog",
        )
    )
    made += [
        reserve.Pool(
            holder=f"queue of {link.name}",
            amount_bytes=_TUN_QUEUE * (link.ring.queues or 1) * _SKB_MAX,
            why=f"a tap that is not read keeps up to {_TUN_QUEUE} packets of 64 KiB a queue (tun_net_xmit)",
            factor=False,
            subject=link.name,
            measured=False,
        )
        for link in host.links
        if link.kind in ("tun", "macvtap") and link.up is not False
    ]
    return made + _verdict_queue_pools(host) + _conntrack_pools(host) + _forwarded_pools(host)


def _verdict_queue_pools(host: Host) -> list[reserve.Pool]:
    """Packets that wait for a program's verdict (nfqnl_enqueue_packet); a program may ask for longer queues."""
    name = "proc/net/netfilter/nfnetlink_queue"
    if "nfnetlink_queue" not in host.modules and name not in host.texts:
        return []
    queues = [line for line in host.texts.get(name, "").splitlines() if line.strip()]
    read = name in host.texts
    if read and not queues:
        return []
    return [
        reserve.Pool(
            holder="NFQUEUE",
            amount_bytes=len(queues) * _VERDICTS * _SKB_MAX if read else None,
            why=f"{len(queues)} queues of {_VERDICTS} packets of 64 KiB" if read else f"{name} was not read",
            factor=False,
            subject=name,
            measured=False,
        )
    ]


def _conntrack_pools(host: Host) -> list[reserve.Pool]:
    """Entries of connection tracking: slab pages taken with GFP_ATOMIC, held until they time out."""
    name = "net.netfilter.nf_conntrack_max"
    entries = sysctl_int(host, name)
    if entries is None and "nf_conntrack" not in host.modules:
        return []
    why = (
        f"{entries:,} entries of {_CONNTRACK} bytes: {name}"
        if entries is not None
        else f"{name} was not read"
    )
    amount = None if entries is None else entries * _CONNTRACK
    return [
        reserve.Pool(holder="connection tracking", amount_bytes=amount, why=why, factor=False, subject=name)
    ]


def _forwarded_pools(host: Host) -> list[reserve.Pool]:
    """Packets that this host passes on wait in the queue of the NIC they leave by (ip_forward: no test)."""
    if sysctl_int(host, "net.ipv4.ip_forward") != 1:
        return []
    return [
        reserve.Pool(
            holder=f"packets forwarded to {link.name}",
            amount_bytes=_QDISC * (link.ring.queues or 1),
            why="32 MiB a queue, the limit of fq_codel, until the NIC has sent them: net.ipv4.ip_forward",
            factor=False,
            subject=link.name,
            measured=False,
        )
        for link in host.links
        if _is_nic(host, link)
    ]


def pools_of(host: Host) -> tuple[reserve.Pool, ...]:
    """The shared pools and queues that other traffic may fill."""
    return (*_protocol_pools(host), *_fragment_pools(host), *_socket_pools(host), *_queue_pools(host))


def _reclaimers(host: Host) -> reserve.Other:
    """kswapd, direct and memcg reclaim."""
    fronts = sorted(
        {front for user in host.users for front in user.front if front.startswith(("zswap", "zram"))}
    )
    if not fronts:
        why = (
            "reclaim runs under PF_MEMALLOC, but what it allocates on the way to a block device is refused the "
            "reserve (add_to_swap, mempool_alloc: __GFP_NOMEMALLOC); what its sends take is in the rows above"
        )
        return reserve.Other(holder="kswapd, direct and memcg reclaim", pages=0, why=why)
    nodes = max(host.memory.nodes, 1) if host.memory else 1
    pages = None if host.cpus is None else (host.cpus + nodes) * _SWAP_CLUSTER_MAX
    why = (
        f"{', '.join(fronts)}: a compressed copy is stored under PF_MEMALLOC before the page itself is free; "
        "one batch of 32 pages for each CPU and each kswapd"
    )
    return reserve.Other(holder="kswapd, direct and memcg reclaim", pages=pages, why=why, measured=False)


def _nfs_requests(host: Host) -> list[reserve.Other]:
    """Swap over NFS: what nfs_swap_rw() and the rpc tasks allocate under PF_MEMALLOC, beside the data sent.

    swap_writepage_fs() takes its swap_iocb from a mempool, which refuses the reserve: once memory is short no
    more than the 32 of the pool are under way. Each makes a direct request, up to 32 nfs_page, its write
    headers, rpc tasks and their buffers.
    """
    names = [user.name for user in host.users if user.transport is Transport.NFS and flagged(user)]
    if not any(user.swaps or user.kind is UserKind.SWAPFILE for user in host.users if user.name in names):
        return []
    why = (
        f"up to {_SWAP_CLUSTER_MAX} swap requests of {_SWAP_CLUSTER_MAX} pages (mm/page_io.c:sio_pool), each "
        f"with {_NFS_REQUEST // KIB} KiB of nfs_page, write headers and rpc tasks"
    )
    pages = _SWAP_CLUSTER_MAX * _NFS_REQUEST // host.page_bytes
    return [reserve.Other(holder="NFS swap requests", pages=pages, why=why, subject=names[0], measured=False)]


def others_of(host: Host) -> tuple[reserve.Other, ...]:
    """Everybody else who runs under PF_MEMALLOC here, or whose socket is flagged."""
    made = [_reclaimers(host), *_nfs_requests(host)]
    smb = [user.name for user in host.users if user.transport is Transport.SMB]
    smb += [mount.point for mount in host.mounts if mount.fstype in ("cifs", "smb3") and not smb]
    if smb:
        why = (
            "cifs_demultiplex_thread() runs under PF_MEMALLOC for its whole life; nothing bounds or counts it"
        )
        made.append(reserve.Other(holder="CIFS demultiplex thread", pages=None, why=why, subject=smb[0]))
    xfs = sorted({mount.device for mount in host.mounts if mount.fstype == "xfs"})
    if xfs:
        why = (
            "xfsaild() runs under PF_MEMALLOC; its bios come from a mempool, which refuses the reserve: "
            "it takes at most the buffer it works on, one a file system"
        )
        pages = len(xfs) * _XFS_BUFFER // host.page_bytes
        made.append(
            reserve.Other(holder="XFS AIL", pages=pages, why=why, subject=", ".join(xfs), measured=False)
        )
    if any(mount.fstype == "bcachefs" for mount in host.mounts):
        why = "journal reclaim runs under PF_MEMALLOC; nothing bounds or counts what it takes"
        made.append(reserve.Other(holder="bcachefs journal reclaim", pages=None, why=why))
    tunnels = _wireguard(host)
    if tunnels:
        why = (
            "its UDP sockets are flagged: 4096 handshakes and 1024 packets a peer may wait for its workers, "
            "and the number of peers is not read"
        )
        made.append(reserve.Other(holder="WireGuard", pages=None, why=why, subject=tunnels[0]))
    return tuple(made)


def reserve_of(host: Host) -> Reserve:
    """The itemised sum of a host; without block users only what others take and pin."""
    others = others_of(host) if host.users or _users_unknown(host) else ()
    return reserve.reserve(machine_of(host), connections_of(host), rings_of(host), pools_of(host), others)


def _users_unknown(host: Host) -> bool:
    return any(gap.topic is Topic.USERS for gap in host.gaps)
