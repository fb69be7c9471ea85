"""A run and a real kernel side by side, as text."""

from __future__ import annotations

from tidegate.report.screen import fill, paint, screen_of, table
from tidegate.report.simulate_words import time_words
from tidegate.report.words import printable
from tidegate.simulation import Against

_MS = 1_000_000  # ns


def against_text(result: Against, *, width: int = 80, colour: bool = False) -> str:
    """Where they part first, then every milestone of both; ends with a newline."""
    screen = screen_of(width=width, colour=colour)
    first = (
        f"the kernel leaves the run first at {result.leaves}"
        if result.leaves
        else "the kernel does what the run does, as far as a trace can tell"
    )
    about = (
        f"simulate {result.case}, arm {result.arm}, seed {result.seed}: {result.word}; "
        f"trial, arm {result.trial_arm} on {result.kernel}, {result.nic}: {result.verdict}"
    )
    rows = [
        (
            one.name,
            "-" if one.simulated_ns is None else time_words(one.simulated_ns),
            "-" if one.kernel_ms is None else time_words(one.kernel_ms * _MS),
        )
        for one in result.steps
    ]
    only = [
        f"{who} tells besides: {', '.join(names)}"
        for who, names in (("simulate", result.only_simulated), ("the trace", result.only_kernel))
        if names
    ]
    key = (
        "Only presence and order are compared: the clocks, sizes and speeds are others. On the kernel what is less "
        "than 1 s apart has no order, and the last progress is a step of the load or a page swapped."
    )
    lines = [
        *(
            paint(one, "bad" if result.leaves else "good", screen)
            for one in fill(printable(first), screen, hang=2)
        ),
        *(paint(one, "quiet", screen) for one in fill(printable(about), screen, 2, 2)),
        "",
        *(f"  {one}" for one in table(("in the order of the run", "simulate", "kernel"), rows)),
        "",
        *(one for text in only for one in fill(printable(text), screen, 2, 2)),
        *(paint(one, "quiet", screen) for one in fill(key, screen, 2, 2)),
    ]
    return "\n".join(lines) + "\n"
