"""docs/designs.md, from the designs and the table of hunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import pairwise

from tidegate.design import Design
from tidegate.designs import DESIGNS
from tidegate.designs.hunks import ROWS, SLIPS, Row

_HEAD = """\
# Designs

<!-- made by `make docs` from the code's own tables; edit those -->

A design is what one proposal changes in the receive path of a kernel, as switches. The baseline is 2.6.12 as it was.
Each hunk of the mail of August 2005, and each thing that its text asks for, is a switch of its own, so that leaving
one out shows what it was for. Where a proposal is known to us only from the mail's answer to it, the paragraph says
so; of what such a proposal does not speak, the mail's hunks are lent, so that the point in dispute alone is on trial.

## Which design has which switch

`x`: on. Empty: as in 2.6.12. What a switch does is in the next section.
"""

_GROUPS = {
    "gfp_memalloc": "The hunks of the mail",
    "discard_everywhere": "What its text asks for, or its author did next",
    "pool": "What the rivals do instead",
    "pfmemalloc": "What a kernel since 3.6 has, and what can be made of it from outside",
}  # the first field of each group -> its title

_SIDE = """\
## The mail's hunks, the code here, and mainline

*Hunk* is a file of 2.6.12.3 and the first line of the hunk in it; without one, the text of the mail asks for it or
somebody else proposed it. *Here* is under `src/tidegate/`. *Mainline* was read in Linux 6.12.117.
"""

_SLIPS = """\
## Where the posted hunks do not do what they mean

The designs implement the intent.
"""


def designs_markdown() -> str:
    """The whole page."""
    tables = [f"### {title}\n\n{_switches(names)}" for title, names in _groups()]
    side = _table(
        ("switch", "hunk", "does", "here", "mainline", "what became of it"), (_side(row) for row in ROWS)
    )
    slips = _table(("posted", "so", "here instead"), ((slip.posted, slip.so, slip.instead) for slip in SLIPS))
    parts = [_HEAD, *tables, f"{_SIDE}\n{side}", f"{_SLIPS}\n{slips}"]
    parts += ["## Each design\n", *map(_paragraph, DESIGNS.values())]
    return "\n".join(parts)


def _groups() -> Iterable[tuple[str, list[str]]]:
    names = [one.name for one in fields(Design)]
    starts = [*map(names.index, _GROUPS), len(names)]
    for title, (begin, end) in zip(_GROUPS.values(), pairwise(starts), strict=True):
        yield title, names[begin:end]


def _switches(names: Sequence[str]) -> str:
    head = ("design", *(f"`{name}`" for name in names))
    return _table(
        head, ((f"`{one.name}`", *(_cell(getattr(one, name)) for name in names)) for one in DESIGNS.values())
    )


def _cell(value: bool | int | StrEnum) -> str:
    """`x` for a switch that is on, nothing for what is as in 2.6.12, else the value."""
    if value is True:
        return "x"
    if isinstance(value, StrEnum):
        return "" if value is next(iter(type(value))) else value.value
    return str(value) if value else ""


def _side(row: Row) -> tuple[str, ...]:
    here = (place.removeprefix("tidegate.").partition(":") for place in row.here)
    return (
        f"`{row.switch}`",
        "<br>".join(f"`{hunk}`" for hunk in row.hunks) or "-",
        row.does,
        "<br>".join(f"`{module.replace('.', '/')}.py` `{name}`" for module, _, name in here),
        row.mainline or "none",
        row.became,
    )


def _paragraph(one: Design) -> str:
    lines = [f"### {one.name}", "", f"*{one.title}*", "", one.about, ""]
    lines += [f"- proposed by: {one.proposed_by}", f"- source: {one.source}"]
    lines += [f"- where nothing is said: Linux {one.kernel.value}", ""]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
