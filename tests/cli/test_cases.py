"""`tidegate cases`: what is stored, what is stale, and what --run does about it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests import made_runs
from tests.report import trials_made

from tidegate.cli import main
from tidegate.errors import Exit
from tidegate.judge.stored import read_results, results_file
from tidegate.judge.stored_trials import keep_trials
from tidegate.report.schema import json_schema
from tidegate.rig.code import code_hash

GOOD = made_runs.CASE.replace('design = "random_drop"\nexpect.simulate = "SEEN"', 'design = "random_drop"')


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of two cases in the place of the bundled ones: one as expected, one not."""
    monkeypatch.setitem(sys.modules, "tidegate.sim.run", made_runs)
    monkeypatch.setattr("tidegate.bundled_cases.cases_directory", lambda: tmp_path)
    made_runs.write_case(tmp_path, "good", GOOD)
    made_runs.write_case(tmp_path, "storm")
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["cases", *words, "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    value = json.loads(out)
    jsonschema.Draft202012Validator(json_schema("cases")).validate(value)
    return code, value


def sums(value: Any) -> tuple[int, int, int]:
    return value["disagreements"], value["stale"], value["missing"]


def test_nothing_is_run_unless_told(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, value = listed(capsys)
    assert (code, sums(value)) == (Exit.CANNOT_TELL, (0, 0, 10))
    assert not results_file(bundled).exists()


def test_run_stores_and_says_who_disagrees(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, value = listed(capsys, "--run", "--jobs", "1")
    assert (code, sums(value)) == (Exit.BAD_NEWS, (1, 0, 0))
    again = listed(capsys)
    assert again == (code, value)
    assert [case["name"] for case in value["cases"]] == ["good", "storm"]
    coin = value["cases"][1]["arms"][4]
    assert (coin["found"], coin["expected"], coin["agrees"], coin["k"], coin["n"]) == (
        {"simulate": "LUCKY"},
        {"simulate": "SEEN"},
        False,
        2,
        4,
    )


def test_what_is_as_expected_is_fine(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "good", "--run")[0] == Exit.OK
    assert listed(capsys, "good")[0] == Exit.OK
    assert {case for case, _ in read_results(bundled)} == {"good"}


def test_a_changed_case_is_stale(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(capsys, "--run", "--jobs", "1")
    made_runs.write_case(bundled, "good", GOOD.replace("\nreserve_pages = 64", "\nreserve_pages = 50"))
    code, value = listed(capsys, "good")
    assert (code, sums(value)) == (Exit.CANNOT_TELL, (0, 4, 0))
    assert [arm["stale"] for arm in value["cases"][0]["arms"]] == [True, True, True, False, True]
    assert listed(capsys)[0] == Exit.BAD_NEWS  # the other one's disagreement is fresh


def test_changed_code_is_stale(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(capsys, "good", "--run")
    monkeypatch.setattr("tidegate.judge.stored.code_key", lambda: "other code")
    assert sums(listed(capsys, "good")[1]) == (0, 5, 0)


def test_stale_runs_what_has_no_fresh_result(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(capsys, "--run", "--jobs", "1")
    made_runs.write_case(bundled, "good", GOOD.replace("set.machine.reserve_pages = 8", "set.run.gap_ms = 9"))
    ran: list[tuple[str, str]] = []
    simulate = made_runs.simulate

    def noting(case: Any, design: Any, seed: int, *, arm: str, **rest: Any) -> Any:
        ran.append((case.name, arm))
        return simulate(case, design, seed, arm=arm, **rest)

    monkeypatch.setattr(made_runs, "simulate", noting)
    code, value = listed(capsys, "--run", "--stale", "--jobs", "1")
    assert set(ran) == {("good", "small")}
    assert (code, *sums(value)) == (Exit.BAD_NEWS, 1, 0, 0)


def test_each_case_is_stored_when_it_is_done(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second case breaks the run; what the first one found is kept."""
    made_runs.write_case(bundled, "broken")
    (bundled / "storm.toml").unlink()
    assert main(["cases", "good", "broken", "--run", "--jobs", "1"]) == Exit.BUG
    assert "broken, design bare, seed 3" in capsys.readouterr().err
    assert {case for case, _ in read_results(bundled)} == {"good"}
    assert [path.name for path in (bundled / "results").iterdir()] == ["simulate.jsonl"]


def test_an_interrupt_keeps_what_was_found(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate = made_runs.simulate

    def interrupted(case: Any, *rest: Any, **named: Any) -> Any:
        if case.name == "storm":
            raise KeyboardInterrupt
        return simulate(case, *rest, **named)

    monkeypatch.setattr(made_runs, "simulate", interrupted)
    assert main(["cases", "--run", "--jobs", "1"]) == Exit.INTERRUPTED
    assert capsys.readouterr() == ("", "")
    assert {case for case, _ in read_results(bundled)} == {"good"}


def test_a_case_that_is_gone_is_forgotten(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(capsys, "--run", "--jobs", "1")
    (bundled / "storm.toml").unlink()
    listed(capsys, "good", "--run", "--jobs", "1")
    assert {case for case, _ in read_results(bundled)} == {"good", "storm"}
    listed(capsys, "--run", "--stale", "--jobs", "1")
    assert {case for case, _ in read_results(bundled)} == {"good"}


def test_results_lie_beside_the_case(
    bundled: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = made_runs.write_case(elsewhere, "mine", GOOD)
    assert listed(capsys, path, "--run", "--jobs", "1")[0] == Exit.OK
    assert {case for case, _ in read_results(elsewhere)} == {"mine"}
    assert not results_file(bundled).exists()


def test_more_cores_change_nothing(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(capsys, "--run", "--jobs", "1")
    first = results_file(bundled).read_bytes()
    results_file(bundled).unlink()
    listed(capsys, "--run", "--jobs", "2")
    assert results_file(bundled).read_bytes() == first


def test_text(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["cases", "--run", "--jobs", "1"])
    text = capsys.readouterr().out
    assert "storm" in text
    assert "LUCKY" in text


def test_how_far_it_is_is_shown_on_a_terminal(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["cases", "--run", "--jobs", "1"])
    told = capsys.readouterr().err
    assert "good: 18 of 36 runs, 0 s left" in told
    assert "storm: 36 of 36 runs" in told


def test_one_of_several_that_cannot_be_read_is_said(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_runs.write_case(bundled, "bad", "claim = 3")
    assert main(["cases", "--run", "--json", "--jobs", "1"]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert "bad.toml: claim: found" in err
    assert err.count("\n") == 1
    assert [case["name"] for case in json.loads(out)["cases"]] == ["good", "storm"]
    assert main(["cases", "bad"]) == Exit.USAGE


def test_a_damaged_file_of_results_is_one_line(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results_file(bundled).parent.mkdir()
    results_file(bundled).write_text("<<<<<<<\n")
    assert main(["cases"]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "simulate.jsonl: line 1: found" in err


def test_a_place_without_right_to_write_is_one_line_before_anything_runs(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    monkeypatch.setattr(made_runs, "simulate", None)
    assert main(["cases", "--run"]) == Exit.LACKING
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "simulate.jsonl: cannot be written" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stom"], "no case 'stom', and no file of that name; did you mean storm?"),
        (["--stale"], "--stale goes with --run"),
        (["--judge", "prove"], "invalid choice: 'prove'"),
        (["--jobs", "0"], "a whole number from 1"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cases", *words]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_an_empty_directory_is_said(
    bundled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in tmp_path.glob("*.toml"):
        path.unlink()
    assert main(["cases"]) == Exit.USAGE
    assert "no cases in" in capsys.readouterr().err


TRIED = (
    GOOD
    + """
[trial]
[[trial.traffic]]
kind = "udp"
[[trial.arm]]
name = "stock"
expect = "FAIL"
[[trial.arm]]
name = "plan"
measures = ["plan"]
expect = "SURVIVED"
"""
)


def tried(bundled: Path, stock: str, plan: str) -> None:
    """Puts a case with trials in the place of the other two, and their results beside it."""
    (bundled / "storm.toml").unlink()
    made_runs.write_case(bundled, "good", TRIED)
    made = trials_made.run("stock", stock, check=None) + trials_made.run("plan", plan)
    keep_trials(bundled, [replace(one, case="good", code=code_hash()) for one in made])


def test_what_real_kernels_did_stands_beside_it(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried(bundled, "WWS", "SS")
    code, value = listed(capsys, "--run", "--jobs", "1")
    assert code == Exit.OK
    stock, plan = value["cases"][0]["trials"]
    assert (stock["arm"], stock["counts"], stock["met"], stock["stale"], stock["quarrel"]) == (
        "stock", {"SURVIVED": 1, "WEDGED": 2}, True, False, "",
    )  # fmt: skip
    assert (plan["arm"], plan["check"], plan["met"]) == ("plan", "AT_RISK", True)


def test_a_kernel_that_does_not_do_as_expected_is_bad_news(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(bundled, "WWS", "SW")
    code, value = listed(capsys, "--run", "--jobs", "1")
    assert (code, value["trials_unmet"], value["disagreements"]) == (Exit.BAD_NEWS, 1, 0)


def test_one_judge_alone(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried(bundled, "WWS", "SW")
    listed(capsys, "--run", "--jobs", "1")
    code, value = listed(capsys, "--judge", "simulate")
    assert (code, value["cases"][0]["trials"]) == (Exit.OK, [])
    code, value = listed(capsys, "--judge", "trial")
    assert (code, value["cases"][0]["arms"], len(value["cases"][0]["trials"])) == (Exit.BAD_NEWS, [], 2)
    code, value = listed(capsys, "--judge", "check")
    assert [one["arm"] for one in value["cases"][0]["trials"]] == ["plan"]


def test_kernels_that_were_not_booted_count_where_they_are_asked_for(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(bundled, "", "")
    assert listed(capsys, "--run", "--jobs", "1")[0] == Exit.OK
    code, value = listed(capsys, "--judge", "trial")
    assert (code, value["trials_missing"]) == (Exit.CANNOT_TELL, 2)


def test_run_is_for_simulate(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cases", "--run", "--judge", "trial"]) == Exit.USAGE
    assert "tidegate trial boots kernels" in capsys.readouterr().err
