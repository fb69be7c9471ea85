"""Campaigns of made-up trials in real processes: each trial once, whatever ends them in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.rig import campaign_runners as runners

from tidegate.errors import Lacking
from tidegate.rig import pool as pool_module
from tidegate.rig.campaign import Outcome, evidence_name, run_campaign
from tidegate.rig.campaign_file import Planned
from tidegate.rig.pool import LocalPool, Runner, available_mib, kill_with_children
from tidegate.rig.results_file import EVIDENCE, RESULTS, append, open_store
from tidegate.trial import Job, TrialResult, Verdict

TREE = Path(__file__).resolve().parents[2]
SOON_S = 60.0  # on a busy machine


def plan(n: int = 3, arms: str = "stock", nics: str = "e1000", expected: str | None = None) -> list[Planned]:
    return [
        Planned(
            job=Job(case="deadlock", arm=arm, kernel="k", nic=nic, transport="nbd", seed=seed),
            memory_mib=1,
            expected=expected,
        )
        for seed in range(1, n + 1)
        for nic in nics.split()
        for arm in arms.split()
    ]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runners note what they do."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("TIDEGATE_TEST_RUNS", str(folder))
    return folder


def campaign(
    directory: Path,
    runner: Runner,
    planned: list[Planned],
    *,
    jobs: int = 2,
    until_sure: bool = False,
    lost_again: bool = False,
) -> Outcome:
    with open_store(directory) as store:
        pool = LocalPool(directory, runner, jobs)
        return run_campaign(planned, store, pool, until_sure=until_sure, lost_again=lost_again)


def kept(directory: Path) -> list[TrialResult]:
    with open_store(directory) as store:
        return list(store.results.values())


def lines(directory: Path) -> int:
    path = directory / RESULTS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_trial_is_made_once_and_its_evidence_kept(tmp_path: Path, runs: Path) -> None:
    planned = plan(2, "stock plan")
    outcome = campaign(tmp_path, runners.quick, planned)
    assert [one.job for one in outcome.results] == [one.job for one in planned]
    assert sorted(runners.starts(runs)) == sorted(one.job.key() for one in planned)
    for result in outcome.results:
        assert result.evidence == f"{EVIDENCE}/{evidence_name(result.job)}"
        assert (tmp_path / result.evidence / "console.txt").read_text() == result.job.key()
    assert len(list((tmp_path / EVIDENCE).iterdir())) == 4
    assert {(one.arm, one.verdict) for one in kept(tmp_path)} == {("stock", "WEDGED"), ("plan", "SURVIVED")}


def test_what_is_kept_is_not_made_again(tmp_path: Path, runs: Path) -> None:
    campaign(tmp_path, runners.quick, plan(2))
    outcome = campaign(tmp_path, runners.quick, plan(3))
    assert Counter(runners.starts(runs)) == Counter(one.job.key() for one in plan(3))
    assert [one.seed for one in outcome.results] == [1, 2, 3]


def test_no_evidence_leaves_no_folder(tmp_path: Path) -> None:
    outcome = campaign(tmp_path, runners.bare, plan(1))
    assert outcome.results[0].evidence is None
    assert list((tmp_path / EVIDENCE).iterdir()) == []


def test_what_was_expected_is_told_where_the_runner_does_not(tmp_path: Path) -> None:
    outcome = campaign(tmp_path, runners.bare, plan(1, expected="FAIL"))
    assert outcome.results[0].expected == "FAIL"


def test_a_worker_that_dies_is_tried_once_more_and_counted(tmp_path: Path, runs: Path) -> None:
    outcome = campaign(tmp_path, runners.dies_once, plan(3))
    assert [(one.seed, one.verdict, one.tries) for one in outcome.results] == [
        (1, "SURVIVED", 1), (2, "SURVIVED", 2), (3, "SURVIVED", 1),
    ]  # fmt: skip
    assert len(runners.starts(runs)) == 4


def test_a_worker_that_dies_twice_is_lost_and_the_campaign_goes_on(tmp_path: Path, runs: Path) -> None:
    outcome = campaign(tmp_path, runners.dies, plan(3))
    assert [(one.verdict, one.tries) for one in outcome.results] == [
        ("SURVIVED", 1),
        ("LOST", 2),
        ("SURVIVED", 1),
    ]
    lost = outcome.results[1]
    assert lost.reason == "the process of the trial ended by SIGKILL"
    assert lost.evidence is not None
    assert (tmp_path / lost.evidence / "console.txt").read_text() == "half of it"
    assert len(runners.starts(runs)) == 4
    campaign(tmp_path, runners.dies, plan(3))
    assert len(runners.starts(runs)) == 4, "a lost one is not made again unless asked"
    again = campaign(tmp_path, runners.bare, plan(3), lost_again=True)
    assert [one.verdict for one in again.results] == ["SURVIVED"] * 3
    assert lines(tmp_path) == 4
    assert len(kept(tmp_path)) == 3


def test_a_runner_that_says_lost_is_asked_once_more(tmp_path: Path, runs: Path) -> None:
    outcome = campaign(tmp_path, runners.loses, plan(1))
    assert [(one.verdict, one.tries) for one in outcome.results] == [("LOST", 2)]
    assert len(runners.starts(runs)) == 2


def test_an_error_of_ours_loses_one_trial_and_leaves_its_traceback(tmp_path: Path, runs: Path) -> None:
    outcome = campaign(tmp_path, runners.breaks, plan(1))
    (lost,) = outcome.results
    assert (lost.verdict, lost.reason) == ("LOST", "an error of the rig: ZeroDivisionError: a slip of ours")
    assert lost.evidence is not None
    assert "ZeroDivisionError" in (tmp_path / lost.evidence / "traceback.txt").read_text()


def test_what_the_machine_lacks_ends_it_with_finished_ones_kept(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(Lacking, match="no qemu-system-x86_64; apt install"):
        campaign(tmp_path, runners.lacks, plan(5), jobs=1)
    assert [one.seed for one in kept(tmp_path)] == [1]
    assert runners.starts(runs) == [one.job.key() for one in plan(2)]


def test_what_a_kernel_does_not_have_is_skipped_with_its_reason(tmp_path: Path, runs: Path) -> None:
    planned = plan(3, nics="e1000 igb")
    outcome = campaign(tmp_path, runners.has_no_such_nic, planned, jobs=1)
    assert [(one.nic, one.seed) for one in outcome.results] == [("igb", 1), ("igb", 2), ("igb", 3)]
    assert outcome.skipped == {
        one.job.key(): "this kernel has no driver for e1000" for one in planned if one.job.nic == "e1000"
    }
    assert sum("e1000" in key for key in runners.starts(runs)) == 1


def test_a_result_of_another_trial_is_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="asked for deadlock stock k"):
        campaign(tmp_path, runners.another, plan(1))
    assert kept(tmp_path) == []


def test_until_sure_stops_a_place_that_is_and_no_other(tmp_path: Path, runs: Path) -> None:
    outcome = campaign(
        tmp_path, runners.quick, plan(12, "stock plan", expected="FAIL"), jobs=1, until_sure=True
    )
    assert Counter(one.arm for one in outcome.results) == {"stock": 8, "plan": 8}
    assert outcome.spared == 8
    again = campaign(tmp_path, runners.quick, plan(12, "stock plan", expected="FAIL"), until_sure=True)
    assert len(again.results) == len(runners.starts(runs)) == 16


def test_no_more_at_a_time_than_asked_for(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    start = LocalPool.start

    def watched(self: LocalPool, planned: Planned) -> None:
        nonlocal most
        start(self, planned)
        most = max(most, self.running())

    monkeypatch.setattr(LocalPool, "start", watched)
    campaign(tmp_path, runners.quick, plan(5), jobs=2)
    assert most == 2


def test_no_more_at_a_time_than_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "available_mib", lambda: 256 + 500)
    local = LocalPool(tmp_path, runners.bare, 8)
    (tmp_path / EVIDENCE).mkdir()
    small, large = (replace(plan(1)[0], memory_mib=mib) for mib in (112, 421))
    try:
        assert local.room(small)
        local.start(small)
        assert local.room(small)
        local.start(small)
        assert not local.room(small)  # 3 * (112 + 80) > 500
    finally:
        local.end(now=True)
    with pytest.raises(
        Lacking, match=r"deadlock: a trial takes 501 MiB, and this machine has 500 MiB to give"
    ):
        local.room(large)


def test_a_guest_larger_than_the_machine_is_told_before_the_first_trial(tmp_path: Path, runs: Path) -> None:
    first, last = plan(2)
    with pytest.raises(Lacking, match="lower memory_mib"):
        campaign(tmp_path, runners.quick, [first, replace(last, memory_mib=10 * available_mib())])
    assert runners.starts(runs) == []


def test_a_trial_that_hangs_is_killed_with_all_it_started(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "LONGEST_S", 2.0)
    outcome = campaign(tmp_path, runners.deaf, plan(2), jobs=1)
    lost = outcome.results[1]
    assert (lost.verdict, lost.tries) == (Verdict.LOST, 2)
    assert lost.reason.startswith("no end after")
    assert not any(map(is_running, programs(runs)))


def programs(runs: Path) -> list[int]:
    path = runs / "programs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def command(tmp_path: Path, runs: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `tidegate campaign` with one of the runners, in a process group of its own."""
    begun: list[subprocess.Popen[str]] = []
    (tmp_path / "case.toml").write_text('claim = "c"\nsource = "s"\n[trial]\n[[trial.arm]]\nname = "stock"\n')

    def start(runner: str, n: int, *more: str) -> subprocess.Popen[str]:
        (tmp_path / "campaign.toml").write_text(f'cases = ["case.toml"]\nn = {n}\n')
        words = [sys.executable, "-m", "tests.rig.campaign_runners", runner, str(tmp_path / "campaign.toml")]
        process = subprocess.Popen(
            [*words, "--dir", str(tmp_path / "out"), *more],
            cwd=TREE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        kill_with_children(process.pid)
        process.communicate()


def test_killed_at_any_moment_it_goes_on_with_each_trial_exactly_once(
    tmp_path: Path, runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    """kill -9 of the campaign alone, three times, each time after one more trial was kept."""
    n, out = 8, tmp_path / "out"
    killed_at = []
    for _ in range(3):
        before = lines(out)
        process = command("slow", n, "--jobs", "2", "-q")
        until(lambda: lines(out) > before, "no trial is kept")  # noqa: B023
        process.kill()
        process.communicate()
        killed_at.append(lines(out))
        with (out / RESULTS).open("ab") as file:
            file.write(b'{"case":"dead')  # and what a power cut may add: a torn line
    assert killed_at[-1] < n, "it was killed mid-way"
    output, errors = command("slow", n, "--jobs", "2", "-q").communicate(timeout=SOON_S)
    assert errors == ""
    assert f"{n}" in output
    results = kept(out)
    assert lines(out) == n
    assert sorted(one.seed for one in results) == list(range(1, n + 1))
    for one in results:
        assert one.evidence is not None
        assert (out / one.evidence / "console.txt").read_text() == one.job.key()
    assert len(list((out / EVIDENCE).iterdir())) == n, "no folder of a trial that was cut"
    until(lambda: not any(map(is_running, pids(runs))), "a worker outlives its campaign")


def pids(runs: Path) -> list[int]:
    return [int(line.split()[0]) for line in (runs / "starts").read_text().splitlines()]


def test_a_kept_trial_is_never_started_again_after_a_kill(
    tmp_path: Path, runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "out"
    process = command("slow", 6, "--jobs", "1", "-q")
    until(lambda: lines(out) >= 2, "no trial is kept")
    process.kill()
    process.communicate()
    done = {one.job.key() for one in kept(out)}
    before = len(runners.starts(runs))
    command("slow", 6, "--jobs", "1", "-q").communicate(timeout=SOON_S)
    assert done.isdisjoint(runners.starts(runs)[before:])
    assert {one.seed for one in kept(out)} == set(range(1, 7))


def test_workers_and_what_they_started_end_with_a_killed_campaign(
    runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("endless", 3, "--jobs", "2", "-q")
    until(lambda: len(programs(runs)) >= 2, "no program was started")
    process.kill()
    process.communicate()
    until(lambda: not any(map(is_running, [*pids(runs), *programs(runs)])), "something is left")


def test_ctrl_c_ends_what_runs_and_keeps_what_ended(
    tmp_path: Path, runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("endless", 5, "--jobs", "2")
    until(lambda: lines(tmp_path / "out") == 1 and len(programs(runs)) >= 2, "no program was started")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the foreground
    output, errors = process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert "stock" in output
    assert errors == f"tidegate: interrupted; the same command goes on ({tmp_path / 'out'})\n"
    assert [one.seed for one in kept(tmp_path / "out")] == [1]
    assert not any(map(is_running, [*pids(runs), *programs(runs)]))
    assert len(list((tmp_path / "out" / EVIDENCE).iterdir())) == 1


def test_ctrl_c_twice_ends_it_at_once(
    tmp_path: Path, runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("deaf", 5, "--jobs", "2", "-q")
    until(lambda: lines(tmp_path / "out") == 1 and len(programs(runs)) >= 2, "no program was started")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None, "the deaf ones are waited for"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert time.monotonic() - begin < pool_module.GRACE_S
    assert not any(map(is_running, [*pids(runs), *programs(runs)]))
    assert [one.seed for one in kept(tmp_path / "out")] == [1]


def test_a_second_campaign_refuses_and_the_first_goes_on(
    tmp_path: Path, runs: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    first = command("slow", 5, "--jobs", "1", "-q")
    until(lambda: lines(tmp_path / "out") >= 1, "no trial is kept")
    second = command("quick", 5, "--jobs", "1", "-q")
    _, errors = second.communicate(timeout=SOON_S)
    assert second.returncode == 5
    assert (
        errors
        == f"tidegate: {tmp_path / 'out'}: another campaign is at work in it; wait for its end, or take another --dir\n"
    )
    first.communicate(timeout=SOON_S)
    assert len(kept(tmp_path / "out")) == 5


def test_a_trial_kept_twice_is_counted_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        append(store, runners.made(plan(1)[0].job, Verdict.LOST))
        append(store, runners.made(plan(1)[0].job))
    assert [one.verdict for one in campaign(tmp_path, runners.dies, plan(1)).results] == ["SURVIVED"]


def test_an_evidence_folder_is_named_so_that_one_can_read_it() -> None:
    job = replace(plan(1)[0].job, kernel="/boot/vmlinuz-6.12", sweep={"delay_us": 5})
    name = evidence_name(job)
    assert name.startswith("deadlock.stock.boot.vmlinuz-6.12.e1000.nbd.delay_us=5.1.")
    assert os.sep not in name
    assert name != evidence_name(replace(job, seed=2))
