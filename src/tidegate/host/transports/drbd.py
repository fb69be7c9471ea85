"""DRBD: a local disk mirrored over TCP by kernel threads (drivers/block/drbd). Peers come from its configuration."""

from __future__ import annotations

import re

from tidegate.host.block import Device
from tidegate.host.facts import Peer, Socket, Transport
from tidegate.host.transports import options, reach
from tidegate.host.transports.reach import Reach, Scene
from tidegate.result import ChainLink, Evidence

_NAME = re.compile(r"drbd(\d+)$")
_ADDRESS = re.compile(r"address\s+(?:ipv4\s+|ipv6\s+)?\[?([0-9a-fA-F.:]+?)\]?:(\d+)\s*;")
_PORTS = range(7788, 8000)  # by convention; linstor starts at 7000
_STATE = re.compile(r"^\s*(\d+): cs:(\w+)(.*)$", re.MULTILINE)


def of_device(scene: Scene, device: Device) -> Reach | None:
    """A DRBD device; its own disk below is another way down."""
    found = _NAME.match(device.name)
    if not found:
        return None
    if device.size_kib == 0 and not scene.reading.has(f"{device.folder}/slaves"):
        return None
    peers = _configured(scene)
    sockets = _sockets(scene, peers)
    if not sockets:
        reach.no_sockets(
            scene, device.name, "proc/net/tcp", "no socket without owner leads to a DRBD port or peer"
        )
    hosts = {one.address for one in peers}
    return Reach(
        transport=Transport.DRBD,
        leaf=device.name,
        links=(_link(scene, device, found[1]),),
        peers=peers or reach.peers_of(sockets),
        sockets=sockets,
        # A data and a meta connection to each peer (drbd_receiver.c: conn_connect).
        connections=max(2 * len(hosts), len(sockets)) or None,
    )


def _configured(scene: Scene) -> tuple[Peer, ...]:
    """Addresses in the configuration that are not this host's own."""
    made = {}
    for path in (*scene.reading.files("etc/drbd.d"), "etc/drbd.conf"):
        for found in _ADDRESS.finditer(scene.reading.peek(path) or ""):
            address = options.address(found[1])
            if address and not scene.network.own(address):
                made[address, found[2]] = Peer(address=address, port=int(found[2]), evidence=path)
    return tuple(made.values())


def _sockets(scene: Scene, peers: tuple[Peer, ...]) -> tuple[Socket, ...]:
    """Either side may have connected, so the port is the remote or the local one."""
    ports = {one.port for one in peers} or set(_PORTS)
    hosts = {one.address for one in peers}
    return tuple(
        one
        for one in reach.alive(scene.sockets)
        if not one.pids
        and (one.remote_port in ports or one.local_port in ports)
        and (not hosts or one.remote in hosts)
    )


def _link(scene: Scene, device: Device, minor: str) -> ChainLink:
    text = scene.reading.peek("proc/drbd") or ""
    for found in _STATE.finditer(text):
        if found[1] == minor:
            evidence = Evidence(source="proc/drbd", value=f"cs:{found[2]}{found[3]}"[:80])
            return ChainLink(kind="drbd", name=device.name, detail=found[2], evidence=(evidence,))
    return reach.link("drbd", device.name, device.folder, device.place or device.name)
