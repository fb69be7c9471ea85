from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.need import Mirror, Nbd, Nic, Request, Tcp, stack_need, stack_shares
from tidegate.sim.throttle import Grant, LayerLied, Ledger, Refused, Ticket


def nobody(ticket: Ticket) -> None:
    pytest.fail(f"{ticket.user} was to be admitted at once")


def take(ledger: Ledger, user: str, pages: int) -> Ticket:
    ticket = ledger.admit(user, pages, nobody)
    assert ticket is not None
    return ticket


# ---- admission --------------------------------------------------------------------------------------------------


def test_a_request_that_fits_is_admitted_at_once() -> None:
    ledger = Ledger(10)
    ledger.connect("swap", 2, 4)
    ticket = take(ledger, "swap", 4)
    assert (ticket.user, ticket.need_pages, ticket.withdrawn_pages) == ("swap", 4, 0)
    ledger.invariant()


def test_all_or_nothing_and_the_wake_up_comes_with_the_pages() -> None:
    ledger, granted = Ledger(6), list[Ticket]()
    ledger.connect("swap", 0, 6)
    first = take(ledger, "swap", 4)
    assert ledger.admit("swap", 3, granted.append) is None
    ledger.withdraw(first, 4, "tcp")
    ledger.end(first)
    assert granted == []  # ended, but its pages are still out
    ledger.give_back(first, 3)
    assert granted == []
    ledger.give_back(first, 1)
    assert [ticket.need_pages for ticket in granted] == [3]
    ledger.invariant()


def test_one_return_wakes_everybody_whom_it_fits() -> None:
    ledger, granted = Ledger(6), list[int]()
    ledger.connect("swap", 0, 6)
    first = take(ledger, "swap", 6)
    for pages in (1, 2, 3, 1):
        assert ledger.admit("swap", pages, lambda ticket: granted.append(ticket.need_pages)) is None
    ledger.end(first)
    assert granted == [1, 2, 3]
    assert ledger.waiting("swap") == 1
    ledger.invariant()


def test_a_small_request_does_not_overtake_a_large_one_of_the_same_user() -> None:
    ledger, granted = Ledger(6), list[int]()
    ledger.connect("swap", 0, 6)
    first = take(ledger, "swap", 4)
    assert ledger.admit("swap", 5, lambda ticket: granted.append(ticket.need_pages)) is None
    assert ledger.admit("swap", 1, lambda ticket: granted.append(ticket.need_pages)) is None
    assert ledger.try_admit("swap", 1) is None
    ledger.end(first)
    assert granted == [5, 1]


def test_a_small_request_does_not_overtake_a_large_one_of_another_user_on_shared_pages() -> None:
    ledger, granted = Ledger(10), list[str]()
    ledger.connect("a", 0, 4)
    ledger.connect("b", 0, 1)
    held = [take(ledger, "a", 4), take(ledger, "b", 1)]
    beyond = take(ledger, "b", 1)  # five pages are shared: four left
    assert ledger.admit("a", 4, lambda ticket: granted.append("a")) is not None
    assert ledger.admit("a", 4, lambda ticket: granted.append("a")) is None
    assert ledger.admit("b", 1, lambda ticket: granted.append("b")) is None
    ledger.end(beyond)
    # One shared page is free. It would do for b; but a came first, and is not passed.
    assert granted == []
    assert ledger.try_admit("b", 1) is None
    ledger.end(held[0])
    assert granted == ["a", "b"]
    ledger.invariant()


def test_a_grant_may_end_its_request_and_submit_the_next() -> None:
    ledger, done = Ledger(2), list[int]()
    ledger.connect("swap", 0, 2)
    first = take(ledger, "swap", 2)

    def grant(ticket: Ticket) -> None:
        ledger.invariant()
        done.append(len(done))
        if len(done) < 2000:  # deeper than Python's stack: an inner call leaves the work to the outer one
            assert ledger.admit("swap", 2, grant) is None
        ledger.end(ticket)
        ledger.invariant()

    assert ledger.admit("swap", 2, grant) is None
    assert ledger.admit("swap", 1, grant) is None
    ledger.end(first)
    assert len(done) >= 2000
    assert ledger.waiting("swap") == 0
    ledger.invariant()


