"""Trials counted by place: against a count by hand, and rules that hold for any results."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rig.campaign_runners import made

from tidegate.intervals import exact_test, wilson
from tidegate.rig.tally import decided, place_of, tallies
from tidegate.trial import COUNTED, FAILURES, Job, Tally, TrialResult, Verdict


def job(seed: int = 1, arm: str = "stock", nic: str = "e1000", case: str = "deadlock", **sweep: int) -> Job:
    return Job(case=case, arm=arm, kernel="k", nic=nic, transport="nbd", seed=seed, sweep=sweep)


def one(words: str, expected: str = "", arm: str = "stock") -> Tally:
    """The tally of trials given by first letters: P W O s(talled) S(urvived) I L."""
    letters = {"s": "STALLED", "S": "SURVIVED"} | {word[0]: word for word in ("PANIC", "WEDGED", "OOM")}
    letters |= {"I": "INCONCLUSIVE", "L": "LOST"}
    (tally,) = tallies(
        made(job(seed, arm), Verdict(letters[letter]), expected=expected)
        for seed, letter in enumerate(words, 1)
    )
    return tally


def test_words_are_counted_and_the_two_that_say_nothing_kept_apart() -> None:
    tally = one("WWOPsSSSIL")
    assert tally.counts == {
        "PANIC": 1, "WEDGED": 2, "OOM": 1, "STALLED": 1, "SURVIVED": 3, "INCONCLUSIVE": 1, "LOST": 1,
    }  # fmt: skip
    assert (tally.failed, tally.n) == (4, 8)
    assert (tally.failed_low, tally.failed_high) == wilson(4, 8)


@pytest.mark.parametrize(
    ("words", "expected", "met"),
    [
        ("WWS", "FAIL", True),
        ("WS", "FAIL", False),  # more than half
        ("WOP", "FAIL", True),
        ("WWIILL", "FAIL", True),
        ("ssss", "FAIL", False),
        ("SSS", "SURVIVED", True),
        ("SSs", "SURVIVED", False),
        ("SSSSSSSSSW", "SURVIVED", False),
        ("SSIL", "SURVIVED", True),
        ("WWO", "WEDGED", True),
        ("WOS", "WEDGED", False),
        ("ssS", "STALLED", True),
        ("IL", "FAIL", None),
        ("IL", "SURVIVED", None),
        ("WWW", "", None),
    ],
)
def test_an_expectation_is_met_or_not(words: str, expected: str, met: bool | None) -> None:
    assert one(words, expected).met is met


def test_an_arm_is_held_against_stock_of_its_own_place() -> None:
    results = [made(job(seed), Verdict.WEDGED) for seed in range(1, 7)]
    results += [made(job(seed, "plan")) for seed in range(1, 7)]
    results += [made(job(seed, "plan", "rtl8139")) for seed in range(1, 7)]
    results += [made(job(seed, "plan", delay_us=5)) for seed in range(1, 7)]
    stock, plan, other_nic, delayed = tallies(results)
    assert stock.p_against_stock is None
    assert plan.p_against_stock == exact_test(0, 6, 6, 6) == 2 / 924
    assert (other_nic.p_against_stock, delayed.p_against_stock) == (None, None)


def test_no_test_where_one_side_counts_nothing() -> None:
    results = [made(job(1), Verdict.LOST), made(job(1, "plan"))]
    assert [tally.p_against_stock for tally in tallies(results)] == [None, None]


def test_margins_are_the_lowest_and_one_in_the_middle() -> None:
    results = [made(job(seed), margin=margin) for seed, margin in enumerate([7, -3, 5, None, 9], 1)]
    results.append(made(job(9), Verdict.INCONCLUSIVE, margin=-1000))
    (tally,) = tallies(results)
    assert (tally.margin_lowest_pages, tally.margin_median_pages) == (-3, 5)
    assert one("WS").margin_lowest_pages is None


def test_a_case_asked_for_by_path_is_the_case() -> None:
    (tally,) = tallies([made(job(1)), made(job(2, case="cases/deadlock.toml"))])
    assert (tally.case, tally.n) == ("deadlock", 2)


def test_what_the_case_expects_now_holds() -> None:
    (tally,) = tallies([made(job(1), expected="FAIL"), made(job(2), expected="SURVIVED"), made(job(3))])
    assert tally.expected == "SURVIVED"


@pytest.mark.parametrize(
    ("words", "expected", "sure"),
    [
        ("W" * 7, "FAIL", False),
        ("W" * 8, "FAIL", True),
        ("S" * 8, "FAIL", True),
        ("W" * 8, "", True),
        ("SW" * 6, "", False),
        ("S" * 8, "SURVIVED", True),
        ("SSW", "SURVIVED", True),
        ("SSs", "SURVIVED", True),
        ("SSS", "SURVIVED", False),
        ("O" * 8, "WEDGED", True),
        ("IIIIIIIIIIII", "FAIL", False),
        ("L", "SURVIVED", False),
        ("", "SURVIVED", False),
    ],
)
def test_when_no_more_trials_are_needed(words: str, expected: str, sure: bool) -> None:
    if words:
        assert decided(one(words, expected)) is sure


results = st.lists(
    st.builds(
        lambda seed, arm, nic, delay, verdict, margin: made(
            job(seed, arm, nic, delay_us=delay), verdict, margin
        ),
        st.integers(1, 9),
        st.sampled_from(["stock", "plan"]),
        st.sampled_from(["e1000", "igb"]),
        st.sampled_from([0, 5]),
        st.sampled_from(Verdict),
        st.none() | st.integers(-9, 9),
    ),
    max_size=40,
)


@given(results)
def test_every_trial_is_in_one_tally(found: list[TrialResult]) -> None:
    counted = tallies(found)
    assert sum(sum(tally.counts.values()) for tally in counted) == len(found)
    assert len(counted) == len({place_of(result) for result in found})
    for tally in counted:
        same = [
            result
            for result in found
            if (result.arm, result.nic, result.sweep) == (tally.arm, tally.nic, tally.sweep)
        ]
        assert tally.n == sum(result.verdict in COUNTED for result in same)
        assert tally.failed == sum(result.verdict in FAILURES for result in same)
        margins = [r.margin_pages for r in same if r.verdict in COUNTED and r.margin_pages is not None]
        assert tally.margin_median_pages == (statistics.median_low(margins) if margins else None)
