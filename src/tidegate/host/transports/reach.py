"""What a transport says of a leaf, and what it may look at to say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.host import sockets
from tidegate.host.block import Tree
from tidegate.host.facts import Kernel, Mount, Peer, Route, Socket, Transport
from tidegate.host.network import Network
from tidegate.host.processes import Process, Processes
from tidegate.host.reading import Reading
from tidegate.result import ChainLink, Evidence, Topic

# Ports of other kernel transports: a socket there is never another device's.
KNOWN_PORTS = {
    3260: "iscsi",
    4420: "nvme-tcp",
    2049: "nfs",
    445: "smb",
    564: "9p",
    3300: "ceph",
    6789: "ceph",
}


@dataclass(slots=True, kw_only=True)
class Scene:
    """The parts of a host that transports look at."""

    reading: Reading
    kernel: Kernel
    processes: Processes
    sockets: tuple[Socket, ...]
    network: Network
    tree: Tree
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How one leaf is reached."""

    transport: Transport
    leaf: str
    links: tuple[ChainLink, ...] = ()  # from the leaf to the sockets
    peers: tuple[Peer, ...] = ()
    sockets: tuple[Socket, ...] = ()
    connections: int | None = None
    daemons: tuple[int, ...] = ()
    userspace: tuple[str, ...] = ()
    server_local: bool | None = None  # when the transport knows it by itself
    server_evidence: Evidence | None = None
    routes: tuple[Route, ...] = ()  # where there is no address to ask a route for


def link(kind: str, name: str, source: str, value: str, *, detail: str = "") -> ChainLink:
    """A link of a chain with its one piece of evidence."""
    return ChainLink(kind=kind, name=name, detail=detail, evidence=(Evidence(source=source, value=value),))


def alive(found: Iterable[Socket]) -> tuple[Socket, ...]:
    """TCP connections that are up or coming up."""
    return tuple(
        one
        for one in found
        if one.kind in ("tcp", "mptcp") and one.state not in ("LISTEN", "TIME-WAIT", "CLOSE")
    )


def peers_of(found: Iterable[Socket]) -> tuple[Peer, ...]:
    """Where sockets lead, each place once."""
    made: dict[tuple[str, int], Peer] = {}
    for one in found:
        made.setdefault(
            (one.remote, one.remote_port),
            Peer(address=one.remote, port=one.remote_port, evidence=one.evidence),
        )
    return tuple(made.values())


def owned_by(scene: Scene, pid: int) -> tuple[Socket, ...]:
    """The TCP connections a process holds."""
    inodes = set(scene.processes.sockets_of(pid))
    return alive(one for one in scene.sockets if one.inode in inodes or pid in one.pids)


def outgoing(scene: Scene, pid: int) -> tuple[Socket, ...]:
    """The TCP connections of a process that it made itself, not those that somebody made to it."""
    ports = {one.local_port for one in scene.sockets if one.state == "LISTEN"}
    return tuple(one for one in owned_by(scene, pid) if one.local_port not in ports)


def to_peers(scene: Scene, peers: Iterable[Peer]) -> tuple[Socket, ...]:
    """The connections to any of the peers, each once."""
    made: dict[tuple[str, int, str, int], Socket] = {}
    for peer in peers:
        for one in sockets.to_peer(scene.sockets, peer.address, peer.port):
            made[one.local, one.local_port, one.remote, one.remote_port] = one
    return tuple(made.values())


def kernel_owned(scene: Scene, ports: Iterable[int] | None = None) -> tuple[Socket, ...]:
    """Connections that no process holds; only to some remote ports, or to none that another transport has."""
    wanted = None if ports is None else frozenset(ports)
    return tuple(
        one
        for one in alive(scene.sockets)
        if one.owners_known
        and not one.pids
        and (one.remote_port in wanted if wanted is not None else one.remote_port not in KNOWN_PORTS)
    )


def no_sockets(scene: Scene, leaf: str, path: str, why: str) -> None:
    """The connections of a leaf are not known: a gap."""
    scene.reading.gap(path, "cannot be seen", Topic.SOCKETS, f"connections of {leaf}: {why}")


def pids(found: Iterable[Process]) -> tuple[int, ...]:
    """The ids of processes."""
    return tuple(one.pid for one in found)
