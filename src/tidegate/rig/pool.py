"""Trials at the same time on this machine, each in a process of its own.

A fresh process for each trial: what one leaks or breaks ends with it, and its start is nothing beside a boot. Each
is in a process group of its own, so that a Ctrl-C at the terminal is for the campaign alone, which ends them.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidegate.errors import Lacking, TidegateError
from tidegate.rig.campaign_file import Planned
from tidegate.rig.places import remove_left_over
from tidegate.rig.results_file import EVIDENCE
from tidegate.trial import Job, TrialResult

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Runner = Callable[[Job, Path], TrialResult]  # makes one trial, its evidence in that folder (empty, there)

BESIDE_MIB = 80  # of host memory that a trial takes besides its guest's
SPARE_MIB = 256  # that are left to others
LONGEST_S = 3 * 3600.0  # of a trial, wall time: the runner ends one itself, unless it hangs
GRACE_S = 10.0  # to end a guest and its servers in order
RUNNING = ".running-"  # evidence of a trial that has not ended is in such a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a trial that was started: a result, trouble of this machine, or how it was lost."""

    planned: Planned
    answer: TrialResult | TidegateError | str
    tries: int = 1  # that the pool itself made
    folder: Path | None = None  # the evidence; whoever takes the result moves it


class Pool(Protocol):
    """Where trials are made. It is woken from `wait` by any of them, and from time to time."""

    def room(self, planned: Planned) -> bool:
        """Whether this one can be started now; True if nothing runs and it ever can. Lacking if it cannot."""

    def start(self, planned: Planned) -> None:
        """Starts it."""

    def wait(self) -> list[Ended]:
        """Those that ended; perhaps none."""

    def running(self) -> int:
        """How many were started and have not ended."""

    def end(self, *, now: bool) -> list[Ended]:
        """Ends the others: in order, or at once. Those that came to their end meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    planned: Planned
    process: BaseProcess
    line: Connection
    folder: Path
    until: float  # monotonic


class LocalPool:
    """Trials in child processes, as many as `jobs` and as memory allows."""

    def __init__(self, directory: Path, runner: Runner, jobs: int) -> None:
        assert jobs >= 1, jobs
        self._evidence = directory / EVIDENCE
        self._runner = runner
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._started = 0
        self._free_mib = available_mib() - SPARE_MIB  # while nothing of ours runs
        for left in self._evidence.glob(f"{RUNNING}*"):  # of a campaign that was killed
            shutil.rmtree(left, ignore_errors=True)

    def room(self, planned: Planned) -> bool:
        """As Pool says."""
        wanted = planned.memory_mib + BESIDE_MIB
        if not self._workers:
            free = available_mib() - SPARE_MIB
            if wanted > free:
                raise Lacking(
                    f"{planned.job.case}: a trial takes {wanted} MiB, and this machine has {max(free, 0)} MiB to "
                    f"give ({SPARE_MIB} MiB are left to others); end other programs, or lower memory_mib"
                )
            return True
        taken = sum(worker.planned.memory_mib + BESIDE_MIB for worker in self._workers)
        # What runs has not touched all of its memory yet; and others may have taken some since the beginning.
        fits = taken + wanted <= self._free_mib and wanted <= available_mib() - SPARE_MIB
        return len(self._workers) < self._jobs and fits

    def start(self, planned: Planned) -> None:
        """As Pool says. Lacking where no process can be started."""
        self._started += 1
        folder = self._evidence / f"{RUNNING}{os.getpid()}-{self._started}"
        try:
            folder.mkdir()
        except OSError as error:
            raise Lacking(f"{folder}: cannot be made ({error.strerror})") from error
        process, line = _process(self._runner, planned.job, folder)
        worker = _Worker(
            planned=planned, process=process, line=line, folder=folder, until=time.monotonic() + LONGEST_S
        )
        self._workers.append(worker)

    def wait(self) -> list[Ended]:
        """As Pool says; no longer than half a second."""
        return self._ended(0.5)

    def running(self) -> int:
        """As Pool says."""
        return len(self._workers)

    def end(self, *, now: bool) -> list[Ended]:
        """As Pool says."""
        ended: list[Ended] = []
        try:
            if not now:
                for worker in self._workers:
                    worker.process.terminate()
                until = time.monotonic() + GRACE_S
                while self._workers and time.monotonic() < until:
                    ended += self._ended(0.2)
        finally:  # also by a second Ctrl-C
            for worker in self._workers:
                kill_with_children(worker.process.pid or 0)
            for worker in self._workers:
                _forget(worker)
                shutil.rmtree(worker.folder, ignore_errors=True)
            self._workers.clear()
            remove_left_over()  # of those that were killed
        return ended

    def _ended(self, timeout_s: float) -> list[Ended]:
        from multiprocessing.connection import wait

        for worker in self._workers:
            if time.monotonic() > worker.until:
                kill_with_children(worker.process.pid or 0)
        # A worker that dies closes its end of the line: that is readable too.
        ready = wait([worker.line for worker in self._workers], timeout_s)
        done = [worker for worker in self._workers if worker.line in ready]
        self._workers = [worker for worker in self._workers if worker not in done]
        return [_answer(worker) for worker in done]


def _answer(worker: _Worker) -> Ended:
    answer: TrialResult | TidegateError | str
    try:
        got = worker.line.recv()
        answer = msgspec.json.decode(got, type=TrialResult) if isinstance(got, bytes) else got
    except (EOFError, OSError):
        answer = ""
    worker.process.join(GRACE_S)
    if worker.process.exitcode is None:
        kill_with_children(worker.process.pid or 0)
    _forget(worker)
    if answer == "":
        answer = f"the process of the trial ended {_how(worker.process.exitcode)}"
        if time.monotonic() > worker.until:
            answer = f"no end after {LONGEST_S / 3600:g} hours"
    return Ended(planned=worker.planned, answer=answer, folder=worker.folder)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _forget(worker: _Worker) -> None:
    worker.process.join()
    worker.line.close()


def _process(runner: Runner, job: Job, folder: Path) -> tuple[BaseProcess, Connection]:
    import multiprocessing
    from multiprocessing import resource_tracker

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, runner, job, folder))
    try:
        resource_tracker.ensure_running()  # else start() does it, and unblocks the signal on the way
        # Until it has a group of its own, a Ctrl-C would reach it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
    except OSError as error:
        raise Lacking(f"no process can be started ({error.strerror}); try fewer --jobs") from error
    theirs.close()
    return process, ours


def _work(line: Connection, runner: Runner, job: Job, folder: Path) -> None:
    """In a worker: makes the trial, says what came of it down the line."""
    import threading

    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # QEMU would inherit the mask
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer = answered(runner, job, folder)
    with suppress(OSError):
        line.send(msgspec.json.encode(answer) if isinstance(answer, TrialResult) else answer)


def answered(runner: Runner, job: Job, folder: Path) -> TrialResult | TidegateError | str:
    """The trial made, here and now; whatever goes wrong in it is the answer."""
    try:
        return runner(job, folder)
    except TidegateError as error:
        return error
    except Exception as error:  # noqa: BLE001 - one trial is lost, the campaign goes on
        import traceback

        with suppress(OSError):
            (folder / "traceback.txt").write_text(traceback.format_exc())
        return f"an error of the rig: {type(error).__name__}: {error}"


def _leave(number: int, _: object) -> None:
    """Lets every `finally` and `with` of the runner end what it began."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """In a worker: nobody takes its result when the campaign was killed."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    kill_with_children(os.getpid())


def kill_with_children(pid: int) -> None:
    """Kills a process and all that it started, the last first, in whichever session they are."""
    for one in reversed([pid, *_below(pid)]):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, listed.read_text().split()):
                found += [child, *_below(child)]
    return found


def available_mib() -> int:
    """Memory that this machine could give to new programs without swapping (MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    words = next(line.split() for line in lines if line.startswith("MemAvailable:"))
    return int(words[1]) // 1024
