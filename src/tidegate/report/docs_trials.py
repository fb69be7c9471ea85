"""The tables of docs/results.md, from the trials that are kept beside the cases; the prose around them is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tidegate.report.trials_words import Cell, Place, matrix
from tidegate.trial import TrialResult, Trials

# <!-- trials: CASE | ARM; ARM ... --> ... <!-- end of trials -->, the arms in the columns, `sweep` for swept places
MARK = re.compile(
    r"<!-- trials: (?P<case>[\w-]+) \| (?P<arms>[^|\n]+?)(?P<swept> \| sweep)? -->\n.*?<!-- end of trials -->",
    re.DOTALL,
)

FINDINGS = re.compile(r"<!-- findings -->\n.*?<!-- end of findings -->", re.DOTALL)


def with_trials(text: str, trials: Trials) -> str:
    """The page with each marked table made anew."""
    _, rows = matrix(trials)

    def made(found: re.Match[str]) -> str:
        head = found[0].split("\n", 1)[0]
        arms = [arm.strip() for arm in found["arms"].split(";")]
        swept = bool(found["swept"])
        wanted = {
            place: row
            for place, row in rows.items()
            if place.case == found["case"] and bool(place.sweep) == swept
        }
        return f"{head}\n\n{_table(wanted, arms)}\n<!-- end of trials -->"

    text = FINDINGS.sub(
        f"<!-- findings -->\n\n{findings_table(trials.results)}\n<!-- end of findings -->", text
    )
    return MARK.sub(made, text)


def findings_table(results: Sequence[TrialResult]) -> str:
    """How often each known way to deadlock was what a failed trial was diagnosed as, by NIC."""
    counted: dict[tuple[str, str], int] = {}
    for one in results:
        if one.verdict in ("WEDGED", "OOM", "PANIC"):
            key = (one.finding or "none of the known ways", one.nic)
            counted[key] = counted.get(key, 0) + 1
    nics = sorted({nic for _, nic in counted})
    lines = [f"| diagnosed as | {' | '.join(nics)} |", "|---|" + "---|" * len(nics)]
    for finding in sorted({finding for finding, _ in counted}):
        cells = (str(counted.get((finding, nic), "")) for nic in nics)
        lines.append(f"| {finding} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _table(rows: Mapping[Place, Mapping[str, Cell]], arms: Sequence[str]) -> str:
    shown = {place: row for place, row in rows.items() if any(arm in row for arm in arms)}
    lines = [f"| where | {' | '.join(arms)} |", "|---|" + "---|" * len(arms)]
    for place, row in sorted(shown.items(), key=lambda pair: _order(pair[0])):
        cells = (_cell(row.get(arm)) for arm in arms)
        lines.append(f"| {_where(place)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _order(place: Place) -> tuple[str, str, str, tuple[tuple[str, int], ...]]:
    return place.kernel_name, place.transport, place.nic, place.sweep


def _where(place: Place) -> str:
    swept = "".join(f", {name} = {value:,}" for name, value in place.sweep)
    return f"{place.nic}, {place.transport}, {place.kernel_name}{swept}"


def _cell(cell: Cell | None) -> str:
    """Failures of n, the interval, the lowest margin; what stalled or was not counted behind it."""
    if cell is None:
        return ""
    tally = cell.tally
    others = [
        f"{word.lower()} {tally.counts[word]}"
        for word in ("STALLED", "INCONCLUSIVE", "LOST")
        if tally.counts.get(word)
    ]
    more = f"; {', '.join(others)}" if others else ""
    if not tally.n:
        return f"none counted{more}"
    share = f"{100 * tally.failed_low:.0f} to {100 * tally.failed_high:.0f} %"
    margin = "" if tally.margin_lowest_pages is None else f"; margin {tally.margin_lowest_pages:,}"
    return f"**{tally.failed}/{tally.n}** ({share}){margin}{more}"
