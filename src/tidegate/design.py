"""A design: what one proposal changes in the receive path of a kernel, as switches.

The baseline is 2.6.12 as it was. Each hunk of the mail of August 2005, and each thing that its text asks for, is a
switch of its own, so that leaving one out shows what it was for. The proposals themselves are in `designs/`; the
running mechanism (`sim/`) takes one as an argument and knows none.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from tidegate.errors import Usage


class Kernel(StrEnum):
    """Whose rules hold where nothing was changed."""

    V2_6_12 = "2.6.12"
    V6_12 = "6.12"


class Refill(StrEnum):
    """When a driver that keeps a ring of buffers refills it from the reserve (e1000 in the mail)."""

    RING = (
        "ring"  # method 1: whenever the ordinary allocation fails; the whole ring is counted in the reserve
    )
    EMPTY = "empty"  # method 2: only when the ring has run out of ordinary buffers


class Pool(StrEnum):
    """Where the reserve is kept."""

    GLOBAL = "global"  # pages below a watermark of the zone
    MEMPOOL = "mempool"  # elements allocated beforehand and pinned
    SOCKET = "socket"  # a send pool and an acknowledge pool for each socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One proposal. `False`, `0` and the first member of a list are 2.6.12 as it was."""

    name: str
    title: str  # one line
    proposed_by: str
    source: str  # where it can be read
    about: str  # what it changes and why, a paragraph
    kernel: Kernel = Kernel.V2_6_12

    # The hunks of the mail.
    gfp_memalloc: bool = False  # gfp.h, page_alloc.c: __GFP_MEMALLOC ignores the watermarks
    ordinary_first: bool = False  # __dev_alloc_skb: try without the flag, then with it
    driver_chooses: bool = False  # dev_memalloc_skb: only callers that ask get the flag
    mark: bool = False  # is_memalloc_skb: an skb says that it came from the reserve
    clone_clears: bool = False  # skb_clone clears the mark
    copy_clears: bool = False  # copy_skb_header (skb_copy) clears the mark
    bypass: bool = False  # netif_rx hands marked packets on at once
    sock_memalloc: bool = False  # SOCK_MEMALLOC, is_memalloc_sock: block IO sets it
    discard: bool = False  # tcp_v4_rcv: a marked packet for another socket is dropped

    # What its text asks for, or what its author did next.
    discard_everywhere: bool = False  # the test in UDP, ICMP, IPv6, raw, forwarding and reassembly too
    memalloc_acks: bool = False  # acknowledgements that we send may use the reserve
    throttle: bool = False  # a request is admitted only when its worst withdrawal is accounted for
    resize: bool = False  # adjust_memalloc_reserve as users come and go
    count_pages: bool = False  # pages withdrawn and returned instead of marks on packets
    refill: Refill = Refill.RING

    # What the rivals do instead.
    pool: Pool = Pool.GLOBAL
    coin_percent: int = 0  # while the reserve is used, drop this share of all packets, whosever they are
    softnet_throttle: bool = False  # the softnet queue takes no more than its share of the reserve
    drop_out_of_order: bool = False  # a marked segment that is not the next one is dropped, not queued

    # What a kernel since 3.6 has, and what can be made of it from outside.
    pfmemalloc: bool = False  # pages and slabs carry the mark (6.12), retransmissions do not use the reserve
    direct_throttle: bool = False  # throttle_direct_reclaim: user tasks sleep below min/2
    caps: bool = False  # SO_SNDBUF and SO_RCVBUF on block connections
    early_drop: bool = False  # a program at ingress drops other traffic while free pages are below min


# What may be left out or added by name: every switch that is on or off.
SWITCHES = tuple(one.name for one in fields(Design) if one.type == "bool")
HUNKS = SWITCHES[: SWITCHES.index("discard") + 1]


def without(design: Design, *switches: str) -> Design:
    """The design with these switches off. Usage where one is unknown, or off already."""
    for name in switches:
        _known(name)
        if not getattr(design, name):
            there = f"on are {', '.join(on(design))}" if on(design) else "nothing of it is on"
            raise Usage(f"design {design.name} has no {name} to leave out; {there}")
    named = f"{design.name} without {', '.join(switches)}" if switches else design.name
    off: dict[str, Any] = dict.fromkeys(switches, False)
    return replace(design, name=named, **off)


def on(design: Design) -> tuple[str, ...]:
    """The switches that are on."""
    return tuple(name for name in SWITCHES if getattr(design, name))


def _known(name: str) -> None:
    if name not in SWITCHES:
        raise Usage(f"no switch {name!r}; there are {', '.join(SWITCHES)}")
