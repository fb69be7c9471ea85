"""What a trial is, and what came out of it: one fresh boot of an unmodified kernel, told by numbers.

Plain frozen data, kept as one JSON object a line, and printed with a published schema. Times are milliseconds of
the guest's own clock unless the name says otherwise; sizes are pages of 4096 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

TRIAL_SCHEMA = "tidegate.trial/1"  # of one TrialResult
TRIALS_SCHEMA = "tidegate.trials/1"  # of Trials
BISECT_SCHEMA = "tidegate.bisect/1"  # of Bisected


class Verdict(StrEnum):
    """What one boot showed, worst first; the last two say nothing about the kernel."""

    PANIC = "PANIC"  # the kernel gave up
    WEDGED = "WEDGED"  # no completion any more, long after the storm
    OOM = "OOM"  # it killed programs although swap was free
    STALLED = "STALLED"  # stood still for long, and recovered
    SURVIVED = "SURVIVED"  # all work done, nothing stood still for long
    INCONCLUSIVE = "INCONCLUSIVE"  # what was to be tried was not there, or the trial was cut
    LOST = "LOST"  # the emulator, the server or the boot failed, twice


FAILURES = (Verdict.PANIC, Verdict.WEDGED, Verdict.OOM)
COUNTED = (*FAILURES, Verdict.STALLED, Verdict.SURVIVED)  # what an n counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to be made: everything that decides it. Two equal jobs are the same trial."""

    case: str  # path of the file, or the name of a bundled case
    arm: str  # of the case's [trial] part
    kernel: str  # as `tidegate kernels` names it (trixie-cloud), or a path
    nic: str  # QEMU's model
    transport: str  # nbd, iscsi, nvme-tcp, nfs, nfs-mount
    seed: int
    # Numbers of the [trial] part that differ (delay_us = 50000), and sysctls (vm.min_free_kbytes), written last.
    sweep: dict[str, int] = field(default_factory=dict)

    def key(self) -> str:
        """A name for files and for finding it again: the same for equal jobs only."""
        more = "".join(f" {name}={value}" for name, value in sorted(self.sweep.items()))
        return f"{self.case} {self.arm} {self.kernel} {self.nic} {self.transport}{more} #{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneMargin:
    """How near one zone came to where an ordinary atomic allocation ends; read from outside the guest."""

    node: int
    zone: str  # DMA, DMA32, Normal
    managed_pages: int
    min_pages: int  # its WMARK_MIN, without boost
    floor_pages: int  # 3/8 of min, and what lower zones keep for others (lowmem_reserve)
    lowest_free_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """The guest's counters at one moment of its own clock, about one a second."""

    guest_ms: int
    free_pages: int  # of all zones
    slack_pages: int  # the largest of (free - floor) over the zones: at 0 the next atomic allocation fails
    done_pages: int  # steps of the load: pages written, and pages read back
    swapped_out_pages: int
    swapped_in_pages: int
    udp_mem_pages: int
    tcp_mem_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One trial. `margin_pages` is the least slack ever seen (see Second); below 0 survival was luck."""

    case: str
    arm: str
    kernel: str  # uname -r
    kernel_name: str  # as it was asked for
    kernel_sha256: str  # of the image that booted
    nic: str
    transport: str
    seed: int
    verdict: Verdict
    reason: str  # one sentence: what decided the verdict
    margin_pages: int | None = None
    zones: tuple[ZoneMargin, ...] = ()
    expected: str | None = None  # the word that the case expects: a verdict, or FAIL
    sweep: dict[str, int] = field(default_factory=dict)
    settings: dict[str, str] = field(
        default_factory=dict
    )  # what the arm wrote: sysctl -> value, measure -> value
    guest_ms: int = 0  # from the first step of the load to the verdict
    longest_stall_ms: int = 0  # without any step of the load or any page swapped
    done_pages: int = 0
    wanted_pages: int = 0
    storm_packets: int = 0  # that were sent
    peak_udp_mem_pages: int = 0
    peak_tcp_mem_pages: int = 0
    oom_kills: int = 0
    check: str | None = None  # arms with the plan: what `tidegate check` says of the guest with it in force
    finding: str | None = None  # D1, D2, ...: which way to deadlock it was
    diagnosis: str | None = None  # one paragraph: which wait, which pool
    fingerprint: str | None = None  # the decisive waits joined: equal ones are the same failure
    evidence: str | None = None  # the folder of the bundle, relative to where the result is kept
    seconds: tuple[Second, ...] = ()
    tries: int = 1  # 2: the first one was lost
    host_mib: int = 0  # peak memory of the emulator and what served it, on this machine
    wall_s: float = 0.0  # evidence of nothing
    command: str = ""  # QEMU's exact line
    code: str = ""  # hash of the rig that made it
    asked: str = ""  # hash of what the case said of this arm's trials then
    started: str = ""  # UTC, ISO 8601
    schema: str = TRIAL_SCHEMA

    @property
    def job(self) -> Job:
        """What was asked for."""
        return Job(
            case=self.case, arm=self.arm, kernel=self.kernel_name, nic=self.nic, transport=self.transport,
            seed=self.seed, sweep=dict(self.sweep),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Trials of one arm in one place of the matrix, counted."""

    case: str
    arm: str
    kernel_name: str
    nic: str
    transport: str
    sweep: dict[str, int]
    counts: dict[str, int]  # verdict -> trials
    failed: int  # PANIC + WEDGED + OOM
    n: int  # without LOST and INCONCLUSIVE
    failed_low: float  # Wilson interval of the share that fails, 95 %
    failed_high: float
    margin_lowest_pages: int | None
    margin_median_pages: int | None
    expected: str | None
    met: bool | None  # None: no expectation, or nothing counted
    p_against_stock: (
        float | None
    )  # exact test of this arm's failures against the arm `stock` of the same place


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What `tidegate trial` and `tidegate report` print."""

    tallies: tuple[Tally, ...]
    results: tuple[TrialResult, ...]
    schema: str = TRIALS_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value of what is searched, and how the boots with it ended."""

    value: int
    survived: int
    n: int  # trials that count; a value is given up at its first failure
    margin_lowest_pages: int | None = None

    @property
    def holds(self) -> bool:
        """Whether every boot survived."""
        return 0 < self.survived == self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A value that somebody says is the right one."""

    name: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisected:
    """The smallest value of a key at which every boot survives, as far as a search can tell.

    Survival need not be monotone: `survives` was not shown to hold above, nor `fails` to fail below.
    """

    case: str
    arm: str
    kernel_name: str
    nic: str
    transport: str
    key: str
    low: int  # the values it was looked for between
    high: int
    boots: int  # wanted of each value
    fails: Level | None  # the largest value that failed; None: the lowest survived
    survives: Level | None  # the smallest that survived above that; None: the highest failed
    levels: tuple[Level, ...]  # all that were tried, by value
    said: tuple[Said, ...]  # by the plan and by rules of thumb, for that guest
    schema: str = BISECT_SCHEMA
