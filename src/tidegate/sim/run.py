"""One run: storm, then calm, and the word that it earns.

The storm is what the case describes. Then the adversary stops: what is parked stays parked, nothing new comes,
nothing is lost, and the system goes on. STUCK: some user still waits, and no completion of it has come within twice
the largest retransmission timeout. LUCKY: some user starved through the end of the storm, and the calm freed it.
SEEN: neither. Runs in which nobody had a request are no evidence; the judge refuses them (judge/arms.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tidegate.case import Case
from tidegate.design import Design, Pool, Refill
from tidegate.need import ring_need
from tidegate.sim.block import BlockUser
from tidegate.sim.clock import MS, SECOND
from tidegate.sim.machine import Hooked, Machine
from tidegate.sim.nic import Nic, nic_open, nic_receive
from tidegate.sim.owners import HOLDERS, check_owners, held_pages, packets
from tidegate.sim.page_alloc import take_at_boot
from tidegate.sim.pools import ReservePool
from tidegate.sim.skbuff import Frame
from tidegate.sim.sock import Sock, read_all
from tidegate.sim.steps import TracedSteps
from tidegate.sim.storm import start_storm
from tidegate.sim.tcp import RTO_MAX_NS
from tidegate.sim.throttle import Ledger, Refused
from tidegate.sim.vmscan import Reclaim
from tidegate.simulation import Milestone, Run, Sample, UserResult, Word
from tidegate.trace import Event

SILENCE_NS = 2 * RTO_MAX_NS
SAMPLES = 240
AFTERMATH_NS = 10 * SECOND  # how long the return of the reserve is waited for, under light traffic
AFTERMATH_PACKET_NS = MS


class Tell(Protocol):
    """Called now and then, for a gauge: time and its end, free pages, completed requests."""

    def __call__(self, time_ns: int, total_ns: int, free_pages: int, completed: int, /) -> None:
        """Shows it."""


def simulate(
    case: Case,
    design: Design,
    seed: int,
    *,
    arm: str = "",
    sampled: bool = False,
    tell: Tell | None = None,
    trace: Callable[[Event], None] | None = None,
) -> Run:
    """Runs a design on a case. The same case, design and seed give the same run to the last number.

    `sampled` keeps who holds the pages over time, `trace` gets every step.
    """
    m = build(case, design, seed)
    if trace is not None:
        m.steps = TracedSteps(m, trace)
    samples: list[Sample] = []
    if not m.refused:
        _storm(m, samples if sampled else None, tell)
    storm_end = m.clock.now
    for user in m.users:
        user.storm_gap_ns = user.open_gap()
        user.storm_last_ns = user.last_ns
    complete_ns = _calm(m, samples if sampled else None, tell)
    words = {user.name: _word(m, user) for user in m.users}
    word = min(words.values(), key=list(Word).index)
    _note_end(m, word)
    check_owners(m)
    clear_ns = None if word in {Word.STUCK, Word.REFUSED} else _aftermath(m, samples if sampled else None)
    check_owners(m)
    return _result(
        m,
        seed,
        arm,
        words,
        word,
        storm_ns=storm_end,
        complete_ns=complete_ns,
        clear_ns=clear_ns,
        samples=samples,
    )


def build(case: Case, design: Design, seed: int) -> Machine:
    """The machine at boot: reserve, ring, sockets and users, before anything happens."""
    m = Machine(case, design, seed)
    size = case.machine
    _make_pools(m)
    _load_programs(m)
    m.nic = Nic(m)
    nic_open(m)
    m.reclaim = Reclaim(m)
    for hook in case.hook:
        sock = Sock("tap", hook.rcvbuf_bytes, "hooks")
        m.hooks.append(Hooked(hook.kind, sock, hook.read_ms * MS))
    m.users = [BlockUser(m, user) for user in case.user]
    if design.throttle:
        m.ledger = Ledger(size.reserve_pages or m.zone.atomic_floor)
        try:
            pages = ring_need(case, whole_ring=design.refill is Refill.RING).total_pages
            m.ledger.connect("the receive ring", pages, 0)
            for user in m.users:
                if not user.case.connects_ms and not user.case.tickets:
                    m.ledger.connect(user.name, user.fixed_pages, user.largest_pages)
        except Refused as refused:
            m.refused.append(str(refused))
            m.note("refused", f"the throttle has no room: {refused}", room_pages=refused.room_pages)
    for user in m.users:
        user.connected = not user.case.connects_ms
    return m


def _load_programs(m: Machine) -> None:
    """Programs that stay. By lists their pages lie all over memory, as on a machine that has been up for a while."""
    pages = m.programs_pages = m.case.machine.programs_pages
    buddy = m.zone.buddy
    if buddy is None or not pages:
        take_at_boot(m.zone, pages)
        return
    frames = [frame for _ in range(m.zone.free) if (frame := buddy.alloc(0)) is not None]
    m.rng.shuffle(frames)
    for frame in frames[pages:]:
        buddy.free(frame, 0)
    m.zone.free -= pages


def _make_pools(m: Machine) -> None:
    """Elements are allocated beforehand, out of the zone, and pinned."""
    pages = m.case.machine.reserve_pages
    if m.design.pool is Pool.MEMPOOL:
        each = 1 << m.rx_cache.order
        m.pools = [ReservePool("reserve", pages)]
        m.receive_pools = m.pools
        if (
            each > 1
        ):  # an element of a mempool has one size: buffers of several pages have a pool of their own
            m.receive_pools = [ReservePool("receive", pages * 3 // 4 // each, each)]
            m.pools = [ReservePool("transmit", pages // 4), *m.receive_pools]
    elif m.design.pool is Pool.SOCKET:
        names = [f"{user.name}/{number}" for user in m.case.user for number in range(user.connections)]
        each = pages // (2 * len(names))
        m.receive_pools = [ReservePool(f"acknowledge {name}", each) for name in names]
        m.pools = [*(ReservePool(f"send {name}", each) for name in names), *m.receive_pools]
    m.pinned = sum(pool.elements * pool.pages_each for pool in m.pools)
    take_at_boot(m.zone, m.pinned)


def _sample(m: Machine) -> Sample:
    return Sample(
        time_ns=m.clock.now,
        held=held_pages(m),
        reserve_out=m.zone.reserve_out + sum(pool.elements - pool.free for pool in m.pools),
        completed=sum(user.completed for user in m.users),
    )


def _storm(m: Machine, samples: list[Sample] | None, tell: Tell | None) -> None:
    end = m.case.run.storm_ms * MS
    start_storm(m)
    if samples is None and tell is None:
        m.clock.run(end)
        return
    for at in range(SAMPLES):
        if samples is not None:
            samples.append(_sample(m))
        m.clock.run(end * (at + 1) // SAMPLES)
        if tell is not None:
            tell(m.clock.now, end, m.zone.free, sum(user.completed for user in m.users))


def _waits(m: Machine) -> bool:
    """Whether some user has demand: a request without completion, or a due page that somebody waits for."""
    if any(user.pending for user in m.users):
        return True
    due = any(user.dirty and user.connected for user in m.users)
    return due and (m.reclaim.waiting() > 0 or m.reclaim.kernel_waiters > 0 or m.reclaim.active)


def _calm(m: Machine, samples: list[Sample] | None, tell: Tell | None) -> int | None:
    """Runs on until nobody waits; None where nothing has completed for SILENCE_NS."""
    m.calm = True
    start = last = m.clock.now
    m.note("storm_over", "the storm is over: nothing new arrives, nothing is lost, nobody reads")
    completed = [user.completed for user in m.users]
    step = 10 * MS
    while _waits(m):
        if samples is not None:
            samples.append(_sample(m))
        m.clock.run(m.clock.now + step)
        now = [user.completed for user in m.users]
        if _every_waiting_user_moved(m, completed, now):
            completed, last, step = now, m.clock.now, 10 * MS
        elif m.clock.now - last >= SILENCE_NS:
            return None
        else:
            step = min(step * 2, 5 * SECOND)
        if tell is not None:
            tell(m.clock.now - start, SILENCE_NS, m.zone.free, sum(now))
    if samples is not None:
        samples.append(_sample(m))
    return m.clock.now - start


def _every_waiting_user_moved(m: Machine, before: list[int], now: list[int]) -> bool:
    waiting = [at for at, user in enumerate(m.users) if user.pending]
    return all(now[at] > before[at] for at in waiting) if waiting else now != before


def _word(m: Machine, user: BlockUser) -> Word:
    if m.refused:
        return Word.REFUSED
    if user.pending:
        return Word.STUCK
    if user.storm_gap_ns >= m.case.run.gap_ms * MS:
        return Word.LUCKY
    return Word.SEEN


def _aftermath(m: Machine, samples: list[Sample] | None) -> int | None:
    """Ordinary traffic that is read, until no page of the reserve is out; None where that takes too long.

    "waiting for certain flagged skbs to work their way around the rx-ring": somebody's packets must push them.
    """
    start = m.clock.now
    sock = Sock("tcp", 1 << 30, "others_sockets")
    m.foreign_socks.append(sock)
    frame = Frame("tcp", 1514, sock)
    while _reserve_is_out(m):
        if m.clock.now - start > AFTERMATH_NS:
            return None
        nic_receive(m, frame)
        m.clock.run(m.clock.now + AFTERMATH_PACKET_NS)
        read_all(m, sock)
        if samples is not None and (m.clock.now - start) % (50 * MS) == 0:
            samples.append(_sample(m))
    return m.clock.now - start


def _reserve_is_out(m: Machine) -> bool:
    """By the design's own book: pages that are counted, else marked packets; without either, pages."""
    if m.design.count_pages:
        return m.pages_out > 0
    if m.design.pool is not Pool.GLOBAL:
        return any(pool.free < pool.elements for pool in m.pools)
    return any(skb.reserve for _, skb in packets(m)) or m.zone.reserve_out > 0


