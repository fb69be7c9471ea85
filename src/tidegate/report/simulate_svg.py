"""The pictures of a run: pages by holder as a stack, the last pages against the watermarks, and what completed.

One drawing serves phone and desktop: the curves are stretched to the window, their lines and words are not. Free
pages lie at the bottom of the stack, so that the watermarks, which are numbers of free pages, can be read there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tidegate.report.markup import Child, Markup, tag
from tidegate.report.simulate_words import FREE, MARKS, decided_ns, free_pages, milestone_ns, time_words
from tidegate.report.svg import COLOURS, rect
from tidegate.report.words import counted
from tidegate.simulation import Run, Sample

_WIDE = 1000  # units from the left edge to the right, whatever the window is
_STACK_HIGH, _LAST_HIGH, _DONE_HIGH = 300, 200, 110
_ROW, _AXIS = 16, 24  # a label above the picture; the times below it
_LABEL_STEP = 14
_RIM = 4  # as wide as the style sheet has it
_POINTS = 500  # more than a window has room for
# A run may die in a tenth of a storm of seconds, and is watched for minutes after it: each part that is much longer
# than what happens before it gets a share of the width, on a scale of its own.
_LONGER = 2.5
_DYING_SHARE, _CALM_SHARE = 0.45, 0.25
_TICK_LEAST = 110  # units between two times, so that they do not touch on a phone

Point = tuple[float, float]
Level = tuple[str, int, str]  # word, pages, class of its line


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One holder in the stack: its pages at each of the samples shown."""

    name: str
    look: str  # a class of the style sheet
    held: tuple[int, ...]


def thinned(run: Run) -> tuple[Sample, ...]:
    """At most as many samples as can be seen: of those that fall together, the one with the fewest pages free."""
    if len(run.samples) <= _POINTS:
        return run.samples
    kept: dict[int, Sample] = {}
    for one in run.samples[1:-1]:
        at = int(_x(run, one.time_ns) * (_POINTS - 2) / (_WIDE + 1))
        other = kept.get(at)
        if other is None or (free_pages(run, one) or 0) < (free_pages(run, other) or 0):
            kept[at] = one
    return (run.samples[0], *kept.values(), run.samples[-1])


def bands(run: Run, samples: Sequence[Sample]) -> list[Band]:
    """The stack from the bottom: free pages, then who ever held any; the least of too many become one."""
    if not samples:
        return []
    found = [(name, tuple(one.held[at] for one in samples)) for at, name in enumerate(run.holders)]
    free = [Band(name=name, look="water", held=held) for name, held in found if name == FREE]
    others = [(name, held) for name, held in found if name != FREE and any(held)]
    if len(others) > COLOURS:
        by_peak = sorted(range(len(others)), key=lambda at: -max(others[at][1]))
        small = set(by_peak[COLOURS - 1 :])
        rest = zip(*(others[at][1] for at in sorted(small)), strict=True)
        others = [one for at, one in enumerate(others) if at not in small]
        others.append((counted(len(small), "other holder"), tuple(map(sum, rest))))
    return free + [Band(name=name, look=f"c{at}", held=held) for at, (name, held) in enumerate(others)]


