"""Whole runs: the words, that a run can be repeated to the last byte, and that memory does not grow with its length."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from tests.sim.machines import case_of

from tidegate.designs import DESIGNS, design
from tidegate.judge.swarm import draw
from tidegate.sim.owners import HOLDERS
from tidegate.sim.run import SILENCE_NS, simulate
from tidegate.simulation import Run, Word
from tidegate.trace import Event, Kind

TOP = Path(__file__).resolve().parents[2]
SHORT = {"storm_ms": 150, "gap_ms": 80}


def as_json(run: Run) -> bytes:
    return msgspec.json.encode(run)


# The same run.


@pytest.mark.parametrize("name", ["mail", "random_drop", "mainline"])
def test_the_same_seed_gives_the_same_run_to_the_last_byte(name: str) -> None:
    case = case_of(run=SHORT, user=[{"reads_percent": 20}], faults={"loss_ppm": 1000})
    one = simulate(case, design(name), 7, sampled=True)
    assert as_json(one) == as_json(simulate(case, design(name), 7, sampled=True))
    assert as_json(one) != as_json(simulate(case, design(name), 8, sampled=True))


def test_another_process_gives_the_same_run() -> None:
    program = (
        "import sys, msgspec; from tests.sim.machines import case_of; from tidegate.designs import design; "
        "from tidegate.sim.run import simulate; "
        f"run = simulate(case_of(run={SHORT}, hook=[{{}}]), design('patch'), 7); "
        "sys.stdout.buffer.write(msgspec.json.encode(run))"
    )
    ours = as_json(simulate(case_of(run=SHORT, hook=[{}]), design("patch"), 7))
    for hash_seed in ("1", "2"):  # which changes the order of sets of text
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=TOP,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{TOP / 'src'}:{TOP}"},
            capture_output=True,
            check=True,
        )
        assert done.stdout == ours


def test_looking_changes_nothing() -> None:
    heard: list[tuple[int, int, int, int]] = []
    case = case_of(run=SHORT)
    plain = simulate(case, design("mail"), 1)
    looked = simulate(
        case, design("mail"), 1, sampled=True, tell=lambda *facts: heard.append(facts), trace=lambda _: None
    )
    assert looked.samples
    assert looked.holders == HOLDERS
    assert heard
    assert as_json(plain) == as_json(
        msgspec.convert(msgspec.to_builtins(looked) | {"samples": [], "holders": []}, Run)
    )


def test_samples_add_up_and_follow_time() -> None:
    run = simulate(case_of(run=SHORT), design("mail"), 1, sampled=True)
    assert {sum(sample.held) for sample in run.samples} == {run.pages}
    times = [sample.time_ns for sample in run.samples]
    assert times == sorted(times)
    done = [sample.completed for sample in run.samples]
    assert done == sorted(done)
    assert done[-1] == sum(user.completed for user in run.users)
    # The lowest that was sampled is no lower than the low water mark.
    assert min(sample.held[0] for sample in run.samples) >= run.low_water["free"]


# The words.


def test_stuck() -> None:
    run = simulate(case_of(), design("bare"), 1)
    (user,) = run.users
    assert run.word is user.word is Word.STUCK
    assert user.waiting > 0
    assert (run.complete_ns, run.clear_ns) == (None, None)
    assert run.end_ns >= run.storm_ns + SILENCE_NS == run.storm_ns + 240 * 10**9
    assert run.gap_ns >= SILENCE_NS
    assert [one.id for one in run.milestones if one.id in {"last_completion", "stuck"}] == [
        "last_completion",
        "stuck",
    ]
    assert "swap" in run.reason
    assert str(user.waiting) in run.reason


def test_lucky() -> None:
    """A server that says nothing until the storm is over: nobody is stuck, and somebody starved."""
    case = case_of(traffic=[], faults={"stall_from_ms": 10, "stall_ms": 1000})
    run = simulate(case, design("mail"), 1)
    assert run.word is Word.LUCKY
    assert run.users[0].waiting == 0
    assert run.complete_ns is not None
    assert run.gap_ns >= 200 * 10**6
    short = case_of(
        traffic=[], faults={"stall_from_ms": 10, "stall_ms": 1000}, run={"storm_ms": 400, "gap_ms": 399}
    )
    assert simulate(short, design("mail"), 1).word is Word.SEEN  # the gap is the case's


def test_refused() -> None:
    run = simulate(case_of(machine={"reserve_pages": 10}), design("mail"), 1)
    assert run.word is Word.REFUSED
    assert (
        run.reason == "the receive ring: a fixed part and a largest request of 24 pages; there is room for 10"
    )
    assert run.events == 0
    assert run.users[0].admitted == 0


def test_seen() -> None:
    run = simulate(case_of(), design("mail"), 1)
    assert run.word is Word.SEEN
    (user,) = run.users
    assert (user.waiting, user.completed) == (0, user.admitted)
    assert user.completed > 500
    assert run.complete_ns is not None
    assert run.clear_ns is not None
    assert run.foreign["dropped"] > 1000
    assert not run.block_drops


def test_the_worst_user_decides() -> None:
    users = [{"name": "well"}, {"name": "slow", "service_us": 2_000_000, "share_percent": 30}]
    run = simulate(case_of(traffic=[], user=users), design("bare"), 1)
    assert {user.name: user.word for user in run.users} == {"well": Word.SEEN, "slow": Word.LUCKY}
    assert run.word is Word.LUCKY


def test_seen_is_never_said_of_requests_that_did_not_complete() -> None:
    said = 0
    for seed in range(60):
        drawn = draw(seed, tuple(DESIGNS.values()))
        run = simulate(drawn.case, drawn.design, seed)
        if run.word is Word.SEEN:
            said += 1
            assert all(user.completed == user.admitted and not user.waiting for user in run.users)
            assert any(user.completed for user in run.users)
    assert said > 20


# Storm and calm.


def test_the_calm_leaves_parked_packets_where_they_are() -> None:
    """What the adversary holds it keeps: no reader comes, and what no design drops stays for ever."""
    run = simulate(case_of(), design("bare"), 1, sampled=True)
    at = HOLDERS.index("others_sockets")
    calm = [sample.held[at] for sample in run.samples if sample.time_ns >= run.storm_ns]
    assert len(calm) > 5
    assert set(calm) == {calm[0]}
    assert calm[0] > 50


@pytest.mark.parametrize("name", ["bare", "mail", "mainline"])
def test_in_the_calm_only_the_system_moves(name: str) -> None:
    events: list[Event] = []
    case = case_of(
        run=SHORT,
        hook=[{"read_ms": 5}],
        faults={"loss_ppm": 9000, "reorder_ppm": 9000, "eater_pages": 3, "eater_ms": 1},
    )
    run = simulate(case, design(name), 1, trace=events.append)
    late = {one.step for one in events if one.kind is Kind.ADVERSARY and one.time_ns > run.storm_ns}
    assert late <= {"dirty_page"}  # of programs that waited for a page when the storm ended
    early = {one.step for one in events if one.kind is Kind.ADVERSARY}
    assert early >= {"foreign_packet", "hook_read", "eat", "wire_loss", "wire_reorder"}


def test_a_storm_four_times_as_long_takes_no_more_memory() -> None:
    def peak(storm_ms: int) -> int:
        case = case_of(run={"storm_ms": storm_ms, "gap_ms": 50}, traffic=[{"rcvbuf_bytes": 16_384}])
        tracemalloc.start()
        try:
            run = simulate(case, design("mail"), 1)
            assert run.word is Word.SEEN
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is imported and cached once
    assert peak(600) < 1.3 * peak(150)