def test_pages_that_come_and_go_do_not_end_a_request() -> None:
    ledger = Ledger(3)
    ledger.connect("swap", 0, 3)
    ticket = take(ledger, "swap", 3)
    for _ in range(3):  # sent, acknowledged, sent again
        ledger.withdraw(ticket, 3, "tcp")
        ledger.give_back(ticket, 3)
    assert not ticket.released
    assert ledger.try_admit("swap", 1) is None
    ledger.end(ticket)
    ledger.invariant()
    assert ledger.try_admit("swap", 1) is not None


def test_what_must_not_sleep_is_not_queued() -> None:
    ledger = Ledger(4)
    ledger.connect("swap", 0, 4)
    first = ledger.try_admit("swap", 3)
    assert first is not None
    assert ledger.try_admit("swap", 2) is None
    assert ledger.waiting("swap") == 0
    ledger.end(first)
    assert ledger.try_admit("swap", 2) is not None


@pytest.mark.parametrize("capacity_pages", [8, 800])
def test_an_oversized_request_is_refused_at_once_with_the_number(capacity_pages: int) -> None:
    ledger = Ledger(capacity_pages)
    ledger.connect("swap", 2, 6)
    with pytest.raises(Refused, match="swap: a request of 7 pages; there is room for 6") as refused:
        ledger.admit("swap", 7, nobody)
    assert (refused.value.asked_pages, refused.value.room_pages) == (7, 6)
    with pytest.raises(Refused):
        ledger.try_admit("swap", 7)
    assert ledger.waiting("swap") == 0
    take(ledger, "swap", 6)  # split, it fits


# ---- two layers that admit for themselves -----------------------------------------------------------------------


class PerLayer:
    """What the mail forbids: each layer takes from the pool when it gets there, and waits holding what it has."""

    def __init__(self, capacity_pages: int) -> None:
        self.free_pages = capacity_pages
        self.queue: deque[tuple[int, Callable[[], None]]] = deque()

    def take(self, pages: int, then: Callable[[], None]) -> None:
        self.queue.append((pages, then))
        self.pump()

    def give(self, pages: int) -> None:
        self.free_pages += pages
        self.pump()

    def pump(self) -> None:
        while self.queue and self.queue[0][0] <= self.free_pages:
            pages, then = self.queue.popleft()
            self.free_pages -= pages
            then()


def test_two_layers_that_each_admit_wedge_and_one_ticket_at_the_top_does_not() -> None:
    upper_pages, lower_pages, capacity_pages = 2, 2, 4
    done: list[str] = []

    pool, lower = PerLayer(capacity_pages), list[Callable[[], None]]()

    def finish(name: str) -> Callable[[], None]:
        def then() -> None:
            done.append(name)
            pool.give(upper_pages + lower_pages)

        return then

    for name in ("one", "two"):  # both are through the upper layer before either gets to the lower
        pool.take(upper_pages, lambda name=name: lower.append(finish(name)))  # type: ignore[misc]
    for then in lower:
        pool.take(lower_pages, then)
    assert len(lower) == 2
    assert done == []
    assert pool.free_pages == 0  # each holds what the other waits for

    ledger = Ledger(capacity_pages)
    ledger.connect("swap", 0, upper_pages + lower_pages)
    running: list[Ticket] = []
    for _ in ("one", "two"):
        ticket = ledger.admit("swap", upper_pages + lower_pages, running.append)
        if ticket is not None:
            running.append(ticket)
    while running:
        ticket = running.pop(0)
        ledger.withdraw(ticket, upper_pages, "crypt")
        child = ledger.admit("swap", lower_pages, nobody, parent=ticket)
        assert child is ticket
        ledger.withdraw(child, lower_pages, "tcp")
        ledger.give_back(ticket, upper_pages + lower_pages)
        done.append("one ticket")
        ledger.end(ticket)
    assert done == ["one ticket"] * 2


