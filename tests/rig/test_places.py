"""The folder of a guest: its own, gone afterwards, and gone with the next where its owner was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import places, tools

HOLDS = """
import sys, time
from pathlib import Path
from tidegate.rig import places
places.TMPFS = Path(sys.argv[1])
with places.guest_folder(1) as folder:
    (folder / "ram0").write_bytes(b"memory")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "TMPFS", tmp_path)
    return tmp_path


def held_by_another(base: Path) -> tuple[subprocess.Popen[str], Path]:
    words = [sys.executable, "-c", HOLDS, str(base)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_is_there_and_gone_afterwards(base: Path) -> None:
    with places.guest_folder(1) as folder:
        assert folder.parent == base
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "storage").mkdir()
        (folder / "storage" / "ram0").write_bytes(b"x")
    assert list(base.iterdir()) == []


def test_it_is_gone_after_trouble_too(base: Path) -> None:
    with pytest.raises(KeyboardInterrupt), places.guest_folder(1):
        raise KeyboardInterrupt
    assert list(base.iterdir()) == []


def test_what_a_killed_one_left_goes_with_the_next_and_what_is_in_use_stays(base: Path) -> None:
    (base / "of-another-program").mkdir()
    dead, left = held_by_another(base)
    alive, used = held_by_another(base)
    try:
        os.kill(dead.pid, signal.SIGKILL)
        dead.wait()
        assert (left / "ram0").exists()
        with places.guest_folder(1) as folder:
            assert not left.exists()
            assert (used / "ram0").read_bytes() == b"memory"
            places.remove_left_over()
            assert folder.exists()  # not our own either
    finally:
        for process in (dead, alive):
            process.kill()
            process.communicate()
    places.remove_left_over()
    assert [path.name for path in base.iterdir()] == ["of-another-program"]


def test_a_link_of_that_name_is_not_followed(base: Path) -> None:
    (base / "precious").mkdir()
    (base / "precious" / "file").write_text("x")
    (base / f"{places.PREFIX}link").symlink_to(base / "precious")
    places.remove_left_over()
    assert (base / "precious" / "file").exists()


def test_no_room_for_the_guest(base: Path) -> None:
    with pytest.raises(Lacking, match=r"has \d+ MiB free, .* 99999999 MiB of guest memory .*--shm-size"):
        places.check_room(99_999_999)
    with pytest.raises(Lacking), places.guest_folder(99_999_999):
        pass
    assert list(base.iterdir()) == []


def test_a_machine_without_that_file_system_uses_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "TMPFS", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with places.guest_folder(1) as folder:
        assert folder.parent == tmp_path


@pytest.mark.parametrize("name", [*places.PROGRAMS, "nbdkit"])
def test_each_missing_program_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for one in (*places.PROGRAMS, "nbdkit"):
        if one != name:
            (tmp_path / one).write_text("#!/bin/sh\n")
            (tmp_path / one).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_SBIN", ())
    expected = f"^{name}: found no such program, expected Debian's package {tools.PACKAGES[name]}"
    with pytest.raises(Lacking, match=expected):
        places.check_programs("nbd")
    if name == "nbdkit":
        places.check_programs("nvme-tcp")


def test_a_full_disk_is_this_machines_and_another_trouble_is_not() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "trials/evidence/x/console.txt")
    told = places.not_writable(full, Path("trials"))
    assert isinstance(told, Lacking)
    assert str(told).startswith(
        "trials/evidence/x/console.txt: cannot be written (No space left on device); "
    )
    assert str(places.not_writable(OSError(errno.EFBIG, "File too large"), Path("d"))).startswith("d: cannot")
    assert places.not_writable(OSError(errno.EPIPE, "Broken pipe"), Path("d")) is None


def test_a_library_that_is_not_there_is_one_line_with_its_cure() -> None:
    places.check_library("msgspec", "is here")
    with pytest.raises(Lacking, match=r"no_such\.part .*pip install 'tidegate\[rig\]'"):
        places.check_library("no_such.part", "nothing")
