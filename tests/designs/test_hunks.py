"""The table that puts hunk, code and mainline side by side."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

import tidegate
from tidegate.design import HUNKS, Design
from tidegate.designs.hunks import ROWS, SLIPS, Row

SAID = {"name", "title", "proposed_by", "source", "about", "kernel"}

# The mail's diff: each @@ line, by file and first line before the change.
POSTED = {
    "include/linux/gfp.h:39",
    "include/linux/skbuff.h:969",
    "include/linux/skbuff.h:982",
    "include/linux/skbuff.h:1011",
    "include/net/sock.h:382",
    "include/net/sock.h:399",
    "mm/page_alloc.c:802",
    "net/core/dev.c:1452",
    "net/core/skbuff.c:355",
    "net/core/skbuff.c:411",
    "net/ipv4/tcp_ipv4.c:1766",
}


def test_every_switch_has_one_row_in_the_order_of_the_design() -> None:
    assert [row.switch for row in ROWS] == [one.name for one in fields(Design) if one.name not in SAID]


def test_every_hunk_of_the_mail_belongs_to_a_switch() -> None:
    assert {hunk for row in ROWS for hunk in row.hunks} == POSTED
    assert {row.switch for row in ROWS if row.hunks} == set(HUNKS)


def test_a_hunk_is_split_only_where_it_does_two_things() -> None:
    # skbuff.h:1011 adds both dev_alloc_skb_reserve() and is_memalloc_skb()
    counted = Counter(hunk for row in ROWS for hunk in row.hunks)
    assert {hunk for hunk, times in counted.items() if times > 1} == {"include/linux/skbuff.h:1011"}


def places() -> list[tuple[Row, str]]:
    return [(row, place) for row in ROWS for place in row.here]


@pytest.mark.parametrize(("row", "place"), places(), ids=lambda one: getattr(one, "switch", one))
def test_the_code_that_a_row_names_is_there(row: Row, place: str) -> None:
    module, _, name = place.partition(":")
    assert module.startswith("tidegate.sim.")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"no module {module} yet")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        assert hasattr(found, part), f"{module} has no {name}"
        found = getattr(found, part)
    assert callable(found)


def unobeyed(sources: Iterable[str]) -> list[str]:
    """The switches that no source asks a design for."""
    asked = {name for text in sources for name in re.findall(r"\bdesign\.(\w+)", text)}
    return [row.switch for row in ROWS if row.switch not in asked]


def test_every_switch_is_obeyed_somewhere() -> None:
    if importlib.util.find_spec("tidegate.sim.run") is None:
        pytest.skip("sim is not whole yet: no module tidegate.sim.run")
    sim = Path(tidegate.__file__).parent / "sim"
    assert unobeyed(path.read_text() for path in sim.glob("*.py")) == []


def test_a_switch_that_nothing_obeys_is_found() -> None:
    text = "\n".join(f"if m.design.{row.switch}:" for row in ROWS)
    assert unobeyed([text]) == []
    assert unobeyed([text.replace("design.bypass", "design.bypassed")]) == ["bypass"]


def test_a_row_is_whole() -> None:
    for row in ROWS:
        assert all((row.does, row.here, row.became)), row.switch
        assert row.mainline or row.became.startswith(("not in", "what mainline comes to")), row.switch
        assert "|" not in f"{row.does}{row.mainline}{row.became}", row.switch  # cells of a Markdown table


def test_a_slip_is_whole() -> None:
    assert len({slip.posted for slip in SLIPS}) == len(SLIPS)
    for slip in SLIPS:
        assert all((slip.posted, slip.so, slip.instead)), slip.posted
        assert "|" not in f"{slip.posted}{slip.so}{slip.instead}", slip.posted
