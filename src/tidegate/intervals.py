"""How sure a count makes us of a share: an interval, a test between two shares, and when one may stop counting.

Trials are few and dear, so everything here is exact or known to err to the careful side at small n, and needs the
standard library only.
"""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of Wilson (1927) for the share behind k of n: for an n that was fixed beforehand.

    Chosen over k/n plus and minus so many deviations, which says 0 to 0 for 0 of 6. Nothing counted: 0 to 1.
    """
    _check(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = k / n
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    # At both ends the formula is exact and floating point is not.
    low = 0.0 if k == 0 else max((middle - reach) / whole, 0.0)
    high = 1.0 if k == n else min((middle + reach) / whole, 1.0)
    return low, high


def exact_test(k1: int, n1: int, k2: int, n2: int) -> float:
    """Two-sided p of Fisher's exact test that k1 of n1 and k2 of n2 have one share behind them.

    The tables with these sums that are no likelier than the one seen. Fisher's and not Boschloo's, although the
    latter finds a difference with fewer trials: its p is a maximum over the unknown share, which can be searched
    on a grid but not computed, so that it may come out too small. This one is a ratio of whole numbers, ties are
    ties, and it errs to the careful side only. 1 where nothing was counted.
    """
    _check(k1, n1, CONFIDENCE)
    _check(k2, n2, CONFIDENCE)
    k = k1 + k2
    ways = [math.comb(n1, i) * math.comb(n2, k - i) for i in range(max(0, k - n2), min(k, n1) + 1)]
    seen = math.comb(n1, k1) * math.comb(n2, k2)
    return sum(way for way in ways if way <= seen) / math.comb(n1 + n2, k)


def sequence(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval for the share behind k of n that may be looked at after every trial.

    With this probability it holds the share at all n at once, whenever and for whatever reason counting stops;
    that costs width against `wilson`. It is Robbins' mixture with a uniform prior: a share p stays in while
    (n + 1) * C(n, k) * p^k * (1 - p)^(n - k) > 1 - confidence. The reciprocal of the left side is a martingale
    that begins at 1 if p is the share, and by Ville (1939) ever reaches 1 / alpha with probability alpha at most.
    """
    _check(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    bound = math.log(1 - confidence)
    low = 0.0 if k == 0 else _edge(k, n, bound, 0.0, k / n)
    high = 1.0 if k == n else _edge(k, n, bound, 1.0, k / n)
    return low, high


def sure(k: int, n: int, threshold: float = 0.5, confidence: float = CONFIDENCE) -> bool:
    """Whether `sequence` has left the threshold outside; which side it is on, k / n says."""
    _check(k, n, confidence)
    assert 0 < threshold < 1, threshold
    return _log_weight(k, n, threshold) <= math.log(1 - confidence)


def _edge(k: int, n: int, bound: float, out: float, inside: float) -> float:
    """Where the weight falls to the bound; it only falls on the way from k / n to 0 or 1."""
    while True:
        middle = (out + inside) / 2
        if middle in {out, inside}:  # neighbours in floating point
            return out  # the wider one
        if _log_weight(k, n, middle) > bound:
            inside = middle
        else:
            out = middle


def _log_weight(k: int, n: int, share: float) -> float:
    """Of (n + 1) * C(n, k) * p^k * (1 - p)^(n - k): it overflows a float at n near 1000, its logarithm does not."""
    return math.log((n + 1) * math.comb(n, k)) + k * math.log(share) + (n - k) * math.log1p(-share)


def _check(k: int, n: int, confidence: float) -> None:
    assert 0 <= k <= n, (k, n)
    assert 0 < confidence < 1, confidence
