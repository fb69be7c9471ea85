"""Which of the three laws a design keeps on a machine, by looking at both, before anything runs.

The thesis of tidegate is that a machine on which all three hold cannot end STUCK. The swarm tries it on thousands of
machines drawn by chance: a STUCK run without a broken law is a surprise, and refutes either the thesis or this file.
The other way round nothing is claimed: a broken law makes a deadlock possible, not certain.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.case import Access, Buddy, Case, Driver, HookKind, Protocol
from tidegate.design import Design, Kernel, Pool, Refill

CAPPED_CONNECTION_PAGES = 12  # 32 KiB of send buffer and the head of one more request, a page a segment
PAGE_BYTES = 4096


def broken_laws(case: Case, design: Design) -> tuple[str, ...]:
    """One line for each way in which a law does not hold, its law first; empty where all three hold."""
    return (*_reserve(case, design), *_discard(case, design), *_throttle(case, design))


def _reserve(case: Case, design: Design) -> Iterator[str]:
    """What admitted block IO may still withdraw is not more than what only block IO can take."""
    size, nic = case.machine, case.nic
    if not design.gfp_memalloc and design.pool is Pool.GLOBAL:
        yield "reserve: there is none"
    elif nic.access is Access.NEVER and (design.driver_chooses or design.kernel is Kernel.V6_12):
        yield "reserve: this driver's receive buffers never come from it"
    if design.refill is Refill.EMPTY and nic.driver in {Driver.RECYCLE, Driver.WORKER}:
        yield "reserve: it is for an empty ring, and this driver drops packets, or turns its poll off, before that"
    if design.pool is Pool.GLOBAL and not size.raise_min:
        yield "reserve: min is raised by the reserve itself, and 3/8 of it are the reserve"
    if not size.page_per_skb and nic.buffer_bytes > PAGE_BYTES and size.buddy is Buddy.LISTS:
        yield "reserve: buffers of several pages, and free pages need not lie together"
    if case.faults.eater_pages:
        yield "reserve: somebody else takes it (PF_MEMALLOC)"
    if case.faults.admin_ms and not design.resize:
        yield "reserve: the administrator writes min_free_kbytes"
    if case.faults.reset_ms:
        yield "reserve: a connection that is reset needs ordinary memory to come back"
    if size.tcp_mem_pages:
        yield "reserve: the pages that all TCP sockets share are no part of it"


def _discard(case: Case, design: Design) -> Iterator[str]:
    """Nothing else holds a page of the reserve for a time without bound."""
    if not design.discard:
        yield "discard: packets of others are kept"
    if not design.sock_memalloc or not all(user.memalloc for user in case.user):
        yield "discard: a block socket has no flag, so its replies are dropped with the rest"
    if not (design.mark or design.count_pages):
        yield "discard: nothing tells a packet of the reserve"
    if design.coin_percent:
        yield "discard: a coin decides, for block IO too"
    if not design.discard_everywhere:
        kept = {one.protocol for one in case.traffic} - {Protocol.TCP, Protocol.ICMP}
        for protocol in sorted(kept):
            yield f"discard: {protocol} has no test"
    elif design.pfmemalloc and not design.early_drop:  # 6.12 asks at sockets; a drop at ingress comes before
        for protocol in sorted(
            {one.protocol for one in case.traffic} & {Protocol.FORWARD, Protocol.FRAGMENT}
        ):
            yield f"discard: {protocol} meets no socket, and so no test"
    yield from _copies(case, design)
    if not case.machine.page_per_skb and not design.pfmemalloc:
        yield "discard: other objects lie in slab pages of the reserve"


def _copies(case: Case, design: Design) -> Iterator[str]:
    for hook in case.hook:
        if hook.kind is HookKind.TAP and not design.pfmemalloc:
            if design.clone_clears or not design.discard_everywhere:
                yield "discard: a tap keeps clones of packets of the reserve"
        elif not design.driver_chooses and design.kernel is Kernel.V2_6_12:
            yield f"discard: a {hook.kind} copies into the reserve"


def _throttle(case: Case, design: Design) -> Iterator[str]:
    """No block request is admitted before its worst withdrawal is accounted for."""
    size = case.machine
    if design.throttle:
        if any(user.tickets for user in case.user):
            yield "throttle: a number of requests, not of pages"
        if not design.memalloc_acks:
            yield "throttle: acknowledgements are not accounted for"
        return
    if not design.caps:
        yield "throttle: there is none"
        return
    if any(user.encrypts for user in case.user):
        yield "throttle: caps on sockets do not bound the copies that encryption makes"
    connections = sum(user.connections for user in case.user)
    need = connections * CAPPED_CONNECTION_PAGES + _ring_pages(case)
    if need > size.reserve_pages:
        yield f"throttle: {connections} capped connections and the ring may take {need} of {size.reserve_pages} pages"


def _ring_pages(case: Case) -> int:
    if case.nic.driver is Driver.COPY:
        return 1
    pages = 1 if case.machine.page_per_skb else -(-case.nic.buffer_bytes // PAGE_BYTES)
    return case.nic.ring * pages
