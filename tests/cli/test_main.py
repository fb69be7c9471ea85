"""Every way in which a command line can end, with its exit code and its one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import tidegate
from tidegate import cli
from tidegate.cli import parser
from tidegate.errors import BadInput, Exit, Lacking, TidegateError, Unsupported, Usage

Call = Callable[..., int]
TIDEGATE = [sys.executable, "-m", "tidegate"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command line whose command `probe` does what it is given."""

    def run_probe(does: Callable[[Namespace], int], *words: str) -> int:
        def add_arguments(probe: ArgumentParser) -> None:
            probe.add_argument("--level", type=int)
            probe.add_argument("name", nargs="?")

        module = SimpleNamespace(
            SUMMARY="s", DESCRIPTION="d", EXAMPLES=(), EXIT_STATUS={}, add_arguments=add_arguments, run=does
        )
        monkeypatch.setitem(cli.COMMANDS, "probe", "s")
        monkeypatch.setattr(parser, "command_module", lambda name: module)
        return cli.main(list(words) or ["probe"])

    return run_probe


def raising(error: BaseException) -> Callable[[Namespace], int]:
    def run(args: Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_the_commands_code_is_the_exit_code(call: Call, code: int) -> None:
    assert call(lambda args: code) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("a.toml", "memory.kib", "a list", "a number"), Exit.USAGE),
        (Usage("--html and --json do not fit together"), Exit.USAGE),
        (Lacking("no qemu"), Exit.LACKING),
        (Unsupported("no swap"), Exit.UNSUPPORTED),
        (TidegateError("neither"), Exit.BUG),
        (MemoryError(), Exit.LACKING),
        (OSError(errno.ENOSPC, "No space left on device"), Exit.LACKING),
        (ZeroDivisionError("by nought"), Exit.BUG),
        (RecursionError(), Exit.BUG),
        (AssertionError("we were wrong"), Exit.BUG),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/x"), Exit.BUG),
    ],
)
def test_trouble_is_one_line_and_its_code(
    call: Call, capsys: pytest.CaptureFixture[str], error: Exception, code: Exit
) -> None:
    assert call(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tidegate: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_bad_input_says_file_place_found_expected(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call(raising(BadInput("a.toml", "memory.kib", "a list", "a number")))
    assert capsys.readouterr().err == "tidegate: a.toml: memory.kib: found a list, expected a number\n"


def test_a_hostile_name_cannot_bring_escapes_or_lines(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call(raising(BadInput("a\x1b[2J\nb", "", "x\udcff", "y")))
    assert capsys.readouterr().err == "tidegate: a\\x1b[2J\\nb: found x\\udcff, expected y\n"


def test_a_bug_says_how_to_report_it(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(raising(KeyError("zone"))) == Exit.BUG
    err = capsys.readouterr().err
    assert "internal error: KeyError: 'zone'" in err
    assert "report" in err
    assert "-v" in err


@pytest.mark.parametrize(
    "words", [["-v", "probe"], ["probe", "-v"], ["probe", "--verbose"], ["probe", "-vv"]]
)
def test_a_bug_shows_its_traceback_only_with_v(
    call: Call, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert call(raising(KeyError("zone")), *words) == Exit.BUG
    assert "Traceback" in capsys.readouterr().err


def test_interrupted(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(raising(KeyboardInterrupt())) == Exit.INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["chek"], "no command 'chek'; did you mean check?"),
        (["zzzz"], "no command 'zzzz'; tidegate --help lists the commands"),
        (["--nothing"], "unrecognized arguments: --nothing"),
        (["probe", "--nothing"], "probe: unrecognized arguments: --nothing; see tidegate probe --help"),
        (["probe", "--level", "high"], "probe: argument --level: invalid int value: 'high'"),
        (
            ["probe", "--lev", "3"],
            "unrecognized arguments: --lev",
        ),  # no abbreviations: scripts would break later
        (["--level", "3"], "unrecognized arguments: --level"),
    ],
)
def test_usage(call: Call, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert call(lambda args: 0, *words) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_without_a_command_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("NAME\n")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == Exit.OK
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f" {name}  " in out for name in cli.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == Exit.OK
    assert capsys.readouterr().out == f"tidegate {tidegate.__version__}\n"


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        (["probe", "-q"], ["error"]),
        (["probe"], ["error", "warning"]),
        (["probe", "-v"], ["error", "warning", "info"]),
        (["-v", "probe"], ["error", "warning", "info"]),
        (["probe", "-vv"], ["error", "warning", "info", "debug"]),
        (["-v", "probe", "-q"], ["error", "warning"]),
        (["probe", "-qqq"], ["error"]),
    ],
)
def test_q_and_v(call: Call, capsys: pytest.CaptureFixture[str], words: list[str], heard: list[str]) -> None:
    import logging

    def run(args: Namespace) -> int:
        logger = logging.getLogger("tidegate.host.live")
        for level in ("error", "warning", "info", "debug"):
            getattr(logger, level)("%s", level)
        return 0

    assert call(run, *words) == Exit.OK
    assert capsys.readouterr() == ("", "".join(f"tidegate: {level}\n" for level in heard))


# What only a real process shows.


def probe_script(tmp_path: Path, body: str) -> list[str]:
    """A program that runs tidegate with a command `check` of its own."""
    script = tmp_path / "probe.py"
    script.write_text(
        "import sys, types\nfrom tidegate import cli\nfrom tidegate.cli import parser\n"
        f"def run(args):\n    {body}\n"
        "module = types.SimpleNamespace(SUMMARY='', DESCRIPTION='', EXAMPLES=(), EXIT_STATUS={},"
        " add_arguments=lambda parser: None, run=run)\n"
        "parser.command_module = lambda name: module\nsys.exit(cli.main(['check']))\n"
    )
    return [sys.executable, str(script)]


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = probe_script(tmp_path, "[print('x' * 80) for _ in range(100_000)]; return 0")
    reader, writer = os.pipe()
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (cli.READER_GONE, "")


def test_a_reader_that_left_before_the_last_line_hides_no_verdict(tmp_path: Path) -> None:
    command = probe_script(tmp_path, "print('AT_RISK'); return 1")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=buffered) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("body", ["print('x'); return 0", "print('x' * 100_000); return 0"])
def test_a_full_disk_is_said(tmp_path: Path, body: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            probe_script(tmp_path, body), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == Exit.LACKING
    assert done.stderr == "tidegate: standard output: No space left on device\n"


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    command = probe_script(tmp_path, "print('ready', flush=True); sys.stdin.read(); return 0")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (Exit.INTERRUPTED, "")


def test_any_character_can_be_printed_in_any_locale(tmp_path: Path) -> None:
    command = probe_script(tmp_path, "print('\\udcff\\u20ac'); return 0")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (0, b"\\udcff\\u20ac\n")


def imported_by(*words: str) -> set[str]:
    """The modules that a command line has imported at its end."""
    program = (
        f"import sys\nfrom tidegate.cli import main\nmain({list(words)!r})\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split("\n")[-2].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_no_command_and_nothing_heavy(words: list[str]) -> None:
    modules = imported_by(*words)
    assert {"tidegate.cli", "argparse"} <= modules
    heavy = {
        "msgspec",
        "pyroute2",
        "rich",
        "shtab",
        "json",
        "logging",
        "inspect",
        "dataclasses",
        "importlib.metadata",
    }
    assert not heavy & modules
    assert {name for name in modules if name.startswith("tidegate")} == {
        "tidegate",
        "tidegate.cli",
        "tidegate.cli.parser",
        "tidegate.errors",
    }


def test_python_m_tidegate() -> None:
    done = subprocess.run([*TIDEGATE, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"tidegate {tidegate.__version__}\n")
