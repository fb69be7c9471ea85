"""The smallest value at which every boot survives: up by doubling, then halving the distance on a scale of ratios.

It takes for granted that more is better, which nothing promises; the levels that were tried are all it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from tidegate.errors import Lacking
from tidegate.trial import Level

NEAR = 1.1  # two values that are closer than this are one: boots are dear, and chance moves the edge by more


def search(low: int, high: int, level: Callable[[int], Level], *, near: float = NEAR) -> tuple[Level, ...]:
    """The levels that were tried, in their order; `level` makes the boots of one value, from `low` (>= 1) to `high`.

    Lacking where no boot of a value counted: then nothing can be said of any side of it.
    """
    tried: list[Level] = []

    def holds(value: int) -> bool:
        one = level(value)
        if not one.n:
            raise Lacking(
                f"at {value}: no trial counted (all INCONCLUSIVE or LOST), so the search cannot go on"
            )
        tried.append(one)
        return one.holds

    fails, value = 0, low
    while not holds(value):
        if value >= high:
            return tuple(tried)
        fails, value = value, min(2 * value, high)
    survives = value
    while fails and survives > max(near * fails, fails + 1):
        middle = max(isqrt(fails * survives), fails + 1)
        if holds(middle):
            survives = middle
        else:
            fails = middle
    return tuple(tried)


def bracket(levels: tuple[Level, ...]) -> tuple[Level | None, Level | None]:
    """The largest value that failed, and the smallest above it that survived."""
    fails = max((one for one in levels if not one.holds), key=lambda one: one.value, default=None)
    above = [one for one in levels if one.holds and (fails is None or one.value > fails.value)]
    return fails, min(above, key=lambda one: one.value, default=None)
