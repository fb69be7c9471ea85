"""`trial`, `campaign` and `report` on a terminal: counts with intervals, then each failure and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tidegate.report.screen import Screen, fill, left_out, paint, screen_of, section, table
from tidegate.report.trials_words import (
    LOOK,
    Cell,
    Place,
    about_words,
    counts_words,
    expected_words,
    failures,
    interval_words,
    is_stale,
    kernel_words,
    look_of,
    margin_words,
    matrix,
    met_look,
    p_words,
    place_words,
    share_words,
    stale_words,
    summary_words,
    trial_command,
    uncounted,
)
from tidegate.report.words import counted, printable, sentence
from tidegate.trial import TrialResult, Trials

# How many of each the one screen shows.
_FAILURES, _UNCOUNTED = 6, 4
_NOT_MET = "!"
_KEY = (
    "k/n: trials that failed (PANIC, WEDGED, OOM) of those that count; [low-high]: the interval of that share at 95 %, "
    "in percent; then the lowest margin in pages (below 0: survival was luck); +N: not counted; "
    f"{_NOT_MET}: not what the case expects"
)


def trials_text(
    trials: Trials, *, width: int = 80, colour: bool = False, all: bool = False, code: str | None = None
) -> str:
    """Every arm, then every failure, as text that ends with a newline. `code`: hash of the present rig."""
    screen = screen_of(width=width, colour=colour, all=all)
    _, rows = matrix(trials)
    sections = (
        _head(trials, screen, code),
        *(_place(place, tuple(row.values()), screen) for place, row in rows.items()),
        *_failures(trials, screen, code),
        _uncounted(trials, screen),
    )
    return _joined(sections)


def tallies_text(
    trials: Trials, *, width: int = 80, colour: bool = False, all: bool = False, code: str | None = None
) -> str:
    """The matrix: a row for each place, a column for each arm; `all` adds what `trials_text` says."""
    screen = screen_of(width=width, colour=colour, all=all)
    arms, rows = matrix(trials)
    sections = [
        _head(trials, screen, code),
        _matrix(arms, rows, screen) if rows else [],
        [paint(text, "quiet", screen) for text in fill(_KEY, screen, 0, 2)] if rows else [],
        _not_met(rows, screen),
    ]
    if all:
        sections += [_place(place, tuple(row.values()), screen) for place, row in rows.items()]
        sections += [*_failures(trials, screen, code), _uncounted(trials, screen)]
    return _joined(sections)


def _joined(sections: Sequence[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _head(trials: Trials, screen: Screen, code: str | None) -> list[str]:
    look = look_of(trials)
    lines = [
        paint(text, "strong" if look == "quiet" else look, screen)
        for text in fill(sentence(summary_words(trials)), screen, hang=2)
    ]
    stale = stale_words(sum(is_stale(one, code) for one in trials.results))
    return lines + [paint(text, "unsure", screen) for text in fill(sentence(stale), screen, hang=2) if stale]


# Arms


def _place(place: Place, row: Sequence[Cell], screen: Screen) -> list[str]:
    return section(place_words(place), (text for cell in row for text in _arm(cell, screen)), screen)


def _arm(cell: Cell, screen: Screen) -> list[str]:
    """Verdicts, share, margin, expectation: each clause a number that the other reports have too."""
    tally = cell.tally
    name = printable(tally.arm)
    first, *rest = fill(f"{name}: {counts_words(tally)}; {expected_words(tally)}", screen, 2, 2)
    numbers = "; ".join(
        filter(
            None,
            (
                f"fails {tally.failed} of {tally.n}, share {interval_words(tally)}",
                margin_words(tally),
                p_words(tally),
            ),
        )
    )
    return [
        "  " + paint(name, met_look(tally), screen) + first.removeprefix(f"  {name}"),
        *rest,
        *(paint(text, "quiet", screen) for text in fill(numbers, screen, 4, 2)),
    ]


# The matrix


def _matrix(arms: Sequence[str], rows: Mapping[Place, Mapping[str, Cell]], screen: Screen) -> list[str]:
    """One table where it fits; else a small table for each place, since a number is never cut."""
    heads = ("case", "nic", "transport", "kernel", "sweep", *map(printable, arms))
    cells = [
        [*_place_cells(place), *(_cell_words(row.get(arm)) for arm in arms)] for place, row in rows.items()
    ]
    left = tuple(range(len(heads)))
    head, *lines = table(heads, cells, left=left)
    if max(map(len, (head, *lines))) <= screen.width:
        marked = (
            _painted(text, row.values(), screen) for text, row in zip(lines, rows.values(), strict=True)
        )
        return [paint(head, "quiet", screen), *marked]
    stacked: list[str] = []
    size = max(map(len, map(printable, arms)), default=0)
    for place, row in rows.items():
        stacked += [paint(text, "strong", screen) for text in fill(place_words(place), screen, hang=2)]
        for arm, cell in row.items():
            text = f"  {printable(arm):<{size}}  {_cell_words(cell)}"
            look = met_look(cell.tally)
            stacked.append(paint(text, look, screen) if look == "bad" else text)
    return stacked


def _place_cells(place: Place) -> tuple[str, str, str, str, str]:
    sweep = " ".join(f"{name}={value}" for name, value in place.sweep) or "-"
    return (
        printable(place.case), printable(place.nic), printable(place.transport),
        printable(place.kernel_name), printable(sweep),
    )  # fmt: skip


def _cell_words(cell: Cell | None) -> str:
    """`5/6 [44-97] -312 +1 !`; `-` where nothing was tried."""
    if cell is None:
        return "-"
    tally = cell.tally
    margin = "" if tally.margin_lowest_pages is None else f"{tally.margin_lowest_pages:,}"
    more = cell.trials - tally.n
    parts = (share_words(tally), margin, f"+{more}" if more else "", _NOT_MET if tally.met is False else "")
    return " ".join(filter(None, parts))


def _painted(text: str, row: Iterable[Cell], screen: Screen) -> str:
    """A whole row in red where a cell of it is not as expected: the sign says which."""
    return paint(text, "bad", screen) if any(cell.tally.met is False for cell in row) else text


def _not_met(rows: Mapping[Place, Mapping[str, Cell]], screen: Screen) -> list[str]:
    lines: list[str] = []
    for place, row in rows.items():
        for cell in row.values():
            if cell.tally.met is False:
                text = f"{place_words(place)}, arm {printable(cell.tally.arm)}: {counts_words(cell.tally)}; "
                lines += fill(sentence(text + expected_words(cell.tally)), screen, 2, 2)
    return section("Not as expected", lines, screen) if lines else []


# Trials


def _failures(trials: Trials, screen: Screen, code: str | None) -> list[list[str]]:
    """A paragraph for each, and the lines that repeat it, never broken so that they can be copied."""
    found = failures(trials)
    shown = found if screen.all else found[:_FAILURES]
    parts = [_failure(cell, one, screen, code) for cell, one in shown]
    if parts:
        parts[0] = section(f"Failures: {len(found)}", parts[0], screen)
    rest = left_out(len(found) - len(shown), "more failures (--all)", screen)
    return [*parts, rest] if rest else parts


def _failure(cell: Cell, one: TrialResult, screen: Screen, code: str | None) -> list[str]:
    stale = " (stale)" if is_stale(one, code) else ""
    head = f"{one.verdict} {printable(one.arm)}, seed {one.seed}, {place_words(cell.place)}{stale}"
    first, *rest = fill(f"{head}: {sentence(one.reason)}", screen, 2, 2)
    said = [
        *(fill(f"Diagnosis: {sentence(one.diagnosis)}", screen, 4) if one.diagnosis else []),
        *(fill(f"finding: {printable(one.finding)}", screen, 4) if one.finding else []),
        *(fill(f"waits: {printable(one.fingerprint)}", screen, 4, 2) if one.fingerprint else []),
        *(fill(f"check, with the plan in force: {printable(one.check)}", screen, 4, 2) if one.check else []),
        *fill(about_words(one), screen, 4, 2),
        *([f"    evidence: {printable(one.evidence)}"] if one.evidence else []),
        *fill(f"kernel: {kernel_words(one)}", screen, 4, 2),
        "    To repeat it:",
        f"      {trial_command(one.job)}",
        *([f"      {printable(one.command)}"] if one.command else []),
    ]
    return [
        "  " + paint(one.verdict, LOOK[one.verdict], screen) + first.removeprefix(f"  {one.verdict}"),
        *rest,
        *said,
    ]


def _uncounted(trials: Trials, screen: Screen) -> list[str]:
    found = uncounted(trials)
    shown = found if screen.all else found[:_UNCOUNTED]
    lines = [
        text
        for cell, one in shown
        for text in fill(
            f"{one.verdict} {printable(one.arm)}, seed {one.seed}, {place_words(cell.place)}: {sentence(one.reason)}",
            screen, 2, 2,
        )
    ]  # fmt: skip
    lines += left_out(len(found) - len(shown), "more (--all)", screen)
    head = f"Not counted, for they say nothing about the kernel: {counted(len(found), 'trial')}"
    return section(head, lines, screen) if found else []
