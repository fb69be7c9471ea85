"""The documentation says what the program does: made pages are fresh, shown commands print what is shown.

A block that begins with three backticks and `console` is run: each line that begins with `$ ` by bash, from a
directory that holds the tree's own directories, and what follows must be what it prints (stdout and stderr).
A line `...` stands for any lines. A word after `console` says what the block needs: `root`, `network` or
`guest`; such a block is not run here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidegate.bundled_cases import case_names
from tidegate.cli import COMMANDS
from tidegate.host import archive, netlink_format, tar_stream
from tidegate.host.record import Status
from tidegate.units import MIB

TOP = Path(__file__).resolve().parent.parent
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md")), TOP / "hosts" / "README.md"]
BLOCK = re.compile(r"^```console *(?P<needs>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"", "root", "network", "guest"}
MARK = "----- end of a command -----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One block of commands with what they print."""

    place: str  # file:line
    needs: str
    commands: tuple[tuple[str, str], ...]  # command, expected output


def examples(page: Path) -> Iterator[Example]:
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        parts = re.split(r"^\$ (.*)\n", block["body"], flags=re.MULTILINE)
        assert not parts[0].strip(), f"{page.name}:{line}: output before the first command"
        pairs = tuple(zip(parts[1::2], parts[2::2], strict=True))
        yield Example(place=f"{page.name}:{line}", needs=block["needs"], commands=pairs)


ALL = [example for page in PAGES for example in examples(page)]


def run_in_order(commands: list[str], directory: Path) -> list[str]:
    """What each command prints, all of them run by one bash, so that `echo $?` and variables work."""
    for entry in ("hosts", "docs", "examples", "cases"):
        if (TOP / entry).is_dir():
            (directory / entry).symlink_to(TOP / entry)
    script = "".join(f"{command}\n_code=$?; printf '%s\\n' '{MARK}'; (exit $_code)\n" for command in commands)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["bash"],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=env,
        check=False,
        timeout=300,
    )
    return done.stdout.split(f"{MARK}\n")[: len(commands)]


def matches(printed: str, shown: str) -> bool:
    """Whether the output is the one shown, a line `...` standing for any number of lines."""
    pieces = [re.escape(piece) for piece in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)]
    return re.fullmatch("(?:.*\n)*".join(pieces), printed) is not None


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.place)
def test_a_shown_command_prints_what_is_shown(example: Example, tmp_path: Path) -> None:
    assert example.needs in NEEDS
    if example.needs:
        pytest.skip(f"{example.place} needs {example.needs}: shown, not run here")
    outputs = run_in_order([command for command, _ in example.commands], tmp_path)
    for (command, shown), printed in zip(example.commands, outputs, strict=True):
        assert matches(printed, shown), f"{example.place}: $ {command}\n{printed}"


def test_there_are_examples_to_run() -> None:
    assert [example.place for example in ALL if not example.needs]


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\nb\nc\n", "a\n...\nc\n", True),
        ("a\nc\n", "a\n...\nc\n", True),
        ("a\nb\nd\n", "a\n...\nc\n", False),
        ("a+b\n", "a.b\n", False),
    ],
)
def test_the_comparison_can_fail(printed: str, shown: str, same: bool) -> None:
    assert matches(printed, shown) is same


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("x\n\n```console\n$ echo one\ntwo\n$ false\n$ echo $?\n1\n```\n")
    (example,) = examples(page)
    assert example.place == "page.md:3"
    outputs = run_in_order([command for command, _ in example.commands], tmp_path)
    results = [matches(out, shown) for out, (_, shown) in zip(outputs, example.commands, strict=True)]
    assert results == [False, True, True]


def test_made_pages_are_fresh() -> None:
    command = [sys.executable, str(TOP / "tools" / "make_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_docs(name: str) -> None:
    assert f"## tidegate {name}\n" in (TOP / "docs" / "commands.md").read_text()


@pytest.mark.parametrize("page", sorted({*PAGES, *TOP.glob("*.md")}), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_pages_that_the_source_names_exist() -> None:
    named = {
        name
        for folder in ("src", "tests", "tools", "bench")
        for path in (TOP / folder).rglob("*.py")
        for name in re.findall(r"docs/[a-z-]+\.md", path.read_text())
    }
    assert "docs/exit-codes.md" in named
    assert [name for name in sorted(named) if not (TOP / name).is_file()] == []


def test_the_format_of_a_record_is_described() -> None:
    page = (TOP / "docs/record-format.md").read_text()
    keys = [*archive.Entry.__struct_fields__, *archive.Manifest.__struct_fields__]
    words = [*keys, *(status.value for status in Status), *netlink_format.ALL]
    described = set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))
    assert {word.removeprefix("netlink/") for word in words} <= described
    limits = (archive.MEMBER_BYTES_MAX, archive.TOTAL_BYTES_MAX, archive.MANIFEST_BYTES_MAX)
    assert all(f"{limit // MIB} MiB" in page for limit in limits)
    assert f"{tar_stream.MEMBERS_MAX:,} files" in page


def test_the_walk_through_the_mail_has_every_case_and_names_no_other() -> None:
    page = (TOP / "docs/history.md").read_text()
    marks = re.findall(r"^<!-- case: ([\w-]+) -->$", page, re.MULTILINE)
    assert sorted(marks) == case_names()
    rows = page.split("## The mail, sentence by sentence")[1].split("\n\n")[2]
    named = {
        name
        for row in rows.splitlines()[2:]
        for name in row.rstrip(" |").rsplit("|", 1)[1].split(",")
        if name.strip() not in {"all", "(compiled", "below)", "(compiled, below)"}
    }
    assert {name.strip() for name in named} <= set(case_names())
    assert "| not run |" not in page
