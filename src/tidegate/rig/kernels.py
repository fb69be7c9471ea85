"""Stock Debian kernels: fetched with the ordinary package client, unpacked, never installed.

The client runs with a state directory, a cache and a source list of its own, so the system's lists stay as
they are; it checks the archive's signature as always. A kernel is named by its Debian release and flavour
and found through the meta-package, since single versions leave the archive.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tidegate.errors import Lacking
from tidegate.rig.tools import cache_directory, call, locked

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
MIRROR_VARIABLE = "TIDEGATE_DEBIAN_MIRROR"


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

    debian: Debian
    flavour: Flavour
    release: str  # uname -r
    version: str  # of the package
    package_sha256: str
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


def fetch(debian: Debian, flavour: Flavour, *, refresh: bool = False) -> Kernel:
    """The newest stock kernel of a release and flavour; fetched once, then cached, unless `refresh`."""
    with locked(cache_directory() / "kernels" / f"{debian}-{flavour}") as folder:
        kept = None if refresh else _kept(folder)
        return kept or _fetch(folder, debian, flavour)


def _kept(folder: Path) -> Kernel | None:
    note = folder / "kernel.json"
    if not note.exists():
        return None
    told = json.loads(note.read_text())
    kernel = Kernel(
        debian=Debian(told["debian"]),
        flavour=Flavour(told["flavour"]),
        release=told["release"],
        version=told["version"],
        package_sha256=told["package_sha256"],
        vmlinuz=folder / told["vmlinuz"],
        vmlinuz_sha256=told["vmlinuz_sha256"],
        modules=folder / told["modules"],
    )
    there = kernel.modules.is_dir() and kernel.vmlinuz.exists()
    return kernel if there and sha256(kernel.vmlinuz) == kernel.vmlinuz_sha256 else None


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
    kernel = _unpack(folder, deb, debian, flavour)
    told = asdict(kernel) | {
        "vmlinuz": str(kernel.vmlinuz.relative_to(folder)),
        "modules": str(kernel.modules.relative_to(folder)),
    }
    (folder / "kernel.json").write_text(json.dumps(told, indent=1) + "\n")
    deb.unlink()
    shutil.rmtree(folder / "state")
    shutil.rmtree(folder / "cache")
    return kernel


def _unpack(folder: Path, deb: Path, debian: Debian, flavour: Flavour) -> Kernel:
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    (folder / "kernel.json").unlink(missing_ok=True)
    call(["dpkg-deb", "-x", deb, root], timeout_s=600)
    vmlinuz = next(iter(root.glob("boot/vmlinuz-*")), None)
    if vmlinuz is None:
        raise Lacking(f"{deb.name}: found no boot/vmlinuz-*, expected a kernel image")
    release = vmlinuz.name.removeprefix("vmlinuz-")
    usr = root / "usr/lib/modules" / release
    modules = usr if usr.is_dir() else root / "lib/modules" / release
    if modules == usr:  # depmod looks in lib/modules below its base directory
        (root / "lib").symlink_to("usr/lib")
    call(["depmod", "-b", root, release], timeout_s=300)
    return Kernel(
        debian=debian,
        flavour=flavour,
        release=release,
        version=call(["dpkg-deb", "-f", deb, "Version"], timeout_s=60).strip(),
        package_sha256=sha256(deb),
        vmlinuz=vmlinuz,
        vmlinuz_sha256=sha256(vmlinuz),
        modules=modules,
    )


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
