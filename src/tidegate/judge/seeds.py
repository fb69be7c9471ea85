"""Runs of the mechanism, one a seed, over the cores of this machine.

A run is a function of case, design and seed, and what comes back is in the order that was asked for: which core
was faster is never seen in a result. The workers are processes of their own (spawned, so that they begin with
nothing of ours), started when first needed and ended with the block that asked for them, also by an interrupt.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tidegate.case import Case
from tidegate.design import Design
from tidegate.errors import Lacking
from tidegate.simulation import Run

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Gauge = Callable[[int, int, int, int], None]  # time_ns, total_ns, free_pages, completed


class Simulate(Protocol):
    """The mechanism: `tidegate.sim.run.simulate`."""

    def __call__(
        self,
        case: Case,
        design: Design,
        seed: int,
        *,
        arm: str = "",
        sampled: bool = False,
        tell: Gauge | None = None,
    ) -> Run:
        """One run; AssertionError for an invariant that does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run to be done."""

    case: Case
    design: Design
    seed: int
    arm: str = ""
    sampled: bool = False  # with a picture of who holds the pages at many moments


# Does tasks, and gives their runs in the order of the tasks; it may be left early.
Runner = Callable[[Sequence[Task]], Generator[Run, None, None]]


def mechanism() -> Simulate:
    """The function that does a run."""
    from tidegate.sim.run import simulate

    return simulate


def run_task(simulate: Simulate, task: Task, gauge: Gauge | None = None) -> Run:
    """One run, in this process. AssertionError names the run whose invariant does not hold."""
    case, design = task.case, task.design
    try:
        return simulate(case, design, task.seed, arm=task.arm, sampled=task.sampled, tell=gauge)
    except AssertionError as error:
        place = f"{case.name}, design {design.name}, seed {task.seed}"
        raise AssertionError(f"{place}: {error}") from error


@contextmanager
def runner(jobs: int) -> Iterator[Runner]:
    """What does tasks on `jobs` cores. Lacking where a worker cannot be started, or is ended from outside."""
    assert jobs >= 1, jobs
    simulate = mechanism()
    workers: list[_Worker] = []

    def run_tasks(tasks: Sequence[Task]) -> Generator[Run, None, None]:
        if min(jobs, len(tasks)) <= 1:  # a worker takes longer to start than most runs last
            for task in tasks:
                yield run_task(simulate, task)
            return
        while len(workers) < min(jobs, len(tasks)):
            workers.append(_started())
        yield from _spread(workers, simulate, tasks)

    try:
        yield run_tasks
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.line.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    process: BaseProcess
    line: Connection


def _started() -> _Worker:
    import multiprocessing
    from multiprocessing import resource_tracker

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Ctrl-C goes to every process of the terminal. The workers inherit the mask and never see it; they are ended
    # from here, or with this process.
    try:
        resource_tracker.ensure_running()  # else start() does it, and unblocks the signal on the way
    except OSError as error:
        raise _no_process(error) from error
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    except OSError as error:
        raise _no_process(error) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()
    return _Worker(process=process, line=ours)


def _work(line: Connection) -> None:
    """In a worker: does what comes down the line until nobody is at its other end."""
    import threading
    import traceback

    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: Run | Exception
    while True:
        try:
            simulate, task = line.recv()
        except (EOFError, OSError):
            return
        try:
            answer = run_task(simulate, task)
        except Exception as error:  # noqa: BLE001 - raised again on the other side
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            answer = error
        try:
            line.send(answer)
        except OSError:
            return


def _end_with_parent() -> None:
    """In a worker: a run may be long, and nobody hears of it when the parent was killed."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _spread(workers: list[_Worker], simulate: Simulate, tasks: Sequence[Task]) -> Generator[Run, None, None]:
    """The runs in the order of the tasks; each idle worker gets the next task."""
    from multiprocessing.connection import wait

    idle = [worker.line for worker in workers]
    busy: dict[Connection, int] = {}  # what each works on
    done: dict[int, Run] = {}
    given = 0
    try:
        for at in range(len(tasks)):
            while at not in done:
                while idle and given < len(tasks):
                    line = idle.pop()
                    _send(line, (simulate, tasks[given]))
                    busy[line] = given
                    given += 1
                ready = wait(list(busy))
                for line in [one for one in busy if one in ready]:
                    done[busy.pop(line)] = _received(line)
                    idle.append(line)
            yield done.pop(at)
    except GeneratorExit:
        for line in busy:  # nobody wants these any more, but the next tasks need the lines free
            _received(line)
        raise


def _send(line: Connection, what: tuple[Simulate, Task]) -> None:
    try:
        line.send(what)
    except OSError as error:
        raise _gone() from error


def _received(line: Connection) -> Run:
    try:
        answer = line.recv()
    except (EOFError, OSError) as error:
        raise _gone() from error
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, Run), type(answer)
    return answer


def _no_process(error: OSError) -> Lacking:
    return Lacking(f"no process can be started ({error.strerror}); try --jobs 1")


def _gone() -> Lacking:
    return Lacking("a worker process was ended from outside (too little memory?); try fewer --jobs")
