"""One arm over seeds: many runs, one word.

The word is the worst that any seed earned, since a schedule that was seen is possible: one STUCK makes the arm
STUCK, else one LUCKY makes it LUCKY (then REFUSED), and only all of them make it SEEN. k of n says how many earned it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tidegate.case import Arm, Case
from tidegate.design import Design
from tidegate.errors import Unsupported
from tidegate.judge.seeds import Gauge, Runner, Task, mechanism, run_task, runner
from tidegate.judge.tried import Tried, tried_arm, tried_design
from tidegate.simulation import Run, Simulated, Word

FIRST_SEED = 1


def seeds_of(case: Case, *, start: int | None = None, many: int | None = None) -> range:
    """The seeds to run: so many from `start` on; by itself `start` is one, and without both the case decides."""
    if many is None:
        many = case.run.seeds if start is None else 1
    start = FIRST_SEED if start is None else start
    return range(start, start + many)


def simulate_arm(
    case: Case, arm_or_design: Arm | Design, seeds: Sequence[int] | None = None, *, jobs: int = 1
) -> Simulated:
    """An arm of a case, or a design on it, over seeds (those of the case unless told). AssertionError as a run."""
    if isinstance(arm_or_design, Arm):
        tried = tried_arm(case, arm_or_design)
    else:
        tried = tried_design(case, arm_or_design)
    with runner(jobs) as run_tasks:
        return simulate_tried(tried, seeds_of(tried.case) if seeds is None else seeds, run_tasks)


def simulate_tried(
    tried: Tried,
    seeds: Sequence[int],
    run_tasks: Runner,
    *,
    sampled: bool = True,
    tell: Callable[[int], None] = lambda _: None,
    gauge: Gauge | None = None,
) -> Simulated:
    """All seeds of one thing to try.

    `sampled` keeps the samples of the first run that earned the word, which is done once more for them; `tell`
    hears how many runs are done, `gauge` follows a run that is the only one.
    """
    assert seeds
    tasks = [Task(case=tried.case, design=tried.design, seed=seed, arm=tried.arm) for seed in seeds]
    runs: list[Run] = []
    if len(tasks) == 1:
        runs = [run_task(mechanism(), replace(tasks[0], sampled=sampled), gauge)]
    else:
        for run in run_tasks(tasks):
            runs.append(run)
            tell(len(runs))
    word = worst_word(runs)
    if word is Word.SEEN and not any(user.completed for run in runs for user in run.users):
        raise Unsupported(
            f"{tried.case.name}, design {tried.design.name}: no block user had a request in any run, which shows "
            "nothing; more programs, a longer storm or less memory would make them write"
        )
    first = next(at for at, run in enumerate(runs) if run.word is word)
    if sampled and len(tasks) > 1:
        runs[first] = _again(runs[first], tasks[first])
    return Simulated(
        case=tried.case.name,
        claim=tried.case.claim,
        arm=tried.arm,
        design=tried.design.name,
        expected=tried.expected,
        met=None if tried.expected is None else word == tried.expected,
        word=word,
        k=sum(run.word is word for run in runs),
        n=len(runs),
        runs=tuple(runs),
        left_out=tried.left_out,
    )


def worst_word(runs: Sequence[Run]) -> Word:
    """The worst word of the runs, in the order of `Word`."""
    order = list(Word)
    return min((run.word for run in runs), key=order.index)


def _again(run: Run, task: Task) -> Run:
    """The same run with samples. Looking must not change what is looked at, nor may anything but the seed."""
    sampled = run_task(mechanism(), replace(task, sampled=True))
    before, after = (run.word, run.end_ns, run.users), (sampled.word, sampled.end_ns, sampled.users)
    assert before == after, (
        f"{task.case.name}, design {task.design.name}, seed {task.seed}: not the same twice"
    )
    return sampled
