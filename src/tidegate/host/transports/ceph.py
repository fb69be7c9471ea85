"""Ceph through the kernel: rbd disks and cephfs mounts share libceph's sockets (net/ceph/messenger.c)."""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Mount, Peer, Socket, Transport
from tidegate.host.transports import options as opts
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence

_NAME = re.compile(r"rbd(\d+)$")
_MONITORS = (3300, 6789)
_OSDS = range(6800, 7569)  # ms_bind_port_min to ms_bind_port_max
_MON_ADDRESS = re.compile(r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):(\d+)")


def of_device(scene: Scene, device: Device) -> Reach | None:
    """An rbd disk of the kernel client."""
    found = _NAME.match(device.name)
    if not found:
        return None
    folder = f"sys/bus/rbd/devices/{found[1]}"
    evidence = []
    for name in ("pool", "name", "client_addr", "cluster_fsid"):
        value = (scene.reading.peek(f"{folder}/{name}") or "").strip()
        if value:
            evidence.append(Evidence(source=f"{folder}/{name}", value=value))
    evidence = evidence or [Evidence(source=device.folder, value=device.place or device.name)]
    link = ChainLink(kind="rbd", name=device.name, evidence=tuple(evidence))
    return _reach(scene, Transport.RBD, device.name, link, ())


def of_mount(scene: Scene, mount: Mount) -> Reach | None:
    """A cephfs mount of the kernel client."""
    if mount.fstype != "ceph":
        return None
    options = opts.of(mount)
    text = options.get("mon_addr", "") + "," + mount.source
    where = f"proc/self/mountinfo: {mount.point}"
    monitors = tuple(
        Peer(address=found[1].strip("[]"), port=int(found[2]), evidence=where)
        for found in _MON_ADDRESS.finditer(text)
    )
    link = reach.link("cephfs", mount.source, "proc/self/mountinfo", f"{mount.source} on {mount.point}")
    return _reach(scene, Transport.CEPHFS, mount.source, link, monitors)


def _reach(
    scene: Scene, transport: Transport, leaf: str, link: ChainLink, monitors: tuple[Peer, ...]
) -> Reach:
    """Libceph's sockets are nobody's: to monitors, and one to each OSD that was talked to."""
    sockets = _sockets(scene)
    if not sockets:
        reach.no_sockets(scene, leaf, "proc/net/tcp", "no socket without owner leads to a Ceph port")
    peers = {(one.address, one.port): one for one in (*monitors, *reach.peers_of(sockets))}
    return Reach(
        transport=transport,
        leaf=leaf,
        links=(link,),
        peers=tuple(peers.values()),
        sockets=sockets,
        # One to each OSD of the pool in the end; how many that are is not known here.
        connections=None,
    )


def _sockets(scene: Scene) -> tuple[Socket, ...]:
    found = reach.kernel_owned(scene, (*_MONITORS, *_OSDS))
    if found or scene.processes.complete:
        return found
    ports = frozenset((*_MONITORS, *_OSDS))
    return tuple(one for one in reach.alive(scene.sockets) if one.remote_port in ports and not one.pids)
