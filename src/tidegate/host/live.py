"""The running host, read into a record in memory. Reads only; what it may not read is kept as denied.

`root` reads another tree of the same shape (a sysroot, as lsblk --sysroot does) without asking netlink.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from tidegate import __version__
from tidegate.host import wanted
from tidegate.host.archive import MEMBER_BYTES_MAX
from tidegate.host.record import Member, Record, Status

Progress = Callable[[str], None]
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ENODEV, errno.ENXIO}
_REFUSED = {errno.EACCES, errno.EPERM}
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


def read_live(*, root: str = "/", progress: Progress = lambda _: None) -> Record:
    """This host as a record. `progress` is told what is being read."""
    walk = _Walk(root)
    for one in wanted.ALL:
        progress(one.why)
        for name in one.names:
            walk.look_for(f"{one.folder}/{name}".removeprefix("./"))
    for pattern, keep in wanted.FILTERED:
        walk.look_for_filtered(pattern, keep)
    _command_line(walk)
    progress("processes")
    _processes(walk)
    _named_devices(walk)
    if root == "/":
        progress("netlink")
        from tidegate.host import netlink

        for member in netlink.read_netlink(walk.members):
            walk.members[member.path] = member
    return Record(
        members=walk.members,
        kernel=_kernel(walk),
        machine=platform.machine(),
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source="live" if root == "/" else root,
        complete=True,
        tool=f"tidegate {__version__}",
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        patterns=tuple(sorted(walk.patterns)),
    )


def _kernel(walk: _Walk) -> str:
    member = walk.members.get("proc/sys/kernel/osrelease")
    text = member.data.decode("ascii", "replace").strip() if member else ""
    return text or platform.release()


class _Walk:
    """Paths looked for so far and what became of each."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.members: dict[str, Member] = {}
        self.patterns: set[str] = set()
        self._names: dict[str, list[str]] = {}

    def look_for(self, pattern: str) -> None:
        """A path, or all that fit a pattern."""
        if "*" not in pattern:
            self.take(pattern)
            return
        self.patterns.add(pattern)
        for path in self.expand("", pattern.split("/")):
            self.take(path, listed=False)

    def expand(self, folder: str, parts: list[str]) -> Iterator[str]:
        """Paths that fit, `*` standing for one component; the last may be missing."""
        if not parts:
            yield folder
            return
        head, rest = parts[0], parts[1:]
        if "*" not in head:
            yield from self.expand(f"{folder}/{head}".lstrip("/"), rest)
            return
        for name in self.names(folder):
            if fnmatchcase(name, head) and not (name.startswith(".") and not head.startswith(".")):
                yield from self.expand(f"{folder}/{name}", rest)

    def names(self, folder: str) -> list[str]:
        """Names in a folder; a folder that may not be listed becomes a denied member."""
        if folder not in self._names:
            try:
                self._names[folder] = sorted(os.listdir(f"{self.root}/{folder}"))
            except OSError as error:
                self._names[folder] = []
                if error.errno in _REFUSED:
                    self.put(folder, Status.DENIED, detail=error.strerror or "")
        return self._names[folder]

    def take(self, path: str, *, listed: bool = True) -> None:
        """One path: a file's bytes or a link's target. Directories are only walked.

        `listed` False: a pattern in the manifest covers it, so that its absence needs no line of its own.
        """
        if path in self.members:
            return
        place = f"{self.root}/{path}"
        try:
            about = os.lstat(place)
            if stat.S_ISLNK(about.st_mode):
                self.put(path, Status.FOUND, target=os.readlink(place))
            elif stat.S_ISREG(about.st_mode):
                self._file(path, place)
        except OSError as error:
            state, detail = _status(error)
            if listed or state is not Status.ABSENT:
                self.put(path, state, detail)

    def _file(self, path: str, place: str) -> None:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            parts = []
            size = 0
            while block := os.read(handle, 1 << 20 if size else 1 << 16):
                parts.append(block)
                size += len(block)
                if size > MEMBER_BYTES_MAX:
                    self.put(path, Status.DAMAGED, detail=f"more than {MEMBER_BYTES_MAX} bytes")
                    return
        finally:
            os.close(handle)
        self.put(path, Status.FOUND, data=b"".join(parts))

    def look_for_filtered(self, path: str, keep: tuple[str, ...]) -> None:
        """A file of which only lines with these beginnings are kept."""
        self.take(path)
        member = self.members.get(path)
        if member is not None and member.status is Status.FOUND and not member.target:
            lines = member.data.decode("utf-8", "replace").splitlines()
            kept = [line for line in lines if line.startswith(keep)]
            self.put(
                path, Status.FOUND, data="".join(line + "\n" for line in kept).encode(), detail="in part"
            )

    def put(self, path: str, state: Status, detail: str = "", *, data: bytes = b"", target: str = "") -> None:
        """Keeps what became of a path."""
        self.members[path] = Member(path=path, status=state, data=data, target=target, detail=detail)

    def text(self, path: str) -> str:
        """The text of a path taken before, empty where it is not there."""
        member = self.members.get(path)
        return member.data.decode("utf-8", "replace") if member is not None else ""


