"""`check --html FILE`: a result as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.report.gauge import gauge_svg, zone_gauges
from tidegate.report.markup import Child, Markup, join, tag
from tidegate.report.page import code, folded, number, page, section, table
from tidegate.report.svg import COLOURS, chain_svg, sum_bar
from tidegate.report.words import (
    CONDITION_HOLDS,
    NOT_KNOWN,
    VERDICT_MEANS,
    accepted_words,
    band_words,
    by_severity,
    bytes_words,
    capped_words,
    count_by_severity,
    counted,
    cure_words,
    kernel_words,
    largest_first,
    pages_words,
    sentence,
    source_words,
    why_it_locks_up,
    zone_words,
)
from tidegate.result import (
    CheckResult,
    Evidence,
    Finding,
    Row,
    Setting,
    Severity,
    SocketView,
    State,
    UserView,
    Verdict,
)

SIZE_MAX_BYTES = 1_000_000
LOOK = {Verdict.AT_RISK: "bad", Verdict.CANNOT_TELL: "unsure", Verdict.SAFE: "good"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many of each are written out; the rest is counted, and stands in the JSON."""

    users: int
    sockets: int  # of each user
    evidence: int  # of each finding, link or socket
    others: int  # rows, settings, gaps, zones


# A page that would be too large is made again with less, never cut.
_LIMITS = (
    Limits(users=100, sockets=200, evidence=40, others=2000),
    Limits(users=40, sockets=20, evidence=8, others=400),
    Limits(users=12, sockets=4, evidence=3, others=60),
    Limits(users=4, sockets=1, evidence=1, others=12),
)


def check_html(result: CheckResult) -> str:
    """The page, at most SIZE_MAX_BYTES of UTF-8."""
    text = ""
    for limits in _LIMITS:
        text = _page(result, limits)
        if len(text.encode(errors="replace")) <= SIZE_MAX_BYTES:
            break
    return text


def _page(result: CheckResult, limits: Limits) -> str:
    sections = [
        _way(result),
        _users(result, limits),
        _reserve(result, limits),
        _findings(result, limits),
        _plan(result, limits),
        _conditions(result),
        _gaps(result, limits),
    ]
    shown = [one for one in sections if one is not None]
    title = f"{result.verdict.value}: {result.host.name}: {sentence(result.reason)}"
    return page(title, _head(result, [name for name, _ in shown]), [made for _, made in shown], _foot(result))


_NAMES = {
    "way": "The way there",
    "users": "What rides on the network",
    "reserve": "The reserve",
    "findings": "Findings",
    "plan": "The plan",
    "conditions": "Conditions",
    "gaps": "What could not be read",
}
Named = tuple[str, Markup] | None


def _named(name: str, *children: Child) -> tuple[str, Markup]:
    return name, section(name, _NAMES[name], *children)


def _head(result: CheckResult, names: Sequence[str]) -> Child:
    verdict = tag("span", result.verdict.value, class_=f"pill {LOOK[result.verdict]}", data_at="/verdict")
    nav = tag(
        "nav", *(tag("a", _NAMES[name], href=f"#{name}") for name in names), aria_label="Parts of this page"
    )
    return (
        tag("h1", verdict, " ", tag("span", sentence(result.reason), data_at="/reason")),
        tag(
            "p",
            tag("strong", result.host.name),
            f": {kernel_words(result)}, {source_words(result.host)}",
            class_="quiet",
        ),
        tag("p", why_it_locks_up(result.users)) if result.users else None,
        _tiles(result),
        nav if names else None,
    )


def _tiles(result: CheckResult) -> Markup:
    """The four numbers that matter."""
    reserve = result.reserve
    page = reserve.page_bytes
    hits = [one for one in result.findings if one.state is State.APPLIES]
    deadlocks = sum(one.severity is Severity.DEADLOCK for one in hits)
    after = "not known" if result.after is None else result.after.value
    tiles: list[tuple[str, Child, str]] = [
        (
            "block IO needs, when memory is short",
            number(reserve.need_pages, pages_words(reserve.need_pages, page), "/reserve/need_pages"),
            "",
        ),
        (
            "only it can take",
            number(
                reserve.exclusive_pages,
                pages_words(reserve.exclusive_pages, page, none=NOT_KNOWN),
                "/reserve/exclusive_pages",
            ),
            band_words(reserve),
        ),
        ("ways into a deadlock that are open", str(deadlocks), count_by_severity(hits)),
        ("with the plan", after, counted(len(result.plan), "setting")),
    ]
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))
            for name, value, more in tiles
        ),
        class_="tiles",
    )


