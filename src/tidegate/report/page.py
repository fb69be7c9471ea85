"""The frame of a page: head, style sheet, numbers, tables, collapsibles. One file, nothing loaded, no script.

The policy in the head forbids every load, so that a mistake here could not become one either. Colours are
named once, light and dark; a test computes their contrast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate.report.markup import Child, Markup, join, tag, trusted

# name: (light, dark). Text on `page` and on `card`: at least 4.5 to 1; lines and areas against them: 3 to 1.
COLOURS = {
    "page": ("#ffffff", "#10151b"),
    "card": ("#f5f7fa", "#181f27"),
    "text": ("#1a2129", "#e8edf2"),
    "quiet": ("#535e6b", "#a3b0bd"),
    "line": ("#c9d1da", "#333e4a"),
    "link": ("#0b5cad", "#7cb8f5"),
    "bad": ("#b3261e", "#ff8d83"),
    "unsure": ("#8a5200", "#e9b34a"),
    "good": ("#1c7232", "#62cf7c"),
    "water": ("#4a90d9", "#3f7fc4"),
    "kept": ("#0b3c6f", "#b9dcff"),
    "block": ("#7048a8", "#c3a4f0"),
    "net": ("#0b6b75", "#5cc4cf"),
}
SERIES = (
    ("#3a6fb0", "#6fa3e0"),
    ("#b5651d", "#e39a55"),
    ("#3d7f4f", "#72bd86"),
    ("#8a4fa0", "#c493d6"),
    ("#a8405b", "#e28aa1"),
    ("#5f6f1f", "#b3c25f"),
    ("#2f7f87", "#68bcc4"),
    ("#6b5b53", "#b8a79d"),
)

_STYLE = """
* { box-sizing: border-box }
html { color-scheme: light dark; -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px }
header { padding-top: 28px }
h1 { font-size: 1.4rem; line-height: 1.35; margin: 0 0 .5rem; font-weight: 600 }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 0 0 .4rem }
p { margin: .4rem 0 .8rem; max-width: 46rem }
a { color: var(--link) }
code, .path { font: .88em/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
.quiet { color: var(--quiet) }
.pill { display: inline-block; padding: .05em .55em; border-radius: 5px; color: var(--page);
  font-weight: 700; margin-right: .35em; font-size: .95em; white-space: nowrap }
.pill.bad, .pill.deadlock { background: var(--bad) }
.pill.unsure, .pill.fault, .pill.stall { background: var(--unsure) }
.pill.good { background: var(--good) }
.pill.loss, .pill.note, .pill.unknown, .pill.absent { background: var(--quiet) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 1.2rem 0 0; padding: 0 }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px }
.tiles dt { color: var(--quiet); font-size: .85rem }
.tiles dd { margin: 0; font-size: 1.1rem; font-weight: 600 }
.tiles dd small { display: block; font-weight: 400; font-size: .8rem; color: var(--quiet) }
nav { margin-top: 1rem; font-size: .92rem }
nav a { margin-right: 1rem; white-space: nowrap }
ul { padding-left: 1.2rem; max-width: 46rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  margin: 0 0 14px }
.user { display: grid; grid-template-columns: 340px minmax(0, 1fr); gap: 8px 28px }
.user h3, .user .note { grid-column: 1 / -1 }
h3 small { font-weight: 400; margin-left: .4em }
.gauges { display: flex; flex-wrap: wrap; gap: 20px 24px; margin: 0 0 1rem }
ol.way { padding: 0; margin: 0; list-style: none; counter-reset: step; max-width: 52rem }
ol.way li { counter-increment: step; position: relative; padding: 0 0 1rem 2.6rem; min-height: 2.4rem }
ol.way li::before { content: counter(step); position: absolute; left: 0; top: 0; width: 1.7rem;
  height: 1.7rem; border-radius: 50%; background: var(--text); color: var(--page); text-align: center;
  line-height: 1.7rem; font-size: .85rem; font-weight: 700 }
ol.way li:last-child::before { background: var(--bad) }
ol.way li:not(:last-child)::after { content: ""; position: absolute; left: calc(.85rem - 1px); top: 1.9rem;
  bottom: .2rem; width: 2px; background: var(--line) }