def _note_end(m: Machine, word: Word) -> None:
    """The last completion before somebody starved, and the moment of judgement."""
    if word not in {Word.STUCK, Word.LUCKY}:
        return
    starved = [user for user in m.users if user.pending] if word is Word.STUCK else m.users
    user = max(starved, key=lambda one: one.storm_gap_ns)
    last = user.last_ns if word is Word.STUCK else user.storm_last_ns
    if last:
        text = f"the last request of {user.name} completes" + (
            "" if word is Word.STUCK else " for a long time"
        )
        m.milestones.append(Milestone(time_ns=last, id="last_completion", text=text))
        m.milestones.sort(key=lambda one: one.time_ns)
    if word is Word.STUCK:
        waiting = sum(user.pending for user in m.users)
        text = (
            f"no completion for {SILENCE_NS // SECOND} s: {waiting} requests wait, {m.zone.free} pages are free, "
            f"{m.zone.reserve_out} of the reserve are out"
        )
        m.note("stuck", text, free_pages=m.zone.free, waiting=waiting)


def _reason(m: Machine, word: Word) -> str:
    if word is Word.REFUSED:
        return m.refused[0]
    if word is Word.STUCK:
        user = next(user for user in m.users if user.pending)
        return (
            f"{user.name}: {user.pending} requests wait, and none has completed for "
            f"{(m.clock.now - max(user.last_ns, 0)) // SECOND} s, with nothing new and nothing lost"
        )
    if word is Word.LUCKY:
        user = max(m.users, key=lambda one: one.storm_gap_ns)
        return f"{user.name}: no completion in the last {user.storm_gap_ns // MS} ms of the storm; the calm freed it"
    completed = sum(user.completed for user in m.users)
    return f"{completed} requests completed, the longest wait was {max(u.gap_ns for u in m.users) // MS} ms"


