"""`simulate`, `compare` and `cases` on a terminal: the word first, then why, then the numbers it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tidegate.case import JUDGES
from tidegate.report.cases_trials import quarrels, swept, trial_rows, trials_sum
from tidegate.report.screen import Screen, bars, fill, left_out, line, paint, screen_of, section, table
from tidegate.report.simulate_words import (
    LOOK,
    MEANS,
    PAGE_BYTES,
    STORY,
    WHY,
    after_words,
    command_words,
    drop_rows,
    facts_words,
    gap_words,
    held_words,
    lost_percent,
    low_waters,
    machine_words,
    other_words,
    percent_words,
    seeds_words,
    time_words,
    told_run,
)
from tidegate.report.words import counted, pages_words, printable, sentence
from tidegate.simulation import CaseArm, Cases, Compared, Milestone, Run, Simulated, Word

# How many of each the one screen shows.
_STEPS, _HOLDERS, _DROPS = 12, 6, 6
_BAR = 12
_WORDS = {word.value: LOOK[word] for word in Word}
_STANDINGS = {"DISAGREE": "bad", "CONTRADICTED": "bad", "not as expected": "unsure"}


def simulate_text(result: Simulated, *, width: int = 80, colour: bool = False, all: bool = False) -> str:
    """One arm of a case over seeds, as text that ends with a newline; its last line repeats the run that is told."""
    screen = screen_of(width=width, colour=colour, all=all)
    run = told_run(result)
    sections = (
        _head(result, run, screen),
        fill(WHY, screen),
        _story(run, screen),
        _progress(run, screen),
        _low_waters(run, screen),
        _holdings(run, screen),
        _foreign(run, screen),
        _drops(run, screen),
        _runs(result, screen) if all else [],
        _taken(run, screen) if all else [],
        # Never broken, so that it can be copied.
        ["To repeat this run:", f"  {command_words(result)}"],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _head(result: Simulated, run: Run, screen: Screen) -> list[str]:
    """The word with its seeds and the claim, what decided it, what it means, and what was run."""
    word = result.word
    claim = f"{word} {seeds_words(result)}: {sentence(result.claim)}"
    first, *rest = fill(printable(claim), screen, hang=2)
    others = other_words(result)
    means = f"{word} means: {MEANS[word]}.{f' Other seeds: {others}.' if others else ''}"
    about = (means, sentence(machine_words(run)))
    return [
        paint(word, LOOK[word], screen) + first.removeprefix(word),
        *rest,
        *(fill(sentence(run.reason), screen, 2) if run.reason else []),
        *(paint(text, "quiet", screen) for one in about for text in fill(one, screen, 2)),
    ]


def _story(run: Run, screen: Screen) -> list[str]:
    """Numbered steps: when, what, and the numbers of that moment. The end, which decides, is never left out."""
    if not run.milestones:
        return []
    steps = list(enumerate(run.milestones, start=1))
    long = len(steps) > _STEPS and not screen.all
    early, late = (steps[: _STEPS - 4], steps[-4:]) if long else (steps, [])
    wide = max(len(time_words(one.time_ns)) for one in run.milestones)
    lines = [text for number, one in early for text in _step(number, one, wide, screen)]
    lines += left_out(len(steps) - len(early) - len(late), "steps in between", screen)
    lines += [text for number, one in late for text in _step(number, one, wide, screen)]
    return section(f"{STORY[run.word]} (virtual time, seed {run.seed})", lines, screen)


def _step(number: int, one: Milestone, wide: int, screen: Screen) -> list[str]:
    """A step whose further lines stand under its words."""
    facts = facts_words(one)
    text = printable(one.text).rstrip(".") + (f" ({facts})" if facts else "")
    head = f"  {number:>2}. {time_words(one.time_ns):>{wide}}  "
    first, *rest = fill(text, screen, len(head))
    return [head + first.strip(), *rest]


def _progress(run: Run, screen: Screen) -> list[str]:
    """How long nothing came back, and what the end of the storm brought; then the users, one by one."""
    done, clear = after_words(run)
    lines = fill(sentence(f"longest: {gap_words(run)}"), screen, 2, 2)
    lines += fill(f"after the storm, until nobody waited: {done}", screen, 2, 2)
    lines += fill(f"after the storm, until no page of the reserve was out: {clear}", screen, 2, 2)
    heads = ("block user", "word", "admitted", "completed", "waiting", "longest gap", "latency")
    rows = [
        (
            printable(user.name),
            user.word.value,
            f"{user.admitted:,}",
            f"{user.completed:,}",
            f"{user.waiting:,}",
            time_words(user.gap_ns),
            time_words(user.latency_ns),
        )
        for user in run.users
    ]
    return section("Time without progress", [*lines, *_table(heads, rows, screen, left=(0, 1))], screen)


def _low_waters(run: Run, screen: Screen) -> list[str]:
    rows = [
        (
            printable(one.pool),
            f"{one.least:,}",
            f"{one.line} {one.line_at:,}" if one.line_at else one.line,
            one.so,
        )
        for one in low_waters(run)
    ]
    lines = _table(("pool", "least", "its line", "so"), rows, screen, left=(0, 2, 3))
    return section("Low water of each pool", lines, screen) if rows else []


def _holdings(run: Run, screen: Screen) -> list[str]:
    """Who held the reserve, as pages times seconds; the bar is the share."""
    if not run.reserve_pages and not run.holdings:
        return []
    if not run.holdings:
        return section("Who held the reserve", ["  nobody: no packet's memory came from it"], screen)
    ordered = sorted(run.holdings, key=lambda one: -one.page_ns)
    shown = ordered if screen.all else ordered[:_HOLDERS]
    rows = [
        (
            printable(one.holder),
            held_words(one.page_ns),
            time_words(one.longest_ns),
            f"{one.packets:,}",
            f"{one.at_end_pages:,}",
            bar,
        )
        for one, bar in zip(shown, bars([one.page_ns for one in shown], _BAR), strict=True)
    ]
    heads = ("holder", "page seconds", "longest stay", "packets", "at end", "")
    lines = _table(heads, rows, screen, left=(0, 5))
    lines += left_out(len(ordered) - len(shown), "more", screen)
    return section("Who held the reserve, and for how long", lines, screen)


def _foreign(run: Run, screen: Screen) -> list[str]:
    if not run.foreign:
        return []
    counts = ", ".join(f"{printable(name)} {number:,}" for name, number in run.foreign.items())
    lost = percent_words(lost_percent(run.foreign))
    return section("Packets of others", fill(f"{counts}: {lost} lost", screen, 2, 2), screen)


def _drops(run: Run, screen: Screen) -> list[str]:
    ordered = drop_rows(run)
    if not ordered:
        return section("Drops by reason", ["  none"], screen)
    shown = ordered if screen.all else ordered[:_DROPS]
    rows = [(printable(name), f"{number:,}", f"{block:,}") for name, number, block in shown]
    lines = _table(("reason", "packets", "of block IO"), rows, screen)
    lines += left_out(len(ordered) - len(shown), "more", screen)
    return section("Drops by reason", lines, screen)


def _runs(result: Simulated, screen: Screen) -> list[str]:
    rows = [
        (
            str(run.seed),
            run.word.value,
            time_words(run.gap_ns),
            time_words(run.complete_ns),
            time_words(run.clear_ns),
            f"{run.low_water['free']:,}" if "free" in run.low_water else "-",
        )
        for run in result.runs
    ]
    heads = ("seed", "word", "longest gap", "all completed", "reserve whole", "least free")
    return section("Every seed", _table(heads, rows, screen, left=(1,)), screen)


def _taken(run: Run, screen: Screen) -> list[str]:
    rows = [(printable(step), f"{times:,}") for step, times in run.steps.items()]
    head = f"Steps taken ({run.events:,} events)"
    return section(head, _table(("step", "times"), rows, screen), screen) if rows else []


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], screen: Screen, left: Sequence[int] = (0,)
) -> list[str]:
    """A table under a section; where it is too wide, each row's first cell stands on a line of its own.

    A number is never cut. Where even the numbers are too wide for one line, they are filled into several.
    """
    if not rows:
        return []
    lines = [f"  {text}" for text in table(heads, rows, left=left)]
    if max(map(len, lines)) <= screen.width:
        return [paint(lines[0], "quiet", screen), *lines[1:]]
    inner = [one - 1 for one in left if one]
    head, *numbers = [f"    {text}" for text in table(heads[1:], [row[1:] for row in rows], left=inner)]
    if max(map(len, (head, *numbers))) <= screen.width:
        stacked = [
            text
            for row, cells in zip(rows, numbers, strict=True)
            for text in (*fill(row[0], screen, 2, 2), cells)
        ]
        return [paint(head, "quiet", screen), *stacked]
    filled = []
    for row in rows:
        cells = ", ".join(
            f"{word} {cell}".strip() for word, cell in zip(heads[1:], row[1:], strict=True) if cell
        )
        filled += fill(f"{row[0]}: {cells}", screen, 2, 2)
    return filled


# Designs side by side


def compare_text(result: Compared, *, width: int = 80, colour: bool = False, all: bool = False) -> str:
    """Designs in rows on one case, in the order given."""
    screen = screen_of(width=width, colour=colour, all=all)
    about = (
        f"case {result.case}: {counted(result.n, 'seed')} for each design, "
        f"reserve {pages_words(result.reserve_pages, PAGE_BYTES)}"
    )
    heads = ("design", "verdict", "reserve", "free", "lost", "complete", "pinned", "clear")
    rows = [
        (
            printable(row.design),
            f"{row.word} {row.k}/{row.n}",
            _smallest(row.reserve_pages, row.searched_pages),
            f"{row.free_low_pages:,}",
            percent_words(row.foreign_lost_percent),
            time_words(row.complete_ns),
            f"{row.pinned_pages:,}",
            time_words(row.clear_ns),
        )
        for row in result.rows
    ]
    key = (
        "verdict: the worst word, and in how many seeds",
        "reserve: the smallest that survived every seed, in pages",
        "free: the least free pages",
        "lost: packets of others that were dropped",
        "complete: from the end of the storm until nobody waited, the worst seed",
        "pinned: pages taken out of the machine beforehand",
        "clear: from the end of the storm until no page of the reserve was out",
    )
    lines = [
        *(paint(text, "strong", screen) for text in fill(sentence(result.claim), screen, hang=2)),
        *(paint(text, "quiet", screen) for text in fill(printable(about), screen, hang=2)),
        "",
        *_painted(_table(heads, rows, screen, left=(0, 1)), _WORDS, screen),
        "",
        *(paint(text, "quiet", screen) for one in key for text in fill(one, screen, 2, 2)),
    ]
    return "\n".join(lines) + "\n"


def _smallest(reserve_pages: int | None, searched_pages: int) -> str:
    """The smallest reserve; `> 512` where the search ended without one, `-` where there was none."""
    if reserve_pages is not None:
        return f"{reserve_pages:,}"
    return f"> {searched_pages:,}" if searched_pages else "-"


def _painted(lines: Iterable[str], looks: Mapping[str, str], screen: Screen) -> Iterator[str]:
    """The lines of a table, the first of these words on each in its look."""
    for text in lines:
        found = next((word for word in looks if f" {word}" in text), None)
        if found is None:
            yield text
        else:
            before, _, after = text.partition(found)
            yield before + paint(found, looks[found], screen) + after


# Cases by judge


def cases_text(result: Cases, *, width: int = 80, colour: bool = False, all: bool = False) -> str:
    """Cases and their arms by judge, disagreement first and in the open."""
    screen = screen_of(width=width, colour=colour, all=all)
    arms = [arm for case in result.cases for arm in case.arms]
    judges = [judge for judge in JUDGES if any(judge in arm.expected | arm.found for arm in arms)]
    first = (
        f"{counted(len(result.cases), 'case')}, {counted(len(arms), 'arm')}: "
        f"{counted(result.disagreements, 'disagreement')}, {result.stale:,} stale, "
        f"{result.missing:,} without a stored result"
    )
    kernels = trials_sum(result, screen)
    if not arms and kernels:  # another judge's list
        first = counted(len(result.cases), "case")
    lines = [
        paint(text, "bad" if result.disagreements else "good", screen) for text in fill(first, screen, hang=2)
    ]
    lines += kernels
    lines += _disagreements(result, screen)
    lines += quarrels(result, screen)
    for case in result.cases:
        rows = [
            (printable(arm.name), *(_judged(arm, judge) for judge in judges), _standing(arm))
            for arm in case.arms
        ]
        claim = f"{printable(case.name)}: {sentence(case.claim)}"
        of = ", ".join(filter(None, (f"source: {case.source}", case.finding and f"finding: {case.finding}")))
        lines += ["", *(paint(text, "strong", screen) for text in fill(claim, screen, hang=2))]
        lines += [paint(text, "quiet", screen) for text in line(printable(of), screen, 2)]
        shown = _table(("arm", *judges, ""), rows, screen, left=range(len(judges) + 2))
        lines += _painted(shown, _STANDINGS, screen)
        heads, tried = trial_rows(case)
        lines += _painted(_table(heads, tried, screen, left=(0, 1, 3, 4)), _STANDINGS, screen)
        lines += swept(case, screen)
    key = "(WORD): expected, nothing stored; stale: case or code changed since; `tidegate cases --run` recomputes"
    return "\n".join([*lines, "", *(paint(text, "quiet", screen) for text in fill(key, screen))]) + "\n"


def _judged(arm: CaseArm, judge: str) -> str:
    """What a judge found, with the seeds where it has them, and what was expected where that differs."""
    found, expected = arm.found.get(judge), arm.expected.get(judge)
    if found is None:
        return "-" if expected is None else f"({printable(expected)})"
    seeds = f" {arm.k}/{arm.n}" if judge == "simulate" and arm.k is not None and arm.n is not None else ""
    differs = f", not {printable(expected)}" if expected not in {None, found} and expected is not None else ""
    return f"{printable(found)}{seeds}{differs}"


def _standing(arm: CaseArm) -> str:
    """Whether it can be relied on."""
    words = []
    if arm.agrees is False:
        words.append("DISAGREE")
    if any(arm.expected.get(judge, word) != word for judge, word in arm.found.items()):
        words.append("not as expected")
    if arm.stale:
        words.append("stale")
    if not arm.found:
        words.append("not run")
    return ", ".join(words) or "agree"


def _disagreements(result: Cases, screen: Screen) -> list[str]:
    """Each arm on which the judges differ, with what each of them says."""
    lines: list[str] = []
    for case in result.cases:
        for arm in case.arms:
            if arm.agrees is not False:
                continue
            says = ", ".join(f"{judge} says {word}" for judge, word in arm.found.items())
            expects = ", ".join(f"{judge} {word}" for judge, word in arm.expected.items())
            text = f"{case.name}, arm {arm.name}: {says}; expected: {expects or 'nothing'}"
            lines += fill(printable(text), screen, 2, 2)
    return ["", *section("Where the judges differ", lines, screen)] if lines else []