def _way(result: CheckResult) -> Named:
    if result.way is None:
        return None
    places = {one.id: at for at, one in enumerate(result.plan)}
    steps = []
    for step in result.way.steps:
        stop = step.stopped_by
        link = tag("a", code(stop), href=f"#setting{places[stop]}") if stop in places else code(stop)
        steps.append(
            tag("li", sentence(step.text), tag("span", "stopped by ", link, class_="stop") if stop else None)
        )
    finding = (
        f"The shortest way into {result.way.finding} in this host's numbers, found by {result.way.source}."
    )
    return _named("way", tag("p", finding, class_="quiet"), tag("ol", *steps, class_="way"))


def _users(result: CheckResult, limits: Limits) -> Named:
    if not result.users:
        return None
    shown = result.users[: limits.users]
    cards = [_user(user, at, limits) for at, user in enumerate(shown)]
    return _named("users", cards, _rest(len(result.users) - len(shown), "users"))


def _user(user: UserView, at: int, limits: Limits) -> Markup:
    pointer = f"/users/{at}"
    sockets = user.sockets[: limits.sockets]
    nic = f" through {user.nic}" if user.nic else ""
    driver = f" ({user.driver})" if user.driver else ""
    about = f"{user.kind} over {user.transport}{nic}{driver}"
    right: list[Child] = []
    if sockets:
        rows = [_socket(one, f"{pointer}/sockets/{n}") for n, one in enumerate(sockets)]
        heads = ("connection", "send buffer", "receive buffer", "holds", "capped")
        right.append(table(f"Connections of {user.name}", heads, rows, numbers=(1, 2, 3)))
        right.append(_rest(len(user.sockets) - len(sockets), "connections"))
    found = [
        (f"{link.kind} {link.name}", one) for link in user.chain for one in link.evidence[: limits.evidence]
    ]
    found += [(f"socket {one.remote}", fact) for one in sockets for fact in one.evidence[: limits.evidence]]
    if found:
        facts_read = [(name, code(one.source), _fact(one)) for name, one in found]
        made = table(f"Evidence for the chain of {user.name}", ("part", "read from", "found"), facts_read)
        right.append(folded("Where this was read", made))
    return tag(
        "article",
        tag("h3", user.name, " ", tag("small", sentence(about), class_="quiet")),
        tag("p", sentence(user.note), class_="note") if user.note else None,
        tag("div", chain_svg(user, f"chain{at}")),
        tag("div", *right),
        class_="card user",
    )


def _socket(one: SocketView, pointer: str) -> tuple[Child, ...]:
    return (
        f"{one.local} → {one.remote}",
        number(one.sndbuf_bytes, bytes_words(one.sndbuf_bytes), f"{pointer}/sndbuf_bytes"),
        number(one.rcvbuf_bytes, bytes_words(one.rcvbuf_bytes), f"{pointer}/rcvbuf_bytes"),
        number(one.held_bytes, bytes_words(one.held_bytes), f"{pointer}/held_bytes"),
        capped_words(one),
    )


def _fact(one: Evidence) -> Child:
    return join((code(one.value), f" ({one.meaning})" if one.meaning else ""))


def _reserve(result: CheckResult, limits: Limits) -> Named:
    reserve = result.reserve
    if not (reserve.rows or reserve.zones):
        return None
    gauges = [gauge_svg(one) for one in zone_gauges(reserve)[: limits.others]]
    about = (
        "Each tank is the bottom of a zone. Ordinary requests stop at min, those of drivers and protocols at "
        "the floor (3/8 of min); both must leave lowmem_reserve of a lower zone alone as well. The hatched "
        "part is what only block IO can take now. Beside all zones together stands what it needs: what "
        "reaches above the hatched part is kept by nobody."
    )
    return _named(
        "reserve",
        tag("p", about) if gauges else None,
        tag("div", gauges, class_="gauges") if gauges else None,
        _zones(result, limits),
        _rows(result, limits),
        _inequalities(result),
        tag(
            "p",
            "Others can pin, above the reserve: ",
            number(
                reserve.pin_pages, pages_words(reserve.pin_pages, reserve.page_bytes), "/reserve/pin_pages"
            ),
            ". Band: ",
            number(
                reserve.band_pages,
                pages_words(reserve.band_pages, reserve.page_bytes, none=NOT_KNOWN),
                "/reserve/band_pages",
            ),
            f"; {band_words(reserve)}.",
        ),
    )


