"""The words that text, page and trace of a simulated run share: which run is told, and how its numbers read."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate.report.words import counted, pages_words, printable
from tidegate.simulation import Milestone, Run, Sample, Simulated, Word

PAGE_BYTES = 4096
FREE = "free"  # the holder of pages that nobody holds, and the pool they are counted in
RING = "ring"

WHY = (
    "This machine frees memory by writing pages to a disk over the network. A write ends when its reply has "
    "arrived, and receiving takes memory, which any other packet may take first. When none is left, no reply "
    "arrives, no write ends, and no page is freed."
)
MEANS = {
    Word.STUCK: "after the storm somebody waits, and no completion comes",
    Word.LUCKY: "somebody starved until the storm was over",
    Word.REFUSED: "the throttle has no room for a user and says so: nothing was tried",
    Word.SEEN: "everything completed and nobody starved; it says nothing of runs that were not made",
}
STORY = {
    Word.STUCK: "How the machine dies",
    Word.LUCKY: "How the machine starves, and is saved by the end of the storm",
    Word.REFUSED: "Why a user is refused",
    Word.SEEN: "Why the machine does not die",
}
LOOK = {Word.STUCK: "bad", Word.LUCKY: "unsure", Word.REFUSED: "unsure", Word.SEEN: "good"}

# The milestones that are drawn into every curve, and what stands beside their line.
MARKS = {"last_completion": "last completion", "storm_over": "end of the storm", "stuck": "judged STUCK"}

_PLURALS = ("pages", "packets", "requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class LowWater:
    """The least that was in a pool, and how that stands to a line below which somebody is refused."""

    pool: str
    least: int
    line: str
    line_at: int
    so: str


def told_run(result: Simulated) -> Run:
    """The first run that earned the word: the one whose samples are kept."""
    return next((run for run in result.runs if run.word is result.word), result.runs[0])


def seeds_words(result: Simulated) -> str:
    """`in 18 of 20 seeds, as expected`."""
    seeds = f"in {result.k} of {counted(result.n, 'seed')}"
    if result.expected is None:
        return seeds
    return f"{seeds}, {'as expected' if result.met else f'but {result.expected} was expected'}"


def other_words(result: Simulated) -> str:
    """What the other seeds earned; empty where all earned the word."""
    words = Counter(run.word for run in result.runs)
    return ", ".join(f"{word} in {words[word]}" for word in Word if word is not result.word and words[word])


def tried_words(run: Run) -> str:
    """Case, arm and design; a design that was tried by itself has no arm."""
    arm = f", arm {run.arm} (design {run.design})" if run.arm else f", design {run.design}"
    return printable(f"case {run.case}{arm}")


def machine_words(run: Run) -> str:
    """The run in a line: case, arm, design, seed, memory, reserve, storm."""
    reserve = f"reserve {pages_words(run.reserve_pages, PAGE_BYTES)}" if run.reserve_pages else "no reserve"
    pinned = f", {pages_words(run.pinned_pages, PAGE_BYTES)} pinned beforehand" if run.pinned_pages else ""
    return (
        f"{tried_words(run)}, seed {run.seed}: memory {pages_words(run.pages, PAGE_BYTES)}, {reserve}{pinned}; "
        f"storm {time_words(run.storm_ns)}"
    )


def command_words(result: Simulated) -> str:
    """The command that repeats the run that is told, as a shell takes it.

    Without an arm the design's own name says what was left out (design.py:without).
    """
    run = told_run(result)
    if run.arm:
        choice, *left_out = f"--arm {_quoted(run.arm)}", *result.left_out
    else:
        base, *lists = run.design.split(" without ")
        choice, *left_out = f"--design {_quoted(base)}", *(name for one in lists for name in one.split(", "))
    words = [choice, *(f"--without {_quoted(name)}" for name in left_out)]
    return f"tidegate simulate {_quoted(result.called or run.case)} {' '.join(words)} --seed {run.seed}"


def _quoted(name: str) -> str:
    return shlex.quote(printable(name))


def time_words(time_ns: int | None, *, none: str = "never") -> str:
    """A virtual time to three or four digits: `850 ns`, `12.3 ms`, `1,200 s`."""
    if time_ns is None:
        return none
    if abs(time_ns) < 1000:
        return "0" if time_ns == 0 else f"{time_ns} ns"
    scale = 1000
    unit = "us"
    for following in ("ms", "s"):
        if abs(time_ns) < scale * 999.5:
            break
        scale, unit = scale * 1000, following
    size = time_ns / scale
    text = f"{size:,.0f}" if abs(size) >= 99.95 else f"{size:.2f}" if abs(size) < 9.995 else f"{size:.1f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def delay_words(time_ns: int | None) -> str:
    """How long something took that may have taken no time, or for ever."""
    return "at once" if time_ns == 0 else time_words(time_ns)


def percent_words(share: float | None) -> str:
    """A share in per cent; never 0 or 100 for what is only nearly so."""
    if share is None:
        return "-"
    text = f"{share:.1f}"
    if text == "0.0" and share > 0:
        return "<0.1 %"
    if text == "100.0" and share < 100:
        return ">99.9 %"
    return f"{text.removesuffix('.0')} %"


def fact_words(name: str, value: int) -> str:
    """A number of a milestone, by the unit that its name ends with: `free 64 pages`, `gap 1.2 s`."""
    stem, _, unit = name.rpartition("_")
    if stem and unit == "ns":
        return printable(f"{stem.replace('_', ' ')} {time_words(value)}")
    if stem and unit in _PLURALS:
        return printable(f"{stem.replace('_', ' ')} {counted(value, unit.removesuffix('s'))}")
    if stem and unit == "bytes":
        return printable(f"{stem.replace('_', ' ')} {value:,} B")
    return printable(f"{name.replace('_', ' ')} {value:,}")


def facts_words(milestone: Milestone) -> str:
    """The numbers of a milestone, in the order given, but for those that its sentence says already."""
    said = set(re.findall(r"\d+", milestone.text.replace(",", "")))
    facts = milestone.facts.items()
    return ", ".join(fact_words(name, value) for name, value in facts if str(value) not in said)


def gap_words(run: Run) -> str:
    """The longest time without progress: whose, how long, from when, and whether it ended."""
    if not run.users:
        return "no block user, so nobody waited"
    worst = max(run.users, key=lambda user: user.gap_ns)
    if worst.gap_ns <= 0:
        return "none: nobody ever waited without a completion"
    ends_ns = worst.gap_from_ns + worst.gap_ns
    if worst.waiting and ends_ns >= run.end_ns:
        after = f"and it had not ended when the run did, at {time_words(run.end_ns)}"
    elif worst.gap_from_ns < run.storm_ns <= ends_ns:
        after = f"until {time_words(ends_ns)}, after the end of the storm"
    else:
        after = f"until {time_words(ends_ns)}"
    return printable(
        f"{worst.name} waited {time_words(worst.gap_ns)} without a completion, from "
        f"{time_words(worst.gap_from_ns)}, {after}"
    )


def after_words(run: Run) -> tuple[str, str]:
    """What the end of the storm brought: all completed when, the reserve whole again when."""
    if run.word is Word.REFUSED:
        return "nothing was tried", "nothing was tried"
    done = "never, somebody still waits" if run.complete_ns is None else delay_words(run.complete_ns)
    stuck = (
        ", since the machine does not recover" if run.word is Word.STUCK else " in the time that was waited"
    )
    clear = f"never{stuck}" if run.clear_ns is None else delay_words(run.clear_ns)
    return done, clear


def low_waters(run: Run) -> Iterator[LowWater]:
    """Each pool against its lines.

    Free pages have two: below min programs wait for reclaim, and at the atomic floor interrupts get nothing
    (mm/page_alloc.c:__zone_watermark_ok; 3/8 of min for GFP_ATOMIC). Any other pool ends at nothing.
    """
    for pool, least in run.low_water.items():
        if pool == FREE:
            for line, at in (("min", run.wmark_min_pages), ("atomic floor", run.atomic_floor_pages)):
                yield LowWater(pool="free pages", least=least, line=line, line_at=at, so=_margin(least, at))
        else:
            name = "receive ring (buffers)" if pool == RING else pool
            so = "ran out" if least <= 0 else f"{least:,} left"
            yield LowWater(pool=name, least=least, line="empty", line_at=0, so=so)


def _margin(least: int, line: int) -> str:
    if least == line:
        return "reached it"
    return f"{abs(least - line):,} {'above' if least > line else 'below'}"


def held_words(page_ns: int) -> str:
    """Pages times time: what it costs the machine that a holder keeps pages."""
    return f"{page_ns / 1e9:,.1f}" if page_ns >= 1e8 or page_ns == 0 else f"{page_ns / 1e9:.2g}"


def lost_percent(foreign: Mapping[str, int]) -> float | None:
    """The share of others' packets that was dropped; None where none arrived."""
    arrived = foreign.get("arrived", 0)
    return 100 * foreign.get("dropped", 0) / arrived if arrived else None


def drop_rows(run: Run) -> list[tuple[str, int, int]]:
    """Reason, drops of all traffic, drops of block IO's own packets; most first."""
    reasons = run.drops.keys() | run.block_drops.keys()
    rows = [(name, run.drops.get(name, 0), run.block_drops.get(name, 0)) for name in reasons]
    return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))


def milestone_ns(run: Run, id: str) -> int | None:
    """When a milestone was reached; the last of that name, None where it was not."""
    return max((one.time_ns for one in run.milestones if one.id == id), default=None)


def decided_ns(run: Run) -> int | None:
    """When it was decided that somebody starves: the last completion, else the last new thing in the storm."""
    last = milestone_ns(run, "last_completion")
    if last is not None or run.word not in {Word.STUCK, Word.LUCKY}:
        return last
    return max((one.time_ns for one in run.milestones if one.time_ns < run.storm_ns), default=None)


def free_pages(run: Run, sample: Sample) -> int | None:
    """The free pages of a moment; None where the run does not name them."""
    return sample.held[run.holders.index(FREE)] if FREE in run.holders else None