def _status(error: OSError) -> tuple[Status, str]:
    if error.errno in _GONE:
        return Status.ABSENT, ""
    reason = error.strerror or str(error)
    # EINVAL and EIO are how sysfs says that an attribute does not hold for this device (queue/wbt_lat_usec, speed).
    if error.errno in {errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.ENODATA}:
        return Status.ABSENT, reason
    return Status.DENIED, reason


def _command_line(walk: _Walk) -> None:
    """The words of the kernel's command line that matter, and no other."""
    path = "proc/cmdline"
    walk.take(path)
    words = walk.text(path).split()
    if path in walk.members and walk.members[path].status is Status.FOUND:
        kept = [word for word in words if word.split("=", 1)[0].split(".", 1)[0] in _CMDLINE]
        walk.put(path, Status.FOUND, data=(" ".join(kept) + "\n").encode(), detail="in part")


_CMDLINE = {word.split(".", 1)[0] for word in wanted.CMDLINE_WORDS}


def _named_devices(walk: _Walk) -> None:
    """Swap and mounts may use a name that is a link to the device: /dev/vg/lv."""
    tables = walk.text("proc/swaps").splitlines()[1:] + walk.text("proc/self/mountinfo").splitlines()
    for word in sorted({word for line in tables for word in line.split() if word.startswith("/dev/")}):
        path = word.lstrip("/").replace("\\040", " ")
        if ".." not in path.split("/") and os.path.islink(f"{walk.root}/{path}"):
            walk.take(path)


# ---- processes


def _processes(walk: _Walk) -> None:
    """Every process that holds a socket or serves block IO; all that is needed of those in the path."""
    from tidegate.host.daemons import role_of

    walk.patterns.update({"proc/*/stat", "proc/*/comm", "proc/*/fd/*", "proc/*/fd", "proc/*/task/*/stat"})
    walk.patterns.update(f"proc/*/{name}" for name in wanted.PROCESS_FILES)
    seen_namespaces: set[str] = set()
    serving = _nbd_pids(walk)
    for pid in sorted(_pids(walk.root)):
        folder = f"proc/{pid}"
        name = _comm(walk, folder)
        if name is None:
            continue
        files, denied = _files_held(walk, folder)
        in_path = role_of(name) is not None or pid in serving or any(map(_serves, files.values()))
        _namespace(walk, folder, seen_namespaces)
        if not (in_path or denied or any(one.startswith("socket:") for one in files.values())):
            continue
        for one in ("stat", "comm"):
            walk.take(f"{folder}/{one}")
        if denied:
            walk.put(f"{folder}/fd", Status.DENIED, "another user's process")
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


def _nbd_pids(walk: _Walk) -> set[int]:
    found = set()
    for path, member in walk.members.items():
        if fnmatchcase(path, "sys/block/nbd*/pid") and member.data.strip().isdigit():
            found.add(int(member.data))
    return found


def _comm(walk: _Walk, folder: str) -> str | None:
    """A user process's name; None for kernel threads and for those that are gone."""
    try:
        text = Path(f"{walk.root}/{folder}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) > 6 and fields[6].isdigit() and int(fields[6]) & _PF_KTHREAD:
        return None
    return name


def _files_held(walk: _Walk, folder: str) -> tuple[dict[str, str], bool]:
    """Numbers and targets of open files; the second says that they may not be seen."""
    place = f"{walk.root}/{folder}/fd"
    found: dict[str, str] = {}
    try:
        names = os.listdir(place)
    except OSError as error:
        return found, error.errno in _REFUSED
    for number in names:
        try:
            found[number] = os.readlink(f"{place}/{number}")
        except OSError:
            continue  # closed meanwhile
    return found, False


def _serves(target: str) -> bool:
    """An open file that only a server of block IO has."""
    return target.startswith(("/dev/fuse", "/dev/ublk", "/dev/nbd"))


def _namespace(walk: _Walk, folder: str, seen: set[str]) -> None:
    """One process stands for each other network namespace."""
    try:
        place = os.readlink(f"{walk.root}/{folder}/ns/net")
    except OSError:
        return
    if place not in seen:
        seen.add(place)
        walk.put(f"{folder}/ns/net", Status.FOUND, target=place)


def _in_path(walk: _Walk, folder: str) -> None:
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
