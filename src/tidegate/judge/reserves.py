"""The smallest reserve with which a design gets through a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache

import msgspec

from tidegate.case import Case, check_case
from tidegate.design import Design
from tidegate.judge.seeds import Runner, Task, runner
from tidegate.simulation import Word

LEAST_PAGES = 1  # 0 is no smaller reserve but another rule: min is what the kernel computes


def smallest_reserve(
    case: Case,
    design: Design,
    seeds: Sequence[int],
    most_pages: int,
    *,
    jobs: int = 1,
    run_tasks: Runner | None = None,
) -> int | None:
    """The smallest `machine.reserve_pages`, at most `most_pages`, with which every seed is SEEN; None: none found.

    LUCKY is no survival: a user starved. How the number is found, and what it may miss: `smallest_surviving`.
    """
    if run_tasks is None:
        with runner(jobs) as made:
            return smallest_reserve(case, design, seeds, most_pages, run_tasks=made)

    def survives(pages: int) -> bool:
        machine = msgspec.structs.replace(case.machine, reserve_pages=pages)
        changed = msgspec.structs.replace(case, machine=machine)
        check_case(changed, case.name)
        tasks = [Task(case=changed, design=design, seed=seed) for seed in seeds]
        with closing(run_tasks(tasks)) as runs:
            return all(run.word is Word.SEEN for run in runs)

    return smallest_surviving(survives, min(most_pages, case.machine.pages - 1))


def smallest_surviving(survives: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from LEAST_PAGES to `most` that survives, found by galloping up, then bisecting.

    Survival need not be monotone: with one page more the runs are other runs. So what was found is looked at from
    both sides: neither of the two below it survives (else the search goes on from there), and the one above does
    (else it was an island, and the search goes on above it). An island further below may be missed.
    """
    seen = cache(survives)
    floor = LEAST_PAGES  # nothing below it is looked at any more
    while True:
        found = _gallop(seen, floor, most)
        if found is None:
            return None
        while (
            lower := next((at for at in (found - 1, found - 2) if at >= floor and seen(at)), None)
        ) is not None:
            found = lower
        if found == most or seen(found + 1):
            return found
        floor = found + 2


def _gallop(seen: Callable[[int], bool], floor: int, most: int) -> int | None:
    """A number that survives with one before it that does not, or `floor`."""
    failed, at, step = floor - 1, floor, 1
    if floor > most:
        return None
    while not seen(at):
        if at == most:
            return None
        failed, at, step = at, min(at + step, most), step * 2
    while at - failed > 1:
        middle = (failed + at) // 2
        failed, at = (failed, middle) if seen(middle) else (middle, at)
    return at
