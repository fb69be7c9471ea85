"""`tidegate swarm`: exit codes, JSON after the schema, and a machine that is saved as a case."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tidegate.case import read_case
from tidegate.cli import main
from tidegate.designs import DESIGNS, design
from tidegate.errors import Exit
from tidegate.judge import swarm as module
from tidegate.judge.swarm import Drawn, draw
from tidegate.report.schema import json_schema
from tidegate.sim.run import simulate
from tidegate.simulation import Word

FEW = ["--seeds", "6", "--design", "mail", "--design", "bare", "--jobs", "1", "-q"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.fixture
def everything_is_lawful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the laws are said to hold everywhere, so that each STUCK is a surprise."""
    monkeypatch.setattr(module, "broken_laws", lambda *_: ())


def test_no_surprise_is_good_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", *FEW]) == Exit.OK
    text = said(capsys)
    assert text.startswith("0 surprises in 6 machines\n")
    assert "seeds 0 to 5" in text


def test_json_is_what_the_schema_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", *FEW, "--json", "--seed", "10"]) == Exit.OK
    value = json.loads(said(capsys))
    jsonschema.Draft202012Validator(json_schema("swarm")).validate(value)
    assert (value["schema"], value["n"], value["first_seed"]) == ("tidegate.swarm/1", 6, 10)
    assert {row["design"] for row in value["rows"]} <= {"mail", "bare"}
    assert sum(sum(row["lawful"].values()) + sum(row["unlawful"].values()) for row in value["rows"]) == 6


def test_the_number_of_processes_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main(["swarm", *FEW, "--json"])
    alone = said(capsys)
    main(["swarm", *FEW, "--json", "--jobs", "2"])
    assert said(capsys) == alone


@pytest.mark.usefixtures("everything_is_lawful")
def test_a_surprise_is_bad_news_and_says_how_to_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", "--design", "bare", "--seeds", "12", "--jobs", "1", "-q"]) == Exit.BAD_NEWS
    text = said(capsys)
    assert "STUCK, and no law is broken" in text
    lines = [line.strip() for line in text.splitlines() if line.startswith("  tidegate swarm ")]
    words = lines[0].split()
    # The machine of a seed depends on the designs that are drawn from, so the command names them.
    assert words[2:5] == ["--design", "bare", "--seed"]
    assert words[6:8] == ["--seeds", "1"]
    assert main([*words[1:6], "--seeds", "1", "--jobs", "1", "-q"]) == Exit.BAD_NEWS


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--save", "x.toml"], "--save writes one machine, and --seeds is 1000"),
        (["--seeds", "0"], "--seeds"),
        (["--seed", "-1"], "--seed"),
        (["--design", "mial"], "did you mean mail"),
    ],
)
def test_what_does_not_fit_together(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["swarm", *words]) == Exit.USAGE
    assert complaint in capsys.readouterr().err


def test_a_broken_invariant_names_the_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("3 pages are free and 4 are counted")

    monkeypatch.setattr("tidegate.sim.run.check_owners", broken)
    assert main(["swarm", *FEW, "--seed", "5"]) == Exit.BUG
    err = capsys.readouterr().err
    assert "seed 5: 3 pages are free and 4 are counted" in err
    assert draw(5, (design("mail"), design("bare"))).design.name in err


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_a_saved_machine_runs_to_the_same_word(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "saved.toml"
    words = ["swarm", "--seed", str(seed), "--seeds", "1", "--save", str(path), "-q"]
    assert main(words) in {Exit.OK, Exit.BAD_NEWS}
    drawn = draw(seed, tuple(DESIGNS.values()))
    case = read_case(path)
    run = simulate(case, drawn.design, seed)
    assert run.word == case.arm[0].expect["simulate"] == simulate(drawn.case, drawn.design, seed).word
    assert main(["simulate", str(path), "--seed", str(seed), "-q"]) == Exit.OK  # as the case expects
    assert run.word.value in said(capsys)


def test_a_surprise_is_saved_shrunk(
    everything_is_lawful: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = (design("bare"),)
    seed, drawn = next(
        (seed, one)
        for seed, one in ((seed, draw(seed, bare)) for seed in range(300))
        if len(one.case.traffic) > 1 and simulate(one.case, one.design, seed).word is Word.STUCK
    )
    path = tmp_path / "surprise.toml"
    words = ["swarm", "--seed", str(seed), "--seeds", "1", "--design", "bare", "--save", str(path), "-q"]
    assert main(words) == Exit.BAD_NEWS
    assert said(capsys)
    case = read_case(path)
    assert case.arm[0].expect == {"simulate": "STUCK"}
    assert simulate(case, design("bare"), seed).word is Word.STUCK
    assert len(case.traffic) < len(drawn.case.traffic)
    assert isinstance(drawn, Drawn)
