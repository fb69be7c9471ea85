"""JSON: stable, complete, and what the published schema says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tests.report import samples

from tidegate.errors import Usage
from tidegate.host.archive import save_record
from tidegate.host.record import Member, Record, Status
from tidegate.report.changes import changes
from tidegate.report.explain import Explained
from tidegate.report.json import to_json
from tidegate.report.schema import TYPES, json_schema, schema_text
from tidegate.report.terms import terms
from tidegate.result import CheckResult

EVERY = (*samples.ALL, samples.hostile, samples.cured)


def valid(name: str, text: str) -> Any:
    value = json.loads(text)
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


@pytest.mark.parametrize("sample", EVERY)
def test_a_result_is_valid_and_reads_back_the_same(sample: Callable[[], CheckResult]) -> None:
    text = to_json(sample())
    valid("check", text)
    assert msgspec.json.decode(text, type=CheckResult) == sample()


def test_the_promised_fields_are_there() -> None:
    value = valid("check", to_json(samples.at_risk()))
    assert value["schema"] == "tidegate.check/1"
    assert value["verdict"] == "AT_RISK"
    assert value["conditions"] == []
    assert {"kind", "transport", "chain", "sockets"} <= value["users"][0].keys()
    assert {"id", "state", "severity", "evidence", "cure"} <= value["findings"][0].keys()
    assert {one["state"] for one in value["findings"]} == {"applies", "absent", "unknown"}
    assert {"need_pages", "exclusive_pages", "rows"} <= value["reserve"].keys()
    assert {"holder", "pages", "why"} <= value["reserve"]["rows"][0].keys()
    assert {"source", "steps"} <= value["way"].keys()
    assert {"id", "law", "path", "old", "new", "why", "basis"} <= value["plan"][0].keys()


def test_several_hosts_and_changes_are_valid() -> None:
    value = valid("checks", to_json([sample() for sample in samples.ALL]))
    assert [one["verdict"] for one in value["results"]] == ["AT_RISK", "CANNOT_TELL", "SAFE"]
    valid("changes", to_json(changes(samples.at_risk(), samples.cured())))


def test_output_is_stable() -> None:
    text = to_json(samples.at_risk())
    assert text == to_json(samples.at_risk())
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_the_schema_refuses_what_is_wrong() -> None:
    value = json.loads(to_json(samples.at_risk()))
    for path, bad in (("verdict", "FINE"), ("schema", "tidegate.check/0"), ("users", None)):
        with pytest.raises(jsonschema.ValidationError):
            valid("check", json.dumps(value | {path: bad}))
    del value["gaps"]
    with pytest.raises(jsonschema.ValidationError):
        valid("check", json.dumps(value))


def test_bytes_that_are_no_text_do_not_break_it() -> None:
    base = samples.safe()
    odd = replace(base, host=replace(base.host, source="r\udcff.tar"), conditions=("\ud800",))
    value = valid("check", to_json(odd))
    assert value["host"]["source"] == "r\ufffd.tar"


def test_the_manifest_of_a_record_is_what_its_schema_says(tmp_path: Path) -> None:
    members = {
        "proc/swaps": Member(path="proc/swaps", status=Status.FOUND, data=b"Filename\n"),
        "proc/none": Member(path="proc/none", status=Status.ABSENT),
        "sys/block/a": Member(path="sys/block/a", status=Status.DENIED, detail="mode 0400"),
    }
    record = Record(
        members=members, kernel="6.12.0", machine="x86_64", taken="2026-11-23T20:00:00Z", source="live"
    )
    save_record(record, tmp_path / "record")
    valid("record-manifest", (tmp_path / "record" / "manifest.json").read_text())


def test_terms_are_what_their_schema_says() -> None:
    assert len(terms()) > 40
    valid("explain", to_json(Explained(terms=terms())))


@pytest.mark.parametrize("name", sorted(TYPES))
def test_schemas_are_schemas(name: str) -> None:
    schema = json.loads(schema_text(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"].startswith("tidegate.")


def test_an_unknown_schema_names_those_there_are() -> None:
    with pytest.raises(Usage, match="check"):
        json_schema("nothing")
