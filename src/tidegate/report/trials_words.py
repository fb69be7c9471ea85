"""What every report of trials shares: which cell a trial belongs to, and the words for its counts.

Text, page, JUnit and KTAP are made from the cells of one `Trials`, so that none of them counts for itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidegate.report.words import counted, printable, sentence
from tidegate.trial import COUNTED, FAILURES, Job, Tally, TrialResult, Trials, Verdict

LOOK = {
    Verdict.PANIC: "bad",
    Verdict.WEDGED: "bad",
    Verdict.OOM: "bad",
    Verdict.STALLED: "unsure",
    Verdict.SURVIVED: "good",
    Verdict.INCONCLUSIVE: "quiet",
    Verdict.LOST: "quiet",
}
MEANS = {
    Verdict.PANIC: "the kernel gave up",
    Verdict.WEDGED: "nothing completed any more, long after the storm",
    Verdict.OOM: "the kernel killed programs although swap was free",
    Verdict.STALLED: "it stood still for long, and recovered",
    Verdict.SURVIVED: "all work was done, and nothing stood still for long",
    Verdict.INCONCLUSIVE: "what was to be tried was not there, or the trial was cut; not counted",
    Verdict.LOST: "the emulator, the server or the boot failed, twice; not counted",
}
CONTROL = "stock"
MORE_THAN_HALF_FAIL = "FAIL"
NO_MARGIN = "margin not measured"

# Which trials of a cell decide it by themselves: each must survive. Any other expectation is about the share, and
# only the cell as a whole can meet it.
EACH = Verdict.SURVIVED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of the matrix: all that decides a trial but the arm and the seed."""

    case: str
    nic: str
    transport: str
    kernel_name: str
    sweep: tuple[tuple[str, int], ...]  # sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm in one place: its count, and the trials that were counted."""

    place: Place
    tally: Tally
    at: int  # of the tally in Trials.tallies
    results: tuple[tuple[int, TrialResult], ...]  # place in Trials.results, and the trial

    @property
    def trials(self) -> int:
        """All of them, with those that are not counted."""
        return sum(self.tally.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """A file of a bundle. `text` is None where it is too large for a page, or no text."""

    name: str  # below the bundle's folder
    size_bytes: int
    text: str | None


Evidence = Mapping[str, Sequence[EvidenceFile]]  # by TrialResult.evidence


def place_of(one: Tally | TrialResult) -> Place:
    """The row it stands in; a case is called by its name, also where it was asked for by its path."""
    return Place(
        case=one.case.rpartition("/")[2].removesuffix(".toml"),
        nic=one.nic,
        transport=one.transport,
        kernel_name=one.kernel_name,
        sweep=tuple(sorted(one.sweep.items())),
    )


def cells(trials: Trials) -> tuple[Cell, ...]:
    """A cell for each tally, in their order, with its trials by seed."""
    found: dict[tuple[Place, str], list[tuple[int, TrialResult]]] = {}
    for at, one in enumerate(trials.results):
        found.setdefault((place_of(one), one.arm), []).append((at, one))
    made = []
    for at, tally in enumerate(trials.tallies):
        results = found.pop((place_of(tally), tally.arm), [])
        made.append(
            Cell(
                place=place_of(tally),
                tally=tally,
                at=at,
                results=tuple(sorted(results, key=lambda pair: pair[1].seed)),
            )
        )
    assert not found, f"trials that nobody counted: {sorted(arm for _, arm in found)}"
    return tuple(made)


def matrix(trials: Trials) -> tuple[tuple[str, ...], dict[Place, dict[str, Cell]]]:
    """The arms, which are the columns, and the rows; in the order of the tallies.

    But the arm that all others are held against stands first: tallies are in the order in which trials ended.
    """
    arms = tuple(sorted(dict.fromkeys(one.arm for one in trials.tallies), key=lambda arm: arm != CONTROL))
    rows: dict[Place, dict[str, Cell]] = {}
    for cell in sorted(cells(trials), key=lambda cell: arms.index(cell.tally.arm)):
        rows.setdefault(cell.place, {})[cell.tally.arm] = cell
    places = dict.fromkeys(place_of(one) for one in trials.tallies)
    return arms, {place: rows[place] for place in places}


# Words


def place_words(place: Place) -> str:
    """`swap-over-nbd: virtio-net-pci, nbd, trixie-cloud, delay_us 50,000`."""
    more = "".join(f", {name} {value:,}" for name, value in place.sweep)
    return printable(f"{place.case}: {place.nic}, {place.transport}, {place.kernel_name}{more}")


def verdict_counts(tally: Tally) -> Iterator[tuple[Verdict, int]]:
    """The verdicts that there are, worst first."""
    for verdict in Verdict:
        number = tally.counts.get(verdict.value, 0)
        if number:
            yield verdict, number


def counts_words(tally: Tally) -> str:
    """`WEDGED 5 of 6, SURVIVED 1 of 6; not counted: LOST 1`."""
    counts = dict(verdict_counts(tally))
    told = ", ".join(f"{verdict} {counts[verdict]} of {tally.n}" for verdict in COUNTED if verdict in counts)
    rest = ", ".join(f"{verdict} {number}" for verdict, number in counts.items() if verdict not in COUNTED)
    return "; ".join(filter(None, (told or "nothing counted", rest and f"not counted: {rest}")))


def percent(share: float) -> int:
    """Whole percent, as fine as some twenty trials allow; what is not none or all is never rounded to it."""
    return round(100 * share) if share in {0.0, 1.0} else min(max(round(100 * share), 1), 99)


def interval_words(tally: Tally) -> str:
    """`44 to 97 %`; nothing is known of a share without a trial."""
    if not tally.n:
        return "not known"
    return f"{percent(tally.failed_low)} to {percent(tally.failed_high)} %"


def share_words(tally: Tally) -> str:
    """`5/6 [44-97]`: failed of counted, and the interval in percent."""
    between = f"{percent(tally.failed_low)}-{percent(tally.failed_high)}" if tally.n else "-"
    return f"{tally.failed}/{tally.n} [{between}]"


def margin_words(tally: Tally) -> str:
    """The least pages above the floor that any trial came to, and the median of the trials."""
    if tally.margin_lowest_pages is None:
        return NO_MARGIN
    median = tally.margin_median_pages
    return f"margin lowest {tally.margin_lowest_pages:,}" + (
        "" if median is None else f", median {median:,} pages"
    )


def expected_words(tally: Tally) -> str:
    """What the case expects of the arm, and whether it is so."""
    if tally.expected is None:
        return "nothing is expected"
    word = "more than half to fail" if tally.expected == MORE_THAN_HALF_FAIL else tally.expected
    return f"expected {word}: {met_word(tally)}"


def met_word(tally: Tally) -> str:
    """`met`, `NOT MET`, or that it cannot be told."""
    return {True: "met", False: "NOT MET", None: "cannot be told"}[tally.met]


def met_look(tally: Tally) -> str:
    """How that is painted."""
    if tally.met is None:
        return "quiet" if tally.expected is None else "unsure"
    return "good" if tally.met else "bad"


def p_words(tally: Tally) -> str:
    """How surely the arm differs from the arm `stock` of the same place."""
    p = tally.p_against_stock
    if p is None:
        return ""
    return "p against stock < 0.0001" if p < 0.0001 else f"p against stock {p:.4f}"


def summary_words(trials: Trials) -> str:
    """What there is, in a line: trials, verdicts, and how many arms are as expected."""
    total = {verdict: sum(one.counts.get(verdict.value, 0) for one in trials.tallies) for verdict in Verdict}
    expecting = [one for one in trials.tallies if one.expected is not None]
    met = sum(one.met is True for one in expecting)
    told = ", ".join(f"{verdict} {number:,}" for verdict, number in total.items() if number)
    arms = f"{met:,} of {counted(len(expecting), 'expectation')} met" if expecting else "nothing is expected"
    return f"{counted(sum(total.values()), 'trial')}{f' ({told})' if told else ''}: {arms}"


def look_of(trials: Trials) -> str:
    """How the whole is painted: bad where something is not as expected."""
    looks = {met_look(one) for one in trials.tallies}
    return next((look for look in ("bad", "unsure", "good") if look in looks), "quiet")


def failures(trials: Trials) -> list[tuple[Cell, TrialResult]]:
    """Every trial that failed: first where that is not what was expected, then in the order of the cells."""
    found = [(cell, one) for cell in cells(trials) for _, one in cell.results if one.verdict in FAILURES]
    return sorted(found, key=lambda pair: pair[0].tally.met is not False)


def uncounted(trials: Trials) -> list[tuple[Cell, TrialResult]]:
    """Every trial that says nothing about the kernel."""
    return [(cell, one) for cell in cells(trials) for _, one in cell.results if one.verdict not in COUNTED]


def is_stale(result: TrialResult, code: str | None) -> bool:
    """Whether another rig than the present one, whose hash is `code`, made it; None: do not ask."""
    return code is not None and result.code != code


def stale_words(number: int) -> str:
    """That some trials were made by an older rig."""
    return f"{number:,} stale (made by another version of the rig)" if number else ""


# To do it again


def trial_command(job: Job) -> str:
    """The line that makes this trial again; names are quoted where a shell would break them.

    In a directory of its own: where this trial is kept, it is not made a second time.
    """
    words = ["tidegate", "trial", job.case, "--arm", job.arm, "--kernel", job.kernel, "--nic", job.nic]
    words += ["--transport", job.transport]
    for name, value in sorted(job.sweep.items()):
        words += ["--set", f"{name}={value}"]
    words += ["--seed", str(job.seed), "-n", "1", "--dir", "again"]
    return printable(shlex.join(words))


def kernel_words(result: TrialResult) -> str:
    """The kernel that booted, and the hash of its image."""
    return printable(f"{result.kernel} ({result.kernel_name}), sha256 {result.kernel_sha256}")


def about_words(result: TrialResult) -> str:
    """The numbers of a trial, in a line."""
    margin = NO_MARGIN if result.margin_pages is None else f"margin {counted(result.margin_pages, 'page')}"
    parts = (
        margin,
        f"done {result.done_pages:,} of {counted(result.wanted_pages, 'page')} in {ms_words(result.guest_ms)}",
        f"longest stall {ms_words(result.longest_stall_ms)}",
        f"storm {counted(result.storm_packets, 'packet')}",
        f"socket memory at most udp {result.peak_udp_mem_pages:,}, tcp {result.peak_tcp_mem_pages:,} pages",
        counted(result.oom_kills, "OOM kill") if result.oom_kills else "",
        f"try {result.tries}" if result.tries > 1 else "",
    )
    return sentence("; ".join(filter(None, parts)))


def ms_words(guest_ms: int) -> str:
    """Guest time in seconds."""
    return f"{guest_ms / 1000:.1f} s"


# Test results


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A trial, or an arm as a whole, as a test: JUnit and KTAP say the same of it."""

    name: str
    state: str  # ok, failed, skipped, error
    reason: str  # why it is not ok; of one that is, what it was
    result: TrialResult | None  # None: the arm as a whole


def tested(cell: Cell) -> Iterator[Tested]:
    """Each trial of a cell as a test, and the arm where its expectation is about the share."""
    tally = cell.tally
    for _, one in cell.results:
        reason = sentence(f"{one.verdict}: {one.reason}")
        state = "ok"
        if one.verdict is Verdict.INCONCLUSIVE:
            state = "skipped"
        elif one.verdict is Verdict.LOST:
            state = "error"
        elif tally.expected == EACH and one.verdict != EACH:
            state = "failed"
        yield Tested(name=f"{one.arm} seed {one.seed}", state=state, reason=reason, result=one)
    if tally.expected not in {None, EACH}:
        half = tally.expected == MORE_THAN_HALF_FAIL
        name = "more than half fail" if half else f"expected {tally.expected}"
        state = {True: "ok", False: "failed", None: "skipped"}[tally.met]
        reason = f"{counts_words(tally)}; share that fails {interval_words(tally)}"
        yield Tested(name=f"{tally.arm} {name}", state=state, reason=sentence(reason), result=None)
