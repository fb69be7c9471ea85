"""A campaign: many trials, each made once and kept for good, whatever ends it in between.

It decides which trial is next and what is kept; where they are made is the pool's business (pool.py: here,
cluster.py: on a Dask cluster).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidegate.errors import Lacking, TidegateError, Unsupported
from tidegate.rig.campaign_file import Planned
from tidegate.rig.pool import Ended, Pool
from tidegate.rig.results_file import EVIDENCE, Store, Which, append, which
from tidegate.rig.tally import Place, decided, place_of, tallies
from tidegate.trial import Job, TrialResult, Verdict

TRIES = 2  # a trial that is lost is made once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a campaign ended."""

    results: tuple[TrialResult, ...]  # of its trials, old and new, in the order of the campaign
    skipped: dict[str, str] = field(default_factory=dict)  # key of a job that cannot be made here -> why
    spared: int = 0  # trials that `until_sure` did without
    interrupted: bool = False


@dataclass(slots=True, kw_only=True)
class _Course:
    """Where a campaign is."""

    store: Store
    waiting: deque[Planned]
    places: dict[Place, list[TrialResult]]
    until_sure: bool
    tell: Callable[[TrialResult], None]
    lost: dict[Which, int] = field(default_factory=dict)  # how often so far
    skipped: dict[str, str] = field(default_factory=dict)
    spared: int = 0


def to_do(
    planned: Iterable[Planned], store_results: Iterable[Which], lost: Iterable[Which] = ()
) -> list[Planned]:
    """The trials that are not kept yet, or whose kept result is to be made again."""
    kept = set(store_results) - set(lost)
    return [one for one in planned if which(one.job) not in kept]


def lost_ones(results: Iterable[TrialResult]) -> list[Which]:
    """Those that were lost."""
    return [which(one) for one in results if one.verdict is Verdict.LOST]


def run_campaign(
    planned: Sequence[Planned],
    store: Store,
    pool: Pool,
    *,
    tell: Callable[[TrialResult], None] = lambda _: None,
    until_sure: bool = False,
    lost_again: bool = False,
) -> Outcome:
    """Makes the trials that are not kept yet; `tell` hears of each result once it is kept.

    Ctrl-C once: nothing new is started and what runs is ended; twice: at once. Either way what was kept stays, and
    the outcome says so. Raises what a trial says of this machine (Lacking, BadInput), with the rest ended in order.
    """
    again = lost_ones(store.results.values()) if lost_again else []
    places: dict[Place, list[TrialResult]] = {}
    for one in planned:
        if (kept := store.results.get(which(one.job))) is not None and which(one.job) not in again:
            places.setdefault(place_of(one.job), []).append(kept)
    course = _Course(
        store=store,
        waiting=deque(to_do(planned, store.results, again)),
        places=places,
        until_sure=until_sure,
        tell=tell,
    )
    for place in list(places):
        _spare(course, place)
    if course.waiting:  # a trial that cannot be made here is told now, not after an hour
        pool.room(max(course.waiting, key=lambda one: one.memory_mib))
    with _interrupts(pool) as interrupted:
        try:
            while (course.waiting or pool.running()) and not interrupted.is_set():
                while course.waiting and not interrupted.is_set() and pool.room(course.waiting[0]):
                    pool.start(course.waiting.popleft())
                _take(course, pool.wait())
        finally:
            _take(course, pool.end(now=False), late=True)
    results = [store.results[which(one.job)] for one in planned if which(one.job) in store.results]
    return Outcome(
        results=tuple(results), skipped=course.skipped, spared=course.spared, interrupted=interrupted.is_set()
    )


@contextmanager
def _interrupts(pool: Pool) -> Iterator[threading.Event]:
    """Set by the first Ctrl-C (or SIGTERM); the second raises KeyboardInterrupt, with everything killed."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there are signals heard
        yield asked
        return

    def heard(*_: object) -> None:
        if asked.is_set():
            pool.end(now=True)
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take(course: _Course, ended: Iterable[Ended], *, late: bool = False) -> None:
    """Keeps what came; `late`: what was cut short by the campaign's own end is no result."""
    trouble: TidegateError | None = None
    for one in ended:
        answer = one.answer
        if isinstance(answer, Unsupported):
            _skip(course, one, str(answer))
        elif isinstance(answer, TidegateError):
            _drop(one.folder)
            trouble = trouble or answer
        elif late and isinstance(answer, str):
            _drop(one.folder)
        else:
            _take_result(course, one, answer, late=late)
    if trouble is not None and not late:
        raise trouble


def _take_result(course: _Course, ended: Ended, answer: TrialResult | str, *, late: bool) -> None:
    planned, trial = ended.planned, which(ended.planned.job)
    before = course.lost.get(trial, 0)
    result = _lost(planned, answer) if isinstance(answer, str) else answer
    assert which(result) == trial, f"asked for {planned.job.key()}, got {result.job.key()}"
    tries = before + max(ended.tries, result.tries)
    if result.verdict is Verdict.LOST and tries < TRIES:
        _drop(ended.folder)
        course.lost[trial] = tries
        if not late:
            course.waiting.appendleft(planned)
        return
    evidence = _keep_evidence(course.store, planned.job, ended.folder)
    # The place is the one that was asked for; how its case was named is how it can be found again.
    result = replace(
        result,
        case=planned.job.case,
        tries=tries,
        evidence=evidence,
        expected=result.expected or planned.expected,
    )
    append(course.store, result)
    place = place_of(result)
    course.places.setdefault(place, []).append(result)
    course.tell(result)
    _spare(course, place)


def _skip(course: _Course, ended: Ended, why: str) -> None:
    """What this kernel or machine does not have, it does not have for the next seed either."""
    _drop(ended.folder)
    place = place_of(ended.planned.job)
    same = [one for one in course.waiting if place_of(one.job) == place]
    course.skipped |= {one.job.key(): why for one in (ended.planned, *same)}
    course.waiting = deque(one for one in course.waiting if place_of(one.job) != place)


def _spare(course: _Course, place: Place) -> None:
    if not course.until_sure or not all(map(decided, tallies(course.places[place]))):
        return
    left = deque(one for one in course.waiting if place_of(one.job) != place)
    course.spared += len(course.waiting) - len(left)
    course.waiting = left


def _lost(planned: Planned, why: str) -> TrialResult:
    job = planned.job
    return TrialResult(
        case=job.case,
        arm=job.arm,
        kernel="",
        kernel_name=job.kernel,
        kernel_sha256="",
        nic=job.nic,
        transport=job.transport,
        seed=job.seed,
        sweep=dict(job.sweep),
        verdict=Verdict.LOST,
        reason=why,
        expected=planned.expected,
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def evidence_name(job: Job) -> str:
    """The name of a job's folder below evidence/: readable, and another for each job."""
    key = job.key()
    readable = re.sub(r"[^A-Za-z0-9_=-]+", ".", key).strip(".")[-100:]
    return f"{readable}.{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _keep_evidence(store: Store, job: Job, folder: Path | None) -> str | None:
    """Gives the folder its name for good, before the line that names it is written; None if it is empty."""
    if folder is None:
        return None
    name = f"{EVIDENCE}/{evidence_name(job)}"
    try:
        if not any(folder.iterdir()):
            folder.rmdir()
            return None
        _drop(store.directory / name)  # of a campaign that was killed before it wrote the line
        os.replace(folder, store.directory / name)  # noqa: PTH105 - a folder, not a file
    except OSError as error:
        raise Lacking(f"{store.directory / name}: cannot be written ({error.strerror})") from error
    return name


def _drop(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
