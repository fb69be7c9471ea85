"""What `explain` knows of one word."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One word: a finding, a setting, a counter, a number of the sum, or a word of the judgement."""

    id: str
    kind: str  # finding, setting, counter, number, verdict, state, severity, law, basis
    title: str  # one line
    meaning: str  # what it is and how it comes about
    facts: tuple[tuple[str, str], ...] = ()  # short labelled facts: place, severity, file
    functions: tuple[str, ...] = ()  # kernel functions and files
    reproduce: str = ""
    cure: str = ""
    sources: tuple[str, ...] = ()
    related: tuple[str, ...] = ()  # ids of other terms
    aliases: tuple[str, ...] = field(default=())  # other spellings
