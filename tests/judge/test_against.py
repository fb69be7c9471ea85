"""A run beside the trace of a real kernel: presence and order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.report import simulated, trials_made

from tidegate.case import Case, parse_case
from tidegate.errors import BadInput
from tidegate.judge.against import (
    BEGINS,
    ENDS,
    FLOOR,
    LAST,
    STANDS,
    Traced,
    against,
    like_a_kernel,
    read_traced,
)
from tidegate.report.against_text import against_text
from tidegate.simulation import Against, Milestone, Run, Word
from tidegate.trace import Event, Kind
from tidegate.trial import Verdict

MS = 1_000_000
CASE = parse_case(b'claim = "c"\nsource = "s"\n[[traffic]]\nfrom_ms = 100\n', "swap-over-nbd.toml")
RUN = {"kswapd_woken": 21, "refill_failed": 110, "last_completion": 111, "storm_over": 800, "stuck": 240_800}
REAL = {"trouble begins": 0, "below floor": 350, "last step": 200, "last swap-out": 1000, "storm ends": 15_200,
        "end": 34_650, "last reply on the wire": 358}  # fmt: skip


def run(word: Word = Word.STUCK, **at_ms: int) -> Run:
    milestones = tuple(Milestone(time_ns=at * MS, id=name, text=name) for name, at in (at_ms or RUN).items())
    return replace(simulated.stuck_run(), word=word, milestones=milestones)


def traced(verdict: str = "WEDGED", **changes: int | None) -> Traced:
    at = REAL | {name.replace("_", " "): value for name, value in changes.items()}
    events = [
        Event(time_ns=value * MS, step=name, kind=Kind.SYSTEM)
        for name, value in at.items()
        if value is not None
    ]
    return Traced(
        case="swap-over-nbd", arm="stock", kernel="6.12", nic="e1000", verdict=verdict,
        events=tuple(sorted(events, key=lambda one: one.time_ns)),
    )  # fmt: skip


def compared(real: Traced, ours: Run | None = None) -> Against:
    return against(CASE, ours or run(), real)


def test_the_same_milestones_in_the_same_order() -> None:
    found = compared(traced())
    assert [(one.name, one.simulated_ns, one.kernel_ms) for one in found.steps] == [
        (BEGINS, 100 * MS, 0),
        (FLOOR, 110 * MS, 350),
        (LAST, 111 * MS, 1000),
        (ENDS, 800 * MS, 15_200),
        (STANDS, 240_800 * MS, 34_650),
    ]
    assert (found.leaves, found.only_simulated, found.only_kernel) == (
        "", ("kswapd_woken",), ("last reply on the wire",),
    )  # fmt: skip


def test_what_the_kernel_lacks_is_where_it_leaves_the_run() -> None:
    assert compared(traced(below_floor=None)).leaves == f"{FLOOR}: in the run, not on the kernel"


@pytest.mark.parametrize(("verdict", "name"), [("STALLED", LAST), ("PANIC", LAST)])
def test_a_kernel_that_recovered_or_died_has_no_last_progress(verdict: str, name: str) -> None:
    assert compared(traced(verdict)).leaves == f"{name}: in the run, not on the kernel"


def test_a_run_that_goes_on_has_no_last_progress() -> None:
    found = compared(traced(), run(Word.SEEN, storm_over=800))
    assert found.leaves == f"{FLOOR}: on the kernel, not in the run"
    assert [one.name for one in found.steps if one.simulated_ns is None] == [FLOOR, LAST, STANDS]


@pytest.mark.parametrize(
    ("floor_ms", "leaves"), [(1900, ""), (2100, f"{LAST}: on the kernel before this: {FLOOR}")]
)
def test_order_counts_where_the_trace_can_tell_it(floor_ms: int, leaves: str) -> None:
    assert compared(traced(below_floor=floor_ms)).leaves == leaves


@pytest.mark.parametrize(
    ("arms", "name"),
    [
        ((("a", "bare", ""), ("b", "mainline", ""), ("c", "mainline", 'set.nic.access = "never"')), "c"),
        ((("a", "bare", ""), ("b", "mainline", ""), ("c", "mainline", 'expect.simulate = "STUCK"')), "c"),
        ((("a", "bare", ""), ("b", "mainline", "")), "b"),
        ((("a", "bare", ""), ("b", "mail", "")), "a"),
        ((), None),
    ],
)
def test_the_arm_that_is_like_a_kernel(arms: tuple[tuple[str, str, str], ...], name: str | None) -> None:
    text = "".join(f'[[arm]]\nname = "{one}"\ndesign = "{design}"\n{more}\n' for one, design, more in arms)
    case: Case = parse_case(f'claim = "c"\nsource = "s"\n{text}'.encode(), "x.toml")
    found = like_a_kernel(case)
    assert (found.name if found else None) == name


def bundle(folder: Path, *, case: str = "swap-over-nbd") -> Path:
    result = trials_made.result(Verdict.WEDGED, case=f"some/{case}.toml")
    (folder / "trial.json").write_bytes(msgspec.json.encode(result))
    lines = [msgspec.json.encode(one) + b"\n" for one in traced().events]
    (folder / "trace.jsonl").write_bytes(b"".join(lines))
    return folder


def test_a_bundle_is_read(tmp_path: Path) -> None:
    read = read_traced(bundle(tmp_path))
    assert (read.case, read.arm, read.verdict, read.events) == (
        "swap-over-nbd",
        "stock",
        "WEDGED",
        traced().events,
    )


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("trace.jsonl", "", "trace.jsonl: found nothing"),
        ("trace.jsonl", "{}\n", "expected the bundle of a trial"),
        ("trial.json", "{}", "expected the bundle of a trial"),
    ],
)
def test_a_folder_that_is_no_bundle(name: str, data: str, says: str, tmp_path: Path) -> None:
    (bundle(tmp_path) / name).write_text(data)
    with pytest.raises(BadInput, match=says):
        read_traced(tmp_path)


def test_as_text() -> None:
    text = " ".join(against_text(compared(traced(below_floor=None)), width=100).split())
    assert text.startswith(f"the kernel leaves the run first at {FLOOR}: in the run, not on the kernel")
    assert f"{ENDS} 800 ms 15.2 s" in text
    assert f"{FLOOR} 110 ms -" in text
    same = against_text(compared(traced()))
    assert same.startswith("the kernel does what the run does, as far as a trace can tell\n")
    assert "\x1b" not in against_text(compared(replace(traced(), arm="\x1b[31m", kernel="\x1b")))
