"""One set of results, five reports: the counts read back from each of them are the same."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import trials_made
from tests.report.ktap_parser import parse
from tests.report.tree import Element, Tree

from tidegate.report.json import to_json
from tidegate.report.junit import junit_xml
from tidegate.report.ktap import ktap_text
from tidegate.report.schema import json_schema
from tidegate.report.trials_html import trials_html
from tidegate.report.trials_text import tallies_text, trials_text
from tidegate.rig.tally import tallies
from tidegate.trial import COUNTED, FAILURES, TrialResult, Trials, Verdict

Key = tuple[str, str]  # the place as all of them call it, the arm


@dataclass(frozen=True)
class Count:
    failed: int
    n: int
    verdicts: tuple[tuple[str, int], ...]


def count(verdicts: Counter[str]) -> Count:
    """By the definition of FAILURES and COUNTED."""
    n = sum(verdicts[one] for one in COUNTED)
    return Count(sum(verdicts[one] for one in FAILURES), n, tuple(sorted(verdicts.items())))


def named(case: str, nic: str, transport: str, kernel: str, sweep: dict[str, int]) -> str:
    more = "".join(f", {name} {value:,}" for name, value in sorted(sweep.items()))
    return f"{case}: {nic}, {transport}, {kernel}{more}"


def from_results(results: list[TrialResult]) -> dict[Key, Count]:
    """Counted here, by no code of tidegate."""
    found: dict[Key, Counter[str]] = {}
    for one in results:
        place = named(one.case, one.nic, one.transport, one.kernel_name, one.sweep)
        found.setdefault((place, one.arm), Counter())[one.verdict.value] += 1
    return {key: count(verdicts) for key, verdicts in found.items()}


def from_json(trials: Trials) -> dict[Key, Count]:
    value = json.loads(to_json(trials))
    found = {}
    for one in value["tallies"]:
        place = named(one["case"], one["nic"], one["transport"], one["kernel_name"], one["sweep"])
        found[place, one["arm"]] = Count(one["failed"], one["n"], tuple(sorted(one["counts"].items())))
    return found


def from_text(trials: Trials) -> dict[Key, Count]:
    found = {}
    for block in trials_text(trials, width=100).split("\n\n")[1:]:
        place, *lines = block.split("\n")
        told = " ".join(line.strip() for line in lines)
        arm = r"(\w+): ([A-Z]+ \d.*?|nothing counted.*?); (?:expected|nothing is).*?fails (\d+) of (\d+)"
        for name, counts, failed, n in re.findall(arm, told):
            verdicts = re.findall(rf"({'|'.join(Verdict)}) (\d+)", counts)
            found[place, name] = Count(
                int(failed), int(n), tuple(sorted((one, int(many)) for one, many in verdicts))
            )
        if lines and lines[0].startswith("  ") and " seed " in lines[0]:
            break
    return found


def from_matrix(trials: Trials) -> dict[Key, tuple[int, int]]:
    """Of the narrow form, where each place has lines of its own."""
    found: dict[Key, tuple[int, int]] = {}
    place = ""
    for line in "\n\n".join(tallies_text(trials, width=40).split("\n\n")[1:2]).split("\n"):
        cell = re.fullmatch(r"  (\w+) +(\d+)/(\d+) \[.*\].*", line)
        if cell:
            found[place, cell[1]] = (int(cell[2]), int(cell[3]))
        else:  # the name of a place may take several lines
            place = f"{place} {line.strip()}" if line.startswith("  ") else line
    return found


def from_table(trials: Trials) -> dict[Key, tuple[int, int]]:
    """Of the wide form, where there is room for it."""
    found: dict[Key, tuple[int, int]] = {}
    head, *rows = tallies_text(trials, width=100).split("\n\n")[1].split("\n")
    if not head.startswith("case "):
        return from_matrix(trials)
    arms = re.split(r" {2,}", head)[5:]
    for row in rows:
        case, nic, transport, kernel, sweep, *cells = re.split(r" {2,}", row)
        pairs = () if sweep == "-" else (pair.split("=") for pair in sweep.split(" "))
        place = named(case, nic, transport, kernel, {name: int(value) for name, value in pairs})
        for arm, cell in zip(arms, cells, strict=True):
            if cell != "-":
                failed, n = cell.split(" ")[0].split("/")
                found[place, arm] = (int(failed), int(n))
    return found


def from_html(trials: Trials) -> dict[Key, Count]:
    """The details of each cell, and the trials in it one by one."""
    root = Tree(trials_html(trials)).root
    section = next(one for one in root.walk() if one.attributes.get("id") == "cells")
    found: dict[Key, Count] = {}
    place = ""
    for part in section.children:
        if part.name == "h3":
            place = part.whole()
        elif part.name == "details":
            arm, share, *_ = next(one for one in part.walk() if one.name == "strong").whole().split(" ")
            table = next(one for one in part.children if one.name == "table")
            told = {row.children[0].whole(): int(row.children[1].whole()) for row in body(table)}
            inner = [one.children[0].children[0].whole() for one in part.children if one.name == "details"]
            assert Counter(inner) == told
            failed, n = share.split("/")
            found[place, arm] = Count(int(failed), int(n), tuple(sorted(told.items())))
    return found


def body(table: Element) -> list[Element]:
    return next(one for one in table.children if one.name == "tbody").children


def from_html_matrix(trials: Trials) -> dict[Key, tuple[int, int]]:
    table = next(
        one for one in Tree(trials_html(trials)).root.walk() if one.attributes.get("class") == "matrix"
    )
    found: dict[Key, tuple[int, int]] = {}
    for row in body(table):
        for cell in row.children[1:]:
            numbers = [int(one.attributes["value"]) for one in cell.walk() if one.name == "data"]
            if numbers:
                found[row.children[0].whole(), cell.attributes["data-head"]] = (numbers[0], numbers[1])
    return found


def from_junit(trials: Trials) -> dict[Key, Count]:
    found: dict[Key, Count] = {}
    for suite in ET.fromstring(junit_xml(trials)):
        verdicts: dict[str, Counter[str]] = {}
        for case in suite.iter("testcase"):
            arm, seed, _ = case.attrib["name"].partition(" seed ")
            if seed:
                verdict = (case.findtext("system-out") or "").partition(":")[0]
                verdicts.setdefault(arm, Counter())[verdict] += 1
        for one in suite.iter("property"):
            arm = one.attrib["name"].removeprefix("failed ")
            failed, n = one.attrib["value"].split(" ")[0].split("/")
            found[suite.attrib["name"], arm] = Count(int(failed), int(n), count(verdicts[arm]).verdicts)
    return found


def from_ktap(trials: Trials) -> dict[Key, Count]:
    found: dict[Key, Count] = {}
    for place in parse(ktap_text(trials)):
        for arm in place.subtests:
            told = next(one for one in arm.diagnostics if one.startswith("failed "))
            failed, n = told.split(" ")[1].split("/")
            seeds = (one.description for one in arm.subtests if " seed " in one.description)
            verdicts = Counter(text.split(" ")[-1] for text in seeds)
            found[place.description, arm.description] = Count(int(failed), int(n), count(verdicts).verdicts)
    return found


EXPECTED = {"stock": "FAIL", "plan": "SURVIVED", "caps": "WEDGED", "tenfold": None}


@st.composite
def results(draw: st.DrawFn) -> list[TrialResult]:
    made = []
    for seed in range(draw(st.integers(1, 25))):
        arm = draw(st.sampled_from(sorted(EXPECTED)))
        sweep = draw(st.sampled_from([{}, {"delay_us": 0}, {"delay_us": 50_000, "loss_ppm": 10}]))
        one = trials_made.result(
            draw(st.sampled_from(list(Verdict))),
            seed,
            arm=arm,
            case=draw(st.sampled_from(["swap", "root"])),
            nic=draw(st.sampled_from(["e1000", "rtl8139"])),
            sweep=sweep,
            expected=EXPECTED[arm],
            seconds=(),
            margin_pages=draw(st.none() | st.integers(-5000, 5000)),
        )
        made.append(one)
    return made


def assert_equal(found: list[TrialResult]) -> None:
    trials = Trials(tallies=tallies(found), results=tuple(found))
    wanted = from_results(found)
    assert from_json(trials) == wanted
    assert from_text(trials) == wanted
    assert from_html(trials) == wanted
    assert from_junit(trials) == wanted
    assert from_ktap(trials) == wanted
    shares = {key: (one.failed, one.n) for key, one in wanted.items()}
    assert from_matrix(trials) == shares
    assert from_table(trials) == shares
    assert from_html_matrix(trials) == shares


@given(results())
@settings(max_examples=40)
def test_all_reports_say_the_same(found: list[TrialResult]) -> None:
    assert_equal(found)


def test_those_of_a_whole_campaign_too() -> None:
    assert_equal(list(trials_made.campaign().results))
    assert_equal(list(trials_made.one().results))


@given(results())
@settings(max_examples=20)
def test_whether_it_was_expected_is_the_same_to_machines(found: list[TrialResult]) -> None:
    """A trial that was lost is an error besides, whatever was expected."""
    trials = Trials(tallies=tallies(found), results=tuple(found))
    lost = {at for at, one in enumerate(trials.tallies) if one.counts.get("LOST")}
    bad = [one.met is False for one in trials.tallies]
    top = ET.fromstring(junit_xml(trials))
    assert any(bad) == (int(top.attrib["failures"]) > 0)
    assert int(top.attrib["errors"]) == sum(one.counts.get("LOST", 0) for one in trials.tallies)
    ok = all(place.ok for place in parse(ktap_text(trials)))
    assert ok == (not lost and not any(bad))


def test_the_json_is_what_its_schema_says() -> None:
    value = json.loads(to_json(trials_made.campaign()))
    jsonschema.Draft202012Validator(json_schema("trials")).validate(value)
    jsonschema.Draft202012Validator(json_schema("trial")).validate(value["results"][0])
