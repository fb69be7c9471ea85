"""Daemons in (or beside) the path of block IO: their flags, locked memory, limits, and where their binary lives."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidegate.host import procfs
from tidegate.host.facts import BlockUser, Daemon, Thread
from tidegate.host.processes import Process
from tidegate.host.reading import Reading
from tidegate.host.record import Status
from tidegate.host.transports.reach import Scene
from tidegate.result import Topic

# Names as the kernel keeps them (15 letters), and what the daemon does for block IO.
_ROLES: tuple[tuple[str, str], ...] = (
    (r"nbd-client", "reconnects"),
    (r"iscsid", "reconnects"),
    (r"iscsiuio", "serves"),
    (r"multipathd", "path-manager"),
    (r"rpc\.(gssd|statd|idmapd)|rpcbind|nfsidmap|gssproxy", "reconnects"),
    (r"tlshd|stunnel\d?|stunnel4|ghostunnel|socat", "proxy"),
    (r"nbdkit.*|qemu-nbd|nbd-server|qemu-storage-d.*", "server"),
    (
        r"tgtd|nfs-ganesha|ganesha\.nfsd|rpc\.mountd|rpc\.nfsd|smbd|istgt|spdk_tgt|nvmf_tgt|tcmu-runner",
        "server",
    ),
    (r"ceph-(osd|mon|mds)|glusterfsd|glusterd|linstor.*|drbdsetup", "server"),
    (r"rbd-nbd|rbd-ggate|ublk.*|ublksrv.*|tcmu-runner", "serves"),
    (
        r"sshfs|ceph-fuse|juicefs|s3fs|goofys|rclone|glusterfs|mfsmount|weed|davfs2?|mount\.davfs|gcsfuse|blobfuse2?|curlftpfs",
        "serves",
    ),
)
PF_MEMALLOC_NOIO = 0x00080000  # include/linux/sched.h; with PF_LOCAL_THROTTLE what PR_SET_IO_FLUSHER sets
PF_LOCAL_THROTTLE = 0x00100000


def role_of(comm: str) -> str | None:
    """What a process of that name does for block IO, or None when it is none of these daemons."""
    return next((role for pattern, role in _ROLES if re.fullmatch(pattern, comm)), None)


def daemons_of(scene: Scene, users: Iterable[BlockUser]) -> tuple[Daemon, ...]:
    """Every process in the path of a user, and every known daemon while there is a user."""
    users = tuple(users)
    in_path: dict[int, list[BlockUser]] = {}
    for user in users:
        for pid in user.daemons:
            in_path.setdefault(pid, []).append(user)
    if users:
        for one in scene.processes.by_pid.values():
            if not one.kthread and role_of(one.comm):
                in_path.setdefault(one.pid, [])
        _check_seen(scene)
    return tuple(
        _daemon(scene, process, in_path[pid], users)
        for pid in sorted(in_path)
        if (process := scene.processes.by_pid.get(pid)) is not None
    )


def _check_seen(scene: Scene) -> None:
    """Every machine has a process 1: where it is not shown, others are not either (hidepid, a partial record)."""
    if 1 not in scene.processes.by_pid:
        held = scene.reading.status("proc/1/comm") is Status.NOT_HELD
        detail = "process 1 is not shown, so other processes may be missing"
        scene.reading.gap("proc/1/comm", "not held" if held else "cannot be seen", Topic.DAEMONS, detail)


def _daemon(scene: Scene, process: Process, users: list[BlockUser], every: tuple[BlockUser, ...]) -> Daemon:
    reading, folder = scene.reading, f"proc/{process.pid}"
    fields = reading.parsed(f"{folder}/status", Topic.DAEMONS, procfs.status) or {}
    group = reading.parsed(f"{folder}/cgroup", Topic.DAEMONS, procfs.cgroup_path)
    limit, known = _memory_max(reading, group, folder)
    exe = reading.link(f"{folder}/exe", Topic.DAEMONS)
    device, on_user = _home(scene, exe, (*users, *every))
    role = "serves" if any(user.userspace for user in users) else role_of(process.comm) or "serves"
    return Daemon(
        pid=process.pid,
        comm=process.comm,
        role=role,
        threads=_threads(reading, folder),
        locked_kib=procfs.status_kib(fields, "VmLck"),
        resident_kib=procfs.status_kib(fields, "VmRSS"),
        oom_score_adj=reading.number(f"{folder}/oom_score_adj", Topic.DAEMONS, signed=True),
        cgroup=group[0] if group else None,
        memory_max=limit,
        memory_max_known=known,
        exe_device=device,
        exe_on_user=on_user,
        users=tuple(user.name for user in users),
        evidence=folder,
    )


def _threads(reading: Reading, folder: str) -> tuple[Thread, ...]:
    made = []
    for name in reading.names(f"{folder}/task"):
        stat = reading.parsed(f"{folder}/task/{name}/stat", Topic.DAEMONS, procfs.stat)
        if stat:
            made.append(Thread(tid=stat.pid, comm=stat.comm, flags=stat.flags))
        elif (
            name.isascii()
            and name.isdigit()
            and reading.status(f"{folder}/task/{name}/stat") is not Status.ABSENT
        ):
            made.append(Thread(tid=int(name), comm="", flags=None))
    if not made:
        stat = reading.parsed(f"{folder}/stat", Topic.DAEMONS, procfs.stat)
        made = [Thread(tid=stat.pid, comm=stat.comm, flags=stat.flags)] if stat else []
    return tuple(made)


def _memory_max(reading: Reading, group: tuple[str, bool] | None, folder: str) -> tuple[int | None, bool]:
    """The tightest memory.max on the way up from a cgroup, in bytes; the second says whether it is known."""
    if group is None:
        return None, False
    parts = [part for part in group[0].split("/") if part]
    if parts and not group[1]:
        reading.gap(
            f"{folder}/cgroup", "not held", Topic.DAEMONS, "limits of the old cgroup hierarchy are not read"
        )
        return None, False
    least: int | None = None
    known = True
    for depth in range(len(parts), 0, -1):
        path = "sys/fs/cgroup/" + "/".join(parts[:depth]) + "/memory.max"
        text = reading.word(path, Topic.DAEMONS)
        if text == "max" or reading.status(path) is Status.ABSENT:
            continue
        limit = reading.number(path, Topic.DAEMONS) if text is not None else None
        known = known and limit is not None
        if limit is not None:
            least = limit if least is None else min(least, limit)
    return least, known


def _home(scene: Scene, exe: str | None, users: tuple[BlockUser, ...]) -> tuple[str | None, str | None]:
    """The device a binary lies on, and the block user that this is, one that the process serves before others."""
    if not exe or not exe.startswith("/"):
        return None, None
    mount = scene.tree.mount_of(exe.removesuffix(" (deleted)"))
    if mount is None:
        return None, None
    leaves = {way.device.name for way in scene.tree.down_mount(mount) if way.device}
    leaves |= {f"mount {mount.point}", mount.source}
    on_user = next((user.name for user in users if user.leaf in leaves or user.name in leaves), None)
    return mount.device if mount.device != "0:0" else mount.point, on_user
