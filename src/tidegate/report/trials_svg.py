"""The drawings of the page of trials: the interval in a cell, a trial over guest time, a sweep.

Each is narrower than a phone's column, so that none is ever scaled down and three stand beside each other on a desktop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tidegate.report.markup import Child, Markup, tag
from tidegate.report.svg import drawing, rect
from tidegate.report.trials_words import counts_words, interval_words, percent
from tidegate.trial import Second, Tally, TrialResult

BAR_WIDE, _BAR_HIGH = 120, 12
WIDTH = 316
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 4, 10, 26  # room for numbers around a plot
_HIGH = 150
_LINE = 13  # between two numbers
_POINTS = 240  # more than such a plot has room for
_SLACK_TOP = 4  # floors: what is far above the floor decides nothing

FREE = "Free pages, and pages held by sockets"
SLACK = "Pages above the floor (slack)"
DONE = "Progress: steps done, pages swapped"

Point = tuple[float, float]
Scale = Callable[[float], float]


# A cell


def interval_svg(tally: Tally) -> Markup:
    """The interval of the share that fails, from 0 to 100 %, and the share itself as a stroke.

    The numbers stand beside it, so it is no picture of its own for who cannot see it.
    """
    children: list[Child] = [tag("rect", x=0, y=3, width=BAR_WIDE, height=_BAR_HIGH - 6, class_="tank")]
    if tally.n:
        low, high = BAR_WIDE * tally.failed_low, BAR_WIDE * tally.failed_high
        at = min(max(BAR_WIDE * tally.failed / tally.n - 1.5, 0), BAR_WIDE - 3)
        children += [
            rect(low, 3, max(high - low, 2), _BAR_HIGH - 6, "between"),
            rect(at, 0, 3, _BAR_HIGH, "share"),
        ]
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {BAR_WIDE} {_BAR_HIGH}",
        width=BAR_WIDE,
        height=_BAR_HIGH,
        aria_hidden="true",
    )


# A trial


def trial_svgs(result: TrialResult, name: str) -> Iterator[tuple[str, Markup]]:
    """Free pages with the floor, what is left above the floor, and progress, each with its caption.

    Nothing without counters.
    """
    if len(result.seconds) < 2:
        return
    seconds = thinned(result.seconds)
    yield FREE, _free(result, seconds, f"{name}-free")
    yield SLACK, _slack(result, seconds, f"{name}-slack")
    yield DONE, _progress(result, seconds, f"{name}-done")


def thinned(seconds: Sequence[Second]) -> tuple[Second, ...]:
    """At most as many moments as can be seen: of those that fall together, the one with the least slack."""
    if len(seconds) <= _POINTS:
        return tuple(seconds)
    parts = _POINTS - 2
    inner = seconds[1:-1]
    kept = (
        min(inner[len(inner) * at // parts : len(inner) * (at + 1) // parts], key=lambda one: one.slack_pages)
        for at in range(parts)
    )
    return (seconds[0], *kept, seconds[-1])


def storm_ms(seconds: Sequence[Second]) -> tuple[int, int] | None:
    """From when to when the storm is seen: sockets held more pages than at the start and than a tenth of the most."""
    held = [one.udp_mem_pages + one.tcp_mem_pages for one in seconds]
    line = max(max(held) / 10, held[0] + 16)
    seen = [one.guest_ms for one, pages in zip(seconds, held, strict=True) if pages > line]
    return (seen[0], seen[-1]) if seen else None


def _free(result: TrialResult, seconds: Sequence[Second], name: str) -> Markup:
    floor = sum(one.floor_pages for one in result.zones)
    held = [one.udp_mem_pages + one.tcp_mem_pages for one in seconds]
    free = [one.free_pages for one in seconds]
    top = max(*free, *held, floor, 1)
    x, y = _across(seconds), _up(0, top)
    edge = [(x(one.guest_ms), y(one.free_pages)) for one in seconds]
    children: list[Child] = [
        tag("path", d=f"{_path([(edge[0][0], y(0)), *edge, (edge[-1][0], y(0))])} Z", class_="water"),
        tag("path", d=_path(edge), class_="mark level"),
        tag(
            "path",
            d=_path([(x(one.guest_ms), y(pages)) for one, pages in zip(seconds, held, strict=True)]),
            class_="held-line",
        ),
    ]
    levels = [(0.0, ""), (float(top), "")]
    if floor:
        children.append(tag("path", d=f"M{_LEFT} {y(floor):.1f} H{WIDTH - _RIGHT}", class_="mark floor"))
        levels.append((float(floor), "floor"))
    storm = storm_ms(seconds)
    seen = f"; the storm is seen from {storm[0] / 1000:.0f} to {storm[1] / 1000:.0f} s" if storm else ""
    about = (
        f"free pages from {free[0]:,} to {free[-1]:,}, least {min(free):,}; floor {floor:,}; "
        f"held by sockets at most {max(held):,}{seen}"
    )
    return _plot(name, FREE, about, seconds, levels, y, children)


def _slack(result: TrialResult, seconds: Sequence[Second], name: str) -> Markup:
    slack = [one.slack_pages for one in seconds]
    floor = max((one.floor_pages for one in result.zones), default=0)
    least = min(*slack, 0)
    top = max(min(max(slack), max(_SLACK_TOP * floor, -2 * least, 64)), 1)
    x, y = _across(seconds), _up(least, top)
    curve = [(x(one.guest_ms), y(min(one.slack_pages, top))) for one in seconds]
    children: list[Child] = [
        tag("path", d=f"M{_LEFT} {y(0):.1f} H{WIDTH - _RIGHT}", class_="mark floor"),
        tag("path", d=_path(curve), class_="slack-line"),
    ]
    levels = [(0.0, "floor"), (float(top), ""), *([(float(least), "")] if least < 0 else [])]
    under = sum(one < 0 for one in slack)
    about = f"least {min(slack):,} pages above the floor; {under} of {len(slack)} moments below it; cut off at {top:,}"
    return _plot(name, SLACK, about, seconds, levels, y, children)


def _progress(result: TrialResult, seconds: Sequence[Second], name: str) -> Markup:
    most = max(result.wanted_pages, seconds[-1].done_pages, 1)
    swapped = max(max(one.swapped_out_pages, one.swapped_in_pages) for one in seconds)
    top = max(most, swapped)
    x, y = _across(seconds), _up(0, top)
    curves: tuple[tuple[str, Callable[[Second], int]], ...] = (
        ("out-line", lambda one: one.swapped_out_pages),
        ("in-line", lambda one: one.swapped_in_pages),
        ("done", lambda one: one.done_pages),
    )
    children: list[Child] = [
        tag("path", d=_path([(x(one.guest_ms), y(of(one))) for one in seconds]), class_=look)
        for look, of in curves
    ]
    levels = [(0.0, ""), (float(top), "")]
    if result.wanted_pages:
        children.append(
            tag("path", d=f"M{_LEFT} {y(result.wanted_pages):.1f} H{WIDTH - _RIGHT}", class_="mark")
        )
        levels.insert(0, (float(result.wanted_pages), "all"))
    last = seconds[-1]
    about = (
        f"done {last.done_pages:,} of {result.wanted_pages:,} pages; swapped out {last.swapped_out_pages:,}, "
        f"in {last.swapped_in_pages:,}; longest stall {result.longest_stall_ms / 1000:.1f} s"
    )
    return _plot(name, DONE, about, seconds, levels, y, children)


def _plot(
    name: str,
    title: str,
    about: str,
    seconds: Sequence[Second],
    levels: Sequence[tuple[float, str]],
    y: Scale,
    curves: Sequence[Child],
) -> Markup:
    """A frame with the time below, numbers to the left, and the storm as grey ground."""
    x = _across(seconds)
    storm = storm_ms(seconds)
    ground = (
        rect(x(storm[0]), _TOP, max(x(storm[1]) - x(storm[0]), 2), _HIGH, "calm", "the storm")
        if storm
        else None
    )
    frame = tag("rect", x=_LEFT, y=_TOP, width=WIDTH - _LEFT - _RIGHT, height=_HIGH, class_="tank")
    times = (
        (x(seconds[0].guest_ms), f"{seconds[0].guest_ms / 1000:.0f} s", "detail"),
        (x(seconds[-1].guest_ms), f"{seconds[-1].guest_ms / 1000:.0f} s", "detail end"),
    )
    word = (
        tag("text", "storm", x=(x(storm[0]) + x(storm[1])) / 2, y=_TOP + _HIGH + 15, class_="detail middle")
        if storm
        else None
    )
    return drawing(
        name,
        _TOP + _HIGH + _BOTTOM,
        title,
        about,
        frame,
        ground,
        *curves,
        *_numbers(levels, y),
        *(tag("text", text, x=at, y=_TOP + _HIGH + 15, class_=look) for at, text, look in times),
        word,
        width=WIDTH,
    )


# A sweep


def sweep_svg(name: str, key: str, tallies: Sequence[Tally], look: str) -> Markup:
    """The share that fails over the values of one number, in even steps, each with its interval."""
    y = _up(0, 100)
    step = (WIDTH - _LEFT - _RIGHT) / max(len(tallies), 1)
    children: list[Child] = [
        tag("rect", x=_LEFT, y=_TOP, width=WIDTH - _LEFT - _RIGHT, height=_HIGH, class_="tank"),
        tag("path", d=f"M{_LEFT} {y(50):.1f} H{WIDTH - _RIGHT}", class_="mark"),
    ]
    middle: list[Point] = []
    for at, one in enumerate(tallies):
        x = _LEFT + step * (at + 0.5)
        if one.n:
            low, high, share = (100 * one.failed_low, 100 * one.failed_high, 100 * one.failed / one.n)
            about = f"{key} {one.sweep[key]:,}: {counts_words(one)}; share that fails {interval_words(one)}"
            children += [
                rect(x - 5, y(high), 10, y(low) - y(high), f"between {look}", about),
                tag("circle", tag("title", about), cx=x, cy=y(share), r=4.5, class_=look),
            ]
            middle.append((x, y(share)))
        text = short_number(one.sweep[key])
        children.append(tag("text", text, x=x, y=_TOP + _HIGH + 15, class_="detail middle"))
    if middle:
        children.insert(2, tag("path", d=_path(middle), class_="sweep-line"))
    told = "; ".join(f"{one.sweep[key]:,}: {one.failed}/{one.n}" for one in tallies)
    return drawing(
        name,
        _TOP + _HIGH + _BOTTOM,
        f"{tallies[0].arm}: share that fails over {key}",
        f"in percent, with intervals; failed of counted: {told}",
        *children,
        *_numbers([(0, ""), (50, ""), (100, "%")], y),
        width=WIDTH,
    )


def short_number(value: int) -> str:
    """`50k`, as there is little room below a plot."""
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if value >= size and value % (size // 10) == 0:
            return f"{value / size:g}{sign}"
    return str(value)


# What things are made of


def _across(seconds: Sequence[Second]) -> Scale:
    first, last = seconds[0].guest_ms, max(seconds[-1].guest_ms, seconds[0].guest_ms + 1)
    return lambda ms: _LEFT + (WIDTH - _LEFT - _RIGHT) * (ms - first) / (last - first)


def _up(least: float, top: float) -> Scale:
    return lambda value: _TOP + _HIGH * (top - value) / (top - least)


def _path(points: Sequence[Point]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _numbers(levels: Sequence[tuple[float, str]], y: Scale) -> Iterator[Markup]:
    """Numbers left of the plot, a line apart, and below its upper edge; of one height the first only."""
    named = dict(reversed(levels))
    places: list[float] = []
    for value in sorted(named):
        places.append(min(y(value) + 4, places[-1] - _LINE if places else y(value) + 4))
    least = _TOP + 4.0
    for at in reversed(range(len(places))):
        places[at] = max(places[at], least)
        least = places[at] + _LINE
    for value, place in zip(sorted(named), places, strict=True):
        text = f"{value:.0f} %" if named[value] == "%" else f"{named[value]} {value:,.0f}".strip()
        yield tag("text", text, x=_LEFT - 5, y=place, class_="detail end")


def shade(tally: Tally) -> str:
    """A class of the style sheet: how large the share is, in fifths; nothing where nothing was counted."""
    return f"s{min(percent(tally.failed / tally.n) // 20, 4)}" if tally.n else "none"
