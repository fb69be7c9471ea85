"""The throttle: no block request is admitted before its worst withdrawal is accounted for.

The mail of August 2005: "the throttling _must_ take place higher up, in the block IO stack. The block driver that
submits the network IO must pre-account any per-request resources and block until sufficient resources become
available. So the accounting would include both space for transmit and acknowledge".

A request is admitted once, at the top of the stack, for all layers below together, before any lock or page is taken;
what it causes further down (a mirror's legs, retries, resends) runs on the same ticket. Two layers that each admit
for themselves can each hold what the other waits for; one ticket cannot.

**Who comes next.** Each user keeps a minimum, its largest request; what is left of the capacity is shared.

- A user's own requests are admitted in the order in which they came.
- What fits the rest of the user's own minimum is admitted at once, whoever else waits: nobody loses by it.
- What needs shared pages is served in the order in which it came, all users together. While the oldest waits,
  nothing younger takes shared pages, however small it is.
- A newcomer goes before all requests: it has no minimum yet, and a request that waits for its own user's slow server
  would keep it out.

*Nobody starves*, given that admitted requests end. While a newcomer or the oldest request waits for shared
pages, nothing is admitted beyond the minima, so what is lent only comes back until the claim fits: a newcomer because
all minima together fit the capacity, a request at the latest when the user's own have ended, for none is larger than
the largest that the user named. A user whose requests do not end (a slow server) holds its minimum and shared pages
for ever; the others still have their minima.

*No wake-up is lost*, because nothing is woken to look again: pages that come back are handed to the claim that is
next, in the same call, until the next claim does not fit. After every call each waiting head does not fit. So a
request that needs shared pages may be admitted without queueing only if nothing waits at all.

`capacity_pages` is what the throttle may promise, at any moment at least the sum of all needs and fixed parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

Grant = Callable[["Ticket"], None]


class Refused(Exception):
    """It will never fit, so it does not wait: split it, or grow the reserve."""

    def __init__(self, user: str, asked_pages: int, room_pages: int, what: str) -> None:
        self.user, self.asked_pages, self.room_pages = user, asked_pages, room_pages
        super().__init__(f"{user}: {what} of {asked_pages} pages; there is room for {room_pages}")


class LayerLied(AssertionError):
    """A layer withdrew more than it had said. Names the layer."""

    def __init__(self, layer: str, ticket: Ticket, pages: int, why: str) -> None:
        self.layer, self.ticket, self.pages = layer, ticket, pages
        super().__init__(
            f"{layer} withdraws {pages} pages {why} (user {ticket.user}: need {ticket.need_pages} pages, "
            f"{ticket.withdrawn_pages} out)"
        )


class Ticket:
    """One admitted request, or what is fixed for one user. Only the ledger changes it."""

    __slots__ = (
        "ended",
        "grant",
        "need_pages",
        "order",
        "out",
        "released",
        "shares",
        "user",
        "withdrawn_pages",
    )

    def __init__(
        self, user: str, need_pages: int, grant: Grant | None, shares: Mapping[str, int] | None, order: int
    ) -> None:
        self.user = user
        self.need_pages = need_pages
        self.withdrawn_pages = 0
        self.ended = False  # the request has ended; pages may still be out
        self.released = False  # and nothing is out: its pages are promised to others
        self.shares = shares  # pages by layer, where the layers are told apart
        self.out: dict[str, int] = {}  # withdrawn by layer, kept where there are shares
        self.grant = grant  # whom to tell, while it waits
        self.order = order  # of arrival, among those that waited


class _Holder:
    """One user as the ledger knows it."""

    __slots__ = (
        "admitted_pages",
        "fixed_pages",
        "joined",
        "leaving",
        "minimum_pages",
        "name",
        "standing",
        "waiting",
    )

    def __init__(self, name: str, fixed_pages: int, minimum_pages: int, standing: Ticket) -> None:
        self.name = name
        self.fixed_pages = fixed_pages
        self.minimum_pages = minimum_pages  # of its largest request; 0 when it leaves
        self.standing = standing
        self.admitted_pages = 0  # sum of the needs of its tickets, the standing one not included
        self.joined = False  # its fixed part and minimum are accounted for
        self.leaving = False
        self.waiting: deque[Ticket] = deque()

    def beyond(self, need_pages: int) -> int:
        """How much of one more need would be shared pages."""
        over = self.admitted_pages + need_pages - self.minimum_pages
        return 0 if over <= 0 else min(over, need_pages)


class Ledger:
    """What is promised of the reserve, to whom, and who waits. Times nothing, allocates no pages."""

    __slots__ = (
        "_arrivals", "_handing_out", "_holders", "_limit_pages", "_reached", "_waiting", "capacity_pages",
        "committed_pages", "target_pages",
    )  # fmt: skip

    def __init__(self, capacity_pages: int) -> None:
        assert capacity_pages >= 0, capacity_pages
        self.capacity_pages = capacity_pages
        self.target_pages = capacity_pages  # below the capacity while a shrink waits
        self.committed_pages = 0  # fixed parts, and for each user its needs or its minimum, the larger
        self._limit_pages = capacity_pages  # up to where shared pages and newcomers are admitted
        self._holders: dict[str, _Holder] = {}
        self._arrivals = 0
        self._waiting = 0  # requests and newcomers
        self._handing_out = False
        self._reached: Callable[[int], None] | None = None

    def connect(
        self, user: str, fixed_pages: int, largest_pages: int, grant: Grant | None = None
    ) -> Ticket | None:
        """Accounts for a user: its fixed part, and one largest request as its minimum.

        Returns the standing ticket, on which messages that nobody asked for are withdrawn; it ends with `disconnect`.
        Raises Refused when the user would never fit beside the others. Where it fits but shared pages are lent out, it
        waits, before all requests: None, and `grant` gets the ticket; without `grant` it is refused. Requests that are
        admitted meanwhile wait behind it. The receive ring can be a user of its own, without requests (largest 0).
        """
        assert user not in self._holders, f"{user} is connected, or has not quite left"
        assert fixed_pages >= 0, fixed_pages
        assert largest_pages >= 0, largest_pages
        asked = fixed_pages + largest_pages
        room = min(self.capacity_pages, self.target_pages) - self._floor_pages()
        if asked > room:
            raise Refused(user, asked, max(0, room), "a fixed part and a largest request")
        first = all(holder.joined for holder in self._holders.values())
        at_once = first and self.committed_pages + asked <= self._limit_pages
        if not at_once and grant is None:
            raise Refused(
                user, asked, max(0, self._limit_pages - self.committed_pages), "a connection that cannot wait"
            )
        self._arrivals += 1
        standing = Ticket(user, fixed_pages, None if at_once else grant, None, self._arrivals)
        holder = self._holders[user] = _Holder(user, fixed_pages, largest_pages, standing)
        if (
            at_once
        ):  # the limit stays: while a shrink waits, the floor is below its target, or `room` is negative
            self._join(holder)
            return standing
        self._waiting += 1
        return None

    def admit(
        self,
        user: str,
        need_pages: int,
        grant: Grant,
        *,
        shares: Mapping[str, int] | None = None,
        parent: Ticket | None = None,
    ) -> Ticket | None:
        """A ticket for all that a request needs, or None: then it is queued, and `grant` gets the ticket, once.

        A child, retry or resend names its `parent` and gets the parent's ticket; only the one at the top ends it.
        With `shares` (need.stack_shares()) each layer is held to its own part. Raises Refused when the need is larger
        than the user's largest: queued, it might wait for ever.
        """
        if parent is not None:
            assert not parent.released, f"{user}: the parent's request is over"
            return parent
        ticket = self._at_once(user, need_pages, shares)
        if ticket is None:
            self._arrivals += 1
            self._waiting += 1
            self._holders[user].waiting.append(Ticket(user, need_pages, grant, shares, self._arrivals))
        return ticket

    def try_admit(
        self,
        user: str,
        need_pages: int,
        *,
        shares: Mapping[str, int] | None = None,
        parent: Ticket | None = None,
    ) -> Ticket | None:
        """As `admit`, but None means no: nothing is queued, and nobody is told later.

        For a caller that must not sleep, such as kswapd. It overtakes nobody, and so may never get its turn while
        others of the same user queue: the caller has to ask again when something of its own has ended.
        """
        if parent is not None:
            assert not parent.released, f"{user}: the parent's request is over"
            return parent
        return self._at_once(user, need_pages, shares)

    def withdraw(self, ticket: Ticket, pages: int, layer: str) -> None:
        """A layer takes pages on a ticket. LayerLied, and nothing changed, where the need does not cover it."""
        assert pages >= 0, pages
        if ticket.released:
            raise LayerLied(layer, ticket, pages, "after the request has ended")
        out = ticket.withdrawn_pages + pages
        if out > ticket.need_pages:
            raise LayerLied(layer, ticket, pages, "beyond the need")
        if ticket.shares is not None:
            by_layer = ticket.out.get(layer, 0) + pages
            share = ticket.shares.get(layer, 0)
            if by_layer > share:
                raise LayerLied(layer, ticket, pages, f"beyond its share of {share}")
            ticket.out[layer] = by_layer
        ticket.withdrawn_pages = out

    def give_back(self, ticket: Ticket, pages: int, layer: str = "") -> None:
        """Pages come back. With shares, `layer` is the one that withdrew them. May hand out tickets to others."""
        assert 0 <= pages <= ticket.withdrawn_pages, (ticket.user, pages, ticket.withdrawn_pages)
        if ticket.shares is not None:
            assert pages <= ticket.out.get(layer, 0), (ticket.user, layer, pages, ticket.out)
            ticket.out[layer] -= pages
        ticket.withdrawn_pages -= pages
        if ticket.ended and not ticket.withdrawn_pages:
            self._release(ticket)

    def end(self, ticket: Ticket) -> None:
        """The request has ended. The ticket is over when nothing is out either. May hand out tickets to others."""
        assert not ticket.ended, f"{ticket.user}: a request ends once"
        ticket.ended = True
        if not ticket.withdrawn_pages:
            self._release(ticket)

    def disconnect(self, user: str) -> tuple[Grant, ...]:
        """The user leaves: nothing more is admitted. Returns the grants that will not come, for the caller to fail.

        The minimum is shared from now on; the fixed part comes back when the last ticket is over and nothing is out on
        the standing one.
        """
        holder = self._holders[user]
        assert not holder.leaving, f"{user} leaves already"
        holder.leaving = True
        waited = list(holder.waiting) if holder.joined else [holder.standing, *holder.waiting]
        self._waiting -= len(waited)
        holder.waiting.clear()
        if holder.joined:
            self.committed_pages -= max(0, holder.minimum_pages - holder.admitted_pages)
            holder.minimum_pages = 0
        assert not holder.standing.ended, f"{user}: what is fixed ends with disconnect"
        holder.standing.ended = True
        self._set_limit()
        self._leave_if_done(holder)
        self._settle()
        return tuple(ticket.grant for ticket in waited if ticket.grant is not None)

    def resize(self, capacity_pages: int, reached: Callable[[int], None] | None = None) -> None:
        """adjust_memalloc_reserve(): more counts at once, less when what is promised fits.

        The caller grows only when the pages are really free. While a shrink waits, shared pages are admitted no
        further than to the new size; one below what the users were told they can have waits until some have left.
        `reached` is told the size when it counts. A later call replaces an earlier one.
        """
        assert capacity_pages >= 0, capacity_pages
        self.target_pages = capacity_pages
        self.capacity_pages = max(self.capacity_pages, capacity_pages)
        self._reached = reached
        self._set_limit()
        self._settle()

    def users(self) -> tuple[str, ...]:
        """Everybody whose fixed part is charged or waits to be, those that leave included."""
        return tuple(self._holders)

    def waiting(self, user: str) -> int:
        """How many requests of a user wait."""
        return len(self._holders[user].waiting)

    def invariant(self) -> None:
        """Asserts: needs and fixed parts fit the capacity; the sums are right; no waiting head would fit."""
        holders = self._holders.values()
        joined = [holder for holder in holders if holder.joined]
        fixed = sum(holder.fixed_pages for holder in joined)
        needs = sum(holder.admitted_pages for holder in joined)
        promised = sum(max(holder.admitted_pages, holder.minimum_pages) for holder in joined)
        assert all(holder.admitted_pages >= 0 for holder in joined), "a ticket was released twice"
        assert fixed + needs <= self.capacity_pages, (fixed, needs, self.capacity_pages)
        assert fixed + promised == self.committed_pages, (fixed, promised, self.committed_pages)
        assert self.committed_pages <= self.capacity_pages, (self.committed_pages, self.capacity_pages)
        assert self._floor_pages() <= self.capacity_pages, (self._floor_pages(), self.capacity_pages)
        newcomers = sum(not holder.joined for holder in holders)
        assert self._waiting == newcomers + sum(len(holder.waiting) for holder in holders), self._waiting
        assert self._handing_out or self._next() is None, "a claim that fits still waits"

    def _at_once(self, user: str, need_pages: int, shares: Mapping[str, int] | None) -> Ticket | None:
        """A ticket for a request that has just come, where nobody older is passed by it."""
        holder = self._holders[user]
        assert not holder.leaving, f"{user} has left"
        assert need_pages > 0, need_pages
        if need_pages > holder.minimum_pages:
            raise Refused(user, need_pages, holder.minimum_pages, "a request")
        if holder.waiting or not holder.joined:
            return None
        beyond = holder.beyond(need_pages)
        if beyond:
            if self._waiting or self.committed_pages + beyond > self._limit_pages:
                return None
            self.committed_pages += beyond
        holder.admitted_pages += need_pages
        return Ticket(user, need_pages, None, shares, 0)

    def _join(self, holder: _Holder) -> None:
        holder.joined = True
        self.committed_pages += holder.fixed_pages + holder.minimum_pages

    def _release(self, ticket: Ticket) -> None:
        holder = self._holders[ticket.user]
        if ticket is not holder.standing:
            ticket.released = True
            holder.admitted_pages -= ticket.need_pages
            self.committed_pages -= holder.beyond(ticket.need_pages)
        if holder.leaving:
            self._leave_if_done(holder)
        if self._waiting or self.target_pages < self.capacity_pages:
            self._settle()

    def _leave_if_done(self, holder: _Holder) -> None:
        if holder.admitted_pages or holder.standing.withdrawn_pages:
            return
        holder.standing.released = True
        if holder.joined:
            self.committed_pages -= holder.fixed_pages
        del self._holders[holder.name]
        self._set_limit()

    def _floor_pages(self) -> int:
        """Fixed parts and minima of all, newcomers that wait included: what they were told they can have."""
        return sum(holder.fixed_pages + holder.minimum_pages for holder in self._holders.values())

    def _set_limit(self) -> None:
        # A shrink never goes below what users were told: a newcomer that waits would wait for the shrink, and the
        # shrink for the newcomer.
        self._limit_pages = min(self.capacity_pages, max(self.target_pages, self._floor_pages()))

    def _settle(self) -> None:
        """Hands out what fits, in order, then shrinks if that is due.

        A grant may call the ledger again, and so come back here: the outer call goes on where the inner one left.
        """
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while (ticket := self._next()) is not None:
                self._hand_out(ticket)
        finally:
            self._handing_out = False
        if (
            self.target_pages < self.capacity_pages
            and self._limit_pages == self.target_pages >= self.committed_pages
        ):
            self.capacity_pages = self.target_pages
        if self._reached is not None and self.capacity_pages == self.target_pages:
            reached, self._reached = self._reached, None
            reached(self.capacity_pages)

    def _next(self) -> Ticket | None:
        """The next waiting claim that may be served now."""
        heads = [
            (holder.waiting[0] if holder.joined else holder.standing, holder)
            for holder in self._holders.values()
            if holder.waiting or not holder.joined
        ]
        heads.sort(key=lambda head: (head[1].joined, head[0].order))
        passed = False  # a claim that comes first waits for shared pages
        for ticket, holder in heads:
            if holder.joined:
                beyond = holder.beyond(ticket.need_pages)
            else:
                beyond = holder.fixed_pages + holder.minimum_pages
            if not beyond or (not passed and self.committed_pages + beyond <= self._limit_pages):
                return ticket
            passed = True
        return None

    def _hand_out(self, ticket: Ticket) -> None:
        holder = self._holders[ticket.user]
        if ticket is holder.standing:
            self._join(holder)
        else:
            holder.waiting.popleft()
            self.committed_pages += holder.beyond(ticket.need_pages)
            holder.admitted_pages += ticket.need_pages
        self._waiting -= 1
        grant, ticket.grant = ticket.grant, None
        if grant is not None:
            grant(ticket)
