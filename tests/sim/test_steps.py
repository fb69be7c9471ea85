"""Every step has a name in the table, and the table has no step that the source does not take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.sim.machines import case_of

import tidegate.sim
from tidegate.designs import design
from tidegate.sim.run import simulate
from tidegate.sim.steps import STEPS
from tidegate.trace import Event, Kind

SOURCE = Path(tidegate.sim.__path__[0])


def counted() -> set[str]:
    """The steps that the source counts."""
    found = set()
    for path in SOURCE.glob("*.py"):
        for inside in re.findall(r"steps\[([^\]]+)\]", path.read_text()):
            found |= set(re.findall(r'"(\w+)"', inside))
    return found


def test_the_table_has_the_steps_of_the_source() -> None:
    assert counted() == STEPS.keys()


def test_a_trace_is_what_was_counted() -> None:
    events: list[Event] = []
    traced = simulate(case_of(), design("mail"), 3, trace=events.append)
    assert traced == simulate(case_of(), design("mail"), 3)
    taken = {step: sum(one.step == step for one in events) for step in {one.step for one in events}}
    assert taken == dict(traced.steps)
    assert [one.time_ns for one in events] == sorted(one.time_ns for one in events)


@pytest.mark.parametrize("name", ["bare", "mail", "random_drop"])
def test_in_the_calm_the_adversary_is_still(name: str) -> None:
    events: list[Event] = []
    run = simulate(case_of(), design(name), 1, trace=events.append)
    late = {one.step for one in events if STEPS[one.step] is Kind.ADVERSARY and one.time_ns > run.storm_ns}
    early = {one.step for one in events if STEPS[one.step] is Kind.ADVERSARY}
    # A program that waited for a page when the storm ended gets it: that is demand, not new dirtying.
    assert late - {"dirty_page", "coin"} == set()
    assert {"foreign_packet", "dirty_page"} <= early
