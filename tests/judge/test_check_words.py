"""The word of `check` for the guests of trials."""

from __future__ import annotations

from dataclasses import replace

from tests.report import trials_made

from tidegate.case import Case, parse_case
from tidegate.errors import Lacking
from tidegate.judge.check_words import with_check_words
from tidegate.trial import Job

CASE = parse_case(
    b"""\
claim = "a claim"
source = "a source"
[trial]
[[trial.arm]]
name = "stock"
[[trial.arm]]
name = "plan"
measures = ["plan"]
[[trial.arm]]
name = "caps"
measures = ["caps"]
[[trial.arm]]
name = "order-0"
sysctl = { "net.core.high_order_alloc_disable" = "1" }
""",
    "swap-over-nbd.toml",
)


def test_each_place_is_asked_once_and_what_has_a_word_is_not() -> None:
    asked: list[str] = []

    def word(case: Case, job: Job) -> str:
        asked.append(f"{case.name} {job.arm}")
        return "AT_RISK"

    made = trials_made.run("stock", "WWS", check=None) + trials_made.run("plan", "SS", check="SAFE")
    made += trials_made.run("caps", "S", check=None) + trials_made.run("order-0", "S", check=None)
    made += [
        replace(one, sweep={"vm.min_free_kbytes": 9}) for one in trials_made.run("stock", "W", check=None)
    ]
    made += trials_made.run("stock", "S", check=None, case="unknown")
    said = with_check_words(made, {CASE.name: CASE}, word)
    assert asked == ["swap-over-nbd stock"]
    assert [one.check for one in said] == ["AT_RISK"] * 3 + ["SAFE"] * 2 + [None] * 4
    assert [replace(one, check=None) for one in said] == [replace(one, check=None) for one in made]


def test_what_stands_in_the_way_is_told_once() -> None:
    def word(case: Case, job: Job) -> str:
        raise Lacking("no QEMU")

    troubles: list[str] = []
    said = with_check_words(
        trials_made.run("stock", "WW", check=None), {CASE.name: CASE}, word, troubles.append
    )
    assert [one.check for one in said] == [None, None]
    assert len(troubles) == 1
    assert troubles[0].endswith("no word of check: no QEMU")
