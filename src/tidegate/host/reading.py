"""Looking things up in a record while keeping account of what could not be read.

Every look-up that a fact needs names the topic that would be left unknown; a member that is denied, damaged, not
held, or that is there but cannot be parsed, becomes one `Gap`. An ABSENT member is knowledge, not a gap, except
where the kernel always has the file (`must`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tidegate.host.record import Member, Record, Status, status, target, text
from tidegate.result import Gap, Topic

T = TypeVar("T")

_UNREADABLE = frozenset({Status.DENIED, Status.DAMAGED, Status.NOT_HELD})
_NOTHING = frozenset({Status.ABSENT, Status.NOT_HELD})
_SHOWN = 60  # of a garbled line
_DIGITS = 20  # of an unsigned long; what is longer overflows a float, or int() itself


class Garbled(ValueError):
    """A text is not what its file always holds: names the line, what was found and what was expected."""

    def __init__(self, line: int, found: str, expected: str) -> None:
        self.line, self.found, self.expected = line, found, expected
        shown = found if len(found) <= _SHOWN else found[:_SHOWN] + "..."
        super().__init__(f"line {line}: found {shown!r}, expected {expected}")


class Reading:
    """A record being read, and the gaps met on the way (each path and topic once)."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._gaps: dict[tuple[str, Topic], Gap] = {}
        self._below: dict[str, dict[str, None]] | None = None

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What could not be read, in the order it was met."""
        return tuple(self._gaps.values())

    def gap(self, path: str, status: str, topic: Topic, detail: str = "") -> None:
        """Something that a fact needed is not known."""
        self._gaps.setdefault((path, topic), Gap(path=path, status=status, topic=topic, detail=detail))

    def missing(self, path: str, topic: Topic, *, must: bool = False) -> None:
        """A gap for a path, when it has a status that leaves something unknown."""
        found = status(self.record, path)
        member = self.record.members.get(path)
        if found in _UNREADABLE:
            self.gap(path, found.value, topic, member.detail if member else "")
        elif found is Status.ABSENT and must:
            self.gap(path, "absent", topic, "every running kernel has it")

    def status(self, path: str) -> Status:
        """What is known of a path; no gap."""
        return status(self.record, path)

    def text(self, path: str, topic: Topic, *, must: bool = False) -> str | None:
        """The text of a kernel file, which always ends its last line; None, with a gap unless it is absent."""
        got = text(self.record, path)
        if got is None:
            self.missing(path, topic, must=must)
            return None
        fault = _fault(got)
        if fault:
            self.gap(path, Status.DAMAGED.value, topic, fault)
            return None
        return got

    def peek(self, path: str) -> str | None:
        """The text of a file that no fact rests on, or None; never a gap."""
        got = text(self.record, path)
        return None if got is None or _fault(got) else got

    def word(self, path: str, topic: Topic, *, must: bool = False, filled: bool = False) -> str | None:
        """A one-line file without its newline. `filled`: the kernel never leaves it empty, so that is damage."""
        got = self.text(path, topic, must=must)
        if got is not None and filled and not got.strip():
            self.gap(path, Status.DAMAGED.value, topic, "is empty")
            return None
        return None if got is None else got.strip()

    def number(self, path: str, topic: Topic, *, must: bool = False, signed: bool = False) -> int | None:
        """A file that holds one integer; below zero is damage, unless the kernel knows such a value (`signed`)."""
        return self.parsed(path, topic, _integer if signed else _amount, must=must)

    def parsed(self, path: str, topic: Topic, parse: Callable[[str], T], *, must: bool = False) -> T | None:
        """A text through a parser; what the parser refuses is a gap that names the line."""
        got = self.text(path, topic, must=must)
        if got is None:
            return None
        try:
            return parse(got)
        except Garbled as trouble:
            self.gap(path, Status.DAMAGED.value, topic, str(trouble))
            return None

    def rows(
        self,
        path: str,
        topic: Topic,
        parse: Callable[[str], T],
        *,
        head: str | None = None,
        must: bool = False,
    ) -> tuple[T, ...]:
        """A table, line by line: lines that parse are kept, and one that does not is a gap.

        `head` is how the first line of the file always begins; without that line the file is damaged.
        """
        got = text(self.record, path)
        if got is None:
            self.missing(path, topic, must=must)
            return ()
        fault = _fault(got)
        if fault:
            self.gap(path, Status.DAMAGED.value, topic, fault)
        lines = got.splitlines()
        first = 1
        if head is not None:
            if not lines or not lines[0].lstrip().startswith(head):
                trouble = Garbled(1, lines[0] if lines else "nothing", head)
                self.gap(path, Status.DAMAGED.value, topic, str(trouble))
            else:
                lines, first = lines[1:], 2
        elif not lines and must:
            self.gap(path, Status.DAMAGED.value, topic, "is empty")
        made = []
        for number, line in enumerate(lines, first):
            if not line.strip():
                continue
            try:
                made.append(parse(line))
            except Garbled as trouble:
                at = Garbled(number, trouble.found, trouble.expected)
                self.gap(path, Status.DAMAGED.value, topic, str(at))
        return tuple(made)

    def link(self, path: str, topic: Topic, *, must: bool = False) -> str | None:
        """Where a symbolic link points."""
        got = target(self.record, path)
        if got is None:
            member = self.record.members.get(path)
            if member is not None and member.status is Status.FOUND:
                self.gap(path, Status.DAMAGED.value, topic, "is no symbolic link")
            else:
                self.missing(path, topic, must=must)
        return got

    def names(self, folder: str) -> tuple[str, ...]:
        """Names directly below a folder, sorted; members known to be absent do not make a name."""
        return tuple(self._index().get(folder.rstrip("/"), ()))

    def files(self, folder: str) -> tuple[str, ...]:
        """Every member's path below a folder, sorted, at any depth."""
        prefix = folder.rstrip("/") + "/"
        return tuple(sorted(path for path in self.record.members if path.startswith(prefix)))

    def has(self, path: str) -> bool:
        """Something of that path or below it is there, read or not."""
        member = self.record.members.get(path)
        return path.rstrip("/") in self._index() or (member is not None and member.status not in _NOTHING)

    def _index(self) -> dict[str, dict[str, None]]:
        if self._below is None:
            below: dict[str, dict[str, None]] = {}
            for path in sorted(_there(self.record.members)):
                folder, _, name = path.rpartition("/")
                while folder and name not in below.setdefault(folder, {}):
                    below[folder][name] = None
                    folder, _, name = folder.rpartition("/")
            self._below = below
        return self._below


