"""The recorded hosts: each has the scenario that made it and the text that check prints; a change is a diff to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import write_host_texts

from tidegate.host.opening import open_record
from tidegate.rig import hosts, scenario

RECORDS = write_host_texts.records()


def name_of(record: Path) -> str:
    return record.name.removesuffix(".tar.xz")


def test_every_record_has_its_scenario_and_every_scenario_its_record() -> None:
    assert [name_of(record) for record in RECORDS] == hosts.names(hosts.hosts_directory())


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_check_prints_what_stands_beside_the_record(record: Path) -> None:
    stored = write_host_texts.text_path(record).read_text(encoding="utf-8")
    assert write_host_texts.check_output(record) == stored


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_record_is_small_and_of_the_kernel_that_its_scenario_names(record: Path) -> None:
    assert record.stat().st_size <= hosts.LARGEST_BYTES
    series = {"bookworm": "6.1.", "trixie": "6.12."}
    asked = scenario.read(record.with_name(f"{name_of(record)}.toml"))
    held = open_record(record)
    assert held.kernel.startswith(series[asked.debian])
    assert held.kernel.endswith("-cloud-amd64") == (asked.flavour == "cloud")
    assert not held.made