def stack_svg(run: Run) -> Markup:
    """Pages by holder over time; the watermarks are drawn at their height of free pages."""
    samples = thinned(run)
    xs = [_x(run, one.time_ns) for one in samples]
    y = _scale(run.pages, _STACK_HIGH)
    children: list[Child] = []
    below = [0] * len(samples)
    edge: list[Point] = []
    for band in bands(run, samples):
        above = [low + pages for low, pages in zip(below, band.held, strict=True)]
        upper = [(x, y(pages)) for x, pages in zip(xs, above, strict=True)]
        lower = [(x, y(pages)) for x, pages in zip(xs, below, strict=True)]
        about = f"{band.name}: {min(band.held):,} to {max(band.held):,} pages"
        outline = f"{_path((*upper, *reversed(lower)))} Z"
        children.append(tag("path", tag("title", about), d=outline, class_=f"band {band.look}"))
        if band.name == FREE:
            edge = upper
        below = above
    children += _line(edge, "mark level")
    children += [line for _, pages, look in _apart(run, y) for line in _level(y(pages), look)]
    # Their own numbers stand beside the next picture: here they lie too close to each other.
    levels = [("", 0, ""), ("", run.pages // 2, ""), ("", run.pages, "")]
    if run.wmark_min_pages:
        levels.append(("min", run.wmark_min_pages, ""))
    about = f"{counted(run.pages, 'page')} from {time_words(0)} to {time_words(run.end_ns)}, free pages at the bottom"
    return _plot(
        run,
        "stack",
        _STACK_HIGH,
        "Pages by holder over time",
        about,
        children,
        _labels(levels, y, _STACK_HIGH),
    )


def last_pages_svg(run: Run) -> Markup:
    """The bottom of the stack, enlarged: free pages against the watermarks, and reserve pages that are out."""
    samples = thinned(run)
    xs = [_x(run, one.time_ns) for one in samples]
    levels = list(_levels(run))
    out = [one.reserve_out for one in samples]
    top = min(
        max(1.6 * max((pages for _, pages, _ in levels), default=0), 1.2 * max(out, default=0), 8), run.pages
    )
    y = _scale(top, _LAST_HIGH)
    free = [free_pages(run, one) or 0 for one in samples] if FREE in run.holders else []
    edge = _below(list(zip(xs, map(float, free), strict=False)), top)
    drawn = [(x, y(pages)) for x, pages in edge]
    children: list[Child] = []
    if drawn:
        outline = f"{_path(((drawn[0][0], y(0)), *drawn, (drawn[-1][0], y(0))))} Z"
        children.append(tag("path", tag("title", "free pages"), d=outline, class_="water"))
    children += [line for _, pages, look in levels for line in _level(y(pages), look)]
    children += _line(drawn, "mark level")
    children += _line([(x, y(pages)) for x, pages in zip(xs, out, strict=True)], "out")
    low = f"least free: {min(free):,} pages" if free else "free pages are not recorded"
    about = f"{low}; most pages of the reserve out: {max(out, default=0):,}"
    labels = _labels([*levels, ("", 0, "")], y, _LAST_HIGH)
    return _plot(run, "last", _LAST_HIGH, "The last free pages and the watermarks", about, children, labels)


def progress_svg(run: Run) -> Markup:
    """Requests completed so far: where the curve is flat, nobody gets on."""
    samples = thinned(run)
    most = max((one.completed for one in samples), default=0)
    y = _scale(max(most, 1), _DONE_HIGH)
    points = [(_x(run, one.time_ns), y(one.completed)) for one in samples]
    labels = _labels([("", 0, ""), ("", most, "")], y, _DONE_HIGH)
    about = f"{counted(most, 'request')} completed by {time_words(run.end_ns)}"
    return _plot(run, "done", _DONE_HIGH, "Requests completed", about, list(_line(points, "done")), labels)


def scales_words(run: Run) -> str:
    """Where the scale of time changes; empty where it does not."""
    ends = [time_words(time_ns) for time_ns, _ in knots(run)[1:-1]]
    return f"Time changes its scale at {' and at '.join(ends)}." if ends else ""


# Where things lie


def knots(run: Run) -> tuple[tuple[int, float], ...]:
    """Times and their places from the left, from the start to the end; between them the scale is even."""
    storm_ns, end_ns = run.storm_ns, max(run.end_ns, 1)
    found = [(0, 0.0)]
    split = end_ns > _LONGER * storm_ns > 0
    calm = _WIDE * (1 - _CALM_SHARE) if split else _WIDE * min(storm_ns / end_ns, 1.0)
    last = decided_ns(run)
    if last is not None and 0 < 1.4 * last * _LONGER < storm_ns:
        found.append((round(1.4 * last), _DYING_SHARE * calm))
    if split or len(found) > 1:
        found.append((storm_ns, calm))
    return (*found, (end_ns, float(_WIDE)))


def _x(run: Run, time_ns: int) -> float:
    """A time's place from the left."""
    for (from_ns, left), (to_ns, right) in pairwise(knots(run)):
        if time_ns <= to_ns and to_ns > from_ns:
            return left + (right - left) * max(time_ns - from_ns, 0) / (to_ns - from_ns)
    return float(_WIDE)


def _scale(top: float, high: float) -> Callable[[float], float]:
    """From pages to a height measured from above."""
    return lambda pages: high - high * min(max(pages, 0), top) / max(top, 1)


def _levels(run: Run) -> Iterator[Level]:
    levels = (
        ("high", run.wmark_high_pages),
        ("low", run.wmark_low_pages),
        ("min", run.wmark_min_pages),
        ("floor", run.atomic_floor_pages),
    )
    for word, pages in levels:
        if 0 < pages <= run.pages:
            yield word, pages, "mark floor" if word == "floor" else "mark"


def _apart(run: Run, y: Callable[[float], float]) -> list[Level]:
    """The watermarks that can be told from each other at this scale, min before all others."""
    levels = list(_levels(run))
    kept: list[Level] = []
    for word in ("min", "floor", "high", "low"):
        for level in levels:
            if level[0] == word and all(abs(y(level[1]) - y(other[1])) >= _RIM + 1 for other in kept):
                kept.append(level)
    return kept


def _below(points: Sequence[Point], top: float) -> list[Point]:
    """A curve cut off at `top`, with the points where it crosses; so that a slope stays a slope."""
    if not points:
        return []
    cut = [(points[0][0], min(points[0][1], top))]
    for (x, value), (next_x, next_value) in pairwise(points):
        if (value - top) * (next_value - top) < 0:
            cut.append((x + (next_x - x) * (top - value) / (next_value - value), top))
        cut.append((next_x, min(next_value, top)))
    return cut


# What things are made of


def _path(points: Sequence[Point]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _line(points: Sequence[Point], look: str) -> Iterator[Markup]:
    """A curve over a rim of the page's colour, so that it stands out from whatever it crosses."""
    if points:
        yield tag("path", d=_path(points), class_="rim")
        yield tag("path", d=_path(points), class_=look)


def _level(y: float, look: str) -> Iterator[Markup]:
    return _line([(0, y), (_WIDE, y)], look)


def _labels(levels: Sequence[Level], y: Callable[[float], float], high: float) -> Iterator[Markup]:
    """Numbers left of the picture, a line apart, each with a stroke to its height."""
    places = sorted(((y(pages), f"{word} {pages:,}".strip()) for word, pages, _ in levels), reverse=True)
    spread: list[float] = []
    for at, _ in places:
        spread.append(min(at, spread[-1] - _LABEL_STEP) if spread else at)
    limit = 0.0
    for at in reversed(range(len(spread))):
        spread[at] = max(spread[at], limit)
        limit = spread[at] + _LABEL_STEP
    for (at, text), place in zip(places, spread, strict=True):
        yield tag("path", d=f"M0 {at:.1f} L-6 {place:.1f}", class_="leader")
        yield tag("text", text, x=-9, y=min(place, high) + 4, class_="detail end")


def _plot(
    run: Run, name: str, high: int, title: str, about: str, curves: Sequence[Child], labels: Iterator[Markup]
) -> Markup:
    """A picture as wide as its column: labels in pixels, and the curves in an inner drawing that is stretched."""
    moments = [(_x(run, time_ns), word) for time_ns, word in _moments(run)]
    top = _ROW * len(moments) + 6
    inner = tag(
        "svg",
        _calm(run, high),
        *curves,
        *(line for x, _ in moments for line in _line([(x, 0), (x, high)], "moment")),
        y=top,
        width="100%",
        height=high,
        viewBox=f"0 0 {_WIDE} {high}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", about, id=f"{name}-desc"),
        tag("rect", x=0, y=top, width="100%", height=high, class_="tank"),
        inner,
        *(_moment(x, word, at, top) for at, (x, word) in enumerate(moments)),
        tag("g", *labels, transform=f"translate(0 {top})"),
        *_times(run, top + high),
        class_="plot",
        width="100%",
        height=top + high + _AXIS,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _calm(run: Run, high: int) -> Markup | None:
    x = _x(run, run.storm_ns)
    return rect(x, 0, _WIDE - x, high, "calm", "after the storm") if run.storm_ns < run.end_ns else None


def _moments(run: Run) -> list[tuple[int, str]]:
    """The moments that are marked, in the order of time; the end of the storm also where no milestone names it."""
    found = {name: milestone_ns(run, name) for name in MARKS}
    if found["storm_over"] is None:
        found["storm_over"] = run.storm_ns
    return sorted((time_ns, MARKS[name]) for name, time_ns in found.items() if time_ns is not None)


def _moment(x: float, word: str, row: int, top: int) -> Markup:
    """A word above the picture, and a thin stroke down to it: to the side where there is room."""
    y = _ROW * (row + 1) - 4
    right = x > _WIDE * 0.55
    percent = f"{100 * x / _WIDE:.1f}%"
    return tag(
        "g",
        tag("line", x1=percent, x2=percent, y1=y - 9, y2=top, class_="leader"),
        tag("text", word, x=percent, y=y, dx=-5 if right else 5, class_="detail end" if right else "detail"),
    )


def _times(run: Run, bottom: int) -> Iterator[Markup]:
    """Times below the picture: the ends, the end of the storm, and round ones between as there is room."""
    if run.end_ns <= 0:
        return
    kept: list[int] = []
    # The ends first, then where the scale changes, then round times from the finest on.
    fixed = [run.end_ns, 0, *(time_ns for time_ns, _ in knots(run)), run.storm_ns]
    for time_ns in (*fixed, *(one for part, _ in knots(run)[1:] for one in _round_times(part))):
        near = (abs(_x(run, time_ns) - _x(run, other)) for other in kept)
        if time_ns <= run.end_ns and all(gap >= _TICK_LEAST for gap in near):
            kept.append(time_ns)
    for time_ns in sorted(kept):
        x = _x(run, time_ns)
        look = (
            "detail"
            if x < _TICK_LEAST / 2
            else "detail end"
            if x > _WIDE - _TICK_LEAST / 2
            else "detail middle"
        )
        percent = f"{100 * x / _WIDE:.1f}%"
        yield tag("line", x1=percent, x2=percent, y1=bottom, y2=bottom + 5, class_="leader")
        yield tag("text", time_words(time_ns), x=percent, y=bottom + 17, class_=look)


def _round_times(part_ns: int) -> Iterator[int]:
    """Some four round times up to a time: steps of 1, 2 or 5 and zeros."""
    step = 1
    for factor in (1, 2, 5):
        size = factor
        while size * 10 <= part_ns / 3:
            size *= 10
        if size <= part_ns / 3:
            step = max(step, size)
    yield from range(step, part_ns, step)
