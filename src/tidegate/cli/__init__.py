"""The command line: finds the command, calls it, turns trouble into one line and an exit code."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Runs one command line; the exit code is the return value."""
    raise NotImplementedError(argv)
