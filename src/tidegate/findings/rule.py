"""What a finding's rule is: a question to a host with three answers, and what there is to say about it.

A rule never guesses. It declares the topics its `absent` rests on (`needs`); when something in one of those
topics could not be read, `absent` becomes `unknown` in `judge_rule`, for every rule in the same way. So
missing input can turn `absent` into `unknown`, never `applies` or `unknown` into `absent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.host.facts import Host
from tidegate.result import Cure, Evidence, Finding, Gap, Reserve, Severity, Shown, State, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A rule's answer for one host."""

    state: State
    why: str  # one sentence in this host's terms
    subjects: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    # When it differs from the rule's own on this host; for unknown: the worst that it may be.
    severity: Severity | None = None
    cure: Cure | None = None  # when it differs from the rule's own on this host
    rests_on: frozenset[Topic] | None = None  # the topics this `absent` rests on, when fewer than the rule's


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One known way to deadlock, stall or lose."""

    id: str  # D1 .. D23, then words: kubelet-eviction, tcp-mem-full, ...
    title: str
    place: str  # ring, socket, path, daemon, host
    severity: Severity  # the worst it can be; a judgement may say less for one host
    argument: str  # one line: why this severity
    shown: Shown
    needs: frozenset[Topic]
    judge: Callable[[Host, Reserve], Judgement]
    cure: Cure
    mechanism: str  # a paragraph: how it comes about
    functions: tuple[str, ...]  # kernel functions and files
    reproduce: str
    sources: tuple[str, ...]
    # What SAFE then rests on, where this applies to `{subjects}`; empty: made from the title.
    condition: str = ""


def absent(why: str, *evidence: Evidence) -> Judgement:
    """The rule does not apply here, and this is why."""
    return Judgement(state=State.ABSENT, why=why, evidence=evidence)


def unknown(
    why: str, *evidence: Evidence, subjects: tuple[str, ...] = (), severity: Severity | None = None
) -> Judgement:
    """It cannot be told; `why` names what is missing, `severity` the worst that it may be."""
    return Judgement(state=State.UNKNOWN, why=why, evidence=evidence, subjects=subjects, severity=severity)


def applies(
    why: str,
    *evidence: Evidence,
    subjects: tuple[str, ...] = (),
    severity: Severity | None = None,
    cure: Cure | None = None,
) -> Judgement:
    """The rule applies here."""
    return Judgement(
        state=State.APPLIES, why=why, evidence=evidence, subjects=subjects, severity=severity, cure=cure
    )


def missing(gap: Gap) -> str:
    """A gap as the beginning of a sentence: `proc/swaps is absent`, `peers of nbd0 cannot be seen`."""
    return f"{gap.path} {gap.status}" if gap.status.startswith("cannot") else f"{gap.path} is {gap.status}"


def judge_rule(rule: Rule, host: Host, reserve: Reserve) -> Finding:
    """Ask one rule; `absent` becomes `unknown` where a gap lies in a topic that it needs."""
    answer = rule.judge(host, reserve)
    state, why, evidence = answer.state, answer.why, answer.evidence
    needs = rule.needs if answer.rests_on is None else answer.rests_on
    holes = [gap for gap in host.gaps if gap.topic in needs]
    if state is State.ABSENT and holes:
        state = State.UNKNOWN
        why = f"{missing(holes[0])}{f' (and {len(holes) - 1} more)' if holes[1:] else ''}"
        evidence = tuple(Evidence(source=gap.path, value=gap.status, meaning=gap.detail) for gap in holes[:8])
    return Finding(
        id=rule.id,
        title=rule.title,
        place=rule.place,
        state=state,
        severity=answer.severity or rule.severity,
        shown=rule.shown,
        subjects=answer.subjects,
        evidence=evidence,
        cure=answer.cure or rule.cure,
        why=why,
    )
