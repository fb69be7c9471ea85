"""Machines drawn by chance: the same for the same seed, counted rightly, and what surprises is made smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.sim.machines import case_of

from tidegate.case import check_case, parse_case
from tidegate.design import Design
from tidegate.designs import DESIGNS, design
from tidegate.errors import BadInput
from tidegate.judge import swarm as module
from tidegate.judge.laws import broken_laws
from tidegate.judge.seeds import Task
from tidegate.judge.swarm import Drawn, case_text, draw, shrink, surprise, swarm
from tidegate.need import capacity_needed
from tidegate.sim.run import simulate
from tidegate.simulation import Run, Word

ALL = tuple(DESIGNS.values())


def drawn_of(case: Any = None, one: Design | None = None) -> Drawn:
    case = case or case_of()
    one = one or design("mail")
    return Drawn(seed=1, case=case, design=one, broken=broken_laws(case, one))


def test_a_seed_draws_the_same_machine_for_ever() -> None:
    for seed in range(20):
        assert draw(seed, ALL) == draw(seed, ALL)
    assert len({msgspec.json.encode(draw(seed, ALL).case) for seed in range(50)}) == 50


def test_every_machine_that_is_drawn_can_be() -> None:
    drawn = [draw(seed, ALL) for seed in range(300)]
    for one in drawn:
        check_case(one.case, one.case.name)
        assert one.broken == broken_laws(one.case, one.design)
    # Swarm options: everything is there in some seeds, and left out in many.
    assert {one.design.name for one in drawn} == set(DESIGNS)
    lawful = sum(not one.broken for one in drawn)
    assert 30 < lawful < 200
    broken = Counter(line.split(":")[0] for one in drawn for line in set(one.broken))
    assert min(broken[law] for law in ("reserve", "discard", "throttle")) > 30
    for has in (
        lambda case: case.traffic,
        lambda case: case.hook,
        lambda case: len(case.user) > 1,
        lambda case: case.faults.loss_ppm,
        lambda case: case.faults.reorder_ppm,
        lambda case: case.faults.stall_ms,
        lambda case: case.user[-1].connects_ms,
    ):
        assert 10 < sum(bool(has(one.case)) for one in drawn) < 290


def test_only_the_designs_that_were_asked_for() -> None:
    assert {draw(seed, (design("bare"),)).design.name for seed in range(30)} == {"bare"}


def test_half_of_the_machines_have_room_for_every_user() -> None:
    drawn = [draw(seed, (design("mail"),)) for seed in range(100)]
    room = [one.case.machine.reserve_pages >= capacity_needed(one.case) for one in drawn]
    assert sum(room) > 50


@pytest.mark.parametrize("name", ["mail", "page_accounting", "mempool", "tidegate"])
def test_where_the_laws_hold_no_run_is_stuck(name: str) -> None:
    lawful = 0
    for seed in range(60):
        one = draw(seed, (design(name),))
        if not one.broken:
            lawful += 1
            assert surprise(one, simulate(one.case, one.design, seed)) is None
    assert lawful > 8


# Surprises.

SEEN = simulate(case_of(run={"storm_ms": 100, "gap_ms": 50}), design("mail"), 1)


def test_what_is_a_surprise() -> None:
    lawful, unlawful = drawn_of(), drawn_of(one=design("bare"))
    assert lawful.broken == ()
    assert unlawful.broken
    stuck, lucky = replace(SEEN, word=Word.STUCK), replace(SEEN, word=Word.LUCKY)
    assert surprise(lawful, SEEN) is None
    assert surprise(lawful, replace(SEEN, word=Word.REFUSED)) is None
    assert "STUCK, and no law is broken" in str(surprise(lawful, stuck))
    assert "neither a law is broken nor a packet of block IO was lost" in str(surprise(lawful, lucky))
    assert surprise(unlawful, stuck) is None
    assert surprise(unlawful, lucky) is None


def test_loss_and_a_server_that_stalls_explain_a_gap() -> None:
    lucky = replace(SEEN, word=Word.LUCKY)
    for reason in ("WIRE", "RX_MISSED", "CPU_BACKLOG"):
        assert surprise(drawn_of(), replace(lucky, block_drops={reason: 1})) is None
    assert surprise(drawn_of(case_of(faults={"stall_ms": 5})), lucky) is None
    assert surprise(drawn_of(), replace(lucky, block_drops={"PFMEMALLOC": 1})) is not None


def test_seen_without_a_completion_is_a_surprise() -> None:
    nothing = tuple(replace(user, completed=0) for user in SEEN.users)
    assert surprise(drawn_of(), replace(SEEN, users=nothing)) == "SEEN, and nothing completed"
    assert surprise(drawn_of(), replace(SEEN, users=nothing, steps={})) is None  # nobody asked for anything


# Counting.


def planted(words: dict[int, Word]) -> Any:
    """A runner whose runs earn the words that are planted, and else SEEN."""

    def run_tasks(tasks: Sequence[Task]) -> Generator[Run, None, None]:
        for task in tasks:
            yield replace(SEEN, word=words.get(task.seed, Word.SEEN), seed=task.seed, events=10)

    return run_tasks


def test_runs_are_counted_by_design_word_and_law() -> None:
    drawn = {seed: draw(seed, ALL) for seed in range(100, 150)}
    lawful = [seed for seed, one in drawn.items() if not one.broken]
    unlawful = [seed for seed, one in drawn.items() if one.broken]
    told: list[int] = []
    words = {lawful[0]: Word.STUCK, lawful[1]: Word.REFUSED, unlawful[0]: Word.STUCK, unlawful[1]: Word.LUCKY}
    result = swarm(100, 50, ALL, planted(words), tell=told.append)
    assert told == list(range(1, 51))
    assert (result.first_seed, result.n, result.events) == (100, 50, 500)
    assert [row.design for row in result.rows] == sorted({one.design.name for one in drawn.values()})
    total: Counter[tuple[str, str]] = Counter()
    for row in result.rows:
        total.update({("lawful", word): number for word, number in row.lawful.items()})
        total.update({("unlawful", word): number for word, number in row.unlawful.items()})
    assert total == {
        ("lawful", "STUCK"): 1,
        ("lawful", "REFUSED"): 1,
        ("lawful", "SEEN"): len(lawful) - 2,
        ("unlawful", "STUCK"): 1,
        ("unlawful", "LUCKY"): 1,
        ("unlawful", "SEEN"): len(unlawful) - 2,
    }
    by_law: Counter[str] = Counter()
    for row in result.rows:
        by_law.update(row.stuck_by_law)
    assert by_law == Counter({line.split(":")[0] for line in drawn[unlawful[0]].broken})
    (found,) = result.surprises
    assert (found.seed, found.design) == (lawful[0], drawn[lawful[0]].design.name)
    assert found.repeat == f"tidegate swarm --seed {lawful[0]} --seeds 1 --save surprise.toml"


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = swarm(0, 30, ALL, planted({}))
    monkeypatch.setattr(module, "BATCH", 7)
    assert swarm(0, 30, ALL, planted({})) == whole


# Made smaller, and saved.


def stuck_seed(name: str) -> Drawn:
    return next(
        one
        for one in (draw(seed, (design(name),)) for seed in range(400))
        if len(one.case.traffic) > 1
        and one.case.faults != type(one.case.faults)()
        and simulate(one.case, one.design, one.seed).word is Word.STUCK
    )


def test_a_surprise_is_shrunk_to_what_it_needs() -> None:
    """Planted: a machine whose driver never refills from the reserve is passed off as lawful."""
    drawn = stuck_seed("bare")

    def still(one: Drawn) -> bool:
        return simulate(one.case, one.design, one.seed).word is Word.STUCK

    small = shrink(drawn, still)
    assert still(small)
    assert small.broken == broken_laws(small.case, small.design)
    assert len(case_text(small, "STUCK")) < len(case_text(drawn, "STUCK"))
    assert len(small.case.traffic) < len(drawn.case.traffic)
    # Nothing more can be taken out of it.
    for table in module._smaller(msgspec.to_builtins(small.case)):
        try:
            case = msgspec.convert(table, type(small.case))
            check_case(case, case.name)
        except (msgspec.ValidationError, BadInput):
            continue
        assert not still(replace(small, case=case))


def test_shrinking_takes_out_what_plays_no_part() -> None:
    drawn = draw(3, ALL)
    keep = drawn.case.nic.ring
    small = shrink(drawn, lambda one: one.case.nic.ring == keep)
    assert (*small.case.traffic, *small.case.hook) == ()
    assert small.case.faults == type(small.case.faults)()
    assert len(small.case.user) == 1


def test_shrinking_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHRINK_RUNS_MAX", 5)
    tried: list[Drawn] = []

    def still(one: Drawn) -> bool:
        tried.append(one)
        return False

    drawn = draw(3, ALL)
    assert shrink(drawn, still) == drawn
    assert len(tried) == 5


@pytest.mark.parametrize("seed", range(40))
def test_a_saved_machine_is_the_same_machine(seed: int) -> None:
    drawn = draw(seed, ALL)
    case = parse_case(case_text(drawn, "STUCK").encode(), "saved.toml")
    plain = {"name": "", "claim": "", "source": "", "arm": ()}
    assert msgspec.structs.replace(case, **plain) == msgspec.structs.replace(drawn.case, **plain)
    (arm,) = case.arm
    assert (arm.design, arm.expect) == (drawn.design.name, {"simulate": "STUCK"})
    assert case.claim == drawn.case.claim
    assert str(seed) in case.source
