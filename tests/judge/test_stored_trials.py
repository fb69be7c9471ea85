"""What trials found, kept with the cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report import trials_made

from tidegate.errors import BadInput
from tidegate.judge.stored import results_file
from tidegate.judge.stored_trials import CURVE_ROWS, keep_trials, merged, read_trials, thinned
from tidegate.trial import Verdict


def test_what_is_kept_is_read_back_without_what_is_of_one_machine(tmp_path: Path) -> None:
    assert read_trials(tmp_path) == ()
    assert keep_trials(tmp_path, [trials_made.result(Verdict.WEDGED, case="elsewhere/deadlock.toml")]) == 1
    (one,) = read_trials(tmp_path)
    assert (one.case, one.evidence, one.command, one.host_mib, one.wall_s) == ("deadlock", None, "", 0, 0.0)
    assert (one.verdict, one.code, one.diagnosis is not None) == (Verdict.WEDGED, trials_made.CODE, True)
    assert len(one.seconds) == CURVE_ROWS
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "trial.jsonl"]


def test_keeping_twice_changes_nothing(tmp_path: Path) -> None:
    found = trials_made.campaign().results
    counted = [one for one in found if one.verdict is not Verdict.LOST]
    assert keep_trials(tmp_path, found) == len(counted)
    data = results_file(tmp_path, "trial").read_bytes()
    assert keep_trials(tmp_path, reversed(found)) == 0
    assert results_file(tmp_path, "trial").read_bytes() == data


def test_nothing_to_keep_leaves_no_file(tmp_path: Path) -> None:
    assert keep_trials(tmp_path, trials_made.run("stock", "LL")) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_order_is_of_place_and_seed(tmp_path: Path) -> None:
    found = trials_made.run("stock", "WSW") + trials_made.run("plan", "SS")
    keep_trials(tmp_path, found[:2])
    keep_trials(tmp_path, reversed(found[1:]))
    lines = results_file(tmp_path, "trial").read_text().splitlines()
    rows = [(json.loads(line)["arm"], json.loads(line)["seed"]) for line in lines]
    assert rows == [("plan", 1), ("plan", 2), ("stock", 1), ("stock", 2), ("stock", 3)]


def test_of_one_trial_the_last_made_is_kept() -> None:
    old = trials_made.result(Verdict.WEDGED, started="2026-11-24T18:00:00+00:00")
    new = replace(old, verdict=Verdict.SURVIVED, started="2026-11-24T19:00:00+00:00")
    lost = replace(old, verdict=Verdict.LOST, started="2026-11-24T20:00:00+00:00")
    assert [one.verdict for one in merged([new, lost, old])] == [Verdict.SURVIVED]


def test_one_trial_of_each_word_of_a_place_has_its_curve() -> None:
    kept = merged(trials_made.run("stock", "WWSWS") + trials_made.run("plan", "SS"))
    assert [(one.arm, one.seed) for one in kept if one.seconds] == [("plan", 1), ("stock", 1), ("stock", 3)]


def test_a_curve_keeps_its_ends_and_its_lowest_point() -> None:
    curve = list(trials_made.seconds(Verdict.WEDGED, 300))
    curve[77] = replace(curve[77], slack_pages=-999)
    few = thinned(tuple(curve))
    assert len(few) <= CURVE_ROWS
    assert (few[0], few[-1]) == (curve[0], curve[-1])
    assert curve[77] in few
    assert list(few) == sorted(few, key=lambda one: one.guest_ms)
    assert thinned(few) == few


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = results_file(tmp_path, "trial")
    path.parent.mkdir()
    path.write_text("<<<<<<<\n")
    with pytest.raises(BadInput, match=r"trial\.jsonl: line 1"):
        read_trials(tmp_path)
