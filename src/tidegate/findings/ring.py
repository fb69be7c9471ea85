"""The receive ring: what happens when its driver finds no page for the next buffer.

Kernel files: drivers/net/, net/core/skbuff.c, net/core/dev.c. Which driver does what is data, in `drivers`.
"""

from __future__ import annotations

from tidegate.drivers import Delivery, Driver, Refill, Refiller
from tidegate.findings.exposure import (
    floor_evidence,
    memalloc_key,
    min_free_evidence,
    settings_alone,
    sysctl_evidence,
    user_evidence,
)
from tidegate.findings.nic import (
    ANOTHER_NIC,
    FLOOR_CURE,
    KEPT,
    driver_name,
    driver_of,
    floor_answer,
    nic_evidence,
    over_drivers,
    over_nics,
    refills_from_reserve,
    starves,
)
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Link, sysctl_int
from tidegate.result import Cure, Reserve, Row, Severity, Shown, Topic
from tidegate.setting_ids import EARLY_DROP, MIN_FREE, RING, THREADED, of

_NEEDS = frozenset({Topic.USERS, Topic.NETWORK, Topic.MEMORY, Topic.LIMITS})


def _d1(host: Host, reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        row = driver_of(host, nic)
        if not driver_name(nic):
            return unknown(f"the driver of {nic.name} is not known", nic_evidence(nic))
        if row is None or row.name != "virtio_net":
            return absent(f"{nic.name} is no virtio_net", nic_evidence(nic))
        if row.refiller is not Refiller.WORKER:
            return absent(f"virtio_net of {host.kernel.release} refills from its poll, without a worker")
        return floor_answer(
            host,
            reserve,
            user,
            nic,
            f"when a refill of {nic.name}'s ring (virtio_net) fails, a worker turns its receive poll off "
            f"and waits in reclaim for {user.name}, whose replies only that poll can deliver",
        )

    return over_nics(host, of_nic, by_swap=True)


D1 = Rule(
    id="D1",
    title="virtio_net refills its ring in a worker that reclaims",
    place="ring",
    severity=Severity.DEADLOCK,
    argument="Run: pressure and ordinary traffic alone stopped a stock kernel to the end of the run.",
    shown=Shown.RUN,
    needs=_NEEDS,
    judge=_d1,
    cure=FLOOR_CURE,
    mechanism=(
        "virtio_net refills its receive ring with GFP_ATOMIC, which stops at 3/8 of the zone's min "
        "watermark. When that fails it schedules refill_work, which disables the receive poll and "
        "allocates with GFP_KERNEL. A kernel worker is not held back by the throttle of direct reclaim: "
        "it reclaims, submits swap writes and waits, for the transport's send lock or for a bio from the "
        "pool of two, both held by writes whose replies only the disabled poll could deliver. kswapd "
        "waits in the same place, tasks wait for kswapd. No OOM kill comes, and the reserve is not even "
        "empty."
    ),
    functions=(
        "drivers/net/virtio_net.c:refill_work",
        "drivers/net/virtio_net.c:try_fill_recv",
        "net/core/sock.c:skb_page_frag_refill",
        "mm/vmscan.c:throttle_direct_reclaim",
        "drivers/block/nbd.c:nbd_queue_rq",
        "mm/mempool.c:mempool_alloc",
    ),
    reproduce=(
        "QEMU guest of 256 MB with virtio-net, swap on /dev/nbd0, default sysctls, eight writers of 75 MB "
        "each, and 16 to 40 TCP connections into a process that accepts and never reads (SO_RCVBUFFORCE 4 "
        "MB)."
    ),
    sources=(
        "Linux 6.12.117, read and run: 4 of 6 runs with competing traffic hung",
        "Linux kernel commits fcdef3bcbb2c, 1e7b90aa7988 and a0c159647e66 (in v6.19) remove the worker",
    ),
)


def _d2(host: Host, reserve: Reserve) -> Judgement:
    key = memalloc_key(host)

    def of_nic(user: BlockUser, nic: Link, row: Driver) -> Judgement:
        if not starves(row, key=key):
            return absent(f"{row.name} of {nic.name} can receive from the reserve", nic_evidence(nic))
        return floor_answer(
            host,
            reserve,
            user,
            nic,
            f"{row.name} of {nic.name} cannot refill from the reserve: once others have brought the zone "
            f"to its atomic floor nothing is received any more ({row.on_failure.value}), the replies to "
            f"{user.name} included",
            lead=floor_evidence(reserve)[:1],
        )

    return over_drivers(host, of_nic, by_swap=True)


D2 = Rule(
    id="D2",
    title="the driver cannot refill its ring from the reserve",
    place="ring",
    severity=Severity.DEADLOCK,
    argument="Run: e1000 stood still in 2 of 2 runs, and its ring is empty as long as the zone is low.",
    shown=Shown.RUN,
    needs=_NEEDS,
    judge=_d2,
    cure=FLOOR_CURE,
    mechanism=(
        "About half of the drivers in use take receive buffers with plain GFP_ATOMIC, which stops at 3/8 "
        "of min (plus lowmem_reserve). Without a drop, foreign intake takes the zone exactly there, "
        "whatever min is, and the next refill is the one that fails. Memalloc users could still allocate, "
        "the ring cannot: the NIC drops every packet, replies are lost, senders block, kswapd sleeps for "
        "a bio. The pages that unread sockets hold come back only when somebody reads."
    ),
    functions=(
        "drivers/net/ethernet/intel/e1000/e1000_main.c:e1000_alloc_frag",
        "net/core/skbuff.c:__napi_alloc_frag_align",
        "include/net/page_pool/helpers.h:page_pool_dev_alloc_pages",
        "mm/page_alloc.c:__zone_watermark_ok",
    ),
    reproduce="As D1 with -device e1000; bursts of at least half the ring's size bring it about in a second.",
    sources=("Linux 6.12.117, read and run: e1000 2 of 2; with UDP bursts 3 of 4",),
)


def _d3(host: Host, reserve: Reserve) -> Judgement:
    key = memalloc_key(host)

    def of_nic(user: BlockUser, nic: Link, row: Driver) -> Judgement:
        if row.delivery is not Delivery.NAPI or row.refill is Refill.INHERITED:
            return absent(
                (f"{row.name} of {nic.name} takes no packet heads from the NAPI cache"), nic_evidence(nic)
            )
        if row.small_heads is Refill.KEY and key:
            return absent(
                f"{row.name} copies small frames, replies to writes among them, into whole new packets "
                "(netdev_alloc_skb), heads included, that may come from the reserve",
                nic_evidence(nic),
            )
        return floor_answer(
            host,
            reserve,
            user,
            nic,
            f"the 256-byte head of a packet of {nic.name} ({row.name}) never comes from the reserve: at the "
            "atomic floor the cache of 64 runs dry, and filled buffers cannot be handed up",
            lead=floor_evidence(reserve)[1:2],
        )

    return over_drivers(host, of_nic, by_swap=True)


D3 = Rule(
    id="D3",
    title="packet heads are never taken from the reserve",
    place="ring",
    severity=Severity.DEADLOCK,
    argument=(
        "Same floor as D2. With vmxnet3 and 8139cp guests stood still for good, every zone at the floor, the driver "
        "dropping replies with tens of thousands of other packets; that heads were lacking is inferred."
    ),
    shown=Shown.INFERRED,
    needs=_NEEDS,
    judge=_d3,
    cure=FLOOR_CURE,
    mechanism=(
        "A ring full of reserve pages is of no use without an sk_buff for each packet. napi_build_skb and "
        "napi_alloc_skb take that 256-byte object with GFP_ATOMIC from a slab; below 3/8 of min no new slab "
        "page is granted, and slabs whose page came from the reserve are refused to callers without the "
        "permission. Up to 64 heads are cached on a CPU; then packets are dropped though buffers are there. "
        "Heads that are freed come back to the cache, so a few may go round for long. Drivers that copy small "
        "frames with netdev_alloc_skb (tg3, pcnet32) get those heads from the reserve too."
    ),
    functions=(
        "net/core/skbuff.c:napi_skb_cache_get",
        "net/core/skbuff.c:__build_skb",
        "mm/slub.c:pfmemalloc_match",
    ),
    reproduce="e1000e or igb, many small UDP packets to a socket with a huge receive buffer, then swap.",
    sources=(
        "Linux 6.12.117, read, and run with vmxnet3 and 8139cp (docs/results.md)",
        "that it is the head that is lacking is said by SLUB in some of those runs, and inferred in the others",
    ),
)


def ring_row(reserve: Reserve, nic: Link) -> Row | None:
    """The row of a NIC's receive rings in the sum."""
    rows = (row for row in reserve.rows if row.subject == nic.name and row.kind in {"need", "others"})
    return next(rows, None)


def _d5(host: Host, reserve: Reserve) -> Judgement:
    """Any NIC's ring drains the reserve, also one that no block user goes through."""
    if settings_alone(reserve):
        return absent(KEPT)
    key = memalloc_key(host)
    exclusive = reserve.exclusive_pages
    doubts: list[Judgement] = []
    for nic in host.links:
        if nic.kind or nic.name == "lo" or nic.up is False:
            continue
        row = driver_of(host, nic)
        if row is None:
            doubts.append(unknown(f"the driver of {nic.name} is not in the table", nic_evidence(nic)))
            continue
        if row.ring_permanent or not refills_from_reserve(row, key=key):
            continue
        if row.refill is Refill.INHERITED:
            continue
        ring = ring_row(reserve, nic)
        if ring is None or ring.pages is None or exclusive is None:
            doubts.append(
                unknown((f"how much the rings of {nic.name} may hold is not known"), nic_evidence(nic))
            )
        elif ring.pages > exclusive:
            return _d5_applies(host, reserve, nic, row, ring.pages)
    if doubts:
        return doubts[0]
    return absent("no ring that refills from the reserve can drain it")


def _d5_applies(host: Host, reserve: Reserve, nic: Link, row: Driver, pages: int) -> Judgement:
    harmed = "block IO" if host.users else "everybody whose packet meets such a slot"
    return applies(
        f"the rings of {nic.name} ({row.name}) may take {pages:,} pages from a reserve of "
        f"{reserve.exclusive_pages or 0:,} for packets that are then dropped: {harmed} finds it empty",
        nic_evidence(nic),
        *floor_evidence(reserve)[1:3],
        min_free_evidence(host),
        subjects=(nic.name,),
        severity=Severity.STALL if host.users else Severity.LOSS,
        cure=Cure(settings=(of(RING, nic.name), MIN_FREE, of(EARLY_DROP, nic.name))),
    )


D5 = Rule(
    id="D5",
    title="receive rings drain the reserve for foreign traffic",
    place="ring",
    severity=Severity.STALL,
    argument=(
        "Each dropped foreign packet frees its page at once, so the ring's share is bounded; without "
        "block users it is loss only. Whether the sum still fits is D15."
    ),
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.MEMORY}),
    judge=_d5,
    cure=Cure(settings=(MIN_FREE,)),
    mechanism=(
        "Drivers that call dev_alloc_pages always carry __GFP_MEMALLOC, with or without a block user. "
        "Every marked page is used once: the packet that meets it, when it is for an ordinary socket, is "
        "dropped, and the refill takes the next page of the reserve. A large ring with many queues holds "
        "all of it, and the send or the acknowledgement of block IO finds nothing."
    ),
    functions=(
        "include/linux/skbuff.h:__dev_alloc_pages",
        "net/core/filter.c:sk_filter_trim_cap",
        "include/linux/skbuff.h:dev_page_is_reusable",
    ),
    reproduce="QEMU 8.0 or newer, -device igb, ethtool -G rx 4096, a flood, a small min_free_kbytes.",
    sources=(
        "Linux 6.12.117, read",
        "Red Hat knowledge base 4085851: minutes without network on ixgbe and mlx5",
    ),
)


