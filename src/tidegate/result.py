"""The words of a judgement and the shape of a result: what every judge says and every report prints.

The meaning of each word is fixed once, here; `tidegate explain WORD` prints it.
All of it is plain frozen data, so that msgspec can write it as JSON and publish its schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

CHECK_SCHEMA = "tidegate.check/1"
PLAN_SCHEMA = "tidegate.plan/1"


class Verdict(StrEnum):
    """What `check` says of a host."""

    SAFE = "SAFE"
    AT_RISK = "AT_RISK"
    CANNOT_TELL = "CANNOT_TELL"


class State(StrEnum):
    """What a finding's rule says of a host."""

    APPLIES = "applies"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad it is when a finding applies, worst first."""

    DEADLOCK = "deadlock"  # memory pressure and ordinary traffic suffice; ends only by help from outside
    FAULT = "fault"  # needs another fault first, such as a lost connection
    STALL = (
        "stall"  # progress stops for a time without bound known, then goes on by itself (or by an OOM kill)
    )
    LOSS = "loss"  # somebody's packets or data are lost, nothing stands still
    NOTE = "note"  # worth knowing


class Shown(StrEnum):
    """On what a finding rests."""

    RUN = "run"  # seen on an unmodified kernel
    SOURCE = "source"  # read in the kernel's source
    INFERRED = "inferred"  # follows from what was read, not run
    REPORT = "report"  # reported by users or maintainers


class Law(StrEnum):
    """The three laws that all of tidegate serves."""

    RESERVE = "reserve"  # what admitted block IO may still withdraw <= what only block IO can take
    DISCARD = (
        "discard"  # nothing else holds reserve pages, or the ring's last ordinary ones, without bound on time
    )
    THROTTLE = "throttle"  # no block request admitted before its worst withdrawal is accounted for


class Basis(StrEnum):
    """On what a setting rests."""

    ARITHMETIC = "arithmetic"
    PROVED = "proved"
    TRIED = "tried"


class Topic(StrEnum):
    """What a missing file leaves unknown; a rule names the topics that its `absent` needs."""

    USERS = "users"  # which swap, disks and mounts there are, and what they stand on
    MEMORY = "memory"  # zones, watermarks, sysctl vm.*
    SOCKETS = "sockets"  # sockets and their buffers
    NETWORK = "network"  # routes, links, neighbours, NICs, rings
    LIMITS = "limits"  # sysctl net.*, what others may pin
    QUEUES = "queues"  # block queue settings
    DAEMONS = "daemons"  # processes in the path
    HOST = "host"  # the rest: kubelet, fstab, modules


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One fact with its place: a file (or netlink field) and the value found there."""

    source: str
    value: str
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """What ends a finding: ids of settings, or what to do instead when no setting can."""

    settings: tuple[str, ...] = ()
    curable: bool = True  # False: it cannot be cured from here by settings
    instead: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Somebody accepted a finding, with a reason and until when."""

    reason: str
    expires: str  # ISO date
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says of one host."""

    id: str
    title: str
    place: str  # ring, socket, path, daemon, host
    state: State
    severity: Severity
    shown: Shown
    subjects: tuple[str, ...] = ()  # names of users, NICs, processes it is about
    evidence: tuple[Evidence, ...] = ()
    cure: Cure = Cure()
    why: str = ""  # one sentence in this host's terms; for unknown: what is missing
    accepted: Accepted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One holder in the itemised reserve. `pages` is None when nothing bounds it."""

    holder: str
    pages: int | None
    why: str
    subject: str = ""  # the user, NIC or zone it belongs to
    # need: what block IO may take from below the atomic floor; ring: rings that can only be filled from above it;
    # others: other users of PF_MEMALLOC; pin: what others can pin above the floor.
    kind: str = "need"
    measured: bool = True  # False: the input was missing and a documented maximum stands in


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneLevels:
    """One zone as check reports it, in pages."""

    node: int
    name: str
    managed: int
    free: int
    boost: int
    min: int  # as printed, with the boost; low and high likewise
    low: int
    high: int
    floor: int  # where GFP_ATOMIC stops: 3/8 of min (boost left out) + lowmem_reserve; 0: not for the kernel
    lowmem_reserve: int  # as it counts against an ordinary request of the highest zone in use
    exclusive: int  # what only memalloc users can take here


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """An inequality that the plan rests on, left <= right, with both sides in pages."""

    id: str  # settings_alone, with_drop
    left_pages: int | None
    right_pages: int | None
    holds: bool | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """The itemised sum of a host."""

    page_bytes: int
    need_pages: int | None  # None: unbounded
    exclusive_pages: int | None
    band_pages: int | None  # min over nodes of sum(min+boost)/2 - sum(3/8 min + lowmem_reserve)
    pin_pages: int | None  # what others can pin physically; None: unbounded
    rows: tuple[Row, ...]
    zones: tuple[ZoneLevels, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of a plan."""

    id: str
    law: Law
    path: str  # file under /proc or /sys, or `socket:...`, `unit:...` where no file holds it
    old: str | None  # None: not known
    new: str
    why: str
    basis: Basis
    lower: str = ""  # lower bound, with the term that dominates it
    upper: str = ""
    dominant: str = ""  # holder of the row that dominates
    cures: tuple[str, ...] = ()  # ids of findings
    first: str = ""  # what must be true before it is written (free pages, idle queue)
    steps: tuple[str, ...] = ()  # intermediate values for a raise that must go in steps
    undo: str = ""  # value that restores; empty: old
    means: tuple[str, ...] = ()  # formats that can put it in force: sysctl, script, tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step on the way into the deadlock."""

    text: str
    stopped_by: str = ""  # id of the setting that would have stopped it
    pages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The shortest way into the deadlock, in this host's numbers."""

    source: str  # rule, later proof
    finding: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLink:
    """One link of a block user's chain: what it is, and where that was read."""

    kind: str  # swap, file, mount, dm-crypt, lvm, md, loop, nbd, iscsi, socket, route, bond, vlan, nic, ...
    name: str
    detail: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketView:
    """One socket as check reports it."""

    local: str
    remote: str
    sndbuf_bytes: int | None
    rcvbuf_bytes: int | None
    capped: bool | None  # the buffer sizes are locked by SO_SNDBUF/SO_RCVBUF
    held_bytes: int | None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """One block user as check reports it."""

    name: str
    kind: str  # swap, swapfile, mount, disk
    transport: str
    chain: tuple[ChainLink, ...]
    sockets: tuple[SocketView, ...]
    nic: str = ""
    driver: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that could not be read, why, and what it leaves unknown."""

    path: str
    status: str  # denied, damaged, not held, cannot be seen
    topic: Topic
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """The host in the head of a result."""

    name: str
    kernel: str
    taken: str  # ISO time the record was taken
    source: str  # live, or the record's file
    memory_kib: int | None
    page_bytes: int
    cpus: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """All that `tidegate check` says of one host."""

    host: HostView
    verdict: Verdict
    reason: str  # one sentence
    conditions: tuple[str, ...]
    users: tuple[UserView, ...]
    findings: tuple[Finding, ...]
    reserve: Reserve
    way: Way | None
    plan: tuple[Setting, ...]
    remains: tuple[str, ...] = ()  # what no setting cures
    after: Verdict | None = None  # the verdict that would hold after the plan
    gaps: tuple[Gap, ...] = ()
    denied: tuple[str, ...] = ()  # every path that may not be read, also those that nothing here rests on
    schema: str = field(default=CHECK_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOfThumb:
    """A published number for vm.min_free_kbytes, and whether it would have been enough on this host."""

    name: str
    source: str
    min_free_kib: int | None
    # settings_alone with this value: the host as it is, and with the plan's other settings in force.
    holds_now: bool | None
    holds_planned: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that `tidegate plan` says of one host: settings, and what would hold once they are in force."""

    host: HostView
    format: str  # the settings are those that this format can put in force; "all": whatever way there is
    settings: tuple[Setting, ...]
    before: Verdict
    after: Verdict  # judged again on the host with the settings in force
    reason: str  # one sentence: why `after`
    assumes: tuple[str, ...]  # what SAFE after the plan rests on
    fits: bool | None  # the sum fits within the share; None: it cannot be told
    rests_on: str  # settings_alone, with_drop, or empty: no condition holds after the plan
    conditions_before: tuple[Condition, ...]
    conditions_after: tuple[Condition, ...]
    cured: tuple[str, ...]  # ids of findings that the settings end
    remains: tuple[str, ...]  # what no setting of this plan cures, and what to do instead
    change: tuple[str, ...]  # what would have to change where the plan does not fit
    cannot_hold: tuple[str, ...]  # settings that the format cannot put in force, and what stands in
    accepted: tuple[Finding, ...]  # findings that somebody accepted; they still count
    rules_of_thumb: tuple[RuleOfThumb, ...]
    max_share_percent: float  # most of RAM that vm.min_free_kbytes may be raised to
    share_percent: float | None  # what it is with the plan in force
    dominant: str = ""  # the largest holder of the sum with the plan in force
    schema: str = field(default=PLAN_SCHEMA)
