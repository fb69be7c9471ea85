"""`tidegate record` as a command: what it writes, says and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate import cli
from tidegate.host import live
from tidegate.host.opening import open_record
from tidegate.host.record import Member, Record, Status

MEMBERS = (
    Member(path="proc/sys/kernel/hostname", status=Status.FOUND, data=b"office7\n"),
    Member(path="proc/swaps", status=Status.FOUND, data=b"Filename\n"),
    Member(path="proc/drbd", status=Status.ABSENT),
    Member(path="proc/1/fd", status=Status.DENIED, detail="another user's process"),
)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> Record:
    record = Record(
        members={one.path: one for one in MEMBERS},
        kernel="6.12.1",
        machine="x86_64",
        taken="2026-11-20T10:00:00Z",
        source="live",
        patterns=("proc/*/fd",),
    )
    monkeypatch.setattr(live, "read_live", lambda **_: record)
    return record


def test_it_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.tar.xz"
    assert cli.main(["record", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"tidegate: {file}: ")
    assert "1 absent, 1 denied, 2 found" in said.err
    assert open_record(file).members == {one.path: one for one in MEMBERS}


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.tar.xz"
    assert cli.main(["record", "-q", "--json", str(file)]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary == {
        "schema": "tidegate.record-summary/1",
        "file": str(file),
        "bytes": file.stat().st_size,
        "taken": "2026-11-20T10:00:00Z",
        "absent": 1,
        "denied": 1,
        "found": 2,
    }
    assert said.err == ""


def test_what_could_not_be_read_is_named_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["record", "-v", str(tmp_path / "a.tar.xz")]) == 0
    assert "denied: proc/1/fd (another user's process)\n" in capsys.readouterr().err


def test_an_ordinary_user_is_told_of_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for user, told in ((1000, True), (0, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert cli.main(["record", str(tmp_path / f"{user}.tar.xz")]) == 0
        assert ("as root more could be read" in capsys.readouterr().err) is told


def test_a_directory(tmp_path: Path) -> None:
    assert cli.main(["record", "-q", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a/proc/swaps").read_bytes() == b"Filename\n"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_anonymised(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.xz"
    assert cli.main(["record", "-q", "--anonymise", str(file)]) == 0
    record = open_record(file)
    assert record.anonymised
    assert b"office7" not in record.members["proc/sys/kernel/hostname"].data


@pytest.mark.parametrize("name", ["a.tar.xz", "a"])
def test_nothing_is_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert cli.main(["record", "-q", str(tmp_path / name)]) == 0
    assert cli.main(["record", str(tmp_path / name)]) == 2
    assert "something is there already" in capsys.readouterr().err
    assert cli.main(["record", "-q", "--force", str(tmp_path / name)]) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("x")
    assert cli.main(["record", "--force", str(tmp_path / "mine")]) == 2
    assert (tmp_path / "mine/letter").read_text() == "x"


def test_it_refuses_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "read_live", lambda **_: pytest.fail("the host was read"))
    (tmp_path / "a.tar.xz").touch()
    assert cli.main(["record", str(tmp_path / "a.tar.xz")]) == 2
    assert cli.main(["record", str(tmp_path / "a.tar.gz")]) == 2


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("nowhere/a.tar.xz", 5, "cannot be written (No such file or directory)"),
        ("file/a.tar.xz", 5, "cannot be written (Not a directory)"),
        ("file/a", 5, "cannot be written (Not a directory)"),
        ("a.tar.gz", 2, "another kind of archive"),
        ("a.tgz", 2, "another kind of archive"),
    ],
)
def test_places_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, code: int, said: str
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["record", str(tmp_path / place)]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_device_is_written_to_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert cli.main(["record", "--force", "/dev/full"]) in {2, 5}
    assert not Path("/dev/full").is_file()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_itself_reads_this_host_and_draws_nothing_off_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "record", "a.tar.xz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    assert open_record(tmp_path / "a.tar.xz").members["proc/meminfo"].status is Status.FOUND
