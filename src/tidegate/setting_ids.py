"""The stable ids of settings, and the values that a finding and the plan must agree on.

An id is the sysctl's own name where there is one. Ids of settings that belong to one user, device, peer, NIC
or program carry its name behind a colon: `cap:swap /dev/nbd0`. A finding names ids in its cure, the plan
makes settings with the same ids, `tidegate explain ID` prints what they are.

The `*_TARGET` values are those that no arithmetic of a host sizes: a finding is absent at them and the plan
writes them, so that a host with its plan in force shows no finding that the plan could cure.
"""

from __future__ import annotations

from typing import Final

from tidegate.units import KIB

MIN_FREE: Final = "vm.min_free_kbytes"
WATERMARK_BOOST: Final = "vm.watermark_boost_factor"
WATERMARK_SCALE: Final = "vm.watermark_scale_factor"
PAGE_CLUSTER: Final = "vm.page-cluster"
TCP_MEM: Final = "net.ipv4.tcp_mem"
UDP_MEM: Final = "net.ipv4.udp_mem"
TCP_RMEM: Final = "net.ipv4.tcp_rmem"
TCP_WMEM: Final = "net.ipv4.tcp_wmem"
RMEM_MAX: Final = "net.core.rmem_max"
WMEM_MAX: Final = "net.core.wmem_max"
HIGH_ORDER_ALLOC_DISABLE: Final = "net.core.high_order_alloc_disable"
SKB_DEFER_MAX: Final = "net.core.skb_defer_max"
NETDEV_MAX_BACKLOG: Final = "net.core.netdev_max_backlog"
IPFRAG_LOW_THRESH: Final = "net.ipv4.ipfrag_low_thresh"
IPFRAG_HIGH_THRESH: Final = "net.ipv4.ipfrag_high_thresh"
IP6FRAG_LOW_THRESH: Final = "net.ipv6.ip6frag_low_thresh"
IP6FRAG_HIGH_THRESH: Final = "net.ipv6.ip6frag_high_thresh"

SYSCTLS: Final = (
    MIN_FREE,
    WATERMARK_BOOST,
    WATERMARK_SCALE,
    PAGE_CLUSTER,
    TCP_MEM,
    UDP_MEM,
    TCP_RMEM,
    TCP_WMEM,
    RMEM_MAX,
    WMEM_MAX,
    HIGH_ORDER_ALLOC_DISABLE,
    SKB_DEFER_MAX,
    NETDEV_MAX_BACKLOG,
    IPFRAG_LOW_THRESH,
    IPFRAG_HIGH_THRESH,
    IP6FRAG_LOW_THRESH,
    IP6FRAG_HIGH_THRESH,
)

# Families of ids that carry a name behind a colon.
CAP: Final = "cap"  # SO_SNDBUF and SO_RCVBUF on the block sockets of a user
RESERVE_MEM: Final = "reserve-mem"  # SO_RESERVE_MEM on the block sockets of a user
NR_REQUESTS: Final = "queue.nr_requests"  # of a block device
MAX_SECTORS: Final = "queue.max_sectors_kb"  # of a block device
NEIGHBOUR: Final = "neigh.permanent"  # of the address that is resolved on the wire
THREADED: Final = "threaded"  # threaded NAPI of a NIC
RING: Final = "ring"  # receive ring of a NIC
IO_FLUSHER: Final = "io-flusher"  # PR_SET_IO_FLUSHER and locked memory of a program
EARLY_DROP: Final = "early-drop"  # the guard's gate at a NIC: no file holds it

FAMILIES: Final = (
    CAP,
    RESERVE_MEM,
    NR_REQUESTS,
    MAX_SECTORS,
    NEIGHBOUR,
    THREADED,
    RING,
    IO_FLUSHER,
    EARLY_DROP,
)

HIGH_ORDER_ALLOC_DISABLE_TARGET: Final = 1  # one page a fragment: what is charged is what is pinned
SKB_DEFER_MAX_TARGET: Final = 0  # skbs go home at once (net/core/skbuff.c:skb_attempt_defer_free)
WATERMARK_BOOST_TARGET: Final = 0  # no boost (mm/page_alloc.c:boost_watermark)
PAGE_CLUSTER_TARGET: Final = 0  # one page a swap read: nothing behind a hole in the stream
# The kernel's default is 4 MiB each for IPv4 and IPv6; 256 KiB hold four whole 64 KiB datagrams in the
# making.
IPFRAG_HIGH_THRESH_TARGET: Final = 256 * KIB
IP6FRAG_HIGH_THRESH_TARGET: Final = 256 * KIB
# The kernel refuses a high threshold below the low one (3 MiB), so that goes first, to the same three quarters.
IPFRAG_LOW_THRESH_TARGET: Final = 192 * KIB
IP6FRAG_LOW_THRESH_TARGET: Final = 192 * KIB


def of(family: str, name: str) -> str:
    """The id of a setting that belongs to something with a name: `of(CAP, "swap /dev/nbd0")`."""
    assert family in FAMILIES, family
    assert name, family
    return f"{family}:{name}"


def family_of(setting_id: str) -> str:
    """What `explain` files a setting under: the part before the colon, or the whole sysctl."""
    return setting_id.split(":", 1)[0]
