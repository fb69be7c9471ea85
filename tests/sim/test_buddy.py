"""The buddy allocator against one that is too simple to be wrong, over every sequence hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.design import Kernel
from tidegate.sim.buddy import MAX_ORDER, TOP, TOP_PAGES, Buddy, GroupedBuddy

KERNELS = tuple(Kernel)


class Naive:
    """The same by plain lists, head first, as the kernel's text has it; and memory as a row of flags."""

    def __init__(self, pages: int, kernel: Kernel) -> None:
        self.kernel = kernel
        self.free_frames = [True] * pages
        self.lists: list[list[int]] = [[] for _ in range(MAX_ORDER)]
        for frame, order in self.canonical():
            if kernel is Kernel.V6_12:
                self.lists[order].append(frame)
            else:
                self.lists[order].insert(0, frame)

    def canonical(self) -> list[tuple[int, int]]:
        """The largest aligned free blocks: what free memory must look like when all that can be merged is."""
        found = []
        frame = 0
        while frame < len(self.free_frames):
            order = TOP
            while order >= 0 and not (
                frame % (1 << order) == 0
                and frame + (1 << order) <= len(self.free_frames)
                and all(self.free_frames[frame : frame + (1 << order)])
            ):
                order -= 1
            if order >= 0:
                found.append((frame, order))
            frame += 1 << max(order, 0)
        return found

    def alloc(self, order: int) -> int | None:
        for found in range(order, MAX_ORDER):
            if self.lists[found]:
                frame = self.lists[found].pop(0)
                for high in reversed(range(order, found)):
                    self.lists[high].insert(0, frame + (1 << high))
                self.free_frames[frame : frame + (1 << order)] = [False] * (1 << order)
                return frame
        return None

    def free(self, frame: int, order: int) -> None:
        self.free_frames[frame : frame + (1 << order)] = [True] * (1 << order)
        while order < TOP:
            buddy = frame + (1 << order) if frame % (2 << order) == 0 else frame - (1 << order)
            if buddy not in self.lists[order]:
                break
            self.lists[order].remove(buddy)
            frame, order = min(frame, buddy), order + 1
        likely = False
        if self.kernel is Kernel.V6_12 and order < TOP - 1:
            parent = frame // (2 << order) * (2 << order)
            uncle = parent + (2 << order) if parent % (4 << order) == 0 else parent - (2 << order)
            likely = uncle in self.lists[order + 1]
        if likely:
            self.lists[order].append(frame)
        else:
            self.lists[order].insert(0, frame)


class BuddyMachine(RuleBasedStateMachine):
    """Allocate and free at random; the two must name the same frames and have the same lists."""

    @initialize(
        pages=st.sampled_from([1, 7, 64, 1000, TOP_PAGES, TOP_PAGES + 37, 2 * TOP_PAGES]),
        kernel=st.sampled_from(KERNELS),
    )
    def start(self, pages: int, kernel: Kernel) -> None:
        self.buddy = Buddy(pages, kernel)
        self.naive = Naive(pages, kernel)
        self.held: list[tuple[int, int]] = []

    @rule(order=st.integers(0, TOP), times=st.integers(1, 8))
    def alloc(self, order: int, times: int) -> None:
        for _ in range(times):
            frame = self.buddy.alloc(order)
            assert frame == self.naive.alloc(order)
            if frame is not None:
                self.held.append((frame, order))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        block = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.buddy.free(*block)
        self.naive.free(*block)

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "buddy"):
            self.buddy.check()
            sizes = tuple(len(one) for one in self.naive.lists)
            canonical = [order for _, order in self.naive.canonical()]
            assert self.buddy.available() == sizes
            assert sizes == tuple(canonical.count(order) for order in range(MAX_ORDER))
            assert self.buddy.free_pages == sum(self.naive.free_frames)
            assert self.buddy.largest() == max(canonical, default=-1)


TestBuddyMachine = BuddyMachine.TestCase
TestBuddyMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)