def _with_rest_as_one(rows: Sequence[Row], most: int) -> list[Row]:
    """The largest rows, and all others as one, so that a bar of thousands of rows stays a bar."""
    rest = rows[most:]
    if not rest:
        return list(rows)
    pages = [row.pages for row in rest if row.pages is not None]
    bounded = len(pages) == len(rest)
    return [
        *rows[:most],
        Row(holder=counted(len(rest), "more row"), pages=sum(pages) if bounded else None, why=""),
    ]


_LEVELS = ("managed", "free", "high", "low", "min", "boost", "floor", "lowmem_reserve", "exclusive")


def _zones(result: CheckResult, limits: Limits) -> Child:
    zones = result.reserve.zones
    if not zones:
        return None
    rows = [
        (
            zone_words(zone),
            *(
                number(getattr(zone, level), f"{getattr(zone, level):,}", f"/reserve/zones/{at}/{level}")
                for level in _LEVELS
            ),
        )
        for at, zone in enumerate(zones[: limits.others])
    ]
    made = table("Zones, in pages (proc/zoneinfo)", ("zone", *_LEVELS), rows, numbers=range(1, 10))
    return folded("The zones in numbers", made, _rest(len(zones) - len(rows), "zones"))


def _rows(result: CheckResult, limits: Limits) -> Child:
    reserve = result.reserve
    if not reserve.rows:
        return None
    places = {id(row): at for at, row in enumerate(reserve.rows)}
    ordered = largest_first(reserve.rows)
    needed = [row for row in ordered if row.kind == "need"]
    shown = [*needed, *(row for row in ordered if row.kind != "need")][: limits.others]
    swatches = {id(row): at for at, row in enumerate(needed)}
    kinds = {
        "pin": "others, above the reserve",
        "others": "others, in the reserve",
        "ring": "above the floor",
    }
    rows: list[Sequence[Child]] = []
    for row in shown:
        at = swatches.get(id(row))
        look = "open" if row.pages is None else f"c{(at or 0) % COLOURS}"
        swatch = None if at is None else tag("span", class_=f"swatch {look}", aria_hidden="true")
        pages = number(
            row.pages, pages_words(row.pages, reserve.page_bytes), f"/reserve/rows/{places[id(row)]}/pages"
        )
        why = row.why if row.measured else f"{row.why} (not read: the documented maximum)"
        of = tag("span", row.subject, class_="more") if row.subject else None
        rows.append((join((swatch, row.holder, of)), pages, kinds.get(row.kind, row.kind), why))
    heads = ("holder", "most it takes", "counts as", "why")
    line = "; the line on the bar is where the part that only block IO can take ends"
    caption = f"The sum, row by row{'' if reserve.exclusive_pages is None else line}"
    return join(
        (
            sum_bar(_with_rest_as_one(needed, limits.others), reserve, "sum") if needed else None,
            table(caption, heads, rows, numbers=(1,)),
            _rest(len(ordered) - len(shown), "rows"),
        )
    )


def _inequalities(result: CheckResult) -> Child:
    page = result.reserve.page_bytes
    rows = [
        (
            join((one.text, " ", tag("span", code(one.id), class_="more"))),
            number(one.left_pages, pages_words(one.left_pages, page), f"/reserve/conditions/{at}/left_pages"),
            number(
                one.right_pages, pages_words(one.right_pages, page), f"/reserve/conditions/{at}/right_pages"
            ),
            CONDITION_HOLDS[one.holds],
        )
        for at, one in enumerate(result.reserve.conditions)
    ]
    heads = ("condition", "this takes", "there are", "so it")
    return (
        table("The two ways in which the reserve can be enough", heads, rows, numbers=(1, 2))
        if rows
        else None
    )


def _findings(result: CheckResult, limits: Limits) -> Named:
    if not result.findings:
        return None
    ordered = by_severity(result.findings)
    hits = [one for one in ordered if one.state is State.APPLIES]
    count = tag("p", f"What applies: {count_by_severity(hits) or 'nothing'}.", class_="quiet")
    made: list[Child] = [_finding(one, limits, open=one.severity is Severity.DEADLOCK) for one in hits]
    for state, words in ((State.UNKNOWN, "cannot be told"), (State.ABSENT, "absent")):
        some = [one for one in ordered if one.state is state]
        if some:
            summary = f"{len(some)} {words} ({count_by_severity(some)})"
            made.append(folded(summary, [_finding(one, limits) for one in some], open=False))
    return _named("findings", count, made)


