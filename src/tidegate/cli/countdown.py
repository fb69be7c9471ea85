"""How far a long work is, and how long it will still take, for the one line of a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable


def countdown(
    tell: Callable[[str], None], total: int, what: str, *, clock: Callable[[], float] = time.monotonic
) -> Callable[[str, int], None]:
    """A function that tells, of `name`, that so many of `total` are done, and the time left at this pace."""
    began = clock()

    def done(name: str, number: int) -> None:
        left = ""
        if number:
            left = f", {human_time((clock() - began) / number * max(total - number, 0))} left"
        tell(f"{name}: {number} of {total} {what}{left}")

    return done


def human_time(time_s: float) -> str:
    """A time for people: `8 s`, `3 min`, `2 h 5 min`."""
    whole = round(time_s)
    if whole < 100:
        return f"{whole} s"
    minutes = round(time_s / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
