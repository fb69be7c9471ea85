"""Cases as they stand: what each arm expects, what was found, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tidegate.case import Arm, Case
from tidegate.judge.stored import Results, Stored, arm_key
from tidegate.judge.trials import trial_states
from tidegate.judge.tried import JUDGE
from tidegate.simulation import CaseArm, Cases, CaseState
from tidegate.trial import TrialResult


def cases(states: Iterable[CaseState]) -> Cases:
    """The list with its sums: only a fresh result can disagree."""
    listed = tuple(states)
    arms = [arm for case in listed for arm in case.arms]
    trials = [one for case in listed for one in case.trials]
    return Cases(
        cases=listed,
        disagreements=sum(arm.agrees is False for arm in arms),
        stale=sum(arm.stale for arm in arms),
        missing=sum(JUDGE not in arm.found for arm in arms),
        trials_unmet=sum(one.met is False for one in trials),
        quarrels=sum(bool(one.quarrel) and not one.outside for one in trials),
        trials_stale=sum(one.stale for one in trials),
        trials_missing=sum(one.expected is not None and one.n == 0 for one in trials),
    )


def of_judge(case: CaseState, judge: str) -> CaseState:
    """The case with what one judge says of it, and nothing else; `check` speaks where a guest was tried."""
    if judge == JUDGE:
        return replace(case, trials=())
    if judge == "trial":
        return replace(case, arms=(), trials=tuple(replace(one, check=None) for one in case.trials))
    checked = (replace(one, expected=None, met=None) for one in case.trials if one.check)
    return replace(case, arms=(), trials=tuple(checked))


def case_state(case: Case, results: Results, tried: Iterable[TrialResult] = ()) -> CaseState:
    """One case with what is stored for it; `tried` may hold trials of others too."""
    arms = tuple(_arm(case, arm, results.get((case.name, arm.name))) for arm in case.arm)
    return CaseState(
        name=case.name,
        claim=case.claim,
        source=case.source,
        finding=case.finding,
        arms=arms,
        trials=trial_states(case, tried, arms),
    )


def to_run(case: Case, results: Results, *, stale_only: bool) -> Sequence[Arm]:
    """The arms of a case to be run: all, or those without a fresh result."""
    if not stale_only:
        return case.arm
    state = case_state(case, results)
    return [arm for arm, one in zip(case.arm, state.arms, strict=True) if one.stale or JUDGE not in one.found]


def _arm(case: Case, arm: Arm, stored: Stored | None) -> CaseArm:
    """A stale word is shown and marked, but neither agrees nor disagrees."""
    stale = stored is not None and stored.key != arm_key(case, arm)
    expected = arm.expect.get(JUDGE)
    known = stored is not None and not stale and expected is not None
    return CaseArm(
        name=arm.name,
        design=arm.design,
        expected=dict(arm.expect),
        found={} if stored is None else {JUDGE: stored.word},
        k=None if stored is None else stored.k,
        n=None if stored is None else stored.n,
        stale=stale,
        agrees=stored.word == expected if stored is not None and known else None,
    )
