"""The search for the smallest value at which every boot survives."""

from __future__ import annotations

import pytest

from tidegate.errors import Lacking
from tidegate.rig.bisect import NEAR, bracket, search
from tidegate.trial import Level


def level(value: int, survived: int, n: int = 3) -> Level:
    return Level(value=value, survived=survived, n=n)


def searched(low: int, high: int, edge: int) -> tuple[Level, ...]:
    """A guest that survives from `edge` on."""
    return search(low, high, lambda value: level(value, 3 if value >= edge else 2))


@pytest.mark.parametrize("edge", [1001, 1500, 2000, 2001, 5000, 31_999, 32_000])
def test_the_bracket_is_near_the_edge(edge: int) -> None:
    levels = searched(1000, 32_000, edge)
    fails, survives = bracket(levels)
    assert fails is not None
    assert survives is not None
    assert fails.value < edge <= survives.value <= NEAR * fails.value + 1
    assert all(1000 <= one.value <= 32_000 for one in levels)
    assert len({one.value for one in levels}) == len(levels) <= 12


def test_it_doubles_first() -> None:
    assert [one.value for one in searched(1000, 9000, 10_000)] == [1000, 2000, 4000, 8000, 9000]


def test_the_lowest_survives_and_nothing_more_is_tried() -> None:
    levels = searched(1000, 32_000, 10)
    assert [one.value for one in levels] == [1000]
    assert bracket(levels) == (None, levels[0])


def test_the_highest_fails() -> None:
    levels = searched(1000, 4000, 5000)
    assert bracket(levels) == (levels[-1], None)
    assert levels[-1].value == 4000


def test_small_numbers_end_the_search() -> None:
    fails, survives = bracket(searched(1, 8, 3))
    assert (fails, survives) == (level(2, 2), level(3, 3))


def test_a_value_at_which_nothing_counted_ends_it() -> None:
    with pytest.raises(Lacking, match="at 1000: no trial counted"):
        search(1000, 2000, lambda value: level(value, 0, 0))


def test_a_survivor_below_a_failure_is_in_no_bracket() -> None:
    """As levels of two searches may have it: survival is not monotone."""
    levels = (level(10, 3), level(20, 1, 2), level(40, 3), level(80, 3))
    assert bracket(levels) == (levels[1], levels[2])
