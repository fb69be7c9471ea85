"""The host as a whole: the size of the reserve, and what else lives from it."""

from __future__ import annotations

from tidegate.findings.exposure import (
    floor_evidence,
    graded,
    graded_why,
    min_free_evidence,
    over_users,
    user_evidence,
)
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host
from tidegate.result import Cure, Evidence, Reserve, Row, Severity, Shown, Topic
from tidegate.setting_ids import CAP, MAX_SECTORS, MIN_FREE, NR_REQUESTS, TCP_RMEM, TCP_WMEM, of
from tidegate.units import human_pages


def unbounded_rows(reserve: Reserve) -> tuple[Row, ...]:
    """Rows of the need, and of others who reach the same pages, that nothing bounds."""
    return tuple(row for row in reserve.rows if row.kind in {"need", "others"} and row.pages is None)


def _d15(host: Host, reserve: Reserve) -> Judgement:
    return over_users(host, lambda user: _d15_of(host, reserve, user), none="nobody is concerned")


def _d15_of(host: Host, reserve: Reserve, user: BlockUser) -> Judgement:
    need, exclusive = reserve.need_pages, reserve.exclusive_pages
    if exclusive is None:
        return unknown("what only block IO can take could not be read: the zones are missing")
    if need is None:
        open_rows = ", ".join(row.holder for row in unbounded_rows(reserve)) or "a row of the sum"
        return unknown(f"the need has no bound that could be read: {open_rows}", *user_evidence(user))
    evidence = (
        *user_evidence(user),
        *_largest_rows(reserve),
        *floor_evidence(reserve)[:2],
        min_free_evidence(host),
    )
    sums = f"{human_pages(need, reserve.page_bytes)} against {human_pages(exclusive, reserve.page_bytes)}"
    if need <= exclusive:
        return absent(f"the need fits what only block IO can take: {sums}", *evidence)
    return applies(
        graded_why(f"block IO may withdraw more than only block IO can take: {sums}", user),
        *evidence,
        severity=graded(user),
        cure=_d15_cure(user),
    )


def _d15_cure(user: BlockUser) -> Cure:
    settings = [of(CAP, user.name), MIN_FREE, TCP_RMEM, TCP_WMEM]
    if user.queue is not None:
        settings += [of(NR_REQUESTS, user.queue.device), of(MAX_SECTORS, user.queue.device)]
    return Cure(settings=tuple(settings))


def _largest_rows(reserve: Reserve) -> tuple[Evidence, ...]:
    rows = [row for row in reserve.rows if row.kind == "need" and row.pages]
    rows.sort(key=lambda row: -(row.pages or 0))
    return tuple(
        Evidence(source=f"the sum: {row.holder}", value=f"{row.pages} pages", meaning=row.why)
        for row in rows[:3]
    )


D15 = Rule(
    id="D15",
    title="the reserve is smaller than what block IO may withdraw",
    place="host",
    severity=Severity.DEADLOCK,
    argument=(
        "Ordinary IO on the device under pressure suffices to empty the reserve; then no reply finds a "
        "page, and what is held comes back by replies only."
    ),
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.MEMORY, Topic.SOCKETS, Topic.LIMITS, Topic.NETWORK, Topic.QUEUES}),
    judge=_d15,
    cure=Cure(settings=(MIN_FREE, TCP_RMEM, TCP_WMEM)),
    mechanism=(
        "Nothing in the kernel sizes the reserve for its users (sk_set_memalloc says that the "
        "administrator must) or counts what is out. What only memalloc users can take is, per zone, 3/8 "
        "of min plus lowmem_reserve. Each connection may hold twice its send buffer and three times its "
        "receive buffer, each ring its slots; with autotuned buffers one connection alone reaches 24 MB. "
        "When the sum is larger than the exclusive part, admitted IO can empty it before its own "
        "acknowledgements arrive."
    ),
    functions=(
        "net/core/sock.c:sk_set_memalloc",
        "mm/page_alloc.c:__zone_watermark_ok",
        "net/ipv4/tcp_ipv4.c:tcp_add_backlog",
        "net/core/stream.c:sk_stream_wait_memory",
    ),
    reproduce=(
        "Connect nbd0 with 8 to 16 connections and write to the device with dd while the host swaps to it."
    ),
    sources=(
        "Linux 6.12.117, read",
        "Linux kernel commit 7cb0240492ca (in v3.6): the administrator is responsible for min_free_kbytes",
    ),
)

RULES = (D15,)
