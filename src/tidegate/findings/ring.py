"""The receive ring: what happens when its driver finds no page for the next buffer.

Kernel files: drivers/net/, net/core/skbuff.c, net/core/dev.c. Which driver does what is data, in `drivers`.
"""

from __future__ import annotations

from tidegate.findings.exposure import floor_evidence, graded_why, over_users, settings_alone, user_evidence
from tidegate.findings.nic import driver_name, nic_evidence, over_nics
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Link
from tidegate.result import Cure, Reserve, Severity, Shown, Topic
from tidegate.setting_ids import (
    CAP,
    EARLY_DROP,
    HIGH_ORDER_ALLOC_DISABLE,
    MIN_FREE,
    TCP_MEM,
    UDP_MEM,
    of,
)

REFILL_IN_POLL = (6, 19, 0)  # virtio_net lost refill_work: fcdef3bcbb2c, 1e7b90aa7988, a0c159647e66

_NEEDS = frozenset({Topic.USERS, Topic.NETWORK, Topic.MEMORY, Topic.LIMITS})
_KEPT = "others cannot pin enough to bring a zone down to its atomic floor (settings_alone holds)"


def floor_cure(user: BlockUser, nic: Link) -> Cure:
    """What keeps foreign intake from bringing the zone down to 3/8 min."""
    return Cure(
        settings=(
            of(CAP, user.name),
            UDP_MEM,
            TCP_MEM,
            HIGH_ORDER_ALLOC_DISABLE,
            MIN_FREE,
            of(EARLY_DROP, nic.name),
        ),
        instead="an early drop at ingress (the guard), or a NIC whose driver refills from the reserve",
    )


def floor_answer(host: Host, reserve: Reserve, user: BlockUser, nic: Link, why: str) -> Judgement:
    """The answer of a rule that rests on foreign traffic driving the zone to its atomic floor."""
    kept = settings_alone(reserve)
    evidence = (*user_evidence(user), nic_evidence(nic), *floor_evidence(reserve))
    if kept:
        return absent(_KEPT, *evidence)
    if kept is None:
        return unknown(
            f"whether others can bring a zone of {host.name or 'this host'} down to its atomic floor "
            "cannot be summed",
            *evidence,
            subjects=(user.name, nic.name),
        )
    return applies(
        graded_why(why, user), *evidence, subjects=(user.name, nic.name), cure=floor_cure(user, nic)
    )


def _d1(host: Host, reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        if not driver_name(nic):
            return unknown(f"the driver of {nic.name} is not known", nic_evidence(nic))
        if driver_name(nic) != "virtio_net":
            return absent(f"{nic.name} is no virtio_net", nic_evidence(nic))
        if host.kernel.version >= REFILL_IN_POLL:
            return absent(
                f"virtio_net of {host.kernel.release} refills its ring from the poll, without a worker"
            )
        return floor_answer(
            host,
            reserve,
            user,
            nic,
            f"{nic.name} is virtio_net: when a refill fails, a worker turns its receive poll off and waits "
            f"in reclaim for {user.name}, whose replies only that poll can deliver",
        )

    return over_users(
        host, lambda user: over_nics(host, user, lambda nic: of_nic(user, nic)), none="nobody is concerned"
    )


D1 = Rule(
    id="D1",
    title="virtio_net refills its ring in a worker that reclaims",
    place="ring",
    severity=Severity.DEADLOCK,
    argument=(
        "Run: pressure and ordinary traffic alone stopped a stock kernel until the end of every run, OOM "
        "killer included."
    ),
    shown=Shown.RUN,
    needs=_NEEDS,
    judge=_d1,
    cure=Cure(settings=(UDP_MEM, TCP_MEM, HIGH_ORDER_ALLOC_DISABLE, MIN_FREE)),
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

RULES = (D1,)
