"""What real kernels did beside what was expected and what other judges say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.report import trials_made

from tidegate.case import Case, parse_case
from tidegate.judge import listed
from tidegate.judge.stored import Stored, arm_key
from tidegate.judge.trials import trial_states
from tidegate.rig.asked import arm_of, asked_hash, trial_of
from tidegate.rig.code import code_hash
from tidegate.simulation import CaseState, TrialState
from tidegate.trial import TrialResult

TEXT = """\
claim = "a claim"
source = "a source"
[[arm]]
name = "bare"
design = "bare"
[trial]
[[trial.traffic]]
kind = "udp"
[[trial.arm]]
name = "stock"
expect = "FAIL"
[[trial.arm]]
name = "quiet"
quiet = true
[[trial.arm]]
name = "plan"
measures = ["plan"]
expect = "SURVIVED"
"""


def case(text: str = TEXT) -> Case:
    return parse_case(text.encode(), "swap-over-nbd.toml")


def fresh(results: Iterable[TrialResult]) -> list[TrialResult]:
    """As today's rig would have made them for this case."""
    made = []
    for one in results:
        trial = trial_of(case(), one.job)
        asked = asked_hash(trial, arm_of(case(), trial, one.arm))
        made.append(replace(one, code=code_hash(), asked=asked))
    return made


def state(results: Iterable[TrialResult], word: str | None = "STUCK", text: str = TEXT) -> CaseState:
    one = case(text)
    stored = {}
    if word is not None:
        key = arm_key(one, one.arm[0])
        stored[one.name, "bare"] = Stored(
            case=one.name, arm="bare", design="bare", word=word, k=1, n=1, key=key
        )
    return listed.case_state(one, stored, results)


def arm(name: str, found: CaseState) -> TrialState:
    return next(one for one in found.trials if one.arm == name)


def test_counts_margin_and_whether_it_is_as_expected() -> None:
    made = fresh(trials_made.run("stock", "WWSWIW") + trials_made.run("plan", "SW", check=None))
    found = state(made)
    stock, plan = arm("stock", found), arm("plan", found)
    assert (stock.counts, stock.failed, stock.n) == ({"WEDGED": 4, "SURVIVED": 1, "INCONCLUSIVE": 1}, 4, 5)
    assert (stock.expected, stock.met, stock.stale, stock.quarrel) == ("FAIL", True, False, "")
    assert stock.margin_pages == min(one.margin_pages for one in made[:6] if one.margin_pages is not None)
    assert (plan.met, plan.counts) == (False, {"WEDGED": 1, "SURVIVED": 1})
    quiet = arm("quiet", found)
    assert (quiet.n, quiet.counts, quiet.met, quiet.margin_pages) == (0, {}, None, None)


def test_the_expectation_is_what_the_case_says_now() -> None:
    later = TEXT.replace('expect = "FAIL"', 'expect = "OOM"')
    assert arm("stock", state(fresh(trials_made.run("stock", "WW")), text=later)).met is False


@pytest.mark.parametrize("change", [{"code": "other"}, {"asked": "other"}])
def test_another_rig_or_case_makes_it_stale_and_it_counts(change: dict[str, str]) -> None:
    old = [replace(one, **change) for one in fresh(trials_made.run("stock", "WWW"))]  # type: ignore[arg-type]
    found = arm("stock", state(old))
    assert (found.stale, found.n, found.met) == (True, 3, True)


def test_fresh_ones_are_not_added_to_stale_ones() -> None:
    made = fresh(trials_made.run("stock", "WWWSS"))
    mixed = [*(replace(one, code="other") for one in made[:3]), *made[3:]]
    found = arm("stock", state(mixed))
    assert (found.stale, found.counts) == (False, {"SURVIVED": 2})


def test_two_images_of_a_kernel_are_not_added_up() -> None:
    made = fresh(trials_made.run("stock", "WWWSS"))
    mixed = [*(replace(one, kernel_sha256="old", started="2026-01-01") for one in made[:3]), *made[3:]]
    assert arm("stock", state(mixed)).counts == {"SURVIVED": 2}
    stale = arm("stock", state([replace(one, code="other") for one in mixed]))
    assert (stale.stale, stale.counts) == (True, {"SURVIVED": 2})


