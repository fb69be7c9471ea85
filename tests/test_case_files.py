"""The cases that come with tidegate: they can be read, they say where they are from, and they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.bundled_cases import case_names, case_path
from tidegate.case import Arm, Case, arm_case, read_case
from tidegate.designs import DESIGNS
from tidegate.judge.arms import simulate_arm
from tidegate.judge.listed import case_state
from tidegate.judge.seeds import Task, run_task
from tidegate.judge.stored import read_results, results_file
from tidegate.judge.stored_trials import CURVE_ROWS, merged, read_trials
from tidegate.judge.tried import tried_arm
from tidegate.sim.run import simulate
from tidegate.simulation import Word
from tidegate.trial import Verdict

NAMES = case_names()
DIRECTORY = case_path("deadlock").parent
RESULTS = results_file(DIRECTORY)
SLOW_SAMPLE = ("deadlock", "random-drop", "patch-without-throttle")
QUICK_EVERY = 4  # of the cases, run anew with one seed
ORDER = [word.value for word in Word]  # worst first


def bundled(name: str) -> Case:
    return read_case(case_path(name))


def test_there_are_cases() -> None:
    assert {*SLOW_SAMPLE} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_case_says_what_it_claims_and_where_that_is_from(name: str) -> None:
    case = bundled(name)
    assert case.name == name
    assert len(case.claim) > 20
    assert len(case.source) > 10
    assert "\n" not in case.claim


@pytest.mark.parametrize("name", NAMES)
def test_its_arms_can_be_tried_and_contrast(name: str) -> None:
    case = bundled(name)
    expected = [arm for arm in case.arm if arm.expect]
    assert len(expected) >= 2
    assert {arm.design for arm in case.arm} <= DESIGNS.keys()
    for arm in case.arm:
        tried_arm(case, arm)  # Usage for a switch that is off already
        assert arm.why, arm.name
        assert arm.expect.get("simulate", "SEEN") in ORDER


def found(case: Case, arm: Arm, seed: int) -> str:
    tried = tried_arm(case, arm)
    return run_task(simulate, Task(case=tried.case, design=tried.design, seed=seed, arm=arm.name)).word.value


def survivor(case: Case) -> Arm | None:
    """The arm of which every seed says the most: the one that survives, with the shortest storm."""
    arms = [arm for arm in case.arm if arm.expect.get("simulate") in {"SEEN", "LUCKY", "REFUSED"}]
    return min(arms, key=lambda arm: arm_case(case, arm).run.storm_ms, default=None)


@pytest.mark.parametrize("name", NAMES[::QUICK_EVERY])
def test_no_run_is_worse_than_what_the_case_expects(name: str) -> None:
    """One arm and one seed: the word of an arm is the worst of its seeds, so each is as good or better."""
    case = bundled(name)
    arm = survivor(case)
    if arm is None:
        pytest.skip("every arm of this case is STUCK, of which one seed proves nothing")
    assert ORDER.index(found(case, arm, 1)) >= ORDER.index(arm.expect["simulate"]), arm.name


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are stored: tidegate cases --run")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_fresh_and_as_expected(name: str) -> None:
    results = read_results(DIRECTORY)
    if name not in {case for case, _ in results}:
        pytest.skip(f"no result of this case is stored: tidegate cases {name} --run")
    state = case_state(bundled(name), results)
    assert [arm.name for arm in state.arms if "simulate" not in arm.found] == [], "no result"
    assert [arm.name for arm in state.arms if arm.stale] == [], "stale: tidegate cases --run --stale"
    assert [arm.name for arm in state.arms if arm.agrees is False] == []


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are stored: tidegate cases --run")
def test_nothing_is_stored_of_cases_that_are_no_more() -> None:
    known = {(name, arm.name) for name in NAMES for arm in bundled(name).arm}
    assert read_results(DIRECTORY).keys() <= known


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_SAMPLE)
def test_a_case_computed_anew_is_as_expected_and_as_stored(name: str) -> None:
    case = bundled(name)
    stored = read_results(DIRECTORY) if RESULTS.exists() else {}
    for arm in case.arm:
        result = simulate_arm(case, arm)
        assert result.met is not False, arm.name
        kept = stored.get((name, arm.name))
        assert kept is None or (kept.word, kept.k, kept.n) == (result.word.value, result.k, result.n), (
            arm.name
        )


def test_every_file_in_the_directory_is_a_case() -> None:
    extra = [
        path.name
        for path in Path(DIRECTORY).iterdir()
        if path.suffix != ".toml" and path not in {RESULTS.parent, Path(DIRECTORY) / "campaigns"}
    ]
    assert extra == []


@pytest.mark.skipif(not results_file(DIRECTORY, "trial").exists(), reason="no trials are kept: report --keep")
def test_what_real_kernels_did_is_of_arms_that_are_there_and_of_no_machine() -> None:
    kept = read_trials(DIRECTORY)
    arms = {(name, arm.name) for name in NAMES if (trial := bundled(name).trial) for arm in trial.arm}
    assert {(one.case, one.arm) for one in kept} <= arms
    assert max(len(one.seconds) for one in kept) <= CURVE_ROWS
    assert {(one.command, one.evidence, one.verdict is Verdict.LOST) for one in kept} == {("", None, False)}
    assert merged(kept) == kept
