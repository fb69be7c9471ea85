"""Tar archives as streams, read as if somebody had made them to do harm: bounded, and every damage one line.

tarfile reads names and PAX records into memory whole, however long they say they are, turns their numbers with
int() unchecked, and follows a header after a header by recursion: here all of that ends as BadInput.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from tidegate.errors import BadInput
from tidegate.units import MIB

MEMBERS_MAX = 100_000
UNPACKED_BYTES_MAX = 1024 * MIB  # of an sos report, which holds logs that are passed over


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it yields more than a record can hold: against bombs."""

    def __init__(self, source: IO[bytes], most: int) -> None:
        self._source, self._left = source, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, MIB) if size >= 0 else MIB)
        self._left -= len(data)
        if self._left < 0:
            raise _TooMuch(f"more than {UNPACKED_BYTES_MAX:,} bytes unpacked")
        return data


class _TooMuch(Exception):
    """What an archive holds more of than any record or report does."""


class _Header(tarfile.TarInfo):
    """A member's header whose size is bounded before tarfile reads it: names and PAX records go to memory whole."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        # Every header comes through here in every Python; frombuf() is passed by in those of 2026.
        if self.type in _READ_WHOLE and not 0 <= self.size <= MIB:
            raise _TooMuch(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


_READ_WHOLE = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)

# What tarfile and the decompressors raise for damage.
_DAMAGE = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
    RecursionError,
)


@contextmanager
def open_tar(name: str, raw: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """A tar archive, plain or packed, read once from its beginning to its end. Raises BadInput."""
    head = raw.read(6)
    raw.seek(0)
    stream: IO[bytes]
    if head[:6] == b"\xfd7zXZ\x00":
        stream = cast("IO[bytes]", lzma.LZMAFile(raw, format=lzma.FORMAT_XZ))  # noqa: SIM115
    elif head[:2] == b"\x1f\x8b":
        import gzip

        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    elif not head:
        raise BadInput(name, "", "an empty file", "a record (.tar.xz) or an sos report")
    else:
        stream = raw
    bounded = cast("IO[bytes]", _Bounded(stream, UNPACKED_BYTES_MAX))
    try:
        try:
            tar = tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Header)  # noqa: SIM115
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise BadInput(
                name, "", f"no tar archive ({error})", "a record (.tar.xz) or an sos report"
            ) from None
        with tar:
            yield tar
        while bounded.read():  # to the end: only there it shows whether the compressed stream is whole
            pass
    except _TooMuch as error:
        raise BadInput(name, "", str(error), "a record or an sos report") from None


def next_member(name: str, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member; what breaks inside of an archive is said with its name."""
    try:
        member = tar.next()
        tar.members = []  # type: ignore[attr-defined] # the stream is read once: keep no list
    except _DAMAGE as error:
        raise BadInput(name, "", f"a damaged archive ({error})", "a whole archive") from None
    return member


def member_data(name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of one member."""
    try:
        source = tar.extractfile(member)
        data = source.read(max(member.size, 0)) if source is not None else b""
    except _DAMAGE as error:
        raise BadInput(name, member.name[:80], f"a damaged archive ({error})", "a whole archive") from None
    if len(data) != member.size:
        raise BadInput(name, member.name[:80], f"{len(data)} bytes", f"{member.size} bytes")
    return data


def members_of(name: str, first: tarfile.TarInfo | None, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member once, the first (already taken) too; bounded in number."""
    member, count = first, 0
    while member is not None:
        count += 1
        if count > MEMBERS_MAX:
            raise BadInput(
                name, member.name[:80], f"more than {MEMBERS_MAX:,} members", "a record of one host"
            )
        yield member
        member = next_member(name, tar)
