"""Every report of every recorded host: what the samples show must hold for what machines really say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from tests.report.tree import assert_same_numbers, elements

from tidegate.check import check_record
from tidegate.cli import main
from tidegate.host.opening import open_record
from tidegate.report.changes import changes
from tidegate.report.html import SIZE_MAX_BYTES, check_html
from tidegate.report.json import to_json
from tidegate.report.prometheus import check_metrics
from tidegate.report.schema import json_schema
from tidegate.report.text import check_text
from tidegate.result import CheckResult, Severity, State

HOSTS = Path(__file__).resolve().parents[2] / "hosts"
RECORDS = sorted(HOSTS.glob("*.tar.xz"))


@pytest.fixture(scope="module", params=RECORDS, ids=lambda path: path.name.partition(".")[0])
def result(request: pytest.FixtureRequest) -> CheckResult:
    return check_record(open_record(request.param))


def test_there_are_recorded_hosts() -> None:
    assert RECORDS


def test_text(result: CheckResult) -> None:
    text = check_text(result)
    assert text.startswith(f"{result.verdict.value}: ")
    assert all(line.isascii() and line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) <= 85
    flat = re.sub(r"\s+", " ", text)
    for one in result.findings:
        if one.state is State.APPLIES and one.severity is Severity.DEADLOCK:
            assert f"deadlock {one.id}: {one.title}" in flat
    whole = re.sub(r"\s+", " ", check_text(result, all=True))
    for one in result.findings:
        assert f"{one.id}: {one.title}" in whole
    for step in result.way.steps if result.way else ():
        assert re.sub(r"\s+", " ", step.text) in flat


def test_json(result: CheckResult) -> None:
    jsonschema.Draft202012Validator(json_schema("check")).validate(json.loads(to_json(result)))


def test_page(result: CheckResult) -> None:
    text = check_html(result)
    assert len(text.encode()) <= SIZE_MAX_BYTES
    assert_same_numbers(result)
    ids = [one.attributes["id"] for one in elements(text) if "id" in one.attributes]
    assert len(set(ids)) == len(ids)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_metrics(result: CheckResult) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=check_metrics([result]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_host_has_not_changed_against_itself(result: CheckResult) -> None:
    assert changes(result, result).changes == ()


def test_plan_is_what_its_schema_says(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--host", str(RECORDS[0]), "--json"])
    jsonschema.Draft202012Validator(json_schema("plan")).validate(json.loads(capsys.readouterr().out))
