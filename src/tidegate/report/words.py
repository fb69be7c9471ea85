"""The words and the order that every report shares, so that text, page and metrics say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePath

from tidegate.result import (
    ChainLink,
    CheckResult,
    Cure,
    Evidence,
    Finding,
    HostView,
    Reserve,
    Row,
    Severity,
    SocketView,
    State,
    UserView,
    Verdict,
    ZoneLevels,
)
from tidegate.units import KIB, human_bytes

_WHY = "To free memory this host writes over the network; a write ends when its reply arrives, which takes memory: "
_WHY_SWAP = "with none left, the host stands still for good."
_WHY_OTHERS = "with none left, those writes stand still until a program is killed."
_SWAPS = {"swap", "swapfile"}

UNBOUNDED = "no bound"
NOT_KNOWN = "not known"

_VERDICTS = (Verdict.AT_RISK, Verdict.CANNOT_TELL, Verdict.SAFE)  # worst first
_SEVERITIES = tuple(Severity)  # worst first
_STATES = (State.APPLIES, State.UNKNOWN, State.ABSENT)

VERDICT_MEANS = {
    Verdict.SAFE: "no known way into the deadlock is open, under the conditions listed",
    Verdict.AT_RISK: "memory pressure and ordinary traffic are enough to lock this host up",
    Verdict.CANNOT_TELL: "something that decides it could not be read or is not bounded",
}

ROW_KINDS = {
    "pin": " (others, above the reserve)",
    "others": " (others, in the reserve)",
    "ring": " (above the floor)",
}
CONDITION_HOLDS = {True: "holds", False: "does not hold", None: "cannot be told"}


def why_it_locks_up(users: Iterable[UserView]) -> str:
    """For somebody who never heard of it; without swap on the network the OOM killer still frees memory."""
    return _WHY + (_WHY_SWAP if any(user.kind in _SWAPS for user in users) else _WHY_OTHERS)


def printable(text: str) -> str:
    """A name from the host on one line, without characters that a terminal or a page would obey."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return " " if sign in "\t\n\r" else repr(sign)[1:-1]


def verdict_rank(verdict: Verdict) -> int:
    """0 for the worst."""
    return _VERDICTS.index(verdict)


