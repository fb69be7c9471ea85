"""Water gauges: how far memory may fall in a zone, who stops where, and what is left for block IO alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tidegate.report.markup import Child, Markup, tag
from tidegate.report.svg import WIDTH, drawing, fitted, rect
from tidegate.report.words import UNBOUNDED, zone_words
from tidegate.result import Reserve, ZoneLevels


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A mark on the gauge: its own number, and where it lies."""

    word: str
    pages: int  # as the kernel prints it
    at: int  # with what lies below it
    pointer: str = ""  # where the number stands in the JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What one gauge shows, in pages."""

    name: str  # unique on the page
    title: str
    managed: int
    free: int
    exclusive: int | None
    levels: tuple[Level, ...]  # lowest first
    pointer: str = ""  # of the zone in the JSON; empty for the sum of all
    need: int | None = None
    shows_need: bool = False


_TANK_X, _TANK_WIDTH, _TANK_TOP, _TANK_HEIGHT = 1, 104, 34, 230
_NEED_X, _NEED_WIDTH = _TANK_X + _TANK_WIDTH + 8, 26
_LABEL_X, _LABEL_STEP = 172, 19
_SCALE_MOST = 5  # the need may stretch the scale that far beyond the marks; then its bar leaves the picture


def zone_gauges(reserve: Reserve) -> list[Gauge]:
    """One gauge for all zones together, with the need beside it, then one for each zone that drivers take from."""
    # Movable memory has no floor: what drivers and protocols take cannot come from it.
    zones = [(at, zone) for at, zone in enumerate(reserve.zones) if zone.managed and zone.floor]
    made = [_zone_gauge(zone, at) for at, zone in zones]
    if not made:
        return []
    return [_all_zones([zone for _, zone in zones], reserve), *(made if len(made) > 1 else [])]


def _marks(zone: ZoneLevels) -> Iterator[tuple[str, int, int]]:
    """Field, number and place of each mark, lowest first, as an ordinary request of the highest zone meets it.

    mm/page_alloc.c:__zone_watermark_ok() adds lowmem_reserve to whatever watermark it compares with; floor
    holds it already, and min, low and high hold the boost.
    """
    below = zone.lowmem_reserve
    if below:
        yield "lowmem_reserve", below, min(below, zone.managed)
    if zone.floor:
        yield "floor", zone.floor, zone.floor
    for word, pages in (("min", zone.min), ("low", zone.low), ("high", zone.high)):
        yield word, pages, min(below + pages, zone.managed)


def _zone_gauge(zone: ZoneLevels, at: int) -> Gauge:
    pointer = f"/reserve/zones/{at}"
    return Gauge(
        name=f"zone{at}",
        title=zone_words(zone),
        managed=zone.managed,
        free=zone.free,
        exclusive=zone.exclusive,
        levels=tuple(
            Level(word=word, pages=pages, at=place, pointer=f"{pointer}/{word}")
            for word, pages, place in _marks(zone)
        ),
        pointer=pointer,
    )


def _all_zones(zones: Sequence[ZoneLevels], reserve: Reserve) -> Gauge:
    """Ordinary requests fall from zone to zone, so they stop at the sum of the zones' marks."""
    sums: dict[str, int] = {}
    for zone in zones:
        for word, _, place in _marks(zone):
            if word != "lowmem_reserve":
                sums[word] = sums.get(word, 0) + place
    one = len(zones) == 1
    return Gauge(
        name="zones",
        title=zone_words(zones[0]) if one else "all zones together",
        managed=sum(zone.managed for zone in zones),
        free=sum(zone.free for zone in zones),
        exclusive=reserve.exclusive_pages,
        levels=tuple(Level(word=word, pages=place, at=place) for word, place in sums.items()),
        need=reserve.need_pages,
        shows_need=True,
    )


def gauge_svg(gauge: Gauge) -> Markup:
    """The bottom of the tank, where it is decided: water is free memory, marks are who has to stop where."""
    top = _scale(gauge)
    base = _TANK_TOP + _TANK_HEIGHT

    def y(pages: float) -> float:
        return base - _TANK_HEIGHT * min(max(pages, 0), top) / top

    children: list[Child] = [
        tag("text", fitted(gauge.title, WIDTH), x=_TANK_X, y=13, class_="name"),
        rect(_TANK_X, _TANK_TOP, _TANK_WIDTH, _TANK_HEIGHT, "tank"),
        rect(
            _TANK_X, y(gauge.free), _TANK_WIDTH, base - y(gauge.free), "water", f"free: {gauge.free:,} pages"
        ),
    ]
    if gauge.exclusive:
        at = y(gauge.exclusive)
        about = f"only block IO can take this: {gauge.exclusive:,} pages"
        children.append(rect(_TANK_X, at, _TANK_WIDTH, base - at, "kept", about))
    if gauge.shows_need:
        children += _need(gauge, top, y)
    children += _labels(gauge, y, base)
    return drawing(gauge.name, base + 12, f"Water gauge: {gauge.title}", _in_words(gauge), *children)


