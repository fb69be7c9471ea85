"""ublk disks: every request goes to a user-space process that holds /dev/ublkcN (drivers/block/ublk_drv.c)."""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Transport
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_NAME = re.compile(r"ublkb(\d+)$")


def of_device(scene: Scene, device: Device) -> Reach | None:
    """A ublk disk and its server."""
    found = _NAME.match(device.name)
    if not found:
        return None
    servers = scene.processes.holding(f"/dev/ublkc{found[1]}") or scene.processes.named("ublk.*")
    where = f"holder of /dev/ublkc{found[1]}"
    if not servers:
        scene.reading.gap(where, "cannot be seen", Topic.DAEMONS, f"the process that serves {device.name}")
        reach.no_sockets(scene, device.name, where, "its server is not known")
    if any(not one.files_known for one in servers):
        reach.no_sockets(scene, device.name, where, "its server's open files could not be read")
    sockets = tuple(dict.fromkeys(one for server in servers for one in reach.outgoing(scene, server.pid)))
    names = tuple(dict.fromkeys(one.comm for one in servers)) or ("ublk server",)
    evidence = tuple(
        Evidence(source=f"proc/{one.pid}/fd", value=f"/dev/ublkc{found[1]}") for one in servers[:4]
    )
    return Reach(
        transport=Transport.UBLK,
        leaf=device.name,
        links=(ChainLink(kind="ublk", name=device.name, detail=", ".join(names), evidence=evidence),),
        peers=reach.peers_of(sockets),
        sockets=sockets,
        connections=len(sockets) if servers else None,
        daemons=reach.pids(servers),
        userspace=names,
    )
