"""What one frame, one request and one connection withdraw, in bytes.

Sizes are those of a stock 6.12 amd64 kernel (BTF and /proc/slabinfo). Pure, standard library only.
"""

from __future__ import annotations

from tidegate.units import KIB, bytes_to_pages, div_ceil

FCLONE = 512  # sk_buff_fclones 472
SMALL_HEAD = 704  # skbuff_small_head
TX_HEAD = FCLONE + SMALL_HEAD  # per skb of at most 64 KiB or 17 fragments
SHARED_INFO = 320
NET_SKB_PAD = 64
TCP_HEADERS = 20 + 20 + 12  # IPv4, TCP, timestamps: 1448 bytes of data at MTU 1500
ETH_HLEN = 14
MTU_LEAST = 576
MTUS = (1500, 9000)  # the worse of them stands in where the MTU was not read
SKB_HEAD_ALIGN = 64  # SKB_DATA_ALIGN()
JUMBO_FRAME = 3712  # above it a frame does not fit a page together with its overhead
SMALL_FRAME = 640  # up to here a slice of 1 KiB is enough (napi_alloc_skb, SKB_SMALL_HEAD)
SKB_DATA = 64 * KIB  # most that one skb carries
FRAG_CHUNK = 32 * KIB  # skb_page_frag_refill(): a lone header may keep all of it
FRAME_OVERHEAD = NET_SKB_PAD + SHARED_INFO
NAPI_WEIGHT = 64
NBD_TAGS = 128  # nbd_dev_add(): tag_set.queue_depth
WRITE_REPLIES = 2  # R2T and response; NBD answers with one
DEFER_SINCE = (5, 19)  # skb_attempt_defer_free()
DEFER_MAX = 128  # the largest default of net.core.skb_defer_max so far

# Transports whose sends copy the data into new pages (no MSG_SPLICE_PAGES).
COPIES = frozenset({"nbd", "nfs", "smb", "9p", "fuse", "ublk", "other"})
# Transports that reference the caller's pages: only heads and headers are allocated.
REFERENCES = frozenset({"iscsi", "nvme-tcp", "rbd", "cephfs", "drbd"})
REQUEST_HEADER = {"nbd": 28, "nvme-tcp": 72, "iscsi": 48}
REPLY_HEADER = {"nbd": 16, "nvme-tcp": 24, "iscsi": 48}


def kmalloc_bytes(amount: int) -> int:
    """The power of two that kmalloc takes for it."""
    return 1 << (amount - 1).bit_length()


def received_bytes(length: int, shape: str | None) -> int:
    """What one received frame of `length` bytes withdraws, by shape of the driver; without one the worst."""
    if shape in ("A", "A-jumbo"):
        if length > JUMBO_FRAME:
            return kmalloc_bytes(length + FRAME_OVERHEAD)
        return (
            1024
            if length <= SMALL_FRAME
            else SKB_HEAD_ALIGN * div_ceil(length + FRAME_OVERHEAD, SKB_HEAD_ALIGN)
        )
    slot = 2 * KIB if shape == "B" else 4 * KIB
    return slot * div_ceil(length, slot)


def transmit_request(transport: str, request_bytes: int) -> int:
    """What sending one request of `request_bytes` takes."""
    whole = request_bytes + REQUEST_HEADER.get(transport, 128)
    heads = TX_HEAD * div_ceil(whole, SKB_DATA)
    return heads + whole if transport in COPIES else heads


def receive_request(
    transport: str, request_bytes: int, *, reads: bool, shape: str | None, mtu: int | None = 1500
) -> int:
    """What the replies to one request take: the larger of a write's replies and a read's data."""
    small = received_bytes(66 + REPLY_HEADER.get(transport, 128), shape)
    write = (1 if transport == "nbd" else WRITE_REPLIES) * small
    if not reads:
        return write
    whole = request_bytes + REPLY_HEADER.get(transport, 128)
    data = (
        div_ceil(whole, size - TCP_HEADERS) * received_bytes(size + ETH_HLEN, shape)
        for size in (MTUS if mtu is None else (max(mtu, MTU_LEAST),))
    )
    return max(write, *data)


def transmit_socket(sndbuf_bytes: int) -> int:
    """Most that a connection's send side holds: sk_stream_memory_free() stops new skbs at sndbuf."""
    return sndbuf_bytes + SKB_DATA + FRAG_CHUNK


def transmit_bound(
    transport: str, sndbuf_bytes: int | None, requests: int | None, request_bytes: int | None
) -> tuple[int | None, str]:
    """Most that one connection's sends take, and by which bound."""
    by_socket = None if sndbuf_bytes is None else transmit_socket(sndbuf_bytes)
    by_queue = None
    if (
        requests is not None
        and request_bytes is not None
        and (transport in COPIES or transport in REFERENCES)
    ):
        by_queue = requests * transmit_request(transport, request_bytes) + FRAG_CHUNK
    if by_queue is not None and (by_socket is None or by_queue < by_socket):
        return by_queue, f"{requests} requests of {request_bytes} bytes"
    return by_socket, "sk_sndbuf + 64 KiB + 32 KiB"


def receive_bound(rcvbuf_bytes: int | None, sndbuf_bytes: int | None) -> tuple[int | None, int | None]:
    """Most that one connection's receive queue and its backlog hold (tcp_add_backlog())."""
    if rcvbuf_bytes is None:
        return None, None
    backlog = None if sndbuf_bytes is None else 2 * rcvbuf_bytes + sndbuf_bytes // 2 + SKB_DATA
    return rcvbuf_bytes, backlog


def receive_by_requests(
    transport: str,
    requests: int | None,
    request_bytes: int | None,
    *,
    reads: bool,
    shape: str | None,
    mtu: int | None,
) -> tuple[int | None, str]:
    """Most that the replies to all requests in flight take, acknowledgements of one poll included."""
    if requests is None or request_bytes is None or transport not in REPLY_HEADER:
        return None, ""
    one = receive_request(transport, request_bytes, reads=reads, shape=shape, mtu=mtu)
    amount = requests * one + NAPI_WEIGHT * received_bytes(66, shape)
    return (
        amount,
        f"replies to {requests} requests of {request_bytes} bytes, and the acknowledgements of one poll",
    )


def deferred_pages(
    cpus: int, defer_max: int | None, kernel: tuple[int, int, int] | None, page_bytes: int
) -> tuple[int, bool]:
    """Most that consumed skbs hold while they wait for their CPU, and whether the limit was read."""
    if cpus <= 1 or (kernel is not None and kernel[:2] < DEFER_SINCE):
        return 0, True  # freed where they were allocated
    limit = DEFER_MAX if defer_max is None else defer_max
    return cpus * bytes_to_pages(limit // 2 * SKB_DATA, page_bytes), defer_max is not None
