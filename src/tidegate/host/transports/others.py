"""File systems that are not local and have no file of their own here; and 9p and virtiofs, which may be.

A virtiofs mount and a 9p one over virtio end in the machine that runs this one: no packet leaves, nothing to report.
"""

from __future__ import annotations

from tidegate.host.facts import Mount, Peer, Transport
from tidegate.host.transports import options as opts
from tidegate.host.transports import rdma, reach
from tidegate.host.transports.reach import Reach, Scene

_NINEP_PORT = 564
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "coda",
        "gpfs",
        "lustre",
        "mfs",
        "ncpfs",
        "orangefs",
        "panfs",
        "pvfs2",
        "quobyte",
        "wekafs",
    }
)
# File systems of the kernel and of hypervisors' tools that hold nothing, or nothing of the network's.
_NOTHING = frozenset(
    {"vboxsf", "vmhgfs", "prl_fs", "virtiofs", "hostfs", "drvfs", "overlay", "aufs", "zfs", "ecryptfs"}
)


def of_mount(scene: Scene, mount: Mount) -> Reach | None:
    """9p over a network, the known network file systems, and unknown ones whose source names another machine."""
    if mount.fstype == "9p":
        return _ninep(scene, mount)
    known = mount.fstype in _NETWORK
    if not known and (mount.fstype in _NOTHING or not _names_a_machine(mount)):
        return None
    link = reach.link(mount.fstype, mount.source, "proc/self/mountinfo", f"{mount.source} on {mount.point}")
    return Reach(transport=Transport.OTHER, leaf=mount.source, links=(link,))


def _names_a_machine(mount: Mount) -> bool:
    """A device-less mount whose source looks like `host:/path` or `//host/share`."""
    anonymous = mount.device.startswith("0:")
    return anonymous and (":/" in mount.source or mount.source.startswith("//"))


def _ninep(scene: Scene, mount: Mount) -> Reach | None:
    options = opts.of(mount)
    kind = options.get("trans", "tcp")  # the kernel's default, when the option is not shown
    if kind in ("virtio", "xen", "usbg"):
        return None
    address = opts.address(mount.source)
    port = opts.number(options, "port") or _NINEP_PORT
    peers = (
        (Peer(address=address, port=port, evidence=f"proc/self/mountinfo: {mount.point}"),) if address else ()
    )
    sockets = reach.to_peers(scene, peers)
    return Reach(
        transport=rdma.transport(scene) if kind == "rdma" else Transport.NINEP,
        leaf=mount.source,
        links=(
            reach.link("9p", mount.source, "proc/self/mountinfo", f"{mount.point} trans={kind}", detail=kind),
        ),
        peers=peers,
        sockets=sockets,
        connections=1,
    )
