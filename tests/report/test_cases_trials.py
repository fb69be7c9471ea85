"""What real kernels did, in the list of cases and on the pages of the docs."""

from __future__ import annotations

from dataclasses import replace

from tests.report import simulated

from tidegate.report.docs_cases import cases_markdown, with_results
from tidegate.report.simulate_text import cases_text
from tidegate.simulation import Cases, TrialState

ONE = TrialState(
    arm="stock", kernel="trixie-cloud", nic="virtio-net-pci", transport="nbd", sweep={}, expected="FAIL",
    counts={"WEDGED": 5, "SURVIVED": 1}, failed=5, n=6, margin_pages=-12, met=True, stale=False, check="AT_RISK",
    quarrel="", outside="",
)  # fmt: skip
NOT_RUN = replace(
    ONE, arm="plan", expected="SURVIVED", counts={}, failed=0, n=0, margin_pages=None, met=None, check=None
)


def listing(*trials: TrialState, **sums: int) -> Cases:
    first, *rest = simulated.cases().cases
    return replace(simulated.cases(), cases=(replace(first, trials=trials), *rest), **sums)  # type: ignore[arg-type]


def row(text: str, head: str) -> str:
    return next(" ".join(line.split()) for line in text.splitlines() if line.strip().startswith(head))


def test_a_case_without_trials_is_told_as_before() -> None:
    assert "kernel" not in cases_text(simulated.cases())


def test_words_with_counts_margin_and_check() -> None:
    text = cases_text(listing(ONE, NOT_RUN, trials_missing=1), width=100)
    assert row(text, "stock") == "stock WEDGED 5/6, SURVIVED 1/6 -12 AT_RISK agree"
    assert row(text, "plan") == "plan (SURVIVED) not run"
    assert "on real kernels 1 of 2 arms: 0 not as expected, 0 contradicted" in " ".join(text.split())


def test_what_is_not_as_expected_and_stale_says_so() -> None:
    bad = replace(ONE, expected="SURVIVED", met=False, stale=True)
    text = cases_text(listing(bad), width=100)
    assert row(text, "stock") == (
        "stock WEDGED 5/6, SURVIVED 1/6, not SURVIVED -12 AT_RISK not as expected, stale"
    )


def test_another_place_is_named_and_a_sweep_is_a_number() -> None:
    there = replace(ONE, nic="e1000", kernel="trixie-generic")
    swept = [replace(ONE, sweep={"vm.min_free_kbytes": at}) for at in (1, 2)]
    text = cases_text(listing(ONE, there, *swept), width=100)
    assert row(text, "stock, e1000").startswith("stock, e1000, trixie-generic WEDGED 5/6")
    assert "and 2 places of sweeps" in text
    assert "min_free" not in text


def test_nothing_counted_is_not_not_run() -> None:
    text = cases_text(listing(replace(NOT_RUN, counts={"INCONCLUSIVE": 2, "LOST": 1})), width=100)
    assert row(text, "plan") == "plan INCONCLUSIVE 2, LOST 1 nothing counted"


def test_a_contradiction_stands_in_the_open_with_its_explanation() -> None:
    against = replace(ONE, quarrel="check says SAFE, and 5 of 6 failed")
    text = cases_text(listing(against, quarrels=1), width=100)
    assert "Where real kernels contradict another judge" in text
    assert "swap-over-nbd, stock: check says SAFE, and 5 of 6 failed" in text
    assert row(text.split("on real kernels  ")[1], "stock").endswith("CONTRADICTED")
    explained = cases_text(listing(replace(against, outside="no such pool in it")), width=100)
    assert "failed; outside the model: no such pool in it" in " ".join(explained.split())
    assert "CONTRADICTED" not in explained


def test_hostile_words_reach_no_terminal() -> None:
    bad = "x\x1b[31m\n"
    hostile = replace(ONE, arm=bad, nic=bad, check=bad, quarrel=bad, outside=bad, expected=bad, met=False)
    assert "\x1b" not in cases_text(listing(hostile))


def test_the_page_of_cases_has_them_and_no_word_that_changes_with_the_code() -> None:
    assert "On real kernels" not in cases_markdown()
    state = listing(replace(ONE, stale=True), NOT_RUN).cases[0]
    page = cases_markdown([state])
    assert "| stock | FAIL | WEDGED 5/6, SURVIVED 1/6 | -12 | AT_RISK | agree |\n" in page
    assert "| plan |" not in page  # not run
    assert "On real kernels" not in cases_markdown([replace(state, trials=(NOT_RUN,))])


def test_a_mark_in_a_page_is_filled_with_them_and_again() -> None:
    state = listing(ONE, replace(ONE, sweep={"delay_us": 9})).cases[0]
    page = with_results("<!-- case: swap-over-nbd -->\n", {state.name: state}, {})
    assert page.count("| stock |") == 1
    assert page.endswith("| WEDGED 5/6, SURVIVED 1/6 | -12 | AT_RISK | agree |\n\n<!-- end of case -->\n")
    assert with_results(page, {state.name: state}, {}) == page


def test_a_list_without_arms_says_nothing_of_them() -> None:
    case = replace(listing(ONE).cases[0], arms=())
    text = cases_text(Cases(cases=(case,), disagreements=0, stale=0, missing=0), width=100)
    assert text.startswith("1 case\non real kernels 1 of 1 arm: ")
