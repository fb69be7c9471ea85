"""Trials on a terminal: what stands first, what is never broken, what cannot reach the terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest
from tests.report import trials_made

from tidegate.report.trials_text import tallies_text, trials_text
from tidegate.report.trials_words import cells, matrix, percent, place_of, share_words, trial_command
from tidegate.trial import Job, Trials, Verdict

SAMPLES = pytest.mark.parametrize("sample", trials_made.ALL)
REPORTS = pytest.mark.parametrize("report", [trials_text, tallies_text])
Report = Callable[..., str]


@REPORTS
def test_the_first_line_says_what_there_is_and_whether_it_is_as_expected(report: Report) -> None:
    first = report(trials_made.met(), width=100).split("\n")[0]
    assert first == "12 trials (WEDGED 5, SURVIVED 7): 2 of 2 expectations met."
    assert report(trials_made.nothing(), width=100) == "0 trials: nothing is expected.\n"


def test_an_arm_with_its_counts_interval_and_margin() -> None:
    text = trials_text(trials_made.met(), width=100)
    assert "  stock: WEDGED 5 of 6, SURVIVED 1 of 6; expected more than half to fail: met\n" in text
    assert "    fails 5 of 6, share 44 to 97 %; margin lowest -127, median -124 pages\n" in text
    assert "p against stock 0.0152" in text


def test_what_is_not_counted_is_said_and_why() -> None:
    text = " ".join(trials_text(trials_made.uncounted(), width=100).split())
    assert (
        "stock: nothing counted; not counted: INCONCLUSIVE 2; expected more than half to fail: cannot be told"
        in text
    )
    assert "fails 0 of 0, share not known; margin not measured" in text
    assert (
        "LOST plan, seed 1, swap-over-nbd: virtio-net-pci, nbd, trixie-cloud: QEMU was killed by signal 9."
        in text
    )


def test_a_failure_with_what_is_needed_to_repeat_it() -> None:
    one = trials_made.result(Verdict.WEDGED, 7)
    text = trials_text(trials_made.one(), width=80)
    lines = text.split("\n")
    assert f"      {trial_command(one.job)}" in lines
    assert f"      {one.command}" in lines
    assert "    evidence: evidence/stock-7" in lines
    assert "    finding: D1" in lines
    assert "    waits: swap_writepage nbd_send_cmd" in lines
    filled = " ".join(text.split())
    for part in (one.reason, one.diagnosis or "", one.kernel_sha256, one.kernel, "WEDGED stock, seed 7"):
        assert part in filled


def test_failures_that_nobody_expected_come_first_and_the_rest_is_counted() -> None:
    trials = trials_made.trials(trials_made.run("stock", "WWWWWW") + trials_made.run("plan", "SWS"))
    text = trials_text(trials, width=100)
    heads = re.findall(r"^(?:  )?(?:WEDGED) (\w+), seed (\d)", text, re.MULTILINE)
    assert heads[0] == ("plan", "2")
    assert len(heads) == 6
    assert "and 1 more failures (--all)" in text
    assert (
        len(re.findall(r"^  WEDGED \w+, seed", trials_text(trials, width=100, all=True), re.MULTILINE)) == 7
    )


def test_the_command_is_one_that_a_shell_takes_apart_again() -> None:
    job = Job(
        case="a b/my case.toml", arm="no $HOME", kernel="trixie-cloud", nic="e1000", transport="nbd", seed=3,
        sweep={"loss_ppm": 10, "delay_us": 5},
    )  # fmt: skip
    assert shlex.split(trial_command(job)) == [
        "tidegate", "trial", "a b/my case.toml", "--arm", "no $HOME", "--kernel", "trixie-cloud", "--nic", "e1000",
        "--transport", "nbd", "--set", "delay_us=5", "--set", "loss_ppm=10", "--seed", "3", "-n", "1", "--dir", "again",
    ]  # fmt: skip


def test_the_matrix_as_a_table_and_where_that_is_too_wide_as_lists() -> None:
    wide = tallies_text(trials_made.met(), width=100).split("\n\n")[1].split("\n")
    assert wide[0].split() == ["case", "nic", "transport", "kernel", "sweep", "stock", "plan"]
    assert wide[1].endswith("-      5/6 [44-97] -127  0/6 [0-39] 193")
    narrow = tallies_text(trials_made.met(), width=60).split("\n\n")[1].split("\n")
    assert narrow == [
        "swap-over-nbd: virtio-net-pci, nbd, trixie-cloud", "  stock  5/6 [44-97] -127", "  plan   0/6 [0-39] 193",
    ]  # fmt: skip


def test_what_is_not_as_expected_stands_below_the_matrix() -> None:
    text = tallies_text(trials_made.campaign(), width=100)
    assert "1/6 [3-56] -124 !" in text
    assert "5/5 [57-100] -126 +2" in text
    assert "expected SURVIVED: NOT MET." in " ".join(text.split("Not as expected")[1].split())
    assert "Not as expected" not in tallies_text(trials_made.met(), width=100)


def test_all_adds_every_arm_and_every_failure() -> None:
    text = tallies_text(trials_made.campaign(), width=100, all=True)
    assert text.count("To repeat it:") == 27
    assert "WEDGED 6 of 6; expected more than half to fail: met" in text


@SAMPLES
@REPORTS
@pytest.mark.parametrize("width", [40, 80, 100])
def test_nothing_but_what_is_to_be_copied_is_wider_than_the_screen(
    sample: Callable[[], Trials], report: Report, width: int
) -> None:
    if sample is trials_made.hostile:
        pytest.skip("its names are longer than the screen")
    for line in report(sample(), width=width, all=True).split("\n"):
        kept = line.lstrip().startswith(("tidegate trial", "qemu-system", "evidence:", "9f2c"))
        assert kept or len(line) <= width, line


@SAMPLES
@REPORTS
def test_colour_changes_nothing_else(sample: Callable[[], Trials], report: Report) -> None:
    plain, painted = (report(sample(), width=80, colour=colour, all=True) for colour in (False, True))
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain
    assert "\x1b" not in plain
    assert sample is trials_made.nothing or painted != plain


@REPORTS
def test_hostile_names_cannot_reach_the_terminal(report: Report) -> None:
    text = report(trials_made.hostile(), width=80, all=True)
    assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_what_an_older_rig_made_is_said() -> None:
    trials = trials_made.trials([trials_made.result(Verdict.WEDGED, 1, code="old")])
    assert "1 stale (made by another version of the rig)." in tallies_text(
        trials, width=100, code=trials_made.CODE
    )
    assert "(stale)" in trials_text(trials, width=100, code=trials_made.CODE)
    assert "stale" not in trials_text(trials, width=100)


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.5, 0.999, 1.0)] == [0, 1, 50, 99, 100]


def test_each_trial_is_in_the_cell_that_counts_it() -> None:
    for sample in trials_made.ALL:
        for cell in cells(sample()):
            assert len(cell.results) == cell.trials
            assert {place_of(one) for _, one in cell.results} == {cell.place}
            assert share_words(cell.tally).startswith(f"{cell.tally.failed}/{cell.tally.n} ")


def test_a_case_by_path_is_the_case_by_name() -> None:
    one = trials_made.result(Verdict.WEDGED, case="some/where/swap-over-nbd.toml")
    assert place_of(one) == place_of(trials_made.result(Verdict.WEDGED))


def test_the_arm_that_others_are_held_against_is_the_first_column() -> None:
    made = (
        trials_made.run("plan", "S", nic="e1000")
        + trials_made.run("plan", "S")
        + trials_made.run("stock", "W")
    )
    made += trials_made.run("stock", "W", nic="e1000")
    arms, rows = matrix(trials_made.trials(made))
    assert arms == ("stock", "plan")
    assert [place.nic for place in rows] == ["e1000", "virtio-net-pci"]
    assert all(tuple(row) == arms for row in rows.values())