def worst_first(results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Hosts in the order in which somebody should look at them."""
    return tuple(sorted(results, key=_badness))


def _badness(result: CheckResult) -> tuple[int, int, float, str]:
    deadlocks = sum(one.severity is Severity.DEADLOCK for one in applying(result.findings))
    return verdict_rank(result.verdict), -deadlocks, -overload(result), result.host.name


def overload(result: CheckResult) -> float:
    """How many times the need exceeds the exclusive part; infinite where nothing bounds the need."""
    need, exclusive = result.reserve.need_pages, result.reserve.exclusive_pages
    if need is None:
        return float("inf") if result.users else 0.0
    if not exclusive:
        return float(need)
    return need / exclusive


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first: applies before unknown before absent, then by severity, then in the order given."""
    return tuple(
        sorted(findings, key=lambda one: (_STATES.index(one.state), _SEVERITIES.index(one.severity)))
    )


def applying(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that apply, worst first."""
    return tuple(one for one in by_severity(findings) if one.state is State.APPLIES)


def unknown(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that cannot be told, worst first."""
    return tuple(one for one in by_severity(findings) if one.state is State.UNKNOWN)


def largest_first(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows of the sum, those without bound first, then by pages."""
    return tuple(sorted(rows, key=lambda row: (row.pages is not None, -(row.pages or 0))))


def count_by_severity(findings: Sequence[Finding]) -> str:
    """`2 deadlock, 1 fault`; empty for none."""
    counts = {severity: sum(one.severity is severity for one in findings) for severity in _SEVERITIES}
    return ", ".join(f"{number} {severity}" for severity, number in counts.items() if number)


def counted(number: int, word: str) -> str:
    """`1 setting`, `2 settings`."""
    return f"{number:,} {word}{'' if abs(number) == 1 else 's'}"


def pages_words(pages: int | None, page_bytes: int, *, none: str = UNBOUNDED) -> str:
    """`358 pages (1.4 MiB)`, or the word for a missing number."""
    if pages is None:
        return none
    return f"{counted(pages, 'page')} ({human_bytes(pages * page_bytes)})"


def bytes_words(amount_bytes: int | None) -> str:
    """`87,040 B`, or the word for a missing number."""
    return NOT_KNOWN if amount_bytes is None else f"{amount_bytes:,} B"


def memory_words(memory_kib: int | None) -> str:
    """The size of a host's memory."""
    return "memory not known" if memory_kib is None else human_bytes(memory_kib * KIB)


def kernel_words(result: CheckResult) -> str:
    """Kernel, memory and CPUs of a host."""
    host = result.host
    parts = [f"Linux {host.kernel}", memory_words(host.memory_kib)]
    if host.cpus is not None:
        parts.append(counted(host.cpus, "CPU"))
    return printable(", ".join(parts))


def source_words(host: HostView) -> str:
    """When and from what a host was read: the file by its name, so that the text is the same wherever it lies."""
    source = "here" if host.source == "live" else f"from {PurePath(host.source).name or host.source}"
    return printable(f"read {host.taken} {source}")


def chain_words(user: UserView) -> str:
    """A user's chain in one line, without the part that its name says already."""
    links = user.chain
    if links and user.name == f"{links[0].kind} {links[0].name}":
        links = links[1:]
    parts = (f"{_link_words(link)}{f' ({number})' if number > 1 else ''}" for link, number in grouped(links))
    return printable(" -> ".join(parts))


def grouped(links: Iterable[ChainLink]) -> Iterator[tuple[ChainLink, int]]:
    """Links with their number, where several in a row are the same: connections to one server."""
    for _, same in groupby(links, key=lambda link: (link.kind, short_name(link))):
        found = tuple(same)
        facts = tuple(fact for link in found for fact in link.evidence)
        yield (replace(found[0], evidence=facts) if found[1:] else found[0]), len(found)


def short_name(link: ChainLink) -> str:
    """A link's name; of a socket the far end, since the near one says nothing that the NIC does not."""
    return link.name.split(" to ")[-1] if link.kind == "socket" else link.name


def _link_words(link: ChainLink) -> str:
    name = short_name(link)
    return name if name.startswith(link.kind) else f"{link.kind} {name}".strip()


def capped_words(socket: SocketView) -> str:
    """Whether a socket's buffers can grow."""
    return {True: "capped", False: "not capped", None: "not known whether capped"}[socket.capped]


def state_words(finding: Finding) -> str:
    """`deadlock` where it applies, else the state with what it would be."""
    if finding.state is State.APPLIES:
        return finding.severity.value
    return f"{finding.state.value} ({finding.severity.value})"


def accepted_words(finding: Finding) -> str:
    """That somebody accepted it; it counts all the same."""
    if finding.accepted is None:
        return ""
    return (
        f"accepted until {finding.accepted.expires}{', which has passed' if finding.accepted.expired else ''}"
    )


def cure_words(cure: Cure) -> str:
    """What ends a finding."""
    parts = [f"cure: {', '.join(cure.settings)}"] if cure.settings else []
    if not cure.curable:
        parts.append("cannot be cured from here")
    if cure.instead:
        parts.append(f"instead: {cure.instead}")
    return printable("; ".join(parts) or "no cure is known")


def band_words(reserve: Reserve) -> str:
    """Whether tasks that reclaim are held back before ordinary traffic reaches the atomic floor.

    mm/vmscan.c:allow_direct_reclaim() lets user tasks wait below half of the sum of min; GFP_ATOMIC goes on
    to 3/8 of min. The band is the room between the two.
    """
    if reserve.band_pages is None:
        return "whether tasks that reclaim are held back in time is not known"
    band = pages_words(abs(reserve.band_pages), reserve.page_bytes)
    if reserve.band_pages > 0:
        return f"tasks that reclaim are held back {band} above the atomic floor"
    return f"tasks that reclaim are held back {band} below the atomic floor: too late"


def evidence_words(evidence: Evidence) -> str:
    """A fact with its place."""
    meaning = f" ({evidence.meaning})" if evidence.meaning else ""
    return printable(f"{evidence.source}: {evidence.value}{meaning}")


def zone_words(zone: ZoneLevels) -> str:
    """A zone by node and name."""
    return printable(f"node {zone.node}, zone {zone.name}")


def row_words(row: Row) -> str:
    """A row of the sum without its number."""
    guess = "" if row.measured else " (not read: the documented maximum)"
    return printable(f"{row.holder}{ROW_KINDS.get(row.kind, '')}: {row.why}{guess}")


def sentence(text: str) -> str:
    """A text on one line that ends with a full stop."""
    text = printable(text).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