class GroupedMachine(RuleBasedStateMachine):
    """Whatever is allocated and freed: nothing is lost, nothing is given twice."""

    @initialize(pages=st.sampled_from([64, TOP_PAGES, 3 * TOP_PAGES + 5]))
    def start(self, pages: int) -> None:
        self.buddy = GroupedBuddy(pages)
        self.held: list[tuple[int, int]] = []

    @rule(order=st.sampled_from([0, 1, 3, 8, TOP]), movable=st.booleans(), times=st.integers(1, 8))
    def alloc(self, order: int, movable: bool, times: int) -> None:
        for _ in range(times):
            frame = self.buddy.alloc(order, movable)
            if frame is None:
                assert movable or self.buddy.largest() < order
            else:
                self.held.append((frame, order))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.buddy.free(*self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def adds_up(self) -> None:
        if hasattr(self, "buddy"):
            self.buddy.check()
            frames = [frame + at for frame, order in self.held for at in range(1 << order)]
            assert len(set(frames)) == len(frames)
            assert self.buddy.free_pages == self.buddy.pages - len(frames)
            assert sum(n << order for order, n in enumerate(self.buddy.available())) == self.buddy.free_pages


TestGroupedMachine = GroupedMachine.TestCase
TestGroupedMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True
)


def test_the_lowest_suitable_order_is_split_and_the_lower_half_taken() -> None:
    buddy = Buddy(TOP_PAGES)
    assert buddy.alloc(2) == 0
    assert buddy.available() == (0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0)
    assert buddy.alloc(2) == 4  # the block of order 2, not one of the larger ones
    assert buddy.available() == (0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0)


def test_freed_last_is_taken_first() -> None:
    buddy = Buddy(64)
    frames = [buddy.alloc(0) for _ in range(64)]
    for frame in (3, 40, 17):
        assert frame in frames
        buddy.free(frame, 0)
    assert [buddy.alloc(0) for _ in range(3)] == [17, 40, 3]


def test_a_block_that_may_soon_merge_is_taken_last_since_2_6_35_only() -> None:
    taken = {}
    for kernel in KERNELS:
        buddy = Buddy(64, kernel)
        for _ in range(64):
            buddy.alloc(0)
        for frame in (40, 2, 3, 0):  # 2 and 3 merge; then 0 waits for 1 only
            buddy.free(frame, 0)
        taken[kernel] = buddy.alloc(0)
    assert taken == {Kernel.V2_6_12: 0, Kernel.V6_12: 40}


def test_untouched_memory_is_used_from_the_top_in_2_6_12_and_from_the_bottom_in_6_12() -> None:
    assert Buddy(2 * TOP_PAGES, Kernel.V2_6_12).alloc(TOP) == TOP_PAGES
    assert Buddy(2 * TOP_PAGES, Kernel.V6_12).alloc(TOP) == 0


def test_full_memory_has_no_largest_block() -> None:
    buddy = Buddy(1)
    assert buddy.alloc(1) is None
    assert buddy.alloc(0) == 0
    assert (buddy.alloc(0), buddy.largest(), buddy.free_pages) == (None, -1, 0)


@pytest.mark.parametrize(("frame", "order"), [(0, 0), (8, 3), (1, 0)])
def test_what_was_not_allocated_so_cannot_be_freed(frame: int, order: int) -> None:
    buddy = Buddy(64)
    assert buddy.alloc(3) == 0
    with pytest.raises(AssertionError, match="freed at order"):
        buddy.free(frame, order)


def test_unmovable_pages_keep_to_blocks_of_their_own() -> None:
    buddy = GroupedBuddy(4 * TOP_PAGES)
    blocks: dict[bool, set[int]] = {True: set(), False: set()}
    for turn in range(1500):
        movable = turn % 3 > 0
        frame = buddy.alloc(0, movable)
        assert frame is not None
        blocks[movable].add(frame >> TOP)
    assert not blocks[True] & blocks[False]
    assert len(blocks[False]) == 1


