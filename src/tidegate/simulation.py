"""What a run of the mechanism says: the words, the numbers of one run, of many, and of designs side by side.

Plain frozen data, written as JSON with a published schema. All times are virtual nanoseconds, all sizes pages of
4096 bytes unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SIMULATE_SCHEMA = "tidegate.simulate/1"
SIMULATIONS_SCHEMA = "tidegate.simulations/1"
COMPARE_SCHEMA = "tidegate.compare/1"
CASES_SCHEMA = "tidegate.cases/1"
SWARM_SCHEMA = "tidegate.swarm/1"
AGAINST_SCHEMA = "tidegate.against/1"


class Word(StrEnum):
    """What one run earns, worst first. `simulate` never says HOLDS: it has not seen every run."""

    STUCK = "STUCK"  # after the storm somebody waits, and no completion comes
    LUCKY = "LUCKY"  # somebody starved until the storm was over
    REFUSED = "REFUSED"  # the throttle has no room for a user and says so: nothing was tried
    SEEN = "SEEN"  # everything completed, and nobody starved


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """Something that happened for the first (or last) time, and the numbers of that moment."""

    time_ns: int
    id: str  # such as kswapd_woken, min_reached, atomic_failed, ring_empty, last_completion, storm_over
    text: str  # one plain sentence
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Who holds the pages at one moment."""

    time_ns: int
    held: tuple[int, ...]  # pages, in the order of Run.holders; they add up to Run.pages
    reserve_out: int  # pages of the reserve that are withdrawn
    completed: int  # requests completed so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one holder kept of the reserve."""

    holder: str
    page_ns: int  # pages times nanoseconds
    longest_ns: int  # that one packet stayed there
    packets: int
    at_end_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserResult:
    """How one block user fared."""

    name: str
    word: Word
    admitted: int
    completed: int
    waiting: int  # requests (or due pages) without completion at the end
    gap_ns: int  # the longest time with demand and no completion
    gap_from_ns: int
    latency_ns: int  # mean, from admission to completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: a machine, a design and a seed."""

    case: str
    arm: str
    design: str
    seed: int
    word: Word
    reason: str  # one sentence: what decided the word
    pages: int
    wmark_min_pages: int
    wmark_low_pages: int
    wmark_high_pages: int
    atomic_floor_pages: int  # where GFP_ATOMIC ends
    reserve_pages: int  # what the design keeps for block IO (0: none)
    storm_ns: int
    end_ns: int
    events: int  # entries taken from the clock
    users: tuple[UserResult, ...]
    low_water: dict[str, int]  # the least of each pool: free, ring, and the design's own
    gap_ns: int  # the longest of all users
    complete_ns: int | None  # from the end of the storm until nobody waited; None: never
    clear_ns: (
        int | None
    )  # from when nobody waited until no reserve page was out, under light traffic; None: never
    foreign: dict[str, int]  # packets of others: arrived, delivered, dropped
    drops: dict[str, int]  # by reason, all traffic
    block_drops: dict[str, int]  # by reason, block IO's own packets
    pinned_pages: int  # taken out of the zone beforehand (mempools)
    holdings: tuple[Holding, ...]  # who held the reserve
    milestones: tuple[Milestone, ...]
    steps: dict[str, int]  # how often each step was taken
    holders: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What `tidegate simulate` prints: one arm of a case over seeds."""

    case: str
    claim: str
    arm: str
    design: str
    expected: str | None  # the word the case expects, or None
    met: bool | None
    word: Word
    k: int  # runs that earned the word
    n: int
    runs: tuple[Run, ...]  # samples are kept in the first run that earned the word only
    called: str = ""  # how the case was named by whoever asked: a path, or the name of a bundled case
    left_out: tuple[str, ...] = ()  # switches that the caller left out, besides the arm's own
    schema: str = SIMULATE_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulations:
    """Several arms of a case in one call, in the order they were asked for."""

    results: tuple[Simulated, ...]
    schema: str = SIMULATIONS_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One design in `tidegate compare`."""

    design: str
    word: Word
    k: int
    n: int
    reserve_pages: int | None  # the smallest that survived every seed; None: none found
    searched_pages: int  # how far the search went
    free_low_pages: int
    foreign_lost_percent: float
    complete_ns: int | None  # the worst of the seeds
    pinned_pages: int
    clear_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Designs side by side on one case."""

    case: str
    claim: str
    n: int
    reserve_pages: int
    rows: tuple[Row, ...]
    schema: str = COMPARE_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseArm:
    """One arm of a case as it stands: by judge what is expected and what was found."""

    name: str
    design: str
    expected: dict[str, str]  # judge -> word
    found: dict[str, str]  # judge -> word
    k: int | None
    n: int | None
    stale: bool  # the case or the code changed since
    agrees: bool | None  # None: nothing to compare yet


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialState:
    """One arm of a case's [trial] part in one place of the matrix: what real kernels did there."""

    arm: str
    kernel: str  # as it is asked for (trixie-cloud)
    nic: str
    transport: str
    sweep: dict[str, int]
    expected: str | None  # a verdict of a trial, or FAIL
    counts: dict[str, int]  # verdict -> trials; empty: not run
    failed: int  # PANIC + WEDGED + OOM
    n: int  # without LOST and INCONCLUSIVE
    margin_pages: int | None  # the least of all; below 0 survival was luck
    met: bool | None  # None: nothing is expected, or nothing was counted
    stale: bool  # the case's [trial] part or the rig changed since; what a kernel did counts all the same
    check: str | None  # the word of `tidegate check` for a record of that guest
    quarrel: str  # what another judge says that cannot be true beside it; empty: nothing
    outside: str  # the case's own word on that: why it is outside the model


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseState:
    """One case as `tidegate cases` lists it."""

    name: str
    claim: str
    source: str
    finding: str
    arms: tuple[CaseArm, ...]
    trials: tuple[TrialState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """All cases."""

    cases: tuple[CaseState, ...]
    disagreements: int
    stale: int
    missing: int  # arms without a stored result
    trials_unmet: int = 0  # arms of trials that are not what the case expects
    quarrels: int = 0  # arms of trials that another judge contradicts, and the case does not say why
    trials_stale: int = 0
    trials_missing: int = 0  # arms of trials of which something is expected and nothing was counted
    schema: str = CASES_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmRow:
    """One design in a swarm: words by whether the three laws held beforehand."""

    design: str
    lawful: dict[str, int]  # word -> runs on machines where all three laws hold
    unlawful: dict[str, int]  # word -> runs on the others
    stuck_by_law: dict[str, int]  # of the STUCK runs: how often each law was broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Surprise:
    """A run that contradicts what was said of its machine beforehand."""

    seed: int
    design: str
    what: str
    repeat: str  # the command that shows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """Machines drawn by chance, and how their runs ended."""

    first_seed: int
    n: int
    rows: tuple[SwarmRow, ...]
    surprises: tuple[Surprise, ...]
    events: int
    schema: str = SWARM_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A milestone that both a run and a trace of a real kernel can tell."""

    name: str
    simulated_ns: int | None  # virtual; None: not in the run
    kernel_ms: int | None  # of the guest's clock; None: not in the trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A run beside the trace of a trial: presence and order of what both can tell."""

    case: str
    arm: str
    design: str
    seed: int
    word: Word
    trial_arm: str
    kernel: str  # uname -r
    nic: str
    verdict: str
    steps: tuple[Step, ...]  # in the order of the run; those that it has not come last
    leaves: str  # the first milestone at which the kernel does not do what the run does; empty: none
    only_simulated: tuple[str, ...]  # milestones of the run that no trace can tell
    only_kernel: tuple[str, ...]  # and the other way round
    schema: str = AGAINST_SCHEMA
