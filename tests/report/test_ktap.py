"""KTAP, read back by a strict parser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.report import trials_made
from tests.report.ktap_parser import Test, parse

from tidegate.report.ktap import ktap_text
from tidegate.report.trials_words import cells, place_words, trial_command
from tidegate.trial import Trials, Verdict


def test_the_parser_reads_the_example_of_the_specification() -> None:
    text = """\
KTAP version 1
1..2
  KTAP version 1
  1..2
    KTAP version 1
    1..2
    not ok 1 test_1
    ok 2 test_2
  not ok 1 test_3
  ok 2 test_4 # SKIP
not ok 1 example_test_1
# all is well
ok 2 check return code # rcode=0
"""
    first, second = parse(text)
    assert [one.description for one in first.subtests[0].subtests] == ["test_1", "test_2"]
    assert first.subtests[1].directive == "SKIP"
    assert (second.directive, second.data, second.diagnostics) == (None, "rcode=0", ["all is well"])


@pytest.mark.parametrize(
    "wrong",
    [
        "1..0\n",
        "KTAP version 1\n1..1\nok 2 a\n",
        "KTAP version 1\n1..2\nok 1 a\n",
        "KTAP version 1\n1..1\nok 1 a\nok 2 b\n",
        "KTAP version 1\n1..1\nok 1 a # ERROR x\n",
        "KTAP version 1\n1..1\nok 1 a # b # c\nmore\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 b\n",
        "KTAP version 1\n1..1\nmessage\nok 1 b\n",
    ],
)
def test_the_parser_refuses_what_is_wrong(wrong: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        parse(wrong)


@pytest.mark.parametrize("sample", trials_made.ALL)
def test_every_sample_is_ktap(sample: Callable[[], Trials]) -> None:
    parse(ktap_text(sample()))


def arms(trials: Trials) -> list[Test]:
    return [arm for place in parse(ktap_text(trials)) for arm in place.subtests]


def test_skipped_error_and_failed() -> None:
    (arm,) = arms(trials_made.trials(trials_made.run("plan", "SWTIL")))
    assert [(one.ok, one.directive) for one in arm.subtests] == [
        (True, None), (False, None), (False, None), (True, "SKIP"), (False, "ERROR"),
    ]  # fmt: skip
    assert (
        arm.subtests[3].data
        == "INCONCLUSIVE: the storm was not there: socket memory never exceeded 12 pages."
    )
    assert not arm.ok


def test_where_more_than_half_shall_fail_the_arm_decides() -> None:
    (good,) = arms(trials_made.trials(trials_made.run("stock", "WWS")))
    assert [one.ok for one in good.subtests] == [True, True, True, True]
    (bad,) = arms(trials_made.trials(trials_made.run("stock", "WSS")))
    assert [one.ok for one in bad.subtests] == [True, True, True, False]
    assert bad.subtests[-1].description == "stock more than half fail"


def test_what_is_only_skipped_is_skipped() -> None:
    (arm,) = arms(trials_made.trials(trials_made.run("plan", "II")))
    assert (arm.ok, arm.directive, arm.data) == (True, "SKIP", "nothing counted")
    (place,) = parse(ktap_text(trials_made.trials(trials_made.run("stock", "I"))))
    assert place.directive == "SKIP"


def test_a_failure_says_how_to_repeat_it() -> None:
    (arm,) = arms(trials_made.one())
    said = "\n".join(arm.subtests[0].diagnostics)
    one = trials_made.result(Verdict.WEDGED, 7)
    for text in (one.reason, one.diagnosis or "", one.command, one.kernel_sha256, trial_command(one.job)):
        assert text in said


def test_a_name_does_not_end_at_the_sign_that_ends_a_description() -> None:
    (place,) = parse(ktap_text(trials_made.hostile()))
    (row,) = {cell.place for cell in cells(trials_made.hostile())}
    assert place.description == place_words(row).replace("#", "_").strip()
    assert [arm.description.split(" ")[0] for arm in place.subtests] == ["stock", "plan"]
    assert place.subtests[0].subtests[0].description.endswith("seed 1 WEDGED")
