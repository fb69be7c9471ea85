"""A strict reader of KTAP version 1, written from Documentation/dev-tools/ktap.rst. Unknown lines are an error here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

RESULT = re.compile(
    r"(?P<result>ok|not ok) (?P<number>[1-9][0-9]*)(?: (?P<description>[^#]*[^# ]))?"
    r"(?: # (?:(?P<directive>SKIP|TODO|XFAIL|TIMEOUT|ERROR)(?= |$))? ?(?P<data>.*))?"
)


@dataclass
class Test:
    __test__ = False  # no test of pytest's

    ok: bool
    description: str
    directive: str | None
    data: str
    diagnostics: list[str]
    subtests: list[Test] = field(default_factory=list)


def parse(text: str) -> list[Test]:
    """The tests of the outermost level; AssertionError where the text is no KTAP."""
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    tests, rest = _block(lines, "")
    assert rest == [], rest[:1]
    return tests


def _block(lines: Sequence[str], indent: str) -> tuple[list[Test], Sequence[str]]:
    assert lines[0] == f"{indent}KTAP version 1", lines[0]
    plan = re.fullmatch(rf"{indent}1\.\.([0-9]+)", lines[1])
    assert plan, lines[1]
    lines = lines[2:]
    tests: list[Test] = []
    for number in range(1, int(plan[1]) + 1):
        one, lines = _test(lines, indent, number)
        tests.append(one)
    return tests, lines


def _test(lines: Sequence[str], indent: str, number: int) -> tuple[Test, Sequence[str]]:
    subtests: list[Test] = []
    diagnostics: list[str] = []
    if lines[0] == f"{indent}  KTAP version 1":
        subtests, lines = _block(lines, f"{indent}  ")
    while lines[0].startswith(f"{indent}# "):
        diagnostics.append(lines[0].removeprefix(f"{indent}# "))
        lines = lines[1:]
    assert lines[0].startswith(indent), lines[0]
    found = RESULT.fullmatch(lines[0].removeprefix(indent))
    assert found, lines[0]
    assert int(found["number"]) == number, lines[0]
    ok, directive = found["result"] == "ok", found["directive"]
    assert not (ok and directive in {"ERROR", "TIMEOUT"}), lines[0]
    # "If one of the subtests fail, for example, the parent test should also fail."
    assert not subtests or ok == all(one.ok for one in subtests), lines[0]
    test = Test(ok, found["description"] or "", directive, found["data"] or "", diagnostics, subtests)
    return test, lines[1:]
