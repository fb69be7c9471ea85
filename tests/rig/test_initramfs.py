"""The initramfs: an archive that cpio itself can read."""

from __future__ import annotations

import lzma
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tidegate.rig import initramfs
from tidegate.rig.initramfs import Entry

ENTRIES = {
    "bin": Entry(mode=stat.S_IFDIR | 0o755),
    "bin/odd": Entry(mode=stat.S_IFREG | 0o755, data=b"12345"),
    "dev": Entry(mode=stat.S_IFDIR | 0o755),
    "init": Entry(mode=stat.S_IFREG | 0o700, data=b"#!/bin/sh\n"),
}


def test_every_part_starts_at_a_multiple_of_four() -> None:
    archive = initramfs.cpio(ENTRIES)
    assert len(archive) % 4 == 0
    place, found = 0, []
    while place < len(archive):
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[at : at + 8], 16) for at in range(place + 6, place + 110, 8)]
        size, name_size = fields[6], fields[11]
        found.append(archive[place + 110 : place + 110 + name_size - 1].decode())
        place += 110 + name_size
        place += -place % 4 + size
        place += -place % 4
    assert found == [*ENTRIES, "TRAILER!!!"]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio program here")
def test_cpio_unpacks_it(tmp_path: Path) -> None:
    archive = initramfs.cpio(ENTRIES)
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True, timeout=20)
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o700


def test_the_same_entries_give_the_same_bytes() -> None:
    assert initramfs.cpio(ENTRIES) == initramfs.cpio(dict(ENTRIES))


def test_init_is_shell_and_names_every_disk(tmp_path: Path) -> None:
    script = initramfs.init_script(["virtio_blk.ko", "squashfs.ko"])
    subprocess.run(["sh", "-n"], input=script.encode(), check=True, timeout=20)
    assert "virtio_blk.ko squashfs.ko" in script
    for name in (initramfs.ROOT_DISK, initramfs.MODULES_DISK, initramfs.JOB_DISK):
        assert name in script


def test_compressed_modules_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.ko.xz").write_bytes(lzma.compress(b"\x7fELF"))
    (tmp_path / "b.ko").write_bytes(b"\x7fELF")
    assert initramfs.module_bytes(tmp_path / "a.ko.xz") == initramfs.module_bytes(tmp_path / "b.ko")
