"""The buddy allocator (mm/page_alloc.c: __rmqueue_smallest and expand, __free_one_page).

Free memory is kept as blocks of 2^order page frames, aligned to their size, one list an order. Which block a list
gives decides where allocations lie, and so how memory fragments; the two kernels differ in that:

- 2.6.12 puts every free block at the head of its list and takes from the head: last in, first out.
- 6.12 does the same, except that a freed block whose merged parent would find its own buddy free goes to the tail
  (buddy_merge_likely, commit 6dda9d55bf54), to be used last and so perhaps to merge. And what was never allocated
  comes lowest frame first (__free_pages_core frees to the tail), where 2.6.12 begins at the top.

Left out: zones, per-CPU lists, highatomic blocks, shuffling.
"""

from __future__ import annotations

from collections import OrderedDict

from tidegate.design import Kernel

MAX_ORDER = 11  # of 2.6.12, exclusive; MAX_PAGE_ORDER = 10 of 6.12 is the same, inclusive
TOP = MAX_ORDER - 1
TOP_PAGES = 1 << TOP


class Buddy:
    """Page frames 0 to `pages` - 1, all free at first. Every operation takes at most MAX_ORDER steps.

    Frames are numbers; a block is named by its first frame and its order. `free_pages` is what is free now.
    """

    __slots__ = ("_lists", "_merge_to_tail", "_taken", "free_pages", "pages")

    def __init__(self, pages: int, kernel: Kernel = Kernel.V2_6_12) -> None:
        assert pages > 0, pages
        self.pages = pages
        self.free_pages = pages
        self._merge_to_tail = kernel is Kernel.V6_12
        # An ordered set for each order: its last entry is the kernel's list head. Any entry leaves in O(1).
        self._lists: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(MAX_ORDER)]
        self._taken: dict[int, int] = {}  # first frame -> order of each allocated block
        frame = 0
        while frame < pages:
            # `pages` need not be a multiple of the largest block: the rest is cut into ever smaller ones.
            order = min(TOP, (pages - frame).bit_length() - 1)
            self._lists[order][frame] = None
            if self._merge_to_tail:
                self._lists[order].move_to_end(frame, last=False)
            frame += 1 << order

    def alloc(self, order: int) -> int | None:
        """The first frame of a block, cut from the smallest free one that is large enough; None without one."""
        for high in range(order, MAX_ORDER):
            if self._lists[high]:
                return self.take(high, order)
        return None

    def take(self, high: int, order: int) -> int:
        """The first frame of a block of `order`, cut from the head of the list of `high`, which is not empty."""
        lists = self._lists
        frame, _ = lists[high].popitem()
        while high > order:  # expand(): the lower half is split on, the upper halves become free
            high -= 1
            lists[high][frame + (1 << high)] = None
        self._taken[frame] = order
        self.free_pages -= 1 << order
        return frame

    def free(self, frame: int, order: int) -> None:
        """Give a block back and merge it with its buddy as long as that is free. Only as it was allocated."""
        found = self._taken.pop(frame, None)
        assert found == order, f"frame {frame} freed at order {order}, allocated at {found}"
        self.free_pages += 1 << order
        lists = self._lists
        while order < TOP:
            buddy = frame ^ (1 << order)
            if buddy not in lists[order]:
                break
            del lists[order][buddy]
            frame &= buddy
            order += 1
        lists[order][frame] = None
        if self._merge_to_tail and order < TOP - 1:
            parents_buddy = (frame & ~(1 << order)) ^ (2 << order)
            if parents_buddy in lists[order + 1]:
                lists[order].move_to_end(frame, last=False)

    def available(self) -> tuple[int, ...]:
        """Free blocks by order, as /proc/buddyinfo prints them."""
        return tuple(len(one) for one in self._lists)

    def largest(self) -> int:
        """The order of the largest free block; -1 when nothing is free."""
        return next((order for order in range(TOP, -1, -1) if self._lists[order]), -1)

    def check(self) -> None:
        """Assert that free and allocated blocks tile memory, each aligned, and that no two free buddies lie unmerged.

        Takes time proportional to memory: for tests.
        """
        blocks = [(frame, order) for order, one in enumerate(self._lists) for frame in one]
        for frame, order in blocks:
            buddy = frame ^ (1 << order)
            assert order == TOP or buddy not in self._lists[order], (
                f"{frame} and {buddy} lie unmerged at {order}"
            )
        assert sum(1 << order for _, order in blocks) == self.free_pages, (
            "free_pages is not the sum of the lists"
        )
        expected = 0
        for frame, order in sorted(blocks + list(self._taken.items())):
            assert frame == expected, f"the block at {frame} should begin at {expected}"
            assert frame % (1 << order) == 0, f"the block at {frame} is not aligned to order {order}"
            expected = frame + (1 << order)
        assert expected == self.pages, f"memory ends at {expected}, not at {self.pages}"


