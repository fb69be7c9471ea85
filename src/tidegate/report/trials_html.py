"""`report --html FILE`: trials as one self-contained page, from the matrix down to the evidence of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from tidegate.report.markup import Child, Markup, join, tag, trusted
from tidegate.report.page import code as shown_code
from tidegate.report.page import folded, number, page, section, table
from tidegate.report.svg import COLOURS
from tidegate.report.trials_style import styled
from tidegate.report.trials_svg import interval_svg, shade, sweep_svg, trial_svgs
from tidegate.report.trials_words import (
    LOOK,
    MEANS,
    NO_MARGIN,
    Cell,
    Evidence,
    EvidenceFile,
    Place,
    counts_words,
    expected_words,
    interval_words,
    is_stale,
    kernel_words,
    look_of,
    margin_words,
    matrix,
    met_look,
    met_word,
    ms_words,
    p_words,
    place_words,
    share_words,
    stale_words,
    summary_words,
    trial_command,
    verdict_counts,
)
from tidegate.report.words import counted, sentence
from tidegate.trial import Tally, TrialResult, Trials, Verdict
from tidegate.units import human_bytes

_NAMES = {"matrix": "Matrix", "sweeps": "Sweeps", "unmet": "Not as expected", "cells": "Every cell and trial"}
_WHAT = (
    "Each cell says how many trials failed (PANIC, WEDGED, OOM) of those that count, and in brackets the interval in "
    "which the true share lies (Wilson, 95 %). Each trial is a fresh boot of an unmodified kernel. Trials that say "
    "nothing about the kernel (INCONCLUSIVE, LOST) are listed and not counted."
)
_LEGEND = (
    ("water", "free pages"),
    ("held-line", "pages held by sockets (udp and tcp)"),
    ("slack-line", "pages above the floor"),
    ("done", "steps of the load done"),
    ("out-line", "pages swapped out"),
    ("in-line", "pages swapped in"),
)
Named = tuple[str, Markup] | None
_NEWLINE = trusted("\n")


def trials_html(trials: Trials, evidence: Evidence | None = None, *, code: str | None = None) -> str:
    """The page. `evidence`: the files of each bundle, by TrialResult.evidence; `code`: hash of the present rig."""
    arms, rows = matrix(trials)
    sections = (
        _matrix(arms, rows),
        _sweeps(arms, rows),
        _not_met(rows),
        _cells(rows, evidence or {}, code),
    )
    shown = [one for one in sections if one is not None]
    head = _head(trials, [name for name, _ in shown], code)
    title = f"tidegate: {sentence(summary_words(trials))}"
    return styled(page(title, head, [made for _, made in shown], _foot(trials)))


def _named(name: str, *children: Child) -> tuple[str, Markup]:
    return name, section(name, _NAMES[name], *children)


def _head(trials: Trials, names: Sequence[str], code: str | None) -> Child:
    look = look_of(trials)
    words = {"bad": "NOT AS EXPECTED", "unsure": "CANNOT TELL", "good": "AS EXPECTED", "quiet": "TRIALS"}
    stale = stale_words(sum(is_stale(one, code) for one in trials.results))
    return (
        tag(
            "h1",
            tag("span", words[look], class_=f"pill {'note' if look == 'quiet' else look}"),
            " ",
            sentence(summary_words(trials)),
        ),
        tag("p", _WHAT),
        tag("p", tag("strong", sentence(stale))) if stale else None,
        _tiles(trials),
        tag(
            "nav",
            *(tag("a", _NAMES[name], href=f"#{name}") for name in names),
            aria_label="Parts of this page",
        )
        if names
        else None,
    )


def _tiles(trials: Trials) -> Markup:
    tallies = trials.tallies
    total = sum(sum(one.counts.values()) for one in tallies)
    n = sum(one.n for one in tallies)
    kernels = dict.fromkeys(one.kernel for one in trials.results)
    expecting = [one for one in tallies if one.expected is not None]
    tiles = (
        ("trials", f"{total:,}", f"{n:,} counted"),
        ("failed", f"{sum(one.failed for one in tallies):,}", "PANIC, WEDGED, OOM"),
        ("not counted", f"{total - n:,}", "INCONCLUSIVE, LOST"),
        ("arms as expected", f"{sum(one.met is True for one in expecting):,} of {len(expecting):,}", ""),
        ("kernels", f"{len(kernels):,}", ", ".join(list(kernels)[:3])),
    )
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))
            for name, value, more in tiles
        ),
        class_="tiles",
    )


# The matrix


def _matrix(arms: Sequence[str], rows: Mapping[Place, Mapping[str, Cell]]) -> Named:
    """Roles are written out as in page.table, since a phone lays the cells out as blocks."""
    if not rows:
        return None
    head = tag(
        "tr", *(tag("th", word, scope="col", role="columnheader") for word in ("place", *arms)), role="row"
    )
    body = (
        tag(
            "tr",
            tag("th", place_words(place), scope="row", role="rowheader"),
            *(_cell(arm, row.get(arm)) for arm in arms),
            role="row",
        )
        for place, row in rows.items()
    )
    caption = (
        "Trials that failed of those that count, by place and arm; the bar is the interval from 0 to 100 %"
    )
    return _named(
        "matrix",
        tag(
            "div",
            tag(
                "table",
                tag("caption", caption),
                tag("thead", head, role="rowgroup"),
                tag("tbody", *body, role="rowgroup"),
                role="table",
                class_="matrix",
            ),
            class_="wide",
            role="region",
            aria_label="The matrix; it may be wider than the window",
            tabindex="0",
        ),
    )


def _cell(arm: str, cell: Cell | None) -> Markup:
    if cell is None:
        return tag("td", role="cell", data_head=arm)
    tally = cell.tally
    more = cell.trials - tally.n
    return tag(
        "td",
        tag("a", *_share(cell), href=f"#cell-{cell.at}", aria_label=f"{arm}: {counts_words(tally)}"),
        interval_svg(tally),
        tag("span", margin_words(tally) + (f"; {more} not counted" if more else ""), class_="more"),
        tag("span", "not as expected", class_="pill bad") if tally.met is False else None,
        role="cell",
        data_head=arm,
        class_=shade(tally),
    )


def _share(cell: Cell) -> tuple[Child, ...]:
    """`5/6 [44-97]`, its numbers exact."""
    tally, at = cell.tally, f"/tallies/{cell.at}"
    rest = share_words(tally).partition(" ")[2]
    return (
        number(tally.failed, str(tally.failed), f"{at}/failed"),
        "/",
        number(tally.n, str(tally.n), f"{at}/n"),
        " ",
        rest,
    )


def _not_met(rows: Mapping[Place, Mapping[str, Cell]]) -> Named:
    found = [cell for row in rows.values() for cell in row.values() if cell.tally.met is False]
    if not found:
        return None
    lines = (
        tag(
            "li",
            tag("a", f"{place_words(one.place)}, arm {one.tally.arm}", href=f"#cell-{one.at}"),
            f": {counts_words(one.tally)}; {expected_words(one.tally)}",
        )
        for one in found
    )
    return _named("unmet", tag("ul", *lines))


def _sweeps(arms: Sequence[str], rows: Mapping[Place, Mapping[str, Cell]]) -> Named:
    """A drawing for each number that was swept, and each arm: places that differ in that number only."""
    found: dict[tuple[Place, str, str], list[Cell]] = {}
    for place, row in rows.items():
        for key, _ in place.sweep:
            rest = replace(place, sweep=tuple(pair for pair in place.sweep if pair[0] != key))
            for arm, cell in row.items():
                found.setdefault((rest, key, arm), []).append(cell)
    drawn: dict[str, list[Markup]] = {}
    for at, ((rest, key, arm), alike) in enumerate(found.items()):
        if len(alike) > 1:
            tallies = sorted((cell.tally for cell in alike), key=_swept(key))
            svg = sweep_svg(f"sweep-{at}", key, tallies, f"c{arms.index(arm) % COLOURS}")
            head = f"{place_words(rest)}: {key}"
            drawn.setdefault(head, []).append(tag("figure", tag("figcaption", arm), svg))
    if not drawn:
        return None
    about = "Share of trials that fail, in percent, over the values that were tried; the boxes are the 95 % intervals."
    parts = (join((tag("h3", head), tag("div", *made, class_="gauges"))) for head, made in drawn.items())
    return _named("sweeps", tag("p", about, class_="quiet"), *parts)


def _swept(key: str) -> Callable[[Tally], int]:
    return lambda tally: tally.sweep[key]


# Down to the evidence


def _cells(rows: Mapping[Place, Mapping[str, Cell]], evidence: Evidence, code: str | None) -> Named:
    if not rows:
        return None
    parts: list[Child] = [_legend()]
    for place, row in rows.items():
        parts.append(tag("h3", place_words(place)))
        parts += [_cell_details(cell, evidence, code) for cell in row.values()]
    return _named("cells", *parts)


def _legend() -> Markup:
    swatch = tag("span", class_="swatch calm-swatch", aria_hidden="true")
    return tag(
        "ul",
        *(
            tag("li", tag("span", class_=f"swatch {look}", aria_hidden="true"), word)
            for look, word in _LEGEND
        ),
        tag("li", swatch, "the storm, as far as sockets show it"),
        tag("li", "dashed red: the floor, below which the next atomic allocation fails"),
        class_="legend",
    )


def _cell_details(cell: Cell, evidence: Evidence, code: str | None) -> Markup:
    """The target of the matrix' link stands inside, so that a browser unfolds it on the way there."""
    tally = cell.tally
    summary = (
        tag("strong", tally.arm, " ", share_words(tally)),
        " ",
        tag("span", met_word(tally), class_=f"pill {_pill(met_look(tally))}") if tally.expected else None,
        counts_words(tally),
    )
    at = f"/tallies/{cell.at}"
    counts = table(
        f"{tally.arm}: share that fails {interval_words(tally)}",
        ("verdict", "trials", "means"),
        [
            (_verdict(verdict), number(many, str(many), f"{at}/counts/{verdict}"), MEANS[verdict])
            for verdict, many in verdict_counts(tally)
        ],
        numbers=(1,),
    )
    said = sentence("; ".join(filter(None, (expected_words(tally), margin_words(tally), p_words(tally)))))
    return folded(
        summary,
        tag("p", said, id=f"cell-{cell.at}"),
        counts,
        *(_trial(one, place, evidence, code) for place, one in cell.results),
    )


