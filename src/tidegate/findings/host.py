"""The host as a whole: the size of the reserve, what strands its pages, and who else lives from it.

Kernel files: mm/page_alloc.c, mm/vmscan.c.
"""

from __future__ import annotations

from tidegate.findings.exposure import (
    floor_evidence,
    graded,
    graded_why,
    min_free_evidence,
    over_users,
    swaps,
    sysctl_evidence,
    user_evidence,
)
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Transport, sysctl_int
from tidegate.result import Cure, Evidence, Reserve, Row, Severity, Shown, Topic
from tidegate.setting_ids import (
    CAP,
    HIGH_ORDER_ALLOC_DISABLE,
    MAX_SECTORS,
    MIN_FREE,
    NR_REQUESTS,
    TCP_RMEM,
    TCP_WMEM,
    WATERMARK_BOOST,
    WATERMARK_BOOST_TARGET,
    WATERMARK_SCALE,
    of,
)
from tidegate.units import human_pages

# reserve_highatomic_pageblock() keeps nothing back in a zone whose hundredth part is less than a pageblock.
_PAGEBLOCKS_MIN = 100
_SHARE_NOTE, _SHARE_HARM = 0.05, 0.10  # of all memory: where published advice begins to warn of OOM kills
# File systems whose own threads run under PF_MEMALLOC and are neither bounded nor counted.
_PF_MEMALLOC = {
    "cifs": "cifs_demultiplex_thread (fs/smb/client/connect.c)",
    "smb3": "cifs_demultiplex_thread (fs/smb/client/connect.c)",
    "xfs": "xfsaild (fs/xfs/xfs_trans_ail.c)",
    "bcachefs": "journal reclaim (fs/bcachefs/journal_reclaim.c)",
}


def _d4(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        memory = host.memory
        alone = sysctl_int(host, HIGH_ORDER_ALLOC_DISABLE)
        if memory is None:
            return unknown("the zones were not read", severity=Severity.STALL)
        held = [zone for zone in memory.zones if zone.highatomic]
        pageblock = (memory.hugepage_kib or 2048) * 1024 // host.page_bytes
        large = [zone for zone in memory.zones if zone.managed >= _PAGEBLOCKS_MIN * pageblock]
        evidence = (
            *(
                Evidence(
                    source="proc/zoneinfo",
                    value=(
                        f"Node {zone.node}, zone {zone.name}: highatomic {zone.highatomic}, on CPU lists "
                        f"{zone.pcp}"
                    ),
                )
                for zone in (held or large)
            ),
            sysctl_evidence(host, HIGH_ORDER_ALLOC_DISABLE),
        )
        if alone is None and large and not held:
            return unknown(f"{HIGH_ORDER_ALLOC_DISABLE} was not read", *evidence, severity=Severity.STALL)
        if alone and held:
            return applies(
                f"{sum(zone.highatomic or 0 for zone in held):,} pages are still kept for high orders; "
                "nothing new is",
                *evidence,
                severity=Severity.NOTE,
                cure=Cure(
                    curable=False, instead=("direct reclaim gives them back; the sum does not count on them")
                ),
            )
        if held or (large and not alone):
            return applies(
                f"up to 1 % of a zone can be kept for high orders (now "
                f"{sum(zone.highatomic or 0 for zone in held):,} pages): {user.name} cannot take those",
                *evidence,
                severity=Severity.STALL,
            )
        return absent(
            "no zone is large enough for it, or sockets and rings ask for single pages only", *evidence
        )

    return over_users(host, of_user)


D4 = Rule(
    id="D4",
    title="free pages that the reserve's users cannot take",
    place="host",
    severity=Severity.STALL,
    argument="A direct reclaimer gives the pages back before the OOM killer; the sum leaves them out.",
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.MEMORY, Topic.LIMITS}),
    judge=_d4,
    cure=Cure(settings=(HIGH_ORDER_ALLOC_DISABLE,)),
    mechanism=(
        "Pages in MIGRATE_HIGHATOMIC blocks are handed to ALLOC_HIGHATOMIC, OOM victims and non-blocking "
        "requests, not to ALLOC_NO_WATERMARKS, which replaced those flags. High-order GFP_ATOMIC requests "
        "(virtio_net's buffers, socket fragments, large slabs; not the fragments of netdev_alloc_frag, which "
        "carry __GFP_NOMEMALLOC) create such blocks, up to about 1 % of a zone of 200 MB or more. "
        "Pages on another CPU's list are out of reach as well, and not in the free count. Both come back "
        "by direct reclaim only."
    ),
    functions=(
        "mm/page_alloc.c:rmqueue_buddy",
        "mm/page_alloc.c:reserve_highatomic_pageblock",
        "mm/page_alloc.c:drain_all_pages",
    ),
    reproduce=(
        "1 GB guest with virtio-net and two CPUs; watch reserved_highatomic (SysRq-m) while failed memalloc "
        "requests show in kmem:mm_page_alloc."
    ),
    sources=("Linux 6.12.117, read",),
)


