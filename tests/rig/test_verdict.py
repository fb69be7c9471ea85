"""Every way from what was observed to a verdict, with the guest's clock made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tidegate.rig.verdict import (
    AFTER_CALM_MS,
    BACK_OFF_MS,
    BETWEEN_LOOKS_MS,
    LONGEST_MS,
    STILL_MS,
    Seen,
    Step,
    Watch,
    step,
)
from tidegate.trial import Verdict

TICK_MS = 250


def seen(guest_ms: int, done: int = 0, **more: Any) -> Seen:
    known = Seen(guest_ms=guest_ms, done_pages=done, finished=False)
    return replace(known, **more)


def working(watch: Watch, from_ms: int, to_ms: int, **more: int) -> list[Step]:
    """A step of the load at each look at the guest."""
    return [step(watch, seen(at, at + 1, **more)) for at in range(from_ms, to_ms, TICK_MS)]


def still(
    watch: Watch, from_ms: int, to_ms: int, done: int = 7, *, same_wait: bool = False
) -> list[tuple[int, Step]]:
    """Whatever is not `go on`, and when; as the rig does, the second look says whether the waits are the same."""
    told: list[tuple[int, Step]] = []
    for at in range(from_ms, to_ms, TICK_MS):
        following = step(watch, seen(at, done))
        if following is Step.LOOK and watch.looks == 2:
            watch.same_wait = same_wait
        if following is not Step.GO_ON:
            told.append((at, following))
        if following is Step.END:
            break
    return told


def test_all_done_without_a_long_stand_is_survived() -> None:
    watch = Watch()
    assert set(working(watch, 0, 20_000)) == {Step.GO_ON}
    assert step(watch, seen(20_000, 20_000, finished=True)) is Step.END
    assert watch.verdict is Verdict.SURVIVED
    assert watch.reason == "all pages written and read back; longest stand 0.0 s"


def test_the_storm_ends_once_it_stands_still_and_a_recovery_is_stalled() -> None:
    watch = Watch()
    assert still(watch, 0, 20_000) == [(STILL_MS, Step.CALM)]
    assert set(working(watch, 20_000, 40_000)) == {Step.GO_ON}
    assert step(watch, seen(40_000, 50_000, finished=True)) is Step.END
    assert watch.verdict is Verdict.STALLED
    assert "19.8 s" in watch.reason


def test_a_stand_just_short_of_the_limit_is_no_stall() -> None:
    watch = Watch()
    assert still(watch, 0, STILL_MS) == []
    step(watch, seen(STILL_MS - 1, 8))
    assert step(watch, seen(STILL_MS, 9, finished=True)) is Step.END
    assert watch.verdict is Verdict.SURVIVED


def test_two_equal_looks_are_a_wedge() -> None:
    watch = Watch()
    calm = STILL_MS
    assert still(watch, 0, 200_000, same_wait=True) == [
        (calm, Step.CALM),
        (calm + AFTER_CALM_MS, Step.LOOK),
        (calm + AFTER_CALM_MS + BETWEEN_LOOKS_MS, Step.LOOK),
        (calm + AFTER_CALM_MS + BETWEEN_LOOKS_MS + TICK_MS, Step.END),
    ]
    assert watch.verdict is Verdict.WEDGED
    assert "same circle" in watch.reason


def test_looks_that_differ_are_a_wedge_only_after_the_longest_back_off() -> None:
    watch = Watch()
    told = still(watch, 0, 300_000, same_wait=False)
    assert told[-1] == (STILL_MS + BACK_OFF_MS, Step.END)
    assert [one for _, one in told] == [Step.CALM, Step.LOOK, Step.LOOK, Step.END]
    assert watch.verdict is Verdict.WEDGED
    assert "back-off" in watch.reason


def test_one_step_between_the_looks_begins_them_anew() -> None:
    watch = Watch()
    still(watch, 0, 30_000, same_wait=True)
    assert watch.looks == 1
    assert step(watch, seen(30_000, 8)) is Step.GO_ON
    assert watch.looks == 0
    told = still(watch, 30_250, 200_000, done=8, same_wait=True)
    assert [one for _, one in told] == [Step.LOOK, Step.LOOK, Step.END]
    # As long since the last step as it was since the storm's end before.
    assert told[0][0] >= 30_000 + STILL_MS
    assert watch.verdict is Verdict.WEDGED


def test_an_oom_kill_and_a_panic_end_it_at_once_panic_first() -> None:
    watch = Watch()
    assert step(watch, seen(500, oom_kills=2)) is Step.END
    assert (watch.verdict, watch.reason) == (Verdict.OOM, "the OOM killer ended 2 programs")
    watch = Watch()
    assert (
        step(watch, seen(500, oom_kills=2, panic="System is deadlocked on memory", finished=True)) is Step.END
    )
    assert watch.verdict is Verdict.PANIC
    assert "System is deadlocked on memory" in watch.reason


def test_slow_is_not_stuck() -> None:
    watch = Watch()
    told = working(watch, 0, LONGEST_MS)
    assert [step(watch, seen(LONGEST_MS, LONGEST_MS - TICK_MS + 1)) for _ in range(3)] == [Step.GO_ON] * 3
    told.append(step(watch, seen(LONGEST_MS + TICK_MS, LONGEST_MS)))
    assert set(told[:-1]) == {Step.GO_ON}
    assert told[-1] is Step.END
    assert watch.verdict is Verdict.INCONCLUSIVE
    assert "slow, not stuck" in watch.reason


def test_a_wedge_late_in_the_load_is_still_found() -> None:
    watch = Watch()
    working(watch, 0, LONGEST_MS - 10_000)
    told = still(watch, LONGEST_MS - 10_000, LONGEST_MS + 300_000, done=1, same_wait=True)
    assert [one for _, one in told] == [Step.CALM, Step.LOOK, Step.LOOK, Step.END]
    assert watch.verdict is Verdict.WEDGED


def test_pages_that_come_back_different_prove_nothing_of_survival() -> None:
    watch = Watch()
    assert step(watch, seen(9_000, 9_000, finished=True, wrong_pages=3)) is Step.END
    assert watch.verdict is Verdict.INCONCLUSIVE
    assert watch.reason.startswith("3 pages came back")


@pytest.mark.parametrize("at", [0, 3_000, STILL_MS - TICK_MS, STILL_MS, STILL_MS + AFTER_CALM_MS])
def test_a_paused_guest_never_makes_a_verdict(at: int) -> None:
    """Its ticks stand still, and so does all that is measured by them, however long anybody waits."""
    watch = Watch()
    still(watch, 0, at, same_wait=True)
    before = [step(watch, seen(at, 7)) for _ in range(3)][-1]
    assert before is Step.GO_ON
    assert {step(watch, seen(at, 7)) for _ in range(10_000)} == {Step.GO_ON}
    assert watch.verdict is None