def _pill(look: str) -> str:
    return "note" if look == "quiet" else look


def _verdict(verdict: Verdict) -> Markup:
    return tag("span", verdict.value, class_=f"pill {_pill(LOOK[verdict])}")


def _trial(one: TrialResult, place: int, evidence: Evidence, code: str | None) -> Markup:
    at = f"/results/{place}"
    stale = tag("span", "stale", class_="pill unsure") if is_stale(one, code) else None
    verdict = tag(
        "span", one.verdict.value, class_=f"pill {_pill(LOOK[one.verdict])}", data_at=f"{at}/verdict"
    )
    seed = number(one.seed, str(one.seed), f"{at}/seed")
    summary = (verdict, "seed ", seed, ": ", sentence(one.reason), " ", stale)
    plots = list(trial_svgs(one, f"trial-{place}"))
    return folded(
        summary,
        tag("p", tag("strong", f"{one.finding}: " if one.finding else "Diagnosis: "), sentence(one.diagnosis))
        if one.diagnosis
        else None,
        tag("div", *(tag("figure", tag("figcaption", said), plot) for said, plot in plots), class_="gauges")
        if plots
        else None,
        _numbers(one, at),
        _zones(one) if one.zones else None,
        _repeat(one),
        *_evidence(one, evidence),
    )