def test_a_case_that_changed_beyond_what_was_asked_is_stale() -> None:
    """The sweep of old results names a number that is none any more."""
    made = [replace(one, sweep={"gone": 3}) for one in fresh(trials_made.run("stock", "W"))]
    swept = [one for one in state(made).trials if one.sweep]
    assert [one.stale for one in swept] == [True]


def test_other_places_follow_the_cases_own_with_what_was_swept() -> None:
    made = fresh(trials_made.run("stock", "W", nic="e1000") + trials_made.run("stock", "S"))
    made += [replace(one, sweep={"vm.min_free_kbytes": 4096}) for one in fresh(trials_made.run("stock", "S"))]
    stock = [one for one in state(made).trials if one.arm == "stock"]
    assert [(one.nic, one.sweep) for one in stock] == [
        ("virtio-net-pci", {}),
        ("e1000", {}),
        ("virtio-net-pci", {"vm.min_free_kbytes": 4096}),
    ]
    assert [one.expected for one in stock] == ["FAIL", "FAIL", None]


def test_trials_of_another_case_are_not_its_own() -> None:
    assert arm("stock", state(fresh(trials_made.run("stock", "W", case="other")))).n == 0
    assert trial_states(case('claim = "c"\nsource = "s"\n'), trials_made.run("stock", "W"), ()) == ()


@pytest.mark.parametrize(
    ("word", "words", "check", "quarrel"),
    [
        ("STUCK", "WWW", None, ""),
        ("SEEN", "WWS", None, "simulate has no arm that is STUCK, and 2 of 3 failed"),
        ("LUCKY", "WSS", None, "simulate has no arm that is STUCK, and 1 of 3 failed"),
        (None, "WWW", None, ""),  # nobody ran it
        ("SEEN", "SST", None, ""),
        ("STUCK", "WWW", "AT_RISK", ""),
        ("STUCK", "WWW", "CANNOT_TELL", ""),  # the unknown words stay out
        ("STUCK", "WSS", "SAFE", "check says SAFE, and 1 of 3 failed"),
        ("STUCK", "SSS", "SAFE", ""),
        ("STUCK", "SSS", "AT_RISK", ""),
    ],
)
def test_judges_may_not_contradict_each_other(
    word: str | None, words: str, check: str | None, quarrel: str
) -> None:
    found = arm("stock", state(fresh(trials_made.run("stock", words, check=check)), word))
    assert (found.quarrel, found.check) == (quarrel, check)


def test_a_guest_that_nothing_troubled_may_not_fail() -> None:
    found = arm("quiet", state(fresh(trials_made.run("quiet", "SW"))))
    assert found.quarrel == "nothing troubled it, and 1 of 2 failed"


def test_a_stale_word_of_simulate_contradicts_nobody() -> None:
    old = Stored(case="swap-over-nbd", arm="bare", design="bare", word="SEEN", k=1, n=1, key="old")
    made = fresh(trials_made.run("stock", "W"))
    found = listed.case_state(case(), {("swap-over-nbd", "bare"): old}, made)
    assert arm("stock", found).quarrel == ""


def test_what_the_case_explains_is_no_disagreement() -> None:
    made = fresh(trials_made.run("stock", "WW"))
    assert listed.cases([state(made, "SEEN")]).quarrels == 1
    explained = TEXT.replace('expect = "FAIL"', 'expect = "FAIL"\noutside = "no swap in the model"')
    found = state(made, "SEEN", explained)
    assert (listed.cases([found]).quarrels, arm("stock", found).outside) == (0, "no swap in the model")
    assert arm("stock", found).quarrel != ""
    assert arm("stock", found).stale is False


def test_the_sums() -> None:
    made = fresh(trials_made.run("stock", "SS") + trials_made.run("quiet", "W"))
    sums = listed.cases([state([replace(one, code="x") for one in made])])
    assert (sums.trials_unmet, sums.quarrels, sums.trials_stale, sums.trials_missing) == (1, 1, 2, 1)


def test_one_judge_alone() -> None:
    found = state(fresh(trials_made.run("stock", "WW") + trials_made.run("plan", "SS")))
    simulated = listed.of_judge(found, "simulate")
    assert (len(simulated.arms), simulated.trials) == (1, ())
    tried = listed.of_judge(found, "trial")
    assert (tried.arms, len(tried.trials), {one.check for one in tried.trials}) == ((), 3, {None})
    checked = listed.of_judge(found, "check")
    assert (checked.arms, [one.arm for one in checked.trials]) == ((), ["plan"])
