"""iSCSI disks: /sys/class/iscsi_session and iscsi_connection (drivers/scsi/scsi_transport_iscsi.c)."""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Peer, Transport
from tidegate.host.transports import rdma, reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_PLACE = re.compile(r"/host(\d+)/session(\d+)/")
_OFFLOAD = frozenset({"bnx2i", "cxgb3i", "cxgb4i", "qla4xxx", "be2iscsi", "qedi"})


def of_device(scene: Scene, device: Device) -> Reach | None:
    """The session that a SCSI disk belongs to, or None for a disk of no session."""
    found = _PLACE.search(device.place)
    if not found:
        return None
    host, session = found[1], found[2]
    reading = scene.reading
    driver = reading.word(f"sys/class/scsi_host/host{host}/proc_name", Topic.USERS) or ""
    transport = Transport.ISCSI
    if driver in ("iser", "ib_iser"):
        transport = rdma.transport(scene)
    elif driver in _OFFLOAD:
        transport = Transport.RDMA
    peers = _peers(scene, session)
    if not peers:
        detail = f"where session {session} of {device.name} leads"
        reading.gap(f"sys/class/iscsi_connection/connection{session}:0", "not held", Topic.SOCKETS, detail)
    sockets = reach.to_peers(scene, peers) if transport is Transport.ISCSI else ()
    if peers and not sockets and transport is Transport.ISCSI:
        reach.no_sockets(scene, device.name, f"session{session}", "no socket leads to its portal")
    return Reach(
        transport=transport,
        leaf=device.name,
        links=(_link(scene, device, session, driver),),
        peers=peers,
        sockets=sockets,
        connections=len(_connections(scene, session)) or None,
        daemons=reach.pids(scene.processes.named("iscsid", "iscsiuio")),
    )


def _connections(scene: Scene, session: str) -> list[str]:
    names = scene.reading.names("sys/class/iscsi_connection")
    return [name for name in names if name.startswith(f"connection{session}:")]


def _peers(scene: Scene, session: str) -> tuple[Peer, ...]:
    """The portal of each connection as it is now; the persistent one where the kernel says nothing."""
    made = []
    for name in _connections(scene, session):
        folder = f"sys/class/iscsi_connection/{name}"
        for prefix in ("", "persistent_"):
            address = scene.reading.word(f"{folder}/{prefix}address", Topic.SOCKETS)
            port = scene.reading.number(f"{folder}/{prefix}port", Topic.SOCKETS)
            if address and address != "<NULL>" and port is not None:
                made.append(
                    Peer(address=address.strip("[]"), port=port, evidence=f"{folder}/{prefix}address")
                )
                break
    return tuple(dict.fromkeys(made))


def _link(scene: Scene, device: Device, session: str, driver: str) -> ChainLink:
    folder = f"sys/class/iscsi_session/session{session}"
    target = (scene.reading.peek(f"{folder}/targetname") or "").strip()
    state = (scene.reading.peek(f"{folder}/state") or "").strip()
    evidence = [Evidence(source=device.folder, value=device.place)]
    if target:
        evidence.append(Evidence(source=f"{folder}/targetname", value=target))
    detail = ", ".join(word for word in (driver, target, state) if word)
    return ChainLink(kind="iscsi", name=device.name, detail=detail, evidence=tuple(evidence))
