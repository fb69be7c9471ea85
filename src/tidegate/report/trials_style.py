"""What the page of trials adds to the style sheet that all pages share: a wide matrix, its shades, its curves."""

from __future__ import annotations

# The shades are weak enough that text keeps its contrast on each of them, light and dark; a test computes it.
SHADES = (0, 6, 11, 16, 21)  # percent of the colour of what is bad, by fifths of the share that fails

_STYLE = """
.wide { overflow-x: auto }
table.matrix th[scope=row] { min-width: 13rem; font-weight: 400 }
table.matrix td { min-width: 9.5rem; padding: .45rem .6rem; border-left: 1px solid var(--line) }
table.matrix td a { font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums }
pre { font: .82rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; background: var(--page); border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem .7rem; max-height: 26rem; overflow-y: auto }
details details pre { background: var(--card) }
details > .gauges { margin: 0 .9rem 1rem }
figure { margin: 0; max-width: 100% }
figcaption { color: var(--quiet); font-size: .88rem }
svg .between { fill: var(--bad); fill-opacity: .45 }
svg .share { fill: var(--text) }
svg .held-line, svg .slack-line, svg .out-line, svg .in-line, svg .sweep-line { fill: none; stroke-width: 1.8 }
svg .held-line { stroke: var(--block) }
svg .slack-line { stroke: var(--kept) }
svg .out-line { stroke: var(--c1) }
svg .in-line { stroke: var(--net) }
svg .sweep-line { stroke: var(--quiet); stroke-dasharray: 3 3 }
.swatch.held-line { background: var(--block) }
.swatch.slack-line { background: var(--kept) }
.swatch.done { background: var(--good) }
.swatch.out-line { background: var(--c1) }
.swatch.in-line { background: var(--net) }
.swatch.calm-swatch { background: color-mix(in srgb, var(--quiet) 30%, transparent) }
@media (max-width: 760px) { table.matrix td { border-left: 0; padding: .45rem .6rem; margin: .2rem 0; min-width: 0 } }
"""


def styled(page: str) -> str:
    """The page with this style sheet in its own: the first end of a style sheet is that of the head."""
    shades = "".join(
        f"td.s{at} {{ background: color-mix(in srgb, var(--bad) {percent}%, transparent) }}\n"
        for at, percent in enumerate(SHADES)
    )
    before, end, after = page.partition("</style>")
    return f"{before}{_STYLE}{shades}{end}{after}"
