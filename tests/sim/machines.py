"""Small machines that the tests of the mechanism share."""

from __future__ import annotations

from typing import Any

import msgspec

from tidegate.case import Case, check_case
from tidegate.design import without
from tidegate.designs import design
from tidegate.sim.machine import Machine
from tidegate.sim.page_alloc import take_at_boot
from tidegate.sim.run import build
from tidegate.sim.skbuff import Frame, Skb, dev_alloc_skb
from tidegate.sim.sock import Sock

# Storage that is slower than programs dirty, and a flood to sockets that nobody reads once memory is short.
TABLE: dict[str, Any] = {
    "claim": "a machine of the tests",
    "source": "tests",
    "name": "made",
    "machine": {"pages": 1024, "reserve_pages": 60, "page_per_skb": True},
    "nic": {"ring": 24},
    "user": [{"connections": 2, "service_us": 1000}],
    "traffic": [{"packets_per_s": 20_000, "from_ms": 40, "sockets": 8, "rcvbuf_bytes": 131_072}],
    "run": {"storm_ms": 400, "gap_ms": 200},
}


def case_of(**parts: Any) -> Case:
    """The machine above with parts changed: a dict is merged, a list replaces, merged with the first of its kind."""
    table = dict(TABLE)
    for name, part in parts.items():
        if isinstance(part, list):
            first = (TABLE.get(name) or [{}])[0]
            table[name] = [first | one for one in part]
        else:
            table[name] = TABLE.get(name, {}) | part
    case = msgspec.convert(table, Case)
    check_case(case, "made")
    return case


def boot(name: str = "mail", *left_out: str, seed: int = 1, **parts: Any) -> Machine:
    """The machine after boot, with a design and a case in which nobody sends unless told."""
    return build(case_of(**({"traffic": []} | parts)), without(design(name), *left_out), seed)


def leave_free(m: Machine, pages: int) -> None:
    """Programs take all but so many pages, and stay."""
    taken = m.zone.free - pages
    take_at_boot(m.zone, taken)
    m.programs_pages += taken


def packet(m: Machine, gfp: int, protocol: str = "tcp", sock: Sock | None = None) -> Skb:
    """A packet of others in a buffer that was asked for with this mask."""
    skb = dev_alloc_skb(m, m.rx_cache, gfp)
    assert skb is not None
    skb.frame = Frame(protocol, 1514, sock or foreign_sock(m, protocol))
    return skb


def foreign_sock(m: Machine, protocol: str = "tcp", rcvbuf: int = 1 << 20) -> Sock:
    """A socket of others that the machine knows."""
    sock = Sock(protocol, rcvbuf, "others_sockets")
    m.foreign_socks.append(sock)
    return sock