def _scale(gauge: Gauge) -> float:
    marks = max((level.at for level in gauge.levels), default=0)
    marks = max(marks, gauge.exclusive or 0, 1)
    need = gauge.need if gauge.shows_need and gauge.need is not None else 0
    return 1.12 * max(marks, min(need, _SCALE_MOST * marks))


def _need(gauge: Gauge, top: float, y: Callable[[float], float]) -> Iterator[Child]:
    """The need beside the tank: what the exclusive part holds of it, and what it does not."""
    base = _TANK_TOP + _TANK_HEIGHT
    held = y(gauge.exclusive or 0)
    need_top = float(_TANK_TOP) if gauge.need is None else y(gauge.need)
    about = f"need: {UNBOUNDED if gauge.need is None else f'{gauge.need:,} pages'}"
    yield rect(_NEED_X, max(held, need_top), _NEED_WIDTH, base - max(held, need_top), "held", about)
    if need_top < held:
        yield rect(_NEED_X, need_top, _NEED_WIDTH, held - need_top, "over", about)
    if gauge.need is None or gauge.need > top:
        x = _NEED_X + _NEED_WIDTH / 2
        yield tag("path", d=f"M{x - 8} {_TANK_TOP - 1} l8 -9 l8 9 z", class_="over")
    yield tag("text", "need", x=_NEED_X + _NEED_WIDTH / 2, y=base + 11, class_="detail middle")
    yield tag(
        "text",
        "zone" if gauge.pointer else "zones",
        x=_TANK_X + _TANK_WIDTH / 2,
        y=base + 11,
        class_="detail middle",
    )


def _labels(gauge: Gauge, y: Callable[[float], float], base: float) -> Iterator[Child]:
    """Marks with their numbers, spread so that none covers another."""
    free_at = min(gauge.free, gauge.managed)
    marks = [(y(level.at), level.word, f"{level.pages:,}", level.pointer, "mark") for level in gauge.levels]
    pointer = f"{gauge.pointer}/free" if gauge.pointer else ""
    marks.append((y(free_at), "free", f"{gauge.free:,}", pointer, "mark level"))
    if gauge.shows_need:
        need = UNBOUNDED if gauge.need is None else f"{gauge.need:,}"
        top = float(_TANK_TOP) if gauge.need is None else y(gauge.need)
        marks.append((top, "need", need, "/reserve/need_pages", ""))
    marks.sort(key=lambda mark: -mark[0])
    places = _spread([mark[0] for mark in marks], base)
    edge = _NEED_X + _NEED_WIDTH + 4 if gauge.shows_need else _TANK_X + _TANK_WIDTH + 4
    for (at, word, number, where, class_), place in zip(marks, places, strict=True):
        if class_:
            yield tag("path", d=f"M{_TANK_X} {at:.1f} h{_TANK_WIDTH}", class_=class_)
        yield tag("path", d=f"M{edge} {at:.1f} L{_LABEL_X - 4} {place:.1f}", class_="leader")
        value = gauge.free if word == "free" else gauge.need or 0
        above = " ↑" if word in {"free", "need"} and value > _scale(gauge) else ""
        yield tag(
            "text",
            tag("tspan", word, class_="kind"),
            " ",
            tag("tspan", number, class_="number", data_at=where or None),
            above,
            x=_LABEL_X,
            y=place + 4,
        )


def _spread(places: Sequence[float], base: float) -> list[float]:
    """Heights a line apart, lowest first as given: pushed up where they are close, then down from the top."""
    spread: list[float] = []
    for place in places:
        spread.append(min(place, spread[-1] - _LABEL_STEP) if spread else min(place, base))
    highest = float(_TANK_TOP)
    for at in reversed(range(len(spread))):
        spread[at] = max(spread[at], highest)
        highest = spread[at] + _LABEL_STEP
    return spread


def _in_words(gauge: Gauge) -> str:
    marks = ", ".join(f"{level.word} {level.pages:,}" for level in reversed(gauge.levels))
    kept = "not known" if gauge.exclusive is None else f"{gauge.exclusive:,}"
    words = f"pages: {gauge.managed:,} managed, {gauge.free:,} free, {marks}; {kept} for block IO alone"
    if not gauge.shows_need:
        return words
    return f"{words}, which may need {UNBOUNDED if gauge.need is None else f'{gauge.need:,}'}"
