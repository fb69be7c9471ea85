"""Records on disk: a directory, or a tar archive (.tar.xz written; .tar, .tar.gz and .tar.xz read).

Every file lies at its own path; `manifest.json` comes first and lists every path that was looked for, with size,
sha256 or the target of a symbolic link (links are kept in the manifest only: a record never holds one). Bytes are
the same for the same record. What is read may be hostile: nothing is ever unpacked onto the disk, sizes and counts
are bounded before memory is taken, and the manifest decides what each member must be.
"""

from __future__ import annotations

import errno
import hashlib
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from tidegate.errors import BadInput, Lacking
from tidegate.host.record import FORMAT_VERSION, MANIFEST, Member, Record, Status
from tidegate.host.tar_stream import MEMBERS_MAX, member_data, members_of
from tidegate.units import KIB, MIB

SCHEMA = "tidegate.record"

MEMBER_BYTES_MAX = 8 * MIB  # /proc/net/tcp of 40,000 sockets is 6 MB
NETLINK_BYTES_MAX = 32 * MIB  # 130,000 sockets
TOTAL_BYTES_MAX = 64 * MIB
MANIFEST_BYTES_MAX = 24 * MIB
_PATH_MAX = 1024

_TAR_SUFFIXES = (".tar.xz", ".tar.gz", ".tgz", ".txz", ".tar")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A path that was looked for."""

    path: str
    status: str
    size: int | None = None
    sha256: str = ""
    target: str = ""
    detail: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json; docs/record-format.md says what each key means."""

    schema: str
    format: int
    kernel: str
    machine: str
    taken: str
    page_bytes: int = 4096
    tool: str = ""
    complete: bool = True
    anonymised: bool = False
    made: bool = False
    patterns: list[str] = []
    paths: list[Entry]


def from_files(name: str, files: Mapping[str, bytes]) -> Record:
    """The record that files by path make; BadInput where the manifest or a path is not as it must be."""
    data = files.get(MANIFEST)
    if data is None:
        raise BadInput(name, "", f"no {MANIFEST}", "a record made by `tidegate record`, or an sos report")
    manifest = _manifest(name, data)
    members: dict[str, Member] = {}
    for number, entry in enumerate(manifest.paths):
        place = f"{MANIFEST}: paths[{number}]"
        check_path(name, place, entry.path)
        if entry.path in members:
            raise BadInput(name, place, f"{entry.path} twice", "every path once")
        members[entry.path] = _member(name, place, entry, files)
    for path in files:
        if path != MANIFEST and path not in members:
            raise BadInput(name, path, "a file that the manifest does not list", "only listed files")
    return Record(
        members=members,
        kernel=manifest.kernel,
        machine=manifest.machine,
        taken=manifest.taken,
        source=name,
        complete=manifest.complete,
        tool=manifest.tool,
        page_bytes=manifest.page_bytes,
        anonymised=manifest.anonymised,
        made=manifest.made,
        patterns=tuple(manifest.patterns),
    )


def _manifest(name: str, data: bytes) -> Manifest:
    class Head(msgspec.Struct):
        schema: str
        format: int

    head = _decoded(name, data, Head)
    if head.schema != SCHEMA:
        raise BadInput(name, f"{MANIFEST}: schema", repr(head.schema[:60]), f"{SCHEMA!r}")
    if not 1 <= head.format <= FORMAT_VERSION:
        what = "a newer tidegate" if head.format > FORMAT_VERSION else "a format that exists"
        raise BadInput(
            name, f"{MANIFEST}: format", str(head.format), f"1 to {FORMAT_VERSION} ({what} is needed)"
        )
    manifest = _decoded(name, data, Manifest)
    if manifest.page_bytes not in {4096, 8192, 16384, 65536}:
        raise BadInput(
            name, f"{MANIFEST}: page_bytes", str(manifest.page_bytes), "4096, 8192, 16384 or 65536"
        )
    return manifest


T = TypeVar("T")


