"""`simulate --html FILE`: a run as one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tidegate.report.markup import Child, Markup, join, tag
from tidegate.report.page import code, folded, number, page, section, table
from tidegate.report.simulate_svg import (
    bands,
    last_pages_svg,
    progress_svg,
    scales_words,
    stack_svg,
    thinned,
)
from tidegate.report.simulate_words import (
    FREE,
    LOOK,
    MARKS,
    MEANS,
    PAGE_BYTES,
    STORY,
    WHY,
    after_words,
    command_words,
    delay_words,
    drop_rows,
    facts_words,
    free_pages,
    gap_words,
    held_words,
    lost_percent,
    low_waters,
    machine_words,
    milestone_ns,
    other_words,
    percent_words,
    seeds_words,
    time_words,
    told_run,
    tried_words,
)
from tidegate.report.words import counted, pages_words, sentence
from tidegate.simulation import Run, Sample, Simulated, Word

_NAMES = {
    "story": "Step by step",
    "picture": "Who holds the pages",
    "progress": "Progress",
    "memory": "Memory",
    "traffic": "Packets",
    "seeds": "Seeds",
}
_ROWS = 200  # of each table; the rest is counted, and stands in the JSON
_END = {Word.STUCK: "way", Word.LUCKY: "way unsure", Word.REFUSED: "way unsure", Word.SEEN: "way good"}
Named = tuple[str, Markup] | None


def simulate_html(result: Simulated) -> str:
    """The page of one arm: the first run that earned the word in full, the other seeds as a table."""
    run = told_run(result)
    at = f"/runs/{result.runs.index(run)}"
    sections = (
        _story(run),
        _picture(run, at),
        _progress(run, at),
        _memory(run, at),
        _traffic(run, at),
        _seeds(result, run, at),
    )
    shown = [one for one in sections if one is not None]
    title = f"{result.word}: {tried_words(run)}: {sentence(result.claim)}"
    return page(
        title, _head(result, run, at, [name for name, _ in shown]), [made for _, made in shown], _foot(result)
    )


def _named(name: str, *children: Child) -> tuple[str, Markup]:
    return name, section(name, _NAMES[name], *children)


def _head(result: Simulated, run: Run, at: str, names: Sequence[str]) -> Child:
    word = tag("span", result.word.value, class_=f"pill {LOOK[result.word]}", data_at="/word")
    others = other_words(result)
    return (
        tag(
            "h1", word, " ", seeds_words(result), ": ", tag("span", sentence(result.claim), data_at="/claim")
        ),
        tag("p", sentence(machine_words(run)), class_="quiet"),
        tag("p", tag("strong", tag("span", sentence(run.reason), data_at=f"{at}/reason")))
        if run.reason
        else None,
        tag("p", WHY),
        tag("p", f"Other seeds: {others}.") if others else None,
        _tiles(result, run, at),
        tag(
            "nav",
            *(tag("a", _NAMES[name], href=f"#{name}") for name in names),
            aria_label="Parts of this page",
        ),
    )


def _tiles(result: Simulated, run: Run, at: str) -> Markup:
    """The numbers that matter."""
    done, _ = after_words(run)
    tiles: list[tuple[str, Child, str]] = [
        (
            f"seeds that are {result.word}",
            join((number(result.k, f"{result.k:,}", "/k"), " of ", number(result.n, f"{result.n:,}", "/n"))),
            MEANS[result.word],
        ),
        (
            "longest without progress",
            _time(run.gap_ns, f"{at}/gap_ns"),
            f"all completed after the storm: {done}",
        ),
        ("packets of others lost", percent_words(lost_percent(run.foreign)), ""),
        (
            "reserve whole after the storm",
            number(run.clear_ns, delay_words(run.clear_ns), f"{at}/clear_ns"),
            "",
        ),
    ]
    if FREE in run.low_water:
        least = run.low_water[FREE]
        value = number(least, pages_words(least, PAGE_BYTES), f"{at}/low_water/{FREE}")
        tiles.insert(2, ("fewest free pages", value, f"atomic floor {run.atomic_floor_pages:,}"))
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))
            for name, value, more in tiles
        ),
        class_="tiles",
    )


def _time(time_ns: int | None, pointer: str) -> Child:
    """A virtual time, its nanoseconds exact in the element."""
    return number(time_ns, time_words(time_ns), pointer)


def _pages(pages: int, pointer: str) -> Child:
    return number(pages, f"{pages:,}", pointer)


def _story(run: Run) -> Named:
    if not run.milestones:
        return None
    steps = [
        tag(
            "li",
            tag("strong", time_words(one.time_ns)),
            ": ",
            sentence(one.text),
            tag("span", facts_words(one), class_="more") if facts_words(one) else None,
        )
        for one in run.milestones[:_ROWS]
    ]
    about = f"{STORY[run.word]}, seed {run.seed}. Times are virtual."
    return _named(
        "story",
        tag("p", about, class_="quiet"),
        tag("ol", *steps, class_=_END[run.word]),
        _rest(len(run.milestones) - len(steps), "steps"),
    )


# The picture, and its numbers


def _picture(run: Run, at: str) -> Named:
    if not run.samples:
        return None
    about = (
        "All pages of the machine, by who holds them; free pages lie at the bottom. The dashed lines are the "
        "watermarks: below low, kswapd writes pages out; below min, programs wait; at the floor, a driver gets "
        f"no more buffers. After the storm the ground is grey. {scales_words(run)}"
    )
    last = (
        "The same free pages, enlarged, against the watermarks. The red line is the pages of the reserve that are "
        "withdrawn."
    )
    return _named(
        "picture",
        tag("p", about.strip()),
        stack_svg(run),
        _legend(run),
        tag("h3", "The last free pages"),
        tag("p", last, class_="quiet"),
        last_pages_svg(run),
        tag("h3", "Requests completed"),
        progress_svg(run),
        folded("The pictures in numbers", _moments_table(run, at), _levels_table(run, at)),
    )


def _legend(run: Run) -> Markup:
    """From the top of the stack to the bottom, as it is drawn."""
    shown = reversed(bands(run, thinned(run)))
    return tag("ul", *(tag("li", _swatch(band.look), band.name) for band in shown), class_="legend")


def _swatch(look: str) -> Markup:
    return tag("span", class_=f"swatch {look}", aria_hidden="true")


def _moments_table(run: Run, at: str) -> Markup:
    """Each holder at the moments that decide."""
    moments = list(_moments(run))
    heads = ("holder", *(f"{word} ({time_words(run.samples[place].time_ns)})" for word, place in moments))
    looks = {band.name: band.look for band in bands(run, thinned(run))}
    rows: list[Sequence[Child]] = []
    for holder, name in enumerate(run.holders[:_ROWS]):
        cells = [
            _pages(run.samples[place].held[holder], f"{at}/samples/{place}/held/{holder}")
            for _, place in moments
        ]
        swatch = _swatch(looks[name]) if name in looks else None
        rows.append((join((swatch, name)), *cells))
    counts: tuple[tuple[str, Callable[[Sample], int]], ...] = (
        ("reserve_out", lambda one: one.reserve_out),
        ("completed", lambda one: one.completed),
    )
    words = {"reserve_out": "reserve pages that are out", "completed": "requests completed"}
    for field, count in counts:
        cells = [_pages(count(run.samples[place]), f"{at}/samples/{place}/{field}") for _, place in moments]
        rows.append((words[field], *cells))
    return table("Pages by holder", heads, rows, numbers=range(1, len(heads)))


def _moments(run: Run) -> Iterator[tuple[str, int]]:
    """Moments and their sample: the first not before a milestone, and the one with the fewest pages free."""
    last = len(run.samples) - 1
    least = min(range(last + 1), key=lambda place: free_pages(run, run.samples[place]) or 0)
    wanted = [("start", 0), ("end", last)]
    if FREE in run.holders:
        wanted.append(("fewest free", least))
    for name, word in MARKS.items():
        time_ns = milestone_ns(run, name)
        if time_ns is not None:
            place = next((place for place, one in enumerate(run.samples) if one.time_ns >= time_ns), last)
            wanted.append((word, place))
    places: dict[int, list[str]] = {}
    for word, place in sorted(wanted, key=lambda one: one[1]):
        places.setdefault(place, []).append(word)
    for place, words in places.items():
        yield ", ".join(words), place


def _levels_table(run: Run, at: str) -> Markup:
    levels = (
        ("high", run.wmark_high_pages, "wmark_high_pages", "kswapd sleeps again"),
        ("low", run.wmark_low_pages, "wmark_low_pages", "kswapd is woken"),
        ("min", run.wmark_min_pages, "wmark_min_pages", "programs wait for reclaim"),
        ("floor", run.atomic_floor_pages, "atomic_floor_pages", "GFP_ATOMIC fails: 3/8 of min"),
        ("reserve", run.reserve_pages, "reserve_pages", "what the design keeps for block IO"),
    )
    rows = [(word, _pages(pages, f"{at}/{field}"), what) for word, pages, field, what in levels]
    return table("Lines in the pictures", ("line", "pages", "there"), rows, numbers=(1,))


# Numbers


def _progress(run: Run, at: str) -> Named:
    done, clear = after_words(run)
    rows = [
        (
            user.name,
            tag(
                "span", user.word.value, class_=f"pill {LOOK[user.word]}", data_at=f"{at}/users/{place}/word"
            ),
            _pages(user.admitted, f"{at}/users/{place}/admitted"),
            _pages(user.completed, f"{at}/users/{place}/completed"),
            _pages(user.waiting, f"{at}/users/{place}/waiting"),
            _time(user.gap_ns, f"{at}/users/{place}/gap_ns"),
            _time(user.gap_from_ns, f"{at}/users/{place}/gap_from_ns"),
            _time(user.latency_ns, f"{at}/users/{place}/latency_ns"),
        )
        for place, user in enumerate(run.users[:_ROWS])
    ]
    heads = ("block user", "word", "admitted", "completed", "waiting", "longest gap", "from", "mean latency")
    return _named(
        "progress",
        tag("p", sentence(f"Longest time without progress: {gap_words(run)}")),
        tag(
            "p",
            f"After the storm, until nobody waited: {done}; until no page of the reserve was out: {clear}.",
        ),
        table("Block users", heads, rows, numbers=range(2, 8)) if rows else None,
        _rest(len(run.users) - len(rows), "users"),
    )


def _memory(run: Run, at: str) -> Named:
    waters = list(low_waters(run))
    rows = [
        (one.pool, f"{one.least:,}", f"{one.line} {one.line_at:,}" if one.line_at else one.line, one.so)
        for one in waters[:_ROWS]
    ]
    held = [
        (
            one.holder,
            number(one.page_ns, held_words(one.page_ns), f"{at}/holdings/{place}/page_ns"),
            _time(one.longest_ns, f"{at}/holdings/{place}/longest_ns"),
            _pages(one.packets, f"{at}/holdings/{place}/packets"),
            _pages(one.at_end_pages, f"{at}/holdings/{place}/at_end_pages"),
        )
        for place, one in enumerate(run.holdings[:_ROWS])
    ]
    heads = ("holder", "page seconds", "longest stay", "packets", "pages at the end")
    caption = "Who held the reserve, and for how long"
    nobody = (
        tag("p", "Nobody held the reserve: no packet's memory came from it.") if run.reserve_pages else None
    )
    children = (
        table("Low water of each pool", ("pool", "least", "its line", "so"), rows, numbers=(1,))
        if rows
        else None,
        _rest(len(waters) - len(rows), "pools"),
        table(caption, heads, held, numbers=range(1, 5)) if held else nobody,
        _rest(len(run.holdings) - len(held), "holders"),
    )
    return _named("memory", *children) if any(children) else None


def _traffic(run: Run, at: str) -> Named:
    foreign = [
        (name, _pages(packets, f"{at}/foreign/{_escaped(name)}"))
        for name, packets in list(run.foreign.items())[:_ROWS]
    ]
    lost = percent_words(lost_percent(run.foreign))
    drops = drop_rows(run)
    reasons = [(name, f"{packets:,}", f"{block:,}") for name, packets, block in drops[:_ROWS]]
    if not (foreign or reasons):
        return None
    heads = ("reason", "packets", "of block IO")
    return _named(
        "traffic",
        table(f"Packets of others: {lost} lost", ("packets", "number"), foreign, numbers=(1,))
        if foreign
        else None,
        table("Drops by reason", heads, reasons, numbers=(1, 2))
        if reasons
        else tag("p", "Nothing was dropped."),
        _rest(len(drops) - len(reasons), "reasons"),
    )


def _escaped(name: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _seeds(result: Simulated, run: Run, at: str) -> Named:
    rows = [
        (
            str(one.seed),
            tag("span", one.word.value, class_=f"pill {LOOK[one.word]}", data_at=f"/runs/{place}/word"),
            _time(one.gap_ns, f"/runs/{place}/gap_ns"),
            _time(one.complete_ns, f"/runs/{place}/complete_ns"),
            _time(one.clear_ns, f"/runs/{place}/clear_ns"),
        )
        for place, one in enumerate(result.runs[:_ROWS])
    ]
    heads = ("seed", "word", "longest gap", "all completed", "reserve whole")
    steps = [
        (code(name), _pages(times, f"{at}/steps/{_escaped(name)}"))
        for name, times in list(run.steps.items())[:_ROWS]
    ]
    caption = f"Seed {run.seed}: {counted(run.events, 'event')} of the clock"
    return _named(
        "seeds",
        table("Times after the storm, but for the gap", heads, rows, numbers=(2, 3, 4)),
        _rest(len(result.runs) - len(rows), "seeds"),
        folded("How often each step was taken", table(caption, ("step", "times"), steps, numbers=(1,)))
        if steps
        else None,
        tag("p", "To repeat the run that is told here: ", code(command_words(result))),
    )


def _rest(left: int, what: str) -> Child:
    return (
        tag("p", f"and {left:,} more {what}, all of them in simulate --json", class_="quiet")
        if left > 0
        else None
    )


def _foot(result: Simulated) -> Iterator[Child]:
    yield tag("p", *(join((f"{word}: {MEANS[word]}.", " ")) for word in Word))
    yield tag(
        "p", f"Made by tidegate simulate --html from the same result as simulate --json ({result.schema})."
    )
