"""SMB mounts (fs/smb/client)."""

from __future__ import annotations

from tidegate.host.facts import Mount, Peer, Transport
from tidegate.host.transports import options as opts
from tidegate.host.transports import rdma, reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import Topic

_PORTS = (445, 139)


def of_mount(scene: Scene, mount: Mount) -> Reach | None:
    """How an SMB mount reaches its server."""
    if mount.fstype not in ("cifs", "smb3"):
        return None
    options = opts.of(mount)
    address = options.get("addr") or opts.address(mount.source.lstrip("/").partition("/")[0])
    where = f"proc/self/mountinfo: {mount.point} addr="
    asked = opts.number(options, "port")
    peers = tuple(
        Peer(address=address, port=port, evidence=where) for port in ((asked,) if asked else _PORTS)
    )
    if not address:
        scene.reading.gap(f"proc/self/mountinfo {mount.point}", "damaged", Topic.NETWORK, "no addr= option")
        peers = ()
    direct = "rdma" in options
    sockets = () if direct else reach.to_peers(scene, peers)
    used = {one.remote_port for one in sockets}
    peers = tuple(one for one in peers if one.port in used) or peers[:1]
    if peers and not sockets and not direct:
        reach.no_sockets(scene, mount.source, where, "no socket leads to the server")
    channels = opts.number(options, "max_channels") if "multichannel" in options else 1
    return Reach(
        transport=rdma.transport(scene) if direct else Transport.SMB,
        leaf=mount.source,
        links=(reach.link("smb", mount.source, "proc/self/mountinfo", f"{mount.source} on {mount.point}"),),
        peers=peers,
        sockets=sockets,
        connections=max(len(sockets), channels or 1),
    )
