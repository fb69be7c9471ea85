"""Walks the paths that reading a host wants, on a live tree or inside an sos report, and keeps what became of each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Protocol

from tidegate.host import secrets, wanted
from tidegate.host.archive import MEMBER_BYTES_MAX, TOTAL_BYTES_MAX
from tidegate.host.record import Member, Status
from tidegate.host.tar_stream import MEMBERS_MAX

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ENODEV, errno.ENXIO}
REFUSED = frozenset({errno.EACCES, errno.EPERM})
_BLOCK_BYTES = 1 << 16
_ROOM = 100  # members left for netlink and for what says that there were too many


class Files(Protocol):
    """A tree of files to walk; errors are OSError with the errno a real tree would give."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder, links to folders followed."""

    def look(self, path: str) -> tuple[bytes | None, str]:
        """A file's bytes or a link's target; (None, "") for a directory or anything else."""


class Disk:
    """The tree below a directory; `/` for this host."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")

    def names(self, folder: str) -> list[str]:
        """As `Files.names`."""
        return os.listdir(f"{self.root}/{folder}")

    def look(self, path: str) -> tuple[bytes | None, str]:
        """As `Files.look`."""
        place = f"{self.root}/{path}"
        about = os.lstat(place)
        if stat.S_ISLNK(about.st_mode):
            return None, os.readlink(place)
        if not stat.S_ISREG(about.st_mode):
            return None, ""
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _whole(handle), ""
        finally:
            os.close(handle)


def _whole(handle: int) -> bytes:
    """All of a file, whose size the kernel does not tell in advance for /proc and /sys."""
    parts, size = [], 0
    while block := os.read(handle, _BLOCK_BYTES):
        parts.append(block)
        size += len(block)
        if size > MEMBER_BYTES_MAX:
            raise OSError(errno.EFBIG, f"more than {MEMBER_BYTES_MAX} bytes")
    return b"".join(parts)


class Walk:
    """Paths looked for so far and what became of each.

    `lists_absence` False: what is missing from this tree says nothing about the host (an sos report).
    """

    def __init__(self, files: Files, *, lists_absence: bool = True) -> None:
        self.files = files
        self.lists_absence = lists_absence
        self.members: dict[str, Member] = {}
        self.patterns: set[str] = set()
        self._names: dict[str, list[str]] = {}
        self._sets: dict[str, frozenset[str]] = {}
        self._size = 0

    def look_for_all(self) -> Iterator[str]:
        """Everything in `wanted`; says before each part what it is for."""
        for one in wanted.ALL:
            yield one.why
            self.look_for_each(one)
        for part in wanted.IN_PART:
            self._look_for_part(part)
        self._command_line()

    def look_for_each(self, one: wanted.Wanted) -> None:
        """The files of one line of `wanted`."""
        for name in one.names:
            self.look_for(f"{one.folder}/{name}".removeprefix("./"))

    def look_for(self, pattern: str) -> None:
        """A path, or all that fit a pattern."""
        for path in self.expand(pattern):
            self.take(path, listed="*" not in pattern)

    def expand(self, pattern: str) -> Iterator[str]:
        """The paths that fit a pattern, which from now on counts as looked for; those without `*` as they are."""
        if "*" not in pattern:
            return iter((pattern,))
        self.patterns.add(pattern)
        return self._expand("", pattern.split("/"))

    def _expand(self, folder: str, parts: list[str], *, starred: bool = False) -> Iterator[str]:
        """Paths that fit, `*` standing for one component.

        Below a `*` only names that the folder lists are followed: a listing costs less than asking for each of the
        sixty names that a block device might have.
        """
        if not parts:
            yield folder
            return
        head, rest = parts[0], parts[1:]
        if "*" not in head:
            if not starred or head in self._listed(folder):
                yield from self._expand(f"{folder}/{head}".lstrip("/"), rest, starred=starred)
            return
        for name in self.names(folder):
            if fnmatchcase(name, head) and not (name.startswith(".") and not head.startswith(".")):
                yield from self._expand(f"{folder}/{name}", rest, starred=True)

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._sets:
            self._sets[folder] = frozenset(self.names(folder))
        return self._sets[folder]

    def names(self, folder: str) -> list[str]:
        """Names in a folder; a folder that may not be listed becomes a denied member."""
        if folder not in self._names:
            try:
                self._names[folder] = sorted(self.files.names(folder))
            except OSError as error:
                self._names[folder] = []
                if error.errno in REFUSED:
                    self.put(folder, Status.DENIED, error.strerror or "")
        return self._names[folder]

    def take(self, path: str, *, listed: bool = True) -> None:
        """One path: a file's bytes or a link's target. Directories are only walked.

        `listed` False: a pattern in the manifest covers it, so that its absence needs no line of its own.
        """
        if path in self.members:
            return
        try:
            data, target = self.files.look(path)
        except OSError as error:
            state, detail = _status(error)
            if state is not Status.ABSENT or (listed and self.lists_absence):
                self.put(path, state, detail)
            return
        if data is not None or target:
            self.put(path, Status.FOUND, data=data or b"", target=target)

    def _look_for_part(self, part: wanted.InPart) -> None:
        """A file of which only some lines are kept; with nothing to keep, it is as good as empty."""
        for path in self.expand(part.path):
            self.take(path, listed="*" not in part.path)
            if self.is_file(path):
                self.put(
                    path, Status.FOUND, "in part", data=secrets.lines_of(self.text(path), part.keys).encode()
                )

    def _command_line(self) -> None:
        """The words of the kernel's command line that matter, and no other."""
        path = wanted.COMMAND_LINE
        self.take(path)
        if self.is_file(path):
            words = self.text(path).split()
            kept = [word for word in words if word.split("=", 1)[0] in wanted.CMDLINE_WORDS]
            self.put(path, Status.FOUND, "in part", data=(" ".join(kept) + "\n").encode())

    def is_file(self, path: str) -> bool:
        """Whether a path was taken and is a file's text."""
        member = self.members.get(path)
        return member is not None and member.status is Status.FOUND and not member.target

    def put(self, path: str, state: Status, detail: str = "", *, data: bytes = b"", target: str = "") -> None:
        """Keeps what became of a path, without the secrets in it and within what a record can hold."""
        data = secrets.without_secrets(path, data)
        before = self.members.get(path)
        self._size += len(data) - (len(before.data) if before else 0)
        if before is None and len(self.members) >= MEMBERS_MAX - _ROOM:
            # One line for the whole tree: of what has no line of its own nothing is known.
            path = path.split("/", maxsplit=1)[0]
            state, data, target, detail = Status.DAMAGED, b"", "", f"more than {MEMBERS_MAX:,} paths"
        elif self._size > TOTAL_BYTES_MAX:
            state, data, detail = Status.DAMAGED, b"", f"more than {TOTAL_BYTES_MAX:,} bytes in all"
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
    return (Status.DAMAGED if error.errno == errno.EFBIG else Status.DENIED), reason
