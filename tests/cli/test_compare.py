"""`tidegate compare`, with a mechanism that knows its answers (tests/made_runs.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest
from tests import made_runs

from tidegate.cli import main
from tidegate.designs import DESIGNS
from tidegate.errors import Exit
from tidegate.report.schema import json_schema


@pytest.fixture
def storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "tidegate.sim.run", made_runs)
    return made_runs.write_case(tmp_path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_all_designs_unless_told(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", storm, "--json", "--jobs", "1"]) == Exit.OK
    value = json.loads(said(capsys))
    jsonschema.Draft202012Validator(json_schema("compare")).validate(value)
    assert value["schema"] == "tidegate.compare/1"
    assert {row["design"] for row in value["rows"]} == set(DESIGNS)
    assert (value["n"], value["reserve_pages"]) == (4, 64)


def test_those_that_are_named(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--design", "bare", "--design", "mail", "--design", "bare", "--seeds", "3", "--most", "50"]
    assert main(["compare", storm, *words, "--json"]) == Exit.OK
    rows = json.loads(said(capsys))["rows"]
    assert [(row["design"], row["n"], row["reserve_pages"], row["searched_pages"]) for row in rows] == [
        ("mail", 3, 40, 50),
        ("bare", 3, None, 50),
    ]


def test_text(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", storm, "--design", "bare", "--design", "mail", "--jobs", "1"]) == Exit.OK
    text = said(capsys)
    assert "mail" in text
    assert "STUCK" in text


def test_more_cores_change_nothing(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for jobs in ("1", "2"):
        main(["compare", storm, "--design", "random_drop", "--design", "mail", "--json", "--jobs", jobs])
        printed.append(said(capsys))
    assert printed[0] == printed[1]


def test_what_is_being_done_is_shown_on_a_terminal(
    storm: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["compare", storm, "--design", "mail", "--jobs", "1"])
    assert "mail (1 of 1): the smallest reserve, up to 1024 pages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no-such-case"], "no case 'no-such-case'"),
        (["{}", "--design", "mial"], "no design 'mial'; did you mean mail?"),
        (["{}", "--seeds", "0"], "a whole number from 1"),
        (["{}", "--most", "-1"], "--most"),
        (["{}", "--arm", "bare"], "unrecognized arguments: --arm bare"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, storm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *(word.format(storm) for word in words)]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
