"""What the texts are made of: filled lines, cut lines, tables, bars, and the only place colour comes from.

Colour marks what a word says already and is never needed; it is plain SGR, since importing rich would cost
more time than making the whole screen. Signs of our own are ASCII, for terminals that know no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from tidegate.result import Severity, Verdict

WIDTH_MIN, WIDTH_MAX = 40, 100

_SGR = {"bad": "1;31", "unsure": "1;33", "good": "1;32", "strong": "1", "quiet": "2"}
VERDICT_LOOK = {Verdict.AT_RISK: "bad", Verdict.CANNOT_TELL: "unsure", Verdict.SAFE: "good"}
SEVERITY_LOOK = {Severity.DEADLOCK: "bad", Severity.FAULT: "unsure", Severity.STALL: "unsure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What the output goes to."""

    width: int
    colour: bool
    all: bool = False


def screen_of(*, width: int, colour: bool, all: bool = False) -> Screen:
    """A screen no wider than reads well, and not so narrow that nothing fits."""
    return Screen(width=max(WIDTH_MIN, min(width, WIDTH_MAX)), colour=colour, all=all)


def paint(text: str, look: str, screen: Screen) -> str:
    """A text in a look; as it is where there is no colour."""
    return f"\x1b[{_SGR[look]}m{text}\x1b[0m" if screen.colour and look else text


def section(head: str, lines: Iterable[str], screen: Screen) -> list[str]:
    """A head and what stands under it."""
    return [*(paint(one, "strong", screen) for one in fill(head, screen, hang=2)), *lines]


def fill(text: str, screen: Screen, indent: int = 0, hang: int = 0) -> list[str]:
    """Lines no wider than the screen, except that a path or a name is never broken."""
    lines = wrap(
        text,
        screen.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [""]


def line(text: str, screen: Screen, indent: int = 0) -> list[str]:
    """One line, cut where it does not fit; whole and filled with `--all`."""
    if screen.all:
        return fill(text, screen, indent, 2)
    return [cut(" " * indent + text, screen.width)]


def cut(text: str, width: int) -> str:
    """As much as fits, with a sign that there is more."""
    return text if len(text) <= width else text[: width - 4].rstrip() + " ..."


def left_out(number: int, what: str, screen: Screen) -> list[str]:
    """That something was left out, and how much; nothing for nothing."""
    return [paint(cut(f"  and {number} {what}", screen.width), "quiet", screen)] if number > 0 else []


def bars(sizes: Sequence[int | None], room: int) -> list[str]:
    """One bar each, on one scale; what is there is never drawn as nothing, what has no bound runs off it."""
    top = max((size for size in sizes if size), default=0)
    drawn = []
    for size in sizes:
        if size is None:
            drawn.append("#" * max(room - 4, 0) + "...>" if top and room > 4 else "")
        else:
            drawn.append("#" * max(round(room * size / top), 1) if size > 0 and room > 0 else "")
    return drawn


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Columns as wide as their longest cell; those in `left` to the left, numbers to the right."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for cells in (heads, *rows):
        padded = (
            f"{cell:<{size}}" if at in left else f"{cell:>{size}}"
            for at, (cell, size) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return lines