def test_a_child_a_retry_and_a_resend_use_the_parents_ticket() -> None:
    ledger = Ledger(3)
    ledger.connect("swap", 0, 3)
    parent = take(ledger, "swap", 3)
    assert ledger.admit("swap", 2, nobody, parent=parent) is parent
    assert ledger.try_admit("swap", 999, parent=parent) is parent
    ledger.withdraw(parent, 1, "tcp")
    ledger.end(parent)
    assert ledger.admit("swap", 1, nobody, parent=parent) is parent  # a page is out: not over yet
    ledger.give_back(parent, 1)
    with pytest.raises(AssertionError, match="over"):
        ledger.admit("swap", 1, nobody, parent=parent)
    with pytest.raises(AssertionError, match="over"):
        ledger.try_admit("swap", 1, parent=parent)


# ---- users beside each other ------------------------------------------------------------------------------------


def test_a_slow_user_does_not_starve_a_fast_one() -> None:
    ledger, granted = Ledger(20), list[Ticket]()
    ledger.connect("slow", 1, 4)
    ledger.connect("fast", 1, 3)
    held = 0
    while ledger.admit("slow", 4, granted.append) is not None:
        held += 1
    for _ in range(100):  # its server is silent: it queues without end, and ends nothing
        assert ledger.admit("slow", 4, granted.append) is None
    assert held == 3  # its minimum, and two of the eleven shared pages' worth
    for _ in range(200):
        ticket = take(ledger, "fast", 3)
        ledger.withdraw(ticket, 3, "tcp")
        ledger.give_back(ticket, 3)
        ledger.end(ticket)
        ledger.invariant()
    assert granted == []  # and what is fast lends nothing of its minimum to what is slow
    assert ledger.waiting("slow") == 101


def test_a_queue_goes_on_within_its_users_minimum_while_an_older_claim_waits() -> None:
    ledger, done = Ledger(6), list[int]()
    ledger.connect("slow", 0, 3)
    ledger.connect("fast", 0, 2)
    take(ledger, "slow", 3)
    assert ledger.admit("slow", 3, nobody) is None  # for ever
    first = take(ledger, "fast", 2)

    def finish(ticket: Ticket) -> None:
        done.append(ticket.need_pages)
        ledger.end(ticket)

    assert [ledger.admit("fast", pages, finish) for pages in (2, 1, 2)] == [None] * 3
    ledger.end(first)
    assert done == [2, 1, 2]
    ledger.invariant()


def test_a_user_that_lends_shared_pages_does_not_hold_up_the_others_for_ever() -> None:
    """A busy user beside a large request: it is granted though shared pages come back one by one."""
    ledger, granted = Ledger(10), list[Ticket]()
    ledger.connect("busy", 0, 1)
    ledger.connect("large", 0, 4)
    running = deque(take(ledger, "busy", 1) for _ in range(6))
    own = take(ledger, "large", 4)
    assert ledger.admit("large", 4, granted.append) is None
    for turn in range(20):
        ledger.end(running.popleft())
        ticket = ledger.admit("busy", 1, running.append)
        if ticket is not None:
            running.append(ticket)
        ledger.invariant()
        if granted:
            break
    assert granted
    assert turn < 10
    ledger.end(own)


# ---- connecting, leaving, resizing ------------------------------------------------------------------------------


def test_a_user_that_can_never_fit_is_refused_with_the_number() -> None:
    ledger = Ledger(10)
    ledger.connect("one", 2, 4)
    with pytest.raises(Refused, match="of 5 pages; there is room for 4"):
        ledger.connect("two", 1, 4)
    assert ledger.users() == ("one",)
    ledger.connect("two", 1, 3)  # split
    ledger.invariant()


