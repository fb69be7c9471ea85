"""The recorded hosts that come with tidegate: `hosts/` of the source tree, `tidegate/_hosts` of a wheel."""

from __future__ import annotations

from pathlib import Path

from tidegate.errors import BadInput


def bundled_directory() -> Path:
    """Where the recorded hosts are; the path need not exist in a package that was cut down."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_hosts"
    return installed if installed.is_dir() else package.parent.parent / "hosts"


def bundled_names() -> list[str]:
    """Names of the recorded hosts, sorted."""
    return sorted(path.name.removesuffix(".tar.xz") for path in bundled_directory().glob("*.tar.xz"))


def bundled_record(name: str) -> Path:
    """The archive of the recorded host `name`; BadInput when there is none."""
    names = bundled_names()
    if name not in names:
        raise BadInput("bundled hosts", "", f"no {name}", f"one of {', '.join(names) or '(none here)'}")
    return bundled_directory() / f"{name}.tar.xz"


def recorded_host(typed: str) -> Path:
    """The path that a person typed, or the bundled archive where it is a bare name of one and no file here."""
    path = Path(typed)
    if path.name == typed and not path.exists() and typed in bundled_names():
        return bundled_record(typed)
    return path
