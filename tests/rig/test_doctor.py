"""What a machine lacks: a made machine whose parts are taken away one by one, and this one as it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tidegate.rig import accelerator, doctor, kernels, pool, tools
from tidegate.rig.accelerator import Accel, Chosen
from tidegate.rig.doctor import Doctor, Item, State
from tidegate.rig.nics import MODELS

SAYS = {
    "qemu-system-x86_64": 'case "$*" in --version) echo "QEMU emulator version 9.2.1 (Debian)";; *) cat $0.help;; esac',
    "nbdkit": "echo nbdkit 1.32.5",
    "qemu-nbd": "echo 'qemu-nbd 9.2.1 (Debian)'",
    "tgtd": "echo 1.0.85",
    "gcc": "echo 14.2.0",
}
SILENT = (
    "tgtadm",
    "busybox",
    "unshare",
    "setpriv",
    "ip",
    "zstd",
    "apt-get",
    "apt-cache",
    "dpkg-deb",
    "depmod",
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has everything but a kernel: the folder of its programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in {**SAYS, **dict.fromkeys(SILENT, "exit 0")}.items():
        (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "qemu-system-x86_64.help").write_text("".join(f'name "{model}", bus PCI\n' for model in MODELS))
    (tmp_path / "shm").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "_SBIN", ())
    monkeypatch.setattr(doctor, "SHM", tmp_path / "shm")
    monkeypatch.setattr(doctor, "_free_mib", lambda _: 4096)
    monkeypatch.setattr(pool, "available_mib", lambda: 4096)
    monkeypatch.setattr(doctor, "_MODULES", {"qemu.qmp": ("rig", "the emulator's monitor")})
    monkeypatch.setattr(doctor, "find_module", lambda _: True)
    return folder


def item(name: str, of: Doctor | None = None) -> Item:
    (found,) = [one for one in (of or doctor.examine()).items if one.name == name]
    return found


def says(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")


def test_a_machine_with_all_of_it(machine: Path) -> None:
    told = doctor.examine()
    rest = [(one.name, one.state) for one in told.items if one.state is not State.OK]
    assert rest == [("kernels", State.PARTLY), ("accelerator", State.PARTLY)]
    assert told.nbd_trials
    assert item("qemu-system-x86_64", told).found == "9.2.1 (Debian)"
    assert item("nbdkit", told).found == "1.32.5, serves NBD"
    assert item("kernels", told).cure == "tidegate kernels fetch trixie-cloud"
    assert all(one.cure == "" for one in told.items if one.state is State.OK)


@pytest.mark.parametrize(
    ("gone", "name", "cure", "needed"),
    [
        ("qemu-system-x86_64", "qemu-system-x86_64", "install qemu-system-x86", True),
        ("qemu-system-x86_64", "NIC models", "install qemu-system-x86", True),
        ("busybox", "busybox", "install busybox-static", True),
        ("gcc", "C compiler", "install gcc and libc6-dev", True),
        ("nbdkit", "nbdkit", "install nbdkit", True),
        ("qemu-nbd", "qemu-nbd", "install qemu-utils", False),
        ("tgtd", "tgtd", "install tgt", False),
        ("tgtadm", "tgtd", "install tgt", False),
        ("ip", "ip, setpriv, unshare", "install iproute2", True),
        ("setpriv", "ip, setpriv, unshare", "install util-linux", True),
        ("unshare", "namespace and tap", "install util-linux", True),
        ("apt-get", "kernels", "install apt, or tidegate kernels fetch PATH of one", True),
    ],
)
def test_what_is_gone_is_missing_and_has_its_cure(
    machine: Path, gone: str, name: str, cure: str, needed: bool
) -> None:
    (machine / gone).unlink()
    told = doctor.examine()
    one = item(name, told)
    assert (one.state, one.cure, one.needed) == (State.MISSING, cure, needed)
    assert told.nbd_trials is not needed


def test_without_any_program(machine: Path) -> None:
    for path in machine.iterdir():
        path.unlink()
    told = doctor.examine()
    ok = {one.name for one in told.items if one.state is State.OK}
    assert ok == {str(doctor.SHM), "memory", "qemu.qmp"}
    assert not told.nbd_trials
    assert [one for one in told.items if one.state is State.MISSING and not one.cure] == []


def test_zstd_is_not_needed(machine: Path) -> None:
    (machine / "zstd").unlink()
    assert item("zstd").state is State.PARTLY
    assert doctor.examine().nbd_trials


def test_an_emulator_without_the_wire(machine: Path) -> None:
    says(machine, "qemu-system-x86_64", "echo 'QEMU emulator version 6.2.0'")
    one = item("qemu-system-x86_64")
    assert (one.state, one.cure) == (State.MISSING, "a newer QEMU")
    assert "7.2" in one.found


def test_an_emulator_with_fewer_nics(machine: Path) -> None:
    (machine / "qemu-system-x86_64.help").write_text(
        'name "virtio-net-pci", bus PCI\nname "e1000", bus PCI\n'
    )
    one = item("NIC models")
    assert one.state is State.PARTLY
    assert one.found.startswith("for virtio_net e1000; not e1000-82544gc ")
    assert "igb" in one.found


def test_a_dynamic_busybox_is_none(machine: Path) -> None:
    (machine / "busybox").write_bytes(b"\x7fELF" + bytes(600) + b"/lib64/ld-linux-x86-64.so.2\0")
    one = item("busybox")
    assert (one.state, one.cure) == (State.MISSING, "install busybox-static")
    assert one.found.endswith("busybox is not static")


def test_a_compiler_without_a_static_library(machine: Path) -> None:
    says(machine, "gcc", "echo 'ld: cannot find -lc' >&2; exit 1")
    one = item("C compiler")
    assert (one.state, one.cure) == (State.MISSING, "install gcc and libc6-dev")
    assert "cannot find -lc" in one.found


@pytest.mark.parametrize(
    ("said", "setting", "cure"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/dev/net/tun'", None, "modprobe tun"),
        ("OSError: [Errno 19] No such device", None, "modprobe tun"),
        ("unshare failed: Operation not permitted", None, "allow user namespaces here"),
        (
            "unshare failed: Operation not permitted",
            ("kernel/unprivileged_userns_clone", "0"),
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "unshare failed: No space left",
            ("user/max_user_namespaces", "0"),
            "sysctl user.max_user_namespaces=",
        ),
        ("unshare failed: No space left", ("user/max_user_namespaces", "99"), "allow user namespaces here"),
        (
            "PermissionError: [Errno 13]",
            ("kernel/apparmor_restrict_unprivileged_userns", "1"),
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_what_keeps_from_a_namespace(
    machine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    setting: tuple[str, str] | None,
    cure: str,
) -> None:
    (tmp_path / "sys").mkdir()
    if setting is not None:
        (tmp_path / "sys" / setting[0]).parent.mkdir()
        (tmp_path / "sys" / setting[0]).write_text(setting[1] + "\n")
    monkeypatch.setattr(doctor, "SYSCTLS", tmp_path / "sys")
    says(machine, "unshare", f'echo "{said}" >&2; exit 1')
    one = item("namespace and tap")
    assert one.state is State.MISSING
    assert said in one.found
    assert one.cure.startswith(cure)


@pytest.mark.parametrize(
    ("shm_mib", "state"), [(4096, State.OK), (448, State.OK), (447, State.PARTLY), (111, State.MISSING)]
)
def test_shared_memory(machine: Path, monkeypatch: pytest.MonkeyPatch, shm_mib: int, state: State) -> None:
    monkeypatch.setattr(doctor, "_free_mib", lambda _: shm_mib)
    told = doctor.examine()
    assert item(str(doctor.SHM), told).state is state
    assert told.guests == min(shm_mib // 112, (4096 - pool.SPARE_MIB) // (112 + pool.BESIDE_MIB))


def test_without_shared_memory(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "shm").rmdir()
    told = doctor.examine()
    assert item(str(doctor.SHM), told).cure == f"mount -t tmpfs shm {doctor.SHM}"
    assert not told.nbd_trials


def test_too_little_memory(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "available_mib", lambda: pool.SPARE_MIB + 100)
    told = doctor.examine()
    assert (told.guests, told.nbd_trials, item("memory", told).state) == (0, False, State.MISSING)


def test_a_python_package_that_is_not_installed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    modules = {"no.such": ("rig", "x"), "nothing_so_called": ("cluster", "y"), "msgspec": ("rig", "z")}
    monkeypatch.setattr(doctor, "_MODULES", modules)
    found = [doctor._module(name) for name in modules]
    assert [(one.state, one.cure) for one in found] == [
        (State.MISSING, "pip install 'tidegate[rig]'"),
        (State.MISSING, "pip install 'tidegate[cluster]'"),
        (State.OK, ""),
    ]


@pytest.mark.parametrize(("accel", "state"), [(Accel.KVM, State.OK), (Accel.TCG, State.PARTLY)])
def test_the_accelerator_is_told_with_its_reason(
    machine: Path, monkeypatch: pytest.MonkeyPatch, accel: Accel, state: State
) -> None:
    kernel = kernels.Kernel(
        name="trixie-generic", release="6", version="6", package_sha256="", vmlinuz=machine, vmlinuz_sha256="",
        modules=machine,
    )  # fmt: skip
    monkeypatch.setattr(kernels, "cached", lambda: (kernel,))
    monkeypatch.setattr(accelerator, "choose", lambda _: Chosen(accel=accel, reason="it said so"))
    one = item("accelerator")
    assert (one.state, one.found) == (state, f"{accel}: it said so")


def test_it_has_a_schema() -> None:
    schema = msgspec.json.schema(Doctor)
    assert schema["$defs"]["Doctor"]["properties"]["schema"]["default"] == "tidegate.rig-doctor/1"
