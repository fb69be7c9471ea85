"""What a trial was asked to be: the [trial] part of its case with all that the job sets differently."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from tidegate.case import Case
from tidegate.case_trial import Trial, TrialArm, check_trial
from tidegate.errors import Unsupported, Usage
from tidegate.trial import Job

# A sweep's key with a dot in it is a sysctl of the guest, any other a number of the [trial] part.
_SYSCTL = re.compile(r"[a-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
_PROSE = {"expect", "why", "outside"}


def is_sysctl(key: str) -> bool:
    """Whether a sweep's key is a sysctl: vm.min_free_kbytes."""
    return _SYSCTL.fullmatch(key) is not None


def numbers() -> list[str]:
    """The numbers of a [trial] part: what else a sweep's key may be."""
    return [name for name, default in msgspec.to_builtins(Trial()).items() if type(default) is int]


def sysctls_of(sweep: Mapping[str, int]) -> dict[str, str]:
    """What a job writes last of all in the guest, after its arm's measures and the plan."""
    return {key: str(value) for key, value in sweep.items() if is_sysctl(key)}


def trial_of(case: Case, job: Job) -> Trial:
    """The case's [trial] part with what the job sets differently.

    Unsupported where the case has none, BadInput where both together cannot be.
    """
    if case.trial is None:
        raise Unsupported(f"case {case.name}: found no [trial] part, so it is not tried on real kernels")
    wanted = {"kernel": job.kernel, "nic": job.nic, "transport": job.transport}
    table = msgspec.to_builtins(case.trial) | {name: value for name, value in wanted.items() if value}
    table |= {name: value for name, value in job.sweep.items() if not is_sysctl(name)}
    trial = msgspec.convert(table, Trial)
    check_trial(trial, job.case)
    return trial


def arm_of(case: Case, trial: Trial, name: str) -> TrialArm:
    """The arm of that name. Usage where there is none."""
    for arm in trial.arm:
        if arm.name == name:
            return arm
    known = ", ".join(one.name for one in trial.arm)
    raise Usage(f"case {case.name}: found no arm {name!r}, expected one of {known}")


def expected_of(arm: TrialArm, sweep: Mapping[str, int]) -> str | None:
    """What the case expects of the arm; nothing where a number was swept: it speaks of its own machine."""
    return None if sweep else arm.expect or None


def asked_hash(trial: Trial, arm: TrialArm) -> str:
    """Of all that the case says of this arm's trials; short. Prose and expectation are not in it, nor other arms."""
    parts = {name: value for name, value in msgspec.to_builtins(trial).items() if name != "arm"}
    own = {name: value for name, value in msgspec.to_builtins(arm).items() if name not in _PROSE}
    return hashlib.sha256(msgspec.json.encode([parts, own], order="sorted")).hexdigest()[:16]