def _d17(host: Host, _reserve: Reserve) -> Judgement:
    polls = [name for name in ("net.core.busy_read", "net.core.busy_poll") if sysctl_int(host, name)]

    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        if nic.threaded:
            return applies(
                f"{nic.name} polls in a thread, where PF_MEMALLOC has no effect",
                *user_evidence(user),
                nic_evidence(nic),
                subjects=(user.name, nic.name),
                severity=Severity.STALL,
                cure=Cure(settings=(of(THREADED, nic.name),)),
            )
        if polls:
            return applies(
                "sockets may poll the NIC themselves, where PF_MEMALLOC has no effect",
                *(sysctl_evidence(host, name) for name in polls),
                subjects=(user.name, nic.name),
                severity=Severity.STALL,
                cure=Cure(curable=False, instead=f"set {' and '.join(polls)} to 0"),
            )
        if nic.threaded is None:
            why = f"whether {nic.name} polls in a thread was not read"
            return unknown(why, nic_evidence(nic), severity=Severity.STALL)
        return absent(f"{nic.name} polls in softirq", nic_evidence(nic))

    return over_nics(host, of_nic)


D17 = Rule(
    id="D17",
    title="the NIC is polled where PF_MEMALLOC has no effect",
    place="ring",
    severity=Severity.STALL,
    argument="Packets are lost and sent again; __GFP_MEMALLOC in the mask itself still works.",
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.LIMITS}),
    judge=_d17,
    cure=Cure(instead="threaded NAPI and busy polling turned off where storage goes"),
    mechanism=(
        "PF_MEMALLOC counts only in task context or while serving a softirq. With bottom halves merely "
        "disabled, in_interrupt() is true and the flag is ignored: in the thread of threaded NAPI, in "
        "busy polling, and inside __dev_queue_xmit. What the delivery of a marked packet allocates there "
        "(clones, conntrack, neighbours) is ordinary GFP_ATOMIC and fails at the floor."
    ),
    functions=("mm/page_alloc.c:__gfp_pfmemalloc_flags", "net/core/dev.c:napi_threaded_poll_loop"),
    reproduce="echo 1 > /sys/class/net/eth0/threaded with e1000e, then as D1.",
    sources=("Linux 6.12.117, read",),
)