def unbounded_rows(reserve: Reserve) -> tuple[Row, ...]:
    """Rows of the need, and of others who reach the same pages, that nothing bounds."""
    return tuple(row for row in reserve.rows if row.kind in {"need", "others"} and row.pages is None)


def _d15(host: Host, reserve: Reserve) -> Judgement:
    return over_users(host, lambda user: _d15_of(host, reserve, user), by_swap=True)


def _d15_of(host: Host, reserve: Reserve, user: BlockUser) -> Judgement:
    need, exclusive = reserve.need_pages, reserve.exclusive_pages
    if exclusive is None:
        return unknown("what only block IO can take could not be read: the zones are missing")
    if need is None:
        open_rows = ", ".join(row.holder for row in unbounded_rows(reserve)) or "a row of the sum"
        return unknown(f"the need has no bound that could be read: {open_rows}", *user_evidence(user))
    evidence = (
        min_free_evidence(host),
        *_largest_rows(reserve),
        *floor_evidence(reserve)[1:3],
        *user_evidence(user),
    )
    sums = f"{human_pages(need, reserve.page_bytes)} against {human_pages(exclusive, reserve.page_bytes)}"
    if need <= exclusive:
        return absent(f"the need fits what only block IO can take: {sums}", *evidence)
    return applies(
        graded_why(f"block IO may withdraw more than only block IO can take: {sums}", user),
        *evidence,
        severity=graded(user),
        cure=_d15_cure(user),
    )


def _d15_cure(user: BlockUser) -> Cure:
    settings = [of(CAP, user.name), MIN_FREE, TCP_RMEM, TCP_WMEM]
    if user.queue is not None:
        settings += [of(NR_REQUESTS, user.queue.device), of(MAX_SECTORS, user.queue.device)]
    return Cure(settings=tuple(settings))


def _largest_rows(reserve: Reserve) -> tuple[Evidence, ...]:
    rows = [row for row in reserve.rows if row.kind == "need" and row.pages]
    rows.sort(key=lambda row: -(row.pages or 0))
    return tuple(
        Evidence(source=f"the sum: {row.holder}", value=f"{row.pages} pages", meaning=row.why)
        for row in rows[:3]
    )


D15 = Rule(
    id="D15",
    title="the reserve is smaller than what block IO may withdraw",
    place="host",
    severity=Severity.DEADLOCK,
    argument=(
        "Ordinary IO on the device under pressure suffices to empty the reserve; then no reply finds a "
        "page, and what is held comes back by replies only."
    ),
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.MEMORY, Topic.SOCKETS, Topic.LIMITS, Topic.NETWORK, Topic.QUEUES}),
    judge=_d15,
    cure=Cure(settings=(MIN_FREE, TCP_RMEM, TCP_WMEM)),
    mechanism=(
        "Nothing in the kernel sizes the reserve for its users (sk_set_memalloc says that the "
        "administrator must) or counts what is out. What only memalloc users can take is, per zone, 3/8 "
        "of min plus lowmem_reserve. Each connection may hold one and a half times its send buffer and three "
        "times its receive buffer, each ring that refills from the reserve its slots; with autotuned buffers "
        "one connection alone reaches 24 MB. When the sum is larger than the exclusive part, admitted IO can "
        "empty it before its own acknowledgements arrive."
    ),
    functions=(
        "net/core/sock.c:sk_set_memalloc",
        "mm/page_alloc.c:__zone_watermark_ok",
        "net/ipv4/tcp_ipv4.c:tcp_add_backlog",
        "net/core/stream.c:sk_stream_wait_memory",
    ),
    reproduce=(
        "Connect nbd0 with 8 to 16 connections and write to the device with dd while the host swaps to it."
    ),
    sources=(
        "Linux 6.12.117, read",
        "Linux kernel commit 7cb0240492ca (in v3.6): the administrator is responsible for min_free_kbytes",
    ),
)


