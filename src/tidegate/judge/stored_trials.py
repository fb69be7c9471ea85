"""Results of trials that are kept with the cases: `results/trial.jsonl`, one TrialResult a line, in a fixed order.

Boots of real kernels take hours and a machine that can do them, so what they found is data of the tree. It is kept
small: no bundles, no command lines, and the counters of each second only of one trial for each word of each place,
thinned to CURVE_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from tidegate.errors import Lacking
from tidegate.judge.stored import alone, results_file
from tidegate.rig.results import read_results
from tidegate.rig.results_file import Which, which
from tidegate.rig.tally import case_name, place_of
from tidegate.trial import Second, TrialResult, Verdict

JUDGE = "trial"
CURVE_ROWS = 20


def read_trials(directory: Path) -> tuple[TrialResult, ...]:
    """What is kept for the cases in a directory; nothing where nothing is. BadInput names the line."""
    path = results_file(directory, JUDGE)
    return read_results(path) if path.exists() else ()


def keep_trials(directory: Path, found: Iterable[TrialResult]) -> int:
    """Adds what was found to what is kept for the cases in a directory; how many of these are new.

    Each trial is kept once, as it was made last. Lacking where it cannot be written.
    """
    with alone(directory):
        before = read_trials(directory)
        after = merged([*before, *found])
        if after != before:
            _write(results_file(directory, JUDGE), after)
    known = {(which(one), one.started) for one in before}
    return sum((which(one), one.started) not in known for one in after)


def merged(results: Iterable[TrialResult]) -> tuple[TrialResult, ...]:
    """Each trial once, the one made last, in the order of place and seed; LOST ones, which say nothing, left out."""
    latest: dict[Which, TrialResult] = {}
    for one in map(_bare, results):
        known = latest.get(which(one))
        if one.verdict is not Verdict.LOST and (known is None or known.started <= one.started):
            latest[which(one)] = one
    kept = []
    drawn = set()
    for one in sorted(latest.values(), key=which):
        word = place_of(one), one.verdict
        kept.append(replace(one, seconds=() if word in drawn else thinned(one.seconds)))
        if one.seconds:
            drawn.add(word)
    return tuple(kept)


def _bare(result: TrialResult) -> TrialResult:
    """Without what is only on the machine that made it."""
    return replace(
        result,
        case=case_name(result.case),
        kernel_name=result.kernel_name.rpartition("/")[2],
        command="",
        evidence=None,
        host_mib=0,
        wall_s=0.0,
    )


def thinned(seconds: tuple[Second, ...]) -> tuple[Second, ...]:
    """At most CURVE_ROWS of the rows: first, last, the one with the least slack, and others at even distances."""
    if len(seconds) <= CURVE_ROWS:
        return seconds
    last = len(seconds) - 1
    least = min(range(len(seconds)), key=lambda at: seconds[at].slack_pages)
    even = {at * last // (CURVE_ROWS - 2) for at in range(CURVE_ROWS - 1)}
    return tuple(seconds[at] for at in sorted(even | {least}))


def _write(path: Path, results: tuple[TrialResult, ...]) -> None:
    from tidegate.host.archive import write_atomically

    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise Lacking(f"{path.parent}: cannot be made ({error.strerror})") from error
    write_atomically(path, b"".join(msgspec.json.encode(one) + b"\n" for one in results))
