"""The line that shows a run while it goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.report.live_gauge import gauge_line

COUNT = st.integers(0, 1 << 40)


def line(free_pages: int, width: int = 80) -> str:
    return gauge_line(free_pages, 4096, 171, 64, 123_456_789, 2_000_000_000, 1234, width)


def bar(free_pages: int) -> str:
    return line(free_pages).partition("[")[2].partition("]")[0]


def test_the_line_reads_well() -> None:
    assert line(400) == "free [##:###|########...........]   400 pages   123 ms of 2 s    1,234 completed"


def test_free_pages_grow_from_left_to_right_and_pass_the_marks() -> None:
    assert "#" not in bar(0)
    assert bar(1)[0] == "#"
    assert bar(30).index(".") < bar(30).index(":")
    assert bar(100).index(":") < bar(100).index(".") < bar(100).index("|")
    assert bar(300).index("|") < bar(300).index(".")
    assert ">" not in bar(4 * 171)
    assert bar(4 * 171 + 1)[-1] == ">"
    lengths = [bar(free).count("#") for free in range(0, 680, 10)]
    assert lengths == sorted(lengths)


def test_the_line_stands_still_while_numbers_grow() -> None:
    assert len({line(free).index("]") for free in (0, 9, 99, 999, 4096)}) == 1
    times = (0, 5_000_000, 123_000_000, 1_990_000_000)
    made = [
        gauge_line(90, 4096, 171, 64, time, 2_000_000_000, done, 80)
        for time, done in zip(times, (0, 7, 300, 99_999), strict=True)
    ]
    assert len({(one.index("]"), len(one)) for one in made}) == 1


@pytest.mark.parametrize("width", [0, 3, 8, 20, 40])
def test_a_narrow_terminal_gets_the_words_alone(width: int) -> None:
    assert "[" not in line(400, width)
    assert len(line(400, width)) <= width


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, st.integers(-1, 300))
def test_it_is_never_wider_than_told(
    free_pages: int,
    pages: int,
    wmark: int,
    floor: int,
    time_ns: int,
    total_ns: int,
    completed: int,
    width: int,
) -> None:
    text = gauge_line(free_pages, pages, wmark, floor, time_ns, total_ns, completed, width)
    assert len(text) <= max(width, 0)
    assert text.isascii()
    assert text.isprintable()
