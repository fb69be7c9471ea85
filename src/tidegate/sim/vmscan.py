"""Memory is freed by writing: kswapd, direct reclaim, and the programs that wait for it (mm/vmscan.c).

Programs dirty one page after another. Below low kswapd writes dirty pages out, up to high; a program that finds no
page above min writes one itself and waits. All of them carry PF_MEMALLOC while they do.

Not modelled: which page is chosen, clean pages, priorities, swap_cluster, anonymous pages that are read but not
written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidegate.sim.block import BlockRequest, BlockUser, submit_bio
from tidegate.sim.clock import MS, US
from tidegate.sim.gfp import GFP_KERNEL
from tidegate.sim.page_alloc import NONE, alloc_pages

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

KSWAPD_STEP_NS = 20 * US
CONGESTION_WAIT_NS = 100 * MS  # blk_congestion_wait(WRITE, HZ/10)


class Program:
    """One program that dirties memory, and now and then reads back what was swapped out."""

    __slots__ = ("m", "reading", "taken", "waits", "wanted")

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.waits = False
        self.wanted = 0  # pages it still needs for a read
        self.taken: list[int] = []
        self.reading: BlockUser | None = None


class Reclaim:
    """Who writes and who waits."""

    __slots__ = (
        "active", "blocked", "dirtied", "dirty_ns", "kernel_waiters", "m", "next_user", "programs", "timer", "turns",
        "waking",
    )  # fmt: skip

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.active = False  # kswapd runs
        self.blocked = False  # and is held back in a submission
        self.timer = False
        self.waking = False
        self.dirtied = 0
        self.dirty_ns = m.case.load.dirty_us * US
        self.programs = [Program(m) for _ in range(m.case.load.programs)]
        self.kernel_waiters = 0
        self.turns: list[int] = []
        self.next_user = 0
        m.zone.kswapd = self.wakeup_kswapd
        m.zone.wake = self._wake

    # kswapd

    def wakeup_kswapd(self) -> None:
        """Free pages are below low."""
        m = self.m
        m.zone.kswapd = None
        if not self.active:
            self.active = True
            m.first(
                "kswapd_woken",
                f"free memory falls below low: kswapd begins to write dirty pages out ({m.zone.free} pages are free)",
                free_pages=m.zone.free,
            )
            m.clock.after(KSWAPD_STEP_NS, _kswapd, self)

    def wait_as_kernel_thread(self, again: Callable[[Machine], None]) -> None:
        """A worker in direct reclaim: not throttled, it submits, and waits as everybody does."""
        self.kernel_waiters += 1
        self.try_to_free_pages(kernel_thread=True)

        def woken() -> None:
            self.kernel_waiters -= 1
            again(self.m)

        self.m.zone.waiters.append(woken)

    def try_to_free_pages(self, *, kernel_thread: bool = False) -> None:
        """Direct reclaim: writes one request, unless the queue is congested or the task is put to sleep."""
        m = self.m
        m.steps["try_to_free_pages"] += 1
        m.first(
            "direct_reclaim",
            f"a program finds no page above min: it writes one out itself and waits ({m.zone.free} pages are free)",
            free_pages=m.zone.free,
        )
        if m.design.direct_throttle and not kernel_thread and m.zone.free <= m.zone.wmark_min // 2:
            m.steps["throttle_direct_reclaim"] += 1
            return
        user = self._user_to_write()
        if user is not None:
            submit_bio(self._write(user))

    def _user_to_write(self) -> BlockUser | None:
        """The next user with a dirty page and room in its queue (may_write_to_queue())."""
        users = self.m.users
        for _ in users:
            user = users[self.next_user % len(users)]
            self.next_user += 1
            if user.connected and user.dirty and not self._congested(user):
                return user
        return None

    @staticmethod
    def _congested(user: BlockUser) -> bool:
        return user.pending >= max(1, user.case.queue_depth * 7 // 8)

    def _write(self, user: BlockUser) -> BlockRequest:
        pages = [user.dirty.popleft() for _ in range(min(user.case.request_pages, len(user.dirty)))]
        return BlockRequest(user, pages, reads=False, pf_memalloc=True)

    # Waiters

    def _wake(self) -> None:
        if not self.waking:
            self.waking = True
            self.m.clock.after(US, _wake_waiters, self)

    def waiting(self) -> int:
        """Programs that wait for a page."""
        return sum(program.waits for program in self.programs)


def _kswapd(self: Reclaim) -> None:
    """balance_pgdat(): one request, then the next; asleep above high."""
    m = self.m
    m.steps["kswapd"] += 1
    self.timer = False
    if self.blocked:
        return
    if m.zone.free >= m.zone.wmark_high and not (m.calm and self.waiting()):
        self.active = False
        m.zone.kswapd = self.wakeup_kswapd
        return
    user = self._user_to_write()
    if user is None:
        self.timer = True
        m.clock.after(CONGESTION_WAIT_NS // 10, _kswapd, self)
        return
    request = self._write(user)

    def entered() -> None:
        self.blocked = False
        m.clock.after(KSWAPD_STEP_NS, _kswapd, self)

    self.blocked = True
    request.entered = entered
    if submit_bio(request) and request.entered is not None:  # passed at once
        request.entered = None
        entered()


def _wake_waiters(self: Reclaim) -> None:
    zone = self.m.zone
    self.waking = False
    for _ in range(len(zone.waiters)):
        if zone.free <= zone.wmark_min:
            return
        zone.waiters.popleft()()


# Programs


def program_step(program: Program) -> None:
    """One page is dirtied, or swapped-out pages are touched (the adversary's step: it stops with the storm)."""
    m = program.m
    if m.calm and not program.waits:
        return
    if program.wanted:
        _take_for_read(program)
        return
    users = m.users
    user = users[0] if len(users) == 1 else _pick(m, users)
    if not program.waits and _touches_swapped(m, user):
        program.wanted = user.case.readahead_pages
        program.reading = user
        user.swapped -= program.wanted
        _take_for_read(program)
        return
    limit = m.case.load.dirtied_pages
    if limit and m.reclaim.dirtied >= limit:
        return
    token = alloc_pages(m.zone, GFP_KERNEL, 0, pf_memalloc=False)
    if token == NONE:
        _wait(program)
        return
    program.waits = False
    m.steps["dirty_page"] += 1
    m.reclaim.dirtied += 1
    user.dirty.append(token)
    m.clock.after(m.reclaim.dirty_ns, program_step, program)


def _touches_swapped(m: Machine, user: BlockUser) -> bool:
    percent = user.case.reads_percent
    return percent > 0 and user.swapped >= user.case.readahead_pages and m.rng.randrange(100) < percent


def _pick(m: Machine, users: list[BlockUser]) -> BlockUser:
    shares = [user.case.share_percent if user.connected and not user.leaving else 0 for user in users]
    at = m.rng.randrange(max(1, sum(shares)))
    for user, share in zip(users, shares, strict=True):
        if at < share:
            return user
        at -= share
    return users[0]


def _take_for_read(program: Program) -> None:
    """swapin_readahead(): a page for each that is read, then the request; the program waits for it."""
    m = program.m
    while program.wanted:
        token = alloc_pages(m.zone, GFP_KERNEL, 0, pf_memalloc=False)
        if token == NONE:
            _wait(program)
            return
        program.wanted -= 1
        program.taken.append(token)
    program.waits = False
    user = program.reading
    assert user is not None
    if not user.connected:  # it has left meanwhile: nothing can be read from it
        m.users[0].dirty.extend(program.taken)
        program.taken = []
        m.clock.after(m.reclaim.dirty_ns, program_step, program)
        return
    request = BlockRequest(user, program.taken, reads=True, pf_memalloc=False)
    program.taken = []
    request.done = lambda: m.clock.after(m.reclaim.dirty_ns, program_step, program)
    m.steps["swapin_readahead"] += 1
    submit_bio(request)


def _wait(program: Program) -> None:
    """Direct reclaim, then sleep until memory is above min."""
    m = program.m
    program.waits = True
    m.reclaim.try_to_free_pages()
    m.zone.waiters.append(lambda: program_step(program))
