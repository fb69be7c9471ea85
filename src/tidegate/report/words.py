"""The words and the order that every report shares, so that text, page and metrics say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate.result import CheckResult, Finding, Row, Severity, State, UserView, Verdict
from tidegate.units import human_bytes

# For somebody who never heard of it; `docs/problem.md` has it in full.
WHY_IT_LOCKS_UP = (
    "Linux makes room in memory by writing to this storage, and a write is done only when its reply has come "
    "back over the network. Receiving the reply takes memory too: when none is left for it, no write ever ends, "
    "nothing is freed, and the host stands still."
)

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


def pages_words(pages: int | None, page_bytes: int, *, none: str = UNBOUNDED) -> str:
    """`358 pages (1.4 MiB)`, or the word for a missing number."""
    if pages is None:
        return none
    return f"{pages:,} page{'' if abs(pages) == 1 else 's'} ({human_bytes(pages * page_bytes)})"


def memory_words(memory_kib: int | None) -> str:
    """The size of a host's memory."""
    return "memory not known" if memory_kib is None else human_bytes(memory_kib * 1024)


def chain_words(user: UserView) -> str:
    """A user's chain in one line."""
    return printable(" -> ".join(f"{link.kind} {link.name}".strip() for link in user.chain))


def kernel_words(result: CheckResult) -> str:
    """Kernel, memory and CPUs of a host in one line."""
    host = result.host
    parts = [f"Linux {host.kernel}", memory_words(host.memory_kib)]
    if host.cpus is not None:
        parts.append(f"{host.cpus} CPU{'' if host.cpus == 1 else 's'}")
    return printable(", ".join(parts))
