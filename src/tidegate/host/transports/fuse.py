"""FUSE mounts: a process of this machine answers every request; where it talks to is seen from its sockets."""

from __future__ import annotations

from tidegate.host.facts import Mount, Transport
from tidegate.host.processes import Process
from tidegate.host.transports import reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

# Serve what this machine holds itself: no network in their own path. What they stand on is a mount of its own.
_LOCAL = frozenset(
    {
        "archivemount", "bindfs", "cryfs", "encfs", "exfat", "fuse-overlayfs", "gocryptfs", "gvfsd-fuse", "lxcfs",
        "mergerfs", "ntfs-3g", "portal", "rar2fs", "snapfuse", "squashfuse", "squashfuse_ll", "unionfs",
        "vmware-vmblock", "appimage", "e2fs", "fuse-archive", "fuseiso", "lxcfs.run", "toolbox", "sysboxfs", "dosfs",
    }
)  # fmt: skip
# Names of servers that differ from the file system's subtype.
_SERVERS = {
    "sshfs": ("sshfs", "ssh"),
    "glusterfs": ("glusterfs", "glusterfsd"),
    "ceph-fuse": ("ceph-fuse",),
    "s3fs": ("s3fs",),
    "mfs": ("mfsmount",),
    "seaweedfs": ("weed",),
    "juicefs": ("juicefs",),
}


def of_mount(scene: Scene, mount: Mount) -> Reach | None:
    """How a FUSE mount is served; None for other mounts and for servers of local things."""
    kind, _, subtype = mount.fstype.partition(".")
    if kind != "fuse" or subtype in _LOCAL or (not subtype and mount.source in _LOCAL):
        return None
    servers = _servers(scene, subtype or mount.source)
    where = f"processes that serve {mount.point}"
    if not servers:
        scene.reading.gap(where, "cannot be seen", Topic.DAEMONS, f"no process of {mount.fstype} found")
    if any(not one.files_known for one in servers):
        reach.no_sockets(scene, mount.source, where, "its server's open files could not be read")
    sockets = tuple(dict.fromkeys(one for server in servers for one in reach.outgoing(scene, server.pid)))
    names = tuple(dict.fromkeys(one.comm for one in servers)) or (subtype or "fuse",)
    evidence = tuple(
        Evidence(source=f"proc/{one.pid}", value=one.comm, meaning="serves the file system")
        for one in servers[:4]
    )
    mounted = Evidence(
        source="proc/self/mountinfo", value=f"{mount.source} on {mount.point} type {mount.fstype}"
    )
    return Reach(
        transport=Transport.FUSE,
        leaf=mount.source,
        links=(
            ChainLink(kind="fuse", name=mount.source, detail=", ".join(names), evidence=(mounted, *evidence)),
        ),
        peers=reach.peers_of(sockets),
        sockets=sockets,
        connections=len(sockets) or None,
        daemons=reach.pids(servers),
        userspace=names,
    )


def _servers(scene: Scene, subtype: str) -> tuple[Process, ...]:
    """By name; else whoever holds /dev/fuse. With the children that talk for them (sshfs has ssh)."""
    holders = scene.processes.holding("/dev/fuse")
    wanted = _SERVERS.get(subtype, (subtype[:15],))
    named = [one for one in scene.processes.by_pid.values() if one.comm in wanted and not one.kthread]
    found = [one for one in named if one in holders] or named or list(holders)
    ids = {one.pid for one in found}
    children = [one for one in scene.processes.by_pid.values() if one.ppid in ids and one.pid not in ids]
    return (*found, *children)
