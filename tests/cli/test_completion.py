"""The completion scripts, read by the shells they are for where those are here."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tidegate.cli import COMMANDS, main
from tidegate.cli.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    main(["completion", shell])
    script = capsys.readouterr().out
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("tidegate che", "check"), ("tidegate completion z", "zsh"), ("tidegate check --hos", "--host")],
)
def test_bash_completes(typed: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    main(["completion", "bash"])
    words = typed.split(" ")
    script = (
        capsys.readouterr().out
        + f"\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        + "_shtab_tidegate\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run([bash, "-s"], input=script, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [expected]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "tidegate.completion/1"
    assert "_shtab_tidegate" in answer["script"]


def test_an_unknown_shell_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "'fish'" in capsys.readouterr().err
