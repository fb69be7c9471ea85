"""Argument parsers whose help reads like a manual page."""

from __future__ import annotations

import argparse
import importlib
import shutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, cast

from tidegate import __version__
from tidegate.cli import COMMANDS
from tidegate.errors import Usage

# What each exit code means, whichever command gives it; `docs/exit-codes.md` shows the same table.
EXIT_STATUS = {
    0: "fine, as expected, in policy",
    1: "AT_RISK, STUCK, LUCKY, WEDGED, drift, or a plan that cannot fit",
    2: "usage or bad input",
    3: "CANNOT_TELL, UNKNOWN, INCONCLUSIVE, LOST",
    4: "this kernel, record or case does not have what is asked for",
    5: "this machine lacks a tool, a right or memory",
    6: "internal error: a bug; the message says how to report it",
    130: "interrupted",
    141: "whoever read the output went away before it was complete",
}
_EVERYWHERE = (2, 5, 6, 130)  # every command may end so

ABOUT = """\
A host whose swap, disks or file systems are reached over the network can stand still for ever when memory
runs out: it frees memory by writing over the network, and needs memory to receive the acknowledgement.
tidegate reads a host and says whether that can happen to it, shows the way there in the host's own numbers,
and names the smallest settings that prevent it. It only reads. And it runs the receive path of a kernel as a
program, with the cure of 2005 and its rivals as switches, so that one can see what each of them is for.
"""
ENVIRONMENT = "NO_COLOR: when it is set and not empty, no colour. Off a terminal there is none either."


class Command(Protocol):
    """What a module of a command holds."""

    SUMMARY: str  # one line, the same as in COMMANDS
    DESCRIPTION: str  # paragraphs; lines that begin with a space stay as they are
    EXAMPLES: tuple[tuple[str, str], ...]  # (what it does, the command line)
    EXIT_STATUS: Mapping[int, str]  # codes that mean something particular here

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, /) -> None:
        """Declares the command's options."""

    @staticmethod
    def run(args: argparse.Namespace, /) -> int:
        """Does it; the exit code."""


def page_width() -> int:
    """Columns of a page: the terminal's, and no more than reads well."""
    return min(shutil.get_terminal_size().columns, 100)