def _numbers(one: TrialResult, at: str) -> Markup:
    margin = number(
        one.margin_pages,
        NO_MARGIN if one.margin_pages is None else counted(one.margin_pages, "page"),
        f"{at}/margin_pages",
    )
    rows: list[tuple[Child, Child]] = [
        ("margin: least pages above the floor", margin),
        (
            "steps done",
            f"{one.done_pages:,} of {one.wanted_pages:,} pages in {ms_words(one.guest_ms)} of guest time",
        ),
        (
            "longest without a step",
            number(one.longest_stall_ms, ms_words(one.longest_stall_ms), f"{at}/longest_stall_ms"),
        ),
        ("packets of the storm", number(one.storm_packets, f"{one.storm_packets:,}", f"{at}/storm_packets")),
        ("most held by sockets", f"udp {one.peak_udp_mem_pages:,}, tcp {one.peak_tcp_mem_pages:,} pages"),
        ("OOM kills", number(one.oom_kills, f"{one.oom_kills:,}", f"{at}/oom_kills")),
    ]
    if one.fingerprint:
        rows.append(("waits that decide it; equal ones are the same failure", shown_code(one.fingerprint)))
    if one.check:
        rows.append(("tidegate check, with the plan in force", one.check))
    if one.tries > 1:
        rows.append(("tries", f"{one.tries}: those before were lost"))
    rows += [(shown_code(name), shown_code(value)) for name, value in one.settings.items()]
    return table("Numbers, and what the arm set", ("what", "value"), rows)