def test_an_unmovable_page_without_a_block_of_its_own_is_cut_from_the_largest_movable_one() -> None:
    buddy = GroupedBuddy(TOP_PAGES)
    held = [buddy.alloc(0, movable=True) for _ in range(TOP_PAGES)]
    assert held[0] == 0
    for frame in (8, 100, 101):
        buddy.free(frame, 0)
    assert buddy.alloc(0, movable=False) == 100
    buddy.free(100, 0)  # it goes back to the movable block that it lies in
    assert buddy.available()[:2] == (1, 1)


def test_movable_pages_take_a_wholly_free_block_back() -> None:
    buddy = GroupedBuddy(TOP_PAGES)
    frame = buddy.alloc(0, movable=False)
    assert frame == 0
    assert buddy.largest() == TOP - 1
    buddy.free(frame, 0)
    assert buddy.alloc(0, movable=True) == 0
    assert buddy.alloc(0, movable=False) == TOP_PAGES // 2  # cut from the largest: the block is movable now
    buddy.free(0, 0)
    buddy.free(TOP_PAGES // 2, 0)
    assert buddy.available()[TOP] == 1


def test_movable_pages_go_among_unmovable_ones_when_nothing_else_is_left() -> None:
    buddy = GroupedBuddy(2 * TOP_PAGES)
    unmovable = buddy.alloc(0, movable=False)
    assert unmovable is not None
    frames = [buddy.alloc(0, movable=True) for _ in range(TOP_PAGES + 1)]
    assert {frame >> TOP for frame in frames[:-1] if frame is not None} == {1 - (unmovable >> TOP)}
    assert frames[-1] is not None
    assert frames[-1] >> TOP == unmovable >> TOP


def taken_after(kernel: Kernel, order: int, frames: tuple[int, ...]) -> int | None:
    """All memory is taken in blocks of `order`; these, counted in such blocks, are freed; the next one taken."""
    buddy = Buddy(4 * TOP_PAGES, kernel)
    while buddy.alloc(order) is not None:
        pass
    for at in frames:
        buddy.free(at << order, order)
    frame = buddy.alloc(order)
    return None if frame is None else frame >> order


def test_the_two_largest_orders_do_not_look_for_a_likely_merge() -> None:
    # 10 first; then 2 and 3 become one; then 0 waits for 1 only, and the parent of both for nobody.
    assert [taken_after(Kernel.V6_12, order, (10, 2, 3, 0)) for order in (0, 7, TOP - 2)] == [10, 10, 10]
    assert [taken_after(Kernel.V2_6_12, order, (10, 2, 3, 0)) for order in (0, 7, TOP - 2)] == [0, 0, 0]
    assert taken_after(Kernel.V6_12, TOP - 1, (4, 2, 3, 0)) == 0


@pytest.mark.parametrize(
    ("lists", "free_pages", "taken", "complaint"),
    [
        ({0: [2, 3], 1: [0], 2: [4]}, 8, {}, "2 and 3 lie unmerged at 0"),
        ({2: [4]}, 8, {0: 2}, "not the sum of the lists"),
        ({2: [4]}, 4, {}, "the block at 4 should begin at 0"),
        ({2: [4], 1: [2]}, 6, {0: 2}, "the block at 2 should begin at 4"),
        ({0: [0], 1: [3], 2: [4]}, 7, {1: 1}, "the block at 1 is not aligned"),
        ({2: [0]}, 4, {}, "memory ends at 4, not at 8"),
    ],
)
def test_check_complains(
    lists: dict[int, list[int]], free_pages: int, taken: dict[int, int], complaint: str
) -> None:
    buddy = Buddy(8)
    buddy.check()
    for order, one in enumerate(buddy._lists):
        one.clear()
        one.update(dict.fromkeys(lists.get(order, [])))
    buddy._taken = taken
    buddy.free_pages = free_pages
    with pytest.raises(AssertionError, match=complaint):
        buddy.check()