class _Formatter(argparse.HelpFormatter):
    """Python's own, with one width for all pages and one style of options in every Python version."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=max(page_width() - 4, 20), max_help_position=26)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"  # before 3.13: -o FILE, --output FILE


class ManParser(argparse.ArgumentParser):
    """A parser with a manual page for a help text, and one line (`Usage`) for an error."""

    def __init__(self, *args: Any, sections: Callable[[], list[tuple[str, str]]] = list, **kw: Any) -> None:
        settings: dict[str, Any] = {"allow_abbrev": False, "add_help": False, "formatter_class": _Formatter}
        super().__init__(*args, **(settings | kw))
        self._sections = sections
        self._optionals.title = "OPTIONS"
        self._positionals.title = "ARGUMENTS"

    def error(self, message: str) -> NoReturn:
        """Raises Usage instead of printing two lines and leaving."""
        raise Usage(
            f"{self.prog.removeprefix('tidegate').strip() or 'usage'}: {message}; see {self.prog} --help"
        )

    def format_help(self) -> str:
        """The manual page."""
        width = page_width()
        synopsis = self._get_formatter()
        synopsis.add_usage(self.usage, self._actions, self._mutually_exclusive_groups, prefix="")
        name = self.prog.replace(" ", "-")
        parts = [_section("NAME", f"{name} - {self.description}", width)]
        parts.append("SYNOPSIS\n" + textwrap.indent(synopsis.format_help().strip("\n"), "    ") + "\n")
        sections = dict(self._sections())
        parts += [_section(title, sections[title], width) for title in ("DESCRIPTION",) if title in sections]
        for group in self._action_groups:
            parts.append(self._format_group(group))
        parts += [_section(title, text, width) for title, text in sections.items() if title != "DESCRIPTION"]
        return "\n".join(part for part in parts if part)

    def _format_group(self, group: argparse._ArgumentGroup) -> str:
        formatter = self._get_formatter()
        formatter.start_section(group.title)
        formatter.add_arguments(group._group_actions)  # noqa: SLF001 - as argparse's own format_help
        formatter.end_section()
        text = formatter.format_help()
        head, _, rest = text.partition(":\n")
        return f"{head}\n{textwrap.indent(rest, '  ')}" if rest else ""


def top_parser() -> ManParser:
    """The parser of what stands before the command."""
    parser = ManParser(
        prog="tidegate",
        description="can this host lock up when memory runs out, how, and what prevents it",
        usage="tidegate [--help] [--version] [-q] [-v] COMMAND [OPTIONS]",
        sections=_top_sections,
    )
    parser.add_argument(
        "--version", action="version", version=f"tidegate {__version__}", help="print the version"
    )
    add_common(parser, top=True)
    return parser


def add_common(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    """Adds the options that every command has."""
    # The same option may stand before and after the command: only the first parser sets the default.
    default = 0 if top else argparse.SUPPRESS
    parser.add_argument("-h", "--help", action="help", help="print this page")
    parser.add_argument("-q", "--quiet", action="count", default=default, help="say errors only on stderr")
    parser.add_argument(
        "-v", "--verbose", action="count", default=default, help="say on stderr what is done; twice: more"
    )


def command_module(name: str) -> Command:
    """Imports the module of one command."""
    return cast("Command", importlib.import_module(f"tidegate.cli.{name}"))


def command_parser(name: str, module: Command) -> ManParser:
    """The parser of what stands after the command."""
    parser = ManParser(
        prog=f"tidegate {name}", description=module.SUMMARY, sections=lambda: _command_sections(module)
    )
    module.add_arguments(parser)
    add_common(parser)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every command in it, for shell completion; imports all commands."""
    whole = top_parser()
    commands = whole.add_subparsers(metavar="COMMAND", parser_class=ManParser)
    for name, summary in COMMANDS.items():
        parser = commands.add_parser(name, help=summary, description=summary)
        command_module(name).add_arguments(parser)
        add_common(parser)
    return whole


def _top_sections() -> list[tuple[str, str]]:
    gap = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f" {name:<{gap}}{summary}" for name, summary in COMMANDS.items())
    examples = (("this host", "tidegate check"), ("about one command", "tidegate check --help"))
    return [
        ("DESCRIPTION", ABOUT),
        ("COMMANDS", listed),
        ("EXIT STATUS", _exit_lines(EXIT_STATUS)),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXAMPLES", _example_lines(examples)),
    ]


def _command_sections(module: Command) -> list[tuple[str, str]]:
    common = {code: EXIT_STATUS[code] for code in _EVERYWHERE}
    return [
        ("DESCRIPTION", module.DESCRIPTION),
        ("EXIT STATUS", _exit_lines(common | dict(module.EXIT_STATUS))),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXAMPLES", _example_lines(module.EXAMPLES)),
    ]


def _exit_lines(codes: Mapping[int, str]) -> str:
    return "\n".join(f" {code:<5}{meaning}" for code, meaning in sorted(codes.items()))


def _example_lines(examples: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f" {what}:\n     $ {line}" for what, line in examples)


def _section(title: str, text: str, width: int) -> str:
    """A titled section, its paragraphs filled; lines that begin with a space are left as they are."""
    lines: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        if any(line.startswith(" ") for line in block.splitlines()):
            lines += [f"   {line}" for line in block.splitlines()]
        else:
            filled = textwrap.fill(" ".join(block.split()), max(width - 4, 20))
            lines += textwrap.indent(filled, "    ").splitlines()
        lines.append("")
    return "\n".join([title, *lines])
