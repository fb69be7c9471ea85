"""Results and evidence as a report reads them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest
from tests.report import trials_made

from tidegate.errors import BadInput
from tidegate.rig.results import read_evidence, read_results, stale
from tidegate.trial import TrialResult, Verdict


def line(one: TrialResult) -> bytes:
    return msgspec.json.encode(one) + b"\n"


ONE, OTHER = trials_made.result(Verdict.WEDGED, 1), trials_made.result(Verdict.SURVIVED, 2, arm="plan")


def test_what_was_written_is_read_from_a_directory_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(line(ONE) + line(OTHER))
    assert read_results(tmp_path) == (ONE, OTHER)
    assert read_results(path) == (ONE, OTHER)
    path.write_bytes(line(ONE) + b"\n" + line(OTHER).rstrip())
    assert read_results(path) == (ONE, OTHER)


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "results.jsonl"
    for size in (1, 40, len(line(OTHER)) - 2):
        path.write_bytes(line(ONE) + line(OTHER)[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "tidegate"):
            assert read_results(tmp_path) == (ONE,)
        assert [one.message for one in caplog.records] == [
            f"{path}: line 2 was cut while it was written, and is left out"
        ]


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (b"{}\n", "missing required field"),
        (b"no json\n", "malformed"),
        (b"\xff\n", "malformed"),
        (line(ONE).replace(b'"WEDGED"', b'"WEDGES"'), "WEDGES"),
        (line(ONE).replace(b"tidegate.trial/1", b"tidegate.trial/9"), "schema 'tidegate.trial/9'"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(line(OTHER) + bad + line(OTHER))
    with pytest.raises(BadInput, match=found) as trouble:
        read_results(tmp_path)
    assert trouble.value.place == "line 2"


def test_a_bad_last_line_that_has_its_end_was_not_cut(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(line(ONE) + line(OTHER)[:40] + b"\n")
    with pytest.raises(BadInput, match="line 2"):
        read_results(tmp_path)


def test_no_results_at_all(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone", tmp_path / "gone.jsonl"):
        with pytest.raises(BadInput, match=r"expected a directory with results.jsonl in it"):
            read_results(place)
    (tmp_path / "results.jsonl").write_bytes(b"")
    assert read_results(tmp_path) == ()


def test_of_two_lines_for_one_trial_the_later_one_counts(tmp_path: Path) -> None:
    again = trials_made.result(Verdict.OOM, 1)
    (tmp_path / "results.jsonl").write_bytes(line(ONE) + line(OTHER) + line(again))
    assert read_results(tmp_path) == (OTHER, again)


def test_stale_is_what_another_rig_made() -> None:
    old = trials_made.result(Verdict.WEDGED, code="old")
    assert stale([ONE, old], trials_made.CODE) == (old,)


def test_evidence_small_texts_and_names_of_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "stock-1"
    (folder / "wire").mkdir(parents=True)
    (folder / "server.log").write_bytes(b"nbdkit: \xff\n")
    (folder / "wire" / "net.pcap").write_bytes(b"\xd4\xc3\0\0")
    (folder / "memory").write_bytes(b"x" * 70_000)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    (folder / "console.txt").write_bytes(b"first\n" + b"x" * 65_000 + b"\nlast line\n" + b"y" * 600)
    files = read_evidence(tmp_path, [ONE, OTHER])["evidence/stock-1"]
    console, *others = files
    assert [(one.name, one.size_bytes, one.text) for one in others] == [
        ("memory", 70_000, None), ("server.log", 10, "nbdkit: \ufffd\n"), ("wire/net.pcap", 4, None),
    ]  # fmt: skip
    assert (console.name, console.size_bytes) == ("console.txt", 65_617)
    assert console.text is not None
    assert console.text.startswith("[81 bytes before this are left out]\nxxx")
    assert "last line" in console.text
    assert "first" not in console.text
    (tmp_path / "results.jsonl").touch()
    assert read_evidence(tmp_path / "results.jsonl", [ONE]) == {"evidence/stock-1": files}


def test_a_folder_by_its_bare_name_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "evidence" / "stock-1").mkdir(parents=True)
    one = trials_made.result(Verdict.WEDGED, evidence="stock-1")
    assert read_evidence(tmp_path, [one]) == {"stock-1": ()}


@pytest.mark.parametrize("name", ["..", "../other", "/etc", ".", "evidence/out", "x" * 300, "a\0b"])
def test_nothing_outside_the_directory_is_read(name: str, tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "evidence").mkdir(parents=True)
    other.mkdir()
    (other / "secret").write_text("secret")
    (top / "evidence" / "out").symlink_to(other)
    assert read_evidence(top, [trials_made.result(Verdict.WEDGED, evidence=name)]) == {}
