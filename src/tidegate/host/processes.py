"""Processes of a record: names, flags, and which sockets and device files each holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from tidegate.host import procfs
from tidegate.host.namespaces import is_container
from tidegate.host.reading import Reading, is_number
from tidegate.host.record import Status
from tidegate.result import Topic

PF_KTHREAD = 0x00200000  # include/linux/sched.h
_SOCKET = re.compile(r"socket:\[(\d+)\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process; its open files are known when `files_known`."""

    pid: int
    comm: str
    ppid: int
    kthread: bool
    files: tuple[str, ...]  # targets of /proc/PID/fd/*
    files_known: bool


class Processes:
    """All processes that a record shows."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.by_pid: dict[int, Process] = {}
        for name in reading.names("proc"):
            if is_number(name):
                process = _process(reading, int(name))
                if process is not None:
                    self.by_pid[process.pid] = process

    @cached_property
    def owners(self) -> dict[int, tuple[int, ...]]:
        """Socket inodes and the processes that hold them."""
        made: dict[int, list[int]] = {}
        for process in self.by_pid.values():
            for file in process.files:
                if found := _SOCKET.match(file):
                    made.setdefault(int(found[1]), []).append(process.pid)
        return {inode: tuple(dict.fromkeys(pids)) for inode, pids in made.items()}

    @cached_property
    def complete(self) -> bool:
        """Every process's open files could be read, so a socket without owner is the kernel's."""
        first = self.reading.status("proc/1/ns/net")
        if first in (Status.ABSENT, Status.NOT_HELD) or self.reading.status("proc/1/fd") is Status.NOT_HELD:
            return False  # not recorded; or /proc hides other users' processes (hidepid)
        # In a container others may share its network and not its processes.
        return not is_container(self.reading) and all(
            one.files_known for one in self.by_pid.values() if not one.kthread
        )

    def named(self, *patterns: str) -> tuple[Process, ...]:
        """User processes whose name matches a regular expression, in order of pid."""
        wanted = [re.compile(pattern) for pattern in patterns]
        return tuple(
            self.by_pid[pid]
            for pid in sorted(self.by_pid)
            if not self.by_pid[pid].kthread and any(one.fullmatch(self.by_pid[pid].comm) for one in wanted)
        )

    def holding(self, pattern: str) -> tuple[Process, ...]:
        """Processes that hold a file whose path matches a regular expression."""
        wanted = re.compile(pattern)
        return tuple(
            self.by_pid[pid]
            for pid in sorted(self.by_pid)
            if any(wanted.fullmatch(file) for file in self.by_pid[pid].files)
        )

    def sockets_of(self, pid: int) -> tuple[int, ...]:
        """Inodes of the sockets a process holds."""
        process = self.by_pid.get(pid)
        files = process.files if process else ()
        return tuple(int(found[1]) for file in files if (found := _SOCKET.match(file)))


def _process(reading: Reading, pid: int) -> Process | None:
    folder = f"proc/{pid}"
    comm, flags, ppid = (reading.peek(f"{folder}/comm") or "").rstrip("\n"), 0, 0
    parsed = (
        reading.parsed(f"{folder}/stat", Topic.DAEMONS, procfs.stat)
        if _is_there(reading, f"{folder}/stat")
        else None
    )
    if parsed:
        comm, flags, ppid = parsed.comm, parsed.flags, parsed.ppid
    elif not comm and _is_there(reading, f"{folder}/status"):
        comm = (reading.parsed(f"{folder}/status", Topic.DAEMONS, procfs.status) or {}).get("Name", "")
    if not comm and not parsed:
        return None
    names = reading.names(f"{folder}/fd")
    members = [reading.record.members.get(f"{folder}/fd/{name}") for name in names]
    targets = [member.target for member in members if member]
    return Process(
        pid=pid,
        comm=comm,
        ppid=ppid,
        kthread=bool(flags & PF_KTHREAD),
        files=tuple(target for target in targets if target),
        # A folder that was listed and held no socket leaves no member: covered and absent.
        files_known=reading.status(f"{folder}/fd") in (Status.FOUND, Status.ABSENT)
        and all(map(_file, targets)),
    )


def _file(target: str) -> bool:
    """An open file as /proc shows it: a path, or a kind with a number such as socket:[1234]."""
    return target.startswith("/") or ":" in target


def _is_there(reading: Reading, path: str) -> bool:
    return path in reading.record.members and reading.status(path) is not Status.ABSENT
