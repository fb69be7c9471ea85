"""Block devices and what they stand on, from /sys/block: partitions, dm, md, bcache, loop, zram, down to leaves.

A *way* leads from a swap, a mount or a disk down to one leaf: a device that stands on nothing here, or a mount that
is itself a network file system (a loop device over a file on NFS). Whether a leaf is on the network is the
transports' question, not this module's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tidegate.host import memory
from tidegate.host.facts import Mount, Queue
from tidegate.host.reading import Reading, is_number
from tidegate.host.record import Status
from tidegate.result import ChainLink, Evidence, Topic

# drivers/md/dm-uevent.c and the tools that make the devices: the prefix of a dm uuid says who made it.
_DM_KINDS = (
    ("LVM-", "lvm"),
    ("CRYPT-", "dm-crypt"),
    ("mpath-", "dm-multipath"),
    ("part", "dm-partition"),
    ("DMRAID-", "dm-raid"),
    ("VDO-", "dm-vdo"),
    ("stratis-", "dm-stratis"),
)
_LVM_THIN = ("-tpool", "-pool", "-tdata", "-tmeta")
_HEAD = re.compile(r"nvme\d+n\d+$")
_PATH = re.compile(r"(nvme\d+)c\d+(n\d+)$")
_DEPTH_MAX = 32  # of stacking; more is a loop in a damaged record


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A block device as sysfs shows it."""

    name: str  # sysfs name, `!` for `/`
    folder: str  # record path
    number: str  # major:minor, or empty when not known
    kind: str  # disk, partition, lvm, dm-crypt, dm-multipath, md, bcache, loop, zram, ...
    lower: tuple[str, ...]
    link: ChainLink
    parent: str = ""  # of a partition
    place: str = ""  # where sys/block/NAME points; empty when not known
    copies: int = 0
    mirror: bool = False
    front: str = ""
    file: str = ""  # backing file of a loop device
    size_kib: int | None = None
    stacked: bool = False  # made of other devices: one that shows none is not a leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way down, from the first link to a leaf."""

    links: tuple[ChainLink, ...] = ()
    device: Device | None = None  # the leaf, when it is a device
    mount: Mount | None = None  # the leaf, when it is a file system without a device
    unknown: str = ""  # why there is no leaf
    copies: int = 0
    front: tuple[str, ...] = ()


