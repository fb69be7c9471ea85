"""From a record to a host: every part read in order, what could not be read kept as gaps."""

from __future__ import annotations

from tidegate.host import daemons, memory, network, procfs, sockets, users
from tidegate.host.block import Tree
from tidegate.host.facts import Host, Mount
from tidegate.host.namespaces import is_container, unseen_namespaces
from tidegate.host.processes import Processes
from tidegate.host.reading import Garbled, Reading
from tidegate.host.record import Record, Status
from tidegate.host.transports.reach import Scene
from tidegate.result import Topic

_MOUNTS = ("proc/self/mountinfo", "proc/1/mountinfo")
_OLD_MOUNTS = ("proc/self/mounts", "proc/mounts")


def read_host(record: Record) -> Host:
    """Everything known of a recorded host. Never raises for what the record holds: see `Host.gaps`."""
    reading = Reading(record)
    kernel = memory.kernel_of(reading)
    sysctls = memory.sysctls_of(reading)
    mounts = mounts_of(reading)
    processes = Processes(reading)
    seen = sockets.sockets_of(reading, processes, sysctls)
    net = network.network_of(reading)
    scene = Scene(
        reading=reading,
        kernel=kernel,
        processes=processes,
        sockets=seen,
        network=net,
        tree=Tree(reading, mounts),
        mounts=mounts,
    )
    counters = memory.counters_of(reading)
    found = users.users_of(scene, counters)
    container = is_container(reading)
    unseen = _elsewhere(reading, container=container)
    return Host(
        name=sysctls.get("kernel.hostname") or "unnamed",
        taken=record.taken,
        source=record.source,
        kernel=kernel,
        page_bytes=record.page_bytes,
        cpus=memory.cpus_of(reading),
        memory=memory.memory_of(reading, sysctls),
        users=found,
        links=tuple(net.links.values()),
        sockets=seen,
        packet_sockets=sockets.packet_sockets_of(reading),
        daemons=daemons.daemons_of(scene, found),
        mounts=mounts,
        sysctls=sysctls,
        counters=counters,
        modules=memory.modules_of(reading),
        texts=texts_of(reading),
        namespaces=unseen,
        container=container,
        made=record.made,
        gaps=reading.gaps,
    )


def _elsewhere(reading: Reading, *, container: bool) -> int | None:
    """Names what lies in other namespaces: sockets there are not seen, nor the mounts outside of a container."""
    if container:
        detail = "seen from inside a container: only its own sockets"
        reading.gap("network namespace of the host", "cannot be seen", Topic.SOCKETS, detail)
        detail = "seen from inside a container: only its own mounts and links"
        reading.gap("mount namespace of the host", "cannot be seen", Topic.USERS, detail)
        reading.gap("network namespace of the host", "cannot be seen", Topic.NETWORK, detail)
    unseen = unseen_namespaces(reading)
    if unseen:
        detail = f"{unseen} other network namespaces: their sockets and links are not in the record"
        reading.gap("other network namespaces", "cannot be seen", Topic.SOCKETS, detail)
    return unseen


def mounts_of(reading: Reading) -> tuple[Mount, ...]:
    """The mounts of the namespace the record was made in; without device numbers where only /proc/mounts is held."""
    for path in _MOUNTS:
        if reading.status(path) is not Status.NOT_HELD and path in reading.record.members:
            return _checked(reading, path, reading.rows(path, Topic.USERS, procfs.mount_line, must=True))
    for path in _OLD_MOUNTS:
        if path in reading.record.members:
            return _checked(reading, path, reading.rows(path, Topic.USERS, procfs.old_mount_line, must=True))
    reading.missing(_MOUNTS[0], Topic.USERS, must=True)
    return ()


def _checked(reading: Reading, path: str, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """A mount namespace always has a root, and mountstats shows the same mounts; else the table was cut."""
    if not any(one.point == "/" for one in mounts):
        reading.gap(path, "in part", Topic.USERS, "shows no root mount: cut, or read inside a chroot")
    shown = {(one.point, one.fstype) for one in mounts}
    for one in _counted_mounts(reading):
        if (one.point, one.fstype) not in shown:
            reading.gap(
                path, Status.DAMAGED.value, Topic.USERS, f"does not show {one.point}, as mountstats does"
            )
            break
    return mounts


def _counted_mounts(reading: Reading) -> tuple[procfs.MountStats, ...]:
    try:
        return procfs.mountstats(reading.peek("proc/self/mountstats") or "")
    except Garbled:
        return ()


_TEXT_FOLDERS = (
    "etc/",
    "var/lib/kubelet/",
    "usr/lib/systemd/",
    "lib/systemd/",
    "run/systemd/",
    "proc/net/netfilter/",
)
_TEXTS = ("proc/cmdline", *_TEXT_FOLDERS)


def texts_of(reading: Reading) -> dict[str, str]:
    """Small files that single rules look at, by record path."""
    made: dict[str, str] = {}
    for path, member in sorted(reading.record.members.items()):
        if not path.startswith(_TEXTS):
            continue
        if member.status in (Status.DENIED, Status.DAMAGED):
            reading.missing(path, Topic.SOCKETS if path.startswith("proc/net/") else Topic.HOST)
        elif member.status is Status.FOUND and not member.target:
            made[path] = member.data.decode("utf-8", "replace")
    return made
