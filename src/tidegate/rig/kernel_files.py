"""Kernels that lie on this machine: a .deb, an .rpm, or a boot image with its modules.

A package is unpacked into the cache under its SHA-256, never installed. An image stays where it is.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from pathlib import Path

from tidegate.errors import BadInput, Lacking
from tidegate.rig.kernels import Kernel, deb_version, keep, kept_kernel, kernels_directory, sha256, unpack
from tidegate.rig.tools import call, locked, missing, program

# deb(5): an ar archive whose first member is this; the lead of an rpm; the setup header of a bzImage
# (Documentation/arch/x86/boot.rst: magic at 0x202, kernel_version at 0x20E, which is counted from 0x200).
_DEB, _RPM, _SETUP = b"!<arch>\ndebian-binary", b"\xed\xab\xee\xdb", b"HdrS"
_MAGIC_AT, _VERSION_AT, _VERSION_FROM = 0x202, 0x20E, 0x200
_HEAD_BYTES = 64 * 1024  # the setup code with the version in it is smaller
_EXPECTED = "a .deb, an .rpm or a boot image for x86"
SYSTEM_MODULES = (Path("/lib/modules"), Path("/usr/lib/modules"))


def from_file(path: Path) -> Kernel:
    """The kernel in a file. BadInput: it is none. Lacking: it may not be read; a program; an image's modules."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except PermissionError as trouble:
        raise Lacking(f"{path}: may not be read ({trouble.strerror})") from trouble
    except OSError as trouble:
        raise BadInput(str(path), "", trouble.strerror or type(trouble).__name__, _EXPECTED) from trouble
    if head.startswith((_DEB, _RPM)):
        return _from_package(path.resolve(), rpm=head.startswith(_RPM))
    if head[_MAGIC_AT : _MAGIC_AT + len(_SETUP)] == _SETUP:
        return _from_image(path.resolve(), head)
    raise BadInput(str(path), "", f"a file that begins with {head[:8]!r}", _EXPECTED)


def _from_package(path: Path, *, rpm: bool) -> Kernel:
    digest = sha256(path)
    with locked(kernels_directory() / f"file-{digest[:16]}") as folder:
        kept = kept_kernel(folder)
        if kept is not None:
            return kept
        extract = _extract_rpm if rpm else _extract_deb
        release, vmlinuz, modules = unpack(folder, path, lambda root: extract(path, root))
        kernel = Kernel(
            name=path.name,
            release=release,
            version=release if rpm else deb_version(path),
            package_sha256=digest,
            vmlinuz=vmlinuz,
            vmlinuz_sha256=sha256(vmlinuz),
            modules=modules,
        )
        return keep(folder, kernel)


def _extract_deb(deb: Path, root: Path) -> None:
    program("dpkg-deb")
    try:
        call(["dpkg-deb", "-x", deb, root], timeout_s=600)
    except Lacking as trouble:
        raise BadInput(str(deb), "", str(trouble), "a whole Debian package") from trouble


def _extract_rpm(rpm: Path, root: Path) -> None:
    """With bsdtar, or with rpm2cpio and cpio: whatever is here."""
    if not missing(["bsdtar"]):
        call(["bsdtar", "-x", "-f", rpm, "-C", root], timeout_s=600)
        return
    if missing(["rpm2cpio", "cpio"]):
        raise Lacking(
            f"{rpm}: no program here unpacks an rpm; expected Debian's package libarchive-tools (bsdtar)"
        )
    with tempfile.TemporaryFile() as archive:
        words = [str(program("rpm2cpio")), str(rpm)]
        done = subprocess.run(words, stdout=archive, stderr=subprocess.PIPE, check=False)  # noqa: S603 - our own
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["(nothing)"]
            raise BadInput(str(rpm), "", f"rpm2cpio: {said[-1]}", "a whole rpm")
        archive.seek(0)
        words = [str(program("cpio")), "-idm", "--quiet", "--no-absolute-filenames"]
        subprocess.run(words, stdin=archive, cwd=root, check=False, capture_output=True)  # noqa: S603 - as above


def _from_image(path: Path, head: bytes) -> Kernel:
    release = image_release(head, str(path))
    return Kernel(
        name=path.name,
        release=release,
        version=release,
        package_sha256="",
        vmlinuz=path,
        vmlinuz_sha256=sha256(path),
        modules=_modules_of(path, release),
    )


def image_release(head: bytes, file: str) -> str:
    """What `uname -r` would say, from the beginning of a boot image. BadInput when it does not tell."""
    (offset,) = struct.unpack_from("<H", head, _VERSION_AT)
    text = head[offset + _VERSION_FROM :].partition(b"\0")[0] if offset else b""
    words = text.decode("ascii", "replace").split(" ", 1)
    if not words[0] or not words[0].isprintable() or os.sep in words[0]:
        raise BadInput(file, "setup header", "no kernel version", "a boot image that tells its version")
    return words[0]


def _modules_of(image: Path, release: str) -> Path:
    """Beside the image first, as in an unpacked package; then those of this machine."""
    beside = [image.parent] if image.parent.name == release else []
    below = [near / lib for near in (image.parent, image.parent.parent) for lib in ("lib", "usr/lib")]
    folders = [
        *beside,
        *(lib / "modules" / release for lib in below),
        *(one / release for one in SYSTEM_MODULES),
    ]
    for folder in folders:
        if (folder / "modules.dep").exists():
            return folder
    raise Lacking(
        f"{image}: found no modules.dep of {release} in lib/modules beside it or in {SYSTEM_MODULES[0]}, "
        "expected its modules there, indexed by depmod"
    )
