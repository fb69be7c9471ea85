"""docs/findings.md, from the table of rules."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from tidegate.report.terms import terms
from tidegate.report.terms.term import Term

_HEAD = """\
# Findings: the known ways to deadlock, stall or lose

<!-- made by `make docs` from the code's own tables; edit those -->

`tidegate check` asks each of these questions and answers `applies`, `absent` or `unknown`, with its evidence.
`tidegate explain ID` prints the same as here. An answer never guesses: what could not be read makes `absent`
unknown, and never makes a host look safer.
"""
_VERDICT = """\
The verdict follows from these words: AT_RISK when a finding of severity deadlock applies, accepted or not;
CANNOT_TELL when one is unknown and none applies, when what rides on the network could not be read, or when a
row of the sum has no bound; else SAFE, with what it rests on: a fault or a stall that applies is one of its
conditions.
"""


def findings_markdown() -> str:
    """The page."""
    found = [term for term in terms() if term.kind == "finding"]
    parts = [
        _HEAD,
        "## How bad: the severities\n",
        _severities(),
        _VERDICT,
        "## All of them\n",
        _table(found),
        *map(_one, found),
    ]
    return "\n".join(parts)


def _severities() -> str:
    own = [term for term in terms() if term.kind == "severity"]
    return "".join(f"{_filled(f'- **{term.id}**: {term.title}. {term.meaning}', '  ')}\n" for term in own)


def _table(found: Iterable[Term]) -> str:
    lines = ["| id | finding | worst | shown |", "|---|---|---|---|"]
    for term in found:
        facts = dict(term.facts)
        worst = facts["severity"].split(".", 1)[0]
        lines.append(f"| [{term.id}](#{anchor(term.id)}) | {term.title} | {worst} | {facts['shown']} |")
    return "\n".join(lines) + "\n"


def anchor(term_id: str) -> str:
    """The anchor of a finding's own section."""
    return term_id.lower()


def _one(term: Term) -> str:
    facts = dict(term.facts)
    parts = [
        f"## {term.id}\n",
        f"**{term.title[:1].upper()}{term.title[1:]}.** Place: {facts['place']}.\n",
        _filled(term.meaning) + "\n",
        _filled(f"- Severity: {facts['severity']}", "  "),
        _filled(f"- Shown: {facts['shown']}; rests on {facts['rests on']}.", "  "),
        _filled(f"- In the kernel: {', '.join(f'`{one}`' for one in term.functions)}", "  "),
        _filled(f"- How to reproduce: {term.reproduce}", "  "),
        _filled(f"- Cure: {term.cure}", "  "),
        _filled(f"- Sources: {'; '.join(term.sources)}", "  "),
    ]
    return "\n".join(parts) + "\n"


def _filled(text: str, hang: str = "") -> str:
    return "\n".join(wrap(text, 110, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False))
