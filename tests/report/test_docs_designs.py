"""docs/designs.md says of each design what the design says of itself."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tidegate.design import SWITCHES, Design
from tidegate.designs import DESIGNS
from tidegate.designs.hunks import ROWS, SLIPS
from tidegate.report.docs_designs import designs_markdown

PAGE = designs_markdown()
VALUED = ("refill", "pool", "coin_percent")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def shown() -> dict[str, dict[str, str]]:
    """Design -> field -> cell, read back from the tables."""
    found: dict[str, dict[str, str]] = {}
    head: list[str] = []
    for line in PAGE.partition("## The mail's hunks")[0].splitlines():
        if line.startswith("| design"):
            head = [cell.strip("`") for cell in cells(line)]
        elif line.startswith("| `"):
            row = [cell.strip("`") for cell in cells(line)]
            found.setdefault(row[0], {}).update(zip(head[1:], row[1:], strict=True))
    return found


def test_the_tables_have_every_design_and_every_switch_once() -> None:
    assert list(shown()) == list(DESIGNS)
    heads = [cell for line in PAGE.splitlines() if line.startswith("| design") for cell in cells(line)[1:]]
    expected = [one.name for one in fields(Design) if one.name in {*SWITCHES, *VALUED}]
    assert [head.strip("`") for head in heads] == expected


@pytest.mark.parametrize("one", DESIGNS.values(), ids=lambda one: one.name)
def test_a_cell_is_filled_exactly_where_the_design_differs_from_the_baseline(one: Design) -> None:
    row = shown()[one.name]
    assert {name for name in SWITCHES if row[name] == "x"} == {
        name for name in SWITCHES if getattr(one, name)
    }
    assert {row[name] for name in SWITCHES} <= {"x", ""}
    default = {field.name: field.default for field in fields(Design)}
    for name in VALUED:
        value = getattr(one, name)
        assert row[name] == ("" if value == default[name] else str(value)), name


@pytest.mark.parametrize("one", DESIGNS.values(), ids=lambda one: one.name)
def test_each_design_has_its_paragraph(one: Design) -> None:
    part = PAGE.partition(f"\n### {one.name}\n")[2].partition("\n### ")[0]
    for text in (one.title, one.about, one.proposed_by, one.source, one.kernel.value):
        assert text in part


def test_each_switch_and_each_slip_has_its_line() -> None:
    lines = [
        cells(line) for line in PAGE.partition("## The mail's hunks")[2].splitlines() if line.startswith("|")
    ]
    assert [line[0] for line in lines if len(line) == 6][2:] == [f"`{row.switch}`" for row in ROWS]
    assert [line[0] for line in lines if len(line) == 3][2:] == [slip.posted for slip in SLIPS]
