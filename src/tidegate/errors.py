"""What can go wrong in the world, and the exit code each kind of trouble has.

Our own mistakes are `assert` and end with exit code 6; these are everybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0  # fine, as expected, in policy
    BAD_NEWS = 1  # AT_RISK, STUCK, LUCKY, WEDGED, drift, a plan that cannot fit
    USAGE = 2  # usage or bad input
    CANNOT_TELL = 3  # CANNOT_TELL, UNKNOWN, INCONCLUSIVE, LOST
    UNSUPPORTED = 4  # this kernel, record or case does not have what is asked for
    LACKING = 5  # this machine lacks a tool, a right or memory
    BUG = 6  # internal error
    INTERRUPTED = 130


# Several results in one call: the worst wins, in this order.
_WORST_FIRST = (
    Exit.INTERRUPTED,
    Exit.BUG,
    Exit.USAGE,
    Exit.LACKING,
    Exit.BAD_NEWS,
    Exit.CANNOT_TELL,
    Exit.UNSUPPORTED,
    Exit.OK,
)


def worst_exit(codes: Iterable[Exit]) -> Exit:
    """The one exit code for several results; OK for none."""
    return min(codes, key=_WORST_FIRST.index, default=Exit.OK)


class TidegateError(Exception):
    """One clear line for the person: what was read, what was expected, what to do."""

    exit: Exit = Exit.BUG


class BadInput(TidegateError):
    """Bad input: names the file and the place in it, what was found and what was expected."""

    exit = Exit.USAGE

    def __init__(self, file: str, place: str, found: str, expected: str) -> None:
        self.file, self.place, self.found, self.expected = file, place, found, expected
        where = f"{file}: {place}" if place else file
        super().__init__(f"{where}: found {found}, expected {expected}")

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str, str, str]]:
        """So that it comes back whole from a worker process."""
        return type(self), (self.file, self.place, self.found, self.expected)


class Usage(TidegateError):
    """The words of the call do not fit together."""

    exit = Exit.USAGE


class Lacking(TidegateError):
    """This machine lacks a tool, a right or memory; the message says which, and the cure."""

    exit = Exit.LACKING


class Unsupported(TidegateError):
    """This kernel or record does not have what is asked for."""

    exit = Exit.UNSUPPORTED
