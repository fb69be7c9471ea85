"""NVMe over fabrics: /sys/class/nvme (drivers/nvme/host/{core,tcp,fabrics}.c)."""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Peer, Transport
from tidegate.host.reading import is_number
from tidegate.host.transports import rdma, reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic

_NAME = re.compile(r"nvme\d+n\d+$")
_CONTROLLER = re.compile(r"/(nvme\d+)/nvme\d+(?:c\d+)?n\d+$")
_SUBSYSTEM = re.compile(r"/(nvme-subsys\d+)/")
_HERE = frozenset({"pcie", "apple-nvme", "fc", "loop"})
_KNOWN = _HERE | {"tcp", "rdma"}
_PORT = 4420


def of_device(scene: Scene, device: Device) -> Reach | None:
    """The controllers of a namespace, several with multipath; None for one on PCIe or Fibre Channel."""
    if not _NAME.match(device.name) or ("/pci" in device.place and "/virtual/" not in device.place):
        return None
    controllers = _controllers(scene, device)
    kinds = {
        name: scene.reading.word(f"sys/class/nvme/{name}/transport", Topic.USERS) for name in controllers
    }
    if controllers and all(kind in _HERE for kind in kinds.values()):
        return None
    if not controllers or not set(kinds.values()) <= _KNOWN:
        scene.reading.gap(
            f"sys/class/nvme of {device.name}", "not held", Topic.USERS, "its transport is not known"
        )
    transport = Transport.NVME_TCP
    if "tcp" not in kinds.values():
        transport = rdma.transport(scene) if "rdma" in kinds.values() else Transport.OTHER
    ours = tuple(name for name, kind in kinds.items() if kind not in _HERE)
    peers = tuple(dict.fromkeys(peer for name in ours if (peer := _peer(scene, name)) is not None))
    sockets = reach.to_peers(scene, peers) if transport is Transport.NVME_TCP else ()
    if peers and not sockets and transport is Transport.NVME_TCP:
        reach.no_sockets(scene, device.name, f"sys/class/nvme/{ours[0]}/address", "no socket leads there")
    return Reach(
        transport=transport,
        leaf=device.name,
        links=tuple(_link(scene, device, name, kinds[name] or "not read") for name in ours)
        or (reach.link("nvme", device.name, device.folder, device.place),),
        peers=peers,
        sockets=sockets,
        connections=_queues(scene, ours),
    )


def _controllers(scene: Scene, device: Device) -> tuple[str, ...]:
    if found := _SUBSYSTEM.search(device.place + "/"):
        folder = f"sys/class/nvme-subsystem/{found[1]}"
        names = tuple(name for name in scene.reading.names(folder) if re.fullmatch(r"nvme\d+", name))
        if names:
            return names
    if found := _CONTROLLER.search(device.place):
        return (found[1],)
    # The head of a multipath namespace whose subsystem the record does not hold: every controller may be under it.
    return tuple(name for name in scene.reading.names("sys/class/nvme") if re.fullmatch(r"nvme\d+", name))


def _peer(scene: Scene, controller: str) -> Peer | None:
    """`traddr=10.0.2.2,trsvcid=4420,src_addr=10.0.2.15`; a service left out is the assigned port."""
    path = f"sys/class/nvme/{controller}/address"
    text = scene.reading.word(path, Topic.SOCKETS, must=True)
    if text is None:
        return None
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    port = fields.get("trsvcid", str(_PORT)).strip()
    address = fields.get("traddr", "").strip()
    if not address or not is_number(port):
        scene.reading.gap(path, "damaged", Topic.SOCKETS, f"found {text[:60]!r}, expected traddr=,trsvcid=")
        return None
    return Peer(address=address, port=int(port), evidence=path)


def _queues(scene: Scene, controllers: tuple[str, ...]) -> int | None:
    """One connection a queue, the admin queue included (nvme_tcp_configure_io_queues)."""
    counts = [
        scene.reading.number(f"sys/class/nvme/{name}/queue_count", Topic.SOCKETS) for name in controllers
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _link(scene: Scene, device: Device, controller: str, kind: str) -> ChainLink:
    folder = f"sys/class/nvme/{controller}"
    evidence = [Evidence(source=f"{folder}/transport", value=kind)]
    for name in ("address", "state", "queue_count"):
        value = (scene.reading.peek(f"{folder}/{name}") or "").strip()
        if value:
            evidence.append(Evidence(source=f"{folder}/{name}", value=value))
    return ChainLink(
        kind="nvme", name=device.name, detail=f"{kind}, controller {controller}", evidence=tuple(evidence)
    )
