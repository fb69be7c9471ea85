"""`tidegate simulate CASE --against DIR`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest
from tests import made_runs
from tests.judge.test_against import bundle

from tidegate.cli import main
from tidegate.errors import Exit
from tidegate.report.schema import json_schema


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "tidegate.sim.run", made_runs)
    monkeypatch.chdir(tmp_path)
    made_runs.write_case(tmp_path, "storm")
    (tmp_path / "evidence").mkdir()
    return str(bundle(tmp_path / "evidence", case="storm"))


def test_the_kernel_beside_the_first_arm(evidence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["simulate", "storm.toml", "--against", evidence, "--json", "--jobs", "1"])
    value = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json_schema("against")).validate(value)
    assert (value["case"], value["arm"], value["verdict"], len(value["steps"])) == (
        "storm",
        "bare",
        "WEDGED",
        5,
    )
    assert code == (Exit.BAD_NEWS if value["leaves"] else Exit.OK)


def test_as_text(evidence: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", "storm.toml", "--against", evidence, "--arm", "mail", "--jobs", "1"])
    assert "simulate storm, arm mail, seed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--against", "nowhere"], "trial.json: found no such file"),
        (["--against", "evidence", "--html", "x.html"], "goes with one arm"),
        (["--against", "evidence", "--arm", "bare", "--arm", "mail"], "goes with one arm"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, evidence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "storm.toml", *words]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_a_trial_of_another_case(evidence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle(tmp_path / "evidence", case="other")
    assert main(["simulate", "storm.toml", "--against", evidence]) == Exit.USAGE
    assert "found 'other', expected a trial of 'storm'" in capsys.readouterr().err
