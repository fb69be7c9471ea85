"""What a search for the smallest value at which a guest survives found, beside what others say it should be."""

from __future__ import annotations

from tidegate.report.screen import fill, paint, screen_of, section, table
from tidegate.report.words import printable
from tidegate.trial import Bisected, Level, Said


def bisect_text(result: Bisected, *, width: int = 80, colour: bool = False) -> str:
    """The bracket first, then every value that was tried, then the values of others; ends with a newline."""
    screen = screen_of(width=width, colour=colour)
    place = f"{result.case}, arm {result.arm} ({result.kernel_name}, {result.nic}, {result.transport})"
    look = "good" if result.survives else "bad"
    lines = [
        *(paint(one, look, screen) for one in fill(printable(_bracket(result)), screen, hang=2)),
        *(paint(one, "quiet", screen) for one in fill(printable(place), screen, 2, 2)),
        "",
    ]
    rows = [
        (
            f"{one.value:,}",
            f"{one.survived}/{one.n}",
            "" if one.margin_lowest_pages is None else f"{one.margin_lowest_pages:,}",
        )
        for one in result.levels
    ]
    tried = table((printable(result.key), "survived", "margin"), rows, left=())
    lines += section("Every value that was tried", (f"  {one}" for one in tried), screen)
    if result.said:
        others = table(
            ("says", "value", "here"),
            [(printable(one.name), f"{one.value:,}", _here(one, result)) for one in result.said],
            left=(0, 2),
        )
        lines += [
            "",
            *section("What others say of it for this guest", (f"  {one}" for one in others), screen),
        ]
    key = (
        "k/n: boots that survived of those that count, no more after a failure; margin: the least free pages above "
        "the floor of an ordinary atomic allocation. More need not be better: survival was tried at the values of "
        "the table only, and may end again above them."
    )
    return "\n".join([*lines, "", *(paint(one, "quiet", screen) for one in fill(key, screen))]) + "\n"


def _bracket(result: Bisected) -> str:
    if result.survives is None:
        return f"no value of {result.key} from {result.low:,} to {result.high:,} was found that survives"
    if result.fails is None:
        return f"{result.key}: {_told(result.survives)} survives, the smallest that was tried"
    return f"{result.key}: {_told(result.survives)} survives, {_told(result.fails)} does not"


def _told(one: Level) -> str:
    return f"{one.value:,} ({one.survived}/{one.n})"


def _here(said: Said, result: Bisected) -> str:
    """Where a value lies beside the bracket; it was tried itself only where it is one of the levels."""
    fails, survives = result.fails, result.survives
    tried = {one.value: one for one in result.levels}.get(said.value)
    if tried is not None:
        return "survived" if tried.holds else "failed"
    if survives is not None and said.value > survives.value:
        return "above what survived"
    if fails is not None and said.value < fails.value:
        return "below what failed"
    return "between" if fails is not None and survives is not None else "not tried"
