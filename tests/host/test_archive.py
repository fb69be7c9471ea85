"""Records on disk: round trips, and everything hostile that can be in one."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.errors import BadInput, Lacking, TidegateError
from tidegate.host import archive
from tidegate.host.archive import record_files, save_record
from tidegate.host.opening import open_record
from tidegate.host.record import FORMAT_VERSION, MANIFEST, Member, Record, Status

FUZZED = 400  # inputs a property


def made_record() -> Record:
    members = [
        Member(path="proc/swaps", status=Status.FOUND, data=b"Filename\n/dev/nbd0\n"),
        Member(path="sys/block/nbd0", status=Status.FOUND, target="../devices/virtual/block/nbd0"),
        Member(path="sys/block/nbd0/size", status=Status.FOUND, data=b"1048576\n"),
        Member(path="proc/drbd", status=Status.ABSENT),
        Member(path="proc/1/fd", status=Status.DENIED, detail="another user's process"),
        Member(path="etc/fstab", status=Status.FOUND, data=b""),
    ]
    return Record(
        members={one.path: one for one in members},
        kernel="6.12.1",
        machine="x86_64",
        taken="2026-11-20T10:00:00Z",
        source="live",
        tool="tests",
        patterns=("sys/block/*",),
    )


@pytest.mark.parametrize("name", ["a.tar.xz", "folder"])
def test_what_is_saved_is_what_is_read(tmp_path: Path, name: str) -> None:
    record = made_record()
    save_record(record, tmp_path / name)
    back = open_record(tmp_path / name)
    assert back == replace(record, source=str(tmp_path / name))


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    save_record(made_record(), tmp_path / "a.tar.xz")
    save_record(made_record(), tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_other_archives_are_read(tmp_path: Path, suffix: str) -> None:
    save_record(made_record(), tmp_path / "a.tar.xz")
    plain = lzma.decompress((tmp_path / "a.tar.xz").read_bytes())
    path = tmp_path / f"b{suffix}"
    path.write_bytes(gzip.compress(plain) if suffix.endswith("gz") else plain)
    assert open_record(path).members == made_record().members


# ---- damage of one member is said of that member


@pytest.mark.parametrize("damage", ["removed", "cut", "altered"])
def test_a_damaged_member_is_damaged_and_no_more(tmp_path: Path, damage: str) -> None:
    save_record(made_record(), tmp_path / "r")
    path = tmp_path / "r/proc/swaps"
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if damage == "cut" else b"x" * len(path.read_bytes()))
    back = open_record(tmp_path / "r")
    assert back.members["proc/swaps"].status is Status.DAMAGED
    assert back.members["proc/swaps"].detail
    assert back.members["sys/block/nbd0/size"].status is Status.FOUND


# ---- hostile archives


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for about, data in members:
            about.size = len(data) if about.isreg() else 0
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


def plain(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def kind(name: str, what: bytes, target: str = "/etc/passwd") -> tuple[tarfile.TarInfo, bytes]:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = what, target
    return about, b""


def manifest(**changes: Any) -> bytes:
    head: dict[str, Any] = json.loads(record_files(made_record())[MANIFEST])
    return json.dumps(head | changes).encode()


def good_manifest() -> tuple[tarfile.TarInfo, bytes]:
    return plain(MANIFEST, manifest(paths=[]))


HOSTILE = {
    "empty": b"",
    "garbled": b"\x00\x01garbage" * 300,
    "no manifest": tar_of(plain("proc/swaps")),
    "way up": tar_of(good_manifest(), plain("../../etc/cron.d/x")),
    "absolute": tar_of(good_manifest(), plain("/etc/cron.d/x")),
    "symbolic link": tar_of(good_manifest(), kind("proc/swaps", tarfile.SYMTYPE)),
    "hard link": tar_of(good_manifest(), kind("proc/swaps", tarfile.LNKTYPE, MANIFEST)),
    "device": tar_of(good_manifest(), kind("proc/swaps", tarfile.CHRTYPE)),
    "pipe": tar_of(good_manifest(), kind("proc/swaps", tarfile.FIFOTYPE)),
    "twice": tar_of(good_manifest(), plain("proc/swaps"), plain("proc/swaps")),
    "not listed": tar_of(good_manifest(), plain("proc/swaps")),
    "control characters": tar_of(good_manifest(), plain("proc/\x1b[2Jswaps")),
    "newer format": tar_of(plain(MANIFEST, manifest(format=FORMAT_VERSION + 1))),
    "format zero": tar_of(plain(MANIFEST, manifest(format=0))),
    "another schema": tar_of(plain(MANIFEST, manifest(schema="something.else"))),
    "no JSON": tar_of(plain(MANIFEST, b"{")),
    "not UTF-8": tar_of(plain(MANIFEST, b'{"schema": "\xff"}')),
    "deep": tar_of(plain(MANIFEST, b"[" * 200_000)),
    "wrong type": tar_of(plain(MANIFEST, manifest(kernel=7))),
    "a page of 5": tar_of(plain(MANIFEST, manifest(page_bytes=5))),
    "path with ..": tar_of(plain(MANIFEST, manifest(paths=[{"path": "proc/../x", "status": "found"}]))),
    "unknown status": tar_of(plain(MANIFEST, manifest(paths=[{"path": "proc/x", "status": "eaten"}]))),
    "path twice": tar_of(plain(MANIFEST, manifest(paths=[{"path": "proc/x", "status": "absent"}] * 2))),
    "large": tar_of(good_manifest(), plain("proc/swaps", bytes(archive.MEMBER_BYTES_MAX + 1))),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("packed", [True, False], ids=["xz", "plain"])
def test_hostile_archives_are_refused_in_one_line(tmp_path: Path, what: str, packed: bool) -> None:
    path = tmp_path / "r.tar.xz"
    path.write_bytes(lzma.compress(HOSTILE[what], preset=0) if packed and HOSTILE[what] else HOSTILE[what])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput) as refused:
        open_record(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_gigabyte_header_takes_no_gigabyte(tmp_path: Path) -> None:
    about = tarfile.TarInfo("proc/swaps")
    about.size = 1 << 40
    path = tmp_path / "r.tar"
    path.write_bytes(tar_of(good_manifest())[:-10240] + about.tobuf())
    with pytest.raises(BadInput, match="proc/swaps"):
        open_record(path)


def test_a_bomb_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "r.tar.xz"
    with lzma.open(path, "wb", preset=0) as out:
        about = tarfile.TarInfo("proc/x")
        about.type, about.size = tarfile.XHDTYPE, 1 << 31  # a header that says it is two gigabytes long
        out.write(about.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(80):
            out.write(bytes(1 << 20))
    with pytest.raises(BadInput):
        open_record(path)


def header(what: bytes, body: bytes) -> bytes:
    """A header that says something of the next one: a long name, PAX records."""
    about = tarfile.TarInfo("x")
    about.type, about.size = what, len(body)
    return about.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")


@pytest.mark.parametrize("what", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_headers_upon_headers_are_refused(tmp_path: Path, what: bytes, first: bool) -> None:
    chain = header(what, b"a\0" if what == tarfile.GNUTYPE_LONGNAME else b"11 path=aa\n") * 3000
    path = tmp_path / "r.tar"
    path.write_bytes(chain if first else tar_of(good_manifest())[:-10240] + chain)
    with pytest.raises(BadInput):
        open_record(path)


@pytest.mark.parametrize(
    "records", [b"99999999999999999999 path=a\n", b"11 size=-5\n", b"22 GNU.sparse.map=1,x\n"]
)
def test_numbers_in_headers_that_are_none(tmp_path: Path, records: bytes) -> None:
    path = tmp_path / "r.tar"
    path.write_bytes(header(tarfile.XHDTYPE, records) + tar_of(good_manifest()))
    with pytest.raises(BadInput):
        open_record(path)


@pytest.mark.parametrize("what", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_of_hundreds_of_megabytes_is_not_read(tmp_path: Path, what: bytes) -> None:
    about = tarfile.TarInfo("x")
    about.type, about.size = what, 900 << 20
    path = tmp_path / "r.tar"
    path.write_bytes(about.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(BadInput, match="a header of 943,718,400 bytes"):
        open_record(path)


def test_an_archive_without_its_last_bytes_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.tar.xz"
    save_record(made_record(), path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(BadInput, match="damaged archive"):
        open_record(path)


def test_hostile_directories_are_refused(tmp_path: Path) -> None:
    save_record(made_record(), tmp_path / "r")
    (tmp_path / "r/proc/swaps").unlink()
    (tmp_path / "r/proc/swaps").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="proc/swaps"):
        open_record(tmp_path / "r")


def test_missing_and_strange_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        open_record(tmp_path / "nothing")
    with pytest.raises(BadInput, match="without manifest"):
        open_record(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="no regular file"):
        open_record(tmp_path / "pipe")


# ---- writing


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    for name in ("a.tar.xz", "folder"):
        save_record(made_record(), tmp_path / name)
        with pytest.raises(BadInput, match="already"):
            save_record(made_record(), tmp_path / name)
        save_record(made_record(), tmp_path / name, force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("dear")
    with pytest.raises(BadInput, match="already"):
        save_record(made_record(), tmp_path / "mine", force=True)
    assert (tmp_path / "mine/notes").read_text() == "dear"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Lacking, match="No space left") as told:
        save_record(made_record(), tmp_path / "a.tar.xz")
    assert told.value.exit == 5
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(Lacking, match="Permission denied"):
        save_record(made_record(), tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Lacking, match="cannot be written"):
        save_record(made_record(), tmp_path / "no/such/a.tar.xz")


def test_a_pipe_is_written_to_and_a_link_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    archive.write_atomically(tmp_path / "pipe", b"a page")
    assert os.read(reader, 100) == b"a page"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("page")
    archive.write_atomically(tmp_path / "link", b"a page")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page").read_bytes() == b"a page"


# ---- fuzz

WHOLE = lzma.decompress(archive._packed(record_files(made_record())))


@settings(max_examples=FUZZED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_end_in_a_record_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    broken = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    path = tmp_path / "r.tar"
    path.write_bytes(bytes(broken[:cut]) if data.draw(st.booleans()) else bytes(broken))
    opened_or_refused(path)


@settings(max_examples=FUZZED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_any_json_ends_in_a_record_or_one_line(tmp_path: Path, text: Any) -> None:
    (tmp_path / "r").mkdir(exist_ok=True)
    (tmp_path / "r" / MANIFEST).write_text(
        json.dumps({"schema": "tidegate.record", "format": 1, "paths": text})
    )
    opened_or_refused(tmp_path / "r")


def opened_or_refused(path: Path) -> None:
    said = ""
    with contextlib.suppress(TidegateError):
        try:
            open_record(path)
        except TidegateError as error:
            said = str(error)
            raise
    assert "\n" not in said
