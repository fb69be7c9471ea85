"""The drawings of the page: a chain from user to server, the sum as a bar; `gauge.py` has the water gauges.

Own SVG, inline: no library, nothing to load, colours from the page's style sheet, so light and dark both
work. Every drawing has a title and a description; what it shows stands in a table beside it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tidegate.report.markup import Child, Markup, tag
from tidegate.report.words import (
    UNBOUNDED,
    chain_words,
    evidence_words,
    grouped,
    printable,
    short_name,
)
from tidegate.result import ChainLink, Reserve, Row, UserView

# One layout for phone and desktop: no drawing is wider than a phone's column, so none is ever scaled down.
WIDTH = 340
_BOX, _GAP = 46, 22
_CHAR_WIDTH = 8.2  # bold, at 13 px, of the widest of the fonts; cut early rather than drawn over the edge
_KIND_WIDTH = 7.0  # at 11.5 px
_ON_THE_WIRE = {"socket", "route", "bond", "vlan", "bridge", "tunnel", "nic", "neighbour", "link"}


def drawing(name: str, height: float, title: str, about: str, *children: Child, width: int = WIDTH) -> Markup:
    """An SVG with its title and description; `name` is unique on the page."""
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", about, id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {width} {height:.0f}",
        width=width,
        height=f"{height:.0f}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def rect(x: float, y: float, width: float, height: float, class_: str, about: str = "") -> Markup:
    """A rectangle; what it stands for is its title."""
    title = tag("title", about) if about else None
    return tag("rect", title, x=x, y=y, width=width, height=max(height, 0.0), class_=class_)


# A chain


def chain_svg(user: UserView, name: str) -> Markup:
    """Boxes from the user down to the NIC, then the wire, then the server; evidence as a box's title."""
    links = [link if number == 1 else _several(link, number) for link, number in grouped(user.chain)]
    boxes = [_box(link, at) for at, link in enumerate(links)]
    arrows = [_arrow(at) for at in range(len(links) - 1)]
    end = len(links)
    servers = tuple(dict.fromkeys(one.remote for one in user.sockets))
    server = ChainLink(
        kind="server", name=servers[0] if servers else "address not read", detail=_others(servers)
    )
    wire = tag("path", d=f"M{WIDTH / 2} {_top(end) - _GAP} v{_GAP}", class_="wire")
    return drawing(
        name,
        _top(end) + _BOX + 2,
        f"The chain of {user.name}",
        f"{chain_words(user)} -> {server.kind} {server.name}",
        *boxes,
        *arrows,
        wire,
        _box(server, end),
    )


def _others(servers: Sequence[str]) -> str:
    return f"and {len(servers) - 1} more" if servers[1:] else ""


def _several(link: ChainLink, number: int) -> ChainLink:
    detail = f"{number} of them" + (f", {link.detail}" if link.detail else "")
    return replace(link, detail=detail)


def _top(at: int) -> float:
    return 1 + at * (_BOX + _GAP)


def _box(link: ChainLink, at: int) -> Markup:
    y = _top(at)
    where = "server" if link.kind == "server" else "net" if link.kind in _ON_THE_WIRE else "block"
    facts = "\n".join(evidence_words(one) for one in link.evidence)
    about = f"{link.kind} {link.name}" + (f": {link.detail}" if link.detail else "")
    kind = fitted(link.kind, 110)
    room = WIDTH - 24 - (len(kind) + 1) * _KIND_WIDTH
    return tag(
        "g",
        tag("title", f"{about} | {facts}" if facts else about),
        tag("rect", x=1, y=y, width=WIDTH - 2, height=_BOX, rx=6, class_=f"box {where}"),
        tag(
            "text",
            tag("tspan", kind, class_="kind"),
            " ",
            tag("tspan", fitted(short_name(link), room), class_="name"),
            x=12,
            y=y + (19 if link.detail else 28),
        ),
        tag("text", fitted(link.detail, WIDTH), x=12, y=y + 36, class_="detail") if link.detail else None,
    )


def _arrow(at: int) -> Markup:
    y = _top(at) + _BOX
    x = WIDTH / 2
    return tag("path", d=f"M{x} {y} v{_GAP - 1} m-4 -6 l4 6 l4 -6", class_="arrow")


def fitted(text: str, room: float) -> str:
    """As much of a text as surely fits into `room` pixels; the whole of it is in the title."""
    text = printable(text)
    most = max(int(room / _CHAR_WIDTH), 4)
    return text if len(text) <= most else text[: most - 1] + "…"


# The sum as a bar

COLOURS = 8


def sum_bar(rows: Sequence[Row], reserve: Reserve, name: str) -> Markup:
    """Rows side by side on one scale, with a mark where the exclusive part ends."""
    bounded = sum(row.pages or 0 for row in rows)
    exclusive = reserve.exclusive_pages or 0
    open_ended = any(row.pages is None for row in rows)
    top = max(bounded, exclusive, 1) * (1.25 if open_ended else 1.0)
    children: list[Child] = []
    x = 0.0
    # What has no bound stands last and fills the rest.
    for at, row in sorted(enumerate(rows), key=lambda one: one[1].pages is None):
        width = 1000 * (top - bounded if row.pages is None else row.pages) / top
        class_ = "open" if row.pages is None else f"c{at % COLOURS}"
        children.append(rect(x, 0, max(width - 2, 1.0), 28, class_, _row_in_words(row)))
        x += width
        if row.pages is None:
            break
    if reserve.exclusive_pages is not None:
        mark = 1000 * exclusive / top
        children.append(tag("path", d=f"M{mark:.1f} 0 V40", class_="limit"))
    return tag(
        "svg",
        tag("title", "The need, by holder", id=f"{name}-title"),
        tag("desc", "; ".join(_row_in_words(row) for row in rows), id=f"{name}-desc"),
        *children,
        viewBox="0 0 1000 40",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _row_in_words(row: Row) -> str:
    return f"{row.holder}: {UNBOUNDED if row.pages is None else f'{row.pages:,} pages'}"
