"""What real kernels did on a case, beside what the case expects of them and what the other judges say.

Judges may differ in what they can tell; they may not contradict each other. A boot that failed contradicts `check`
where that says SAFE, and `simulate` where no arm of the case is STUCK there: then the model lacks something, unless the
case says what (`outside`). A guest that failed without the storm contradicts every model of a storm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from tidegate.case import Case
from tidegate.case_trial import Trial, TrialArm
from tidegate.errors import TidegateError
from tidegate.rig.asked import asked_hash, expected_of, trial_of
from tidegate.rig.code import code_hash
from tidegate.rig.tally import Place, place_of, tallies
from tidegate.simulation import CaseArm, TrialState
from tidegate.trial import TrialResult


def trial_states(
    case: Case, results: Iterable[TrialResult], simulated: Sequence[CaseArm]
) -> tuple[TrialState, ...]:
    """Each arm of the case's [trial] part, in the place that the case names, and wherever else it was tried."""
    trial = case.trial
    if trial is None:
        return ()
    places: dict[Place, list[TrialResult]] = {}
    for one in results:
        if place_of(one)[0] == case.name:
            places.setdefault(place_of(one), []).append(one)
    states: list[TrialState] = []
    for arm in trial.arm:
        own: Place = (case.name, arm.name, trial.kernel, trial.nic, trial.transport, ())
        others = [place for place in places if place[1] == arm.name and place != own]
        asked = (own, *sorted(others))
        states += [_state(case, trial, arm, place, places.get(place, []), simulated) for place in asked]
    return tuple(states)


def is_stale(case: Case, arm: TrialArm, result: TrialResult) -> bool:
    """Whether the rig, or what the case says of the arm's trials, is another one now."""
    if result.code != code_hash():
        return True
    try:
        return bool(result.asked) and result.asked != asked_hash(trial_of(case, result.job), arm)
    except (TidegateError, msgspec.ValidationError):
        return True  # what was asked then cannot be asked any more


def _state(
    case: Case,
    trial: Trial,
    arm: TrialArm,
    place: Place,
    found: list[TrialResult],
    simulated: Sequence[CaseArm],
) -> TrialState:
    _, _, kernel, nic, transport, sweep = place
    used, stale = _comparable(case, arm, found)
    expected = expected_of(arm, dict(sweep))
    tally = next(iter(tallies(replace(one, expected=expected) for one in used)), None)
    state = TrialState(
        arm=arm.name,
        kernel=kernel,
        nic=nic,
        transport=transport,
        sweep=dict(sweep),
        expected=expected,
        counts=tally.counts if tally else {},
        failed=tally.failed if tally else 0,
        n=tally.n if tally else 0,
        margin_pages=tally.margin_lowest_pages if tally else None,
        met=tally.met if tally else None,
        stale=stale,
        check=next((one.check for one in reversed(used) if one.check), None),
        quarrel="",
        outside=arm.outside,
    )
    calm = arm.quiet or not (trial.traffic or trial.loss_ppm)
    return replace(state, quarrel="; ".join(_quarrels(state, simulated, calm=calm)))


def _comparable(case: Case, arm: TrialArm, found: list[TrialResult]) -> tuple[list[TrialResult], bool]:
    """Those that may be added up: of the image that was booted last, and of today's rig and case if there are any."""
    if not found:
        return [], False
    image = max(found, key=lambda one: one.started).kernel_sha256
    same = [one for one in found if one.kernel_sha256 == image]
    fresh = [one for one in same if not is_stale(case, arm, one)]
    return (fresh, False) if fresh else (same, True)


def _quarrels(state: TrialState, simulated: Sequence[CaseArm], *, calm: bool) -> Iterator[str]:
    if not state.failed:
        return
    if state.check == "SAFE":
        yield f"check says SAFE, and {state.failed} of {state.n} failed"
    known = [arm for arm in simulated if arm.found.get("simulate") and not arm.stale]
    stuck = any(arm.found["simulate"] == "STUCK" for arm in known)
    if calm:
        yield f"nothing troubled it, and {state.failed} of {state.n} failed"
    elif known and not stuck:
        yield f"simulate has no arm that is STUCK, and {state.failed} of {state.n} failed"
