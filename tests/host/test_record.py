"""What a record knows of a path: its own line, the folder above it, the pattern that looked for it, or nothing."""

from __future__ import annotations

import pytest

from tidegate.host.record import Member, Record, Status, covers, listing, status, target, text


def record_of(
    *members: Member, patterns: tuple[str, ...] = ("sys/block/*/size",), complete: bool = True
) -> Record:
    return Record(
        members={one.path: one for one in members},
        kernel="6.12.1",
        machine="x86_64",
        taken="2026-11-20T10:00:00Z",
        source="made",
        complete=complete,
        patterns=patterns,
    )


def found(path: str, data: bytes = b"1\n") -> Member:
    return Member(path=path, status=Status.FOUND, data=data)


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("sys/block/*", "sys/block/nbd0", True),
        ("sys/block/*", "sys/block", True),  # listed
        ("sys/block/*", "sys/block/nbd0/size", False),  # a name in a folder is not what is below it
        ("sys/block/*", "sys", False),
        ("sys/block/*/size", "sys/block/nbd0/size", True),
        ("sys/block/*/size", "sys/block/nbd0/ro", False),
        ("sys/block/*/size", "sys/block/nbd0", False),
        ("sys/class/nvme/nvme*", "sys/class/nvme/nvme7", True),
        ("sys/class/nvme/nvme*", "sys/class/nvme/fabrics", False),
        ("sys/class/nvme/nvme*", "sys/class/nvme", False),  # others may be in it
        ("run/*", "run/.containerenv", False),
        ("sys/**", "sys/a/b/c", True),
        ("sys/**", "sys", True),
        ("proc/swaps", "proc/swaps", True),
        ("proc/swaps", "proc/swaps/x", False),
    ],
)
def test_a_pattern_covers_what_it_looked_for(pattern: str, path: str, covered: bool) -> None:
    assert covers(("proc/other", pattern, "sys/other/*"), path) is covered


def test_a_line_of_its_own_comes_first() -> None:
    record = record_of(Member(path="sys/block/sda/size", status=Status.DENIED))
    assert status(record, "sys/block/sda/size") is Status.DENIED


@pytest.mark.parametrize("state", [Status.DENIED, Status.DAMAGED, Status.ABSENT])
def test_below_a_folder_that_may_not_be_listed_nothing_is_absent_for_sure(state: Status) -> None:
    record = record_of(Member(path="sys/block", status=state))
    assert status(record, "sys/block/sda/size") is state


def test_below_a_link_that_was_found_patterns_decide() -> None:
    record = record_of(Member(path="sys/block/sda", status=Status.FOUND, target="../devices/x"))
    assert status(record, "sys/block/sda/size") is Status.ABSENT
    assert status(record, "sys/block/sda/ro") is Status.NOT_HELD


def test_a_folder_with_something_in_it_is_not_absent() -> None:
    record = record_of(found("sys/block/sda/size"), patterns=("sys/block/*",))
    assert status(record, "sys/block") is Status.FOUND
    assert status(record_of(patterns=("sys/block/*",)), "sys/block") is Status.ABSENT


def test_a_record_that_is_not_complete_knows_no_absence() -> None:
    assert status(record_of(complete=False), "sys/block/sda/size") is Status.NOT_HELD


def test_what_nothing_looked_for_is_not_held() -> None:
    assert status(record_of(), "proc/new_in_a_later_release") is Status.NOT_HELD


def test_texts_and_targets_are_told_apart() -> None:
    link = Member(path="sys/block/sda", status=Status.FOUND, target="../devices/x")
    record = record_of(link, found("sys/block/sda/size", b"\xff8\n"))
    assert (text(record, "sys/block/sda"), target(record, "sys/block/sda")) == (None, "../devices/x")
    assert (text(record, "sys/block/sda/size"), target(record, "sys/block/sda/size")) == ("\ufffd8\n", None)
    assert listing(record, "sys/block/sda/") == ("size",)
