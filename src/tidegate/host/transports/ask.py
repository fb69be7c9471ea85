"""Which transport a leaf has: each is asked in turn."""

from __future__ import annotations

from tidegate.host.block import Way
from tidegate.host.facts import Transport
from tidegate.host.transports import aoe, ceph, drbd, fuse, hardware, iscsi, nbd, nfs, nvme, others, smb, ublk
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Topic

_DEVICES = (
    nbd.of_device,
    iscsi.of_device,
    nvme.of_device,
    ceph.of_device,
    drbd.of_device,
    aoe.of_device,
    ublk.of_device,
)
_MOUNTS = (nfs.of_mount, smb.of_mount, ceph.of_mount, fuse.of_mount, others.of_mount)


def reach_of(scene: Scene, way: Way) -> Reach | None:
    """How a way's leaf is reached; None for a local one."""
    if way.unknown:
        name = way.links[-1].name if way.links else "unknown"
        scene.reading.gap(name, "cannot be seen", Topic.USERS, way.unknown)
        link = ChainLink(kind="unknown", name=name, detail=way.unknown)
        return Reach(transport=Transport.OTHER, leaf=name, links=(link,))
    if way.device is not None:
        for ask in _DEVICES:
            found = ask(scene, way.device)
            if found is not None:
                return found
        return hardware.of_device(scene, way.device)
    if way.mount is not None:
        for ask_mount in _MOUNTS:
            found = ask_mount(scene, way.mount)
            if found is not None:
                return found
    return None
