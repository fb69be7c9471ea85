"""`check` on a terminal: one calm screen, the verdict first; `all` leaves nothing out and cuts nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tidegate.report.screen import (
    SEVERITY_LOOK,
    VERDICT_LOOK,
    Screen,
    bars,
    fill,
    left_out,
    line,
    paint,
    screen_of,
    section,
    table,
)
from tidegate.report.words import (
    CONDITION_HOLDS,
    NOT_KNOWN,
    UNBOUNDED,
    VERDICT_MEANS,
    accepted_words,
    applying,
    band_words,
    by_severity,
    bytes_words,
    capped_words,
    chain_words,
    count_by_severity,
    counted,
    cure_words,
    evidence_words,
    kernel_words,
    largest_first,
    pages_words,
    printable,
    row_words,
    sentence,
    source_words,
    state_words,
    unknown,
    why_it_locks_up,
    worst_first,
)
from tidegate.result import (
    CheckResult,
    Evidence,
    Finding,
    Gap,
    Reserve,
    Row,
    Setting,
    Severity,
    State,
    Step,
    UserView,
    Verdict,
)

# How many of each the one screen shows.
_USERS, _FINDINGS, _ROWS, _SETTINGS, _REMAINS, _GAPS, _DENIED = 4, 5, 3, 12, 4, 2, 6


def check_text(result: CheckResult, *, all: bool = False, width: int = 80, colour: bool = False) -> str:
    """One host as text that ends with a newline."""
    screen = screen_of(width=width, colour=colour, all=all)
    sections = (
        _head(result, screen),
        _users(result.users, screen),
        _findings(result.findings, screen),
        _way(result, screen),
        _reserve(result, screen),
        _zones(result.reserve, screen) if all else [],
        _plan(result, screen),
        _remains(result.remains, screen),
        _listed(f"{result.verdict.value} on these conditions", result.conditions, screen),
        _gaps(result.gaps, screen),
        _denied(result.denied, screen),
        _more(result, screen),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _head(result: CheckResult, screen: Screen) -> list[str]:
    """The verdict with its sentence, the host, and why such a host can lock up."""
    word = result.verdict.value
    first, *rest = fill(f"{word}: {sentence(result.reason)}", screen, hang=2)
    host = result.host
    about = f"{printable(host.name)}: {kernel_words(result)}, {source_words(host)}"
    return [
        paint(word, VERDICT_LOOK[result.verdict], screen) + first.removeprefix(word),
        *rest,
        *(paint(one, "quiet", screen) for one in fill(about, screen, hang=2)),
        *(["", *fill(why_it_locks_up(result.users), screen)] if result.users else []),
    ]


def _users(users: Sequence[UserView], screen: Screen) -> list[str]:
    if not users:
        return []
    shown = users if screen.all else users[:_USERS]
    lines: list[str] = []
    for user in shown:
        driver = f" ({user.driver})" if user.driver and user.driver not in chain_words(user) else ""
        text = f"{user.name} over {user.transport}: {chain_words(user)}{driver}{_caps(user, screen)}"
        lines += fill(printable(text), screen, 2, 2)
        if user.note:
            lines += line(printable(user.note), screen, 4)
        if screen.all:
            lines += _chain_in_full(user, screen)
    lines += left_out(len(users) - len(shown), "more", screen)
    return section("What rides on the network", lines, screen)


def _caps(user: UserView, screen: Screen) -> str:
    """How many connections have no cap on their buffers; each is listed with `--all` instead."""
    free = sum(one.capped is not True for one in user.sockets)
    number = len(user.sockets)
    if not free or screen.all:
        return ""
    if number == 1:
        return "; buffers not capped"
    return f"; buffers of {free} of {number} connections not capped"


def _chain_in_full(user: UserView, screen: Screen) -> Iterator[str]:
    for link in user.chain:
        detail = f": {link.detail}" if link.detail else ""
        yield from fill(printable(f"{link.kind} {link.name}{detail}"), screen, 4, 2)
        yield from _evidence(link.evidence, screen, 6)
    for one in user.sockets:
        sizes = f"send buffer {bytes_words(one.sndbuf_bytes)}, receive buffer {bytes_words(one.rcvbuf_bytes)}"
        text = (
            f"{one.local} -> {one.remote}: {sizes}, {capped_words(one)}, holds {bytes_words(one.held_bytes)}"
        )
        yield from fill(printable(text), screen, 4, 2)
        yield from _evidence(one.evidence, screen, 6)


def _findings(findings: Sequence[Finding], screen: Screen) -> list[str]:
    """Deadlocks in full, the next worst in a line each, the rest as a number."""
    hits, open_ = applying(findings), unknown(findings)
    if not findings or not (hits or open_ or screen.all):
        return []
    head = f"What applies here: {count_by_severity(hits) or 'nothing'}"
    if screen.all:
        return section(
            head, (text for one in by_severity(findings) for text in _finding(one, screen)), screen
        )
    worst = [one for one in hits if one.severity is Severity.DEADLOCK]
    others = [one for one in hits if one.severity not in {Severity.DEADLOCK, Severity.NOTE}]
    shown = worst + others[: max(_FINDINGS - len(worst), 1)]
    lines: list[str] = []
    for one in shown:
        # Several findings often rest on one fact; it is said once.
        lines += [text for text in _finding(one, screen) if text not in lines]
    rest = [one for one in hits if one not in shown]
    lines += left_out(len(rest), f"more ({count_by_severity(rest)})", screen)
    if open_:
        ids = ", ".join(one.id for one in open_)
        lines += line(f"cannot be told ({count_by_severity(open_)}): {printable(ids)}", screen, 2)
    return section(head, lines, screen)


def _finding(one: Finding, screen: Screen) -> Iterator[str]:
    word = state_words(one)
    look = SEVERITY_LOOK.get(one.severity, "") if one.state is State.APPLIES else ""
    accepted = accepted_words(one)
    head, *rest = fill(
        printable(f"{word} {one.id}: {one.title}{accepted and f' ({accepted})'}"), screen, 2, 2
    )
    yield "  " + paint(word, look, screen) + head.removeprefix(f"  {word}")
    yield from rest
    if not screen.all:
        if one.severity is Severity.DEADLOCK:
            yield from _evidence(one.evidence[:1], screen, 4)
        return
    if one.why:
        yield from fill(sentence(one.why), screen, 4)
    yield from _evidence(one.evidence, screen, 4)
    if one.accepted is not None:
        yield from fill(f"accepted because: {sentence(one.accepted.reason)}", screen, 4)
    if one.state is not State.ABSENT:
        yield from fill(cure_words(one.cure), screen, 4, 2)


def _evidence(found: Iterable[Evidence], screen: Screen, indent: int) -> Iterator[str]:
    for one in found:
        for text in line(evidence_words(one), screen, indent):
            yield paint(text, "quiet", screen)


def _way(result: CheckResult, screen: Screen) -> list[str]:
    if result.way is None:
        return []
    head = f"The shortest way there ({result.way.finding}), and the setting that would have stopped each step"
    steps = (_step(at, one, screen) for at, one in enumerate(result.way.steps, start=1))
    return section(printable(head), (text for lines in steps for text in lines), screen)


def _step(number: int, step: Step, screen: Screen) -> list[str]:
    stop = f" [{step.stopped_by}]" if step.stopped_by else ""
    return fill(printable(f"{number}. {step.text}{stop}"), screen, 2, 3)


def _reserve(result: CheckResult, screen: Screen) -> list[str]:
    """Need against exclusive as two bars on one scale, then the rows that dominate."""
    reserve = result.reserve
    if not result.users and not screen.all:
        return []
    page = reserve.page_bytes
    head = "The reserve: what block IO needs when memory is short, and what only it can take"
    lines: list[str] = []
    need = pages_words(reserve.need_pages, page)
    exclusive = pages_words(reserve.exclusive_pages, page, none=NOT_KNOWN)
    gap = max(len(need), len(exclusive))
    drawn = bars((reserve.need_pages, reserve.exclusive_pages), min(screen.width - 13 - gap, 36))
    for word, text, bar in zip(("need", "exclusive"), (need, exclusive), drawn, strict=True):
        lines.append(f"  {word:<9} {text:<{gap}} {bar}".rstrip())
    lines += fill(band_words(reserve), screen, 2, 2)
    rows = largest_first(reserve.rows)
    if not screen.all:
        lines += _largest([row for row in rows if row.kind == "need"], screen)
        return section(head, lines, screen)
    for row in rows:
        lines += fill(f"{pages_words(row.pages, page)} {row_words(row)}", screen, 4, 2)
    return section(head, [*lines, *_conditions(reserve, screen)], screen)


def _largest(rows: Sequence[Row], screen: Screen) -> list[str]:
    """The rows that dominate the need, in a sentence."""
    named = [f"{row.holder} {UNBOUNDED if row.pages is None else f'{row.pages:,}'}" for row in rows[:_ROWS]]
    rest = f"; {len(rows) - _ROWS} more" if rows[_ROWS:] else ""
    return fill(printable(f"largest: {'; '.join(named)}{rest}"), screen, 2, 2) if rows else []


def _conditions(reserve: Reserve, screen: Screen) -> Iterator[str]:
    page = reserve.page_bytes
    for one in reserve.conditions:
        sides = f"{pages_words(one.left_pages, page)} against {pages_words(one.right_pages, page)}"
        text = f"{one.id} {CONDITION_HOLDS[one.holds]}: {sides}; {one.text}"
        yield from fill(printable(text), screen, 2, 2)
    pinned = pages_words(reserve.pin_pages, page)
    yield from fill(f"others can pin, above the reserve: {pinned}", screen, 2, 2)


def _zones(reserve: Reserve, screen: Screen) -> list[str]:
    if not reserve.zones:
        return []
    heads = ("zone", "managed", "free", "high", "low", "min", "boost", "floor", "lowmem", "exclusive")
    rows = []
    for zone in reserve.zones:
        levels = (zone.managed, zone.free, zone.high, zone.low, zone.min, zone.boost, zone.floor)
        numbers = (*levels, zone.lowmem_reserve, zone.exclusive)
        rows.append((f"{zone.node} {printable(zone.name)}", *(f"{pages:,}" for pages in numbers)))
    lines = (f"  {one}" for one in table(heads, rows))
    return section("Zones, in pages (proc/zoneinfo)", lines, screen)


def _plan(result: CheckResult, screen: Screen) -> list[str]:
    """Old and new of each setting, and the verdict that would hold then."""
    if not result.plan:
        stays = "" if result.after is None else f", and this host stays {result.after.value}"
        said = bool(result.users) and result.after is not None
        return section(f"The plan: no setting to change{stays}", (), screen) if said else []
    number = len(result.plan)
    after = "" if result.after is None else f", after which this host is {result.after.value}"
    shown = result.plan if screen.all else result.plan[:_SETTINGS]
    lines = [text for one in shown for text in _setting(one, screen)]
    lines += left_out(number - len(shown), "more", screen)
    return section(f"The plan: {counted(number, 'setting')}{after}", lines, screen)


def _remains(remains: Sequence[str], screen: Screen) -> list[str]:
    shown = remains if screen.all else remains[:_REMAINS]
    lines = [text for one in shown for text in line(sentence(one), screen, 2)]
    lines += left_out(len(remains) - len(shown), "more", screen)
    return section("What no setting cures", lines, screen) if remains else []


def _setting(one: Setting, screen: Screen) -> Iterator[str]:
    old = NOT_KNOWN if one.old is None else " ".join(one.old.split())
    yield from fill(printable(f"{one.id}: {old} -> {' '.join(one.new.split())}"), screen, 2, 2)
    if not screen.all:
        return
    yield from fill(f"{sentence(one.why)} Law: {one.law}; basis: {one.basis}.", screen, 4)
    facts = (
        ("where", one.path),
        ("at least", one.lower),
        ("at most", one.upper),
        ("dominated by", one.dominant),
        ("cures", ", ".join(one.cures)),
        ("first", one.first),
        ("in steps", ", ".join(one.steps)),
        ("undo", one.undo),
    )
    for word, text in facts:
        if text:
            yield from fill(printable(f"{word}: {text}"), screen, 4, 2)


def _listed(head: str, items: Sequence[str], screen: Screen) -> list[str]:
    if not items:
        return []
    lines = (text for one in items for text in fill(f"- {printable(one)}", screen, 2, 2))
    return section(head, lines, screen)


def _gaps(gaps: Sequence[Gap], screen: Screen) -> list[str]:
    if not gaps:
        return []
    shown = gaps if screen.all else gaps[:_GAPS]
    lines: list[str] = []
    for gap in shown:
        detail = f" ({gap.detail})" if gap.detail else ""
        lines += line(
            printable(f"{gap.path}: {gap.status}{detail}, which leaves {gap.topic} open"), screen, 2
        )
    lines += left_out(len(gaps) - len(shown), "more", screen)
    return section(f"What could not be read: {len(gaps)}", lines, screen)


def _denied(paths: Sequence[str], screen: Screen) -> list[str]:
    """What this user may not read, alike ones together; what of it matters is among the gaps."""
    alike = Counter(re.sub(r"\d+", "*", path) for path in paths)
    if not alike:
        return []
    shown = list(alike.items()) if screen.all else alike.most_common(_DENIED)
    named = ", ".join(
        f"{printable(path)} ({number})" if number > 1 else printable(path) for path, number in shown
    )
    more = ", ..." if len(shown) < len(alike) else ""
    text = f"Denied to the user that read this host: {len(paths)} paths: {named}{more}"
    return [paint(one, "quiet", screen) for one in fill(text, screen, hang=2)]


def _more(result: CheckResult, screen: Screen) -> list[str]:
    if screen.all:
        return fill(f"{result.verdict.value}: {VERDICT_MEANS[result.verdict]}.", screen)
    first = next((one.id for one in applying(result.findings)), "")
    explain = f"; tidegate explain {printable(first)}: how it comes about" if first else ""
    text = f"--all: everything that was looked at{explain}"
    return [paint(one, "quiet", screen) for one in fill(text, screen)]


def hosts_table(results: Sequence[CheckResult], *, width: int = 80, colour: bool = False) -> str:
    """A row for each host, worst first, then the sentence of each verdict."""
    screen = screen_of(width=width, colour=colour)
    ordered = worst_first(results)
    heads = ("verdict", "host", "kernel", "users", "deadlock", "need", "exclusive", "after")
    head, *lines = table(heads, [_host_row(one) for one in ordered], left=(0, 1, 2, 4, 7))
    for at, one in enumerate(ordered):
        word = one.verdict.value
        lines[at] = paint(word, VERDICT_LOOK[one.verdict], screen) + lines[at].removeprefix(word)
    lines.append("")
    for one in ordered:
        lines += fill(f"{printable(one.host.name)}: {sentence(one.reason)}", screen, hang=2)
    counts = ((verdict, sum(one.verdict is verdict for one in ordered)) for verdict in VERDICT_LOOK)
    counted = ", ".join(f"{number} {verdict.value}" for verdict, number in counts if number)
    lines += ["", f"{len(ordered)} hosts: {counted}. Need and exclusive in pages; after: with the plan."]
    return "\n".join([paint(head, "strong", screen), *lines]) + "\n"


def _host_row(one: CheckResult) -> tuple[str, ...]:
    reserve = one.reserve
    deadlocks = [item.id for item in applying(one.findings) if item.severity is Severity.DEADLOCK]
    named = ",".join(deadlocks[:3]) + (f"+{len(deadlocks) - 3}" if deadlocks[3:] else "")
    none = UNBOUNDED if one.verdict is not Verdict.CANNOT_TELL else "?"
    return (
        one.verdict.value,
        printable(one.host.name),
        printable(one.host.kernel),
        str(len(one.users)),
        printable(named) or "-",
        none if reserve.need_pages is None else f"{reserve.need_pages:,}",
        "?" if reserve.exclusive_pages is None else f"{reserve.exclusive_pages:,}",
        "-" if one.after is None else one.after.value,
    )
