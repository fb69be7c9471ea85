"""Intervals and tests against closed forms, full enumeration, and coverage counted by simulation."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.intervals import exact_test, sequence, sure, wilson

counts = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.sampled_from([0.5, 0.9, 0.95, 0.99])


@given(counts, confidences)
def test_wilson_ends_where_the_score_test_just_rejects(kn: tuple[int, int], confidence: float) -> None:
    """The definition: the shares p with (k/n - p)^2 <= z^2 p (1 - p) / n."""
    k, n = kn
    low, high = wilson(k, n, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    assert 0 <= low <= high <= 1
    for end in (low, high):
        if n and 0 < end < 1:
            assert (k / n - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, rel=1e-9, abs=1e-15)
    if n:
        assert low <= k / n <= high


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 6, 0.0, 0.39033),  # z^2 / (n + z^2)
        (6, 6, 0.60967, 1.0),
        (10, 20, 0.29930, 0.70070),
        (15, 148, 0.0624, 0.1605),  # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_says_what_is_published(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


def enumerated(k1: int, n1: int, k2: int, n2: int) -> Fraction:
    """Every way to give k marks to n1 + n2 trials, one by one, as bits."""
    ways = [0] * (n1 + 1)
    for bits in range(1 << (n1 + n2)):
        if bits.bit_count() == k1 + k2:
            ways[(bits & ((1 << n1) - 1)).bit_count()] += 1
    return Fraction(sum(way for way in ways if 0 < way <= ways[k1]), sum(ways))


def test_exact_test_is_what_full_enumeration_says() -> None:
    for n1 in range(1, 6):
        for n2 in range(1, 6):
            for k1 in range(n1 + 1):
                for k2 in range(n2 + 1):
                    assert exact_test(k1, n1, k2, n2) == float(enumerated(k1, n1, k2, n2)), (k1, n1, k2, n2)


@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((3, 4, 1, 4), 34 / 70),  # Fisher's tea
        ((6, 6, 0, 6), 2 / 924),
        ((0, 6, 0, 6), 1.0),
        ((0, 0, 3, 6), 1.0),
        ((1, 10, 11, 14), 0.002759456),  # a table that is often quoted (R's fisher.test)
    ],
)
def test_exact_test_says_what_is_published(table: tuple[int, int, int, int], p: float) -> None:
    assert exact_test(*table) == pytest.approx(p, rel=1e-6)


@given(counts, counts)
def test_exact_test_knows_no_first_and_second(one: tuple[int, int], other: tuple[int, int]) -> None:
    p = exact_test(*one, *other)
    assert 0 < p <= 1
    assert p == exact_test(*other, *one)
    assert p == exact_test(one[1] - one[0], one[1], other[1] - other[0], other[1])


def test_exact_test_of_many_trials_is_the_sum_of_the_hypergeometric_law() -> None:
    def log_ways(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    log_p = [log_ways(1000, i) + log_ways(1000, 700 - i) - log_ways(2000, 700) for i in range(701)]
    tail = sum(math.exp(one) for one in log_p if one <= log_p[400] + 1e-9)
    assert exact_test(400, 1000, 300, 1000) == pytest.approx(tail, rel=1e-6)


def test_exact_test_errs_to_the_careful_side() -> None:
    """For any one share behind both, p <= 0.05 comes in no more than 5 % of the pairs: summed exactly."""
    n1, n2 = 6, 8
    for share in [at / 50 for at in range(51)]:
        rejected = sum(
            math.comb(n1, i) * math.comb(n2, j) * share ** (i + j) * (1 - share) ** (n1 + n2 - i - j)
            for i in range(n1 + 1)
            for j in range(n2 + 1)
            if exact_test(i, n1, j, n2) <= 0.05
        )
        assert rejected <= 0.05


def weight(k: int, n: int, share: Fraction) -> Fraction:
    """The ratio of the likelihoods of what was seen: uniform mixture over the share, times 1; inverted."""
    return (n + 1) * math.comb(n, k) * share**k * (1 - share) ** (n - k)


@given(counts, confidences, st.integers(0, 200))
def test_the_sequence_holds_just_the_shares_that_are_not_refuted(
    kn: tuple[int, int], confidence: float, at: int
) -> None:
    k, n = kn
    low, high = sequence(k, n, confidence)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n <= high
    share = Fraction(at, 200)
    inside = weight(k, n, share) > Fraction(1 - confidence)
    if min(abs(float(share) - low), abs(float(share) - high)) > 1e-9:  # at the edge rounding decides
        assert (low < share < high or float(share) in (k and low, high)) == inside


def mixture(k: int, n: int) -> Fraction:
    """The integral of p^k (1 - p)^(n - k) over p, from its expansion: no beta function used."""
    return sum((Fraction((-1) ** i * math.comb(n - k, i), k + i + 1) for i in range(n - k + 1)), Fraction(0))


@given(counts.filter(lambda kn: kn[1] <= 20), st.integers(1, 9))
def test_the_weight_is_the_inverse_of_the_mixture_martingale(kn: tuple[int, int], tenth: int) -> None:
    k, n = kn
    share = Fraction(tenth, 10)
    assert weight(k, n, share) * mixture(k, n) == share**k * (1 - share) ** (n - k)


@given(counts.filter(lambda kn: kn[1] <= 20), st.integers(1, 9))
def test_the_mixture_is_a_martingale(kn: tuple[int, int], tenth: int) -> None:
    """If p is the share, what is expected after one more trial is what there is now: exact, so Ville applies."""
    k, n = kn
    p = Fraction(tenth, 10)
    after = p / weight(k + 1, n + 1, p) + (1 - p) / weight(k, n + 1, p)
    assert after == 1 / weight(k, n, p)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_the_sequence_covers_at_all_steps_at_once(share: float) -> None:
    """2000 campaigns of 150 trials, looked at after each: the share is ever outside in no more than 5 %."""
    seed = 20_261_124
    print(f"seed {seed}, share {share}")
    chance = random.Random(seed)
    campaigns, outside = 2000, 0
    for _ in range(campaigns):
        k = 0
        for n in range(1, 151):
            k += chance.random() < share
            if sure(k, n, share):
                outside += 1
                break
    print(f"{outside} of {campaigns} ever outside")
    assert outside <= 0.05 * campaigns + 3 * math.sqrt(campaigns * 0.05 * 0.95)


def test_wilson_looked_at_after_every_trial_does_not_cover() -> None:
    """Why there is a sequence at all: the simulation above can fail."""
    chance = random.Random(1)
    outside = 0
    for _ in range(300):
        k = 0
        for n in range(1, 151):
            k += chance.random() < 0.5
            low, high = wilson(k, n)
            if not low <= 0.5 <= high:
                outside += 1
                break
    assert outside > 0.15 * 300


@given(counts, st.sampled_from([0.1, 0.5, 0.8]), confidences)
def test_sure_is_the_sequence_leaving_the_threshold_out(
    kn: tuple[int, int], threshold: float, confidence: float
) -> None:
    low, high = sequence(*kn, confidence)
    if min(abs(threshold - low), abs(threshold - high)) > 1e-9:
        assert sure(*kn, threshold, confidence) == (not low <= threshold <= high)


def test_eight_of_eight_is_sure_and_seven_of_seven_is_not() -> None:
    """(n + 1) / 2^n against 0.05: 8 / 128 = 0.0625, 9 / 256 = 0.035."""
    assert [n for n in range(12) if sure(n, n)] == [8, 9, 10, 11]
    assert [n for n in range(12) if sure(0, n)] == [8, 9, 10, 11]
    assert not sure(10, 20)


def test_many_trials_do_not_overflow() -> None:
    low, high = sequence(5_000, 10_000)
    assert 0.45 < low < 0.5 < high < 0.55
    assert low == pytest.approx(1 - high)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_a_count_that_cannot_be_is_our_mistake(k: int, n: int) -> None:
    for asked in (wilson, sequence, sure):
        with pytest.raises(AssertionError):
            asked(k, n)
