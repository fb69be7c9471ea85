"""`explain` as text: one term in full, or the list of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidegate.report.screen import Screen, fill, paint
from tidegate.report.terms import KINDS
from tidegate.report.terms.term import Term

EXPLAIN_SCHEMA = "tidegate.explain/1"

_HEADS = {
    "finding": "findings",
    "setting": "settings",
    "counter": "counters of the kernel",
    "number": "numbers of the sum",
    "verdict": "verdicts",
    "state": "states of a finding",
    "severity": "severities, worst first",
    "law": "the three laws",
    "basis": "what a setting rests on",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What `tidegate explain --json` prints: the terms asked for, or all of them."""

    terms: tuple[Term, ...]
    schema: str = EXPLAIN_SCHEMA


def explained_text(found: Sequence[Term], screen: Screen) -> str:
    """Each term in full."""
    return "\n".join("\n".join(_whole(term, screen)) + "\n" for term in found)


def _whole(term: Term, screen: Screen) -> list[str]:
    lines = [paint(one, "strong", screen) for one in fill(f"{term.id}  {term.title}", screen, hang=2)]
    lines += ["", *fill(term.meaning, screen, 2)]
    if term.facts:
        lines.append("")
        for name, value in term.facts:
            lines += fill(f"{name}: {value}", screen, 2, 2)
    for head, text in (("how to reproduce", term.reproduce), ("cure", term.cure)):
        if text:
            lines += ["", *fill(f"{head}: {text}", screen, 2, 2)]
    for head, items in (("in the kernel", term.functions), ("sources", term.sources)):
        if items:
            lines += ["", f"  {head}:"]
            for item in items:
                lines += fill(item, screen, 4, 2)
    if term.related:
        lines += ["", *fill(f"see also: {', '.join(term.related)}", screen, 2, 2)]
    return lines


def listed_text(terms: Iterable[Term], screen: Screen) -> str:
    """Every term in a line, by kind."""
    terms = tuple(terms)
    lines: list[str] = []
    for kind in KINDS:
        own = [term for term in terms if term.kind == kind]
        gap = max(len(term.id) for term in own) + 2
        lines += [paint(_HEADS[kind], "strong", screen)]
        for term in own:
            lines += fill(f"{term.id:<{gap}}".replace(" ", "\0") + term.title, screen, 2, gap)
        lines.append("")
    return "\n".join(lines).replace("\0", " ")
