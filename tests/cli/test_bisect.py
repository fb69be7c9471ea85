"""`tidegate trial --bisect`, with runners in the place of boots."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from tests.rig import campaign_runners

from tidegate.cli import main
from tidegate.errors import Exit, Lacking
from tidegate.report.schema import json_schema
from tidegate.rig import beside, tried
from tidegate.rig.results import read_results
from tidegate.trial import Said

CASE = """\
claim = "a claim"
source = "a source"
[trial]
[[trial.arm]]
name = "quiet"
[[trial.arm]]
name = "stock"
expect = "FAIL"
"""
KEY = "vm.min_free_kbytes"


@pytest.fixture(autouse=True)
def made_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest survives from 5000 kB on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEGATE_TEST_RUNS", str(tmp_path))
    (tmp_path / "one.toml").write_text(CASE)
    monkeypatch.setattr(tried, "check_job", lambda _: None)
    monkeypatch.setattr(tried, "tried_job", lambda job: job)
    monkeypatch.setattr(beside, "said_of", lambda *_: (Said(name="tidegate plan", value=6000),))
    monkeypatch.setattr("tidegate.cli.campaign.one_trial", lambda: campaign_runners.needs_5000)


def bisect(*words: str) -> int:
    return main(["trial", "one.toml", "--bisect", f"{KEY}=1000:32000", "--jobs", "1", *words])


def test_the_bracket_as_json_and_every_boot_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bisect("-n", "2", "--json") == Exit.OK
    value = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json_schema("bisect")).validate(value)
    assert (value["arm"], value["key"], value["boots"], value["said"]) == (
        "stock", KEY, 2, [{"name": "tidegate plan", "value": 6000}],
    )  # fmt: skip
    fails, survives = value["fails"], value["survives"]
    assert fails["value"] < 5000 <= survives["value"] <= 1.1 * fails["value"]
    assert (fails["survived"], fails["n"], survives["survived"], survives["n"]) == (0, 1, 2, 2)
    kept = read_results(tmp_path / "trials")
    assert len(kept) == sum(one["n"] for one in value["levels"])
    assert {one.arm for one in kept} == {"stock"}
    assert {one.sweep[KEY] for one in kept} == {one["value"] for one in value["levels"]}


def test_the_same_seed_makes_no_boot_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bisect("-n", "2", "--seed", "1")
    first, made = capsys.readouterr().out, campaign_runners.starts(tmp_path)
    bisect("-n", "2", "--seed", "1")
    assert capsys.readouterr().out == first
    assert campaign_runners.starts(tmp_path) == made


def test_no_value_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trial", "one.toml", "--bisect", f"{KEY}=10:40", "-n", "1", "--jobs", "1"]) == Exit.BAD_NEWS
    assert capsys.readouterr().out.startswith(f"no value of {KEY} from 10 to 40")


def test_without_a_record_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*_: object) -> tuple[Said, ...]:
        raise Lacking("no QEMU")

    monkeypatch.setattr(beside, "said_of", lacking)
    assert bisect("-n", "1") == Exit.OK
    out, err = capsys.readouterr()
    assert "no plan to stand beside it: no QEMU" in err
    assert "What others say" not in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bisect", f"{KEY}=0:9"], "two whole numbers, 1 or more"),
        (["--bisect", f"{KEY}=9:9"], "the smaller first"),
        (["--bisect", f"{KEY}=9"], "two whole numbers"),
        (["--bisect", "nonsense=1:9"], "expected a sysctl, or a number"),
        (["--bisect", f"{KEY}=1:9", "--arm", "stock", "--arm", "quiet"], "takes one case, arm"),
        (["--bisect", f"{KEY}=1:9", "--nic", "e1000", "--nic", "e1000e"], "takes one case, arm"),
        (["--bisect", f"{KEY}=1:9", "--dry-run"], "--bisect excludes"),
    ],
)
def test_bad_input_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trial", "one.toml", *words]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
