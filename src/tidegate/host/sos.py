"""sos reports as records: what a report holds is read where sos keeps it; what it does not hold stays not held."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tidegate.errors import Unsupported
from tidegate.host.record import Record


def looks_like_folder(folder: Path) -> bool:
    """A directory that sos unpacked or left."""
    return (folder / "sos_commands").is_dir()


def looks_like_member(name: str) -> bool:
    """The first member of an sos archive: sosreport-HOST-DATE-ID/..."""
    return name.removeprefix("./").startswith(("sosreport-", "sos-"))


def from_folder(folder: Path) -> Record:
    """A record from an unpacked sos report."""
    raise Unsupported(f"{folder}: sos reports are not read yet")


def from_tar(name: str, first: tarfile.TarInfo, tar: tarfile.TarFile) -> Record:
    """A record from an sos archive."""
    raise Unsupported(f"{name}: sos reports are not read yet ({first.name}, {tar.mode})")