def _d22(host: Host, reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link, row: Driver) -> Judgement:
        if row.refiller is not Refiller.WORKER or row.name == "virtio_net":
            return absent(f"no worker refills the ring of {nic.name}", nic_evidence(nic))
        return floor_answer(
            host,
            reserve,
            user,
            nic,
            f"an empty ring of {nic.name} ({row.name}) is refilled by a worker of the shared system queue, "
            f"which waits in reclaim for {user.name} or cannot be created at all",
        )

    return over_drivers(host, of_nic, by_swap=True)


D22 = Rule(
    id="D22",
    title="the ring's refill is work on a queue without a rescuer",
    place="ring",
    severity=Severity.DEADLOCK,
    argument=(
        "The same circle as D1, which was run: a worker reclaims and waits for the device it should serve."
    ),
    shown=Shown.INFERRED,
    needs=_NEEDS,
    judge=_d22,
    cure=Cure(settings=FLOOR_CURE.settings, instead=ANOTHER_NIC),
    mechanism=(
        "usbnet drivers refill in a kevent on the shared system workqueue with GFP_KERNEL. That queue has "
        "no rescuer thread (no WQ_MEM_RECLAIM): when all its workers sleep in reclaim a new one must be "
        "forked, and kthreadd itself waits in reclaim (seen on e1000). Resets after a transmit timeout "
        "and link watch use the same queue, so a link that flaps under load may not come back."
    ),
    functions=(
        "drivers/net/usb/usbnet.c:usbnet_deferred_kevent",
        "kernel/workqueue.c:create_worker",
        "net/core/link_watch.c:linkwatch_event",
    ),
    reproduce="QEMU -device usb-net with the load of D1; or pull the link for a moment under load.",
    sources=("Linux 6.12.117, read; a kthreadd in reclaim inside fork was seen in runs with e1000",),
)

RULES = (D1, D2, D3, D5, D17, D22)