def test_a_newcomer_waits_for_pages_that_are_lent_out_and_is_not_passed() -> None:
    ledger, order = Ledger(10), list[str]()
    ledger.connect("one", 0, 2)
    running = [take(ledger, "one", 2) for _ in range(5)]
    with pytest.raises(Refused, match="cannot wait"):
        ledger.connect("two", 1, 3)
    assert ledger.connect("two", 1, 3, lambda ticket: order.append("two")) is None
    assert ledger.admit("one", 2, lambda ticket: order.append("one")) is None
    assert ledger.admit("two", 3, lambda ticket: order.append("two writes")) is None
    ledger.end(running.pop())
    assert order == []  # two pages: enough for one, but the newcomer came first
    ledger.end(running.pop())
    assert order == ["two", "two writes"]
    ledger.end(running.pop())
    assert order == ["two", "two writes", "one"]
    ledger.invariant()


def test_what_is_fixed_is_withdrawn_on_the_standing_ticket() -> None:
    ledger = Ledger(10)
    ring = ledger.connect("rx_ring", 4, 0)
    assert ring is not None
    ledger.withdraw(ring, 4, "nic")
    with pytest.raises(LayerLied, match="nic"):
        ledger.withdraw(ring, 1, "nic")
    with pytest.raises(Refused):
        ledger.admit("rx_ring", 1, nobody)
    ledger.give_back(ring, 4)
    ledger.withdraw(ring, 1, "nic")


def test_a_user_that_leaves_gives_back_what_is_fixed_when_its_last_ticket_is_over() -> None:
    ledger = Ledger(10)
    standing = ledger.connect("one", 3, 4)
    assert standing is not None
    ticket = take(ledger, "one", 4)
    ledger.withdraw(ticket, 2, "tcp")
    ledger.withdraw(standing, 1, "nic")
    assert ledger.disconnect("one") == ()
    with pytest.raises(AssertionError, match="left"):
        ledger.admit("one", 1, nobody)
    with pytest.raises(AssertionError, match="leaves already"):
        ledger.disconnect("one")
    ledger.end(ticket)
    assert ledger.committed_pages == 7
    ledger.give_back(ticket, 2)
    assert ledger.committed_pages == 3
    assert ledger.users() == ("one",)
    ledger.give_back(standing, 1)
    assert ledger.committed_pages == 0
    assert ledger.users() == ()
    with pytest.raises(LayerLied, match="ended"):
        ledger.withdraw(standing, 1, "nic")
    ledger.connect("one", 6, 4)  # it may come again


def test_a_user_that_leaves_names_the_grants_that_will_not_come_and_frees_its_minimum() -> None:
    ledger, granted = Ledger(6), list[str]()
    ledger.connect("one", 0, 4)
    ledger.connect("two", 0, 1)
    held = take(ledger, "one", 4)
    later: list[Grant] = [lambda ticket: granted.append("one"), lambda ticket: granted.append("one")]
    assert [ledger.admit("one", 4, grant) for grant in later] == [None, None]
    take(ledger, "two", 1)
    assert ledger.admit("two", 1, lambda ticket: granted.append("two")) is None
    assert ledger.disconnect("one") == tuple(later)
    assert granted == ["two"]  # the shared page that the first in the queue had waited for
    ledger.end(held)
    assert granted == ["two"]
    assert ledger.users() == ("two",)
    ledger.invariant()


def test_a_minimum_that_nobody_uses_is_shared_when_its_user_leaves() -> None:
    ledger, granted = Ledger(4), list[Ticket]()
    ledger.connect("one", 0, 2)
    ledger.connect("two", 0, 2)
    take(ledger, "one", 2)
    assert ledger.admit("one", 2, granted.append) is None
    ledger.disconnect("two")
    assert len(granted) == 1


def test_a_newcomer_that_leaves_before_it_was_let_in_leaves_nothing() -> None:
    ledger = Ledger(4)
    ledger.connect("one", 0, 2)
    take(ledger, "one", 2)
    lent = take(ledger, "one", 2)
    grants: list[Grant] = [lambda ticket: None, lambda ticket: None]
    assert ledger.connect("two", 1, 1, grants[0]) is None
    assert ledger.admit("two", 1, grants[1]) is None
    assert ledger.disconnect("two") == tuple(grants)
    ledger.end(lent)
    ledger.invariant()
    assert ledger.users() == ("one",)


