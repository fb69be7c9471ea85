"""The smallest value that survives, as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidegate.report.bisect_text import bisect_text
from tidegate.trial import Bisected, Level, Said

FAILS = Level(value=4000, survived=1, n=2, margin_lowest_pages=-7)
SURVIVES = Level(value=4300, survived=3, n=3, margin_lowest_pages=41)
FOUND = Bisected(
    case="deadlock", arm="stock", kernel_name="trixie-cloud", nic="e1000", transport="nbd",
    key="vm.min_free_kbytes", low=2000, high=32_000, boots=3, fails=FAILS, survives=SURVIVES,
    levels=(FAILS, SURVIVES, replace(SURVIVES, value=8000)),
    said=(Said(name="kernel default", value=1100), Said(name="twice the default", value=4000),
          Said(name="tidegate plan", value=4200), Said(name="ten times the default", value=11_000)),
)  # fmt: skip


def lines(result: Bisected) -> list[str]:
    return [" ".join(line.split()) for line in bisect_text(result, width=100).splitlines()]


def test_the_bracket_stands_first_with_its_counts() -> None:
    said = lines(FOUND)
    assert said[0] == "vm.min_free_kbytes: 4,300 (3/3) survives, 4,000 (1/2) does not"
    assert "4,000 1/2 -7" in said
    assert "8,000 3/3 41" in said


def test_what_others_say_stands_beside_the_bracket() -> None:
    said = lines(FOUND)
    assert "kernel default 1,100 below what failed" in said
    assert "twice the default 4,000 failed" in said
    assert "tidegate plan 4,200 between" in said
    assert "ten times the default 11,000 above what survived" in said


def test_it_says_that_more_need_not_be_better() -> None:
    assert "More need not be better" in " ".join(lines(FOUND))


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"fails": None}, "vm.min_free_kbytes: 4,300 (3/3) survives, the smallest that was tried"),
        ({"survives": None}, "no value of vm.min_free_kbytes from 2,000 to 32,000 was found that survives"),
    ],
)
def test_half_a_bracket(changes: dict[str, None], head: str) -> None:
    assert lines(replace(FOUND, **changes))[0] == head  # type: ignore[arg-type]


def test_without_a_record_nobody_says_anything() -> None:
    assert "What others say" not in bisect_text(replace(FOUND, said=()))
