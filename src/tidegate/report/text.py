"""`check` on a terminal: one calm screen, the verdict first, the rest with `--all`.

Colour marks what a word says already and is never needed; it is plain SGR, since rich would cost more time to
import than the whole of the screen takes to make. All signs of our own are ASCII, for terminals that know no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from tidegate.report.words import (
    NOT_KNOWN,
    UNBOUNDED,
    VERDICT_MEANS,
    WHY_IT_LOCKS_UP,
    applying,
    by_severity,
    chain_words,
    count_by_severity,
    kernel_words,
    largest_first,
    pages_words,
    printable,
    unknown,
    worst_first,
)
from tidegate.result import (
    CheckResult,
    Evidence,
    Finding,
    Reserve,
    Row,
    Setting,
    Severity,
    State,
    UserView,
    Verdict,
)

WIDTH_MIN, WIDTH_MAX = 40, 100
_USERS, _FINDINGS, _ROWS, _SETTINGS, _GAPS = 4, 5, 3, 8, 3  # of each, on the one screen

_SGR = {"bad": "1;31", "unsure": "1;33", "good": "1;32", "strong": "1", "quiet": "2"}
_LOOK = {Verdict.AT_RISK: "bad", Verdict.CANNOT_TELL: "unsure", Verdict.SAFE: "good"}
_SEVERITY_LOOK = {Severity.DEADLOCK: "bad", Severity.FAULT: "unsure", Severity.STALL: "unsure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What the output goes to."""

    width: int
    colour: bool
    all: bool = False


def paint(text: str, look: str, screen: Screen) -> str:
    """The only place where colour comes from."""
    return f"\x1b[{_SGR[look]}m{text}\x1b[0m" if screen.colour and look else text