class GroupedBuddy:
    """Memory whose movable and unmovable allocations are kept in different blocks (since 2.6.24: Mel Gorman's
    grouping of pages by mobility; allocate_slab, page tables and mempools are unmovable, what programs and files
    hold is movable).

    A block of order 10 belongs to one of the two. An unmovable request that finds no room in its own blocks claims a
    wholly free one, else it is cut from the largest movable free block, which stays movable
    (steal_suitable_fallback, its `single_page`). A movable request takes back wholly free blocks, then any page.
    Two simplifications: the kernel groups by pageblock_order, 9 on x86, and also claims a block that is only half
    free; both would group a little better than is done here.
    """

    __slots__ = ("_movable", "_unmovable", "_unmovable_blocks", "pages")

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._movable = Buddy(pages, Kernel.V6_12)
        self._unmovable = Buddy(pages, Kernel.V6_12)
        while (order := self._unmovable.largest()) >= 0:  # it owns nothing yet
            self._unmovable.take(order, order)
        self._unmovable_blocks: set[int] = set()

    @property
    def free_pages(self) -> int:
        """Free pages of both kinds."""
        return self._movable.free_pages + self._unmovable.free_pages

    def alloc(self, order: int, movable: bool) -> int | None:
        """The first frame of a block, or None where no list has one that is large enough."""
        if movable:
            frame = self._movable.alloc(order)
            if frame is None and self._unmovable.largest() == TOP:
                self._hand_over(self._unmovable, self._movable)
                frame = self._movable.alloc(order)
            return self._unmovable.alloc(order) if frame is None else frame
        frame = self._unmovable.alloc(order)
        if frame is not None:
            return frame
        largest = self._movable.largest()
        if largest == TOP:
            self._hand_over(self._movable, self._unmovable)
            return self._unmovable.alloc(order)
        return self._movable.take(largest, order) if largest >= order else None

    def free(self, frame: int, order: int) -> None:
        """Give a block back to the kind that its surroundings belong to, whoever held it."""
        owner = self._unmovable if frame >> TOP in self._unmovable_blocks else self._movable
        owner.free(frame, order)

    def _hand_over(self, giver: Buddy, taker: Buddy) -> None:
        """A wholly free block of the largest order changes its kind."""
        frame = giver.take(TOP, TOP)
        taker.free(frame, TOP)
        self._unmovable_blocks ^= {frame >> TOP}

    def available(self) -> tuple[int, ...]:
        """Free blocks by order, both kinds."""
        pairs = zip(self._movable.available(), self._unmovable.available(), strict=True)
        return tuple(mine + theirs for mine, theirs in pairs)

    def largest(self) -> int:
        """The order of the largest free block; -1 when nothing is free."""
        return max(self._movable.largest(), self._unmovable.largest())

    def check(self) -> None:
        """Assert what Buddy.check() asserts, for both kinds."""
        self._movable.check()
        self._unmovable.check()
        assert self.free_pages <= self.pages, "a frame is free twice"
