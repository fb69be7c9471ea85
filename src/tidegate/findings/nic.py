"""What a rule asks of the NICs that a block user's packets go through."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.drivers import Driver, Failure, Refill, driver
from tidegate.findings.exposure import (
    floor_evidence,
    graded_why,
    memalloc_key,
    on_the_wire,
    one_answer,
    over_users,
    settings_alone,
    user_evidence,
)
from tidegate.findings.rule import Judgement, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Link, Transport, nics_of
from tidegate.result import Cure, Evidence, Reserve, Severity
from tidegate.setting_ids import (
    CAP,
    EARLY_DROP,
    HIGH_ORDER_ALLOC_DISABLE,
    MIN_FREE,
    TCP_MEM,
    UDP_MEM,
    of,
)

ANOTHER_NIC = "an early drop at ingress (the guard), or a NIC whose driver refills from the reserve"
KEPT = "others cannot pin enough to bring a zone down to its atomic floor (settings_alone holds)"
FLOOR_CURE = Cure(settings=(UDP_MEM, TCP_MEM, HIGH_ORDER_ALLOC_DISABLE, MIN_FREE), instead=ANOTHER_NIC)


def driver_name(nic: Link) -> str:
    """The driver as the table of drivers names it; a virtual device is its own driver."""
    return nic.driver or nic.kind


def driver_of(host: Host, nic: Link) -> Driver | None:
    """What is known of a NIC's driver on this kernel; None: nothing."""
    return driver(driver_name(nic), host.kernel.version) if driver_name(nic) else None


def nic_evidence(nic: Link) -> Evidence:
    """A NIC with its driver and receive rings."""
    ring = "not read" if nic.ring.slots is None else f"{nic.ring.slots} slots"
    queues = f", {nic.ring.queues} queues" if nic.ring.queues and nic.ring.queues > 1 else ""
    return Evidence(
        source=nic.evidence or f"sys/class/net/{nic.name}",
        value=f"driver {driver_name(nic) or 'not known'}, receive ring {ring}{queues}",
        meaning="" if nic.name in nic.evidence else nic.name,
    )


def over_nics(host: Host, ask: Callable[[BlockUser, Link], Judgement], *, by_swap: bool = False) -> Judgement:
    """Asks for each NIC in the path of each block user."""
    return over_users(host, lambda user: _over_nics_of(host, user, ask), by_swap=by_swap)


def over_drivers(
    host: Host, ask: Callable[[BlockUser, Link, Driver], Judgement], *, by_swap: bool = False
) -> Judgement:
    """Asks for each NIC whose driver is known; a driver that is not in the table is unknown, never a
    guess.
    """

    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        row = driver_of(host, nic)
        if row is None:
            what = (
                (f"driver {driver_name(nic)} of {nic.name} is")
                if driver_name(nic)
                else (f"{nic.name}'s driver is")
            )
            return unknown(
                (f"{what} not in the table of drivers"), nic_evidence(nic), subjects=(user.name, nic.name)
            )
        return ask(user, nic, row)

    return over_nics(host, of_nic, by_swap=by_swap)


def _over_nics_of(host: Host, user: BlockUser, ask: Callable[[BlockUser, Link], Judgement]) -> Judgement:
    if user.transport is Transport.RDMA and not soft_rdma(host):
        return absent(f"{user.name} goes over RDMA: its data are in no socket buffer")
    if not on_the_wire(user):
        return absent(f"no NIC is in the path of {user.name}: its server is this machine")
    answers = [ask(user, nic) for nic in nics_of(host, user)]
    unseen = [route.peer for route in user.routes if not route.local and not route.nics]
    if unseen or not answers:
        what = f"to {unseen[0]}" if unseen else "of its packets"
        answers.append(unknown(f"the NIC of {user.name} is not known: no route {what} could be followed"))
    return one_answer(answers, none=f"no NIC of {user.name}")


def soft_rdma(host: Host) -> bool:
    """RDMA over ordinary sockets: soft iWARP or soft RoCE."""
    return bool(host.modules & {"siw", "rdma_rxe"})


def refills_from_reserve(row: Driver, *, key: bool) -> bool:
    """Full-sized buffers may come from below 3/8 min."""
    return row.refill in {Refill.ALWAYS, Refill.INHERITED} or (row.refill is Refill.KEY and key)


def copies_small_from_reserve(row: Driver, *, key: bool) -> bool:
    """Small frames are copied into a buffer that may come from below 3/8 min, and their slot stays filled."""
    return row.copybreak_bytes > 0 and (row.small is Refill.ALWAYS or (row.small is Refill.KEY and key))


def marks(row: Driver, *, key: bool) -> bool:
    """Received packets may carry the mark of the reserve, so that ordinary sockets drop them."""
    return refills_from_reserve(row, key=key) or copies_small_from_reserve(row, key=key)


def starves(row: Driver, *, key: bool) -> bool:
    """At the atomic floor nothing more is received through this ring, though the reserve is not empty.

    A driver that recycles the old buffer and copies small frames into the reserve still gets acknowledgements
    through (tg3); one that recycles and cannot copy drops every packet.
    """
    if refills_from_reserve(row, key=key):
        return False
    recycles = row.on_failure in {Failure.RECYCLE, Failure.DROP}
    return not (recycles and copies_small_from_reserve(row, key=key))


def floor_cure(user: BlockUser, nic: Link) -> Cure:
    """What keeps foreign intake from bringing the zone down to 3/8 min."""
    names = (of(CAP, user.name), *FLOOR_CURE.settings, of(EARLY_DROP, nic.name))
    return Cure(settings=names, instead=ANOTHER_NIC)


def floor_answer(
    host: Host,
    reserve: Reserve,
    user: BlockUser,
    nic: Link,
    why: str,
    *,
    severity: Severity | None = None,
    cure: Cure | None = None,
    lead: tuple[Evidence, ...] = (),
) -> Judgement:
    """The answer of a rule that rests on foreign traffic driving the zone to its atomic floor.

    `lead`: the part of the evidence that says most for this rule, and so comes first.
    """
    kept = settings_alone(reserve)
    shared = (nic_evidence(nic), *floor_evidence(reserve), *user_evidence(user))
    evidence = tuple(dict.fromkeys((*lead, *shared)))
    subjects = (user.name, nic.name)
    if kept:
        return absent(KEPT, *evidence)
    if kept is None:
        what = f"whether others can bring a zone of {host.name or 'this host'} down to its atomic floor"
        return unknown(f"{what} cannot be summed", *evidence, subjects=subjects, severity=severity)
    return applies(
        graded_why(why, user) if severity is None else why,
        *evidence,
        subjects=subjects,
        severity=severity,
        cure=cure or floor_cure(user, nic),
    )


def user_marks(host: Host, user: BlockUser) -> bool | None:
    """Some NIC in the path may hand up marked buffers; None where a driver is not known."""
    key = memalloc_key(host)
    rows = [driver_of(host, nic) for nic in nics_of(host, user)]
    if any(row is not None and marks(row, key=key) for row in rows):
        return True
    return None if not rows or None in rows else False