def _decoded(name: str, data: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        where = f"{MANIFEST}: {place.strip('`.') or 'top'}"
        raise BadInput(name, where, text.rstrip(), "what docs/record-format.md says") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(name, MANIFEST, f"no JSON ({error})", "a whole manifest") from None


def check_path(name: str, place: str, path: str) -> None:
    """Refuses a path that could mean something outside of the record."""
    parts = path.split("/")
    if not path or len(path) > _PATH_MAX or any(part in {"", ".", ".."} for part in parts):
        raise BadInput(name, place, repr(path[:80]), "a relative path without empty, . or .. parts")
    if any(ord(letter) < 32 or letter == "\x7f" for letter in path):
        raise BadInput(name, place, repr(path[:80]), "a path without control characters")


def _member(name: str, place: str, entry: Entry, files: Mapping[str, bytes]) -> Member:
    try:
        state = Status(entry.status)
    except ValueError:
        expected = ", ".join(one.value for one in Status)
        raise BadInput(name, f"{place}: status", repr(entry.status[:40]), f"one of {expected}") from None
    if state is not Status.FOUND or entry.target:
        return Member(path=entry.path, status=state, target=entry.target, detail=entry.detail)
    data = files.get(entry.path)
    fault = ""
    if data is None:
        fault = "listed in the manifest, missing from the record"
    elif entry.size is not None and len(data) != entry.size:
        fault = f"{len(data)} bytes where the manifest says {entry.size}"
    elif hashlib.sha256(data).hexdigest() != entry.sha256:
        fault = "its sha256 is not the manifest's"
    if fault or data is None:
        return Member(path=entry.path, status=Status.DAMAGED, detail=fault)
    return Member(path=entry.path, status=state, data=data, detail=entry.detail)


# ---- reading directories and archives


def folder_files(folder: Path) -> dict[str, bytes]:
    """Every file below a directory, by path."""
    files: dict[str, bytes] = {}
    total = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        for one in folders:
            if (Path(place) / one).is_symlink():
                raise BadInput(str(folder), one, "a symbolic link", "plain files and directories")
        for one in names:
            path = Path(place) / one
            shown = path.relative_to(folder).as_posix()
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                raise BadInput(str(folder), shown, "no regular file", "plain files and directories")
            total += about.st_size
            _check_size(str(folder), shown, about.st_size, total, len(files))
            with path.open("rb") as source:
                files[shown] = source.read(_limit(shown) + 1)
    return files


def _limit(path: str) -> int:
    if path == MANIFEST:
        return MANIFEST_BYTES_MAX
    return NETLINK_BYTES_MAX if path.startswith("netlink/") else MEMBER_BYTES_MAX


def _check_size(name: str, path: str, size: int, total: int, count: int) -> None:
    if size > _limit(path):
        raise BadInput(name, path, f"{size:,} bytes", f"at most {_limit(path):,}")
    if total > TOTAL_BYTES_MAX + MANIFEST_BYTES_MAX:
        raise BadInput(name, path, f"{total:,} bytes in all", f"at most {TOTAL_BYTES_MAX:,}")
    if count >= MEMBERS_MAX:
        raise BadInput(name, path, f"more than {MEMBERS_MAX:,} members", "a record of one host")


def tar_files(name: str, first: tarfile.TarInfo | None, tar: tarfile.TarFile) -> dict[str, bytes]:
    """Every file of an archive whose first member was taken already, by path."""
    files: dict[str, bytes] = {}
    total = 0
    for member in members_of(name, first, tar):
        path = member.name.removeprefix("./").rstrip("/")
        if member.isdir() and path in {"", "."}:
            continue
        check_path(name, repr(member.name[:80]), path)
        if member.isdir():
            continue
        if not member.isreg():
            raise BadInput(name, path, "a link or device", "plain files and directories")
        if path in files:
            raise BadInput(name, path, "a member of that name twice", "every path once")
        total += member.size
        _check_size(name, path, member.size, total, len(files))
        files[path] = member_data(name, tar, member)
    return files


# ---- writing


def save_record(record: Record, path: Path, *, force: bool = False) -> int:
    """Writes a record as a directory, or as .tar.xz where the name ends so; all or nothing. Bytes written.

    Raises BadInput where something is there already and `force` is not given, Lacking where it cannot be written.
    """
    check_name(path, force=force)
    files = record_files(record)
    if _is_archive(path):
        data = _packed(files)
        write_atomically(path, data, force=force)
        return len(data)
    _write_folder(files, path)
    return sum(map(len, files.values()))


def check_name(path: Path, *, force: bool) -> None:
    """Refuses, before anything is read, a place where save_record would refuse to write."""
    if not _is_archive(path) and path.name.endswith(_TAR_SUFFIXES):
        raise BadInput(
            str(path), "", "a name that ends in another kind of archive", "NAME.tar.xz or a directory"
        )
    with _writing(path):
        if not _is_archive(path):
            _check_place(path, force=force)
        elif not force and os.path.lexists(path):
            raise BadInput(str(path), "", "something is there already", "a new name (or --force)")


def _is_archive(path: Path) -> bool:
    return path.name.endswith(".tar.xz")


def record_files(record: Record) -> dict[str, bytes]:
    """What a record is made of, in order: the manifest, then every file by path."""
    found = {
        path: member.data
        for path, member in sorted(record.members.items())
        if member.status is Status.FOUND and not member.target
    }
    return {MANIFEST: _manifest_bytes(record)} | found


def _manifest_bytes(record: Record) -> bytes:
    entries = []
    for path, member in sorted(record.members.items()):
        file = member.status is Status.FOUND and not member.target
        entries.append(
            Entry(
                path=path,
                status=member.status.value,
                size=len(member.data) if file else None,
                sha256=hashlib.sha256(member.data).hexdigest() if file else "",
                target=member.target,
                detail=member.detail,
            )
        )
    manifest = Manifest(
        schema=SCHEMA,
        format=FORMAT_VERSION,
        kernel=record.kernel,
        machine=record.machine,
        taken=record.taken,
        page_bytes=record.page_bytes,
        tool=record.tool,
        complete=record.complete,
        anonymised=record.anonymised,
        made=record.made,
        patterns=list(record.patterns),
        paths=entries,
    )
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def _packed(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    # A dictionary larger than what is packed gains nothing, and takes ten times its size in memory.
    room = min(max(sum(map(len, files.values())), 64 * KIB), 8 * MIB)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": room}]
    with (
        lzma.LZMAFile(buffer, "wb", filters=filters) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, data in files.items():
            about = tarfile.TarInfo(path)  # no time, no owner: the same record is the same bytes
            about.size, about.mode = len(data), 0o644
            tar.addfile(about, io.BytesIO(data))
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes, *, force: bool = True) -> None:
    """A file that is there whole or not at all. Lacking where it cannot be written.

    A symbolic link stays one, and a pipe or a device (/dev/stdout, /dev/null) is written to, never replaced.
    """
    if not force and os.path.lexists(path):
        raise BadInput(str(path), "", "something is there already", "a new name (or --force)")
    if _is_stream(path):
        with _writing(path):
            path.write_bytes(data)
        return
    # os.path.islink, since Path.is_symlink raises where the folder may not be looked into
    path = Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114

    def write(temporary: Path) -> None:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(0o644 & ~_umask())
        temporary.replace(path)

    with _writing(path):
        _with_temporary(path, write, folder=False)


def _write_folder(files: Mapping[str, bytes], path: Path) -> None:
    def write(temporary: Path) -> None:
        for name, data in files.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        temporary.chmod(0o755 & ~_umask())
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)

    with _writing(path):
        _with_temporary(path, write, folder=True)


def _is_stream(path: Path) -> bool:
    """Something to write to that has no place for a new file: a pipe, a terminal, another device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _check_place(path: Path, *, force: bool) -> None:
    """Refuses to write a record's directory where something else is."""
    folder = path.is_dir() and not path.is_symlink()
    if not os.path.lexists(path) or (folder and not any(path.iterdir())):
        return
    replaceable = folder and (path / MANIFEST).is_file()
    if not force or not replaceable:
        expected = "a new name (or --force)" if replaceable else "a new name or an empty directory"
        raise BadInput(str(path), "", "something is there already", expected)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        cure = {errno.ENOSPC: "free space or choose another place", errno.EDQUOT: "the quota is used up"}
        hint = cure.get(error.errno or 0, "choose a place that may be written")
        raise Lacking(f"{path}: cannot be written ({reason}); {hint}") from None


def _with_temporary(path: Path, write: Callable[[Path], None], *, folder: bool) -> None:
    parent, temporary = path.parent, None
    try:
        if folder:
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
        else:
            handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=parent)
            os.close(handle)
            temporary = Path(made)
        write(temporary)
    finally:
        if temporary is not None and os.path.lexists(temporary):
            with suppress(OSError):
                shutil.rmtree(temporary) if folder else temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