def test_growing_counts_at_once_and_wakes() -> None:
    ledger, granted, sizes = Ledger(4), list[Ticket](), list[int]()
    ledger.connect("one", 0, 4)
    take(ledger, "one", 4)
    assert ledger.admit("one", 3, granted.append) is None
    ledger.resize(6, sizes.append)
    assert (granted, sizes, ledger.capacity_pages) == ([], [6], 6)
    ledger.resize(7, sizes.append)
    assert (len(granted), sizes) == (1, [6, 7])


def test_shrinking_waits_until_the_sum_fits_and_lends_nothing_meanwhile() -> None:
    ledger, granted, sizes = Ledger(10), list[Ticket](), list[int]()
    ledger.connect("one", 1, 3)
    running = [take(ledger, "one", 3) for _ in range(3)]
    ledger.resize(5, sizes.append)
    assert (ledger.capacity_pages, ledger.target_pages) == (10, 5)
    ledger.end(running.pop())
    assert ledger.try_admit("one", 2) is None  # it would fit the old size
    assert ledger.admit("one", 2, granted.append) is None
    ledger.end(running.pop())
    assert (ledger.capacity_pages, sizes, granted) == (5, [5], [])
    ledger.end(running.pop())
    assert len(granted) == 1
    ledger.invariant()


def test_a_shrink_below_the_minima_waits_until_a_user_leaves() -> None:
    ledger, sizes = Ledger(10), list[int]()
    ledger.connect("one", 1, 3)
    ledger.connect("two", 1, 3)
    ledger.resize(4, sizes.append)
    assert sizes == []
    with pytest.raises(Refused):
        ledger.connect("three", 0, 1)
    ledger.end(take(ledger, "one", 3))  # both go on
    ticket = take(ledger, "two", 3)
    ledger.disconnect("two")
    assert sizes == []
    ledger.end(ticket)
    assert (sizes, ledger.capacity_pages) == ([4], 4)


def test_a_shrink_counts_as_soon_as_a_minimum_is_given_up() -> None:
    ledger, sizes = Ledger(10), list[int]()
    ledger.connect("one", 1, 3)
    ledger.connect("two", 1, 3)
    take(ledger, "two", 1)
    ledger.resize(6, sizes.append)
    assert sizes == []
    ledger.disconnect("two")  # one has 4 pages, of two 1 is fixed and 1 in flight
    assert (sizes, ledger.users()) == ([6], ("one", "two"))


def test_a_newcomer_and_a_shrink_do_not_wait_for_each_other() -> None:
    ledger, joined, sizes = Ledger(10), list[Ticket](), list[int]()
    ledger.connect("one", 0, 3)
    lent = [take(ledger, "one", 3) for _ in range(3)]
    assert ledger.connect("two", 1, 3, joined.append) is None
    ledger.resize(6, sizes.append)
    ledger.end(lent.pop())
    assert ledger.committed_pages == 6  # the shrink would fit, were it not for the newcomer
    assert (joined, sizes) == ([], [])
    ledger.end(lent.pop())
    assert len(joined) == 1  # it was told that it fits
    assert (sizes, ledger.capacity_pages) == ([], 10)
    ledger.disconnect("two")
    assert (sizes, ledger.capacity_pages) == ([6], 6)


def test_a_newcomer_does_not_wait_for_a_request_of_a_slow_user() -> None:
    ledger, joined, granted = Ledger(10), list[Ticket](), list[Ticket]()
    ledger.connect("slow", 0, 6)
    take(ledger, "slow", 6)
    assert ledger.admit("slow", 6, granted.append) is None  # for ever: nothing of it ends
    assert ledger.connect("two", 1, 2) is not None
    lent = take(ledger, "two", 2)
    assert ledger.connect("three", 0, 1, joined.append) is not None
    ledger.invariant()
    ledger.end(lent)
    ledger.disconnect("three")
    assert (joined, granted) == ([], [])


