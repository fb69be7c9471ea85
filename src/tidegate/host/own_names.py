"""The names in a record that are this host's own: of hosts, volumes, pools, mount points, exports, users.

Found only where names stand. A name that is also a word of the kernel's own files, or a usual part of paths, is not
taken: replacing it would change what the record says, and it says nothing of this host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tidegate.host.record import Member, Record

# Parts of paths that every system has.
_USUAL = frozenset(
    """
    bin boot cgroup containers data dev disk etc export exports fd home images kubelet lib lib64 libexec
    local log lost+found machine media mapper memfd mnt net nfs opt overlay overlay2 plugins pods proc root
    run sbin sda sdb pts lower upper mqueue shm snap srv storage swap swapfile swap.img sys system.slice
    systemd tmp user user.slice init.scope usr var volumes work merged diff docker containerd cri-o crio
    slice service scope mount socket target netns by-uuid by-label by-partuuid control default none false true
    localhost localdomain
    """.split()
)
# Files whose words are the kernel's own.
_KERNELS_OWN = (
    "proc/zoneinfo",
    "proc/vmstat",
    "proc/meminfo",
    "proc/net/netstat",
    "proc/net/snmp",
    "proc/modules",
)
# Below these a part of a member's path may be a name of this host.
_NAMED_TREES = (
    "dev/",
    "run/netns/",
    "run/systemd/",
    "etc/drbd.d/",
    "etc/iscsi/nodes/",
    "etc/systemd/",
    "sys/fs/cgroup/",
    "sys/kernel/config/",
    "var/lib/iscsi/",
)
_NAME = re.compile(r"(?=[\w.+-]*[^\W\d_])(?:[^\W\d]|\d[\w.+-])[\w.+-]{2,}")
_WORD = re.compile(r"[A-Za-z_][\w.+-]{2,}")
# Mount options whose value is a name.
_NAMING_OPTION = re.compile(
    r"(?:^|[,\s])(?:user(?:name)?|name|domain|mds_namespace|fs|cluster|volume|subvol|workgroup)=([^,\s]+)"
)
_LABEL = re.compile(r"(?m)^(?:PART)?LABEL=(\S+)")
_DRBD = re.compile(r"(?m)^\s*(?:resource|on|host)\s+\"?([\w.-]+)|\bfloating\s+([\w.-]+)")


def own_names(record: Record) -> frozenset[str]:
    """Every name that is this host's own, and its parts."""
    kernels = {word for path in _KERNELS_OWN for word in _WORD.findall(_text(record.members.get(path)))}
    kernels |= set(_mount_words(_text(record.members.get("proc/self/mountinfo"))))
    kernels |= {
        part
        for path in record.members
        if not path.startswith(_NAMED_TREES)
        for part in re.split("[/!]", path)
    }
    found: set[str] = set()
    for path, member in record.members.items():
        found.update(_names_of(path, member))
        if path.startswith(("sys/", "proc/sys/")) and not _holds_names(path):
            kernels.update(
                _WORD.findall(_text(member))
            )  # `loop` may be a host, and is what a controller talks
        elif path.startswith("proc/") and path.endswith("/comm"):
            kernels.update(re.split("[-.:/]", _text(member).strip()))
    names = {part for name in found for part in _parts(name) if _NAME.fullmatch(part)}
    return frozenset(
        name
        for name in names - kernels - _USUAL
        if not name.startswith(("iqn.", "nqn.")) and not _is_number(name) and name.lower() not in _USUAL
    )


def _names_of(path: str, member: Member) -> Iterator[str]:
    text = _text(member)
    for pattern, names in _SOURCES:
        if pattern.fullmatch(path):
            yield from names(text)
    if re.fullmatch(r"proc/\d+/(exe|root)", path):
        yield from _path_names(member.target.rpartition("/")[0])
    if path.startswith("dev/mapper/"):
        yield from _volume(path.rpartition("/")[2])
    elif path.startswith(("dev/disk/by-label/", "run/netns/", "etc/drbd.d/")):
        yield path.rpartition("/")[2].removesuffix(".res")
    elif re.fullmatch(r"dev/(?!disk/)[^/]+/[^/]+", path):  # a volume: /dev/GROUP/VOLUME
        yield from path.split("/")[1:]


def _holds_names(path: str) -> bool:
    return any(pattern.fullmatch(path) for pattern, _ in _SOURCES)


def _text(member: Member | None) -> str:
    return member.data.decode("utf-8", "replace") if member is not None else ""


def _mount_words(mountinfo: str) -> Iterator[str]:
    """File system types and the names of options: no names of this host."""
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fstype, _, rest = tail.partition(" ")
        options = [*head.split()[5:], *rest.split()[-1:]]
        yield from fstype.split(".")[:1]
        yield fstype
        yield from (one.partition("=")[0] for text in options for one in text.split(","))


