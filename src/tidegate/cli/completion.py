"""`tidegate completion`: a completion script for a shell."""

from __future__ import annotations

import argparse
import json

SUMMARY = "print a completion script for a shell"
DESCRIPTION = """\
Prints a script that completes commands and options. It is made from the same tables that the commands
themselves use, so it is right for this version and only for this one.
"""
EXAMPLES = (
    (
        "for bash, of everybody",
        "tidegate completion bash > /etc/bash_completion.d/tidegate",
    ),
    ("for zsh, of everybody", "tidegate completion zsh > /usr/local/share/zsh/site-functions/_tidegate"),
    ("for tcsh, in this shell", "tidegate completion tcsh > ~/.tidegate.tcsh && source ~/.tidegate.tcsh"),
)
EXIT_STATUS = {0: "the script was printed"}

SCHEMA = "tidegate.completion/1"
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("shell", choices=SHELLS, help="the shell it is for: %(choices)s")
    parser.add_argument("--json", action="store_true", help=f"print JSON ({SCHEMA})")


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    import shtab

    from tidegate.cli.parser import whole_parser

    script = shtab.complete(whole_parser(), shell=args.shell)
    if args.json:
        print(json.dumps({"schema": SCHEMA, "shell": args.shell, "script": script}))
    else:
        print(script)
    return 0