def test_newcomers_come_one_after_the_other_and_before_requests() -> None:
    ledger, order = Ledger(10), list[str]()
    ledger.connect("one", 0, 2)
    running = [take(ledger, "one", 2) for _ in range(5)]
    assert ledger.admit("one", 1, lambda ticket: order.append("one")) is None
    assert ledger.connect("large", 0, 4, lambda ticket: order.append("large")) is None
    assert ledger.connect("small", 0, 1, lambda ticket: order.append("small")) is None
    ledger.end(running.pop())
    assert order == []
    with pytest.raises(Refused, match="cannot wait"):
        ledger.connect("third", 0, 1)
    ledger.end(running.pop())
    assert order == ["large"]
    ledger.end(running.pop())
    assert order == ["large", "small", "one"]


def test_growing_again_cancels_a_shrink() -> None:
    ledger, sizes = Ledger(10), list[int]()
    ledger.connect("one", 0, 5)
    running = [take(ledger, "one", 5) for _ in range(2)]
    ledger.resize(5, sizes.append)
    ledger.resize(8, sizes.append)
    ledger.end(running.pop())
    assert (ledger.capacity_pages, sizes) == (8, [8])


# ---- layers that lie --------------------------------------------------------------------------------------------


def test_a_layer_that_withdraws_beyond_the_need_is_named() -> None:
    ledger = Ledger(10)
    ledger.connect("swap", 0, 3)
    ticket = take(ledger, "swap", 3)
    ledger.withdraw(ticket, 2, "tcp")
    with pytest.raises(LayerLied, match="nic withdraws 2 pages beyond the need") as lied:
        ledger.withdraw(ticket, 2, "nic")
    assert (lied.value.layer, lied.value.ticket, lied.value.pages) == ("nic", ticket, 2)
    assert ticket.withdrawn_pages == 2
    ledger.withdraw(ticket, 1, "nic")


def test_with_shares_the_layer_that_lied_is_named_and_not_the_one_that_comes_later() -> None:
    stack = (Mirror(legs=2), Nbd(), Tcp(), Nic(ring=4))
    request = Request(pages=1)
    need_pages, shares = stack_need(stack, request).total_pages, stack_shares(stack, request)
    ledger = Ledger(20)
    ledger.connect("swap", 0, need_pages)
    ticket = ledger.admit("swap", need_pages, nobody, shares=shares)
    assert ticket is not None
    ledger.withdraw(ticket, 4, "tcp")
    with pytest.raises(LayerLied, match="tcp withdraws 1 pages beyond its share of 4"):
        ledger.withdraw(ticket, 1, "tcp")
    with pytest.raises(LayerLied, match="nobody withdraws 1 pages beyond its share of 0"):
        ledger.withdraw(ticket, 1, "nobody")
    ledger.withdraw(ticket, 2, "nic")
    ledger.give_back(ticket, 2, "tcp")
    ledger.withdraw(ticket, 2, "tcp")  # a leg is tried again, on the same ticket
    with pytest.raises(AssertionError):
        ledger.give_back(ticket, 3, "nic")
    assert ticket.withdrawn_pages == 6


def test_a_withdrawal_after_the_end_is_a_lie_too() -> None:
    ledger = Ledger(4)
    ledger.connect("swap", 0, 4)
    ticket = take(ledger, "swap", 4)
    ledger.end(ticket)
    with pytest.raises(LayerLied, match="after the request has ended"):
        ledger.withdraw(ticket, 1, "tcp")
    with pytest.raises(AssertionError, match="ends once"):
        ledger.end(ticket)
    with pytest.raises(AssertionError):
        ledger.give_back(ticket, 1)


# ---- any order of calls -----------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


