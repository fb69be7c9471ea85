"""Trials as KTAP version 1 (the kernel's Documentation/dev-tools/ktap.rst): places, in them arms, in them trials.

A subtest's lines stand before its own result, two spaces further in. A test fails if one of its subtests does, and
is skipped if all of them are. What a trial said stands in diagnostic lines right before its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.report.trials_words import (
    Cell,
    Tested,
    about_words,
    counts_words,
    expected_words,
    kernel_words,
    margin_words,
    matrix,
    place_words,
    share_words,
    tested,
    trial_command,
)
from tidegate.report.words import printable
from tidegate.trial import Trials

_VERSION = "KTAP version 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A test with the lines that stand before its result."""

    state: str
    name: str
    reason: str
    before: tuple[str, ...]


def ktap_text(trials: Trials) -> str:
    """All trials, as text that ends with a newline."""
    _, rows = matrix(trials)
    blocks = [_place(place_words(place), tuple(row.values())) for place, row in rows.items()]
    return "".join(f"{line}\n" for line in _plan(blocks))


def _place(name: str, row: Sequence[Cell]) -> _Block:
    arms = [_arm(cell) for cell in row]
    return _Block(state=_together(arms), name=name, reason="", before=tuple(_nested(arms)))


def _arm(cell: Cell) -> _Block:
    trials = [_trial(one) for one in tested(cell)]
    tally = cell.tally
    said = (
        f"failed {share_words(tally)}; {counts_words(tally)}; {margin_words(tally)}; {expected_words(tally)}"
    )
    return _Block(
        state=_together(trials),
        name=tally.arm,
        reason="nothing counted",
        before=(*_nested(trials), _diagnostic(said)),
    )


def _trial(one: Tested) -> _Block:
    result = one.result
    if result is None:
        return _Block(
            state=one.state,
            name=one.name,
            reason=one.reason,
            before=(_diagnostic(f"{one.name}: {one.reason}"),),
        )
    said = (
        one.reason,
        result.diagnosis and f"diagnosis: {result.diagnosis}",
        result.finding and f"finding: {result.finding}",
        result.evidence and f"evidence: {result.evidence}",
        about_words(result),
        f"kernel: {kernel_words(result)}",
        f"to repeat it: {trial_command(result.job)}",
        result.command and f"emulator: {result.command}",
    )
    return _Block(
        state=one.state,
        name=f"{one.name} {result.verdict}",
        reason=one.reason,
        before=tuple(_diagnostic(f"{one.name}: {text}") for text in said if text),
    )


def _together(blocks: Sequence[_Block]) -> str:
    """What a test is, from its subtests."""
    states = {one.state for one in blocks}
    if states & {"failed", "error"}:
        return "failed"
    return "ok" if "ok" in states else "skipped"


def _plan(blocks: Sequence[_Block]) -> Iterator[str]:
    yield _VERSION
    yield f"1..{len(blocks)}"
    for number, one in enumerate(blocks, 1):
        yield from one.before
        yield _result(number, one)


def _nested(blocks: Sequence[_Block]) -> Iterator[str]:
    return (f"  {text}" for text in _plan(blocks))


def _result(number: int, one: _Block) -> str:
    word = "not ok" if one.state in {"failed", "error"} else "ok"
    directive = {"skipped": "SKIP", "error": "ERROR"}.get(one.state, "")
    # A description cannot hold the sign that ends it.
    name = printable(one.name).replace("#", "_").strip()
    return f"{word} {number} {name}" + (
        f" # {directive} {printable(one.reason)}".rstrip() if directive else ""
    )


def _diagnostic(text: str) -> str:
    return f"# {printable(text)}"
