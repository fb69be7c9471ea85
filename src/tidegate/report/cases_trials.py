"""What real kernels did, in the list of cases: words with counts, margins, and who contradicts whom."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.report.screen import Screen, fill, paint, section
from tidegate.report.words import counted, printable
from tidegate.simulation import Cases, CaseState, TrialState
from tidegate.trial import Verdict

HEADS = ("on real kernels", "trial", "margin", "check", "")
_ORDER = [verdict.value for verdict in Verdict]


def trials_sum(result: Cases, screen: Screen) -> list[str]:
    """One sentence on all trials but those of sweeps; nothing where no case has any."""
    found = [one for case in result.cases for one in case.trials if not one.sweep]
    if not found:
        return []
    run = sum(one.n > 0 for one in found)
    text = (
        f"on real kernels {run:,} of {counted(len(found), 'arm')}: {result.trials_unmet:,} not as expected, "
        f"{result.quarrels:,} contradicted by another judge, {result.trials_stale:,} stale, "
        f"{result.trials_missing:,} without a trial that counts"
    )
    bad = result.trials_unmet or result.quarrels
    return [paint(line, "bad" if bad else "good", screen) for line in fill(text, screen, hang=2)]


def quarrels(result: Cases, screen: Screen) -> list[str]:
    """Each arm that another judge contradicts, those that the case explains with its explanation."""
    lines: list[str] = []
    for case in result.cases:
        for one in case.trials:
            if one.quarrel:
                why = f"; outside the model: {one.outside}" if one.outside else ""
                lines += fill(
                    printable(f"{case.name}, {place_words(case, one)}: {one.quarrel}{why}"), screen, 2, 2
                )
    return ["", *section("Where real kernels contradict another judge", lines, screen)] if lines else []


def trial_rows(case: CaseState) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Heads and rows of a case's trials, without what was swept."""
    rows: list[tuple[str, ...]] = [
        (
            printable(place_words(case, one)),
            printable(trial_words(one)),
            "" if one.margin_pages is None else f"{one.margin_pages:,}",
            printable(one.check or ""),
            standing(one),
        )
        for one in case.trials
        if not one.sweep
    ]
    return HEADS, rows


def swept(case: CaseState, screen: Screen) -> list[str]:
    """That there is more: places of a sweep are many, and no claims."""
    number = sum(bool(one.sweep) for one in case.trials)
    text = f"and {counted(number, 'place')} of sweeps (--json has them)"
    return [paint(line, "quiet", screen) for line in fill(text, screen, 2, 2)] if number else []


def place_words(case: CaseState, one: TrialState) -> str:
    """The arm, and what of its place is not as the case has it."""
    usual = next(first for first in case.trials if first.arm == one.arm)
    differs = [
        mine
        for mine, theirs in (
            (one.nic, usual.nic),
            (one.kernel, usual.kernel),
            (one.transport, usual.transport),
        )
        if mine != theirs
    ]
    differs += [f"{name}={value}" for name, value in one.sweep.items()]
    return ", ".join([one.arm, *differs])


def trial_words(one: TrialState) -> str:
    """`WEDGED 5/6, SURVIVED 1/6, not SURVIVED`: what happened, the commonest first, and what was expected instead."""
    if not one.n:
        others = ", ".join(f"{word} {number}" for word, number in _sorted(one.counts))
        return others or (f"({one.expected})" if one.expected else "-")
    counts = _sorted(one.counts)
    said = ", ".join(f"{word} {number}/{one.n}" for word, number in counts if word in _COUNTED)
    return f"{said}, not {one.expected}" if one.met is False else said


def standing(one: TrialState) -> str:
    """Whether it can be relied on."""
    words = []
    if one.quarrel:
        words.append("outside the model" if one.outside else "CONTRADICTED")
    if one.met is False:
        words.append("not as expected")
    if one.stale:
        words.append("stale")
    if not one.n:
        words.append("not run" if not one.counts else "nothing counted")
    return ", ".join(words) or ("agree" if one.met else "")


_COUNTED = set(_ORDER) - {Verdict.INCONCLUSIVE.value, Verdict.LOST.value}


def _sorted(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], _ORDER.index(one[0]) if one[0] in _ORDER else 99))
