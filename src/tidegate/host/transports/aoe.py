"""ATA over Ethernet: frames of ethertype 0x88A2 straight on a device, no socket, no IP (drivers/block/aoe)."""

from __future__ import annotations

from tidegate.host.block import Device
from tidegate.host.facts import Peer, Route, Transport
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence, Topic


def of_device(scene: Scene, device: Device) -> Reach | None:
    """An `etherd!eS.L` disk; its route is the device it was found on."""
    if not device.name.startswith("etherd!"):
        return None
    reading = scene.reading
    mac = reading.word(f"{device.folder}/mac", Topic.NETWORK) or ""
    interfaces = (
        (reading.word(f"{device.folder}/netif", Topic.NETWORK, must=True) or "").replace(",", " ").split()
    )
    where = f"{device.folder}/netif"
    routes = tuple(
        scene.network.descend(Route(peer=mac or device.name, device=name, neighbour=mac, evidence=where))
        for name in interfaces
    )
    evidence = (
        Evidence(source=where, value=" ".join(interfaces)),
        Evidence(source=f"{device.folder}/mac", value=mac),
    )
    return Reach(
        transport=Transport.AOE,
        leaf=device.name,
        links=(ChainLink(kind="aoe", name=device.name, detail="ethertype 0x88A2", evidence=evidence),),
        peers=(Peer(address=mac, port=0, evidence=f"{device.folder}/mac"),) if mac else (),
        connections=0,
        routes=routes,
        server_local=False,
    )
