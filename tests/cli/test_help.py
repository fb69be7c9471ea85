"""Every command has a help like a manual page, and what its examples show can be called."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tidegate.cli import COMMANDS, main
from tidegate.cli.parser import EXIT_STATUS, command_module, command_parser
from tidegate.errors import Exit

SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES"]
EXAMPLES = [
    (name, line)
    for name in COMMANDS
    if (Path(__file__).parents[2] / f"src/tidegate/cli/{name}.py").is_file()
    for _, line in command_module(name).EXAMPLES
]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_a_manual_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == Exit.OK
    page = capsys.readouterr().out
    titles = [title for title in re.findall(r"^[A-Z][A-Z ]*$", page, re.MULTILINE) if title != "ARGUMENTS"]
    assert titles == SECTIONS
    assert re.search(rf"^    tidegate-{name} - ", page, re.MULTILINE)
    for option in ("--help", "--quiet", "--verbose", "--json"):
        assert option in page


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_help_fits_the_terminal(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main([name, "--help"])
    filled = capsys.readouterr().out.split("DESCRIPTION\n")[1].split("\nEXIT STATUS\n")[0]
    words = [line for line in filled.splitlines() if len(line.split()) > 1]
    assert max(map(len, words)) <= min(columns, 100)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_one_in_the_list(name: str) -> None:
    assert COMMANDS[name] == command_module(name).SUMMARY


@pytest.mark.parametrize("name", COMMANDS)
def test_the_exit_codes_are_documented_ones(name: str) -> None:
    assert set(command_module(name).EXIT_STATUS) <= set(EXIT_STATUS)


def test_every_exit_code_has_a_meaning() -> None:
    assert {int(code) for code in Exit} <= set(EXIT_STATUS)


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_can_be_parsed(name: str, line: str) -> None:
    words = shlex.split(re.split(r" [>|&]|;", line)[0])
    if words[0] == "sudo":
        words = words[1:]
    assert words[:2] == ["tidegate", name]
    command_parser(name, command_module(name)).parse_args(words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples(name: str) -> None:
    assert name in {example for example, _ in EXAMPLES}
