"""Processes that hold sockets or stand in the path of block IO, taken into a record: of the first name and sockets, of
the others all that is needed to judge them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tidegate.host import netlink_format as form
from tidegate.host import secrets, wanted
from tidegate.host.reading import is_number
from tidegate.host.record import Status
from tidegate.host.sock_diag import STORAGE_PORTS
from tidegate.host.walk import REFUSED, Walk

_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_SOCKET = re.compile(r"socket:\[(\d+)\]")
# Files that only a server of block IO, or a client that keeps a device, has open.
_SERVES = ("/dev/fuse", "/dev/ublk", "/dev/nbd", "/dev/vduse")
# The column of the inode in the tables of sockets that netlink was not asked for.
_TABLES = (("proc/net/raw", 9), ("proc/net/raw6", 9), ("proc/net/packet", -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inodes:
    """Sockets by inode: all those that matter, and among them those that listen at a port of storage."""

    every: frozenset[int]
    serving: frozenset[int]


def inodes_of(walk: Walk) -> Inodes | None:
    """The sockets that netlink told; None where it did not, so that every socket may matter."""
    sockets = form.member(walk.members, form.SOCKETS, form.Sockets)
    if sockets is None:
        return None
    packet = form.member(walk.members, form.PACKET, form.PacketSockets)
    every = {one.inode for one in sockets.sockets} | {one.inode for one in (packet.packet if packet else ())}
    for path, column in _TABLES:
        for line in walk.text(path).splitlines()[1:]:
            words = line.split()
            if len(words) > column and is_number(words[column]):
                every.add(int(words[column]))
    serving = {
        one.inode for one in sockets.sockets if one.state == "LISTEN" and one.local_port in STORAGE_PORTS
    }
    return Inodes(every=frozenset(every - {0}), serving=frozenset(serving - {0}))


@dataclass(slots=True, kw_only=True)
class _Found:
    """A user process while it is looked at."""

    pid: int
    name: str
    parent: int
    files: dict[str, str] = field(default_factory=dict)  # numbers and targets, of those that matter
    inodes: frozenset[int] = frozenset()
    denied: bool = False


def take_processes(walk: Walk, root: str, inodes: Inodes | None) -> frozenset[int]:
    """Takes what matters of every process below `root`/proc; returns the inodes of sockets that have an owner."""
    walk.patterns.update(wanted.PROCESS_PATTERNS)
    namespaces: set[str] = set()
    found = []
    for pid in sorted(_pids(root)):
        one = _look(root, pid, inodes)
        if one is not None:
            _namespace(walk, root, pid, namespaces)
            found.append(one)
    in_path = _in_path(walk, found, inodes)
    for one in found:
        if one.pid in in_path or one.denied or one.inodes:
            _take(walk, one)
        if one.pid in in_path:
            _take_all(walk, one)
    return frozenset().union(*(one.inodes for one in found))


def _pids(root: str) -> Iterator[int]:
    try:
        names = os.listdir(f"{root}/proc")
    except OSError:
        return
    yield from (int(name) for name in names if is_number(name))


def _look(root: str, pid: int, inodes: Inodes | None) -> _Found | None:
    """A user process; None for kernel threads and for those that are gone."""
    folder = f"{root}/proc/{pid}"
    try:
        with open(f"{folder}/stat", encoding="utf-8", errors="replace") as source:
            text = source.read()
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    words = rest.split()
    if len(words) < 7 or not is_number(words[1]) or not is_number(words[6]) or int(words[6]) & _PF_KTHREAD:
        return None
    one = _Found(pid=pid, name=name, parent=int(words[1]))
    held: set[int] = set()
    try:
        numbers = os.listdir(f"{folder}/fd")
    except OSError as error:
        one.denied = error.errno in REFUSED
        return one
    for number in numbers:
        try:
            target = os.readlink(f"{folder}/fd/{number}")
        except OSError:
            continue  # closed meanwhile
        socket = _SOCKET.fullmatch(target)
        if socket and (inodes is None or int(socket[1]) in inodes.every):
            held.add(int(socket[1]))
        if (socket and int(socket[1]) in held) or target.startswith(_SERVES):
            one.files[number] = target
    one.inodes = frozenset(held)
    return one


def _in_path(walk: Walk, found: list[_Found], inodes: Inodes | None) -> set[int]:
    """Daemons by name, by the device they hold or set up, by the port they serve; and children that talk for them."""
    from tidegate.host.daemons import role_of

    serving = inodes.serving if inodes else frozenset()
    set_up = {
        int(member.data)
        for path, member in walk.members.items()
        if path.startswith("sys/block/nbd") and path.endswith("/pid") and member.data.strip().isdigit()
    }
    in_path = {
        one.pid
        for one in found
        if one.pid in set_up
        or role_of(one.name) is not None
        or one.name == "kubelet"
        or one.inodes & serving
        or any(target.startswith(_SERVES) for target in one.files.values())
    }
    return in_path | {one.pid for one in found if one.parent in in_path and one.inodes}


def _namespace(walk: Walk, root: str, pid: int, seen: set[str]) -> None:
    """One process stands for each other network namespace."""
    try:
        place = os.readlink(f"{root}/proc/{pid}/ns/net")
    except OSError:
        return
    if place not in seen:
        seen.add(place)
        walk.put(f"proc/{pid}/ns/net", Status.FOUND, target=place)


def _take(walk: Walk, one: _Found) -> None:
    folder = f"proc/{one.pid}"
    for name in ("stat", "comm"):
        walk.take(f"{folder}/{name}")
    # A directory cannot be a member: an empty one says that its links were listed, or that they may not be.
    if one.denied:
        walk.put(f"{folder}/fd", Status.DENIED, "another user's process")
    else:
        walk.put(f"{folder}/fd", Status.FOUND, "listed; links that matter follow")
    for number, target in sorted(one.files.items(), key=lambda item: int(item[0])):
        walk.put(f"{folder}/fd/{number}", Status.FOUND, target=target)


def _take_all(walk: Walk, one: _Found) -> None:
    folder = f"proc/{one.pid}"
    for name in wanted.PROCESS_FILES:
        walk.take(f"{folder}/{name}")
    for thread in walk.names(f"{folder}/task"):
        walk.take(f"{folder}/task/{thread}/stat")
    try:
        command, _ = walk.files.look(f"{folder}/cmdline")
    except OSError:
        command = None
    words = secrets.command_words(one.name, command or b"")
    if words:
        walk.put(f"{folder}/cmdline", Status.FOUND, "in part", data=words)
    lines = walk.text(f"{folder}/cgroup").splitlines()
    group = next((line[3:] for line in lines if line.startswith("0::")), "")
    parts = [part for part in group.split("/") if part and part != ".."]
    for depth in range(1, len(parts) + 1):
        for name in wanted.CGROUP_FILES:
            walk.take("sys/fs/cgroup/" + "/".join(parts[:depth]) + "/" + name)
