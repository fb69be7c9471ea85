"""SysRq-w as the kernel prints it, taken apart: which tasks are blocked, where, and what each one waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TASK = re.compile(r"task:(?P<comm>.{1,15}?)\s+state:(?P<state>\S)\s.*?pid:(?P<pid>\d+)")
_FRAME = re.compile(r"^\s(?P<function>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?")

# Whose stack it is, by the first of these found in it; and in words.
ROLES: Mapping[str, str] = {
    "refill_work": "virtio_net's refill worker",
    "balance_pgdat": "kswapd",
    "blk_mq_run_work_fn": "the block layer's worker",
    "copy_process": "a fork",
    "create_worker": "a worker that wants another one",
    "do_swap_page": "a fault on a swapped page",
    "do_anonymous_page": "a fault that needs a new page",
}
# What it waits for: the innermost of these. nbd takes tx_lock in nbd_handle_cmd, the pool of bios has two for sure.
WAITS: Mapping[str, str] = {
    "bio_alloc_bioset": "a bio of the pool of two (bio_alloc_bioset, mempool_alloc)",
    "sk_stream_wait_memory": "room to send in the socket (sk_stream_wait_memory)",
    "nbd_handle_cmd": "nbd's send lock (tx_lock, mutex_lock)",
    "nbd_queue_rq": "nbd's send lock (tx_lock, mutex_lock)",
    "throttle_direct_reclaim": "kswapd, before it may reclaim (throttle_direct_reclaim)",
    "blk_mq_get_tag": "a tag of the block queue (blk_mq_get_tag)",
    "rq_qos_wait": "write-back throttling (rq_qos_wait)",
    "reclaim_throttle": "others to reclaim (reclaim_throttle)",
    "kthread_create_on_node": "kthreadd, to make a thread (kthread_create_on_node)",
    "folio_wait_writeback": "a page being written (folio_wait_writeback)",
    "folio_wait_bit_common": "a page in use by block IO (folio_wait_bit_common)",
    "swap_read_folio": "a page being read from swap (swap_read_folio)",
    "mempool_alloc": "an element of a pool (mempool_alloc)",
}
_RECLAIM = ("shrink_node", "shrink_folio_list", "throttle_direct_reclaim", "balance_pgdat")


@dataclass(frozen=True, slots=True)
class Blocked:
    """One blocked task; `stack` innermost first, names without what the compiler put behind them."""

    comm: str
    pid: int
    stack: tuple[str, ...]
    line: int = field(default=0, compare=False)  # of the text, from 1: where the task begins
    frame_lines: tuple[int, ...] = field(default=(), compare=False)

    @property
    def role(self) -> str:
        """Whose stack it is: a key of ROLES; empty where none fits."""
        return next((name for name in ROLES if name in self.stack), "")

    @property
    def wait(self) -> str:
        """What it waits for: a key of WAITS, the innermost; empty where none fits."""
        names = [name for name in self.stack if name in WAITS]
        if names[:2] == ["mempool_alloc", "bio_alloc_bioset"]:
            return "bio_alloc_bioset"
        return names[0] if names else ""

    def line_of(self, function: str) -> int:
        """The text's line of a frame; the task's own where the function is not in its stack."""
        return self.frame_lines[self.stack.index(function)] if function in self.stack else self.line


def parse(text: str) -> tuple[Blocked, ...]:
    """The tasks of a SysRq-w, in the order printed."""
    found: list[tuple[str, int, int, list[tuple[str, int]]]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _STAMP.sub("", raw, count=1)
        task = _TASK.search(line)
        if task:
            found.append((task["comm"].strip(), int(task["pid"]), number, []))
            continue
        frame = _FRAME.match(line)
        if frame and found:
            found[-1][3].append((_plain(frame["function"]), number))
    return tuple(
        Blocked(comm, pid, tuple(name for name, _ in frames), number, tuple(at for _, at in frames))
        for comm, pid, number, frames in found
    )


def _plain(function: str) -> str:
    """Without .constprop.0 and the like, and the _noprof that 6.10 gave to all that allocates (alloc_hooks())."""
    return function.partition(".")[0].removesuffix("_noprof")


def same_wait(first: str, second: str) -> bool:
    """Do both looks show some task waiting inside its own reclaim, at the same places, and nobody left the circle?"""
    before, after = parse(first), parse(second)
    circle = [task for task in before if in_reclaim(task)]
    return bool(circle) and all(task in after for task in circle)


def in_reclaim(task: Blocked) -> bool:
    """Does it wait below a reclaim: its own, or throttled until somebody else's gets on?"""
    return any(name in task.stack for name in _RECLAIM)
