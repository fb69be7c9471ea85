"""QEMU's command line, as words."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tidegate.rig import initramfs, qemu, scenario

ONE = scenario.parse('about = "a"\ndebian = "trixie"\nflavour = "cloud"\nmemory_mib = 257\n', "x.toml")
PATHS = qemu.Paths(
    vmlinuz=Path("/k/vmlinuz"),
    initramfs=Path("/r/initramfs"),
    root=Path("/c/root,1"),
    modules=Path("/c/modules"),
    job=Path("/r/job"),
    out=Path("/r/out"),
    console=Path("/r/console"),
)


def words(one: scenario.Scenario = ONE, paths: qemu.Paths = PATHS) -> list[str]:
    return qemu.command_line(one, paths, memory_mib=one.memory_mib)


def after(line: list[str], option: str) -> list[str]:
    return [line[at + 1] for at, word in enumerate(line) if word == option]


def test_only_emulation_is_asked_for() -> None:
    (accelerator,) = after(words(), "-accel")
    assert accelerator.startswith("tcg")
    assert "kvm" not in " ".join(words())


def test_disks_are_found_by_name_and_only_out_is_written() -> None:
    line = words()
    drives = {name: drive for name in named() for drive in after(line, "-drive") if f"id={name}," in drive}
    assert set(drives) == named()
    for name, drive in drives.items():
        assert ("readonly=off" in drive) == (name == initramfs.OUT_DISK)
        assert f"virtio-blk-pci,drive={name},serial={name}" in after(line, "-device")


def named() -> set[str]:
    return {initramfs.ROOT_DISK, initramfs.MODULES_DISK, initramfs.JOB_DISK, initramfs.OUT_DISK}


def test_a_comma_in_a_path_is_doubled() -> None:
    assert any(drive.endswith("file=/c/root,,1") for drive in after(words(), "-drive"))


def test_the_nic_has_no_boot_rom() -> None:
    assert "virtio-net-pci,netdev=wire,mac=52:54:00:12:34:56,romfile=" in after(words(), "-device")


def test_two_guests_on_a_wire_have_two_addresses() -> None:
    first = msgspec.structs.replace(ONE, nic="e1000")
    one = qemu.Paths(**{**{name: getattr(PATHS, name) for name in PATHS.__slots__}, "wire": Path("/r/wire")})
    two = qemu.Paths(**{**{name: getattr(one, name) for name in one.__slots__}, "wire_listens": True})
    macs = {
        device
        for paths in (one, two)
        for device in after(words(first, paths), "-device")
        if "e1000" in device
    }
    assert len(macs) == 2
    assert after(words(first, two), "-netdev") == [
        "stream,id=wire,server=on,addr.type=unix,addr.path=/r/wire"
    ]


def test_numa_nodes_share_all_memory_and_all_cpus() -> None:
    line = words(msgspec.structs.replace(ONE, cpus=3, numa_nodes=2))
    assert after(line, "-object") == [
        "memory-backend-ram,id=ram0,size=128M",
        "memory-backend-ram,id=ram1,size=129M",
    ]
    assert after(line, "-numa") == [
        "node,nodeid=0,memdev=ram0,cpus=0-0",
        "node,nodeid=1,memdev=ram1,cpus=1-2",
    ]


def test_the_initramfs_is_no_tmpfs() -> None:
    assert "rootfstype=ramfs" in qemu.kernel_words(ONE)
    assert qemu.kernel_words(msgspec.structs.replace(ONE, append="nokaslr")).endswith(" nokaslr")
