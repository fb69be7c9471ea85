"""Missing input never makes a host look safer: every file of every recorded host, damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.check import judge_host
from tidegate.host.archive import save_record
from tidegate.host.opening import open_record
from tidegate.host.read import read_host
from tidegate.host.record import Member, Record, Status
from tidegate.result import Severity, State, Verdict

HERE = Path(__file__).resolve().parent
RECORDS = [*sorted((HERE.parent / "hosts").glob("*.tar.xz")), HERE / "recorded/sos-nbd-swap.tar.xz"]


def verdict_of(record: Record) -> Verdict:
    return judge_host(read_host(record)).decision.verdict


def with_member(record: Record, member: Member) -> Record:
    return replace(record, members={**record.members, member.path: member})


def damages(member: Member) -> list[Member]:
    """What an archive's reader makes of a file removed, cut or altered; and bad texts that a manifest vouches for."""
    found = [replace(member, status=Status.DAMAGED, data=b"", target="")]
    if member.data:
        middle = len(member.data) // 2
        garbled = bytes(byte ^ 0x55 for byte in member.data[:40]) + member.data[40:]
        found += [replace(member, data=data) for data in (b"", member.data[:middle], garbled)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_no_damaged_file_makes_a_host_safer(path: Path) -> None:
    record = open_record(path)
    before = verdict_of(record)
    safer = []
    for member in record.members.values():
        if member.status is not Status.FOUND:
            continue
        for damaged in damages(member):
            after = verdict_of(with_member(record, damaged))
            if after is Verdict.SAFE and before is not Verdict.SAFE:
                safer.append((member.path, damaged.status.value, damaged.data[:40]))
    assert not safer


@pytest.mark.parametrize("how", ["removed", "cut", "altered"])
def test_an_archive_says_which_file_is_damaged(tmp_path: Path, how: str) -> None:
    """The three damages of a file on the disk are the one DAMAGED member that the test above walks through."""
    save_record(open_record(RECORDS[0]), tmp_path / "r")
    victim = tmp_path / "r/proc/swaps"
    if how == "removed":
        victim.unlink()
    else:
        data = victim.read_bytes()
        victim.write_bytes(data[:10] if how == "cut" else data.replace(b"a", b"b"))
    record = open_record(tmp_path / "r")
    assert record.members["proc/swaps"].status is Status.DAMAGED
    assert verdict_of(record) is not Verdict.SAFE


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_a_host_of_which_nothing_can_be_read_is_not_safe(path: Path) -> None:
    record = open_record(path)
    nothing = {
        name: replace(member, status=Status.DENIED, data=b"", target="")
        for name, member in record.members.items()
    }
    judged = judge_host(read_host(replace(record, members=nothing)))
    assert judged.decision.verdict is Verdict.CANNOT_TELL
    assert not [
        one.id for one in judged.findings if one.severity is Severity.DEADLOCK and one.state is State.APPLIES
    ]
