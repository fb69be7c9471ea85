from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.findings import hosts

from tidegate.errors import BadInput, Exit
from tidegate.findings import judge
from tidegate.findings.accepted import accept, parse_accepted, read_accepted
from tidegate.findings.verdict import decide
from tidegate.result import Verdict
from tidegate.strict_toml import SIZE_MAX_BYTES

GOOD = b"""
[[accepted]]
id = "D13"
reason = "closed storage network"
expires = 2027-03-31

[[accepted]]
id = "D1"
reason = "known, replaced in spring"
expires = "2026-11-01"
"""


def test_acceptances_mark_findings_and_take_nothing_away() -> None:
    reserve = hosts.reserve()
    found = judge(hosts.HOST, reserve)
    marked = accept(found, parse_accepted(GOOD, "a.toml"), today=dt.date(2026, 11, 20))
    assert len(marked) == len(found)
    by_id = {one.id: one.accepted for one in marked}
    assert by_id["D2"] is None
    held, expired = by_id["D13"], by_id["D1"]
    assert held is not None
    assert (held.reason, held.expires, held.expired) == ("closed storage network", "2027-03-31", False)
    assert expired is not None
    assert expired.expired
    assert decide(hosts.HOST, reserve, marked).verdict is Verdict.AT_RISK


def test_it_holds_on_its_last_day() -> None:
    found = judge(hosts.HOST, hosts.reserve())
    marked = accept(found, parse_accepted(GOOD, "a.toml"), today=dt.date(2027, 3, 31))
    assert next(one.accepted for one in marked if one.id == ("D13")).expired is False  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xfe", "byte 0"),
        (b"[[accepted]\n", "no TOML"),
        (b"accepted = 3", "accepted"),
        (b"[[accepted]]\nid = 'D1'\nreason = 'x'", "expires"),
        (b"[[accepted]]\nid = 'D1'\nreason = 'x'\nexpires = 'soon'", "expires"),
        (b"[[accepted]]\nid = 'D1'\nreason = 'x'\nexpires = 2027-01-01\nwho = 'me'", "who"),
        (b"[[accepted]]\nid = 'D99'\nreason = 'x'\nexpires = 2027-01-01", "'D99'"),
        (b"[[accepted]]\nid = 'D1'\nreason = ' '\nexpires = 2027-01-01", "reason"),
        (GOOD + b"[[accepted]]\nid = 'D1'\nreason = 'x'\nexpires = 2027-01-01", "a second time"),
    ],
)
def test_bad_input_names_file_and_place(data: bytes, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_accepted(data, "a.toml")
    assert caught.value.exit is Exit.USAGE
    assert str(caught.value).startswith("a.toml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(GOOD)
    assert [one.id for one in read_accepted(path)] == ["D13", "D1"]
    path.write_bytes(b"")
    assert read_accepted(path) == ()
    path.write_bytes(b"#" * (SIZE_MAX_BYTES + 1))
    with pytest.raises(BadInput, match="more than"):
        read_accepted(path)
    with pytest.raises(BadInput, match="No such file"):
        read_accepted(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="directory"):
        read_accepted(tmp_path)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        parse_accepted(GOOD[: len(data)] + data, "a.toml")