def _d16(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        queue = user.queue
        evidence = [*user_evidence(user)]
        if queue is not None:
            depth = (
                f"nr_requests {queue.nr_requests}, max_sectors_kb {queue.max_sectors_kib}, wbt "
                f"{queue.wbt_usec}"
            )
            evidence.append(Evidence(source=f"sys/block/{queue.device}/queue", value=depth))
        full = "its queue, its connection or the bio pool of two is"
        if user.transport is Transport.NFS:  # swap_writepage_fs(): no bio, no queue, and sunrpc sends for it
            full = "the pool of 32 swap requests is"
        return applies(
            f"kswapd itself submits the writes of {user.name} and sleeps when {full} used up; everybody who "
            "reclaims waits for kswapd",
            *evidence,
            sysctl_evidence(host, WATERMARK_SCALE, "kswapd starts earlier where it is larger"),
            severity=Severity.STALL,
        )

    swapping = [user for user in host.users if swaps(user)]
    return over_users(host, of_user, among=swapping, none="no swap rides on the network")


D16 = Rule(
    id="D16",
    title="kswapd sleeps in the submission of its own writes",
    place="host",
    severity=Severity.STALL,
    argument="Goes on with each reply; with replies stopped by another finding it is part of that deadlock.",
    shown=Shown.RUN,
    needs=frozenset({Topic.USERS}),
    judge=_d16,
    cure=Cure(
        settings=(WATERMARK_SCALE,),
        curable=False,
        instead=(
            "every swap over a network has it; an earlier start of kswapd, zswap in front and a faster "
            "server make it rarer"
        ),
    ),
    mechanism=(
        "Swap-out may block by design: for a tag, in write-back throttling, on the transport's send lock, "
        "for a bio from a pool of two (NFS: a swap request from a pool of 32). kswapd is one thread a node, and "
        "tasks in direct reclaim sleep while their node has less free than half of its min, until kswapd has "
        "freed some."
    ),
    functions=("mm/vmscan.c:pageout", "mm/mempool.c:mempool_alloc", "mm/vmscan.c:throttle_direct_reclaim"),
    reproduce="A slow server: 1 Mbit/s on its side, the load of D1 without foreign traffic.",
    sources=("Linux 6.12.117, read; kswapd in mempool_alloc seen in every wedge that was run",),
)


def _d21(host: Host, reserve: Reserve) -> Judgement:
    def of_user(_user: BlockUser) -> Judgement:
        found = [mount for mount in host.mounts if mount.fstype in _PF_MEMALLOC]
        evidence = tuple(
            Evidence(
                source="proc/self/mountinfo",
                value=f"{mount.point}: {mount.fstype}",
                meaning=_PF_MEMALLOC[mount.fstype],
            )
            for mount in {mount.fstype: mount for mount in found}.values()
        )
        rows = [row.holder for row in reserve.rows if row.kind == "others" and row.pages is None]
        if not found and not rows:
            return absent("nobody else was seen who lives under PF_MEMALLOC, beyond reclaim itself")
        names = ", ".join(dict.fromkeys((*(mount.fstype for mount in found), *rows)))
        return applies(
            (f"others take from the reserve, uncounted: {names}"), *evidence, severity=Severity.STALL
        )

    return over_users(host, of_user)


D21 = Rule(
    id="D21",
    title="others take from the reserve, and nothing counts them",
    place="host",
    severity=Severity.STALL,
    argument="What they take they give back by themselves; how much is not bounded, so the sum names them.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS}),
    judge=_d21,
    cure=Cure(
        curable=False,
        instead=(
            "keep such file systems off a host that swaps over the network, or give the reserve room for them"
        ),
    ),
    mechanism=(
        "PF_MEMALLOC is not reserved to block IO: kswapd, every direct reclaimer, compaction, memory "
        "cgroups at their limit (they use the global reserve), XFS and bcachefs threads, and the CIFS "
        "thread for its whole life all allocate without watermarks. Answers to ICMP and resets are sent "
        "under it too. One pool, no order of service, no count."
    ),
    functions=(
        "mm/page_alloc.c:__perform_reclaim",
        "mm/vmscan.c:try_to_free_mem_cgroup_pages",
        "fs/smb/client/connect.c:cifs_demultiplex_thread",
        "fs/xfs/xfs_trans_ail.c:xfsaild",
    ),
    reproduce="A memory cgroup at its limit beside swap over NBD; or a flood of packets to closed ports.",
    sources=("Linux 6.12.117, read",),
)


def _reserve_too_large(host: Host, reserve: Reserve) -> Judgement:
    memory = host.memory
    if memory is None or memory.min_free_kib is None or not memory.total_kib:
        return unknown("min_free_kbytes or the size of memory was not read", min_free_evidence(host))
    share = memory.min_free_kib / memory.total_kib
    high = sum(zone.high for zone in reserve.zones)
    evidence = (
        min_free_evidence(host),
        Evidence(source="proc/meminfo", value=f"MemTotal {memory.total_kib} kB"),
        Evidence(
            source="proc/zoneinfo",
            value=f"high {high} pages",
            meaning=f"kswapd works until {human_pages(high, reserve.page_bytes)} are free",
        ),
    )
    why = f"min_free_kbytes is {share:.1%} of memory"
    if share > _SHARE_HARM:
        return applies(f"{why}: tasks are killed for want of memory that is kept free", *evidence)
    if share > _SHARE_NOTE:
        return applies(f"{why}, which programs do without", *evidence, severity=Severity.NOTE)
    return absent(why, *evidence)


RESERVE_TOO_LARGE = Rule(
    id="reserve-too-large",
    title="the reserve is so large that it causes OOM kills",
    place="host",
    severity=Severity.LOSS,
    argument="Programs are killed, nothing stands still; from 5 to 10 % of memory it is a note.",
    shown=Shown.REPORT,
    needs=frozenset({Topic.MEMORY}),
    judge=_reserve_too_large,
    cure=Cure(settings=(MIN_FREE,)),
    mechanism=(
        "min_free_kbytes is a floor, not a stock: raising it takes memory from everybody and yields no "
        "page under pressure. It has no upper bound check. Published advice for one 16 GiB host ranges "
        "from 16 MB to 3.3 GB; caps on the connections lower the need by more than an order of magnitude "
        "and come first."
    ),
    functions=("mm/page_alloc.c:min_free_kbytes_sysctl_handler", "mm/page_alloc.c:__setup_per_zone_wmarks"),
    reproduce="sysctl vm.min_free_kbytes to a fifth of memory, then start what ran before.",
    sources=(
        "Linux Documentation/admin-guide/sysctl/vm.rst",
        "Red Hat Enterprise Linux 6 tuning guide: 5 to 10 % of memory",
        "aredn/aredn#1946",
    ),
)


def _watermark_boost(host: Host, reserve: Reserve) -> Judgement:
    def of_user(_user: BlockUser) -> Judgement:
        factor = sysctl_int(host, WATERMARK_BOOST)
        boosted = [zone for zone in reserve.zones if zone.boost]
        evidence = (
            sysctl_evidence(host, WATERMARK_BOOST),
            *(
                Evidence(
                    source=("proc/zoneinfo"), value=(f"zone {zone.name}: boost {zone.boost}, min {zone.min}")
                )
                for zone in boosted
            ),
        )
        if factor is None:
            return unknown(f"{WATERMARK_BOOST} was not read", *evidence, severity=Severity.NOTE)
        if factor <= WATERMARK_BOOST_TARGET:
            return absent("watermarks are not boosted", *evidence)
        now = f" (now by {sum(zone.boost for zone in boosted):,} pages)" if boosted else ""
        return applies(
            f"fragmentation may raise min for ordinary requests{now}, and with it the level at which "
            "reclaim sleeps",
            *evidence,
            severity=Severity.NOTE,
        )

    return over_users(host, of_user)


WATERMARK_BOOST_ON = Rule(
    id="watermark-boost",
    title="watermarks are boosted on fragmentation",
    place="host",
    severity=Severity.NOTE,
    argument=(
        "Moves where others wait, not what block IO may take; seen beside the wedges, not as their cause."
    ),
    shown=Shown.RUN,
    needs=frozenset({Topic.USERS, Topic.MEMORY}),
    judge=_watermark_boost,
    cure=Cure(settings=(WATERMARK_BOOST,)),
    mechanism=(
        "After a fragmenting allocation the zone's watermarks are raised for a while. The boost counts "
        "for GFP_KERNEL and for the throttle of direct reclaim, not for GFP_ATOMIC: on a small host with "
        "1.7 MB of min it was 2 to 7 MB, so that everybody but the foreign packets waited earlier."
    ),
    functions=("mm/page_alloc.c:boost_watermark", "mm/page_alloc.c:zone_watermark_fast"),
    reproduce="256 MB guest, default settings, any load that mixes page types; read boost in /proc/zoneinfo.",
    sources=("Linux 6.12.117, run",),
)

RULES = (D4, D15, D16, D21, RESERVE_TOO_LARGE, WATERMARK_BOOST_ON)
