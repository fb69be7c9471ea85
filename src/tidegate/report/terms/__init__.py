"""Every word that tidegate prints, with what it means: the table behind `tidegate explain` and
docs/findings.md.
"""

from __future__ import annotations

import difflib
from functools import cache

from tidegate.findings import RULES, id_order
from tidegate.findings.rule import Rule
from tidegate.report.terms import counters, settings, trials, vocabulary
from tidegate.report.terms.term import Term
from tidegate.result import Shown
from tidegate.setting_ids import FAMILIES, family_of

KINDS = ("finding", "setting", "counter", "number", "verdict", "state", "severity", "law", "basis")

_SHOWN = {
    Shown.RUN: "seen on an unmodified kernel",
    Shown.SOURCE: "read in the kernel's source",
    Shown.INFERRED: "follows from the source, not run",
    Shown.REPORT: "reported by users or maintainers",
}


def finding_term(rule: Rule) -> Term:
    """A rule as a term; its cure names the kinds of settings, a finding those of its host."""
    names = tuple(
        dict.fromkeys((*rule.cure.settings, *(term.id for term in settings.TERMS if rule.id in term.related)))
    )
    cure = [f"{'settings:' if rule.cure.curable else 'lessened by'} {', '.join(names)}"] if names else []
    if not rule.cure.curable:
        cure.append("cannot be cured from here")
    if rule.cure.instead:
        cure.append(f"{'or' if names and rule.cure.curable else 'instead:'} {rule.cure.instead}")
    return Term(
        id=rule.id,
        kind="finding",
        title=rule.title,
        meaning=rule.mechanism,
        facts=(
            ("place", rule.place),
            ("severity", f"{rule.severity}. {rule.argument}"),
            ("shown", _SHOWN[rule.shown]),
            ("rests on", ", ".join(sorted(rule.needs))),
        ),
        functions=rule.functions,
        reproduce=rule.reproduce,
        cure="; ".join(cure),
        sources=rule.sources,
        related=(rule.severity.value, *names),
    )


@cache
def terms() -> tuple[Term, ...]:
    """All terms: findings in their order, then the rest by kind."""
    found = sorted(RULES, key=lambda rule: id_order(rule.id))
    return (*map(finding_term, found), *settings.TERMS, *counters.TERMS, *vocabulary.TERMS, *trials.TERMS)


def find(word: str) -> tuple[Term, ...]:
    """The terms that a word names; empty for none.

    Case does not matter. `D9` names D9-serving and D9-reconnect, `cap:swap /dev/nbd0` the setting `cap`.
    """
    wanted = _folded(word)
    exact = [term for term in terms() if wanted in map(_folded, (term.id, *term.aliases))]
    if exact:
        return tuple(exact)
    family = _folded(family_of(word))
    if ":" in word and family in FAMILIES:
        return tuple(term for term in terms() if _folded(term.id) == family)
    return tuple(term for term in terms() if _folded(term.id).startswith(f"{wanted}-"))


def nearest(word: str) -> tuple[str, ...]:
    """Ids that look like a word nobody knows, the nearest first."""
    names = {_folded(name): term.id for term in terms() for name in (term.id, *term.aliases)}
    close = difflib.get_close_matches(_folded(word), names, n=3, cutoff=0.55)
    inside = [name for name in names if len(word) > 2 and _folded(word) in name]
    return tuple(dict.fromkeys(names[name] for name in (*close, *inside)))[:5]


def _folded(word: str) -> str:
    return word.strip().casefold().replace(" ", "_")
