"""Stock kernels by name: Debian's, fetched with the ordinary package client, unpacked, never installed.

The client runs with a state directory, a cache and a source list of its own, so the system's lists stay as
they are; it checks the archive's signature as always. A kernel is named by its Debian release and flavour
and found through the meta-package, since single versions leave the archive. A package or an image that lies
on this machine is a name too (`kernel_files.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tidegate.errors import BadInput, Lacking, Usage
from tidegate.rig.tools import cache_directory, call, locked

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
MIRROR_VARIABLE = "TIDEGATE_DEBIAN_MIRROR"
LOCK = ".lock"  # see tools.locked
_NOTE = "kernel.json"
# Debian has the image in boot; where /boot is a partition of its own others have it beside the modules.
_IMAGES = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")


class Debian(StrEnum):
    """The releases whose kernels are used."""

    BOOKWORM = "bookworm"  # 6.1
    TRIXIE = "trixie"  # 6.12


class Flavour(StrEnum):
    """Debian's flavours for amd64."""

    CLOUD = "cloud"  # virtio and Xen only: small, no drivers of real NICs
    GENERIC = "generic"


META_PACKAGE = {Flavour.CLOUD: "linux-image-cloud-amd64", Flavour.GENERIC: "linux-image-amd64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One unpacked kernel."""

    name: str = ""  # as `tidegate kernels` lists it: trixie-cloud, or the name of the file it is from
    debian: Debian | None = None  # None: not fetched by name
    flavour: Flavour | None = None
    release: str  # uname -r
    version: str  # of the package
    package_sha256: str  # empty: no package, an image that lay here
    vmlinuz: Path
    vmlinuz_sha256: str
    modules: Path  # holds kernel/ and modules.dep; the files are .ko or .ko.xz


def debian_mirror() -> str:
    """The address of Debian's archive: that of this system's package client, or TIDEGATE_DEBIAN_MIRROR."""
    given = os.environ.get(MIRROR_VARIABLE, "")
    if given:
        return given
    words = ["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    listed = call(["apt-get", *words], timeout_s=60)
    for line in listed.splitlines():
        uri, _, suite = line.partition(" ")
        if uri.rstrip("/").endswith("/debian") and "-" not in suite:
            return uri
    raise Lacking(f"no Debian archive among this system's package sources, expected one or {MIRROR_VARIABLE}")


def keyring() -> Path:
    """The keys that the archive is signed with."""
    for path in _KEYRINGS:
        if path.exists():
            return path
    raise Lacking(f"found no {_KEYRINGS[0]}, expected package debian-archive-keyring")


def source_line(debian: Debian, mirror: str, keys: Path) -> str:
    """The one line of the private source list."""
    return f"deb [signed-by={keys}] {mirror} {debian} main\n"


def client_options(folder: Path, user: str) -> list[str]:
    """Options that keep the package client inside `folder`; the system's proxy still holds."""
    return [
        f"-oDir::Etc::sourcelist={folder}/sources.list",
        "-oDir::Etc::sourceparts=/dev/null",
        f"-oDir::State={folder}/state",
        "-oDir::State::status=/dev/null",
        f"-oDir::Cache={folder}/cache",
        f"-oAPT::Sandbox::User={user}",  # the sandbox user may not write here
        "-oAPT::Architecture=amd64",
        "-oAcquire::Languages=none",
        "-oAcquire::Retries=3",
        "-qq",
    ]


def real_package(depends: str) -> str:
    """The kernel package that a meta-package depends on, from its `Depends:` field.

    The signed image only: `-unsigned` and `-dbg` are other packages.
    """
    for name in re.findall(r"linux-image-[0-9][^\s,(|]*", depends):
        if not name.endswith(("-unsigned", "-dbg")):
            return str(name)
    raise Lacking(f"meta-package: found Depends: {depends!r}, expected a linux-image of one version")


def needed_modules(modules_dep: str, names: Sequence[str]) -> list[str]:
    """Paths of the modules and all they need, in loading order, from depmod's modules.dep.

    A name that is not there is built in, or not of this kernel: both are found out by the guest.
    """
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        needs[module_name(path)] = (path, rest.split())
    ordered: list[str] = []
    for name in names:
        path, below = needs.get(name.replace("-", "_"), ("", []))
        # depmod lists the nearest need first, so the reverse is an order in which each finds what it needs.
        ordered += [step for step in [*reversed(below), path] if step]
    return list(dict.fromkeys(ordered))


def module_name(path: str) -> str:
    """A module's name as the kernel has it."""
    return Path(path).name.split(".", 1)[0].replace("-", "_")


def all_modules(kernel: Kernel) -> frozenset[str]:
    """The names of what the kernel has as a module or built in."""
    loadable = [line.partition(":")[0] for line in _lines(kernel.modules / "modules.dep")]
    return frozenset(map(module_name, [*loadable, *_lines(kernel.modules / "modules.builtin")]))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


NAMED = {f"{debian}-{flavour}": (debian, flavour) for debian in Debian for flavour in Flavour}


def resolve(name: str) -> Kernel:
    """The kernel of that name: one of NAMED, or the path of a .deb, of an .rpm or of a boot image.

    What is not there yet is fetched or unpacked, then cached. Usage: no such name or file. BadInput: the file is
    neither. Lacking: a program, or the modules of an image.
    """
    if name in NAMED:
        return fetch(*NAMED[name])
    path = Path(name)
    if not path.exists():
        files = "the path of a .deb, of an .rpm or of a boot image"
        raise Usage(f"no kernel {name!r}; there are {', '.join(NAMED)}, or {files}")
    from tidegate.rig.kernel_files import from_file

    return from_file(path)


def fetch(debian: Debian, flavour: Flavour, *, refresh: bool = False) -> Kernel:
    """The newest stock kernel of a release and flavour; fetched once, then cached, unless `refresh`."""
    with locked(kernels_directory() / f"{debian}-{flavour}") as folder:
        kept = None if refresh else kept_kernel(folder)
        return kept or _fetch(folder, debian, flavour)


def kernels_directory() -> Path:
    """Where unpacked kernels are kept, each in a folder of its own."""
    return cache_directory() / "kernels"


def cached() -> tuple[Kernel, ...]:
    """The kernels that are unpacked here and whole, by name."""
    folders = sorted(kernels_directory().glob("*"))
    return tuple(kernel for folder in folders if (kernel := kept_kernel(folder)) is not None)


def folder_of(kernel: Kernel) -> Path | None:
    """The folder of the cache that holds it; None for an image that lies elsewhere."""
    below = kernels_directory()
    if not kernel.vmlinuz.is_relative_to(below):
        return None
    return below / kernel.vmlinuz.relative_to(below).parts[0]


def clean(names: Sequence[str] = ()) -> dict[str, int]:
    """Removes cached kernels, all of them without names, and gives the bytes that each took.

    What was found out about a kernel's image goes with it. Usage where one of the names is no cached kernel; then
    nothing is removed.
    """
    from tidegate.rig.vmlinux import facts_directory  # which imports this module

    here = {kernel.name: (folder, kernel) for kernel in cached() if (folder := folder_of(kernel)) is not None}
    short = {Path(name).name or name: name for name in names}
    unknown = [typed for name, typed in short.items() if name not in here]
    if unknown:
        raise Usage(f"no cached kernel {unknown[0]!r}; cached are: {', '.join(here) or 'none'}")
    freed = {}
    for name in short or here:
        folder, kernel = here[name]
        freed[name] = _emptied(folder) + _emptied(facts_directory(kernel.vmlinuz_sha256))
    if not names:  # what an interrupted fetch left, and what was found out about images that lie elsewhere
        rest = [*kernels_directory().glob("*"), *facts_directory("").glob("*")]
        freed["other files"] = sum(_emptied(folder) for folder in rest if folder.is_dir())
    return {name: size for name, size in freed.items() if size or name != "other files"}


def _emptied(folder: Path) -> int:
    """Removes what a folder of the cache holds; its lock stays, since somebody may be waiting for it."""
    if not folder.is_dir():
        return 0
    freed = 0
    with locked(folder):
        for path in [path for path in folder.iterdir() if path.name != LOCK]:
            freed += size_of(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return freed


def size_of(path: Path) -> int:
    """Bytes that a file, or a folder with all in it, takes on the disk."""
    own = path.lstat().st_blocks * 512 if path.is_symlink() or path.exists() else 0
    if path.is_symlink() or not path.is_dir():
        return own
    return own + sum(entry.lstat().st_blocks * 512 for entry in path.rglob("*"))


def kept_kernel(folder: Path) -> Kernel | None:
    """The kernel that is unpacked in a folder of the cache; None when there is none, or not the whole of it."""
    note = folder / _NOTE
    if not note.exists():
        return None
    told = json.loads(note.read_text())
    kernel = Kernel(
        name=told.get("name") or folder.name,
        debian=Debian(told["debian"]) if told["debian"] else None,
        flavour=Flavour(told["flavour"]) if told["flavour"] else None,
        release=told["release"],
        version=told["version"],
        package_sha256=told["package_sha256"],
        vmlinuz=folder / told["vmlinuz"],
        vmlinuz_sha256=told["vmlinuz_sha256"],
        modules=folder / told["modules"],
    )
    there = kernel.modules.is_dir() and kernel.vmlinuz.exists()
    return kernel if there and sha256(kernel.vmlinuz) == kernel.vmlinuz_sha256 else None


def keep(folder: Path, kernel: Kernel) -> Kernel:
    """Notes which kernel is unpacked in a folder; from then on it counts as cached."""
    told = asdict(kernel) | {
        "vmlinuz": str(kernel.vmlinuz.relative_to(folder)),
        "modules": str(kernel.modules.relative_to(folder)),
    }
    (folder / _NOTE).write_text(json.dumps(told, indent=1) + "\n")
    return kernel


def _fetch(folder: Path, debian: Debian, flavour: Flavour) -> Kernel:
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(source_line(debian, debian_mirror(), keyring()))
    options = client_options(folder, "root" if os.geteuid() == 0 else "")
    call(["apt-get", *options, "-oAPT::Update::Error-Mode=any", "update"], timeout_s=600)
    meta = call(["apt-cache", *options, "show", "--no-all-versions", META_PACKAGE[flavour]], timeout_s=60)
    depends = next((line for line in meta.splitlines() if line.startswith("Depends:")), "")
    package = real_package(depends)
    for old in folder.glob("linux-image-*.deb"):
        old.unlink()
    call(["apt-get", *options, "download", package], timeout_s=1800, cwd=folder)
    (deb,) = folder.glob("linux-image-*.deb")
    release, vmlinuz, modules = unpack(
        folder, deb, lambda root: call(["dpkg-deb", "-x", deb, root], timeout_s=600)
    )
    kernel = Kernel(
        name=f"{debian}-{flavour}",
        debian=debian,
        flavour=flavour,
        release=release,
        version=deb_version(deb),
        package_sha256=sha256(deb),
        vmlinuz=vmlinuz,
        vmlinuz_sha256=sha256(vmlinuz),
        modules=modules,
    )
    keep(folder, kernel)
    deb.unlink()
    shutil.rmtree(folder / "state")
    shutil.rmtree(folder / "cache")
    return kernel


def deb_version(deb: Path) -> str:
    """The version of a Debian package."""
    return call(["dpkg-deb", "-f", deb, "Version"], timeout_s=60).strip()


def unpack(folder: Path, package: Path, extract: Callable[[Path], object]) -> tuple[str, Path, Path]:
    """Lays a package out below `folder` with `extract`: the kernel's release, its image, its modules with their index.

    BadInput when it holds no kernel image. Lacking when it holds no modules.
    """
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    (folder / _NOTE).unlink(missing_ok=True)
    root.mkdir()
    try:
        extract(root)
        return _laid_out(root, package)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _laid_out(root: Path, package: Path) -> tuple[str, Path, Path]:
    vmlinuz = next((path for glob in _IMAGES for path in sorted(root.glob(glob))), None)
    if vmlinuz is None:
        raise BadInput(str(package), "", "no boot/vmlinuz-*", "a package with a kernel's image")
    release = vmlinuz.parent.name if vmlinuz.name == "vmlinuz" else vmlinuz.name.removeprefix("vmlinuz-")
    usr = root / "usr/lib/modules" / release
    modules = usr if usr.is_dir() else root / "lib/modules" / release
    if not (modules / "kernel").is_dir():
        raise Lacking(
            f"{package}: has no modules of {release}; expected the modules' package unpacked beside this one, "
            "and the path of the image there"
        )
    if modules == usr and not (root / "lib").exists():  # depmod looks in lib/modules below its base directory
        (root / "lib").symlink_to("usr/lib")
    call(["depmod", "-b", root, release], timeout_s=300)
    return release, vmlinuz, modules


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
