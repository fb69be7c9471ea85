"""Small machines that the tests of the mechanism share."""

from __future__ import annotations

from typing import Any

import msgspec

from tidegate.case import Case, check_case

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
