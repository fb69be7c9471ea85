"""What `tidegate swarm` prints."""

from __future__ import annotations

from tidegate.report.screen import fill, paint, screen_of, section, table
from tidegate.simulation import Swarm, SwarmRow, Word


def swarm_text(result: Swarm, *, width: int = 80, colour: bool = False) -> str:
    """One row a design, then every surprise with the command that repeats it."""
    screen = screen_of(width=width, colour=colour)
    number = len(result.surprises)
    head = f"{number} surprise{'' if number == 1 else 's'} in {result.n:,} machines"
    look = "bad" if number else "good"
    last = result.first_seed + result.n - 1
    lines = [paint(head, look, screen)]
    lines += fill(f"seeds {result.first_seed} to {last}, {result.events:,} events", screen)
    heads = ["design", *(f"lawful {word.value}" for word in Word), "STUCK unlawful", "of"]
    rows = [[row.design, *_cells(row)] for row in result.rows]
    lines += ["", *section("How the runs ended", table(heads, rows), screen)]
    lines += [
        "",
        *fill("lawful: all three laws hold on that machine, as far as can be told beforehand", screen),
    ]
    for one in result.surprises:
        lines += ["", *fill(f"seed {one.seed}, {one.design}: {one.what}", screen, hang=2), f"  {one.repeat}"]
    return "\n".join(lines) + "\n"


def _cells(row: SwarmRow) -> list[str]:
    unlawful = sum(row.unlawful.values())
    return [
        *(str(row.lawful.get(word.value, 0)) for word in Word),
        str(row.unlawful.get(Word.STUCK.value, 0)),
        str(unlawful),
    ]
