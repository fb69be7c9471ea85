"""A record: everything reading a host needs, each file at its own path, and a manifest that says what was looked for.

A live host is recorded into memory first, so a live check and a check of its saved record see the same bytes.
Paths in a record are relative and as on the host: `proc/zoneinfo`, `sys/block/nbd0/queue/nr_requests`; what netlink
said is JSON under `netlink/`. `host/archive.py` reads and writes records, `host/live.py` and `host/sos.py` make them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class Status(StrEnum):
    """What became of a path that was looked for."""

    FOUND = "found"
    ABSENT = "absent"  # looked for and not there: this is knowledge
    DENIED = "denied"  # there, and we may not read it
    DAMAGED = "damaged"  # in the manifest, but the record's copy is missing, short or altered
    NOT_HELD = "not held"  # this kind of record never looked for it (an sos report)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One path of a record. `target` is where a symbolic link points (sysfs is made of them), else empty."""

    path: str
    status: Status
    data: bytes = b""
    target: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A host's files. `complete`: a path that is not listed was looked for by a pattern and is absent."""

    members: Mapping[str, Member]
    kernel: str  # uname -r
    machine: str
    taken: str  # ISO 8601, UTC
    source: str  # "live", or the file it was read from
    complete: bool = True  # False: an sos report, where not listed means not held
    tool: str = ""  # what made it
    page_bytes: int = 4096
    anonymised: bool = False
    made: bool = False  # made by hand, not read from a machine
    patterns: tuple[str, ...] = ()  # what was looked for, see `covers`; outside of them nothing is known


def status(record: Record, path: str) -> Status:
    """What is known of a path.

    A path of its own line has that line's status. Below a folder that is denied, damaged or absent everything is so.
    Else it is absent where a pattern covers it, and not held where nothing looked for it.
    """
    member = record.members.get(path)
    if member is not None:
        return member.status
    folder = path.rpartition("/")[0]
    while folder:
        above = record.members.get(folder)
        if above is not None and above.status is not Status.FOUND:
            return above.status
        folder = folder.rpartition("/")[0]
    if not record.complete or not covers(record.patterns, path):
        return Status.NOT_HELD
    inside = path + "/"
    return Status.FOUND if any(one.startswith(inside) for one in record.members) else Status.ABSENT


def covers(patterns: tuple[str, ...], path: str) -> bool:
    """Whether one of the patterns looked for a path.

    `*` stands for any part of one name that does not begin with a dot, a name `**` for everything below. `a/b/*` lists
    the folder, so it covers `a/b` itself as well.
    """
    return _reaches(_tree(patterns), path.split("/"), 0)


_Node = dict[str, Any]  # names of the next component to nodes; "" marks the end of a pattern


@lru_cache(maxsize=16)
def _tree(patterns: tuple[str, ...]) -> _Node:
    top: _Node = {}
    for pattern in patterns:
        node = top
        for part in pattern.split("/"):
            node = node.setdefault(part, {})
        node[""] = {}
    return top


def _reaches(node: _Node, parts: list[str], at: int) -> bool:
    if at == len(parts):
        return "" in node or "" in node.get("*", {}) or "**" in node
    for name, below in node.items():
        if name == "**":
            return True
        if (name == parts[at] or _fits(parts[at], name)) and _reaches(below, parts, at + 1):
            return True
    return False


def _fits(name: str, pattern: str) -> bool:
    return "*" in pattern and not name.startswith(".") and fnmatchcase(name, pattern)


def text(record: Record, path: str) -> str | None:
    """A file's text, or None when it is not FOUND. Bytes that are no UTF-8 become U+FFFD."""
    member = record.members.get(path)
    if member is None or member.status is not Status.FOUND or member.target:
        return None
    return member.data.decode("utf-8", "replace")


def target(record: Record, path: str) -> str | None:
    """Where a recorded symbolic link points, as read, or None."""
    member = record.members.get(path)
    return member.target if member is not None and member.status is Status.FOUND and member.target else None


def listing(record: Record, folder: str) -> tuple[str, ...]:
    """Names directly below a folder, sorted; also those whose own status is not FOUND."""
    prefix = folder.rstrip("/") + "/"
    names = {path[len(prefix) :].split("/", 1)[0] for path in record.members if path.startswith(prefix)}
    return tuple(sorted(names))


def matching(record: Record, pattern: str) -> Iterator[Member]:
    """Members whose path matches a shell pattern (`*` also matches `/`), in path order."""
    for path in sorted(record.members):
        if fnmatchcase(path, pattern):
            yield record.members[path]
