"""Block users: every swap, mount and disk whose way down ends on the network. One user for each top and leaf.

A swap over a mirror of two network disks is two users, `... via nbd0` and `... via nbd1`, each with its own
connections, so that a sum over users counts each leg once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tidegate.host import block, procfs
from tidegate.host.block import Way
from tidegate.host.daemons import role_of
from tidegate.host.facts import BlockUser, Mount, Route, Socket, Transport, UserKind
from tidegate.host.namespaces import is_container
from tidegate.host.record import Status
from tidegate.host.sockets import listening
from tidegate.host.transports import nbd
from tidegate.host.transports.ask import reach_of
from tidegate.host.transports.reach import Reach, Scene, outgoing
from tidegate.result import ChainLink, Evidence, Topic

_SWAPS = "proc/swaps"
_SOCKETS_SHOWN = 4
# Transports that a process on this machine may serve without any packet.
_PEERLESS = frozenset({Transport.UBLK, Transport.NINEP, Transport.RDMA, Transport.FUSE})


def users_of(scene: Scene, counters: Mapping[str, int]) -> tuple[BlockUser, ...]:
    """All block users, swaps first, then mounts, then disks that nothing uses."""
    used: set[str] = set()
    made: list[BlockUser] = []
    for line in _swap_lines(scene, counters):
        made += _swap_users(scene, line, used)
    under_swap = {link.name for user in made for link in user.chain if link.kind == "mount"}
    leaves = {user.leaf for user in made if user.queue is None}
    for mount in _distinct(scene.mounts):
        found = _users(
            scene,
            scene.tree.down_mount(mount),
            used,
            f"mount {mount.point}",
            UserKind.MOUNT,
            (),
            "rw" in mount.options,
        )
        # A swap file, or a loop device with swap on it, lies on this file system.
        swaps = mount.point in under_swap
        made += [replace(user, swaps=swaps or user.leaf in leaves) for user in found]
    made += _disks(scene, used)
    return tuple(made)


def _swap_lines(scene: Scene, counters: Mapping[str, int]) -> tuple[procfs.SwapLine, ...]:
    lines = scene.reading.rows(_SWAPS, Topic.USERS, procfs.swap_line, head=procfs.SWAPS_HEAD)
    total = counters.get("meminfo.SwapTotal")
    shown = sum(line.size_kib for line in lines)
    # SwapTotal is the sum over /proc/swaps, but for a moment while one is switched on or off.
    if total is not None and abs(total - shown) > max(total, shown) // 50:
        detail = f"shows {shown} kB of swap, meminfo's SwapTotal is {total} kB"
        scene.reading.gap(_SWAPS, Status.DAMAGED.value, Topic.USERS, detail)
    elif total is None and scene.reading.status(_SWAPS) is Status.ABSENT:
        scene.reading.gap(_SWAPS, "absent", Topic.USERS, "and no SwapTotal says that there is no swap")
    return lines


def _swap_users(scene: Scene, line: procfs.SwapLine, used: set[str]) -> Iterator[BlockUser]:
    kind = UserKind.SWAP if line.kind == "partition" else UserKind.SWAPFILE
    evidence = Evidence(
        source=_SWAPS, value=f"{line.path} {line.kind} {line.size_kib} kB, used {line.used_kib} kB"
    )
    top = ChainLink(
        kind="swap" if kind is UserKind.SWAP else "swapfile", name=line.path, evidence=(evidence,)
    )
    if kind is UserKind.SWAPFILE:
        ways: Iterable[Way] = scene.tree.down_file(line.path)
    else:
        device = scene.tree.find(line.path)
        unknown = Way(
            links=(ChainLink(kind="disk", name=line.path),), unknown="the record shows no such device"
        )
        ways = scene.tree.down(device) if device else (unknown,)
    zswap = (scene.reading.peek("sys/module/zswap/parameters/enabled") or "").strip() == "Y"
    for user in _users(scene, ways, used, f"swap {line.path}", kind, (top,), writable=True):
        front = ("zswap", *user.front) if zswap else user.front
        yield replace(user, swaps=True, front=front)


def _distinct(mounts: Iterable[Mount]) -> Iterator[Mount]:
    """One mount for each file system: bind mounts and subvolumes of the same one are the same user."""
    seen: set[tuple[str, str, str]] = set()
    for mount in mounts:
        key = (mount.device, mount.source if mount.device.startswith("0:") else "", mount.fstype)
        if key not in seen:
            seen.add(key)
            yield mount


def _disks(scene: Scene, used: set[str]) -> Iterator[BlockUser]:
    below = {name for one in scene.tree.devices.values() if one.kind != "partition" for name in one.lower}
    for device in list(scene.tree.devices.values()):
        # Idle nbd, loop and drbd devices hold nothing and are of size 0.
        hidden = block.is_path(device.name) or device.stacked or device.size_kib == 0
        if hidden or device.lower or device.file or device.name in used or device.name in below:
            continue
        if nbd.is_open_question(scene, device):
            scene.reading.gap(
                f"{device.folder}/pid", "not held", Topic.USERS, f"whether {device.name} is connected"
            )
            continue
        name = "disk /dev/" + device.name.replace("!", "/")
        for user in _users(scene, scene.tree.down(device), used, name, UserKind.DISK, (), writable=True):
            writable = scene.reading.word(f"{device.folder}/ro", Topic.USERS) != "1"
            yield replace(user, writable=writable)


def _users(
    scene: Scene,
    ways: Iterable[Way],
    used: set[str],
    name: str,
    kind: UserKind,
    top: tuple[ChainLink, ...],
    writable: bool,
) -> list[BlockUser]:
    reached: dict[str, tuple[Way, Reach, int]] = {}
    for way in ways:
        if way.device is not None:
            used.add(way.device.name)
        reach = reach_of(scene, way)
        if reach is not None:
            again = reached[reach.leaf][2] if reach.leaf in reached else 0
            reached.setdefault(reach.leaf, (way, reach, 0))
            reached[reach.leaf] = (*reached[reach.leaf][:2], again + 1)
    several = len(reached) > 1
    return [
        _user(scene, way, reach, f"{name} via {leaf}" if several else name, kind, top, writable, times)
        for leaf, (way, reach, times) in reached.items()
    ]


def _user(
    scene: Scene,
    way: Way,
    reach: Reach,
    name: str,
    kind: UserKind,
    top: tuple[ChainLink, ...],
    writable: bool,
    times: int,
) -> BlockUser:
    reach, beyond = _beyond_proxy(scene, reach)
    asked = map(scene.network.route_to, dict.fromkeys(one.address for one in reach.peers))
    routes = (*(reach.routes or asked), *beyond)
    local, evidence = _server(scene, reach, routes)
    _unseen_nics(scene, routes, evidence)
    peerless = reach.transport in _PEERLESS or bool(reach.userspace)
    if not reach.peers and reach.server_local is not True and not peerless:
        scene.reading.gap(
            f"peers of {reach.leaf}", "cannot be seen", Topic.NETWORK, "where its server is was not found"
        )
    return BlockUser(
        name=name,
        kind=kind,
        transport=reach.transport,
        writable=writable,
        chain=(
            *top,
            *_without_leaf(way, reach),
            *reach.links,
            *_socket_links(reach),
            *_path_links(scene, routes),
        ),
        leaf=reach.leaf,
        peers=reach.peers,
        sockets=reach.sockets,
        connections=reach.connections,
        routes=routes,
        queue=block.queue_of(scene.reading, scene.tree.queue_device(way.device)) if way.device else None,
        daemons=reach.daemons,
        server_local=local,
        server_evidence=evidence,
        userspace=(*reach.userspace, *_fuse_block(way)),
        front=way.front,
        legs=times,
        copies=way.copies,
    )


def _without_leaf(way: Way, reach: Reach) -> tuple[ChainLink, ...]:
    """The way's links; the leaf's own is left to the transport, which knows it better."""
    if reach.links and way.links and reach.links[0].name == way.links[-1].name:
        return way.links[:-1]
    return way.links


def _fuse_block(way: Way) -> tuple[str, ...]:
    """A fuseblk mount (ntfs-3g) has its process between the file system and the network disk."""
    return ("fuse",) if any(one.kind == "mount" and one.detail == "fuseblk" for one in way.links) else ()


def _beyond_proxy(scene: Scene, reach: Reach) -> tuple[Reach, tuple[Route, ...]]:
    """Where the peer is a proxy of this machine (a TLS tunnel), its own connections lead on."""
    for peer in () if reach.routes else reach.peers:
        listener = listening(scene.sockets, peer.port) if scene.network.route_to(peer.address).local else None
        for pid in listener.pids if listener else ():
            process = scene.processes.by_pid.get(pid)
            if process is None or role_of(process.comm) != "proxy":
                continue
            beyond = outgoing(scene, pid)
            seen = Evidence(source=f"proc/{pid}", value=f"{process.comm} listens on port {peer.port}")
            changed = replace(
                reach,
                links=(*reach.links, ChainLink(kind="tls-proxy", name=process.comm, evidence=(seen,))),
                sockets=(*reach.sockets, *beyond),
                connections=None if reach.connections is None else reach.connections + len(beyond),
                userspace=(*reach.userspace, f"tls-proxy {process.comm}"),
                daemons=(*reach.daemons, pid),
            )
            return changed, tuple(map(scene.network.route_to, dict.fromkeys(one.remote for one in beyond)))
    return reach, ()


def _server(scene: Scene, reach: Reach, routes: tuple[Route, ...]) -> tuple[bool | None, Evidence | None]:
    """Does the server run on this machine: by its address, or because the way ends inside the machine."""
    if reach.server_local is not None:
        return reach.server_local, reach.server_evidence
    for peer in reach.peers:
        route = scene.network.route_to(peer.address)
        if route.local:
            who = _listener(scene, peer.port)
            meaning = "the server's address is this host's own" + (f"; {who} listens there" if who else "")
            return True, Evidence(source=route.evidence, value=f"{peer.address}:{peer.port}", meaning=meaning)
    for route in routes:
        inside = "" if is_container(scene.reading) else scene.network.inside(route)
        if inside:
            meaning = "the way to the server ends in a container or guest of this machine"
            return True, Evidence(source=route.evidence, value=inside, meaning=meaning)
    return (False, None) if routes and all(route.device for route in routes) else (None, None)


def _listener(scene: Scene, port: int) -> str:
    """Who listens on a port here: a process, or the kernel (nvmet, nfsd)."""
    found = listening(scene.sockets, port)
    if found is None or not found.owners_known:
        return ""
    names = [scene.processes.by_pid[pid].comm for pid in found.pids if pid in scene.processes.by_pid]
    return ", ".join(dict.fromkeys(names)) or "the kernel itself"


def _unseen_nics(scene: Scene, routes: tuple[Route, ...], server: Evidence | None) -> None:
    """A way that ends at no NIC and not inside this machine: what carries it is not known."""
    for route in routes:
        if not route.local and not route.nics and not (server and server.source == route.evidence):
            detail = f"what carries {route.device or 'the way'} to {route.peer}"
            scene.reading.gap(f"sys/class/net/{route.device}", "cannot be seen", Topic.NETWORK, detail)


def _socket_links(reach: Reach) -> Iterator[ChainLink]:
    """A link for each connection, or one for all to a peer where they are many."""
    by_peer: dict[tuple[str, int], list[Socket]] = {}
    for one in reach.sockets:
        by_peer.setdefault((one.remote, one.remote_port), []).append(one)
    for (address, port), found in by_peer.items():
        evidence = [Evidence(source=one.evidence, value=f"inode {one.inode}, {one.state}") for one in found]
        if len(found) > _SOCKETS_SHOWN:
            name = f"{len(found)} connections to {address}:{port}"
            yield ChainLink(kind="socket", name=name, evidence=tuple(evidence[:_SOCKETS_SHOWN]))
            continue
        for one, seen in zip(found, evidence, strict=True):
            name = f"{one.local}:{one.local_port} to {address}:{port}"
            yield ChainLink(kind="socket", name=name, detail=one.state, evidence=(seen,))


def _path_links(scene: Scene, routes: tuple[Route, ...]) -> Iterator[ChainLink]:
    shown: set[str] = set()
    for route in routes:
        detail = (
            "this host"
            if route.local
            else f"{'via ' + route.gateway + ' ' if route.gateway else ''}dev {route.device}"
        )
        neighbour = (
            (Evidence(source=route.neighbour, value=route.neighbour_state, meaning="neighbour"),)
            if route.neighbour_state
            else ()
        )
        yield ChainLink(
            kind="route",
            name=route.peer,
            detail=detail,
            evidence=(Evidence(source=route.evidence, value=route.device), *neighbour),
        )
        for name in route.links:
            if name not in shown:
                shown.add(name)
                yield _net_link(scene, name, nic=name in route.nics)


def _net_link(scene: Scene, name: str, *, nic: bool) -> ChainLink:
    link = scene.network.links.get(name)
    if link is None:
        return ChainLink(kind="link", name=name)
    kind = "nic" if nic else link.kind or "link"
    return ChainLink(
        kind=kind,
        name=name,
        detail=link.driver if nic else link.bond_mode or "",
        evidence=(Evidence(source=link.evidence, value=link.driver or link.kind or "plain"),),
    )