def _zones(one: TrialResult) -> Markup:
    rows = [
        (
            f"node {zone.node} {zone.zone}",
            *(
                f"{n:,}"
                for n in (zone.managed_pages, zone.min_pages, zone.floor_pages, zone.lowest_free_pages)
            ),
        )
        for zone in one.zones
    ]
    heads = ("zone", "managed", "min", "floor", "least free")
    return table("Zones, in pages", heads, rows, numbers=range(1, 5))


def _repeat(one: TrialResult) -> Markup:
    """Everything that is needed to do it again."""
    return join(
        (
            tag("p", tag("strong", "To repeat it"), f" (seed {one.seed}):"),
            tag("pre", trial_command(one.job)),
            tag("p", "Kernel: ", shown_code(kernel_words(one))),
            folded("The emulator's line", tag("pre", one.command)) if one.command else None,
            tag("p", f"Started {one.started}; rig ", shown_code(one.code), class_="quiet")
            if one.started
            else None,
        )
    )


def _evidence(one: TrialResult, evidence: Evidence) -> Iterator[Child]:
    if one.evidence is None:
        return
    yield tag("p", tag("strong", "Evidence: "), shown_code(one.evidence))
    for file in evidence.get(one.evidence, ()):
        yield _file(file)


def _file(file: EvidenceFile) -> Markup:
    size = human_bytes(file.size_bytes)
    if file.text is None:
        return tag(
            "p", shown_code(file.name), f" ({size}): not on this page, too large or no text", class_="quiet"
        )
    return folded((shown_code(file.name), f" ({size})"), _lines(file.text))


def _lines(text: str) -> Markup:
    """A file as it is, but for what no browser should obey; markup makes that visible a line at a time."""
    lines = text.replace("\r\n", "\n").replace("\t", "        ").split("\n")
    pieces: list[Child] = []
    for line in lines:
        pieces += [line, _NEWLINE]
    return tag("pre", *pieces, tabindex="0")


def _foot(trials: Trials) -> Iterator[Child]:
    yield tag("p", *(join((f"{verdict}: {MEANS[verdict]}.", " ")) for verdict in Verdict))
    yield tag(
        "p", f"Made by tidegate report --html from the same results as report --json ({trials.schema})."
    )