class AnyOrder(RuleBasedStateMachine):
    """Random calls; beside the ledger a record of what was asked and granted, kept by simpler means."""

    @initialize(capacity_pages=st.integers(4, 20), minima=st.lists(st.integers(1, 4), min_size=2, max_size=2))
    def start(self, capacity_pages: int, minima: list[int]) -> None:
        self.ledger = Ledger(capacity_pages)
        self.fixed: dict[str, int] = {}  # of users whose fixed part counts
        self.largest: dict[str, int] = {}  # of users that may ask
        self.standing: dict[str, Ticket] = {}
        self.live: list[Ticket] = []
        self.asked: dict[str, deque[int]] = {name: deque() for name in NAMES}
        self.joining: set[str] = set()
        for name, largest_pages in zip(NAMES, minima, strict=False):
            self.connect(name, 1, largest_pages)

    def granted(self, ticket: Ticket, *, eager: bool) -> None:
        assert self.asked[ticket.user].popleft() == ticket.need_pages  # first come first served
        self.live.append(ticket)
        if eager:
            self.over(ticket)

    def over(self, ticket: Ticket) -> None:
        if not ticket.ended:
            self.ledger.end(ticket)
        if ticket.released:
            self.live.remove(ticket)

    def join(self, name: str, fixed_pages: int, ticket: Ticket) -> None:
        self.joining.discard(name)
        self.fixed[name] = fixed_pages
        self.standing[name] = ticket

    @rule(name=st.sampled_from(NAMES), fixed_pages=st.integers(0, 3), largest_pages=st.integers(0, 6))
    def newcomer(self, name: str, fixed_pages: int, largest_pages: int) -> None:
        # Who asks for nothing is no user: while a shrink waits, even nothing is more than the room there is.
        if name not in self.ledger.users() and fixed_pages + largest_pages:
            self.connect(name, fixed_pages, largest_pages)

    def connect(self, name: str, fixed_pages: int, largest_pages: int) -> None:
        self.joining.add(name)
        try:
            ticket = self.ledger.connect(
                name, fixed_pages, largest_pages, lambda ticket: self.join(name, fixed_pages, ticket)
            )
        except Refused as refused:
            assert refused.asked_pages == fixed_pages + largest_pages > refused.room_pages  # noqa: PT017
            self.joining.discard(name)
            return
        self.largest[name] = largest_pages
        if ticket is not None:
            self.join(name, fixed_pages, ticket)

    @rule(data=st.data(), eager=st.booleans(), waits=st.booleans())
    @precondition(lambda self: self.largest)
    def submit(self, data: st.DataObject, eager: bool, waits: bool) -> None:
        self.admit(data, eager=eager, waits=waits)

    @rule(data=st.data(), turns=st.integers(2, 6))
    @precondition(lambda self: self.largest)
    def burst(self, data: st.DataObject, turns: int) -> None:
        for _ in range(turns):
            self.admit(data, eager=False, waits=True)

    def admit(self, data: st.DataObject, *, eager: bool, waits: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.largest)))
        pages = data.draw(st.integers(1, self.largest[name] + 1))
        idle = name not in self.joining and not any(ticket.user == name for ticket in self.live)
        idle = idle and not self.asked[name]
        try:
            if waits:
                ticket = self.ledger.admit(name, pages, lambda ticket: self.granted(ticket, eager=eager))
            else:
                ticket = self.ledger.try_admit(name, pages)
        except Refused:
            assert pages > self.largest[name]
            return
        assert pages <= self.largest[name]
        assert ticket is not None or not idle, "a user without requests has its minimum, whatever others do"
        if ticket is not None:
            assert not self.asked[name], "an older request of the same user waits"
            self.live.append(ticket)
        elif waits:
            self.asked[name].append(pages)

    @rule(data=st.data())
    @precondition(lambda self: self.live)
    def finish(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.live))
        if ticket.withdrawn_pages:
            self.give(ticket, ticket.withdrawn_pages)
        if not ticket.released:
            self.over(ticket)
        self.forget_the_gone()

    @rule(data=st.data(), pages=st.integers(1, 4), layer=st.sampled_from(("tcp", "nic")))
    @precondition(lambda self: self.live or self.standing)
    def withdraw(self, data: st.DataObject, pages: int, layer: str) -> None:
        ticket = data.draw(st.sampled_from([*self.live, *self.standing.values()]))
        before = ticket.withdrawn_pages
        if before + pages <= ticket.need_pages:
            self.ledger.withdraw(ticket, pages, layer)
            return
        with pytest.raises(LayerLied, match=layer):
            self.ledger.withdraw(ticket, pages, layer)
        assert ticket.withdrawn_pages == before

    @rule(data=st.data())
    @precondition(lambda self: self.live or self.standing)
    def give_back(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from([*self.live, *self.standing.values()]))
        if ticket.withdrawn_pages:
            self.give(ticket, data.draw(st.integers(1, ticket.withdrawn_pages)))

    def give(self, ticket: Ticket, pages: int) -> None:
        self.ledger.give_back(ticket, pages)
        assert not ticket.released or ticket.ended
        if ticket.released and ticket in self.live:
            self.live.remove(ticket)
        self.forget_the_gone()

    @rule(data=st.data())
    @precondition(lambda self: any(not ticket.ended for ticket in self.live))
    def end(self, data: st.DataObject) -> None:
        self.over(data.draw(st.sampled_from([ticket for ticket in self.live if not ticket.ended])))
        self.forget_the_gone()

    @rule(capacity_pages=st.integers(0, 24))
    def resize(self, capacity_pages: int) -> None:
        self.ledger.resize(capacity_pages)

    @rule(data=st.data())
    @precondition(lambda self: self.largest)
    def disconnect(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.largest)))
        newcomer = name in self.joining
        will_not_come = len(self.asked[name]) + newcomer
        del self.largest[name]
        self.joining.discard(name)
        self.asked[name].clear()
        assert len(self.ledger.disconnect(name)) == will_not_come
        self.forget_the_gone()

    def forget_the_gone(self) -> None:
        for name in set(self.fixed) - set(self.ledger.users()):
            assert not any(ticket.user == name for ticket in self.live), "left with a ticket"
            assert not self.standing[name].withdrawn_pages, "left with pages out"
            del self.fixed[name], self.standing[name]
        for name in self.fixed.keys() - self.largest.keys():
            out = self.standing[name].withdrawn_pages or any(ticket.user == name for ticket in self.live)
            assert out, f"{name} should be gone"

    @invariant()
    def holds(self) -> None:
        self.ledger.invariant()
        needs = sum(ticket.need_pages for ticket in self.live) + sum(self.fixed.values())
        assert needs <= self.ledger.capacity_pages
        for ticket in [*self.live, *self.standing.values()]:
            assert 0 <= ticket.withdrawn_pages <= ticket.need_pages
        for name in NAMES:
            if name in self.ledger.users():
                assert self.ledger.waiting(name) == len(self.asked[name])

    def teardown(self) -> None:
        """When what was admitted ends, everybody who waits gets their turn, and a shrink comes into force."""
        if not hasattr(self, "ledger"):
            return
        while self.live:
            ticket = self.live[0]
            if ticket.withdrawn_pages:
                self.give(ticket, ticket.withdrawn_pages)
            if not ticket.released:
                self.over(ticket)
            self.ledger.invariant()
        assert not any(self.asked.values()), "a request waits, and nothing is in flight"
        assert not self.joining, "a newcomer waits, and nothing is in flight"
        for name in list(self.largest):
            self.ledger.disconnect(name)
        for ticket in self.standing.values():
            if ticket.withdrawn_pages:
                self.ledger.give_back(ticket, ticket.withdrawn_pages)
        assert self.ledger.users() == ()
        assert self.ledger.committed_pages == 0
        assert self.ledger.capacity_pages == self.ledger.target_pages


AnyOrder.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, derandomize=True, report_multiple_bugs=False
)
TestAnyOrder = AnyOrder.TestCase
