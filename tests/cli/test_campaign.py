"""`tidegate campaign`: exit codes, lists, JSON lines, and the text at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.rig import campaign_runners as runners
from tests.rig.test_campaign_file import CASE

from tidegate import cli
from tidegate.bundled_cases import cases_directory
from tidegate.cli import campaign, main
from tidegate.errors import Exit, Unsupported
from tidegate.rig import pool
from tidegate.rig.campaign_file import Planned, read_campaign
from tidegate.rig.pool import Ended
from tidegate.trial import Job, TrialResult, Trials, Verdict


class Here:
    """A pool that makes each trial at once, in this process."""

    def __init__(self, folder: Path, runner: pool.Runner, jobs: int) -> None:
        self._runner, self._begun = runner, list[Planned]()

    def room(self, planned: Planned) -> bool:
        return not self._begun

    def start(self, planned: Planned) -> None:
        self._begun.append(planned)

    def wait(self) -> list[Ended]:
        begun, self._begun = self._begun, []
        return [Ended(planned=one, answer=pool.answered(self._runner, one.job, Path())) for one in begun]

    def running(self) -> int:
        return len(self._begun)

    def end(self, *, now: bool) -> list[Ended]:
        return []


Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the command on a case with the arms `stock` (FAIL expected) and `plan` (SURVIVED expected)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "LocalPool", Here)
    monkeypatch.setitem(cli.COMMANDS, "campaign", campaign.SUMMARY)
    (tmp_path / "one.toml").write_text(CASE)
    (tmp_path / "matrix.toml").write_text('cases = ["one.toml"]\nn = 3\n')

    def run(words: dict[str, str], *more: str) -> int:
        """`words`: for each arm the verdicts of its seeds."""

        def runner(job: Job, _: Path) -> TrialResult:
            verdict = words[job.arm].split()[job.seed - 1]
            if verdict == "unsupported":
                raise Unsupported("no driver for that")
            return runners.made(job, Verdict(verdict))

        monkeypatch.setattr(campaign, "one_trial", lambda: runner)
        return main(["campaign", "matrix.toml", *more])

    return run


W, S = "WEDGED", "SURVIVED"
GOOD = {"stock": f"{W} {W} {S}", "plan": f"{S} {S} {S}"}


@pytest.mark.parametrize(
    ("stock", "plan", "code"),
    [
        ([W, W, S], [S, S, S], Exit.OK),
        ([W, S, S], [S, S, S], Exit.BAD_NEWS),
        ([W, W, W], [S, S, "STALLED"], Exit.BAD_NEWS),
        ([W, W, W], [S, S, "LOST"], Exit.OK),
        ([W, W, W], ["LOST", "LOST", "INCONCLUSIVE"], Exit.CANNOT_TELL),
        (["LOST"] * 3, ["INCONCLUSIVE"] * 3, Exit.CANNOT_TELL),
        ([S, S, S], ["INCONCLUSIVE"] * 3, Exit.BAD_NEWS),
        (["unsupported"], [S, S, S], Exit.UNSUPPORTED),
        (["unsupported"], ["unsupported"], Exit.UNSUPPORTED),
        (["unsupported"], [W, S, S], Exit.BAD_NEWS),
    ],
)
def test_exit_codes(call: Call, stock: Sequence[str], plan: Sequence[str], code: Exit) -> None:
    assert call({"stock": " ".join(stock), "plan": " ".join(plan)}, "-q") == code


def test_it_ends_with_the_tallies(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(GOOD) == Exit.OK
    out, err = capsys.readouterr()
    assert "stock" in out
    assert "2/3" in out
    assert "0/3" in out
    assert err == ""
    assert (Path("matrix.results") / "results.jsonl").read_bytes().count(b"\n") == 6


def test_json_is_a_line_for_each_result_and_one_for_the_tallies(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(GOOD, "--json", "--dir", "out") == Exit.OK
    out, err = capsys.readouterr()
    *lines, last = out.splitlines()
    results = [msgspec.json.decode(line, type=TrialResult) for line in lines]
    assert [(one.seed, one.arm) for one in results] == [(s, a) for s in (1, 2, 3) for a in ("stock", "plan")]
    assert {json.loads(line)["schema"] for line in lines} == {"tidegate.trial/1"}
    trials = msgspec.json.decode(last, type=Trials)
    assert [(one.arm, one.failed, one.n, one.met) for one in trials.tallies] == [
        ("stock", 2, 3, True), ("plan", 0, 3, True),
    ]  # fmt: skip
    assert trials.results == ()
    assert err == ""


def test_a_second_call_makes_nothing_and_says_the_same(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(GOOD) == Exit.OK
    first = capsys.readouterr().out
    assert call({}) == Exit.OK
    assert capsys.readouterr().out == first


def test_a_dry_run_lists_what_is_left_and_makes_nothing(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call({}, "--dry-run") == Exit.OK
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "one.toml stock trixie-cloud virtio-net-pci nbd #1"
    assert len(out.splitlines()) == 6
    assert err == "tidegate: 6 of 6 trials are to be made, in matrix.results\n"
    assert not Path("matrix.results").exists()
    call(GOOD, "-q")
    capsys.readouterr()
    Path("matrix.toml").write_text('cases = ["one.toml"]\nn = 4\n')
    assert call({}, "--dry-run", "--json", "-q") == Exit.OK
    out, err = capsys.readouterr()
    assert [msgspec.json.decode(line, type=Job).seed for line in out.splitlines()] == [4, 4]
    assert err == ""


def test_lost_again(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"stock": f"{W} {W} {W}", "plan": f"{S} LOST {S}"}
    call(words, "-q")
    capsys.readouterr()
    call({}, "--dry-run", "-q")
    assert capsys.readouterr().out == ""
    call({}, "--dry-run", "--lost-again", "-q")
    assert capsys.readouterr().out == "one.toml plan trixie-cloud virtio-net-pci nbd #2\n"
    assert call(GOOD, "--lost-again", "-q", "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tallies"][1]["counts"] == {S: 3}


def test_until_sure_says_how_many_it_spared(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    Path("matrix.toml").write_text('cases = ["one.toml"]\nn = 20\n')
    words = {"stock": " ".join([W] * 20), "plan": f"{S} {W}"}
    assert call(words, "--until-sure", "-v") == Exit.BAD_NEWS
    assert capsys.readouterr().err == "tidegate: 30 trials were not needed to be sure\n"


def test_what_is_skipped_is_said_with_its_reason(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call({"stock": "unsupported", "plan": f"{S} {S} {S}"})
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3
    assert err[0] == "tidegate: skipped one.toml stock trixie-cloud virtio-net-pci nbd #1: no driver for that"


def test_bad_calls(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call({}, "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9") == Exit.USAGE
    assert "--jobs is for this machine" in capsys.readouterr().err
    Path("matrix.toml").unlink()
    assert call({}) == Exit.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_line_that_is_no_result_ends_it_before_anything_is_made(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/results.jsonl").write_text("{}\n")
    assert call(GOOD, "--dir", "out") == Exit.USAGE
    assert "results.jsonl: line 1" in capsys.readouterr().err


def test_the_campaigns_that_the_help_names_are_some() -> None:
    folder = cases_directory() / "campaigns"
    assert "cases/campaigns/" in campaign.DESCRIPTION
    files = sorted(folder.glob("*.toml"))
    assert files
    for path in files:
        plan = read_campaign(path)
        assert len({one.job.key() for one in plan}) == len(plan)
