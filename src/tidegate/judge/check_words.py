"""What `tidegate check` says of the guests of trials, to stand beside what they showed.

A trial with the plan brings the word itself. Of any other the guest is recorded once, which is a boot; where an arm
changes what no record shows (caps of the connection, a patched kernel) there is no word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tidegate.case import Case
from tidegate.case_trial import TrialArm
from tidegate.errors import TidegateError
from tidegate.rig.asked import sysctls_of
from tidegate.rig.tally import Place, case_name, place_of
from tidegate.trial import Job, TrialResult

WordOf = Callable[[Case, Job], str]


def with_check_words(
    results: Iterable[TrialResult],
    cases: dict[str, Case],
    word_of: WordOf,
    trouble: Callable[[str], None] = lambda _: None,
) -> tuple[TrialResult, ...]:
    """The results with the words that can be had; `word_of` is asked once for each place that has none yet.

    What stands in its way is told, and the word stays away.
    """
    known: dict[Place, str | None] = {}
    said = []
    for one in results:
        case = cases.get(case_name(one.case))
        place = place_of(one)
        if one.check is None and case is not None and _can_be_told(case, one):
            if place not in known:
                known[place] = _word(case, one.job, word_of, trouble)
            said.append(replace(one, check=known[place]))
        else:
            said.append(one)
    return tuple(said)


def _can_be_told(case: Case, result: TrialResult) -> bool:
    arms: tuple[TrialArm, ...] = case.trial.arm if case.trial else ()
    arm = next((arm for arm in arms if arm.name == result.arm), None)
    return (
        arm is not None and set(arm.measures) <= {"plan"} and not arm.sysctl and not sysctls_of(result.sweep)
    )


def _word(case: Case, job: Job, word_of: WordOf, trouble: Callable[[str], None]) -> str | None:
    try:
        return word_of(case, job)
    except TidegateError as error:
        trouble(f"{job.key()}: no word of check: {error}")
        return None
