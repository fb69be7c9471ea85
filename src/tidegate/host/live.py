"""The running host, read into a record in memory. Reads only; what it may not read is kept as denied.

A tree of the same shape somewhere else (a sysroot, as lsblk --sysroot reads one) is read in the same way, without
netlink; what is missing from it is not held.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from tidegate import __version__
from tidegate.host import wanted
from tidegate.host.record import Record, Status
from tidegate.host.walk import REFUSED, Disk, Walk

Progress = Callable[[str], None]
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


def read_live(*, progress: Progress = lambda _: None) -> Record:
    """This host as a record. `progress` is told what is being read."""
    walk = _walked("", progress)
    progress("netlink")
    from tidegate.host import netlink

    for member in netlink.read_netlink(walk.members):
        walk.members[member.path] = member
    return _record(walk, "live", complete=True)


def read_tree(root: Path) -> Record:
    """The copy of a host's /proc and /sys below a directory."""
    return _record(_walked(str(root).rstrip("/"), lambda _: None), str(root), complete=False)


def _walked(root: str, progress: Progress) -> Walk:
    walk = Walk(Disk(root), lists_absence=not root)
    for why in walk.look_for_all():
        progress(why)
    progress("processes")
    _processes(walk, root)
    _named_devices(walk, root)
    return walk


def _record(walk: Walk, source: str, *, complete: bool) -> Record:
    return Record(
        members=walk.members,
        kernel=_kernel(walk),
        machine=platform.machine(),
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source=source,
        complete=complete,
        tool=f"tidegate {__version__}",
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        patterns=tuple(sorted(walk.patterns)),
    )


def _kernel(walk: Walk) -> str:
    member = walk.members.get("proc/sys/kernel/osrelease")
    text = member.data.decode("ascii", "replace").strip() if member else ""
    return text or platform.release()


def _named_devices(walk: Walk, root: str) -> None:
    """Swap and mounts may use a name that is a link to the device: /dev/vg/lv."""
    tables = walk.text("proc/swaps").splitlines()[1:] + walk.text("proc/self/mountinfo").splitlines()
    for word in sorted({word for line in tables for word in line.split() if word.startswith("/dev/")}):
        path = word.lstrip("/").replace("\\040", " ")
        if ".." not in path.split("/") and os.path.islink(f"{root}/{path}"):
            walk.take(path)


# ---- processes


def _processes(walk: Walk, root: str) -> None:
    """Every process that holds a socket or serves block IO; all that is needed of those in the path."""
    from tidegate.host.daemons import role_of

    walk.patterns.update({"proc/*/stat", "proc/*/comm", "proc/*/fd/*", "proc/*/fd", "proc/*/task/*/stat"})
    walk.patterns.update(f"proc/*/{name}" for name in wanted.PROCESS_FILES)
    seen_namespaces: set[str] = set()
    serving = _nbd_pids(walk)
    for pid in sorted(_pids(root)):
        folder = f"proc/{pid}"
        name = _comm(f"{root}/{folder}")
        if name is None:
            continue
        files, denied = _files_held(f"{root}/{folder}/fd")
        in_path = role_of(name) is not None or pid in serving or any(map(_serves, files.values()))
        _namespace(walk, root, folder, seen_namespaces)
        if not (in_path or denied or any(one.startswith("socket:") for one in files.values())):
            continue
        for one in ("stat", "comm"):
            walk.take(f"{folder}/{one}")
        # A directory cannot be a member: an empty one says that its links were listed, or that they may not be.
        if denied:
            walk.put(f"{folder}/fd", Status.DENIED, "another user's process")
        else:
            walk.put(f"{folder}/fd", Status.FOUND, "listed; links that matter follow")
        for number, target in files.items():
            if target.startswith("socket:") or _serves(target):
                walk.put(f"{folder}/fd/{number}", Status.FOUND, target=target)
        if in_path:
            _in_path(walk, folder)


def _pids(root: str) -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir(f"{root}/proc") if name.isdigit()]
    except OSError:
        return ()


def _nbd_pids(walk: Walk) -> set[int]:
    found = set()
    for path, member in walk.members.items():
        if fnmatchcase(path, "sys/block/nbd*/pid") and member.data.strip().isdigit():
            found.add(int(member.data))
    return found


def _comm(folder: str) -> str | None:
    """A user process's name; None for kernel threads and for those that are gone."""
    try:
        text = Path(f"{folder}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) > 6 and fields[6].isdigit() and int(fields[6]) & _PF_KTHREAD:
        return None
    return name


def _files_held(place: str) -> tuple[dict[str, str], bool]:
    """Numbers and targets of open files; the second says that they may not be seen."""
    found: dict[str, str] = {}
    try:
        names = os.listdir(place)
    except OSError as error:
        return found, error.errno in REFUSED
    for number in names:
        try:
            found[number] = os.readlink(f"{place}/{number}")
        except OSError:
            continue  # closed meanwhile
    return found, False


def _serves(target: str) -> bool:
    """An open file that only a server of block IO has."""
    return target.startswith(("/dev/fuse", "/dev/ublk", "/dev/nbd"))


def _namespace(walk: Walk, root: str, folder: str, seen: set[str]) -> None:
    """One process stands for each other network namespace."""
    try:
        place = os.readlink(f"{root}/{folder}/ns/net")
    except OSError:
        return
    if place not in seen:
        seen.add(place)
        walk.put(f"{folder}/ns/net", Status.FOUND, target=place)


def _in_path(walk: Walk, folder: str) -> None:
    for name in wanted.PROCESS_FILES:
        walk.take(f"{folder}/{name}")
    for thread in walk.names(f"{folder}/task"):
        walk.take(f"{folder}/task/{thread}/stat")
    group = next(
        (line[3:] for line in walk.text(f"{folder}/cgroup").splitlines() if line.startswith("0::")), ""
    )
    parts = [part for part in group.split("/") if part and part != ".."]
    for depth in range(1, len(parts) + 1):
        for name in ("memory.max", "memory.high", "memory.min"):
            walk.take("sys/fs/cgroup/" + "/".join(parts[:depth]) + "/" + name)
