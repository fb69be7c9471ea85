"""A guest from power-on to power-off: what is handed over, what a failure says."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import guest, hosts, kernels, qemu, scenario
from tidegate.units import MIB

KERNEL = kernels.Kernel(
    debian=kernels.Debian.TRIXIE,
    flavour=kernels.Flavour.CLOUD,
    release="6.12.0",
    version="6.12.0-1",
    package_sha256="",
    vmlinuz=Path("/none"),
    vmlinuz_sha256="",
    modules=Path("/none"),
)


def paths(folder: Path) -> qemu.Paths:
    none = Path("/none")
    return qemu.Paths(
        vmlinuz=none,
        initramfs=none,
        root=none,
        modules=none,
        job=none,
        out=folder / "out",
        console=folder / "console",
    )


def disk(folder: Path, files: dict[str, bytes]) -> None:
    """A raw output disk: a tar at its start, zeros after it."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (folder / "out").write_bytes(held.getvalue() + bytes(MIB))


def test_files_and_status_come_from_the_raw_disk(tmp_path: Path) -> None:
    disk(tmp_path, {".status": b"3\n", "proc/swaps": b"/dev/nbd0\n"})
    run = guest._handed_over(paths(tmp_path), KERNEL, 1.0)
    assert (run.status, dict(run.files)) == (3, {"proc/swaps": b"/dev/nbd0\n"})


def test_a_guest_that_died_is_lost_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(bytes(MIB))
    (tmp_path / "console").write_text("[ 1.0] Kernel panic - not syncing: VFS\n\n")
    with pytest.raises(guest.Lost, match="Kernel panic"):
        guest._handed_over(paths(tmp_path), KERNEL, 1.0)


def test_no_status_is_lost_too(tmp_path: Path) -> None:
    disk(tmp_path, {"file": b""})
    with pytest.raises(guest.Lost, match="no status"):
        guest._handed_over(paths(tmp_path), KERNEL, 1.0)


def test_a_guest_learns_where_its_servers_are() -> None:
    one = scenario.parse('about = "a"\ndebian = "trixie"\nflavour = "cloud"\nmemory_mib = 256\n', "x.toml")
    env = guest._environment(one, {"NBD_PORT": "1; reboot"}, wired=False, peer=False)
    assert "export SERVER=10.0.2.2\n" in env
    assert "export NBD_PORT='1; reboot'\n" in env


SMALL = 'about = "a"\ndebian = "trixie"\nflavour = "cloud"\nmemory_mib = 192\n'


def booted(one: scenario.Scenario, script: str, *, deadline_s: float | None = None) -> guest.GuestRun:
    """Runs a script in a guest; skips, with the reason, where none can be had."""
    try:
        return guest.run_in_guest(one, script, files={"word": b"tide"}, deadline_s=deadline_s)
    except Lacking as trouble:
        pytest.skip(str(trouble))


@pytest.mark.vm
def test_a_stock_kernel_swaps_over_nbd_and_hands_files_over() -> None:
    one = scenario.read(hosts.hosts_directory() / "virtio-nbd-swap.toml")
    run = booted(one, "cp /proc/swaps swaps; cp /job/word word; uname -r >release; exit 7")
    assert run.status == 7
    assert run.files["word"] == b"tide"
    assert run.files["release"].decode().strip() == run.kernel.release
    assert b"/dev/nbd0" in run.files["swaps"]


@pytest.mark.vm
def test_a_failing_setup_stops_before_the_script() -> None:
    run = booted(scenario.parse(SMALL + 'setup = "exit 9"\n', "x.toml"), "touch never")
    assert run.status == 9
    assert not run.files


@pytest.mark.vm
def test_a_deadline_ends_the_guest() -> None:
    with pytest.raises(guest.Lost, match="deadline"):
        booted(scenario.parse(SMALL, "x.toml"), "sleep 600", deadline_s=3)
