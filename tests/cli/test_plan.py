from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.host import made

from tidegate import setting_ids as ids
from tidegate.cli import main
from tidegate.cli.plan import exit_of
from tidegate.errors import Exit
from tidegate.host.archive import save_record
from tidegate.plan import solve
from tidegate.result import PLAN_SCHEMA, Plan, Verdict

from tests.plan import stock  # isort: skip


@pytest.fixture
def swapping(tmp_path: Path) -> str:
    """A record of a host that swaps over NBD."""
    path = tmp_path / "record"
    save_record(made.nbd_swap_host().record(), path)
    return str(path)


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    """A record of a host with nothing over the network."""
    path = tmp_path / "quiet"
    save_record(made.local_host().record(), path)
    return str(path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_text(swapping: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--host", swapping])
    text = said(capsys)
    for part in (
        "vm.min_free_kbytes: ",
        "The two conditions",
        "kernel default",
        "What no setting here cures",
    ):
        assert part in text


def test_json_holds_the_whole_plan(swapping: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--host", swapping, "--json"])
    told = json.loads(said(capsys))
    assert told["schema"] == PLAN_SCHEMA
    assert told["format"] == "all"
    one = next(one for one in told["settings"] if one["id"] == ids.MIN_FREE)
    assert {
        "law",
        "path",
        "old",
        "new",
        "why",
        "basis",
        "lower",
        "upper",
        "dominant",
        "first",
        "undo",
    } <= set(one)
    assert one["basis"] == "arithmetic"


@pytest.mark.parametrize("format", ["sysctl", "script", "tuned"])
def test_a_file_is_written_whole(
    format: str, swapping: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    code = main(["-v", "plan", "--host", swapping, "--as", format, "-o", str(target)])
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{target}: " in told.err
    main(["plan", "--host", swapping, "--as", format])
    assert target.read_text() == said(capsys)
    assert code in {0, 1, 3}
    assert [path.name for path in tmp_path.iterdir() if path.name not in {"record", "out"}] == []


def test_nothing_to_plan_is_fine(quiet: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--host", quiet])
    assert said(capsys).startswith("Nothing to set: this host is")


def plan_of(after: Verdict, *, fits: bool | None) -> Plan:
    return replace(solve(stock.host()), after=after, fits=fits)


@pytest.mark.parametrize(
    ("after", "fits", "code"),
    [
        (Verdict.SAFE, True, Exit.OK),
        (Verdict.AT_RISK, True, Exit.BAD_NEWS),
        (Verdict.AT_RISK, False, Exit.BAD_NEWS),
        (Verdict.CANNOT_TELL, None, Exit.CANNOT_TELL),
        (Verdict.CANNOT_TELL, False, Exit.BAD_NEWS),
    ],
)
def test_exit_code(after: Verdict, fits: bool | None, code: Exit) -> None:
    assert exit_of(plan_of(after, fits=fits)) is code


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--json", "--as", "sysctl"], "exclude each other"),
        (["--as", "yaml"], "invalid choice"),
        (["--max-share", "0"], "above 0 and up to 50"),
        (["--max-share", "nan"], "above 0 and up to 50"),
        (["--max-share", "much"], "above 0 and up to 50"),
        (["--host", "/nonexistent.tar.xz"], "nonexistent"),
        (["--accept", "/nonexistent.toml"], "nonexistent"),
        (["-o", "/nonexistent/plan"], "nonexistent"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], part: str, swapping: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host = [] if "--host" in words else ["--host", swapping]
    assert main(["plan", *host, *words]) in {2, 5}
    trouble = capsys.readouterr()
    assert part in trouble.err
    assert len(trouble.err.splitlines()) == 1
    assert trouble.out == ""


def test_a_tighter_share_is_obeyed(swapping: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--host", swapping, "--max-share", "1%", "--json"])
    told = json.loads(said(capsys))
    assert told["max_share_percent"] == 1
    assert told["share_percent"] <= 1


def test_accepted_findings(swapping: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "accepted.toml"
    file.write_text('[[accepted]]\nid = "D16"\nreason = "known"\nexpires = 2020-01-01\n')
    main(["plan", "--host", swapping, "--accept", str(file), "--json"])
    told = json.loads(said(capsys))
    assert [(one["id"], one["accepted"]["expired"]) for one in told["accepted"]] == [("D16", True)]
