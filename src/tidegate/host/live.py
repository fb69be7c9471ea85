"""The running host, read into a record in memory. Reads only; what it may not read is kept as denied.

A tree of the same shape somewhere else (a sysroot, as lsblk --sysroot reads one) is read in the same way, without
netlink; what is missing from it is not held.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tidegate import __version__
from tidegate.errors import Lacking
from tidegate.host import netlink_format as form
from tidegate.host import wanted
from tidegate.host.holders import inodes_of, take_processes
from tidegate.host.pages import page_bytes
from tidegate.host.record import Record
from tidegate.host.walk import Disk, Walk

Progress = Callable[[str], None]


def read_live(*, progress: Progress = lambda _: None) -> Record:
    """This host as a record. `progress` is told what is being read. Lacking where this is no Linux host."""
    if platform.system() != "Linux":
        raise Lacking(
            f"{platform.system() or 'this machine'}: only Linux can be read; --host reads a record of it"
        )
    walk = Walk(Disk())
    for why in walk.look_for_all():
        progress(why)
    _named_devices(walk, "")
    progress("netlink")
    from tidegate.host import netlink

    for member in netlink.read_netlink(walk.members):
        walk.put(member.path, member.status, member.detail, data=member.data)
    _sockets_of_proc(walk)
    progress("processes")
    owned = take_processes(walk, "", inodes_of(walk))
    settled = netlink.settled(walk.members, owned)
    if settled is not None:
        walk.put(settled.path, settled.status, settled.detail, data=settled.data)
    return _record(walk, "live", complete=True)


def read_tree(root: Path) -> Record:
    """The copy of a host's /proc and /sys below a directory."""
    place = str(root).rstrip("/")
    walk = Walk(Disk(place), lists_absence=False)
    for _ in walk.look_for_all():
        pass
    _sockets_of_proc(walk)
    _named_devices(walk, place)
    take_processes(walk, place, None)
    return _record(walk, str(root), complete=False)


def _sockets_of_proc(walk: Walk) -> None:
    """What netlink did not tell is in /proc, in less detail."""
    if not walk.is_file(form.SOCKETS):
        for one in wanted.WITHOUT_NETLINK:
            walk.look_for_each(one)


def _record(walk: Walk, source: str, *, complete: bool) -> Record:
    return Record(
        members=walk.members,
        kernel=walk.text("proc/sys/kernel/osrelease").strip() or (platform.release() if complete else ""),
        machine=platform.machine() if complete else "",
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source=source,
        complete=complete,
        tool=f"tidegate {__version__}",
        page_bytes=os.sysconf("SC_PAGE_SIZE")
        if complete
        else page_bytes("", walk.text("proc/meminfo"), walk.text("proc/zoneinfo")),
        patterns=tuple(sorted(walk.patterns)),
    )


def _named_devices(walk: Walk, root: str) -> None:
    """Swap and mounts may use a name that is a link to the device: /dev/vg/lv."""
    tables = walk.text("proc/swaps").splitlines()[1:] + walk.text("proc/self/mountinfo").splitlines()
    for word in sorted({word for line in tables for word in line.split() if word.startswith("/dev/")}):
        path = word.lstrip("/").replace("\\040", " ")
        if ".." not in path.split("/") and os.path.islink(f"{root}/{path}"):
            walk.take(path)
