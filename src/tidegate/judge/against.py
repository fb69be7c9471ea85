"""A run of the mechanism beside the trace of a real kernel that failed: where does the kernel leave it first?

Only what both can tell is compared: that each of a few milestones is there, and their order. Times are not: the
clocks, the sizes and the speeds are others. A trace knows a step of the load to 50 ms and a page swapped to a second,
so what is less than ORDER_MS apart there has no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from tidegate.case import Access, Arm, Case
from tidegate.errors import BadInput
from tidegate.rig.bundle import read_bundle
from tidegate.simulation import Against, Milestone, Run, Step, Word
from tidegate.trace import Event
from tidegate.trial import Verdict

ORDER_MS = 1000
_MS = 1_000_000  # ns
_FAILED = ("refill_failed", "ack_failed", "retransmit_failed")
# In the order of a deadlock: what it is called here, in a trace, and in a run.
BEGINS, FLOOR, LAST, ENDS, STANDS = (
    "the storm begins",
    "an ordinary atomic allocation fails",
    "the last progress",
    "the storm ends",
    "it stands still for good",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What a bundle says: whose trial it was, how it ended, and when what happened."""

    case: str
    arm: str
    kernel: str
    nic: str
    verdict: str
    events: tuple[Event, ...]


def read_traced(folder: Path) -> Traced:
    """The trace of a trial's bundle. BadInput where the folder has none."""
    bundle = read_bundle(folder)
    trial = bundle.facts("trial.json")
    lines = bundle.lines("trace.jsonl")
    if not lines:
        raise BadInput(str(folder), "trace.jsonl", "nothing", "the trace of a trial")
    try:
        events = tuple(msgspec.json.decode(line, type=Event) for line in lines)
        names = [str(trial[name]) for name in ("case", "arm", "kernel", "nic", "verdict")]
    except (msgspec.DecodeError, KeyError) as error:
        raise BadInput(str(folder), "", str(error), "the bundle of a trial") from error
    case, arm, kernel, nic, verdict = names
    return Traced(
        case=case.rpartition("/")[2].removesuffix(".toml"),
        arm=arm,
        kernel=kernel,
        nic=nic,
        verdict=verdict,
        events=events,
    )


def like_a_kernel(case: Case) -> Arm | None:
    """The arm that is most like an unmodified kernel: mainline whose driver may not use the reserve, else mainline."""
    mainline = [arm for arm in case.arm if arm.design == "mainline"]
    never = [arm for arm in mainline if arm.set.get("nic", {}).get("access", case.nic.access) == Access.NEVER]
    stuck = [arm for arm in mainline if arm.expect.get("simulate") == Word.STUCK]
    return next(iter([*never, *stuck, *mainline, *case.arm]), None)


def against(case: Case, run: Run, traced: Traced) -> Against:
    """Both side by side, and the first milestone at which the kernel leaves the run; empty where it does not."""
    simulated, real = _simulated(case, run), _real(traced)
    steps = [
        Step(name=name, simulated_ns=simulated.get(name), kernel_ms=real.get(name))
        for name in (BEGINS, FLOOR, LAST, ENDS, STANDS)
    ]
    steps.sort(key=lambda one: (one.simulated_ns is None, one.simulated_ns or 0))
    ours = {"kswapd_woken", "direct_reclaim", "throttle_direct_reclaim", "ring_empty", "reserve_entered"}
    theirs = {"last reply on the wire", "last request on the wire", "OOM"}
    return Against(
        case=case.name,
        arm=run.arm,
        design=run.design,
        seed=run.seed,
        word=run.word,
        trial_arm=traced.arm,
        kernel=traced.kernel,
        nic=traced.nic,
        verdict=traced.verdict,
        steps=tuple(steps),
        leaves=_leaves(steps),
        only_simulated=tuple(dict.fromkeys(one.id for one in run.milestones if one.id in ours)),
        only_kernel=tuple(dict.fromkeys(one.step for one in traced.events if one.step in theirs)),
    )


def _simulated(case: Case, run: Run) -> dict[str, int]:
    first: dict[str, int] = {}
    for one in run.milestones:
        first.setdefault(one.id, one.time_ns)
    found = {ENDS: first.get("storm_over"), STANDS: first.get("stuck"), LAST: _last(run.milestones)}
    found[BEGINS] = min((one.from_ms for one in case.traffic), default=-1) * _MS
    found[FLOOR] = min((first[name] for name in _FAILED if name in first), default=None)
    return {name: at for name, at in found.items() if at is not None and at >= 0}


def _last(milestones: Sequence[Milestone]) -> int | None:
    """Of a run that goes on to the end there is no last completion."""
    return next((one.time_ns for one in milestones if one.id == "last_completion"), None)


def _real(traced: Traced) -> dict[str, int]:
    at: dict[str, list[int]] = {}
    for one in traced.events:
        at.setdefault(one.step, []).append(one.time_ns // _MS)
    progress = [*at.get("last step", ()), *at.get("last swap-out", ())]
    wedged = traced.verdict == Verdict.WEDGED
    found = {
        BEGINS: min(at.get("trouble begins", ()), default=None),
        FLOOR: min(at.get("below floor", ()), default=None),
        LAST: max(progress, default=None) if wedged else None,
        ENDS: min(at.get("storm ends", ()), default=None),
        STANDS: max(at.get("end", ()), default=None) if wedged else None,
    }
    return {name: when for name, when in found.items() if when is not None}


def _leaves(steps: Sequence[Step]) -> str:
    """In the order of the run: what the kernel lacks, what it has besides, what it does sooner than the one before."""
    both = [one for one in steps if one.simulated_ns is not None and one.kernel_ms is not None]
    sooner = {
        after.name: before.name
        for before, after in pairwise(both)
        if (after.kernel_ms or 0) < (before.kernel_ms or 0) - ORDER_MS
    }
    for one in steps:
        if one.kernel_ms is None and one.simulated_ns is not None:
            return f"{one.name}: in the run, not on the kernel"
        if one.simulated_ns is None and one.kernel_ms is not None:
            return f"{one.name}: on the kernel, not in the run"
        if one.name in sooner:
            return f"{one.name}: on the kernel before this: {sooner[one.name]}"
    return ""
