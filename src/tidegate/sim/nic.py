"""The NIC and its driver: where a packet gets its memory, and what happens when there is none.

By class, from drivers/net: `copy` (8139too: one fixed area), `recycle` (tg3, pcnet32), `empty` (e1000), `pool`
(page_pool drivers such as mlx5) and `worker` (virtio_net). What each does on failure decides whether the receive ring
can run dry while block IO waits for a reply.

Not modelled: transmit rings (a sent frame's memory is TCP's until it is acknowledged), several queues, interrupts
that take processor time from softirqs, what a page pool recycles without asking the zone.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tidegate.case import Access, Delivery, Driver
from tidegate.design import Kernel, Refill
from tidegate.sim.clock import MS, SECOND, US
from tidegate.sim.dev import netif_receive_skb, netif_rx
from tidegate.sim.gfp import GFP_ATOMIC, GFP_KERNEL, MEMALLOC
from tidegate.sim.page_alloc import take_at_boot
from tidegate.sim.skbuff import Frame, Skb, dev_alloc_skb, kfree_skb

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

IRQ_NS = 5 * US
WATCHDOG_NS = 2 * SECOND  # e1000_watchdog(): raises a receive interrupt when slots are empty
REPOLL_NS = 10 * MS  # a driver that returns its whole budget is polled again


class Nic:
    """One receive ring."""

    __slots__ = (
        "area", "busy", "copybreak", "delivery", "done", "driver", "free_at", "gfp", "low_water", "off", "refill",
        "ring", "waking",
    )  # fmt: skip

    def __init__(self, m: Machine) -> None:
        nic = m.case.nic
        self.driver = nic.driver
        self.delivery = nic.delivery
        self.ring = nic.ring
        self.copybreak = nic.copybreak_bytes
        self.refill = m.design.refill
        self.gfp = GFP_ATOMIC | (MEMALLOC if _may_use_reserve(m) else 0)
        self.area: deque[Skb] = deque()  # buffers that the hardware may fill
        self.done: deque[Skb | Frame] = deque()  # those that it has filled
        self.busy = False  # an interrupt or poll is due
        self.free_at = 0  # when the processor is done with the packet before
        self.waking = False  # the watchdog or the next poll is due
        self.off = False  # the worker has turned the poll off
        self.low_water = nic.ring


def _may_use_reserve(m: Machine) -> bool:
    """Whether this driver's receive allocations carry the flag."""
    design, access = m.design, m.case.nic.access
    if not design.gfp_memalloc:
        return False
    if design.kernel is Kernel.V2_6_12 and not design.driver_chooses:
        return True  # the first patch: every dev_alloc_skb()
    return access is not Access.NEVER


