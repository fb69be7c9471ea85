"""A guest as a small TOML file: its kernel, its machine, the servers outside, what is set up inside."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import BadInput
from tidegate.rig.kernels import Debian, Flavour
from tidegate.strict_toml import Table, parse_toml, read_toml

MEANT = "a scenario in TOML"

# QEMU's NIC models for which Debian's kernels have a driver; the cloud flavour has virtio_net only.
NICS = ("virtio-net-pci", "e1000", "e1000e", "vmxnet3", "pcnet", "rtl8139", "ne2k_pci", "tulip")


class ServerKind(StrEnum):
    """What can serve storage from outside the guest, as an ordinary program."""

    NBD = "nbd"  # nbdkit
    ISCSI = "iscsi"  # tgt


class Server(Table, frozen=True):
    """One server on this machine's loopback; inside, $SERVER and $NBD_PORT or $ISCSI_PORT reach it."""

    kind: ServerKind
    size_mib: int


class Disk(Table, frozen=True):
    """A blank local virtio disk, found inside as /dev/disk/rig/NAME."""

    name: str
    size_mib: int


class Peer(Table, frozen=True):
    """A second guest with the same kernel and NIC, on the other end of the wire: $PEER inside the first."""

    memory_mib: int
    setup: str


class Scenario(Table, frozen=True):
    """One guest. `setup` is shell, run with -eux before anything is recorded."""

    about: str
    debian: Debian
    flavour: Flavour
    memory_mib: int
    setup: str = ""
    hostname: str = "host"
    nic: str = "virtio-net-pci"
    cpus: int = 1
    cpu: str = "qemu64,-cx16,+rdrand"  # -cx16: QEMU 7.2 under TCG faults on cmpxchg16b now and then
    numa_nodes: int = 1
    append: str = ""  # more words for the kernel's command line
    servers: tuple[Server, ...] = ()
    disks: tuple[Disk, ...] = ()
    peer: Peer | None = None
    deadline_s: int = 300


def read(path: Path) -> Scenario:
    """The scenario in a file; BadInput names the file and the key. Lacking: it may not be read."""
    return _scenario(read_toml(path, MEANT), str(path))


def parse(text: str, file: str) -> Scenario:
    """The scenario in a text; `file` is its name in messages."""
    return _scenario(parse_toml(text.encode(), file, MEANT), file)


def _scenario(table: dict[str, Any], file: str) -> Scenario:
    try:
        scenario = msgspec.convert(table, Scenario)
    except msgspec.ValidationError as trouble:
        what, _, place = str(trouble).partition(" - at ")
        raise BadInput(file, place.strip("`"), what, "what a scenario holds (rig/scenario.py)") from trouble
    _sound(scenario, file)
    return scenario


def _sound(scenario: Scenario, file: str) -> None:
    if scenario.nic not in NICS:
        raise BadInput(file, "nic", repr(scenario.nic), f"one of {', '.join(NICS)}")
    if not 48 <= scenario.memory_mib <= 16384:
        raise BadInput(file, "memory_mib", str(scenario.memory_mib), "48 to 16384")
    if not 1 <= scenario.numa_nodes <= scenario.cpus <= 16:
        found = f"{scenario.cpus} CPUs on {scenario.numa_nodes} nodes"
        raise BadInput(file, "cpus", found, "1 to 16 CPUs, at least one a node")
    if len({server.kind for server in scenario.servers}) < len(scenario.servers):
        raise BadInput(file, "servers", "two of one kind", "one of each kind at most")
    for disk in scenario.disks:
        if not disk.name.isidentifier() or len(disk.name) > 12:
            raise BadInput(file, "disks", repr(disk.name), "a short name of letters and digits")
