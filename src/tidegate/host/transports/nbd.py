"""Network block devices (drivers/block/nbd.c).

`sys/block/nbdN/pid` is the process that set the device up. A client that uses ioctls stays in NBD_DO_IT and keeps
its socket; one that uses netlink exits, and the socket then belongs to no process. A process that is itself the
server (qemu-nbd, nbdkit, rbd-nbd) hands the kernel one end of a UNIX socket pair and keeps the other.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tidegate.host.block import Device
from tidegate.host.facts import Socket, Transport
from tidegate.host.processes import Process
from tidegate.host.record import Status
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_NAME = re.compile(r"nbd\d+$")
_PORT = 10809
_SERVERS = ("nbdkit.*", "qemu-nbd", "nbd-server", "qemu-storage-d.*", "rbd-nbd")


def of_device(scene: Scene, device: Device) -> Reach | None:
    """How an nbd device is connected, or None for another device or one that is not connected."""
    if not _NAME.match(device.name):
        return None
    path = f"{device.folder}/pid"
    if scene.reading.status(path) is Status.ABSENT and device.size_kib == 0:
        return None
    pid = scene.reading.number(path, Topic.SOCKETS, must=True)
    link = _link(scene, device, path, pid)
    process = scene.processes.by_pid.get(pid) if pid is not None else None
    if process is not None and (_serves_itself(process) or _keeps(scene, process, device)):
        return _served_here(scene, device, link, (process,))
    if process is not None and not process.files_known:
        scene.reading.gap(f"proc/{pid}/fd", "denied", Topic.SOCKETS, f"which sockets {device.name} has")
    held = reach.owned_by(scene, pid) if pid is not None else ()
    if held:
        return _plain(scene, device, link, held, f"set up by ioctl: process {pid} keeps the socket", process)
    servers = scene.processes.named(*_SERVERS)
    if process is not None and _client(process) and process.files_known and servers:
        return _served_here(scene, device, link, (process, *servers))
    found = _without_owner(scene)
    if not servers and process is not None and not _client(process):
        servers = (process,)
    if not found and servers and scene.processes.complete:
        return _served_here(scene, device, link, servers)
    if not found:
        reach.no_sockets(scene, device.name, path, "no process holds one, and none without owner was seen")
    keeper = process if process is not None and _client(process) else None
    style = "no process is known to keep the socket"
    if pid is not None and scene.processes.complete:
        style = "set up by netlink: no process keeps the socket"
    return _plain(scene, device, link, found, style, keeper)


def is_open_question(scene: Scene, device: Device) -> bool:
    """The record shows neither who set it up nor its size: it may be one of the many that are not connected."""
    status = scene.reading.status(f"{device.folder}/pid")
    return bool(_NAME.match(device.name)) and status is Status.NOT_HELD and device.size_kib is None


def _plain(
    scene: Scene,
    device: Device,
    link: ChainLink,
    found: tuple[Socket, ...],
    style: str,
    process: Process | None,
) -> Reach:
    """A connection over TCP, with the client in the path where it is still there."""
    sure = process is not None or len(_connected(scene)) == 1
    return Reach(
        transport=Transport.NBD,
        leaf=device.name,
        links=(replace(link, detail=style),),
        peers=reach.peers_of(found),
        sockets=found,
        connections=len(found) if found and sure else None,
        daemons=() if process is None else (process.pid,),
    )


def _link(scene: Scene, device: Device, path: str, pid: int | None) -> ChainLink:
    shown = "not read" if pid is None else str(pid)
    evidence = [Evidence(source=path, value=shown, meaning="the process that set it up")]
    backend = (scene.reading.peek(f"{device.folder}/backend") or "").strip()
    if backend:
        evidence.append(Evidence(source=f"{device.folder}/backend", value=backend))
    return ChainLink(kind="nbd", name=device.name, evidence=tuple(evidence))


def _connected(scene: Scene) -> list[str]:
    """The nbd devices that are set up."""
    names = [one for one in scene.tree.devices if _NAME.match(one)]
    return [name for name in names if scene.reading.has(f"sys/block/{name}/pid")]


def _client(process: Process) -> bool:
    return process.comm.startswith("nbd-client")


def _serves_itself(process: Process) -> bool:
    return any(re.fullmatch(name, process.comm) for name in _SERVERS)


def _keeps(scene: Scene, process: Process, device: Device) -> bool:
    """A server of any name: in NBD_DO_IT (it has the device open), is no client, and has no connection to a server."""
    return (
        f"/dev/{device.name}" in process.files
        and not _client(process)
        and not reach.owned_by(scene, process.pid)
    )


def _without_owner(scene: Scene) -> tuple[Socket, ...]:
    """Sockets of a netlink client: to the assigned port, else any that no process and no other transport has."""
    named = reach.kernel_owned(scene, (_PORT,)) or reach.kernel_owned(scene)
    if named or scene.processes.complete:
        return named
    return tuple(one for one in reach.alive(scene.sockets) if one.remote_port == _PORT and not one.pids)


def _served_here(scene: Scene, device: Device, link: ChainLink, processes: tuple[Process, ...]) -> Reach:
    """A server on this machine behind a UNIX socket; its own connections lead on to the network."""
    servers = tuple(one for one in processes if not _client(one))
    names = tuple(dict.fromkeys(one.comm for one in servers))
    where = f"proc/{servers[0].pid}" if servers else f"{device.folder}/pid"
    evidence = Evidence(
        source=where, value=", ".join(names), meaning="the server is a process of this machine"
    )
    unix = ChainLink(kind="unix socket", name=", ".join(names), evidence=(evidence,))
    beyond = tuple(one for process in servers for one in reach.outgoing(scene, process.pid))
    return Reach(
        transport=Transport.NBD,
        leaf=device.name,
        links=(link, unix),
        peers=reach.peers_of(beyond),
        sockets=beyond,
        connections=len(beyond),
        daemons=tuple(dict.fromkeys(reach.pids(processes))),
        userspace=names,
        server_local=True,
        server_evidence=evidence,
    )