class Tree:
    """All block devices of a record, and the mounts that files lie on."""

    def __init__(self, reading: Reading, mounts: tuple[Mount, ...]) -> None:
        self.reading = reading
        self.mounts = mounts
        self.devices: dict[str, Device] = {}
        names = reading.names("sys/block")
        if not names:
            reading.missing("sys/block", Topic.USERS)
        for name in names:
            device = _device(reading, name)
            self.devices[name] = device
            for part in _partitions(reading, device):
                self.devices[part.name] = part
        self._by_number = {one.number: one for one in self.devices.values() if one.number}
        self._by_dm = _dm_names(reading, self.devices)

    def find(self, path: str) -> Device | None:
        """The device a path below /dev names; None when the record does not say."""
        name = path.removeprefix("/dev/")
        found = self.devices.get(name) or self.devices.get(name.replace("/", "!"))
        if found:
            return found
        mapped = name.removeprefix("mapper/")
        # LVM writes VG/LV as VG-LV with hyphens doubled (lib/misc/lvm-string.c: dm_build_dm_name).
        group, slash, volume = name.partition("/")
        lvm = f"{group.replace('-', '--')}-{volume.replace('-', '--')}" if slash else ""
        found = self._by_dm.get(mapped) or self._by_dm.get(lvm)
        if found:
            return found
        pointed = self.reading.link("dev/" + name, Topic.USERS) if self.reading.has("dev/" + name) else None
        return self.devices.get(pointed.rsplit("/", 1)[-1]) if pointed else None

    def by_number(self, number: str) -> Device | None:
        """The device of a major:minor."""
        return self._by_number.get(number)

    def down(self, device: Device) -> Iterator[Way]:
        """Every way from a device down to a leaf."""
        yield from self._down(device, Way(), ())

    def down_mount(self, mount: Mount) -> Iterator[Way]:
        """Every way from a mounted file system down."""
        yield from self._down_mount(mount, Way(), ())

    def down_file(self, path: str) -> Iterator[Way]:
        """Every way from a file down, the mount it lies on first."""
        yield from self._down_file(path, Way(), ())

    def queue_device(self, device: Device) -> Device:
        """Whose queue limits a disk: the first path's, where the disk is a multipath head without requests."""
        if not _HEAD.match(device.name) or self.reading.has(f"{device.folder}/queue/nr_requests"):
            return device
        paths = (one for name, one in self.devices.items() if is_path(name) and head_of(name) == device.name)
        return next(paths, device)

    def mount_of(self, path: str) -> Mount | None:
        """The mount a path lies on: the deepest mount point, the last mounted of equals."""
        best: Mount | None = None
        for mount in self.mounts:
            point = mount.point.rstrip("/")
            inside = path == point or path.startswith(point + "/")
            if inside and (best is None or len(point) >= len(best.point.rstrip("/"))):
                best = mount
        return best

    def _down(self, device: Device, way: Way, above: tuple[str, ...]) -> Iterator[Way]:
        links = (*way.links, device.link)
        front = (*way.front, device.front) if device.front else way.front
        way = replace(way, links=links, copies=way.copies + device.copies, front=front)
        if device.name in above or len(above) > _DEPTH_MAX:
            yield replace(way, unknown=f"{device.name} stands on itself")
            return
        above = (*above, device.name)
        if device.file:
            yield from self._down_backing(device, way, above)
            return
        if device.stacked and not device.lower:
            yield replace(way, unknown=f"the record shows nothing that {device.name} stands on")
            return
        # A DRBD device is a leaf of its own (its peer) and stands on a local disk besides.
        if not device.lower or device.name.startswith("drbd"):
            yield replace(way, device=device)
        for name in device.lower:
            below = self.devices.get(name)
            if below is None:
                yield replace(way, unknown=f"{device.name} stands on {name}, which the record does not show")
            else:
                yield from self._down(below, way, above)

    def _down_backing(self, device: Device, way: Way, above: tuple[str, ...]) -> Iterator[Way]:
        if device.file.startswith("/dev/"):
            below = self.find(device.file)
            if below is None:
                yield replace(
                    way, unknown=f"{device.name} stands on {device.file}, which the record does not show"
                )
            else:
                yield from self._down(below, way, above)
            return
        yield from self._down_file(device.file, way, above)

    def _down_file(self, path: str, way: Way, above: tuple[str, ...]) -> Iterator[Way]:
        mount = self.mount_of(path.removesuffix(" (deleted)"))
        file = ChainLink(kind="file", name=path)
        if mount is None:
            yield replace(way, links=(*way.links, file), unknown=f"no mount holds {path}")
            return
        yield from self._down_mount(mount, replace(way, links=(*way.links, file)), above)

    def _down_mount(self, mount: Mount, way: Way, above: tuple[str, ...]) -> Iterator[Way]:
        source = Evidence(
            source="proc/self/mountinfo", value=f"{mount.device} {mount.point} {mount.fstype} {mount.source}"
        )
        link = ChainLink(kind="mount", name=mount.point, detail=mount.fstype, evidence=(source,))
        way = replace(way, links=(*way.links, link))
        bottoms = self.under_mount(mount)
        if not bottoms and not mount.device.startswith("0:"):
            yield replace(way, unknown=f"the record shows no block device {mount.device} under {mount.point}")
        elif not bottoms:
            yield replace(way, mount=mount)
        for device in bottoms:
            yield from self._down(device, way, above)

    def under_mount(self, mount: Mount) -> tuple[Device, ...]:
        """The block devices a file system lies on; empty for one that lies on none."""
        found = self.by_number(mount.device)
        if found:
            return (found,)
        if mount.fstype == "btrfs":
            members = _btrfs_members(self.reading, self.devices, mount)
            if members:
                return members
        # btrfs and bcachefs show an anonymous number; their source names a device, or several with colons between.
        named = [self.find(part) for part in mount.source.split(":") if part.startswith("/dev/")]
        return tuple(one for one in named if one)


def is_path(name: str) -> bool:
    """A hidden path of a multipath NVMe namespace: nvme0c1n1. It has no number; nothing can be mounted on it."""
    return bool(_PATH.match(name))