ol.way.unsure li:last-child::before { background: var(--unsure) }
ol.way.good li:last-child::before { background: var(--good) }
.stop { display: block; font-size: .9rem; color: var(--good) }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: .4rem 0 1rem }
caption { text-align: left; color: var(--quiet); font-size: .88rem; padding-bottom: .3rem }
th, td { text-align: left; vertical-align: top; padding: .38rem .9rem .38rem 0;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600 }
th[scope=row] { min-width: 14rem }
.plan th[scope=row] { min-width: 18rem; font-weight: 400 }
.plan th code { font-weight: 600 }
td { min-width: 5rem }
thead th { color: var(--quiet); font-weight: 500; font-size: .85rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
details { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 0 0 8px }
details > summary { cursor: pointer; padding: .5rem .9rem }
details > :not(summary) { margin-left: .9rem; margin-right: .9rem }
details > table { width: calc(100% - 1.8rem) }
details details { background: var(--page) }
summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em }
.swatch.open { background: repeating-linear-gradient(135deg, var(--bad) 0 2px, transparent 2px 4px) }
.swatch.water { background: color-mix(in srgb, var(--water) 35%, transparent); border: 1px solid var(--water) }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1.2rem; list-style: none; padding: 0; margin: .5rem 0 1.6rem;
  max-width: none; font-size: .92rem }