def check_text(result: CheckResult, *, all: bool = False, width: int = 80, colour: bool = False) -> str:
    """One host as text that ends with a newline; `all` leaves nothing out."""
    screen = Screen(width=max(WIDTH_MIN, min(width, WIDTH_MAX)), colour=colour, all=all)
    sections = (
        _head(result, screen),
        _explanation(result, screen),
        _users(result.users, screen),
        _findings(result.findings, screen),
        _way(result, screen),
        _reserve(result, screen),
        _zones(result.reserve, screen) if all else [],
        _plan(result, screen),
        _listed("What no setting cures", result.remains, screen),
        _listed(_conditions_title(result), result.conditions, screen),
        _gaps(result, screen),
        _more(result, screen),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _head(result: CheckResult, screen: Screen) -> list[str]:
    """The verdict with its sentence, then the host."""
    verdict = paint(result.verdict.value, _LOOK[result.verdict], screen)
    first, *rest = _fill(f"{result.verdict.value}: {_sentence(result.reason)}", screen, hang=2)
    host = result.host
    source = "this machine" if host.source == "live" else printable(host.source)
    about = f"{printable(host.name)}: {kernel_words(result)}; read {printable(host.taken)} from {source}"
    return [
        verdict + first.removeprefix(result.verdict.value),
        *rest,
        *(paint(line, "quiet", screen) for line in _fill(about, screen, indent=2)),
    ]


def _explanation(result: CheckResult, screen: Screen) -> list[str]:
    return _fill(WHY_IT_LOCKS_UP, screen, indent=2) if result.users else []


def _users(users: Sequence[UserView], screen: Screen) -> list[str]:
    if not users:
        return []
    lines = [_title("What rides on the network", screen)]
    shown = users if screen.all else users[:_USERS]
    for user in shown:
        lines += _fill(
            f"{printable(user.name)}: {chain_words(user)}{_driver(user)}", screen, indent=2, hang=4
        )
        if user.note:
            lines += _fill(printable(user.note), screen, indent=4)
        lines += _sockets(user, screen)
    return lines + _left_out(len(users) - len(shown), "more", screen)


def _driver(user: UserView) -> str:
    return f" ({printable(user.driver)})" if user.driver else ""


def _sockets(user: UserView, screen: Screen) -> list[str]:
    """One line for all sockets of a user; each of them with `--all`."""
    if not user.sockets:
        return []
    if not screen.all:
        free = sum(one.capped is not True for one in user.sockets)
        number = len(user.sockets)
        word = "connection" if number == 1 else "connections"
        caps = "buffers capped" if not free else f"{free} of {number} without a cap on its buffers"
        return [f"    {number} {word}, {caps}"]
    lines = []
    for one in user.sockets:
        capped = {True: "capped", False: "not capped", None: "cap not known"}[one.capped]
        sizes = f"send {_bytes(one.sndbuf_bytes)}, receive {_bytes(one.rcvbuf_bytes)}, held {_bytes(one.held_bytes)}"
        lines += _fill(
            f"{printable(one.local)} -> {printable(one.remote)}: {sizes}; {capped}", screen, indent=4, hang=2
        )
    for link in user.chain:
        detail = f"{link.kind} {link.name}" + (f", {link.detail}" if link.detail else "")
        lines += _fill(printable(detail), screen, indent=4, hang=2)
        lines += _evidence(link.evidence, screen)
    return lines


def _findings(findings: Sequence[Finding], screen: Screen) -> list[str]:
    hits = applying(findings)
    open_ = unknown(findings)
    if screen.all:
        shown = by_severity(findings)
    else:
        worst = [one for one in hits if one.severity is Severity.DEADLOCK]
        shown = tuple(worst) + hits[len(worst) :][: max(_FINDINGS - len(worst), 1)]
    lines = [line for one in shown for line in _finding(one, screen)]
    if not screen.all:
        rest = hits[len(shown) :]
        lines += _left_out(len(rest), f"more apply ({count_by_severity(rest)})", screen)
        if open_:
            ids = ", ".join(one.id for one in open_[:8]) + (", ..." if open_[8:] else "")
            lines += _fill(
                f"cannot be told: {printable(ids)} ({count_by_severity(open_)})", screen, indent=2, hang=2
            )
    if not lines:
        return []
    count = count_by_severity(hits)
    return [_title(f"What applies here: {count}" if count else "What applies here: nothing", screen), *lines]


def _finding(one: Finding, screen: Screen) -> Iterator[str]:
    """The head, this host's reason where it matters, and the first piece of evidence."""
    word = one.severity.value if one.state is State.APPLIES else f"{one.state.value} ({one.severity.value})"
    look = _SEVERITY_LOOK.get(one.severity, "") if one.state is State.APPLIES else ""
    head = _fill(f"{word} {printable(one.id)}: {printable(one.title)}", screen, indent=2, hang=2)
    yield "  " + paint(word, look, screen) + head[0].removeprefix(f"  {word}")
    yield from head[1:]
    if one.why and (screen.all or one.severity is Severity.DEADLOCK):
        yield from _fill(_sentence(one.why), screen, indent=4)
    yield from _evidence(one.evidence if screen.all else one.evidence[:1], screen)
    if one.accepted is not None:
        until = "which has passed" if one.accepted.expired else "still counted"
        accepted = f"accepted until {one.accepted.expires} ({until}): {one.accepted.reason}"
        yield from _fill(printable(accepted), screen, indent=4)
    if screen.all and one.state is not State.ABSENT:
        yield from _fill(_cure_words(one), screen, indent=4)


def _cure_words(one: Finding) -> str:
    parts = [f"cure: {', '.join(one.cure.settings)}"] if one.cure.settings else []
    if not one.cure.curable:
        parts.append("cannot be cured from here")
    if one.cure.instead:
        parts.append(f"instead: {one.cure.instead}")
    return printable("; ".join(parts) or "no cure is known")


def _evidence(found: Iterable[Evidence], screen: Screen) -> list[str]:
    lines = []
    for one in found:
        meaning = f" ({one.meaning})" if one.meaning else ""
        text = printable(f"{one.source}: {one.value}{meaning}")
        lines += [paint(line, "quiet", screen) for line in _fill(text, screen, indent=4, hang=2)]
    return lines


def _way(result: CheckResult, screen: Screen) -> list[str]:
    if result.way is None:
        return []
    lines = [
        _title(f"The shortest way there ({printable(result.way.finding)}, by {result.way.source})", screen)
    ]
    for number, step in enumerate(result.way.steps, start=1):
        stop = f" [stopped by {step.stopped_by}]" if step.stopped_by else ""
        lines += _fill(f"{number}. {printable(step.text + stop)}", screen, indent=2, hang=3)
    return lines


def _reserve(result: CheckResult, screen: Screen) -> list[str]:
    """Need against exclusive as two bars on one scale, then the rows that dominate."""
    reserve = result.reserve
    if not result.users and not screen.all:
        return []
    page = reserve.page_bytes
    lines = [_title("What block IO may take when memory is short, against what only it can take", screen)]
    need = pages_words(reserve.need_pages, page)
    exclusive = pages_words(reserve.exclusive_pages, page, none=NOT_KNOWN)
    gap = max(len(need), len(exclusive))
    room = min(screen.width - 2 - 10 - gap - 1, 40)
    sizes = (reserve.need_pages, reserve.exclusive_pages)
    for word, text, bar in zip(("need", "exclusive"), (need, exclusive), _bars(sizes, room), strict=True):
        lines.append(f"  {word:<10}{text:<{gap}} {bar}".rstrip())
    band = "not known" if reserve.band_pages is None else pages_words(reserve.band_pages, page)
    lines += _fill(f"band      {band}{_band_words(reserve)}", screen, indent=2, hang=10)
    rows = largest_first(reserve.rows)
    needed = [row for row in rows if row.kind == "need"]
    shown = rows if screen.all else needed[:_ROWS]
    for row in shown:
        lines += _row(row, page, screen)
    if not screen.all:
        lines += _left_out(len(rows) - len(shown), "more rows in the sum", screen)
    if screen.all:
        for one in reserve.conditions:
            holds = {True: "holds", False: "does not hold", None: "cannot be told"}[one.holds]
            sides = f"{pages_words(one.left_pages, page)} against {pages_words(one.right_pages, page)}"
            lines += _fill(printable(f"{one.id} {holds}: {sides}; {one.text}"), screen, indent=2, hang=2)
        pin = pages_words(reserve.pin_pages, page)
        lines += _fill(f"others can pin {pin} above the reserve", screen, indent=2, hang=2)
    return lines


def _band_words(reserve: Reserve) -> str:
    if reserve.band_pages is None:
        return ""
    if reserve.band_pages > 0:
        return ": below this, tasks that reclaim are held back before ordinary traffic is"
    return ": tasks that reclaim are not held back before the ring runs dry"


def _row(row: Row, page_bytes: int, screen: Screen) -> list[str]:
    what = {"need": "", "pin": " (others, above the reserve)", "others": " (others, in the reserve)"}.get(
        row.kind, ""
    )
    guess = "" if row.measured else " (not read, the documented maximum)"
    text = f"{pages_words(row.pages, page_bytes)} {row.holder}{what}: {row.why}{guess}"
    return _fill(printable(text), screen, indent=4, hang=2)


def _bars(sizes: Sequence[int | None], room: int) -> list[str]:
    """One bar each, on one scale; something there is never drawn as nothing."""
    top = max((size for size in sizes if size), default=0)
    bars = []
    for size in sizes:
        if size is None:
            bars.append("#" * (room - 3) + "..." if top and room > 3 else "")
        else:
            bars.append("#" * (max(round(room * size / top), 1) if size > 0 and room > 0 else 0))
    return bars


def _zones(reserve: Reserve, screen: Screen) -> list[str]:
    if not reserve.zones:
        return []
    heads = ("zone", "managed", "free", "high", "low", "min", "boost", "floor", "lowmem", "exclusive")
    rows = [
        (
            f"{zone.node} {printable(zone.name)}",
            *(
                f"{pages:,}"
                for pages in (
                    zone.managed,
                    zone.free,
                    zone.high,
                    zone.low,
                    zone.min,
                    zone.boost,
                    zone.floor,
                    zone.lowmem_reserve,
                    zone.exclusive,
                )
            ),
        )
        for zone in reserve.zones
    ]
    return [_title("Zones, in pages (proc/zoneinfo)", screen), *_table(heads, rows)]


def _plan(result: CheckResult, screen: Screen) -> list[str]:
    """Old and new of each setting, then what would hold."""
    after = "" if result.after is None else f"; then this host is {result.after.value}"
    if not result.plan:
        return [_title("Plan: no setting has to change", screen)] if result.users and result.after else []
    number = len(result.plan)
    lines = [_title(f"Plan: {number} setting{'' if number == 1 else 's'}{after}", screen)]
    shown = result.plan if screen.all else result.plan[:_SETTINGS]
    for one in shown:
        lines += _setting(one, screen)
    return lines + _left_out(number - len(shown), "more", screen)


def _setting(one: Setting, screen: Screen) -> Iterator[str]:
    old = NOT_KNOWN if one.old is None else " ".join(one.old.split())
    yield from _fill(printable(f"{one.id}: {old} -> {' '.join(one.new.split())}"), screen, indent=2, hang=2)
    if not screen.all:
        return
    yield from _fill(printable(f"{_sentence(one.why)} Law: {one.law}; basis: {one.basis}."), screen, indent=4)
    facts = (
        ("path", one.path),
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
            yield from _fill(printable(f"{word}: {text}"), screen, indent=4, hang=2)


def _conditions_title(result: CheckResult) -> str:
    return "SAFE holds on these conditions" if result.verdict is Verdict.SAFE else "Conditions"


def _listed(title: str, items: Sequence[str], screen: Screen) -> list[str]:
    if not items:
        return []
    return [
        _title(title, screen),
        *(line for one in items for line in _fill(f"- {printable(one)}", screen, 2, 2)),
    ]


def _gaps(result: CheckResult, screen: Screen) -> list[str]:
    gaps = result.gaps
    if not gaps:
        return []
    shown = gaps if screen.all else gaps[:_GAPS]
    lines = [_title(f"What could not be read: {len(gaps)}", screen)]
    for gap in shown:
        detail = f" ({gap.detail})" if gap.detail else ""
        lines += _fill(printable(f"{gap.path}: {gap.status}{detail}; leaves {gap.topic} open"), screen, 2, 2)
    return lines + _left_out(len(gaps) - len(shown), "more", screen)


def _more(result: CheckResult, screen: Screen) -> list[str]:
    if screen.all:
        return _fill(f"{result.verdict.value} means: {VERDICT_MEANS[result.verdict]}.", screen)
    ids = [one.id for one in applying(result.findings)]
    explain = f"; `tidegate explain {printable(ids[0])}`: how it comes about" if ids else ""
    return [
        paint(line, "quiet", screen)
        for line in _fill(f"--all: everything that was looked at{explain}", screen)
    ]


def hosts_table(results: Sequence[CheckResult], *, width: int = 80, colour: bool = False) -> str:
    """A row for each host, worst first, and the sentence of each verdict below."""
    screen = Screen(width=max(WIDTH_MIN, width), colour=colour)
    ordered = worst_first(results)
    heads = ("verdict", "host", "kernel", "users", "deadlock", "need", "exclusive", "after")
    rows = [_host_row(one) for one in ordered]
    lines = _table(heads, rows, left=(0, 1, 2, 4, 7))
    lines = [line[2:].rstrip() for line in lines]
    for at, one in enumerate(ordered, start=1):
        word = one.verdict.value
        lines[at] = paint(word, _LOOK[one.verdict], screen) + lines[at].removeprefix(word)
    lines[0] = paint(lines[0], "strong", screen)
    lines.append("")
    for one in ordered:
        lines += _fill(f"{printable(one.host.name)}: {_sentence(one.reason)}", screen, hang=2)
    counts = ", ".join(
        f"{sum(one.verdict is verdict for one in ordered)} {verdict.value}"
        for verdict in _LOOK
        if any(one.verdict is verdict for one in ordered)
    )
    lines += ["", f"{len(ordered)} hosts: {counts}. Need and exclusive are in pages."]
    return "\n".join(lines) + "\n"


def _host_row(one: CheckResult) -> tuple[str, ...]:
    reserve = one.reserve
    deadlocks = [item.id for item in applying(one.findings) if item.severity is Severity.DEADLOCK]
    named = ",".join(deadlocks[:3]) + (f"+{len(deadlocks) - 3}" if deadlocks[3:] else "")
    return (
        one.verdict.value,
        printable(one.host.name),
        printable(one.host.kernel),
        str(len(one.users)),
        printable(named) or "-",
        UNBOUNDED if reserve.need_pages is None else f"{reserve.need_pages:,}",
        "?" if reserve.exclusive_pages is None else f"{reserve.exclusive_pages:,}",
        "-" if one.after is None else one.after.value,
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Columns as wide as their longest cell; numbers to the right."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for cells in (heads, *rows):
        padded = (
            f"{cell:<{size}}" if at in left else f"{cell:>{size}}"
            for at, (cell, size) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  " + "  ".join(padded).rstrip())
    return lines


def _title(text: str, screen: Screen) -> str:
    return paint(text, "strong", screen)


def _left_out(number: int, what: str, screen: Screen) -> list[str]:
    return [paint(f"  {number} {what}", "quiet", screen)] if number > 0 else []


def _sentence(text: str) -> str:
    """Starts as it is, ends with a full stop."""
    text = printable(text).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _bytes(amount: int | None) -> str:
    return NOT_KNOWN if amount is None else f"{amount:,} B"


def _fill(text: str, screen: Screen, indent: int = 0, hang: int = 0) -> list[str]:
    """Lines no wider than the screen, except that a path or name is never broken."""
    return wrap(
        text,
        screen.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
