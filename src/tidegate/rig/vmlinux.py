"""The kernel's ELF file, taken out of the compressed image that Debian ships.

It boots faster (nothing is unpacked in the emulator, PVH enters it directly), and its .BTF section tells
where the members of the kernel's structures lie. ELF is read here with `struct`: a section by its name is
all that is wanted, which does not pay for a library.
"""

from __future__ import annotations

import lzma
import mmap
import struct
import subprocess
import zlib
from pathlib import Path

from tidegate.errors import BadInput, Lacking, Unsupported
from tidegate.rig.kernels import sha256
from tidegate.rig.tools import cache_directory, locked, program

# Documentation/arch/x86/boot.rst: offsets in the setup header.
_SETUP_SECTS, _MAGIC, _VERSION, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
_PAYLOAD_SINCE = 0x0208  # the protocol that brought payload_offset
_SECTOR = 512
_ELF_MAGIC = b"\x7fELF"
_ELF64_LITTLE = b"\x02\x01"
_HOLDS_NO_BYTES = 8  # SHT_NOBITS
_PROGRAMS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}


def facts_directory(vmlinuz_sha256: str) -> Path:
    """Where what was found out about one kernel image is kept: its ELF file, layout and symbols."""
    return cache_directory() / "kernel-facts" / vmlinuz_sha256


def uncompressed(vmlinuz: Path, into: Path | None = None) -> Path:
    """The ELF file of a kernel image, in the folder `into`, or in the cache under the image's SHA-256.

    BadInput when the image is no bzImage, Unsupported for an unknown compression, Lacking for a program.
    """
    with locked(into or facts_directory(sha256(vmlinuz))) as folder:
        path = folder / "vmlinux"
        # Another image may have been unpacked into a folder of the caller's.
        if into is not None or not path.exists():
            unfinished = folder / "vmlinux.part"
            unfinished.write_bytes(unpacked(vmlinuz.read_bytes(), str(vmlinuz)))
            unfinished.replace(path)
    return path


def unpacked(image: bytes, name: str) -> bytes:
    """The ELF file inside a bzImage, with what the build appended to it (relocations); `name` for messages."""
    if len(image) < _PAYLOAD + 8 or image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise BadInput(name, "setup header", "no 'HdrS'", "a bzImage for x86")
    if struct.unpack_from("<H", image, _VERSION)[0] < _PAYLOAD_SINCE:
        raise Unsupported(f"{name}: boot protocol without payload_offset, expected 2.08 or newer")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTS] or 4) + 1) * _SECTOR + offset
    payload = image[start : start + length]
    if len(payload) < length:
        raise BadInput(name, "payload", f"{len(payload)} bytes", f"{length}: the file was cut off")
    elf = _decompressed(payload, name)
    if not elf.startswith(_ELF_MAGIC):
        raise BadInput(name, "payload", elf[:4].hex(), "an ELF file")
    return elf


def section(elf: Path, name: str) -> bytes:
    """The bytes of one section, such as ".BTF"; Unsupported when the file has none of that name."""
    with elf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _section(data, str(elf), name)


def _section(data: mmap.mmap, elf: str, name: str) -> bytes:
    if data[:6] != _ELF_MAGIC + _ELF64_LITTLE:
        raise BadInput(elf, "", data[:6].hex(), "a 64-bit little-endian ELF file")
    (headers,) = struct.unpack_from("<Q", data, 40)  # e_shoff
    size, count, names_index = struct.unpack_from("<HHH", data, 58)
    found = [struct.unpack_from("<IIQQQQ", data, headers + size * number) for number in range(count)]
    names_at = found[names_index][4] if found else 0
    for name_offset, kind, _flags, _address, offset, length in found:
        start = names_at + name_offset
        if data[start : data.find(b"\0", start)] == name.encode() and kind != _HOLDS_NO_BYTES:
            return data[offset : offset + length]
    raise Unsupported(f"{elf}: found no section {name}, expected a kernel built with it")


def _decompressed(payload: bytes, name: str) -> bytes:
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    if payload.startswith(b"\x5d\0\0"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(payload)
    if payload.startswith(_ELF_MAGIC):
        return payload
    tool = _PROGRAMS.get(payload[:4])
    if tool is None:
        raise Unsupported(
            f"{name}: payload starts with {payload[:4].hex()}, expected xz, zstd, gzip, lz4 or lzma"
        )
    # The build appends the size of the ELF file (size_append in scripts/Makefile.lib): no part of the stream.
    done = subprocess.run(  # noqa: S603 - the words are our own
        [str(program(tool)), "-d", "-c"], input=payload[:-4], capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["(nothing)"]
        raise Lacking(f"{tool}: exit {done.returncode}: {said[-1]}")
    return done.stdout