def _finding(one: Finding, limits: Limits, *, open: bool = False) -> Markup:
    word = one.severity.value if one.state is State.APPLIES else one.state.value
    pill = tag("span", word, class_=f"pill {word}")
    accepted = accepted_words(one)
    rows = [(code(item.source), _fact(item)) for item in one.evidence[: limits.evidence]]
    body: list[Child] = [tag("p", sentence(one.why))] if one.why else []
    if rows:
        body.append(table(f"Evidence for {one.id}", ("read from", "found"), rows))
        body.append(_rest(len(one.evidence) - len(rows), "facts"))
    if one.accepted is not None:
        body.append(tag("p", f"Accepted because: {sentence(one.accepted.reason)} It counts all the same."))
    if one.state is not State.ABSENT:
        cure = sentence(cure_words(one.cure))
        body.append(tag("p", cure[:1].upper() + cure[1:]))
    about = ", ".join(one.subjects)
    where = f"Place: {one.place}; severity: {one.severity}; shown by: {one.shown}"
    body.append(tag("p", f"{where}{f'; about: {about}' if about else ''}.", class_="quiet"))
    summary = join((pill, tag("strong", one.id), f" {one.title}", f" ({accepted})" if accepted else None))
    return folded(summary, body, open=open)


def _plan(result: CheckResult, limits: Limits) -> Named:
    if not (result.plan or result.remains):
        return None
    shown = result.plan[: limits.others]
    rows = [_setting(one, at) for at, one in enumerate(shown)]
    heads = ("setting", "old", "new", "why", "law, basis")
    after = "" if result.after is None else f" With it, this host is {result.after.value}."
    caption = f"In the order that matters.{after}"
    remains = [tag("li", sentence(one)) for one in result.remains]
    return _named(
        "plan",
        table(caption, heads, rows, class_="plan") if rows else tag("p", f"No setting to change.{after}"),
        _rest(len(result.plan) - len(shown), "settings"),
        (tag("h3", "What no setting cures"), tag("ul", remains)) if remains else None,
    )


def _setting(one: Setting, at: int) -> tuple[Child, ...]:
    facts = (
        ("Cures", ", ".join(one.cures)),
        ("At least", one.lower),
        ("At most", one.upper),
        ("Dominated by", one.dominant),
        ("Before it is written:", one.first),
        ("In steps:", ", ".join(one.steps)),
        ("Undo:", one.undo),
    )
    more = [tag("span", f"{word} {sentence(text)}", class_="more") for word, text in facts if text]
    return (
        tag("span", code(one.id), tag("br"), tag("span", one.path, class_="path quiet"), id=f"setting{at}"),
        NOT_KNOWN if one.old is None else code(" ".join(one.old.split())),
        tag("strong", code(" ".join(one.new.split()))),
        join((sentence(one.why), more)),
        f"{one.law}, {one.basis}",
    )


def _conditions(result: CheckResult) -> Named:
    if not result.conditions:
        return None
    about = f"{result.verdict.value} rests on these."
    return _named(
        "conditions", tag("p", about), tag("ul", *(tag("li", sentence(one)) for one in result.conditions))
    )


def _gaps(result: CheckResult, limits: Limits) -> Named:
    if not result.gaps:
        return None
    shown = result.gaps[: limits.others]
    rows = [(code(one.path), one.status, one.topic.value, one.detail) for one in shown]
    heads = ("path", "status", "leaves open", "detail")
    made = table("Missing input never makes a host look safer.", heads, rows)
    return _named("gaps", made, _rest(len(result.gaps) - len(shown), "paths"))


def _rest(left: int, what: str) -> Child:
    return (
        tag("p", f"and {left} more {what}, all of them in check --json", class_="quiet") if left > 0 else None
    )


def _foot(result: CheckResult) -> Iterator[Child]:
    yield tag("p", f"{result.verdict.value}: {VERDICT_MEANS[result.verdict]}.")
    yield tag("p", f"Made by tidegate check --html from the same result as check --json ({result.schema}).")
