"""Network block devices (drivers/block/nbd.c).

`sys/block/nbdN/pid` is the process that set the device up. A client that uses ioctls stays in NBD_DO_IT and keeps its
socket; one that uses netlink exits, and the socket then belongs to no process.
"""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Socket, Transport
from tidegate.host.record import Status
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_NAME = re.compile(r"nbd\d+$")
_PORT = 10809
_SERVERS = ("nbdkit", "qemu-nbd", "nbd-server", "qemu-storage-daemon", "qemu-storage-d")


def of_device(scene: Scene, device: Device) -> Reach | None:
    """How an nbd device is connected, or None for another device or one that is not connected."""
    if not _NAME.match(device.name):
        return None
    path = f"{device.folder}/pid"
    status = scene.reading.status(path)
    if status is Status.ABSENT and not device.size_kib:
        return None
    pid = scene.reading.number(path, Topic.SOCKETS)
    link = _link(scene, device, path, pid)
    found = reach.owned_by(scene, pid) if pid is not None else ()
    if not found and pid is not None and _unix(scene, pid):
        return _through_unix(scene, device, pid, link)
    style = "set up by ioctl: process {} keeps the socket" if found else "no process keeps the socket"
    link = ChainLink(kind=link.kind, name=link.name, detail=style.format(pid), evidence=link.evidence)
    ours = bool(found)
    sockets = found or _kernel_sockets(scene)
    if not sockets:
        reach.no_sockets(
            scene, device.name, path, "no process holds one, and no socket without owner was seen"
        )
    alone = ours or len(_connected(scene)) == 1
    live = pid is not None and pid in scene.processes.by_pid and (ours or _is_client(scene, pid))
    return Reach(
        transport=Transport.NBD,
        leaf=device.name,
        links=(link,),
        peers=reach.peers_of(sockets),
        sockets=sockets,
        connections=len(sockets) if sockets and alone else None,
        daemons=(pid,) if live and pid is not None else (),
    )


def _link(scene: Scene, device: Device, path: str, pid: int | None) -> ChainLink:
    evidence = [
        Evidence(
            source=path, value="not read" if pid is None else str(pid), meaning="the process that set it up"
        )
    ]
    backend = (scene.reading.peek(f"{device.folder}/backend") or "").strip()
    if backend:
        evidence.append(Evidence(source=f"{device.folder}/backend", value=backend))
    return ChainLink(kind="nbd", name=device.name, evidence=tuple(evidence))


def _connected(scene: Scene) -> list[str]:
    """The nbd devices that are set up."""
    devices = scene.tree.devices.values()
    return [
        one.name
        for one in devices
        if _NAME.match(one.name) and scene.reading.status(f"{one.folder}/pid") is Status.FOUND
    ]


def _is_client(scene: Scene, pid: int) -> bool:
    return scene.processes.by_pid[pid].comm.startswith(("nbd-client", "nbd", *_SERVERS))


def _kernel_sockets(scene: Scene) -> tuple[Socket, ...]:
    """Sockets of a netlink client: to the assigned port, else any that neither a process nor another transport has."""
    return reach.kernel_owned(scene, (_PORT,)) or reach.kernel_owned(scene) or _by_port(scene)


def _by_port(scene: Scene) -> tuple[Socket, ...]:
    return tuple(one for one in reach.alive(scene.sockets) if one.remote_port == _PORT and not one.pids)


def _unix(scene: Scene, pid: int) -> bool:
    """The process holds sockets, none of them TCP: a UNIX socket to a server on this machine."""
    inodes = set(scene.processes.sockets_of(pid))
    held = {one.inode for one in scene.sockets if one.family in ("inet", "inet6")}
    return bool(inodes) and not inodes & held


def _through_unix(scene: Scene, device: Device, pid: int, link: ChainLink) -> Reach:
    servers = scene.processes.named(*(re.escape(name) + ".*" for name in _SERVERS))
    client = scene.processes.by_pid.get(pid)
    names = tuple(dict.fromkeys(one.comm for one in servers)) or (
        (client.comm,) if client else ("unknown server",)
    )
    evidence = Evidence(
        source=f"proc/{pid}/fd", value="a UNIX socket", meaning="the server is a process of this machine"
    )
    unix = ChainLink(kind="unix socket", name=", ".join(names), evidence=(evidence,))
    return Reach(
        transport=Transport.NBD,
        leaf=device.name,
        links=(link, unix),
        connections=1,
        daemons=tuple(dict.fromkeys((pid, *reach.pids(servers)))),
        userspace=names,
        server_local=True,
        server_evidence=evidence,
    )
