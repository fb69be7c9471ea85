"""Addresses out of kallsyms: on made text, and from one boot of a stock kernel."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tidegate.errors import Lacking, Unsupported
from tidegate.rig import kernels, symbols
from tidegate.rig.kernels import Debian, Flavour, Kernel
from tidegate.rig.tools import missing
from tidegate.rig.vmlinux import facts_directory

RELEASE = "6.12.117+deb13-cloud-amd64"
LINES = """\
0000000000000000 A fixed_percpu_data
0000000000024d40 A vm_event_states
ffffffff81000000 T startup_64
ffffffff812a1b00 t helper
ffffffff813a1b00 t helper
ffffffff814a1b00 t helper.cold
ffffffff837dc1c0 D node_data
"""
MODULE = "ffffffffc0201000 t node_data\t[virtio_blk]\n"
SAID = f"Linux version {RELEASE} (a builder) #1 SMP\n1\n{LINES}{MODULE}tidegate-rig: end\n"


def test_the_kernels_own_lines_are_kept() -> None:
    probe = symbols.told(SAID, RELEASE)
    assert probe.banner == f"Linux version {RELEASE} (a builder) #1 SMP"
    assert probe.btf
    assert probe.kallsyms == LINES
    assert not symbols.told(SAID.replace("\n1\n", "\n0\n"), RELEASE).btf


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "expected all of kallsyms"),
        (SAID.replace("tidegate-rig: end\n", ""), "expected all of kallsyms"),
        (SAID.replace("6.12.117", "6.12.1"), "expected all of kallsyms"),
        (f"Linux version {RELEASE} x\n1\n{'0' * 16} T startup_64\ntidegate-rig: end\n", "only zeros"),
    ],
)
def test_a_boot_that_did_not_tell_all_is_no_answer(said: str, words: str) -> None:
    with pytest.raises(Lacking, match=words):
        symbols.told(said, RELEASE)


def test_addresses_are_of_the_whole_name_and_of_one_symbol() -> None:
    found = symbols.addresses(LINES, ["node_data", "vm_event_states", "helper.cold"])
    assert found == {
        "node_data": 0xFFFFFFFF837DC1C0,
        "vm_event_states": 0x24D40,
        "helper.cold": 0xFFFFFFFF814A1B00,
    }
    for name, count in (("helper", 2), ("node", 0), ("helper-cold", 0)):
        with pytest.raises(Unsupported, match=f"found {count} symbols {name}"):
            symbols.addresses(LINES, [name])


def made_kernel(tmp_path: Path) -> Kernel:
    return Kernel(
        debian=Debian.TRIXIE,
        flavour=Flavour.CLOUD,
        release=RELEASE,
        version="6.12.117-1",
        package_sha256="0" * 64,
        vmlinuz=tmp_path / "vmlinuz",
        vmlinuz_sha256="1" * 64,
        modules=tmp_path,
    )


def test_names_asked_for_before_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(symbols, "uncompressed", lambda _: tmp_path)
    kernel = made_kernel(tmp_path)
    folder = facts_directory(kernel.vmlinuz_sha256)
    folder.mkdir(parents=True)
    (folder / "kallsyms.xz").write_bytes(lzma.compress(SAID.encode()))
    assert symbols.symbols(kernel, ["node_data"]) == {"node_data": 0xFFFFFFFF837DC1C0}
    assert symbols.symbols(kernel, ["startup_64"]) == {"startup_64": 0xFFFFFFFF81000000}
    (folder / "kallsyms.xz").unlink()
    assert symbols.symbols(kernel, ["startup_64", "node_data"])["node_data"] == 0xFFFFFFFF837DC1C0


@pytest.mark.vm
@pytest.mark.slow
def test_a_stock_kernel_tells_its_symbols(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if lacking := missing(["qemu-system-x86_64", "busybox", "zstd"]):
        pytest.skip(f"no {lacking[0]} here")
    kernel = kernels.fetch(Debian.TRIXIE, Flavour.CLOUD)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # so that it is booted, and what is kept stays
    probe = symbols.probe(kernel)
    assert probe.banner.startswith(f"Linux version {kernel.release} (debian-kernel@lists.debian.org)")
    assert probe.btf
    assert "[" not in probe.kallsyms
    found = symbols.symbols(kernel, ["_text", "jiffies_64", "__alloc_pages_noprof"])
    assert found["_text"] == 0xFFFFFFFF81000000
    assert found["_text"] < found["__alloc_pages_noprof"] < found["jiffies_64"]