def nic_open(m: Machine) -> None:
    """Fills the ring while memory is plentiful."""
    nic = m.nic
    if nic.driver is Driver.COPY:
        pages = -(-nic.ring * m.case.nic.buffer_bytes // 4096)
        take_at_boot(m.zone, pages)
        m.programs_pages += pages
        return
    while len(nic.area) < nic.ring:
        skb = dev_alloc_skb(m, m.rx_cache, GFP_ATOMIC)
        assert skb is not None, "there is memory for the ring at boot"
        nic.area.append(skb)


def nic_receive(m: Machine, frame: Frame) -> None:
    """The hardware: a frame into the next buffer, or nowhere."""
    nic = m.nic
    if not frame.block:
        m.foreign["arrived"] += 1
    if nic.driver is Driver.COPY:
        if len(nic.done) >= nic.ring:
            m.lost(frame.block, "RX_MISSED")
            return
        nic.done.append(frame)
    else:
        area = nic.area
        if not area:
            _ring_empty(m)
            m.lost(frame.block, "RX_MISSED")
            return
        skb = area.popleft()
        skb.frame = frame
        nic.done.append(skb)
        if len(area) < nic.low_water:
            nic.low_water = len(area)
    if not nic.busy and not nic.off:
        nic.busy = True
        m.clock.at(max(m.clock.now + IRQ_NS, nic.free_at), nic_clean, m)


def nic_clean(m: Machine) -> None:
    """e1000_clean_rx_irq() and its like: one frame, then the next one a packet's time later."""
    nic = m.nic
    if nic.off:
        nic.busy = False
        return
    napi = nic.delivery is Delivery.NAPI
    m.steps["napi_poll" if napi else "nic_interrupt"] += 1
    packet_ns = m.packet_ns if napi else m.packet_ns >> 2
    if nic.done:
        got = nic.done.popleft()
        skb = _received(m, got)
        if nic.driver is not Driver.COPY and nic.driver is not Driver.RECYCLE:
            refill_ring(m)
        if skb is not None:
            if napi:
                netif_receive_skb(m, skb)
            elif netif_rx(m, skb):
                packet_ns += m.packet_ns  # the bypass: what a softirq would have done, in the interrupt
    elif nic.driver is not Driver.COPY:
        refill_ring(m)
    nic.free_at = m.clock.now + packet_ns
    if nic.done and not nic.off:
        m.clock.at(nic.free_at, nic_clean, m)
    else:
        nic.busy = False


def _received(m: Machine, got: Skb | Frame) -> Skb | None:
    """The skb that goes up; None where the packet was dropped for want of memory."""
    nic = m.nic
    if isinstance(got, Frame):  # copy
        skb = dev_alloc_skb(m, m.rx_cache if got.length > 256 else m.small_cache, _gfp(m))
        if skb is None:
            _no_buffer(m, got.block)
            return None
        skb.frame = got
        return skb
    frame = got.frame
    assert frame is not None
    if frame.length <= nic.copybreak:
        small = dev_alloc_skb(m, m.small_cache, nic.gfp)
        if small is not None:
            small.frame = frame
            _post(m, got)
            return small
    if nic.driver is Driver.RECYCLE:
        new = dev_alloc_skb(m, m.rx_cache, _gfp(m))
        if new is None:
            _post(m, got)
            _no_buffer(m, frame.block)
            return None
        _post(m, new)
    return got


def refill_ring(m: Machine) -> None:
    """Posts buffers into empty slots, as far as memory goes."""
    nic = m.nic
    area = nic.area
    want = nic.ring - len(nic.done)
    while len(area) < want:
        skb = dev_alloc_skb(m, m.rx_cache, nic.gfp if nic.refill is Refill.RING else _gfp(m))
        if skb is None:
            m.steps["refill_failed"] += 1
            m.first(
                "refill_failed",
                f"a receive buffer cannot be replaced: {m.zone.free} pages are free, and this driver's "
                f"allocation may go no lower than {m.zone.atomic_floor if not nic.gfp & MEMALLOC else 0}",
                free_pages=m.zone.free,
                floor_pages=m.zone.atomic_floor,
            )
            _no_refill(m)
            return
        skb.frame = None
        area.append(skb)
        if skb.reserve:
            m.holding.moved(skb, "rx_ring")


def _post(m: Machine, skb: Skb) -> None:
    skb.frame = None
    m.nic.area.append(skb)
    if skb.reserve:
        m.holding.moved(skb, "rx_ring")


def _gfp(m: Machine) -> int:
    """Method 1 refills from the reserve whenever the ordinary way fails; method 2 only an empty ring."""
    nic = m.nic
    if nic.refill is Refill.EMPTY and nic.area and nic.driver is not Driver.COPY:
        return GFP_ATOMIC
    return nic.gfp


def _no_refill(m: Machine) -> None:
    """The next try: an interrupt, the watchdog, the next poll, or the worker."""
    nic = m.nic
    if nic.waking:
        return
    nic.waking = True
    if nic.driver is Driver.WORKER:
        m.clock.after(MS, refill_work, m)
    else:
        m.clock.after(REPOLL_NS if nic.driver is Driver.POOL else WATCHDOG_NS, _watchdog, m)


def _watchdog(m: Machine) -> None:
    nic = m.nic
    nic.waking = False
    m.steps["nic_watchdog"] += 1
    if len(nic.area) + len(nic.done) < nic.ring and not nic.busy:
        nic.busy = True
        nic_clean(m)


def refill_work(m: Machine) -> None:
    """As in virtio_net: the worker turns the poll off, then asks with GFP_KERNEL, which reclaims and waits."""
    nic = m.nic
    m.steps["refill_work"] += 1
    nic.off = True
    m.first(
        "poll_off",
        "a worker turns the receive poll off and asks for memory with GFP_KERNEL: it reclaims, and waits for block "
        "IO whose replies only that poll can receive",
        free_pages=m.zone.free,
    )
    _refill_from_worker(m)


def _refill_from_worker(m: Machine) -> None:
    nic = m.nic
    while len(nic.area) < nic.ring - len(nic.done):
        skb = dev_alloc_skb(m, m.rx_cache, GFP_KERNEL)
        if skb is None:
            m.reclaim.wait_as_kernel_thread(_refill_again)
            return
        _post(m, skb)
    nic.off = False
    nic.waking = False
    if nic.done and not nic.busy:
        nic.busy = True
        m.clock.after(IRQ_NS, nic_clean, m)


def _refill_again(m: Machine) -> None:
    _refill_from_worker(m)


def _no_buffer(m: Machine, block: bool) -> None:
    m.steps["rx_nobuf"] += 1
    m.lost(block, "RX_NOBUF")
    if block:
        m.first(
            "reply_lost",
            "a reply that block IO waits for arrives, and there is no memory to receive it",
            free_pages=m.zone.free,
        )


def _ring_empty(m: Machine) -> None:
    m.nic.low_water = 0
    m.first(
        "ring_empty",
        f"the receive ring is empty: nothing can be received any more, {m.zone.free} pages are free",
        free_pages=m.zone.free,
    )


def nic_close(m: Machine) -> None:
    """Gives the ring back."""
    while m.nic.area:
        kfree_skb(m, m.nic.area.popleft())
