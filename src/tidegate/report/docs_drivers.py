"""docs/drivers.md, from the table of drivers."""

from __future__ import annotations

from tidegate.drivers import DRIVERS, Driver, Refill
from tidegate.units import human_bytes

_HEAD = """\
# What each NIC driver does when memory is short

<!-- made by `make docs` from the code's own tables; edit those -->

Source read: Linux 6.12.117, x86-64, 4 KiB pages, MTU 1500. A driver that is not listed is not known, and
`tidegate check` then says so instead of guessing.

**Refill** says whether an allocation of the receive path may go below 3/8 of the min watermark:
`always`; `key` (only once a block connection has been flagged SOCK_MEMALLOC); `never`; `inherited` (allocates
nothing). *Small frames* are those up to the copybreak size, which are copied into a fresh small buffer.
**Class** says what a received frame takes from the reserve: A slices of a page, B halves, C a page, D nothing
(ordinary GFP_ATOMIC memory instead); class A takes one high-order kmalloc for a frame over 3712 bytes.
**Pinned** is what one frame that nobody reads can keep from being freed, and how many frames share it.
"""

_COLUMNS = (
    "driver",
    "class",
    "refill",
    "small frames",
    "when it fails",
    "who refills",
    "slot",
    "ring",
    "pinned",
    "XDP",
)


def _small(row: Driver) -> str:
    if row.ring_permanent and row.refill is not Refill.INHERITED:
        return f"{row.small.value} (all are copied)"
    return f"{row.small.value} up to {row.copybreak_bytes} bytes" if row.copybreak_bytes else "-"


def _ring(row: Driver) -> str:
    default = "-" if row.ring_default is None else str(row.ring_default)
    most = "-" if row.ring_max is None else str(row.ring_max)
    return f"{default} / {most}{' (device)' if row.ring_by_device else ''}"


def _pinned(row: Driver) -> str:
    whole = human_bytes(row.pinned_bytes)
    return f"{whole} by {row.sharers}" if row.sharers > 1 else whole


def _line(row: Driver) -> str:
    cells = (
        f"`{row.name}`",
        row.shape.value,
        row.refill.value,
        _small(row),
        row.on_failure.value,
        row.refiller.value,
        human_bytes(row.slot_bytes) if row.slot_bytes else "-",
        _ring(row),
        _pinned(row),
        row.xdp.value,
    )
    return f"| {' | '.join(cells)} |"


def _details(row: Driver) -> str:
    lines = [f"### {row.name}", ""]
    if row.aliases:
        lines.append(f"Also known as {', '.join(f'`{name}`' for name in row.aliases)}.")
    lines.append(f"On failure: {row.on_failure_text}.")
    if row.delivery.value != "napi":
        lines.append(f"Delivers by {row.delivery.value}.")
    if row.slot_bytes_most is not None:
        lines.append(f"Traffic can make a slot hold {human_bytes(row.slot_bytes_most)}.")
    if row.slot_bytes_xdp is not None:
        lines.append(f"With native XDP a slot holds {human_bytes(row.slot_bytes_xdp)}.")
    if row.pinned_bytes_order0 is not None:
        lines.append(
            f"With `net.core.high_order_alloc_disable=1` a frame pins "
            f"{human_bytes(row.pinned_bytes_order0)}, shared by {row.sharers_order0}."
        )
    if row.note:
        lines.append(f"Note: {row.note}.")
    if row.changed_in is not None:
        lines.append(f"From Linux {row.changed_in[0]}.{row.changed_in[1]}: {row.change}.")
    lines.append(f"Read in {', '.join(f'`{name}`' for name in row.functions)}.")
    return "\n".join(lines)


def drivers_markdown() -> str:
    """The whole page."""
    head = f"| {' | '.join(_COLUMNS)} |"
    rule = "|" + " --- |" * len(_COLUMNS)
    table = "\n".join([head, rule, *map(_line, DRIVERS)])
    details = "\n\n".join(map(_details, DRIVERS))
    return f"{_HEAD}\n{table}\n\n## Details\n\n{details}\n"
