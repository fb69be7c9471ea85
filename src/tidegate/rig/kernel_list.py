"""What kernels there are, and what each of them can be tried with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import TidegateError, Unsupported
from tidegate.rig.kernels import META_PACKAGE, NAMED, Kernel, all_modules, cached, folder_of, size_of
from tidegate.rig.nics import drivable
from tidegate.rig.vmlinux import facts_directory, section, uncompressed

KERNELS_SCHEMA = "tidegate.kernels/1"

# What each way to swap or to mount over the network needs in the kernel: modules, and words of its configuration.
TRANSPORTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nbd": (("nbd",), ()),
    "iscsi": (("iscsi_tcp",), ()),
    "nvme-tcp": (("nvme_tcp",), ()),
    "nfs": (("nfs", "nfsv3"), ("CONFIG_NFS_SWAP",)),  # swap in a file on NFS
    "nfs-mount": (("nfs", "nfsv3"), ()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a kernel has that a trial may want."""

    btf: bool | None  # types of its structures in the image; None: it cannot be told
    nics: tuple[str, ...]  # QEMU's models that it has drivers for
    transports: tuple[str, ...]  # ways to swap or to mount over the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One kernel, cached or not."""

    name: str
    package: str  # Debian's meta-package and release; empty for a file of this machine
    cached: bool
    release: str = ""  # uname -r; this and what follows of cached kernels only
    version: str = ""  # of the package
    package_sha256: str = ""
    vmlinuz: str = ""  # path
    vmlinuz_sha256: str = ""
    size_bytes: int = 0  # on the disk, with what was found out about it
    can: Abilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """All that `tidegate kernels` says."""

    kernels: tuple[Listed, ...]
    size_bytes: int  # of all
    schema: str = KERNELS_SCHEMA


def listed() -> Kernels:
    """Debian's kernels by name, fetched or not, then the files that were unpacked here. Asks no archive."""
    here = {kernel.name: kernel for kernel in cached()}
    rows = [_row(here[name]) if name in here else _absent(name) for name in NAMED]
    rows += [_row(kernel) for name, kernel in here.items() if name not in NAMED]
    return _sheet(rows)


def listed_kernels(kernels: Iterable[Kernel]) -> Kernels:
    """These kernels only."""
    return _sheet([_row(kernel) for kernel in kernels])


def _sheet(rows: Sequence[Listed]) -> Kernels:
    return Kernels(kernels=tuple(rows), size_bytes=sum(row.size_bytes for row in rows))


def _absent(name: str) -> Listed:
    return Listed(name=name, package=_package(name), cached=False)


def _package(name: str) -> str:
    if name not in NAMED:
        return ""
    debian, flavour = NAMED[name]
    return f"{META_PACKAGE[flavour]} ({debian})"


def _row(kernel: Kernel) -> Listed:
    can = abilities(kernel)  # first: it may unpack the image
    folder = folder_of(kernel)
    return Listed(
        name=kernel.name,
        package=_package(kernel.name),
        cached=True,
        release=kernel.release,
        version=kernel.version,
        package_sha256=kernel.package_sha256,
        vmlinuz=str(kernel.vmlinuz),
        vmlinuz_sha256=kernel.vmlinuz_sha256,
        size_bytes=(size_of(folder) if folder else 0) + size_of(facts_directory(kernel.vmlinuz_sha256)),
        can=can,
    )


def abilities(kernel: Kernel) -> Abilities:
    """What the kernel can be tried with, from its modules, its configuration and its image."""
    modules, config = all_modules(kernel), configuration(kernel)
    return Abilities(
        btf=has_btf(kernel, config),
        nics=drivable(modules),
        transports=tuple(
            name
            for name, (needs, words) in TRANSPORTS.items()
            if modules.issuperset(needs) and all(config.get(word, "y") == "y" for word in words)
        ),
    )


def configuration(kernel: Kernel) -> dict[str, str]:
    """The words of its configuration that are set; empty when its package holds none, then nothing is known."""
    beside = (kernel.vmlinuz.parent / f"config-{kernel.release}", kernel.modules / "config")
    path = next((path for path in beside if path.exists()), None)
    if path is None:
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line.startswith("CONFIG_"))
    found = {word: value for word, _, value in pairs}
    # What is off stands there as a comment, so that a word that is missing is off too.
    return (
        {word: "n" for _, words in TRANSPORTS.values() for word in words}
        | {"CONFIG_DEBUG_INFO_BTF": "n"}
        | found
    )


def has_btf(kernel: Kernel, config: dict[str, str]) -> bool | None:
    """Whether the image holds the types of its structures; remembered, since looking means unpacking it.

    Its configuration answers where this machine cannot unpack the image.
    """
    note = facts_directory(kernel.vmlinuz_sha256) / "has-btf"
    if note.exists():
        return note.read_text() == "yes"
    try:
        found = _has_section(uncompressed(kernel.vmlinuz), ".BTF")
    except TidegateError:
        return config["CONFIG_DEBUG_INFO_BTF"] == "y" if config else None
    unfinished = note.with_suffix(".part")
    unfinished.write_text("yes" if found else "no")
    unfinished.replace(note)
    return found


def _has_section(elf: Path, name: str) -> bool:
    try:
        return len(section(elf, name)) > 0
    except Unsupported:
        return False