def _parts(name: str) -> Iterator[str]:
    """A name, and the parts of one of a host or user: web7.example.org, user@host."""
    name = name.replace("\\040", " ").replace("\\x20", " ").strip("\"'()[]{};:*@+")
    yield name
    yield from re.split(r"[.@:\s]", name)


def _volume(name: str) -> Iterator[str]:
    """The parts of a device mapper name: vg-lv, hyphens inside of a part doubled, for /dev/vg/lv is the same volume."""
    for part in re.split(r"(?<!-)-(?!-)", name.strip()):
        yield part
        yield part.replace("--", "-")


def _is_number(name: str) -> bool:
    return re.fullmatch(r"\d+[kKMGTPi]*[bB]?|0x[0-9a-fA-F]+|\d+(?:[.-]\d+)*\w?", name) is not None


def _path_names(text: str) -> Iterator[str]:
    """Parts of paths, and servers of `server:/export` and `//server/share`."""
    for one in re.split(r"[\s,=]+", text):
        server, colon, _ = one.partition(":/")
        if colon and "/" not in server:
            yield server
        for word in re.split(r":(?=/)", one):
            if word.startswith("/dev/mapper/"):
                yield from _volume(word.rpartition("/")[2])
            elif word.startswith("/") and not word.startswith(_NO_NAMES):
                yield from word.split("/")


_NO_NAMES = (
    "/sys/",
    "/proc/",
    "/dev/sd",
    "/dev/nvme",
    "/dev/nbd",
    "/dev/loop",
    "/dev/vd",
    "/dev/disk/by-uuid",
)


def _mounts(text: str) -> Iterator[str]:
    yield from _path_names(text)
    yield from _NAMING_OPTION.findall(text)
    for line in text.splitlines():
        source = line.partition(" - ")[2].split(" ")[1:2]
        yield from (one.partition(":")[0] for one in source if "@" in one)  # user@host:/path


def _fstab(text: str) -> Iterator[str]:
    yield from _path_names(text)
    yield from _NAMING_OPTION.findall(text)
    yield from _LABEL.findall(text)
    for line in text.splitlines():
        yield from (one.partition(":")[0] for one in line.split()[:1] if "@" in one)


def _cgroup(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from line.split(":", 2)[-1].split("/")


def _exports(text: str) -> Iterator[str]:
    """`/path client(options) client`: clients are hosts, domains or netgroups."""
    yield from _path_names(text)
    for line in text.splitlines():
        yield from (word.partition("(")[0] for word in line.split()[1:])


def _nbdtab(text: str) -> Iterator[str]:
    """`nbd0 host export options`."""
    for line in text.splitlines():
        yield from line.split()[1:3]


def _client(text: str) -> Iterator[str]:
    """The host of nbd-client, the only program whose words are kept that are no options."""
    words = text.split("\0")
    if words[0] == "nbd-client":
        yield from (word for word in words[1:] if not word.startswith(("-", "/")))


def _drbd(text: str) -> Iterator[str]:
    for found in _DRBD.findall(text):
        yield from found
    yield from _path_names(text)


def _nfs_servers(text: str) -> Iterator[str]:
    yield from (line.split()[-1] for line in text.splitlines()[1:] if line.strip())


def _whole(text: str) -> Iterable[str]:
    return (text.strip(),)


_SOURCES: tuple[tuple[re.Pattern[str], Callable[[str], Iterable[str]]], ...] = (
    (
        re.compile(
            r"proc/sys/kernel/hostname|sys/block/[^/]+/bcache/label"
            r"|sys/bus/rbd/devices/[^/]+/(pool|name|pool_ns)"
        ),
        _whole,
    ),
    (re.compile(r"sys/block/[^/]+/dm/name"), _volume),
    (re.compile(r"proc/(self|1)/(mountinfo|mounts|mountstats)|proc/mounts"), _mounts),
    (
        re.compile(r"proc/swaps|sys/block/[^/]+/(loop/backing_file|backing_dev)|sys/kernel/config/.*_path"),
        _path_names,
    ),
    (re.compile(r"etc/fstab|(etc|run)/systemd/.*"), _fstab),
    (re.compile(r"proc/\d+/cgroup"), _cgroup),
    (re.compile(r"proc/\d+/cmdline"), _client),
    (re.compile(r"proc/fs/nfsfs/servers"), _nfs_servers),
    (re.compile(r"etc/exports"), _exports),
    (re.compile(r"etc/nbdtab"), _nbdtab),
    (re.compile(r"etc/drbd\.(conf|d/.*)"), _drbd),
)
