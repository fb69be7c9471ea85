"""`tidegate simulate`, with a mechanism that knows its answers (tests/made_runs.py), and once with the real one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests import made_runs

from tidegate.bundled_cases import case_names, case_path, cases_directory
from tidegate.cli import main
from tidegate.cli.countdown import countdown, human_time
from tidegate.errors import Exit
from tidegate.report.schema import json_schema
from tidegate.simulation import Word

TOP = Path(__file__).resolve().parents[2]
QUICK = """\
claim = "so small that it is over at once"
source = "made"

[machine]
pages = 512
reserve_pages = 16

[nic]
ring = 8

[run]
storm_ms = 20
gap_ms = 10
seeds = 2
"""


@pytest.fixture
def made_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tidegate.sim.run", made_runs)


@pytest.fixture
def storm(tmp_path: Path, made_mechanism: None) -> str:
    return made_runs.write_case(tmp_path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    return out


def valid(name: str, text: str) -> Any:
    value = json.loads(text)
    jsonschema.Draft202012Validator(json_schema(name)).validate(value)
    return value


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),  # the first arm: STUCK, as expected
        (["--arm", "mail"], 0),  # SEEN, as expected
        (["--arm", "coin"], 1),  # LUCKY, and SEEN is expected
        (["--arm", "small"], 1),  # STUCK, and nothing is expected
        (["--arm", "mail", "--arm", "coin"], 1),
        (["--design", "mail"], 0),
        (["--design", "mail", "--without", "discard"], 0),  # STUCK, as the arm with less expects
        (["--design", "mail", "--without", "throttle"], 0),  # SEEN
        (["--design", "patch", "--without", "discard"], 1),  # STUCK
        (["--design", "bare", "--seed", "1"], 1),  # SEEN, and STUCK is expected
        (["--design", "bare", "--seed", "3"], 0),
        (["--design", "bare", "--seeds", "2"], 1),
    ],
)
def test_exit_code(words: list[str], code: int, storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", storm, *words, "--jobs", "1"]) == code
    assert said(capsys)


def test_a_refusal_is_bad_news_unless_expected(
    storm: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_runs, "word_of", lambda *_: Word.REFUSED)
    assert main(["simulate", storm, "--arm", "small", "--jobs", "1"]) == Exit.BAD_NEWS
    text = (
        Path(storm)
        .read_text()
        .replace('design = "bare"\nexpect.simulate = "STUCK"', 'design = "bare"\nexpect.simulate = "REFUSED"')
    )
    Path(storm).write_text(text)
    assert main(["simulate", storm, "--arm", "bare", "--jobs", "1"]) == Exit.OK


def test_one_arm_as_json(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", storm, "--json", "--jobs", "1"])
    value = valid("simulate", said(capsys))
    assert (value["schema"], value["word"], value["k"], value["n"]) == ("tidegate.simulate/1", "STUCK", 1, 4)
    assert (value["arm"], value["expected"], value["met"]) == ("bare", "STUCK", True)


def test_several_arms_as_json(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", storm, "--arm", "mail", "--arm", "bare", "--arm", "mail", "--json"])
    value = valid("simulations", said(capsys))
    assert value["schema"] == "tidegate.simulations/1"
    assert [one["arm"] for one in value["results"]] == ["mail", "bare"]


def test_several_arms_as_text(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", storm, "--arm", "mail", "--arm", "bare"])
    text = said(capsys)
    assert text.index("mail") < text.index("bare")
    assert text.endswith("\n")


@pytest.mark.parametrize("words", [["--seeds", "5"], ["--arm", "bare", "--arm", "coin"], ["--seed", "3"]])
def test_the_same_words_print_the_same_bytes(
    words: list[str], storm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for jobs in ("1", "1", "2"):
        main(["simulate", storm, *words, "--json", "--jobs", jobs])
        printed.append(said(capsys))
    assert len(set(printed)) == 1


def test_which_seeds(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", storm, "--seed", "7", "--seeds", "2", "--json"])
    assert [run["seed"] for run in json.loads(said(capsys))["runs"]] == [7, 8]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no-such-case"], "no case 'no-such-case', and no file of that name"),
        (["./no-such-case"], "no-such-case"),
        (["no-such-case.toml"], "no-such-case.toml"),
        (["{}", "--arm", "mial"], "storm: no arm 'mial'; did you mean mail"),
        (["{}", "--design", "mial"], "no design 'mial'; did you mean mail?"),
        (["{}", "--design", "mail", "--without", "disard"], "no switch 'disard'; did you mean discard"),
        (["{}", "--without", "discard"], "design bare has no discard"),
        (["{}", "--arm", "mail", "--design", "mail"], "exclude each other"),
        (["{}", "--seeds", "0"], "found '0', expected a whole number from 1 to 100000"),
        (["{}", "--seed", "-1"], "--seed"),
        (["{}", "--seed", "9" * 5000], "expected a whole number"),
        (["{}", "--seed", "\u0663"], "expected a whole number"),
        (["{}", "--jobs", "x"], "found 'x', expected a whole number from 1 to 1024"),
        (["{}", "--arm", "mail", "--arm", "bare", "--html", "x"], "--html goes with one arm, and 2"),
        (["{}", "--arm", "mail", "--arm", "bare", "--perfetto", "x"], "--perfetto goes with one arm"),
        ([], "the following arguments are required: CASE"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, storm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *(word.format(storm) for word in words)]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_case_without_arms_asks_for_a_design(
    tmp_path: Path, made_mechanism: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_runs.write_case(tmp_path, "quick", QUICK)
    assert main(["simulate", path]) == Exit.USAGE
    assert "quick has no arm; name a design with --design" in capsys.readouterr().err
    assert main(["simulate", path, "--design", "bare"]) == Exit.OK


def test_an_invariant_that_does_not_hold_is_a_bug(
    tmp_path: Path, made_mechanism: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_runs.write_case(tmp_path, "broken")
    assert main(["simulate", path, "--jobs", "2"]) == Exit.BUG
    out, err = capsys.readouterr()
    assert out == ""
    assert "internal error: AssertionError: broken, design bare, seed 3: 3 pages are free" in err
    assert err.count("\n") == 1


def test_a_killed_worker_is_one_line(
    tmp_path: Path, made_mechanism: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_runs.write_case(tmp_path, "killed")
    assert main(["simulate", path, "--jobs", "2"]) == Exit.LACKING
    assert "try fewer --jobs" in capsys.readouterr().err


def test_files_are_written_whole(storm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, trace = tmp_path / "run.html", tmp_path / "run.pftrace"
    assert main(["simulate", storm, "--html", str(page), "--perfetto", str(trace)]) == Exit.OK
    assert said(capsys)
    assert page.read_text().rstrip().endswith("</html>")
    assert trace.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.pftrace", "storm.toml"]


def test_a_file_that_cannot_be_written_is_one_line(storm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", storm, "--perfetto", "/nonexistent/x"]) == Exit.LACKING
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "/nonexistent/x: cannot be written" in err


# On a terminal.


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_a_single_run_shows_its_gauge(
    storm: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch)
    main(["simulate", storm, "--seed", "3"])
    told = capsys.readouterr().err
    assert "123 pages" in told
    assert "456 completed" in told
    assert told.endswith("\r\x1b[K")


def test_many_runs_show_how_far_they_are(
    storm: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch)
    main(["simulate", storm, "--arm", "bare", "--arm", "mail", "--jobs", "1"])
    told = capsys.readouterr().err
    assert "bare: 4 of 8 seeds" in told
    assert "mail: 5 of 8 seeds, 0 s left" in told
    main(["simulate", storm, "-q"])
    assert capsys.readouterr().err == ""


def test_the_time_left_is_that_of_the_pace_so_far() -> None:
    told: list[str] = []
    clock = iter([100.0, 110.0, 400.0]).__next__
    done = countdown(told.append, 20, "seeds", clock=clock)
    done("mail", 0)
    done("mail", 2)
    done("mail", 20)
    assert told == ["mail: 0 of 20 seeds", "mail: 2 of 20 seeds, 90 s left", "mail: 20 of 20 seeds, 0 s left"]
    assert [human_time(time_s) for time_s in (99, 100, 6000, 7500)] == [
        "99 s",
        "2 min",
        "1 h 40 min",
        "2 h 5 min",
    ]


# What only a real process shows.


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A call whose two workers run for ever, and who these are."""
    case = made_runs.write_case(tmp_path, "endless")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script = tmp_path / "endless.py"
    script.write_text(
        "import sys\nfrom tests import made_runs\nsys.modules['tidegate.sim.run'] = made_runs\n"
        "from tidegate import cli\n"
        "if __name__ == '__main__':\n    sys.exit(cli.main(sys.argv[1:]))\n"
    )
    env = os.environ | {"PYTHONPATH": f"{TOP / 'src'}:{TOP}", "MADE_RUNS_PIPE": str(pipe)}
    words = ["simulate", case, "--jobs", "2", "--html", str(tmp_path / "run.html")]
    with subprocess.Popen(
        [sys.executable, str(script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    ) as process:
        workers: list[int] = []
        while len(workers) < 2:
            with pipe.open() as lines:
                workers += [int(line) for line in lines]
        yield process, workers
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interrupt_ends_the_workers_and_leaves_nothing(
    whole_group: bool, endless: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    """As Ctrl-C does it, which every process of the terminal gets; and as `kill -INT` does."""
    process, workers = endless
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (Exit.INTERRUPTED, "", "")
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["endless.py", "endless.toml", "pipe"]


def test_the_workers_end_when_the_call_is_killed(endless: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, workers = endless
    watched = [os.pidfd_open(worker) for worker in workers]
    process.kill()
    for one in watched:
        assert select.select([one], [], [], 60)[0] == [one]  # readable: it has ended
        os.close(one)


def test_the_real_mechanism_prints_the_same_bytes_on_any_number_of_cores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_runs.write_case(tmp_path, "quick", QUICK)
    printed = []
    for jobs in ("1", "2"):
        assert main(["simulate", path, "--design", "bare", "--json", "--jobs", jobs]) in {0, 1}
        printed.append(said(capsys))
    assert printed[0] == printed[1]
    assert len(valid("simulate", printed[0])["runs"]) == 2


# Names of bundled cases.


def test_a_bare_name_is_a_bundled_case_and_a_file_here_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    made_runs.write_case(bundled, "swap-storm")
    monkeypatch.setattr("tidegate.bundled_cases.cases_directory", lambda: bundled)
    monkeypatch.chdir(tmp_path)
    assert case_names() == ["swap-storm"]
    assert case_path("swap-storm") == bundled / "swap-storm.toml"
    assert case_path("./swap-storm") == Path("swap-storm")
    (tmp_path / "swap-storm").write_text("")
    assert case_path("swap-storm") == Path("swap-storm")


def test_a_near_miss_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_runs.write_case(tmp_path, "swap-storm")
    monkeypatch.setattr("tidegate.bundled_cases.cases_directory", lambda: tmp_path)
    assert main(["simulate", "swap-strom"]) == Exit.USAGE
    assert "did you mean swap-storm?" in capsys.readouterr().err


def test_the_bundled_cases_are_those_of_the_tree() -> None:
    assert cases_directory() == TOP / "cases"
