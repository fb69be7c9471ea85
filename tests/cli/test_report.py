"""`tidegate report`: what it reads, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from tests.report import trials_made
from tests.report.ktap_parser import parse

from tidegate.cli import COMMANDS, main
from tidegate.cli import report as command
from tidegate.errors import Exit
from tidegate.judge.stored_trials import read_trials
from tidegate.trial import Trials, Verdict


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "report", command.SUMMARY)


def stored(place: Path, trials: Trials) -> str:
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.jsonl").write_bytes(
        b"".join(msgspec.json.encode(one) + b"\n" for one in trials.results)
    )
    for one in trials.results:
        if one.evidence is not None:
            (place / one.evidence).mkdir(parents=True, exist_ok=True)
            (place / one.evidence / "server.log").write_text(f"of seed {one.seed} of {place.name}")
    return str(place)


@pytest.mark.parametrize(
    ("trials", "code"),
    [
        (trials_made.met(), Exit.OK),
        (trials_made.campaign(), Exit.BAD_NEWS),
        (trials_made.uncounted(), Exit.CANNOT_TELL),
        (trials_made.nothing(), Exit.CANNOT_TELL),
        (trials_made.trials(trials_made.run("tenfold", "W")), Exit.OK),  # nothing is expected of it
        (trials_made.trials(trials_made.run("stock", "W") + trials_made.run("plan", "I")), Exit.CANNOT_TELL),
        (trials_made.trials(trials_made.run("stock", "S") + trials_made.run("plan", "I")), Exit.BAD_NEWS),
    ],
)
def test_the_exit_code(
    trials: Trials, code: Exit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", stored(tmp_path / "a", trials)]) == code
    out, err = capsys.readouterr()
    assert err == ""
    assert out.split(" ", 1)[0] == str(len(trials.results))


def test_every_form_from_one_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = stored(tmp_path / "a", trials_made.met())
    html, junit = tmp_path / "page.html", tmp_path / "junit.xml"
    assert main(["report", place, "--html", str(html), "--junit", str(junit), "--json"]) == Exit.OK
    assert len(json.loads(capsys.readouterr().out)["results"]) == 12
    assert "of seed 3 of a" in html.read_text()
    assert len(list(ET.parse(junit).iter("testcase"))) == 13
    assert main(["report", place, "--ktap"]) == Exit.OK
    assert len(parse(capsys.readouterr().out)) == 1
    assert main(["report", place, "--all"]) == Exit.OK
    assert capsys.readouterr().out.count("To repeat it:") == 5


def test_several_directories_are_counted_together_and_copies_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = stored(tmp_path / "a", trials_made.trials(trials_made.run("stock", "WW")))
    copy = stored(tmp_path / "b", trials_made.trials(trials_made.run("stock", "WW")))
    other = stored(tmp_path / "c", trials_made.trials(trials_made.run("stock", "WS", wall_s=70.0)))
    page = tmp_path / "page.html"
    assert main(["report", first, copy, other, first, "--json", "--html", str(page)]) == Exit.OK
    value = json.loads(capsys.readouterr().out)
    assert [(one["failed"], one["n"]) for one in value["tallies"]] == [(3, 4)]
    assert value["results"][2]["evidence"] == f"{other}/evidence/stock-1"
    assert "of seed 1 of a" in page.read_text()
    assert "of seed 1 of c" in page.read_text()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = stored(tmp_path / "a", trials_made.one())
    for words in (["report", str(tmp_path / "gone")], ["report"], ["report", place, "--ktap", "--json"]):
        assert main(words) == Exit.USAGE
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
    with (tmp_path / "a" / "results.jsonl").open("ab") as file:
        file.write(b"{\n{}\n")
    assert main(["report", place]) == Exit.USAGE
    assert "line 2" in capsys.readouterr().err


def test_a_torn_line_is_said_and_the_rest_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = stored(tmp_path / "a", trials_made.one())
    with (tmp_path / "a" / "results.jsonl").open("ab") as file:
        file.write(b'{"case": "sw')
    assert main(["report", place]) == Exit.OK
    out, err = capsys.readouterr()
    assert out.startswith("1 trial (WEDGED 1)")
    assert "line 2 was cut" in err


def test_the_page_goes_nowhere_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = stored(tmp_path / "a", trials_made.trials([trials_made.result(Verdict.SURVIVED)]))
    assert main(["report", place, "--html", str(tmp_path / "none" / "page.html")]) == Exit.LACKING
    assert len(capsys.readouterr().err.splitlines()) == 1


CASE = """\
claim = "a claim"
source = "a source"
[trial]
[[trial.arm]]
name = "stock"
[[trial.arm]]
name = "plan"
measures = ["plan"]
"""


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "swap-over-nbd.toml").write_text(CASE)
    return tmp_path / "cases"


def test_keep_puts_them_with_the_cases(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = trials_made.run("stock", "WWLI") + trials_made.run("stock", "W", case="strange")
    place = stored(tmp_path / "a", trials_made.trials(found))
    main(["report", place, "--keep", str(cases)])
    err = capsys.readouterr().err
    assert f"not kept, no such case in {cases}: strange" in err
    assert f"3 of 5 trials are new in {cases / 'results'}" in err
    assert [(one.seed, one.verdict, one.evidence) for one in read_trials(cases)] == [
        (1, Verdict.WEDGED, None), (2, Verdict.WEDGED, None), (4, Verdict.INCONCLUSIVE, None),
    ]  # fmt: skip
    main(["report", place, "--keep", str(cases)])
    assert "0 of 5 trials are new" in capsys.readouterr().err


def test_keep_without_a_place_is_with_the_bundled_cases(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.bundled_cases.cases_directory", lambda: cases)
    main(["report", stored(tmp_path / "a", trials_made.met()), "--keep", "--quiet"])
    assert len(read_trials(cases)) == len(trials_made.met().results)


def test_words_of_check_are_added_where_there_are_none(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.rig.planned.check_word", lambda case, job, tell: f"{case.name} {job.arm}")
    place = stored(tmp_path / "a", trials_made.met())
    main(["report", place, "--keep", str(cases), "--check-words"])
    assert {(one.arm, one.check) for one in read_trials(cases)} == {
        ("plan", "AT_RISK"), ("stock", "swap-over-nbd stock"),
    }  # fmt: skip


def test_words_of_check_go_with_keep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", stored(tmp_path / "a", trials_made.met()), "--check-words"]) == Exit.USAGE
    assert "--check-words goes with --keep" in capsys.readouterr().err
