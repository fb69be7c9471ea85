"""What each NIC driver does with its receive ring when memory is short: a table read in their sources.

Source read: Linux 6.12.117, x86-64, 4 KiB pages, MTU 1500; a fact that depends on the kernel version says so.
A driver that is not here is not known: `driver()` answers None, never a guess.
Pure data, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

KIB = 1024
PAGE = 4 * KIB
FRAG_PAGE = (
    32 * KIB
)  # SKB_FRAG_PAGE_ORDER, PAGE_FRAG_CACHE_MAX_ORDER: order 3, what page fragments are cut from


class Refill(StrEnum):
    """May an allocation of the receive path go below 3/8 of min."""

    NEVER = "never"
    KEY = "key"  # only while memalloc_socks_key is on: after the first nbd, iscsi, nvme-tcp connection
    ALWAYS = "always"  # dev_alloc_pages(): __GFP_MEMALLOC without asking
    INHERITED = "inherited"  # allocates nothing: the skb is handed over with its mark


class Failure(StrEnum):
    """What becomes of the ring when the allocation fails."""

    RECYCLE = (
        "recycle"  # the old buffer goes back into the ring, the packet is dropped: the ring never starves
    )
    EMPTY_SLOT = "empty slot"  # the slot stays empty, the ring shrinks
    STOPS = "stops"  # refilling ends, the ring runs dry
    POLLS = "polls for ever"  # NAPI stays scheduled until pages come
    DROP = "drop"  # the packet is dropped; there is no ring of buffers to refill
    VARIES = "varies"  # a group of drivers: mostly recycle or stop


class Refiller(StrEnum):
    """Who fills an empty ring again."""

    NOT_NEEDED = "not needed"
    WORKER = "worker that reclaims"  # process context, GFP_KERNEL: may wait for the very device
    WATCHDOG = "watchdog timer"
    NEXT_POLL = "next poll"
    KEEPALIVE = "keep-alive timer"
    NOBODY = "nobody"
    UNKNOWN = "not read"


class Shape(StrEnum):
    """What a received frame withdraws from the reserve."""

    SLICES = "A"  # slices of a page: 1 KiB for small frames, 1920 bytes for full ones
    JUMBO = "A-jumbo"  # kmalloc of a high order
    HALVES = "B"  # halves of a page
    PAGE = "C"  # a page a frame
    NONE = "D"  # nothing from below 3/8 min: ordinary GFP_ATOMIC memory instead


class Delivery(StrEnum):
    """How frames reach the stack."""

    NAPI = "napi"
    NETIF_RX = "netif_rx"  # through the softnet backlog


class Xdp(StrEnum):
    """Native XDP."""

    YES = "yes"
    NO = "no"
    PARTLY = "partly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One driver's receive path."""

    name: str  # as ethtool and sysfs call it
    aliases: tuple[str, ...] = ()
    refill: Refill
    small: Refill  # for frames up to copybreak_bytes, copied into a fresh small skb
    copybreak_bytes: int = 0
    on_failure: Failure
    refiller: Refiller
    slot_bytes: int  # what a filled slot holds at MTU 1500
    slot_bytes_xdp: int | None = None  # the same with native XDP attached, where it differs
    pinned_bytes: int  # the page (or high-order page) that one live frame can keep from being freed
    sharers: int = 1  # how many frames' buffers share `pinned_bytes`
    pinned_bytes_order0: int | None = None  # with net.core.high_order_alloc_disable=1, where that changes it
    sharers_order0: int = 1
    ring_default: int | None = None
    ring_max: int | None = None
    delivery: Delivery = Delivery.NAPI
    xdp: Xdp
    shape: Shape
    ring_permanent: bool = False  # the ring's own buffers are never given up, only copied from
    functions: tuple[str, ...]
    on_failure_text: str
    note: str = ""
    fixed_in: tuple[int, int] | None = None  # from this version on `later` holds
    later: str = ""


_VIRTIO_FIX = (
    "from 6.19 the delayed refill worker is gone and the refill is retried from NAPI poll "
    "(fcdef3bcbb2c, 1e7b90aa7988, a0c159647e66); the refill itself still stops at 3/8 min"
)

_INTEL_WATCHDOG = (
    "slot stays empty, alloc_rx_buff_failed; the watchdog raises a soft receive interrupt every 2 s"
)

DRIVERS: tuple[Driver, ...] = (
    Driver(
        name="virtio_net",
        aliases=("virtio-net", "virtio_pci_net"),
        refill=Refill.NEVER,
        small=Refill.KEY,
        copybreak_bytes=128,
        on_failure=Failure.STOPS,
        refiller=Refiller.WORKER,
        slot_bytes=1536,
        slot_bytes_xdp=PAGE,
        pinned_bytes=FRAG_PAGE,
        sharers=21,
        pinned_bytes_order0=PAGE,
        sharers_order0=2,
        ring_default=256,
        ring_max=1024,
        xdp=Xdp.YES,
        shape=Shape.NONE,
        functions=("drivers/net/virtio_net.c:add_recvbuf_mergeable", "try_fill_recv", "refill_work"),
        on_failure_text="stops refilling; refill_work on system_wq disables NAPI and allocates GFP_KERNEL, "
        "again every HZ/2; no counter",
        note="the slot grows with the average packet up to 4 KiB; a 66-byte ACK uses a whole slot; "
        "ring sizes are the device's (QEMU: 256, at most 1024)",
        fixed_in=(6, 19),
        later=_VIRTIO_FIX,
    ),
    Driver(
        name="e1000",
        refill=Refill.NEVER,
        small=Refill.KEY,
        copybreak_bytes=256,
        on_failure=Failure.EMPTY_SLOT,
        refiller=Refiller.WATCHDOG,
        slot_bytes=1920,
        pinned_bytes=FRAG_PAGE,
        sharers=17,
        ring_default=256,
        ring_max=4096,
        xdp=Xdp.NO,
        shape=Shape.NONE,
        functions=("drivers/net/ethernet/intel/e1000/e1000_main.c:e1000_alloc_frag", "e1000_watchdog"),
        on_failure_text=_INTEL_WATCHDOG,
        note="ring_max is 256 before the 82544; jumbo frames take alloc_page(GFP_ATOMIC)",
    ),
    Driver(
        name="e1000e",
        refill=Refill.KEY,
        small=Refill.KEY,
        copybreak_bytes=256,
        on_failure=Failure.EMPTY_SLOT,
        refiller=Refiller.WATCHDOG,
        slot_bytes=1920 + 256,
        pinned_bytes=FRAG_PAGE,
        sharers=17,
        ring_default=256,
        ring_max=4096,
        xdp=Xdp.NO,
        shape=Shape.SLICES,
        functions=(
            "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_alloc_rx_buffers",
            "e1000_watchdog_task",
        ),
        on_failure_text=_INTEL_WATCHDOG,
        note="packet-split and jumbo pages (alloc_page) cannot use the reserve",
    ),
)


def _index() -> dict[str, Driver]:
    return {name: row for row in DRIVERS for name in (row.name, *row.aliases)}


_BY_NAME = _index()


def driver(name: str, kernel: tuple[int, int, int] | None = None) -> Driver | None:
    """The row of a driver by its kernel name, as it holds for this kernel version; None when it is not known.

    Without a version the row is the older, worse one.
    """
    row = _BY_NAME.get(name)
    if row is None or row.fixed_in is None or kernel is None or kernel[:2] < row.fixed_in:
        return row
    return replace(
        row, refiller=Refiller.NEXT_POLL, on_failure_text="stops refilling; the next NAPI poll tries again"
    )
