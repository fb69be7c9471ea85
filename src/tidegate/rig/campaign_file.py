"""A campaign file: which trials are to be made, and in which order. `tidegate campaign --help` shows one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import msgspec

from tidegate.bundled_cases import case_path
from tidegate.case import read_case
from tidegate.case_trial import Trial
from tidegate.errors import BadInput, Usage
from tidegate.rig.asked import expected_of, is_sysctl, numbers
from tidegate.rig.tally import case_name
from tidegate.strict_toml import Count, Table, convert, read_toml
from tidegate.trial import Job

MEANT = "a campaign in TOML"
MOST_JOBS = 1_000_000

Often = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Sweep(Table, frozen=True):
    """A number of the [trial] part, or a sysctl of the guest, that takes several values."""

    key: str
    values: tuple[Count, ...]


class Some(Table, frozen=True):
    """Some places of the matrix: one of each list that is given, and each number of the sweep."""

    cases: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    nics: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    sweep: dict[str, int] = {}  # noqa: RUF012 - msgspec gives each its own


class Cell(Some, frozen=True):
    """Some places that are tried more or less often than the others."""

    n: Often = 20


class Campaign(Table, frozen=True):
    """The whole file."""

    cases: tuple[str, ...]
    arms: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    nics: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    n: Often = 6
    seed: Count = 1  # the first; the others follow it
    sweep: tuple[Sweep, ...] = ()
    leave_out: tuple[Some, ...] = ()
    only: tuple[Some, ...] = ()
    cell: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A trial to be made, and what must be known before it is started."""

    job: Job
    memory_mib: int  # of the guest
    expected: str | None = None  # what the arm expects


def read_campaign(path: Path) -> tuple[Planned, ...]:
    """The trials of a campaign file, in order: seed 1 of every place, then seed 2.

    So the arms take turns, and however early it ends each place has as many trials as any other. BadInput names
    file and key, also where a case is wrong or has no [trial] part.
    """
    file = str(path)
    return planned_trials(convert(read_toml(path, MEANT), Campaign, file, MEANT), path)


def planned_trials(campaign: Campaign, path: Path = Path("command line")) -> tuple[Planned, ...]:
    """The same for a campaign that is no file; cases named by path are found beside `path`."""
    file = str(path)
    matrix = _matrix(campaign, _cases(campaign, path), file)
    _check_used(campaign, matrix, file)
    kept = [(one, _often(campaign, one.job)) for one in matrix if _kept(campaign, one.job)]
    trials = sum(n for _, n in kept)
    if not 1 <= trials <= MOST_JOBS:
        raise BadInput(file, "", f"{trials} trials", f"from 1 to {MOST_JOBS}")
    return tuple(
        replace(one, job=replace(one.job, seed=campaign.seed + at))
        for at in range(max(n for _, n in kept))
        for one, n in kept
        if at < n
    )


def _cases(campaign: Campaign, path: Path) -> dict[str, Trial]:
    """The [trial] part of each case, by what a job calls the case."""
    found: dict[str, Trial] = {}
    for at, typed in enumerate(campaign.cases):
        place = f"cases[{at}]"
        beside = path.parent / typed
        job_case = str(beside) if typed.endswith(".toml") or beside.is_file() else typed
        try:
            case = read_case(case_path(job_case))
        except Usage as error:
            raise BadInput(str(path), place, repr(typed), f"a case: {error}") from error
        if case.trial is None:
            raise BadInput(str(path), place, f"{typed!r}, which has no [trial] part", "a case that is tried")
        if case.name in map(case_name, found):
            raise BadInput(str(path), place, f"{case.name!r} twice", "each case once, and no two of one name")
        found[job_case] = case.trial
    return found


def _matrix(campaign: Campaign, cases: Mapping[str, Trial], file: str) -> list[Planned]:
    """Every place, with seed 0; the arms are next to each other."""
    sweeps = list(_sweeps(campaign, file))
    for at, name in enumerate(campaign.arms):
        known = dict.fromkeys(arm.name for trial in cases.values() for arm in trial.arm)
        if name not in known:
            raise BadInput(file, f"arms[{at}]", repr(name), f"an arm of a case: {', '.join(known)}")
    return [
        Planned(
            job=Job(
                case=case, arm=arm.name, kernel=kernel, nic=nic, transport=transport, seed=0, sweep=sweep
            ),
            memory_mib=sweep.get("memory_mib", trial.memory_mib),
            expected=expected_of(arm, sweep),
        )
        for case, trial in cases.items()
        for kernel, nic, transport, sweep in product(
            _once(campaign.kernels) or [trial.kernel],
            _once(campaign.nics) or [trial.nic],
            _once(campaign.transports) or [trial.transport],
            sweeps,
        )
        for arm in trial.arm
        if not campaign.arms or arm.name in campaign.arms
    ]


def _sweeps(campaign: Campaign, file: str) -> Iterator[dict[str, int]]:
    known = numbers()
    for at, sweep in enumerate(campaign.sweep):
        place = f"sweep[{at}]"
        if sweep.key not in known and not is_sysctl(sweep.key):
            expected = f"a sysctl, or a number of a case's [trial] part: {', '.join(known)}"
            raise BadInput(file, f"{place}.key", repr(sweep.key), expected)
        if [one.key for one in campaign.sweep].count(sweep.key) > 1:
            raise BadInput(file, f"{place}.key", f"{sweep.key!r} twice", "each key once")
        if not sweep.values:
            raise BadInput(file, f"{place}.values", "an empty list", "at least one number")
        for number, value in enumerate(sweep.values if sweep.key in known else ()):
            convert({sweep.key: value}, Trial, f"{file}: {place}.values[{number}]", MEANT)
    values = [[(one.key, value) for value in dict.fromkeys(one.values)] for one in campaign.sweep]
    yield from map(dict, product(*values))


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _matches(some: Some, job: Job) -> bool:
    names = (
        (tuple(map(case_name, some.cases)), case_name(job.case)),
        (some.arms, job.arm),
        (some.kernels, job.kernel),
        (some.nics, job.nic),
        (some.transports, job.transport),
    )
    named = all(not wanted or name in wanted for wanted, name in names)
    return named and some.sweep.items() <= job.sweep.items()


def _kept(campaign: Campaign, job: Job) -> bool:
    asked = not campaign.only or any(_matches(one, job) for one in campaign.only)
    return asked and not any(_matches(one, job) for one in campaign.leave_out)


def _often(campaign: Campaign, job: Job) -> int:
    """The n of the last cell that the job is in."""
    return next((one.n for one in reversed(campaign.cell) if _matches(one, job)), campaign.n)


def _check_used(campaign: Campaign, matrix: Sequence[Planned], file: str) -> None:
    """A part that picks nothing out of the matrix is a slip of the pen."""
    parts: dict[str, Sequence[Some]] = {
        "leave_out": campaign.leave_out, "only": campaign.only, "cell": campaign.cell,
    }  # fmt: skip
    for part, ones in parts.items():
        for at, some in enumerate(ones):
            if not any(_matches(some, one.job) for one in matrix):
                raise BadInput(file, f"{part}[{at}]", "what is nowhere in the matrix", "some places of it")
