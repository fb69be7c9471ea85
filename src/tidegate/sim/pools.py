"""Reserves that are kept apart from the zone: pages allocated beforehand and pinned (mm/mempool.c).

Here as a counter of elements of one buffer each, since the paths that use it need no more; `mempool.py` has the
kernel's functions, and `fragmentation.py` what pinning does to the buddy lists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class ReservePool:
    """So many elements of `pages_each` pages. `waiters` are called, one an element, when something comes back."""

    __slots__ = ("elements", "free", "low_water", "name", "pages_each", "waiters")

    def __init__(self, name: str, elements: int, pages_each: int = 1) -> None:
        self.name = name
        self.elements = self.free = self.low_water = elements
        self.pages_each = pages_each
        self.waiters: deque[Callable[[], None]] = deque()

    def take(self) -> bool:
        """mempool_alloc() of somebody who cannot wait."""
        if not self.free:
            return False
        self.free -= 1
        self.low_water = min(self.low_water, self.free)
        return True

    def put(self) -> None:
        """mempool_free()."""
        self.free += 1
        assert self.free <= self.elements, self.name
        if self.waiters:
            self.waiters.popleft()()

    def grow(self, elements: int) -> None:
        """mempool_resize() upwards: new elements are there at once."""
        self.elements += elements
        self.free += elements

    def shrink(self, elements: int) -> int:
        """mempool_resize() downwards: as many as are not lent out; how many that were."""
        number = min(elements, self.free)
        self.elements -= number
        self.free -= number
        return number
