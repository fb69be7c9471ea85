"""Memory is freed by writing: who writes when, and who waits."""

from __future__ import annotations

from typing import Any

from tests.sim.machines import boot, leave_free

from tidegate.sim.clock import MS, SECOND
from tidegate.sim.gfp import GFP_KERNEL
from tidegate.sim.machine import Machine
from tidegate.sim.owners import check_owners
from tidegate.sim.page_alloc import alloc_pages
from tidegate.sim.vmscan import Program, program_step


def dirtied(name: str = "bare", *, pages: int = 700, **parts: Any) -> Machine:
    """A machine with so many dirty pages, and memory above low."""
    m = boot(name, **({"user": [{"connections": 1}]} | parts))
    for _ in range(pages):
        m.users[0].dirty.append(alloc_pages(m.zone, GFP_KERNEL, 0, pf_memalloc=False))
    assert not m.reclaim.active
    return m


def active(m: Machine) -> bool:
    return m.reclaim.active


def test_kswapd_writes_from_low_up_to_high() -> None:
    m = dirtied()
    zone = m.zone
    leave_free(m, zone.wmark_low + 2)
    alloc = [alloc_pages(zone, GFP_KERNEL, 0, pf_memalloc=False)]
    assert not active(m)
    alloc.append(alloc_pages(zone, GFP_KERNEL, 0, pf_memalloc=False))
    assert active(m)
    m.programs_pages += 2
    m.clock.run(10 * SECOND)
    assert not active(m)
    assert zone.wmark_high <= zone.free <= zone.wmark_high + 130  # what was in the queue then
    assert m.users[0].completed > 30
    assert zone.kswapd is not None
    check_owners(m)


def test_kswapd_waits_where_the_throttle_holds_it_back() -> None:
    m = dirtied("mail")
    leave_free(m, m.zone.wmark_low)
    m.zone.kswapd and m.zone.kswapd()
    m.clock.run(MS)
    assert m.reclaim.blocked
    steps = m.steps["submit_bio"]
    assert m.users[0].queued == 1
    m.clock.run(2 * MS)
    assert m.steps["submit_bio"] > steps  # a reply, and it goes on


def test_a_program_without_memory_writes_one_request_and_sleeps_until_there_is_a_page() -> None:
    m = dirtied()
    leave_free(m, m.zone.wmark_min)
    m.zone.kswapd = None  # kswapd sleeps
    program = Program(m)
    m.reclaim.programs.append(program)
    program_step(program)
    assert (program.waits, m.reclaim.waiting(), m.steps["submit_bio"]) == (True, 1, 1)
    m.clock.run(MS)
    assert program.waits
    m.clock.run(3 * MS)
    assert m.steps["dirty_page"] > 0


def test_sleepers_are_served_in_the_order_in_which_they_came() -> None:
    m = dirtied()
    leave_free(m, m.zone.wmark_min)
    order: list[int] = []
    for number in range(3):
        m.zone.waiters.append(lambda number=number: order.append(number))  # type: ignore[misc]
    m.zone.free += 1
    m.reclaim._wake()
    m.clock.run(MS)
    assert order == [0, 1, 2]


def test_user_tasks_are_put_to_sleep_below_half_of_min_and_kernel_threads_are_not() -> None:
    for name, sleeps in (("mainline", True), ("bare", False)):
        m = dirtied(name)
        leave_free(m, m.zone.wmark_min // 2)
        m.reclaim.try_to_free_pages()
        assert m.steps["throttle_direct_reclaim"] == sleeps
        assert m.steps["submit_bio"] == (not sleeps)
        before = m.steps["submit_bio"]
        m.reclaim.try_to_free_pages(kernel_thread=True)
        assert m.steps["submit_bio"] == before + 1
        m = dirtied(name)
        leave_free(m, m.zone.wmark_min // 2 + 1)
        m.reclaim.try_to_free_pages()
        assert m.steps["throttle_direct_reclaim"] == 0


def test_nobody_writes_to_a_queue_that_is_congested() -> None:
    m = dirtied(user=[{"connections": 1, "queue_depth": 8}])
    for _ in range(20):
        m.reclaim.try_to_free_pages()
    assert m.users[0].pending == 7  # 7/8 of the queue (queue_congestion_on_threshold())


def test_a_worker_waits_as_a_kernel_thread() -> None:
    m = dirtied()
    leave_free(m, m.zone.wmark_min)
    called: list[int] = []
    m.reclaim.wait_as_kernel_thread(lambda _: called.append(m.zone.free))
    assert (m.reclaim.kernel_waiters, m.steps["submit_bio"]) == (1, 1)
    m.clock.run(SECOND)
    assert (m.reclaim.kernel_waiters, len(called)) == (0, 1)


def test_programs_stop_with_the_storm_unless_they_wait() -> None:
    m = dirtied(load={"programs": 1})
    m.calm = True
    program = m.reclaim.programs[0]
    program_step(program)
    assert m.steps["dirty_page"] == 0
    program.waits = True
    program_step(program)
    assert m.steps["dirty_page"] == 1


def test_what_is_read_needs_pages_first_and_comes_back_dirty() -> None:
    m = boot(
        "bare", user=[{"connections": 1, "reads_percent": 100, "readahead_pages": 4}], load={"programs": 1}
    )
    user = m.users[0]
    user.swapped = 4
    program_step(m.reclaim.programs[0])
    assert (user.read_pages, user.swapped, m.steps["swapin_readahead"]) == (4, 0, 1)
    m.clock.run(20 * MS)
    assert user.completed == 1
    assert len(user.dirty) >= 4
    check_owners(m)


def test_programs_dirty_no_more_than_they_are_told_to() -> None:
    m = boot("bare", load={"programs": 2, "dirtied_pages": 50})
    for program in m.reclaim.programs:
        program_step(program)
    m.clock.run(SECOND)
    assert len(m.users[0].dirty) == m.reclaim.dirtied == 50


def test_pages_go_to_users_by_their_share() -> None:
    m = boot(
        "bare",
        machine={"pages": 8192},
        user=[{"name": "a", "share_percent": 90}, {"name": "b", "share_percent": 10}],
        load={"programs": 1, "dirtied_pages": 1000},
    )
    program_step(m.reclaim.programs[0])
    m.clock.run(SECOND)
    assert 850 < len(m.users[0].dirty) < 950
    assert len(m.users[0].dirty) + len(m.users[1].dirty) == 1000
