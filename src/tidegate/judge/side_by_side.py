"""Designs side by side on one case: what each earns, what it costs, and the smallest reserve it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.case import Case
from tidegate.design import Design
from tidegate.judge.arms import worst_word
from tidegate.judge.reserves import smallest_reserve
from tidegate.judge.seeds import Runner, Task, runner
from tidegate.simulation import Compared, Row, Run, Word


def most_reserve_pages(case: Case) -> int:
    """How far the search for a reserve goes unless told: a quarter of memory.

    3/8 of min is the reserve, so min is then 2/3 of memory, and there is no machine left to speak of.
    """
    return case.machine.pages // 4


def compare(
    case: Case,
    designs: Sequence[Design],
    seeds: Sequence[int],
    *,
    most_pages: int | None = None,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> Compared:
    """Every design on the case as it stands (no arm's changes), best first. `tell` hears what is being done."""
    most = most_reserve_pages(case) if most_pages is None else min(most_pages, case.machine.pages - 1)
    with runner(jobs) as run_tasks:
        rows = []
        for number, one in enumerate(designs, 1):

            def told(what: str, place: str = f"{one.name} ({number} of {len(designs)})") -> None:
                tell(f"{place}: {what}")

            rows.append(_row(case, one, seeds, most, run_tasks, told))
    return Compared(
        case=case.name,
        claim=case.claim,
        n=len(seeds),
        reserve_pages=case.machine.reserve_pages,
        rows=tuple(sorted(rows, key=_rank)),
    )


def _row(
    case: Case,
    design: Design,
    seeds: Sequence[int],
    most: int,
    run_tasks: Runner,
    tell: Callable[[str], None],
) -> Row:
    tell(f"{len(seeds)} seeds")
    runs = list(run_tasks([Task(case=case, design=design, seed=seed) for seed in seeds]))
    word = worst_word(runs)
    tell(f"the smallest reserve, up to {most} pages")
    reserve = smallest_reserve(case, design, seeds, most, run_tasks=run_tasks)
    arrived = sum(run.foreign.get("arrived", 0) for run in runs)
    lost = sum(run.foreign.get("dropped", 0) for run in runs)
    return Row(
        design=design.name,
        word=word,
        k=sum(run.word is word for run in runs),
        n=len(runs),
        reserve_pages=reserve,
        searched_pages=most,
        free_low_pages=min(run.low_water["free"] for run in runs),
        foreign_lost_percent=round(100 * lost / arrived, 2) if arrived else 0.0,
        complete_ns=_worst(runs, lambda run: run.complete_ns),
        pinned_pages=max(run.pinned_pages for run in runs),
        clear_ns=_worst(runs, lambda run: run.clear_ns),
    )


def _rank(row: Row) -> tuple[int, int, int, int, float]:
    """SEEN before LUCKY before STUCK, then what costs less; equal ones stay in the order they were asked for."""
    badness = list(reversed(Word)).index(row.word)
    bad_runs = 0 if row.word is Word.SEEN else row.k
    reserve = row.reserve_pages if row.reserve_pages is not None else row.searched_pages + 1
    return badness, bad_runs, reserve, row.pinned_pages, row.foreign_lost_percent


def _worst(runs: Sequence[Run], time_ns: Callable[[Run], int | None]) -> int | None:
    """The longest of the times; None where one never came."""
    times = [time_ns(run) for run in runs]
    known = [time for time in times if time is not None]
    return max(known) if len(known) == len(times) else None
