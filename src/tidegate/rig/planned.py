"""The plan arm: what `tidegate plan` says for a guest of the same shape, from a record taken inside it.

And the word of `tidegate check` for a trial's guest, to stand beside what the trial showed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate import setting_ids
from tidegate.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from tidegate.case import Case
    from tidegate.host.facts import Host
    from tidegate.result import Plan, Setting
    from tidegate.rig.tried import Tried
    from tidegate.trial import Job

Tell = Callable[[str], None]
# What any plan may set, whether or not the one for this guest does.
KNOWN_IDS = tuple(
    value for name, value in vars(setting_ids).items() if name.isupper() and isinstance(value, str)
)
RecordOf = Callable[["Tried", Tell], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan: its script, and what it writes by path."""

    script: str
    values: dict[str, str]
    check: str  # the word of `tidegate check` for the guest with these settings in force
    before: str = ""  # and for the guest as it was recorded
    says: str = ""  # what the plan says of itself: why it does not fit, or what remains


def plan_for(tried: Tried, tell: Tell, *, record_of: RecordOf | None = None) -> Planned:
    """The plan for a trial's guest, without the settings that the arm leaves out.

    BadInput for an id that the plan does not have; Unsupported where nothing is left to be set: such an arm would be
    the arm `stock` under another name. A plan that does not fit is tried all the same with what it does set.
    """
    host = _host(tried, tell, record_of)
    plan = _plan(host)
    kept = without(plan.settings, tried.arm.without, tried.job.case, f"trial.arm {tried.arm.name!r}")
    if not kept:
        raise Unsupported(f"arm {tried.arm.name}: the plan for this guest sets nothing: {plan.reason}")
    return _planned(host, plan, kept)


def without(
    settings: Sequence[Setting], left_out: Sequence[str], file: str, place: str
) -> tuple[Setting, ...]:
    """The settings but those whose id is, or begins with, one of `left_out`.

    Unsupported where the plan for this guest sets none of a name: the arm would be the whole plan under another name.
    BadInput where no plan could.
    """
    for name in left_out:
        if not any(one.id.startswith(name) for one in settings):
            if not any(known.startswith(name.partition(":")[0]) for known in KNOWN_IDS):
                raise BadInput(file, f"{place}.without", repr(name), f"one of {', '.join(KNOWN_IDS)}")
            raise Unsupported(
                f"{place}: the plan for this guest sets no {name}, so there is nothing to leave out"
            )
    return tuple(one for one in settings if not one.id.startswith(tuple(left_out)))


def check_word(case: Case, job: Job, tell: Tell = lambda _: None) -> str:
    """What `tidegate check` says of the guest of this trial (SAFE, AT_RISK, CANNOT_TELL); with the plan in force if
    the arm's measures hold it. Raises what `one_trial.run_job` raises before a trial.
    """
    from tidegate.rig.tried import tried_job

    del case  # the job names it
    return check_of(tried_job(job), tell)


def check_of(tried: Tried, tell: Tell, *, record_of: RecordOf | None = None) -> str:
    """As `check_word`, for a job that was looked up already. Measures other than the plan are not judged."""
    if "plan" in tried.arm.measures:
        return plan_for(tried, tell, record_of=record_of).check
    return _word(_host(tried, tell, record_of))


def _host(tried: Tried, tell: Tell, record_of: RecordOf | None) -> Host:
    from tidegate.host.opening import open_record
    from tidegate.host.read import read_host
    from tidegate.rig.record_in_guest import record_path

    return read_host(open_record((record_of or record_path)(tried, tell)))


def _plan(host: Host) -> Plan:
    from tidegate.plan import solve

    return solve(host, format="script")


def _planned(host: Host, plan: Plan, kept: tuple[Setting, ...]) -> Planned:
    from tidegate.plan.in_force import with_settings
    from tidegate.report.plan_formats import plan_file

    return Planned(
        script=plan_file(replace(plan, settings=kept)),
        values={one.path: one.new for one in kept if one.path.startswith("/")},
        check=_word(with_settings(host, kept)),
        before=plan.before.value,
        says=" ".join((plan.reason, *plan.change, *plan.remains)),
    )


def _word(host: Host) -> str:
    from tidegate.plan.judged import judged

    return judged(host).decision.verdict.value