.more { display: block; font-size: .92em; font-weight: 400; color: var(--quiet) }
footer { color: var(--quiet); font-size: .85rem; padding-top: 1.6rem; padding-bottom: 2rem }
svg { display: block; max-width: 100% }
svg text { font-family: inherit; font-size: 13px; fill: var(--text) }
svg .kind { fill: var(--quiet); font-size: 11.5px }
svg .detail { fill: var(--quiet); font-size: 11.5px }
svg .name, svg .number { font-weight: 600 }
svg .middle { text-anchor: middle }
svg .box { fill: var(--page); stroke-width: 1.5 }
svg .box.block { stroke: var(--block) }
svg .box.net { stroke: var(--net) }
svg .box.server { stroke: var(--quiet); stroke-dasharray: 4 3 }
svg .arrow { fill: none; stroke: var(--quiet); stroke-width: 1.5 }
svg .wire { fill: none; stroke: var(--quiet); stroke-width: 1.5; stroke-dasharray: 3 4 }
svg .tank { fill: var(--page); stroke: var(--line) }
svg .water { fill: var(--water); fill-opacity: .35 }
svg .kept { fill: url(#hatch); stroke: var(--kept); stroke-width: 1 }
svg .mark { fill: none; stroke: var(--text); stroke-width: 1.2; stroke-dasharray: 5 3 }
svg .mark.level { stroke: var(--water); stroke-dasharray: none; stroke-width: 2 }
svg .leader { fill: none; stroke: var(--line) }
svg .held { fill: var(--good) }
svg .over { fill: var(--bad) }
svg.bar { width: 100%; height: 40px; margin-top: 1.2rem }
svg .limit { fill: none; stroke: var(--text); stroke-width: 3; vector-effect: non-scaling-stroke }
svg .open { fill: url(#open) }
svg.plot { overflow: visible; width: calc(100% - 76px); margin: .8rem 0 1rem 76px }
svg .end { text-anchor: end }
svg .band { stroke: var(--page); stroke-width: .8; vector-effect: non-scaling-stroke }
svg .band.water { stroke: none }
svg .rim { fill: none; stroke: var(--page); stroke-width: 4; vector-effect: non-scaling-stroke }
svg.plot .mark, svg .moment, svg .out, svg .done { fill: none; vector-effect: non-scaling-stroke }
svg .mark.floor { stroke: var(--bad) }
svg .moment { stroke: var(--text); stroke-width: 1.4 }
svg .out { stroke: var(--bad); stroke-width: 2.4 }
svg .done { stroke: var(--good); stroke-width: 2.4 }
svg .calm { fill: var(--quiet); fill-opacity: .16 }
#patterns { position: absolute; width: 0; height: 0 }
#hatch path { stroke: var(--kept); stroke-width: 1.2; fill: none }
#open path { stroke: var(--bad); stroke-width: 3; fill: none }
@media (max-width: 760px) {
  main, header, footer { padding: 0 14px }
  header { padding-top: 18px }
  .user { grid-template-columns: minmax(0, 1fr) }
  table, tbody, tr, th[scope=row], td, caption { display: block; width: auto }
  details > table { width: auto }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tr { border-bottom: 1px solid var(--line); padding: .45rem 0 }
  th, td, th[scope=row], .plan th[scope=row] { border: 0; padding: .1rem 0; min-width: 0 }
  td.n, th.n { text-align: left }
  td[data-head]::before { content: attr(data-head) ": "; color: var(--quiet) }
  td:empty { display: none }
}
@media (max-width: 400px) { .card { padding: 10px } .tiles { grid-template-columns: 1fr 1fr } }
@media print { details > summary { list-style: none } nav { display: none } }
"""


def page(title: str, head: Child, body: Child, foot: Child) -> str:
    """A whole page; its first line ends with the title, which holds the verdict."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    meta = (
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
    )
    rest = (
        trusted("\n"),
        meta,
        tag("style", trusted(_style())),
        trusted("</head>\n<body>\n"),
        _patterns(),
        tag("header", head),
        tag("main", body),
        tag("footer", foot),
        trusted("\n</body></html>\n"),
    )
    start = trusted('<!doctype html><html lang="en"><head><meta charset="utf-8">')
    return join((start, tag("title", title), *rest))


def _style() -> str:
    def variables(which: int) -> str:
        named = [f"--{name}:{pair[which]}" for name, pair in COLOURS.items()]
        series = [f"--c{at}:{pair[which]}" for at, pair in enumerate(SERIES)]
        return ";".join(named + series)

    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}"
    fills = "".join(f".c{at}{{fill:var(--c{at});background:var(--c{at})}}" for at in range(len(SERIES)))
    return f":root {{ {variables(0)} }}\n{dark}\n{fills}{_STYLE}"


def _patterns() -> Markup:
    """Hatches that the drawings share; SVG patterns are found by id anywhere on a page."""
    hatch = tag(
        "pattern",
        tag("path", d="M0 8 L8 0"),
        id="hatch",
        width=8,
        height=8,
        patternUnits="userSpaceOnUse",
    )
    open_ = tag(
        "pattern",
        tag("path", d="M0 12 L12 0"),
        id="open",
        width=12,
        height=12,
        patternUnits="userSpaceOnUse",
    )
    return tag("svg", tag("defs", hatch, open_), id="patterns", aria_hidden="true", width=0, height=0)


def number(value: int | None, text: str, pointer: str) -> Child:
    """A number as people read it, with its exact value and its place in the JSON (RFC 6901)."""
    if value is None:
        return tag("span", text, data_at=pointer)
    return tag("data", text, value=value, data_at=pointer)


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Child]],
    numbers: Sequence[int] = (),
    class_: str | None = None,
) -> Markup:
    """A table whose first column heads the rows. On a phone each row becomes a card.

    The roles are written out, since a browser forgets what a table is once its cells are laid out as blocks.
    """
    head = tag(
        "tr",
        *(
            tag("th", word, scope="col", role="columnheader", class_="n" if at in numbers else None)
            for at, word in enumerate(heads)
        ),
        role="row",
    )
    body = (
        tag(
            "tr",
            tag("th", cells[0], scope="row", role="rowheader"),
            *(
                tag("td", cell, role="cell", class_="n" if at in numbers else None, data_head=heads[at])
                for at, cell in enumerate(cells[1:], start=1)
            ),
            role="row",
        )
        for cells in rows
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        role="table",
        class_=class_,
    )


def folded(summary: Child, *children: Child, open: bool = False) -> Markup:
    """A part that is unfolded by a click; no script is needed for it."""
    return tag("details", tag("summary", summary), *children, open="" if open else None)


def section(name: str, head: str, *children: Child) -> Markup:
    """A part of the page under its head."""
    return tag(
        "section", tag("h2", head, id=f"{name}-head"), *children, id=name, aria_labelledby=f"{name}-head"
    )


def code(text: str) -> Markup:
    """A path or a value, as it stands on the host."""
    return tag("code", text)
