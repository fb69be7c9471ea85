"""The boot race: with an emulator that does as it is told, and once with the real one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tidegate.errors import BadInput, Lacking
from tidegate.rig import accelerator, kernels, tools
from tidegate.rig.accelerator import Accel

pytestmark = pytest.mark.skipif(bool(tools.missing(["setpriv"])), reason="no setpriv here")

KERNEL = kernels.Kernel(
    release="6.1",
    version="6.1",
    package_sha256="",
    vmlinuz=Path("/none"),
    vmlinuz_sha256="ab12",
    modules=Path("/none"),
)
BOOTS = "echo 'tidegate-rig: up'; exit 0\n"
HANGS = "exec sleep 600\n"
DIES = "echo 'Assertion: MSR'; exit 134\n"
SILENT = "exit 0\n"


class Emulator:
    """A program in place of QEMU, whose two arms do what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "qemu-system-x86_64"
        path.write_text(
            f'#!/bin/sh\nhere={folder}\necho "$*" >>$here/calls\ncase "$*" in\n'
            "--version) cat $here/version ;;\n*'-accel kvm'*) . $here/kvm ;;\n*'-accel tcg'*) . $here/tcg ;;\nesac\n"
        )
        path.chmod(0o755)
        (folder / "busybox").write_bytes(b"")
        (folder / "busybox").chmod(0o755)
        (folder / "version").write_text("QEMU emulator version 9.9\n")

    def does(self, *, kvm: str, tcg: str) -> None:
        (self.folder / "kvm").write_text(kvm)
        (self.folder / "tcg").write_text(tcg)

    def boots(self) -> int:
        return (self.folder / "calls").read_text().count("-accel") if (self.folder / "calls").exists() else 0


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "kvm").write_text("")
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path / "kvm")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(accelerator.VARIABLE, raising=False)
    return Emulator(folder)


@pytest.mark.parametrize(
    ("kvm", "tcg", "wins", "reason"),
    [
        (BOOTS, HANGS, Accel.KVM, "kvm booted the kernel in "),
        (BOOTS, DIES, Accel.KVM, "kvm booted the kernel in "),
        (HANGS, BOOTS, Accel.TCG, "; kvm was not up after "),
        (
            DIES,
            f"sleep 0.2; {BOOTS}",
            Accel.TCG,
            "; kvm ended with exit 134 and did not boot; its last words: Assert",
        ),
        (
            SILENT,
            f"sleep 0.2; {BOOTS}",
            Accel.TCG,
            "; kvm ended with exit 0 and did not boot; its last words: (noth",
        ),
        ("kill -ABRT $$", f"sleep 0.2; {BOOTS}", Accel.TCG, "; kvm was ended by signal 6"),
    ],
)
def test_who_powers_off_in_order_wins(
    emulator: Emulator, kvm: str, tcg: str, wins: Accel, reason: str
) -> None:
    emulator.does(kvm=kvm, tcg=tcg)
    chosen = accelerator.choose(KERNEL)
    assert chosen.accel is wins
    assert reason in chosen.reason


def test_kvm_must_boot_twice(emulator: Emulator) -> None:
    once = "if [ -e $here/first ]; then touch $here/second; exit 1; fi; touch $here/first; "
    emulator.does(kvm=once + BOOTS, tcg=f"[ -e $here/second ] || {HANGS}{BOOTS}")
    chosen = accelerator.choose(KERNEL)
    assert chosen.accel is Accel.TCG
    assert "when it booted a second time" in chosen.reason


def test_the_answer_is_kept_for_this_kernel_and_emulator(emulator: Emulator, tmp_path: Path) -> None:
    emulator.does(kvm=DIES, tcg=f"sleep 0.1; {BOOTS}")
    first = accelerator.choose(KERNEL)
    assert emulator.boots() == 2
    emulator.does(kvm=BOOTS, tcg=HANGS)
    assert accelerator.choose(KERNEL) == first
    assert emulator.boots() == 2
    (emulator.folder / "version").write_text("QEMU emulator version 10.0\n")
    assert accelerator.choose(KERNEL).accel is Accel.KVM
    kept = json.loads((tmp_path / "cache/tidegate/accelerator.json").read_text())
    assert [key.split()[:2] for key in kept] == [["ab12", "9.9"], ["ab12", "10.0"]]


def test_notes_that_cannot_be_read_are_made_anew(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "cache/tidegate").mkdir(parents=True)
    note = tmp_path / "cache/tidegate/accelerator.json"
    note.write_text("{")
    emulator.does(kvm=BOOTS, tcg=HANGS)
    assert accelerator.choose(KERNEL).accel is Accel.KVM
    assert "kvm booted" in note.read_text()


@pytest.mark.parametrize("both", [DIES, HANGS])
def test_a_machine_where_nothing_boots_is_lacking_and_not_remembered(
    emulator: Emulator, tmp_path: Path, both: str
) -> None:
    emulator.does(kvm=both, tcg=both)
    with pytest.raises(Lacking, match=r"no guest boots here: tcg .*; kvm ") as caught:
        accelerator.choose(KERNEL, deadline_s=0.3 if both == HANGS else 60.0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache/tidegate/accelerator.json").exists()


def test_without_the_device_nothing_is_booted(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "kvm").unlink()
    chosen = accelerator.choose(KERNEL)
    assert (chosen.accel, chosen.reason) == (Accel.TCG, f"{tmp_path / 'kvm'} is not there")
    assert emulator.boots() == 0


@pytest.mark.parametrize("given", list(Accel))
def test_it_can_be_given(emulator: Emulator, given: Accel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(accelerator.VARIABLE, str(given))
    assert accelerator.choose(KERNEL) == accelerator.Chosen(accel=given, reason="TIDEGATE_ACCEL says so")
    assert emulator.boots() == 0


def test_another_word_is_refused(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(accelerator.VARIABLE, "xen")
    with pytest.raises(BadInput, match="TIDEGATE_ACCEL: found 'xen', expected kvm or tcg"):
        accelerator.choose(KERNEL)


@pytest.mark.parametrize("accel", list(Accel))
def test_the_machine_is_never_microvm(accel: Accel) -> None:
    words = accelerator.boot_words(accel, Path("/k"), Path("/i"))
    assert words[words.index("-machine") + 1].startswith("pc,")
    assert words[words.index("-accel") + 1].split(",")[0] == accel


@pytest.mark.vm
@pytest.mark.skipif(
    bool(tools.missing(["qemu-system-x86_64", "busybox"])), reason="no QEMU or no busybox here"
)
def test_the_emulator_boots_a_real_kernel(tmp_path: Path) -> None:
    here = kernels.cached()
    if not here:
        pytest.skip("no kernel is cached")
    (tmp_path / "initramfs").write_bytes(accelerator.initramfs())
    kernel = next((one for one in here if one.name.endswith("cloud")), here[0])
    words = accelerator.boot_words(Accel.TCG, kernel.vmlinuz, tmp_path / "initramfs")
    (boot,) = accelerator.race({Accel.TCG: words}, tmp_path, accelerator.DEADLINE_S).values()
    assert boot.seconds is not None, boot.said
