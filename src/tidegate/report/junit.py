"""Trials as JUnit XML, for machines that gather test results: a suite for each place, a case for each trial.

The elements are those that Jenkins' schema and pytest have in common. A trial that was inconclusive is skipped, a
lost one is an error, one that did not do what its arm is expected to do a failure. Where the expectation is about
the share (more than half fail), no single trial can miss it, and one more case stands for the arm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidegate.report.trials_words import (
    Cell,
    Tested,
    about_words,
    kernel_words,
    matrix,
    place_words,
    share_words,
    tested,
    trial_command,
)
from tidegate.report.words import printable
from tidegate.trial import Trials

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ELEMENT = {"failed": "failure", "skipped": "skipped", "error": "error"}


def junit_xml(trials: Trials) -> str:
    """The XML of all trials, as text that ends with a newline."""
    from xml.etree import ElementTree as ET

    _, rows = matrix(trials)
    top = ET.Element("testsuites")
    for place, row in rows.items():
        top.append(_suite(place_words(place), tuple(row.values())))
    for key in ("tests", "failures", "errors", "skipped"):
        top.set(key, str(sum(int(suite.get(key, "0")) for suite in top)))
    ET.indent(top)
    # No declaration of an encoding: whoever writes the text to a file decides it, and XML's default is UTF-8.
    return '<?xml version="1.0"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _suite(name: str, row: Sequence[Cell]) -> Element:
    from xml.etree import ElementTree as ET

    pairs = [(cell, one) for cell in row for one in tested(cell)]
    states = Counter(one.state for _, one in pairs)
    started = min((one.result.started for _, one in pairs if one.result and one.result.started), default="")
    wall_s = sum(one.result.wall_s for _, one in pairs if one.result)
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(pairs)),
        failures=str(states["failed"]),
        errors=str(states["error"]),
        skipped=str(states["skipped"]),
        time=f"{wall_s:.1f}",
    )
    if started:
        suite.set("timestamp", printable(started).removesuffix("Z").removesuffix("+00:00"))  # UTC, unsaid
    properties = ET.SubElement(suite, "properties")
    for cell in row:
        value = share_words(cell.tally)
        ET.SubElement(properties, "property", name=f"failed {printable(cell.tally.arm)}", value=value)
    suite.extend(_case(name, one) for _, one in pairs)
    return suite


def _case(suite: str, one: Tested) -> Element:
    from xml.etree import ElementTree as ET

    case = ET.Element("testcase", classname=suite, name=printable(one.name))
    case.set("time", f"{one.result.wall_s if one.result else 0:.1f}")
    if one.state in _ELEMENT:
        told = ET.SubElement(case, _ELEMENT[one.state], message=printable(one.reason))
        if one.state != "skipped":
            told.set("type", one.result.verdict.value if one.result else "share")
    ET.SubElement(case, "system-out").text = "\n".join(_lines(one))
    return case


def _lines(one: Tested) -> list[str]:
    """What was seen, and how to see it again. Every line is printable: XML has no place for control characters."""
    result = one.result
    if result is None:
        return [one.reason]
    named = (
        ("diagnosis", result.diagnosis),
        ("finding", result.finding),
        ("evidence", result.evidence),
        ("numbers", about_words(result)),
        ("kernel", kernel_words(result)),
        ("to repeat it", trial_command(result.job)),
        ("emulator", result.command),
    )
    return [one.reason, *(f"{name}: {printable(text)}" for name, text in named if text)]
