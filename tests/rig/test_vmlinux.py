"""Taking the ELF file out of a kernel image, and a section out of that: on made files."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tidegate.errors import BadInput, Unsupported
from tidegate.rig import vmlinux


def elf(sections: Mapping[str, bytes]) -> bytes:
    """A 64-bit ELF file of these sections, and one of no bytes (.bss)."""
    names, bodies, headers = b"\0", b"", [bytes(64)]
    every = {**sections, ".bss": b"", ".shstrtab": b""}
    for name in every:
        names += name.encode() + b"\0"
    every[".shstrtab"] = names
    for name, body in every.items():
        kind = 8 if name == ".bss" else 1
        at = names.index(name.encode() + b"\0")
        headers.append(struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, 64 + len(bodies), len(body), 0, 0, 1, 0))
        bodies += body
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQ", 2, 62, 1, 0, 0, 64 + len(bodies))
    head += struct.pack("<IHHHHHH", 0, 64, 0, 0, 64, len(headers), len(headers) - 1)
    return head + bodies + b"".join(headers)


def image(payload: bytes, *, setup_sectors: int = 3, protocol: int = 0x20F) -> bytes:
    """A bzImage whose payload lies 0x40 bytes into the protected-mode code."""
    head = bytearray((setup_sectors + 1) * 512 + 0x40)
    head[0x1F1] = setup_sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, 0x40, len(payload))
    return bytes(head) + payload + b"what follows is no payload"


ELF = elf({".text": b"\x90" * 40, ".BTF": b"\x9f\xeb" + bytes(30)})
SIZE = struct.pack("<I", len(ELF))  # as the kernel's build appends it


def by_program(name: str, *options: str) -> bytes:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} program here")
    return subprocess.run([name, *options, "-c"], input=ELF, capture_output=True, check=True).stdout + SIZE


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(ELF),
    "xz": lambda: lzma.compress(ELF, check=lzma.CHECK_CRC32) + SIZE,
    "lzma": lambda: lzma.compress(ELF, format=lzma.FORMAT_ALONE) + SIZE,
    "zstd": lambda: by_program("zstd", "-19"),
    "lz4": lambda: by_program("lz4", "-l"),  # the old frame, as the kernel has it
    "none": lambda: ELF,
}


@pytest.mark.parametrize("compression", PAYLOADS)
def test_the_elf_file_comes_out_of_every_compression(compression: str) -> None:
    assert vmlinux.unpacked(image(PAYLOADS[compression]()), "x") == ELF


def test_setup_sectors_of_zero_mean_four() -> None:
    whole = bytearray(image(ELF, setup_sectors=4))
    whole[0x1F1] = 0
    assert vmlinux.unpacked(bytes(whole), "x") == ELF


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"MZ" + bytes(2000), "no 'HdrS'"),
        (b"", "no 'HdrS'"),
        (image(ELF)[:-60], "cut off"),
        (image(gzip.compress(b"text")), "expected an ELF file"),
    ],
)
def test_what_is_no_kernel_image_is_bad_input(data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        vmlinux.unpacked(data, "boot/vmlinuz")


def test_unknown_compressions_and_old_protocols_are_told() -> None:
    with pytest.raises(Unsupported, match="starts with 424d0102"):
        vmlinux.unpacked(image(b"BM\x01\x02" + bytes(50)), "x")
    with pytest.raises(Unsupported, match="boot protocol"):
        vmlinux.unpacked(image(ELF, protocol=0x207), "x")


def test_it_is_unpacked_once_for_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "vmlinuz").write_bytes(image(ELF))
    first = vmlinux.uncompressed(tmp_path / "vmlinuz")
    first.write_bytes(b"kept")
    assert vmlinux.uncompressed(tmp_path / "vmlinuz").read_bytes() == b"kept"
    (tmp_path / "vmlinuz").write_bytes(image(gzip.compress(ELF)))
    assert vmlinux.uncompressed(tmp_path / "vmlinuz").read_bytes() == ELF
    assert vmlinux.uncompressed(tmp_path / "vmlinuz", tmp_path / "here") == tmp_path / "here/vmlinux"


def test_a_section_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(ELF)
    assert vmlinux.section(path, ".BTF") == b"\x9f\xeb" + bytes(30)
    for name in (".BTF.ext", ".bss"):
        with pytest.raises(Unsupported, match=f"no section {name}"):
            vmlinux.section(path, name)
    path.write_bytes(b"#!/bin/sh")
    with pytest.raises(BadInput, match="64-bit"):
        vmlinux.section(path, ".BTF")
