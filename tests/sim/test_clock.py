"""The clock takes entries by time, then by entry; and simpy, which others rely on, takes them in the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.machines import case_of

import tidegate.sim.machine
from tidegate.designs import design
from tidegate.sim.clock import Clock
from tidegate.sim.run import simulate

NEEDS_SIMPY = "simpy, another discrete-event simulator to compare with, is not installed"


class AnyClock(Protocol):
    @property
    def now(self) -> int: ...
    def at(self, time_ns: int, function: Callable[[Any], None], argument: Any) -> None: ...
    def after(self, delay_ns: int, function: Callable[[Any], None], argument: Any) -> None: ...
    def run(self, until_ns: int) -> None: ...


def simpy_clock() -> Callable[[], AnyClock]:
    """Our interface over simpy's environment: each entry is a timeout of its own, and simpy alone orders them."""
    simpy = pytest.importorskip("simpy", reason=NEEDS_SIMPY)

    class SimpyClock:
        def __init__(self) -> None:
            self.env = simpy.Environment()
            self.events = 0

        @property
        def now(self) -> int:
            return int(self.env.now)

        def at(self, time_ns: int, function: Callable[[Any], None], argument: Any) -> None:
            self.after(time_ns - self.now, function, argument)

        def after(self, delay_ns: int, function: Callable[[Any], None], argument: Any) -> None:
            self.env.timeout(delay_ns).callbacks.append(lambda _: self._call(function, argument))

        def _call(self, function: Callable[[Any], None], argument: Any) -> None:
            self.events += 1
            function(argument)

        def run(self, until_ns: int) -> None:
            while self.env.peek() <= until_ns:
                self.env.step()
            if until_ns > self.env.now:
                self.env.run(until=until_ns)

        def next_ns(self) -> int | None:
            return None if self.env.peek() == float("inf") else int(self.env.peek())

    return SimpyClock


def test_time_comes_first_then_who_was_entered_first() -> None:
    clock = Clock()
    order: list[str] = []
    for time_ns, name in [(5, "late"), (3, "first"), (3, "second"), (0, "now"), (3, "third")]:
        clock.at(time_ns, order.append, name)
    clock.run(10)
    assert order == ["now", "first", "second", "third", "late"]
    assert clock.events == 5


def test_an_entry_for_this_moment_made_meanwhile_comes_last_of_it() -> None:
    clock = Clock()
    order: list[str] = []

    def first(_: None) -> None:
        order.append("first")
        clock.after(0, order.append, "made meanwhile")

    clock.at(1, first, None)
    clock.at(1, order.append, "second")
    clock.run(1)
    assert order == ["first", "second", "made meanwhile"]


def test_it_runs_up_to_and_including_the_end() -> None:
    clock = Clock()
    order: list[int] = []
    for time_ns in (9, 10, 11):
        clock.at(time_ns, order.append, time_ns)
    clock.run(10)
    assert (order, clock.now, clock.next_ns()) == ([9, 10], 10, 11)
    clock.run(4)  # asks for less than it is: it stays where it is
    assert clock.now == 10
    clock.run(20)
    assert (order, clock.now, clock.next_ns()) == ([9, 10, 11], 20, None)


def test_now_is_the_time_of_the_entry() -> None:
    clock = Clock()
    times: list[tuple[int, int]] = []
    for time_ns in (7, 2, 40):
        clock.at(time_ns, lambda due: times.append((due, clock.now)), time_ns)
    clock.run(100)
    assert times == [(2, 2), (7, 7), (40, 40)]


def test_nothing_is_entered_in_the_past() -> None:
    clock = Clock()
    clock.run(10)
    with pytest.raises(AssertionError, match=r"\(9, 10\)"):
        clock.at(9, print, None)
    with pytest.raises(AssertionError, match="-1"):
        clock.after(-1, print, None)
    assert clock.next_ns() is None


Plan = list[tuple[int, bool, int]]  # for each entry: how much later, as an absolute time or a delay, children


def order_of(clock: AnyClock, plan: Plan, ends: list[int]) -> list[tuple[int, int]]:
    """Times and numbers of what was taken, each entry making the next ones of the plan."""
    taken: list[tuple[int, int]] = []
    left = iter(enumerate(plan))

    def enter(children: int) -> None:
        for _ in range(children):
            number, (delay, absolute, more) = next(left, (0, (0, False, -1)))
            if more < 0:
                return
            if absolute:
                clock.at(clock.now + delay, take, (number, more))
            else:
                clock.after(delay, take, (number, more))

    def take(arg: tuple[int, int]) -> None:
        taken.append((clock.now, arg[0]))
        enter(arg[1])

    enter(4)
    for end in ends:
        clock.run(end)
        taken.append((clock.now, -1))
    return taken


PLANS = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 2, 5, 1000]), st.booleans(), st.integers(0, 3)), max_size=60
)


@given(PLANS, st.lists(st.integers(0, 3000), max_size=4).map(sorted))
def test_simpy_takes_the_same_entries_in_the_same_order(plan: Plan, ends: list[int]) -> None:
    assert order_of(Clock(), plan, ends) == order_of(simpy_clock()(), plan, ends)


@pytest.mark.parametrize("name", ["mail", "bare"])
def test_a_whole_run_on_simpy_is_the_same_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(run={"storm_ms": 200, "gap_ms": 100}, faults={"loss_ppm": 5000, "reorder_ppm": 20_000})
    ours = simulate(case, design(name), 5)
    monkeypatch.setattr(tidegate.sim.machine, "Clock", simpy_clock())
    theirs = simulate(case, design(name), 5)
    assert ours.events > 5000
    assert ours == theirs