def _result(
    m: Machine,
    seed: int,
    arm: str,
    words: dict[str, Word],
    word: Word,
    *,
    storm_ns: int,
    complete_ns: int | None,
    clear_ns: int | None,
    samples: list[Sample],
) -> Run:
    zone = m.zone
    low_water = {"free": zone.low_water, "ring": m.nic.low_water}
    low_water |= {pool.name: pool.low_water for pool in m.pools}
    still = [skb for _, skb in packets(m) if skb.reserve]
    return Run(
        case=m.case.name,
        arm=arm,
        design=m.design.name,
        seed=seed,
        word=word,
        reason=_reason(m, word),
        pages=zone.pages,
        wmark_min_pages=zone.wmark_min,
        wmark_low_pages=zone.wmark_low,
        wmark_high_pages=zone.wmark_high,
        atomic_floor_pages=zone.atomic_floor,
        reserve_pages=m.case.machine.reserve_pages,
        storm_ns=storm_ns,
        end_ns=m.clock.now,
        events=m.clock.events,
        users=tuple(_user(user, words[user.name]) for user in m.users),
        low_water=low_water,
        gap_ns=max(max(user.gap_ns, user.open_gap()) for user in m.users),
        complete_ns=complete_ns,
        clear_ns=clear_ns,
        foreign=dict(sorted(m.foreign.items())),
        drops=dict(sorted(m.drops.items())),
        block_drops=dict(sorted(m.block_drops.items())),
        pinned_pages=m.pinned,
        holdings=m.holding.result(still),
        milestones=tuple(m.milestones),
        steps={step: count for step, count in sorted(m.steps.items()) if count},
        holders=HOLDERS if samples else (),
        samples=tuple(samples),
    )


def _user(user: BlockUser, word: Word) -> UserResult:
    gap = max(user.gap_ns, user.open_gap())
    return UserResult(
        name=user.name,
        word=word,
        admitted=user.admitted,
        completed=user.completed,
        waiting=user.pending,
        gap_ns=gap,
        gap_from_ns=user.gap_from_ns if gap == user.gap_ns else user.demand_ns,
        latency_ns=user.latency_ns // user.completed if user.completed else 0,
    )
