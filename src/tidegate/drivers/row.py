"""The shape of one row of the table of drivers, and the words in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tidegate.units import KIB

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

    RECYCLE = "recycle"  # the old buffer goes back into the ring, the packet is dropped: it never starves
    EMPTY_SLOT = "empty slot"  # the slot stays empty, the ring shrinks
    STOPS = "stops"  # refilling ends, the ring runs dry
    POLLS = "polls for ever"  # NAPI stays scheduled until pages come
    DROP = "drop"  # the packet is dropped; there is no ring of buffers to refill
    VARIES = "varies"  # a group of drivers not read one by one


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
    JUMBO = "A-jumbo"  # the same driver with frames over 3712 bytes: kmalloc of a high order
    HALVES = "B"  # halves of a page
    PAGE = "C"  # a page a frame
    NONE = "D"  # nothing from below 3/8 min: ordinary GFP_ATOMIC memory instead


class Delivery(StrEnum):
    """How frames reach the stack."""

    NAPI = "napi"
    NETIF_RX = "netif_rx"  # through the softnet backlog
    DIRECT = "netif_receive_skb"  # in the context of the process that writes


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
    copybreak_bytes: int = 0  # 0: nothing is copied, or (ring_permanent) everything
    small_heads: Refill = Refill.NEVER  # the sk_buff of such a frame; KEY where netdev_alloc_skb() makes it
    on_failure: Failure
    refiller: Refiller
    slot_bytes: int  # what a filled slot holds at MTU 1500
    slot_bytes_most: int | None = None  # most that traffic can make of it at MTU 1500, where it differs
    slot_bytes_xdp: int | None = None  # with native XDP attached, where it differs
    slot_bytes_jumbo: int | None = None  # at a larger MTU, where that is not one kmalloc for the whole frame
    pinned_bytes: int  # the page (or high-order page) that one live frame can keep from being freed
    sharers: int = 1  # most frames whose buffers share `pinned_bytes`
    pinned_bytes_order0: int | None = None  # with net.core.high_order_alloc_disable=1, where that changes it
    sharers_order0: int = 1
    ring_default: int | None = None  # slots per queue
    ring_max: int | None = None
    ring_by_device: bool = False  # the device decides: ring_max is what was seen, not what is possible
    ring_permanent: bool = False  # the ring's own buffers are never given up, only copied from
    delivery: Delivery = Delivery.NAPI
    xdp: Xdp
    shape: Shape
    functions: tuple[str, ...]  # where it was read
    on_failure_text: str
    note: str = ""
    changed_in: tuple[int, int] | None = None  # from this version on the ring is refilled by the next poll
    change: str = ""
