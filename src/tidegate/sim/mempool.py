"""A pool of elements that were allocated beforehand (mm/mempool.c).

The reserve that "everybody thought ... is the one true way of reserving memory" (the mail of August 2005). An
allocation is tried in the ordinary way first; only when that fails is an element taken. What is freed refills the
pool before anything goes back to the zone, whether it came from the pool or not: "it doesn't actually matter which
socket buffer we return to the pool as long as we are sure to return the same amount of memory as we withdrew".

2.6.12 and 6.12 are alike in all that is modelled here, except how a sleeper is woken: see `mempool_timeout`. Both
add __GFP_NOMEMALLOC to the ordinary attempt (commit b84a35be0285, 2.6.12-rc4): a mempool never draws on the reserve
below the watermarks, so the `alloc` given to it must be one that does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Token = TypeVar("Token")  # whatever names an allocation: a page frame, a number of pages, an object


class Unfilled(Exception):
    """The elements of a new pool could not be allocated (mempool_create returns NULL)."""


class Mempool(Generic[Token]):
    """`min_elements` elements of 2^order pages each, pinned from the start.

    `alloc(order)` is the ordinary allocation, a token or None; `free(token)` returns one to the zone. Raises Unfilled,
    with nothing kept, where the elements cannot be had.

    Counts, all since the start: `ordinary` (allocations that needed no element), `from_pool`, `refused` (atomic
    callers who got nothing), `queued` (callers who had to sleep), `refilled` (frees that stayed in the pool),
    `returned` (frees that went back to the zone). `low_water` is the least number of elements there ever was.
    """

    __slots__ = (
        "_alloc", "_elements", "_free", "_waiters", "from_pool", "low_water", "min_elements", "order", "ordinary",
        "queued", "refilled", "refused", "returned",
    )  # fmt: skip

    def __init__(
        self,
        min_elements: int,
        order: int,
        alloc: Callable[[int], Token | None],
        free: Callable[[Token], None],
    ) -> None:
        assert min_elements > 0, min_elements
        assert order >= 0, order
        self.min_elements = min_elements
        self.order = order
        self._alloc = alloc
        self._free = free
        self._elements: list[Token] = []
        self._waiters: deque[Callable[[Token], None]] = deque()
        self.ordinary = self.from_pool = self.refused = self.queued = self.refilled = self.returned = 0
        self._grow()
        self.low_water = len(self._elements)
        if self.low_water < min_elements:
            made = self.low_water
            self.mempool_destroy()
            raise Unfilled(f"{made} of {min_elements} elements of order {order}")

    @property
    def elements(self) -> int:
        """Elements in the pool now (curr_nr)."""
        return len(self._elements)

    @property
    def pinned_pages(self) -> int:
        """Pages that lie in the pool: neither in use nor free. "It not only reserves resources, but pins them"."""
        return len(self._elements) << self.order

    @property
    def waiting(self) -> int:
        """Callers asleep in mempool_alloc."""
        return len(self._waiters)

    def mempool_alloc(self, may_wait: Callable[[Token], None] | None = None) -> Token | None:
        """An ordinary allocation, else an element; without either None.

        An atomic caller gives nothing and takes None as its answer. A caller that may wait gives the function that is
        to have its allocation later: None then means that it sleeps, and it never fails.
        """
        token = self._ordinary_or_element()
        if token is None and may_wait is not None:
            self._waiters.append(may_wait)
            self.queued += 1
        elif token is None:
            self.refused += 1
        return token

    def mempool_free(self, token: Token) -> None:
        """Refill the pool and wake who sleeps there, or return the allocation to the zone when the pool is full."""
        if len(self._elements) < self.min_elements:
            self._elements.append(token)
            self.refilled += 1
            self._wake_up()
        else:
            self.returned += 1
            self._free(token)

    def mempool_timeout(self) -> None:
        """Let the sleepers try again although nothing was freed to this pool.

        2.6.12 has no such thing: who sleeps in mempool_alloc sleeps until something is freed *to this pool*
        (io_schedule), however much of the zone has become free meanwhile. Since 2.6.18 a sleeper tries again every
        5 seconds (io_schedule_timeout(5*HZ)); the clock of the simulation calls this then.
        """
        self._wake_up()

    def mempool_resize(self, min_elements: int) -> int:
        """Change how many elements the pool keeps; the number it has now.

        Shrinking returns surplus elements at once. Growing takes what can be had; the rest comes by later frees.
        As in the kernel nobody is woken, though elements were added.
        """
        assert min_elements > 0, min_elements  # BUG_ON(new_min_nr <= 0)
        self.min_elements = min_elements
        while len(self._elements) > min_elements:
            self._free(self._elements.pop())
        self._grow()
        self.low_water = min(self.low_water, len(self._elements))
        return len(self._elements)

    def mempool_destroy(self) -> None:
        """Return every element. Nobody may be asleep here."""
        assert not self._waiters, f"{len(self._waiters)} callers sleep in a mempool that is destroyed"
        while self._elements:
            self._free(self._elements.pop())

    def _grow(self) -> None:
        while len(self._elements) < self.min_elements:
            token = self._alloc(self.order)
            if token is None:
                return
            self._elements.append(token)

    def _ordinary_or_element(self) -> Token | None:
        token = self._alloc(self.order)
        if token is not None:
            self.ordinary += 1
            return token
        if not self._elements:
            return None
        self.from_pool += 1
        token = self._elements.pop()  # remove_element(): the one that was added last
        self.low_water = min(self.low_water, len(self._elements))
        return token

    def _wake_up(self) -> None:
        """Serve sleepers, first come first served, as long as there is something.

        wake_up() wakes them all and each tries again, the ordinary way first; who then finds something is the
        scheduler's affair. First come first served is one of its possible orders, and the one without starvation.
        """
        while self._waiters:
            token = self._ordinary_or_element()
            if token is None:
                return
            self._waiters.popleft()(token)
