"""The programs of this machine that the rig calls, and the directory it keeps fetched things in."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tidegate.errors import Lacking

# Debian's package of each program, for the message when it is missing.
PACKAGES: Mapping[str, str] = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "ip": "iproute2",
    "mksquashfs": "squashfs-tools",
    "mmdebstrap": "mmdebstrap",
    "nbdkit": "nbdkit",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-nbd": "qemu-utils",
    "setpriv": "util-linux",
    "sqfstar": "squashfs-tools",
    "gcc": "gcc and libc6-dev",
    "unshare": "util-linux",
    "tgtadm": "tgt",
    "tgtd": "tgt",
}
_SBIN = (Path("/usr/sbin"), Path("/sbin"))


def cache_directory() -> Path:
    """Where fetched kernels and made disks are kept: `tidegate` under XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return base / "tidegate"


def program(name: str) -> Path:
    """The path of a program, also in sbin, which an ordinary user's PATH lacks; Lacking names its package."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    for folder in _SBIN:
        if os.access(folder / name, os.X_OK):
            return folder / name
    package = PACKAGES.get(name, name)
    raise Lacking(f"{name}: found no such program, expected Debian's package {package} to be installed")


def missing(names: Sequence[str]) -> list[str]:
    """Those of the programs that this machine does not have."""
    absent = []
    for name in names:
        try:
            program(name)
        except Lacking:
            absent.append(name)
    return absent


def call(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """Runs a program to its end and gives its standard output; Lacking, with its last line, when it fails."""
    words = [str(program(str(argv[0]))), *map(str, argv[1:])]
    try:
        done = subprocess.run(  # noqa: S603 - the words are the rig's own
            words,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as trouble:
        raise Lacking(f"{Path(words[0]).name}: no end within {timeout_s:.0f} s") from trouble
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or ["(nothing)"]
        raise Lacking(f"{Path(words[0]).name}: exit {done.returncode}: {said[-1]}")
    return done.stdout.decode("utf-8", "replace")


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Holds a folder of the cache for one process: two clones of the tree may fetch at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
