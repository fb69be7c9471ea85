"""Where a guest's things lie while it runs: a folder in memory of its own; and what must be there before it begins.

A folder belongs to the process that made it by a lock on it, which ends with that process however it ends: what a
killed one left, as large as a guest, is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.errors import Lacking
from tidegate.rig.tools import program

TMPFS = Path("/dev/shm")  # noqa: S108 - a guest's memory is there; each trial has a folder of its own
PREFIX = "tidegate-guest-"
_NEW = "tidegate-new-"  # until it is locked
_BESIDE_MIB = 16  # sockets, logs, the console
PROGRAMS = ("qemu-system-x86_64", "busybox", "setpriv", "unshare", "ip", "gcc")  # of every trial
SERVERS = {"nbd": ("nbdkit",), "qemu-nbd": ("qemu-nbd",), "iscsi": ("tgtd", "tgtadm")}
_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@contextmanager
def guest_folder(memory_mib: int) -> Iterator[Path]:
    """A folder for a guest of this size (all guests of its trial), gone after the block.

    Lacking where there is no room for it.
    """
    remove_left_over()
    base = _base()
    check_room(memory_mib)
    made = folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=base))
    handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = made.rename(made.with_name(PREFIX + made.name.removeprefix(_NEW)))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_left_over() -> None:
    """Removes the folders of this user whose owners are dead."""
    for left in _base().glob(f"{PREFIX}*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.geteuid():
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


def check_room(memory_mib: int) -> None:
    """Lacking where a guest's memory has no room: QEMU would be killed (SIGBUS) when the guest touches it."""
    base = _base()
    free = shutil.disk_usage(base).free >> 20
    if memory_mib + _BESIDE_MIB > free:
        cure = f"mount -o remount,size=50% {base} (a container: --shm-size)" if base == TMPFS else "make room"
        raise Lacking(
            f"{base}: has {free} MiB free, and a trial keeps its {memory_mib} MiB of guest memory there; {cure}"
        )


def check_programs(transport: str) -> None:
    """Lacking, with its package, for the first program of a trial with this transport that is not here."""
    for name in (*PROGRAMS, *SERVERS.get(transport, ())):
        program(name)
    check_library("qemu.qmp", "the emulator's monitor")


def check_library(name: str, what: str) -> None:
    """Lacking where a Python library that only the rig needs is not installed."""
    from importlib.util import find_spec

    try:
        found = find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it is in
        found = False
    if not found:
        raise Lacking(f"Python library {name} ({what}): not installed, expected pip install 'tidegate[rig]'")


def not_writable(error: OSError, folder: Path) -> Lacking | None:
    """What a full or forbidden disk is called; None for other trouble."""
    if error.errno not in _NOT_WRITABLE:
        return None
    return Lacking(
        f"{error.filename or folder}: cannot be written ({error.strerror}); make room or take another --dir"
    )


def _base() -> Path:
    return TMPFS if TMPFS.is_dir() else Path(tempfile.gettempdir())