def head_of(path: str) -> str:
    """The namespace that a path belongs to (drivers/nvme/host/multipath.c: nvme_mpath_set_disk_name)."""
    return _PATH.sub(r"\1\2", path)


def _device(reading: Reading, name: str) -> Device:
    folder = f"sys/block/{name}"
    # Neither is a gap by itself: a mount whose number finds no device is one, and so is an nbd whose state is open.
    number = (reading.peek(f"{folder}/dev") or "").strip()
    sectors = (reading.peek(f"{folder}/size") or "").strip()
    lower = tuple(sorted(reading.names(f"{folder}/slaves")))
    place = _place(reading, folder, name)
    device = Device(
        name=name,
        folder=folder,
        number=number,
        kind="disk",
        lower=lower,
        link=ChainLink(kind="disk", name=name, evidence=_seen(folder, place)),
        place=place,
        size_kib=int(sectors) // 2 if is_number(sectors) else None,
    )
    for special in (_dm, _md, _loop, _bcache, _zram):
        changed = special(reading, device)
        if changed is not None:
            return changed
    return device


def _place(reading: Reading, folder: str, name: str) -> str:
    """Where sys/block/NAME points; nothing when that is not where the kernel makes it point."""
    member = reading.record.members.get(folder)
    if member is None or not member.target:
        return ""
    if not member.target.startswith("../devices/") or not member.target.endswith("/" + name):
        reading.gap(folder, Status.DAMAGED.value, Topic.USERS, f"points to {member.target[:60]!r}")
        return ""
    return member.target


def _seen(path: str, value: str) -> tuple[Evidence, ...]:
    return (Evidence(source=path, value=value),) if value else ()


def _dm(reading: Reading, device: Device) -> Device | None:
    if not device.name.startswith("dm-") and not reading.has(f"{device.folder}/dm"):
        return None
    uuid = reading.word(f"{device.folder}/dm/uuid", Topic.USERS) or ""
    name = reading.word(f"{device.folder}/dm/name", Topic.USERS) or ""
    kind = next((kind for prefix, kind in _DM_KINDS if uuid.startswith(prefix)), "dm")
    if kind == "lvm" and uuid.endswith(_LVM_THIN):
        kind = "lvm-thin-pool"
    # dm-raid and dm-mirror legs are called NAME_rimage_N and NAME_mimage_N by LVM.
    legs = [
        one
        for one in device.lower
        if _dm_name(reading, one).rpartition("_")[0].endswith(("_rimage", "_mimage"))
    ]
    detail = f"{name}, {len(legs)} legs" if legs else name
    evidence = _seen(f"{device.folder}/dm/uuid", uuid) or _seen(f"{device.folder}/dm/name", name)
    stands = Evidence(source=f"{device.folder}/slaves", value=" ".join(device.lower), meaning="stands on")
    link = ChainLink(kind=kind, name=device.name, detail=detail, evidence=(*evidence, stands))
    return replace(
        device, kind=kind, link=link, stacked=True, mirror=bool(legs), copies=1 if kind == "dm-crypt" else 0
    )


def _dm_name(reading: Reading, name: str) -> str:
    return (reading.peek(f"sys/block/{name}/dm/name") or "").strip()


def _md(reading: Reading, device: Device) -> Device | None:
    if not reading.has(f"{device.folder}/md"):
        return None
    level = reading.word(f"{device.folder}/md/level", Topic.USERS) or ""
    legs = reading.number(f"{device.folder}/md/raid_disks", Topic.USERS)
    detail = level if legs is None else f"{level}, {legs} legs"
    stands = Evidence(source=f"{device.folder}/slaves", value=" ".join(device.lower), meaning="stands on")
    link = ChainLink(
        kind="md",
        name=device.name,
        detail=detail,
        evidence=(*_seen(f"{device.folder}/md/level", level), stands),
    )
    return replace(device, kind="md", link=link, stacked=True, mirror=level in ("raid1", "raid10"))


def _loop(reading: Reading, device: Device) -> Device | None:
    path = f"{device.folder}/loop/backing_file"
    if not device.name.startswith("loop"):
        return None
    file = reading.word(path, Topic.USERS, filled=True) or ""
    link = ChainLink(kind="loop", name=device.name, detail=file, evidence=_seen(path, file))
    # One that holds something and shows no file must not pass for a local disk; an unused one has no size.
    return replace(device, kind="loop", link=link, file=file, stacked=not file and device.size_kib != 0)


