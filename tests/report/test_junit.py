"""JUnit XML: well-formed, of the structure that Jenkins' schema and pytest share, and telling the same."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from tests.report import trials_made

from tidegate.report.junit import junit_xml
from tidegate.report.trials_words import trial_command
from tidegate.trial import Trials, Verdict

# Of junit-10.xsd: element -> required and allowed attributes, and the children in their order.
STRUCTURE: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), {"tests", "failures", "errors", "skipped", "name", "time"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"skipped", "time", "timestamp", "hostname"},
        ["properties", "testcase"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name"}, {"classname", "time"}, ["skipped", "error", "failure", "system-out"]),
    "skipped": (set(), {"message"}, []),
    "error": (set(), {"message", "type"}, []),
    "failure": (set(), {"message", "type"}, []),
    "system-out": (set(), set(), []),
}


def check(element: ET.Element) -> None:
    needed, allowed, children = STRUCTURE[element.tag]
    keys = set(element.keys())
    assert needed <= keys <= needed | allowed, (element.tag, keys)
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order), element.tag
    for child in element:
        check(child)


def parsed(trials: Trials) -> ET.Element:
    return ET.fromstring(junit_xml(trials))


@pytest.mark.parametrize("sample", trials_made.ALL)
def test_the_structure_and_the_sums(sample: Callable[[], Trials]) -> None:
    top = parsed(sample())
    check(top)
    for one in (top, *top):
        cases = list(one.iter("testcase"))
        for key, name in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(one.attrib[key]) == sum(case.find(name) is not None for case in cases)
        assert int(one.attrib["tests"]) == len(cases)
    assert all(
        len({"failure", "error", "skipped"} & {part.tag for part in case}) <= 1
        for case in top.iter("testcase")
    )


def test_names_are_unique_within_a_suite() -> None:
    for suite in parsed(trials_made.campaign()):
        names = [case.attrib["name"] for case in suite.iter("testcase")]
        assert len(names) == len(set(names))


def marks(trials: Trials) -> list[str]:
    return [
        "".join(sorted(part.tag for part in case if part.tag != "system-out"))
        for case in parsed(trials).iter("testcase")
    ]


def test_each_trial_of_an_arm_that_shall_survive() -> None:
    trials = trials_made.trials(trials_made.run("plan", "PWOTSIL"))
    assert marks(trials) == ["failure"] * 4 + ["", "skipped", "error"]


def test_where_more_than_half_shall_fail_the_arm_decides() -> None:
    assert marks(trials_made.trials(trials_made.run("stock", "WWS"))) == ["", "", "", ""]
    assert marks(trials_made.trials(trials_made.run("stock", "WSS"))) == ["", "", "", "failure"]
    assert marks(trials_made.trials(trials_made.run("stock", "II"))) == ["skipped"] * 3


def test_nothing_is_asked_of_an_arm_without_expectation() -> None:
    assert marks(trials_made.trials(trials_made.run("tenfold", "WS"))) == ["", ""]


def test_the_output_has_the_diagnosis_and_how_to_repeat_it() -> None:
    text = parsed(trials_made.one()).findtext(".//system-out") or ""
    one = trials_made.result(Verdict.WEDGED, 7)
    for part in (one.reason, one.diagnosis or "", one.command, one.kernel_sha256, trial_command(one.job)):
        assert part in text


def test_control_characters_do_not_break_the_xml() -> None:
    text = junit_xml(trials_made.hostile())
    assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_the_suite_starts_with_its_first_trial() -> None:
    made = [
        trials_made.result(Verdict.WEDGED, at, started=f"2026-11-24T18:0{9 - at}:00+00:00")
        for at in (1, 2, 3)
    ]
    assert parsed(trials_made.trials(made))[0].attrib["timestamp"] == "2026-11-24T18:06:00"
