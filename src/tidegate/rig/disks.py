"""The guest's read-only disks: a Debian root with Python, the kernel's modules, and the job of one run.

On squashfs none of them counts as the guest's own memory beyond its page cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tidegate.errors import Lacking
from tidegate.rig.kernels import Debian, Kernel, debian_mirror
from tidegate.rig.tools import cache_directory, call, locked, program

PACKAGES = (
    "python3", "kmod", "udev", "procps", "iproute2", "ethtool", "e2fsprogs", "lvm2", "cryptsetup-bin",
    "nbd-client", "open-iscsi", "nvme-cli", "nfs-common", "nfs-kernel-server", "sosreport",
)  # fmt: skip
PYTHON = {Debian.BOOKWORM: "3.11", Debian.TRIXIE: "3.13"}
LIBRARIES = ("msgspec", "pyroute2")  # what tidegate needs in the guest; the versions are this machine's
LIBRARIES_PATH = "/opt/tidegate"
_LEAVE_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def installed_libraries() -> list[str]:
    """The libraries as `name==version`, as they are here; Lacking when one is not installed."""
    try:
        return [f"{name}=={version(name)}" for name in LIBRARIES]
    except PackageNotFoundError as trouble:
        raise Lacking(f"Python library {trouble.name}: not installed here, but the guest needs it") from None


def root_key(debian: Debian, libraries: list[str]) -> str:
    """What a root image is made of, as a short hash: another recipe makes another file."""
    recipe = "\n".join([debian, *PACKAGES, *libraries, *_LEAVE_OUT])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def root_image(debian: Debian) -> Path:
    """A minimal Debian with Python and the storage clients, as squashfs; made once per recipe.

    Nothing of it is installed here, and no service of it is started: the guest runs what its job says.
    """
    libraries = installed_libraries()
    with locked(cache_directory() / "roots") as folder:
        image = folder / f"{debian}-{root_key(debian, libraries)}.squashfs"
        if not image.exists():
            with tempfile.TemporaryDirectory(prefix="tidegate-root-") as made:
                extra = Path(made)
                _add_libraries(extra / LIBRARIES_PATH.lstrip("/"), debian, libraries)
                _bootstrap(debian, extra, image)
        return image


def _add_libraries(where: Path, debian: Debian, libraries: list[str]) -> None:
    words = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    words += [
        "install",
        "--target",
        str(where),
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        PYTHON[debian],
    ]
    words += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64"]
    words += ["--platform", "manylinux2014_x86_64", "--no-compile", *libraries]
    call(words, timeout_s=600)


def _bootstrap(debian: Debian, extra: Path, image: Path) -> None:
    """The tar of mmdebstrap goes straight into sqfstar: no tree, so no root is needed to keep its owners."""
    words = [str(program("mmdebstrap")), "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    words += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEAVE_OUT]
    words += [f"--customize-hook=sync-in {extra} /", '--customize-hook=rm -rf "$1"/var/lib/apt/lists/*']
    words += [debian, "-", debian_mirror()]
    part = image.with_suffix(".part")
    part.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(  # noqa: S603
            words, stdout=subprocess.PIPE, stderr=said, env={**os.environ, "LC_ALL": "C"}
        ) as bootstrap:
            packed = subprocess.run(  # noqa: S603
                [program("sqfstar"), "-comp", "zstd", "-no-progress", "-quiet", part],
                stdin=bootstrap.stdout, stdout=said, stderr=said, timeout=1800, check=False,
            )  # fmt: skip
        if bootstrap.returncode or packed.returncode:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            # sqfstar complains last, of a tar that ended early; why it did is mmdebstrap's first error.
            told = [line for line in lines if line.startswith("E: ")] or lines[-1:] or ["(nothing)"]
            part.unlink(missing_ok=True)
            hint = "" if os.geteuid() == 0 else "; without root it needs uidmap and a range in /etc/subuid"
            raise Lacking(f"mmdebstrap {debian}: exit {bootstrap.returncode}: {told[0][:160]}{hint}")
    part.rename(image)


def modules_image(kernel: Kernel) -> Path:
    """The kernel's module tree as squashfs, to be mounted on /usr/lib/modules."""
    with locked(cache_directory() / "modules") as folder:
        image = folder / f"{kernel.release}-{kernel.package_sha256[:12]}.squashfs"
        if not image.exists():
            part = image.with_suffix(".part")
            part.unlink(missing_ok=True)
            # -keep-as-directory: the image holds RELEASE/, as the mount point expects.
            _squash(kernel.modules, part, "-keep-as-directory")
            part.rename(image)
        return image


def job_image(where: Path, files: Mapping[str, bytes], image: Path) -> Path:
    """One run's scripts and this very tidegate, as squashfs. `where` is an empty folder to gather them in."""
    package = Path(__file__).resolve().parent.parent
    ignore = shutil.ignore_patterns("__pycache__", "_hosts")
    shutil.copytree(package, where / "src" / package.name, ignore=ignore)
    for name, data in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755)
    _squash(where, image)
    return image


def _squash(tree: Path, image: Path, *options: str) -> None:
    words = ["-comp", "zstd", "-all-root", "-no-progress", "-quiet", "-noappend", *options]
    call(["mksquashfs", tree, image, *words], timeout_s=900)
