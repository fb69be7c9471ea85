"""Trials counted by their place in the matrix: shares with intervals, margins, and whether it came as expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tidegate.intervals import exact_test, sure, wilson
from tidegate.trial import COUNTED, FAILURES, Job, Tally, TrialResult, Verdict

CONTROL = "stock"  # the arm that the others of a place are held against

# case, arm, kernel, nic, transport, and what a sweep set
Place = tuple[str, str, str, str, str, tuple[tuple[str, int], ...]]


def case_name(case: str) -> str:
    """What a case is called, whether it was asked for by name or by path."""
    return case.rpartition("/")[2].removesuffix(".toml")


def place_of(trial: Job | TrialResult) -> Place:
    """Where a trial stands in the matrix; only the seed differs within a place."""
    job = trial.job if isinstance(trial, TrialResult) else trial
    return case_name(job.case), job.arm, job.kernel, job.nic, job.transport, tuple(sorted(job.sweep.items()))


def tallies(results: Iterable[TrialResult]) -> tuple[Tally, ...]:
    """The results counted, a tally for each place, in the order in which the places are first seen."""
    places: dict[Place, list[TrialResult]] = {}
    for result in results:
        places.setdefault(place_of(result), []).append(result)
    failed = {place: (_failed(ones), _counted(ones)) for place, ones in places.items()}
    return tuple(_tally(place, ones, failed) for place, ones in places.items())


def _failed(results: Iterable[TrialResult]) -> int:
    return sum(result.verdict in FAILURES for result in results)


def _counted(results: Iterable[TrialResult]) -> int:
    return sum(result.verdict in COUNTED for result in results)


def _tally(place: Place, results: list[TrialResult], failed: Mapping[Place, tuple[int, int]]) -> Tally:
    case, arm, kernel, nic, transport, sweep = place
    found = Counter(result.verdict for result in results)
    counts = {verdict.value: found[verdict] for verdict in Verdict if found[verdict]}
    k, n = failed[place]
    low, high = wilson(k, n)
    expected = next((one.expected for one in reversed(results) if one.expected), None)  # as the case says now
    # The median is a margin that was seen: the lower of two middle ones.
    margins = sorted(
        one.margin_pages for one in results if one.verdict in COUNTED and one.margin_pages is not None
    )
    return Tally(
        case=case,
        arm=arm,
        kernel_name=kernel,
        nic=nic,
        transport=transport,
        sweep=dict(sweep),
        counts=counts,
        failed=k,
        n=n,
        failed_low=low,
        failed_high=high,
        margin_lowest_pages=margins[0] if margins else None,
        margin_median_pages=margins[(len(margins) - 1) // 2] if margins else None,
        expected=expected,
        met=_met(expected, counts, k, n),
        p_against_stock=_against_stock(place, failed),
    )


def _met(expected: str | None, counts: Mapping[str, int], failed: int, n: int) -> bool | None:
    if not expected or n == 0:
        return None
    if expected == "FAIL":
        return 2 * failed > n
    if expected == Verdict.SURVIVED:
        return counts.get(expected, 0) == n
    return 2 * counts.get(expected, 0) > n


def _against_stock(place: Place, failed: Mapping[Place, tuple[int, int]]) -> float | None:
    control = (place[0], CONTROL, *place[2:])
    if place == control or control not in failed:
        return None
    (k1, n1), (k2, n2) = failed[place], failed[control]
    return exact_test(k1, n1, k2, n2) if n1 and n2 else None


def decided(tally: Tally) -> bool:
    """Whether more trials of this place need not be made: the share that matters is surely on one side of a half.

    It may be asked after every trial. Where SURVIVED is expected one trial that did not decides as well.
    """
    word = tally.expected or "FAIL"
    if word == "FAIL":
        return sure(tally.failed, tally.n)
    k = tally.counts.get(word, 0)
    return (word == Verdict.SURVIVED and k < tally.n) or sure(k, tally.n)
