"""NFS mounts: options in mountinfo, transports in mountstats and /sys/kernel/sunrpc (net/sunrpc/{xprtsock,sysfs}.c)."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.host import procfs
from tidegate.host.facts import Mount, Peer, Socket, Transport
from tidegate.host.procfs import MountStats
from tidegate.host.reading import Reading
from tidegate.host.transports import options as opts
from tidegate.host.transports import rdma, reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_STATS = "proc/self/mountstats"
_PORT = 2049


def of_mount(scene: Scene, mount: Mount) -> Reach | None:
    """How an NFS mount reaches its server."""
    if mount.fstype not in ("nfs", "nfs4"):
        return None
    options = opts.of(mount)
    transport = rdma.transport(scene) if options.get("proto", "").startswith("rdma") else Transport.NFS
    peer = _peer(scene, mount, options)
    stats = _stats(scene.reading, mount)
    connections = _connections(options, stats)
    sockets = _sockets(scene, peer, stats) if transport is Transport.NFS else ()
    if peer and not sockets and transport is Transport.NFS:
        reach.no_sockets(scene, mount.source, _STATS, "no socket leads to the server")
    helpers = ["rpc.gssd", "gssproxy"] if "krb5" in options.get("sec", "") else []
    helpers += ["tlshd"] if options.get("xprtsec", "none") != "none" else []
    return Reach(
        transport=transport,
        leaf=mount.source,
        links=(_link(mount, options, stats),),
        peers=() if peer is None else (peer,),
        sockets=sockets,
        connections=connections,
        daemons=reach.pids(scene.processes.named(*helpers)) if helpers else (),
    )


def _peer(scene: Scene, mount: Mount, options: dict[str, str]) -> Peer | None:
    """`addr=` is what the kernel connected to; the name before the colon serves where it is an address."""
    address = options.get("addr") or opts.address(mount.source.rpartition(":/")[0])
    if not address:
        scene.reading.gap(f"proc/self/mountinfo {mount.point}", "damaged", Topic.NETWORK, "no addr= option")
        return None
    port = opts.number(options, "port") or _PORT
    return Peer(address=address, port=port, evidence=f"proc/self/mountinfo: {mount.point} addr=")


def _stats(reading: Reading, mount: Mount) -> MountStats | None:
    every = reading.parsed(_STATS, Topic.SOCKETS, procfs.mountstats)
    if every is None:
        return None
    found = [one for one in every if one.point == mount.point and one.fstype == mount.fstype]
    if not found:
        reading.gap(_STATS, "damaged", Topic.SOCKETS, f"does not show the mount {mount.point}")
        return None
    return found[-1]


def _connections(options: dict[str, str], stats: MountStats | None) -> int | None:
    if stats and stats.xprts:
        return len(stats.xprts)
    return opts.number(options, "nconnect") or 1


def _sockets(scene: Scene, peer: Peer | None, stats: MountStats | None) -> tuple[Socket, ...]:
    """By the source port of each xprt line where there is one, for other mounts may use the same server."""
    if peer is None:
        return ()
    every = reach.to_peers(scene, (peer,))
    ports = {
        int(words[1]) for words in (stats.xprts if stats else ()) if len(words) > 1 and words[1].isdecimal()
    }
    return tuple(one for one in every if one.local_port in ports) or every


def _link(mount: Mount, options: dict[str, str], stats: MountStats | None) -> ChainLink:
    shown = ",".join(
        _shown(options, ("vers", "proto", "hard", "soft", "softerr", "timeo", "retrans", "nconnect", "sec"))
    )
    evidence = [Evidence(source="proc/self/mountinfo", value=f"{mount.source} on {mount.point}: {shown}")]
    xprts = stats.xprts if stats else ()
    evidence += [Evidence(source=_STATS, value="xprt: " + " ".join(words[:4])) for words in xprts]
    return ChainLink(kind="nfs", name=mount.source, detail=shown, evidence=tuple(evidence[:9]))


def _shown(options: dict[str, str], names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name in options:
            yield f"{name}={options[name]}" if options[name] else name