def _there(members: Mapping[str, Member]) -> Iterable[str]:
    return (path for path, one in members.items() if one.status not in _NOTHING)


def _fault(got: str) -> str:
    """Why a text cannot be a whole kernel file, or nothing."""
    if got and not got.endswith("\n"):
        return "is cut short: its last line does not end"
    if "\ufffd" in got or "\0" in got:
        return "holds bytes that are no text"
    return ""


def is_number(word: str) -> bool:
    """A word that int() turns into a number the kernel could have printed: plain digits, and not more of them."""
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS


def integer(word: str, line: int = 1, base: int = 10) -> int:
    """One integer as the kernel prints it; anything else (spaces, underscores, signs twice) is garbled."""
    digits = word.removeprefix("0x") if base == 16 else word.removeprefix("-")
    allowed = "0123456789abcdefABCDEF" if base == 16 else "0123456789"
    most = _DIGITS if base == 10 else len(word)  # an IPv6 address has 32
    if not 1 <= len(digits) <= most or any(letter not in allowed for letter in digits):
        raise Garbled(line, word, "a number")
    try:
        return int(word, base)
    except ValueError:
        raise Garbled(line, word, "a number") from None


def _integer(got: str) -> int:
    return integer(got.strip())


def _amount(got: str) -> int:
    if got.strip().startswith("-"):
        raise Garbled(1, got.strip(), "a number of at least 0")
    return _integer(got)
