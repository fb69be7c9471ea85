"""Results as `simulate`, `compare` and `cases` make them, for the tests of their reports; made by hand.

A machine of 4,096 pages, min 171 (so that 3/8 of it, 64 pages, is below what GFP_ATOMIC may take), a ring of 64,
a storm of two seconds. The curves are straight lines between a few moments that a run would go through.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tidegate.simulation import (
    CaseArm,
    Cases,
    CaseState,
    Compared,
    Holding,
    Milestone,
    Row,
    Run,
    Sample,
    Simulated,
    UserResult,
    Word,
)

MS = 1_000_000
PAGES = 4096
HOLDERS = ("free", "rx_ring", "softnet", "others_sockets", "block_sockets", "write_queue", "programs")
HOSTILE = "x\x1b[31m</script><img src=x onerror=alert(1)>\"'&--> \u202eé"
STEP_NS = 10 * MS

# (time_ns, pages of each holder but the programs, reserve_out, completed)
_Moment = tuple[int, tuple[int, int, int, int, int, int], int, int]
_STUCK: tuple[_Moment, ...] = (
    (0, (1800, 32, 0, 0, 4, 0), 0, 0),
    (60 * MS, (257, 32, 2, 120, 8, 60), 0, 310),
    (90 * MS, (171, 32, 6, 300, 10, 90), 0, 420),
    (110 * MS, (64, 32, 12, 460, 12, 120), 0, 470),
    (130 * MS, (0, 6, 20, 590, 16, 150), 64, 480),
    (150 * MS, (0, 0, 20, 596, 16, 150), 64, 481),
    (2000 * MS, (0, 0, 0, 616, 16, 150), 64, 481),
    (242_000 * MS, (0, 0, 0, 616, 16, 150), 64, 481),
)
_LUCKY: tuple[_Moment, ...] = (
    (0, (1800, 32, 0, 0, 4, 0), 0, 0),
    (100 * MS, (90, 32, 6, 420, 10, 90), 0, 420),
    (130 * MS, (12, 20, 40, 560, 16, 120), 52, 470),
    (1990 * MS, (9, 8, 60, 560, 16, 120), 55, 472),
    (2040 * MS, (300, 32, 0, 0, 16, 40), 0, 900),
    (2600 * MS, (1200, 32, 0, 0, 4, 0), 0, 1900),
)
_SEEN: tuple[_Moment, ...] = (
    (0, (1800, 32, 0, 0, 4, 0), 0, 0),
    (100 * MS, (180, 32, 6, 300, 10, 90), 0, 420),
    (140 * MS, (52, 32, 1, 340, 16, 120), 12, 600),
    (1000 * MS, (41, 32, 0, 340, 16, 120), 23, 5200),
    (2000 * MS, (60, 32, 1, 340, 16, 110), 4, 10600),
    (2100 * MS, (900, 32, 0, 300, 4, 0), 0, 11200),
)


def _samples(moments: tuple[_Moment, ...]) -> tuple[Sample, ...]:
    found = [_sample(*moments[0])]
    for (from_ns, held, out, done), (to_ns, held_to, out_to, done_to) in pairwise(moments):
        step_ns = max(STEP_NS, (to_ns - from_ns) // 200)
        for time_ns in range(from_ns + step_ns, to_ns + 1, step_ns):
            share = (time_ns - from_ns) / (to_ns - from_ns)

            def between(one: int, other: int, share: float = share) -> int:
                return round(one + (other - one) * share)

            pages = tuple(between(one, other) for one, other in zip(held, held_to, strict=True))
            found.append(_sample(time_ns, pages, between(out, out_to), between(done, done_to)))
    return tuple(found)


def _sample(time_ns: int, held: tuple[int, ...], reserve_out: int, completed: int) -> Sample:
    return Sample(
        time_ns=time_ns, held=(*held, PAGES - sum(held)), reserve_out=reserve_out, completed=completed
    )


def _run(word: Word, moments: tuple[_Moment, ...], **changes: object) -> Run:
    """What the three samples have in common, with what differs in its place."""
    samples = _samples(moments)
    base = Run(
        case="swap-over-nbd",
        arm="bare",
        design="bare",
        seed=7,
        word=word,
        reason="",
        pages=PAGES,
        wmark_min_pages=171,
        wmark_low_pages=213,
        wmark_high_pages=256,
        atomic_floor_pages=64,
        reserve_pages=64,
        storm_ns=2000 * MS,
        end_ns=samples[-1].time_ns,
        events=84_211,
        users=(),
        low_water={
            "free": min(one.held[0] for one in samples),
            "ring": min(one.held[1] for one in samples) * 2,
        },
        gap_ns=0,
        complete_ns=None,
        clear_ns=None,
        foreign={"arrived": 40_000, "delivered": 600, "dropped": 39_400},
        drops={"no_memory": 1_200, "ring_empty": 38_254},
        block_drops={"no_memory": 3, "ring_empty": 51},
        pinned_pages=0,
        holdings=(),
        milestones=(),
        steps={"alloc_skb": 42_000, "netif_rx": 1_746, "tcp_v4_rcv": 1_690},
        holders=HOLDERS,
        samples=samples,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def _user(word: Word, **changes: object) -> UserResult:
    base = UserResult(
        name="swap",
        word=word,
        admitted=609,
        completed=481,
        waiting=128,
        gap_ns=241_850 * MS,
        gap_from_ns=150 * MS,
        latency_ns=1_840_000,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def _milestone(time_ms: float, id: str, text: str, **facts: int) -> Milestone:
    return Milestone(time_ns=round(time_ms * MS), id=id, text=text, facts=facts)


def stuck_run(seed: int = 7) -> Run:
    """2.6.12 as it was: the reserve and the ring end in sockets that nobody reads."""
    return _run(
        Word.STUCK,
        _STUCK,
        seed=seed,
        reason="128 requests wait, the ring is empty, and no page can be freed without a reply",
        users=(_user(Word.STUCK),),
        gap_ns=241_850 * MS,
        holdings=(
            Holding(
                holder="others_sockets",
                page_ns=14_000_000 * MS,
                longest_ns=241_870 * MS,
                packets=61,
                at_end_pages=61,
            ),
            Holding(holder="softnet", page_ns=900 * MS, longest_ns=22 * MS, packets=14, at_end_pages=0),
            Holding(holder="block_sockets", page_ns=40 * MS, longest_ns=3 * MS, packets=3, at_end_pages=3),
        ),
        milestones=(
            _milestone(
                60, "kswapd_woken", "kswapd wakes and writes pages out over the network", free_pages=212
            ),
            _milestone(
                90, "min_reached", "programs may take no more pages and wait for reclaim", free_pages=171
            ),
            _milestone(
                110, "atomic_failed", "the driver gets no buffer for a packet", free_pages=64, ring_packets=64
            ),
            _milestone(150, "ring_empty", "the receive ring is empty: no packet can arrive", ring_packets=0),
            _milestone(
                150.4, "last_completion", "the last write completes", completed=481, waiting=128, free_pages=0
            ),
            _milestone(2000, "storm_over", "the storm is over", free_pages=0),
            _milestone(
                242_000,
                "stuck",
                "nothing that can still happen frees a page",
                waiting=128,
                gap_ns=241_850 * MS,
            ),
        ),
    )


def lucky_run() -> Run:
    """Randomly dropped: it starved until the storm was over."""
    return _run(
        Word.LUCKY,
        _LUCKY,
        arm="random_drop",
        design="random_drop",
        reason="swap had no completion for 1.86 s and went on only when the storm was over",
        users=(
            _user(
                Word.LUCKY,
                admitted=1900,
                completed=1900,
                waiting=0,
                gap_ns=1860 * MS,
                gap_from_ns=150 * MS,
                latency_ns=14 * MS,
            ),
        ),
        gap_ns=1860 * MS,
        complete_ns=600 * MS,
        clear_ns=40 * MS,
        holdings=(
            Holding(
                holder="others_sockets",
                page_ns=95_000 * MS,
                longest_ns=1900 * MS,
                packets=220,
                at_end_pages=0,
            ),
        ),
        milestones=(
            _milestone(95, "min_reached", "programs wait for reclaim", free_pages=171),
            _milestone(150, "last_completion", "the last completion for a long time", completed=472),
            _milestone(2000, "storm_over", "the storm is over", free_pages=9),
            _milestone(2010, "resumed", "a reply gets through and writes complete again", completed=473),
        ),
    )


def seen_run() -> Run:
    """What the text of the mail asks for."""
    return _run(
        Word.SEEN,
        _SEEN,
        arm="mail",
        design="mail",
        reason="all 11,200 requests completed, and the longest gap was 14 ms",
        users=(
            _user(
                Word.SEEN,
                admitted=11_200,
                completed=11_200,
                waiting=0,
                gap_ns=14 * MS,
                gap_from_ns=131 * MS,
                latency_ns=2 * MS,
            ),
            _user(
                Word.SEEN,
                name="disk",
                admitted=90,
                completed=90,
                waiting=0,
                gap_ns=9 * MS,
                gap_from_ns=300 * MS,
                latency_ns=900_000,
            ),
        ),
        gap_ns=14 * MS,
        complete_ns=100 * MS,
        clear_ns=38 * MS,
        foreign={"arrived": 40_000, "delivered": 340, "dropped": 39_660},
        drops={"not_memalloc": 39_660},
        block_drops={},
        low_water={"free": 41, "ring": 62, "capacity": 9},
        holdings=(
            Holding(
                holder="block_sockets", page_ns=21_000 * MS, longest_ns=4 * MS, packets=9_020, at_end_pages=0
            ),
        ),
        milestones=(
            _milestone(95, "min_reached", "programs wait for reclaim", free_pages=171),
            _milestone(
                121, "reserve_entered", "the first packet is taken from the reserve", reserve_out_pages=1
            ),
            _milestone(122, "discarded", "the first packet of others is dropped, its page given back"),
            _milestone(2000, "storm_over", "the storm is over", free_pages=60),
            _milestone(2100, "last_completion", "the last request completes", completed=11_200),
        ),
    )


def _simulated(run: Run, claim: str, expected: str | None, k: int, others: tuple[Run, ...]) -> Simulated:
    return Simulated(
        case=run.case,
        claim=claim,
        arm=run.arm,
        design=run.design,
        expected=expected,
        met=None if expected is None else expected == run.word.value,
        word=run.word,
        k=k,
        n=len(others) + 1,
        runs=(*(replace(one, samples=()) for one in others[:1]), run, *others[1:]),
    )


def stuck() -> Simulated:
    """As expected, and a first seed that only had luck."""
    lucky = replace(lucky_run(), seed=6, arm="bare", design="bare")
    later = replace(stuck_run(8), samples=())
    return _simulated(
        stuck_run(),
        "Without a reserve, swap over NBD deadlocks under foreign traffic",
        "STUCK",
        2,
        (lucky, later),
    )


def lucky() -> Simulated:
    """Nothing was expected."""
    return _simulated(lucky_run(), "Dropping packets at random lets block IO through", None, 1, ())


def seen() -> Simulated:
    """Not what the case expects."""
    return _simulated(seen_run(), "The mail's whole text keeps block IO going", "STUCK", 1, ())


def hostile() -> Simulated:
    """Every text of a case file that can reach a report."""
    run = stuck_run()
    named = replace(
        run,
        case=HOSTILE,
        arm=HOSTILE,
        design=HOSTILE,
        reason=HOSTILE,
        users=(replace(run.users[0], name=HOSTILE),),
        holdings=tuple(replace(one, holder=HOSTILE) for one in run.holdings),
        milestones=tuple(
            replace(one, text=HOSTILE, facts={HOSTILE: 3} | one.facts) for one in run.milestones
        ),
        low_water={"free": 0, HOSTILE: 1},
        foreign={HOSTILE: 5} | run.foreign,
        drops={HOSTILE: 7},
        steps={HOSTILE: 9},
        holders=tuple(HOSTILE if name == "softnet" else name for name in run.holders),
    )
    return replace(
        stuck(), case=HOSTILE, claim=HOSTILE, arm=HOSTILE, design=HOSTILE, expected=HOSTILE, runs=(named,)
    )


def bare() -> Simulated:
    """A run that says as little as the types allow."""
    run = replace(
        seen_run(),
        users=(),
        low_water={},
        foreign={},
        drops={},
        holdings=(),
        milestones=(),
        steps={},
        holders=(),
        samples=(),
        reserve_pages=0,
    )
    return replace(seen(), runs=(run,), expected=None, met=None)


ALL = [stuck, lucky, seen]
EVERY = [*ALL, hostile, bare]


def compared() -> Compared:
    """Rows as `compare` orders them, worst last."""

    def row(design: str, word: Word, k: int, **changes: object) -> Row:
        base = Row(
            design=design,
            word=word,
            k=k,
            n=20,
            reserve_pages=48,
            searched_pages=1024,
            free_low_pages=41,
            foreign_lost_percent=99.15,
            complete_ns=100 * MS,
            pinned_pages=0,
            clear_ns=38 * MS,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    return Compared(
        case="swap-over-nbd",
        claim="Which of the proposals of 2005 survives, and at what price",
        n=20,
        reserve_pages=64,
        rows=(
            row("mail", Word.SEEN, 20),
            row("mempool", Word.SEEN, 20, pinned_pages=96, reserve_pages=96, clear_ns=0),
            row("random_drop", Word.LUCKY, 3, reserve_pages=None, complete_ns=2600 * MS),
            row(
                "bare",
                Word.STUCK,
                20,
                reserve_pages=None,
                searched_pages=0,
                free_low_pages=0,
                complete_ns=None,
                clear_ns=None,
            ),
        ),
    )


def cases() -> Cases:
    """One case in order, one whose judges differ, one that was never run."""

    def arm(name: str, **changes: object) -> CaseArm:
        base = CaseArm(
            name=name,
            design=name,
            expected={"simulate": "STUCK", "prove": "STUCK"},
            found={"simulate": "STUCK", "prove": "STUCK"},
            k=20,
            n=20,
            stale=False,
            agrees=True,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    seen = {"simulate": "SEEN", "prove": "HOLDS"}
    return Cases(
        cases=(
            CaseState(
                name="swap-over-nbd",
                claim="Without a reserve, swap over NBD deadlocks under foreign traffic",
                source="mail of August 2005",
                finding="D1",
                arms=(arm("bare"), arm("mail", expected=seen, found=seen, stale=True)),
            ),
            CaseState(
                name="random-drop",
                claim="Dropping at random is not needed",
                source="mail of August 2005, on Andrea's proposal",
                finding="",
                arms=(
                    arm("random_drop", found={"simulate": "SEEN", "prove": "STUCK"}, k=18, agrees=False),
                    arm("drop_throttle", found={}, k=None, n=None, agrees=None),
                ),
            ),
        ),
        disagreements=1,
        stale=1,
        missing=1,
    )
