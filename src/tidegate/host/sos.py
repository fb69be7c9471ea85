"""sos reports as records: what a report holds is read where sos keeps it; what it does not hold stays not held.

sos copies parts of /proc, /sys and /etc as they are (sysfs below sys/devices, with the links of sys/block and
sys/class) and keeps what commands printed below sos_commands/. Their output is turned into the members that netlink
gives on a live host, so that one reader serves both. Nothing absent from a report is taken for absent from the host.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tidegate.errors import BadInput
from tidegate.host import sos_commands
from tidegate.host.archive import MEMBER_BYTES_MAX, TOTAL_BYTES_MAX, check_path
from tidegate.host.pages import page_bytes
from tidegate.host.record import Record, Status
from tidegate.host.tar_stream import MEMBERS_MAX, member_data, members_of
from tidegate.host.walk import Walk

_TOP = ("proc/", "sys/", "sos_commands/", "etc/fstab", "etc/nbdtab", "etc/iscsi/iscsid.conf", "etc/exports")
_ALSO = ("var/lib/kubelet/config.yaml", "version.txt", "run/systemd/container")
# What sos adds below proc and sys that no finding looks at; some of it is large.
_PASSED_OVER = re.compile(
    r"proc/(irq|bus|acpi|driver|\d+/(stack|limits|oom_score|oom_adj|cpuset|environ|smaps|maps))(/|$)"
    r"|sys/(firmware|kernel/(slab|debug|tracing|security)|module/(?!zswap|nbd|nvme_core))"
    r"|sos_commands/(?!networking/|block/|kernel/uname|memory/swapon|process/ps_|date/)"
)
_NAME = re.compile(r"(\./)?sos(report)?-[^/]+(/|$)")
_LINKS_MAX = 16


def looks_like_folder(folder: Path) -> bool:
    """A directory that sos left, or that its archive was unpacked to."""
    return (folder / "sos_commands").is_dir()


def looks_like_member(name: str) -> bool:
    """The first member of an sos archive: sosreport-HOST-DATE-ID/..."""
    return _NAME.match(name) is not None


def from_folder(folder: Path) -> Record:
    """A record from an unpacked sos report."""
    tree = _Tree(str(folder))
    for place, folders, names in os.walk(folder):
        for one in [*names, *(name for name in folders if (Path(place) / name).is_symlink())]:
            path = Path(place) / one
            shown = path.relative_to(folder).as_posix()
            if not _wanted(shown):
                continue
            if path.is_symlink():
                tree.add_link(shown, str(path.readlink()))
            elif path.is_file():
                tree.add_file(shown, path.stat().st_size, path.read_bytes)
    return _record(tree)


def from_tar(name: str, first: tarfile.TarInfo, tar: tarfile.TarFile) -> Record:
    """A record from an sos archive, read from the stream; nothing is unpacked."""
    tree = _Tree(name)
    for member in members_of(name, first, tar):
        path = member.name.removeprefix("./").partition("/")[2].rstrip("/")
        if not path or not _wanted(path):
            continue
        check_path(name, repr(member.name[:80]), path)
        if member.issym():
            tree.add_link(path, member.linkname)
        elif member.isreg():
            tree.add_file(path, member.size, lambda member=member: member_data(name, tar, member))
    return _record(tree)


def _wanted(path: str) -> bool:
    return path.startswith((*_TOP, *_ALSO)) and not _PASSED_OVER.match(path)


class _Tree:
    """The files and links of a report, with links followed inside of it (a `walk.Files`)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self._below: dict[str, set[str]] = {}
        self._total = 0

    def add_file(self, path: str, size: int, data: object) -> None:
        """A file; one too large to be of use is passed over."""
        assert callable(data)
        self._total += size if size <= MEMBER_BYTES_MAX else 0
        if self._total > TOTAL_BYTES_MAX or len(self.files) > MEMBERS_MAX:
            raise BadInput(
                self.name,
                path,
                f"more than {TOTAL_BYTES_MAX:,} bytes of proc and sys",
                "a report of one host",
            )
        if size <= MEMBER_BYTES_MAX:
            self.files[path] = data()
            self._index(path)

    def add_link(self, path: str, target: str) -> None:
        """A symbolic link, kept as it is."""
        self.links[path] = target
        self._index(path)

    def _index(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        while name and name not in self._below.setdefault(folder, set()):
            self._below[folder].add(name)
            folder, _, name = folder.rpartition("/")

    def real(self, path: str) -> str:
        """A path with the links in front of its last part followed; a loop or a way out is not found."""
        done, parts, hops = "", path.split("/"), 0
        while len(parts) > 1:
            done = f"{done}/{parts.pop(0)}".lstrip("/")
            if done not in self.links:
                continue
            hops += 1
            target = self.links[done]
            base = "" if target.startswith("/") else posixpath.dirname(done)
            moved = posixpath.normpath(posixpath.join("/", base, target.lstrip("/"))).lstrip("/")
            if hops > _LINKS_MAX or moved == done:
                raise OSError(errno.ENOENT, "a loop of links")
            done, parts = "", [*(part for part in moved.split("/") if part), *parts]
        return f"{done}/{parts[0]}".lstrip("/") if parts else done

    def names(self, folder: str) -> list[str]:
        """As `walk.Files.names`."""
        place = self.real(f"{folder}/.").removesuffix("/.") if folder else ""
        if place not in self._below:
            raise OSError(errno.ENOENT, "not held")
        return sorted(self._below[place])

    def look(self, path: str) -> tuple[bytes | None, str]:
        """As `walk.Files.look`."""
        place = self.real(path)
        if place in self.links:
            return None, self.links[place]
        if place in self.files:
            return self.files[place], ""
        if place in self._below:
            return None, ""
        raise OSError(errno.ENOENT, "not held")

    def command(self, *names: str) -> str | None:
        """What a command printed, by the file sos keeps it in; the first of several that is held."""
        found = next(
            (self.files[one] for name in names if (one := f"sos_commands/{name}") in self.files), None
        )
        return None if found is None else found.decode("utf-8", "replace")

    def commands(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Every command whose file begins so, by the rest of its name."""
        start = f"sos_commands/{prefix}"
        for path in sorted(self.files):
            if path.startswith(start):
                yield path.removeprefix(start), self.files[path].decode("utf-8", "replace")


def _record(tree: _Tree) -> Record:
    if not tree.files:
        raise BadInput(tree.name, "", "an sos report without proc/ or sys/", "a whole sos report")
    walk = Walk(tree, lists_absence=False)
    for _ in walk.look_for_all():
        pass
    _processes(tree, walk)
    ss_output = tree.command("networking/ss_-peaonmi")
    answers = sos_commands.netlink_answers(
        ss=ss_output,
        addresses=tree.command("networking/ip_-o_addr"),
        links=tree.command("networking/ip_-s_-d_link", "networking/ip_-d_address"),
        neighbours=tree.command("networking/ip_-s_-s_neigh_show"),
        drivers=dict(tree.commands("networking/ethtool_-i_")),
        rings=dict(tree.commands("networking/ethtool_-g_")),
        channels=dict(tree.commands("networking/ethtool_-l_")),
        features=dict(tree.commands("networking/ethtool_-k_")),
    )
    for path, data in answers.items():
        walk.put(path, Status.FOUND, "from sos_commands/networking", data=data)
    if ss_output is not None:
        _owners(walk, ss_output)
    uname = (tree.command("kernel/uname_-a") or "").split()
    release = walk.text("proc/sys/kernel/osrelease").strip() or (uname[2] if len(uname) > 2 else "")
    machine = next((word for word in reversed(uname) if word != "GNU/Linux"), "")
    version = tree.files.get("version.txt", b"").decode("utf-8", "replace").strip()
    return Record(
        members=walk.members,
        kernel=release,
        machine=machine,
        taken=sos_commands.date_of(tree.command("date/date_--utc", "date/date") or ""),
        source=tree.name,
        complete=False,
        tool=version or "sos report",
        page_bytes=page_bytes(machine, walk.text("proc/meminfo"), walk.text("proc/zoneinfo")),
        patterns=(),
    )


def _processes(tree: _Tree, walk: Walk) -> None:
    """Name, memory and limits of user processes; sos keeps neither flags nor open files of them."""
    for pid in (name for name in tree.names("proc") if name.isdigit()):
        status = tree.files.get(f"proc/{pid}/status", b"")
        if b"\nVmSize:" not in status:  # a kernel thread has no memory of its own
            continue
        for name in ("status", "cgroup", "oom_score_adj"):
            walk.take(f"proc/{pid}/{name}")


def _owners(walk: Walk, ss_output: str) -> None:
    """The command ss -p, run as root, names the owner of every socket: the links that /proc/PID/fd would show."""
    for pid, number, inode in sos_commands.owners(ss_output):
        walk.put(f"proc/{pid}/fd/{number}", Status.FOUND, "from ss", target=f"socket:[{inode}]")
    for path in list(walk.members):
        if path.startswith("proc/") and path.endswith("/status"):
            walk.put(path.removesuffix("status") + "fd", Status.FOUND, "from ss")
