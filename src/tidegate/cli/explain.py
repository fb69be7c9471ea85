"""`tidegate explain`: what a finding, a setting, a verdict or a counter is, with sources."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from tidegate.errors import Exit, Usage

if TYPE_CHECKING:
    from tidegate.report.terms.term import Term

SUMMARY = "what a finding, a setting, a verdict or a counter is, with sources"
DESCRIPTION = """\
Prints what a word means that tidegate says: a finding (D1, kubelet-eviction), a setting (vm.min_free_kbytes,
cap), a counter of the kernel (PFMemallocDrop), a number of the sum (need, settings_alone), a verdict
(AT_RISK), a severity, a law. For a finding: how it comes about, the kernel's functions, why it has its
severity, how to reproduce it, the cure, and on what it rests. Without a word it lists all of them.

Case does not matter, and the id of a setting may be given whole, as a plan prints it (cap:swap /dev/nbd0).
"""
EXAMPLES = (
    ("a finding", "tidegate explain D1"),
    ("a setting, as a plan names it", "tidegate explain vm.min_free_kbytes"),
    ("a verdict", "tidegate explain CANNOT_TELL"),
    ("all there is", "tidegate explain"),
)
EXIT_STATUS = {0: "it was explained", 2: "no such word; the nearest ones are named"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        ("id"), nargs=("*"), metavar=("ID"), help=("a finding, setting, counter, verdict or severity")
    )
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.explain/1)")


def run(args: argparse.Namespace) -> int:
    """Explains the words, or lists all of them."""
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.explain import Explained, explained_text, listed_text
    from tidegate.report.json import to_json
    from tidegate.report.screen import screen_of
    from tidegate.report.terms import terms

    found = tuple(dict.fromkeys(term for word in args.id for term in _known(word)))
    screen = screen_of(width=shutil.get_terminal_size().columns, colour=wants_colour(sys.stdout))
    if args.json:
        print(to_json(Explained(terms=found or terms())), end="")
    elif found:
        print(explained_text(found, screen), end="")
    else:
        print(listed_text(terms(), screen), end="")
    return int(Exit.OK)


def _known(word: str) -> tuple[Term, ...]:
    from tidegate.report.terms import find, nearest

    found = find(word)
    if found:
        return found
    near = nearest(word)
    hint = f"the nearest are {', '.join(near)}" if near else "tidegate explain lists all words"
    raise Usage(f"explain: nothing is called {word!r}; {hint}")
