"""One line of a terminal that shows a run while it goes: how much memory is free, how far, how much is done."""

from __future__ import annotations

from tidegate.report.screen import cut
from tidegate.report.simulate_words import time_words

_BAR_LEAST, _BAR_MOST = 8, 48
_SCALE = 4  # the bar is the bottom of memory, four times min: above that nobody is refused anything


def gauge_line(
    free_pages: int,
    pages: int,
    wmark_min: int,
    atomic_floor: int,
    time_ns: int,
    total_ns: int,
    completed: int,
    width: int,
) -> str:
    """`free [###:##|#####>] 1,234 pages  120 ms of 2 s  345 completed`: never wider than `width` signs.

    The bar reaches from nothing to four times min, or to all of memory where that is less; `>` at its end says
    that more is free. `:` marks the atomic floor and `|` min, both in pages. Times are virtual. Where the
    width does not do for a bar, the words stand alone, and are cut.
    """
    # Numbers keep their places while they grow, so that the line stands still.
    free = f"{free_pages:>{len(f'{pages:,}')},} pages"
    after = f" {free}  {time_words(time_ns):>7} of {time_words(total_ns)}  {completed:>7,} completed"
    room = min(width - len("free []") - len(after), _BAR_MOST)
    if room < _BAR_LEAST:
        return cut(f"free{after}", width) if width >= len("free ...") else f"free{after}"[: max(width, 0)]
    return f"free [{_bar(free_pages, pages, wmark_min, atomic_floor, room)}]{after}"


def _bar(free_pages: int, pages: int, wmark_min: int, atomic_floor: int, room: int) -> str:
    top = max(min(_SCALE * wmark_min, pages), 1)
    # What is there is never drawn as nothing: zero is the one number that must be told from all others.
    full = min(max(round(room * free_pages / top), 1 if free_pages > 0 else 0), room)
    signs = ["#"] * full + ["."] * (room - full)
    for sign, mark in ((":", atomic_floor), ("|", wmark_min)):
        if 0 < mark < top:
            signs[min(round(room * mark / top), room - 1)] = sign
    if free_pages > top:
        signs[-1] = ">"
    return "".join(signs)
