"""RDMA: no skbs where the hardware does it; soft devices (rxe, siw) are ordinary sockets without SOCK_MEMALLOC."""

from __future__ import annotations

from tidegate.host.facts import Transport
from tidegate.host.record import Status
from tidegate.host.transports.reach import Scene
from tidegate.result import Topic

_FOLDER = "sys/class/infiniband"


def transport(scene: Scene) -> Transport:
    """RDMA when all devices are hardware; OTHER as soon as one is soft, for packets then go through skbs."""
    names = scene.reading.names(_FOLDER)
    if not names and scene.reading.status(_FOLDER) is not Status.ABSENT:
        scene.reading.gap(_FOLDER, "not held", Topic.USERS, "whether RDMA is done by hardware")
    soft = [name for name in names if name.startswith(("rxe", "siw")) or _virtual(scene, name)]
    return Transport.OTHER if soft else Transport.RDMA


def _virtual(scene: Scene, name: str) -> bool:
    member = scene.reading.record.members.get(f"{_FOLDER}/{name}")
    return member is not None and "/virtual/" in member.target