def _bcache(_reading: Reading, device: Device) -> Device | None:
    if not device.name.startswith("bcache"):
        return None
    stands = Evidence(source=f"{device.folder}/slaves", value=" ".join(device.lower), meaning="stands on")
    link = ChainLink(kind="bcache", name=device.name, evidence=(stands,))
    return replace(device, kind="bcache", link=link, stacked=True, front="bcache")


def _zram(reading: Reading, device: Device) -> Device | None:
    if not device.name.startswith("zram"):
        return None
    path = f"{device.folder}/backing_dev"
    # Both files are there, or neither: CONFIG_ZRAM_WRITEBACK.
    behind = reading.word(path, Topic.USERS, filled=True, must=reading.has(f"{device.folder}/bd_stat"))
    hidden = behind is None and (
        reading.status(path) is not Status.ABSENT or reading.has(f"{device.folder}/bd_stat")
    )
    behind = behind or ("not read" if hidden else "none")
    link = ChainLink(kind="zram", name=device.name, detail=behind, evidence=_seen(path, behind))
    if behind == "none" or hidden:
        return replace(device, kind="zram", link=link, stacked=hidden)
    # A regular file behind zram is not possible; the kernel prints the device's path (backing_dev_show).
    return replace(device, kind="zram", link=link, file=behind, front="zram writeback")


def _partitions(reading: Reading, disk: Device) -> Iterator[Device]:
    for name in reading.names(disk.folder):
        folder = f"{disk.folder}/{name}"
        if not name.startswith(disk.name) or (
            not reading.has(f"{folder}/partition") and not reading.has(f"{folder}/dev")
        ):
            continue
        number = (reading.peek(f"{folder}/dev") or "").strip()
        yield Device(
            name=name,
            folder=folder,
            number=number,
            kind="partition",
            lower=(disk.name,),
            parent=disk.name,
            link=ChainLink(
                kind="partition", name=name, detail=f"of {disk.name}", evidence=_seen(f"{folder}/dev", number)
            ),
        )


def _dm_names(reading: Reading, devices: Mapping[str, Device]) -> dict[str, Device]:
    made = {}
    for device in devices.values():
        name = _dm_name(reading, device.name)
        if name:
            made[name] = device
    return made


def _btrfs_members(reading: Reading, devices: Mapping[str, Device], mount: Mount) -> tuple[Device, ...]:
    """All devices of a btrfs file system (/sys/fs/btrfs/UUID/devices): one of them may be the network's."""
    source = mount.source.rsplit("/", 1)[-1]
    for uuid in reading.names("sys/fs/btrfs"):
        names = reading.names(f"sys/fs/btrfs/{uuid}/devices")
        if source in names:
            return tuple(devices[name] for name in names if name in devices)
    return ()


def queue_of(reading: Reading, device: Device) -> Queue:
    """The limits of a disk's queue."""
    folder = f"{device.folder}/queue"
    scheduler = reading.word(f"{folder}/scheduler", Topic.QUEUES)
    hardware = [name for name in reading.names(f"{device.folder}/mq") if name.isdigit()]
    return Queue(
        device=device.name,
        # A disk without requests of its own (DRBD, a multipath head) has no depth, and no file for it.
        nr_requests=reading.number(
            f"{folder}/nr_requests", Topic.QUEUES, must=reading.has(f"{device.folder}/mq")
        ),
        max_sectors_kib=reading.number(f"{folder}/max_sectors_kb", Topic.QUEUES, must=True),
        scheduler=None if scheduler is None else memory.chosen(scheduler) or None,
        hw_queues=len(hardware) or None,
        wbt_usec=_wbt(reading, f"{folder}/wbt_lat_usec"),
        read_ahead_kib=reading.number(f"{folder}/read_ahead_kb", Topic.QUEUES),
        size_kib=device.size_kib,
    )


def _wbt(reading: Reading, path: str) -> int | None:
    """Absent and unreadable (EINVAL) both mean that this queue has no writeback throttling."""
    if reading.status(path) is not Status.FOUND:
        return None
    return reading.number(path, Topic.QUEUES)
