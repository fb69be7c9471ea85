"""Walks the paths that reading a host wants, on a live tree or inside an sos report, and keeps what became of each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Protocol

from tidegate.host import wanted
from tidegate.host.archive import MEMBER_BYTES_MAX
from tidegate.host.record import Member, Status

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ENODEV, errno.ENXIO}
REFUSED = frozenset({errno.EACCES, errno.EPERM})
_BLOCK_BYTES = 1 << 16


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

    def look_for_all(self) -> Iterator[str]:
        """Everything in `wanted`; says before each part what it is for."""
        for one in wanted.ALL:
            yield one.why
            for name in one.names:
                self.look_for(f"{one.folder}/{name}".removeprefix("./"))
        for path, keep in wanted.FILTERED:
            self._look_for_filtered(path, keep)
        self._command_line()

    def look_for(self, pattern: str) -> None:
        """A path, or all that fit a pattern."""
        if "*" not in pattern:
            self.take(pattern)
            return
        self.patterns.add(pattern)
        for path in self._expand("", pattern.split("/")):
            self.take(path, listed=False)

    def _expand(self, folder: str, parts: list[str]) -> Iterator[str]:
        """Paths that fit, `*` standing for one component; the last may be missing."""
        if not parts:
            yield folder
            return
        head, rest = parts[0], parts[1:]
        if "*" not in head:
            yield from self._expand(f"{folder}/{head}".lstrip("/"), rest)
            return
        for name in self.names(folder):
            if fnmatchcase(name, head) and not (name.startswith(".") and not head.startswith(".")):
                yield from self._expand(f"{folder}/{name}", rest)

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

    def _look_for_filtered(self, path: str, keep: tuple[str, ...]) -> None:
        """A file of which only lines with these beginnings are kept."""
        self.take(path)
        if self._is_file(path):
            kept = [line for line in self.text(path).splitlines() if line.startswith(keep)]
            data = "".join(line + "\n" for line in kept).encode()
            self.put(path, Status.FOUND, "in part", data=data)

    def _command_line(self) -> None:
        """The words of the kernel's command line that matter, and no other."""
        path = "proc/cmdline"
        self.take(path)
        if self._is_file(path):
            words = self.text(path).split()
            kept = [word for word in words if word.split("=", 1)[0] in wanted.CMDLINE_WORDS]
            self.put(path, Status.FOUND, "in part", data=(" ".join(kept) + "\n").encode())

    def _is_file(self, path: str) -> bool:
        member = self.members.get(path)
        return member is not None and member.status is Status.FOUND and not member.target

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
    return (Status.DAMAGED if error.errno == errno.EFBIG else Status.DENIED), reason
