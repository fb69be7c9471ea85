"""Leaves that no transport knew: a local disk, or something that is not local and not known.

Where /sys/block/NAME points decides. A device below a bus is local, as far as this host can see (a virtual machine's
disk may well be on a network: that is its host's matter). A virtual device with an unknown driver is not taken for
local.
"""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Transport
from tidegate.host.processes import Process
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import Topic

# Virtual devices that hold their data in this memory, or nothing, or on a pool of devices listed by themselves.
_LOCAL_VIRTUAL = re.compile(
    r"(ram|zram|nullb|loop|zd|md|dm-|pmem|bcache|fd|mtdblock|mtd|ubiblock|nvme|scd|memstick|tdblk)\d"
)
# Buses whose name is enough where the record holds no link (an sos report may not).
_LOCAL_NAMES = re.compile(r"(vd[a-z]+|xvd[a-z]+|hd[a-z]+|mmcblk\d+\S*|sr\d+|fd\d+|dasd[a-z]+)$")
_TCM_LOOP = re.compile(
    r"/tcm_loop_\d+/"
)  # a LIO target attached to this machine; tcmu-runner may be its store
# Other network storage known by its device name, not read any further here.
_NETWORK_NAMES = (
    (re.compile(r"rnbd\d+$"), Transport.RDMA, "rnbd over RDMA"),
    (re.compile(r"scini[a-z]+$"), Transport.OTHER, "PowerFlex (scini)"),
    (re.compile(r"pxd!pxd\d+$"), Transport.OTHER, "Portworx (px-fuse)"),
    (re.compile(r"dst\d+$"), Transport.OTHER, "DST"),
)


def of_device(scene: Scene, device: Device) -> Reach | None:
    """None for a local disk; OTHER for what is not known to be one."""
    for pattern, transport, what in _NETWORK_NAMES:
        if pattern.match(device.name):
            return Reach(
                transport=transport,
                leaf=device.name,
                links=(
                    reach.link("disk", device.name, device.folder, device.place or device.name, detail=what),
                ),
            )
    place = device.place
    if "/vduse/" in place:
        return _in_userspace(scene, device, "vduse", scene.processes.holding(r"/dev/vduse/.+"))
    if _TCM_LOOP.search(place):
        servers = scene.processes.named("tcmu-runner")
        return _in_userspace(scene, device, "tcmu", servers) if servers else None
    if not place:
        if _LOCAL_NAMES.match(device.name) or _LOCAL_VIRTUAL.match(device.name):
            return None
        detail = f"whether {device.name} is a local disk cannot be told"
        scene.reading.gap(device.folder, "not held", Topic.USERS, detail)
        return _other(device, "its place in sysfs is not known")
    if "vhci_hcd" in place:
        return _other(device, "usbip")
    if "/virtual/" not in place or _LOCAL_VIRTUAL.match(device.name):
        return None
    return _other(device, "a virtual device of an unknown driver")


def _in_userspace(scene: Scene, device: Device, what: str, servers: tuple[Process, ...]) -> Reach:
    """A disk whose requests a process of this machine answers, over which connections it may have."""
    if not servers:
        scene.reading.gap(
            f"server of {device.name}", "cannot be seen", Topic.DAEMONS, f"the process behind {what}"
        )
    sockets = tuple(one for server in servers for one in reach.outgoing(scene, server.pid))
    names = tuple(dict.fromkeys(one.comm for one in servers)) or (what,)
    return Reach(
        transport=Transport.OTHER,
        leaf=device.name,
        links=(reach.link(what, device.name, device.folder, device.place, detail=", ".join(names)),),
        peers=reach.peers_of(sockets),
        sockets=sockets,
        connections=len(sockets) if servers else None,
        daemons=reach.pids(servers),
        userspace=names,
    )


def _other(device: Device, detail: str) -> Reach:
    link = reach.link("disk", device.name, device.folder, device.place or "not held", detail=detail)
    return Reach(transport=Transport.OTHER, leaf=device.name, links=(link,))
