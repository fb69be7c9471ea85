"""`check --as prometheus`: results as metrics for node_exporter's textfile collector.

Missing numbers are missing samples, never zeros: a need without bound has no `tidegate_reserve_need_bytes`,
and `tidegate_reserve_need_unbounded` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from tidegate.report.alerts import alert_rules
from tidegate.report.exposition import Metric, Sample, counter, exposition, gauge, sample
from tidegate.report.words import printable
from tidegate.result import CheckResult, Law, State, Verdict

__all__ = ["COUNTERS", "alert_rules", "check_metrics"]

# Kernel counters that say what the reserve went through, by their name in a host's counters.
COUNTERS = {
    "TcpExt.PFMemallocDrop": (
        "tidegate_pfmemalloc_drops_total",
        "Packets that used the reserve and were dropped at a socket that may not (TcpExt PFMemallocDrop).",
    ),
    "TcpExt.TCPRcvQDrop": (
        "tidegate_tcp_receive_queue_drops_total",
        "Segments refused for want of a receive buffer or of tcp_mem (TcpExt TCPRcvQDrop).",
    ),
    "TcpExt.TCPMemoryPressures": (
        "tidegate_tcp_memory_pressures_total",
        "Times that TCP entered memory pressure (TcpExt TCPMemoryPressures).",
    ),
    "vmstat.pgscan_direct_throttle": (
        "tidegate_direct_reclaim_throttles_total",
        "Times that a task in direct reclaim was held back (vmstat pgscan_direct_throttle).",
    ),
    "vmstat.oom_kill": ("tidegate_oom_kills_total", "Processes that the OOM killer ended (vmstat oom_kill)."),
}


def check_metrics(results: Sequence[CheckResult], counters: Sequence[Mapping[str, int]] = ()) -> str:
    """The metrics of one host, or of several with a label `host` each.

    `counters` are kernel counters by host, in the order of `results`; those in COUNTERS are shown.
    """
    assert not counters or len(counters) == len(results), "counters go with results, one to one"
    given = counters or tuple({} for _ in results)
    labels: list[dict[str, str]] = [{}] if len(results) == 1 else [{"host": name} for name in _names(results)]
    per_host = [
        [_with(labels[at], metric) for metric in (*_metrics(one), *_counted(given[at]))]
        for at, one in enumerate(results)
    ]
    return exposition(_merged(per_host))


def _names(results: Sequence[CheckResult]) -> Iterator[str]:
    """A name for each host; records of hosts with the same name are told apart by a number."""
    seen: Counter[str] = Counter()
    for one in results:
        name = printable(one.host.name)
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} #{seen[name]}"


def _with(labels: Mapping[str, str], metric: Metric) -> Metric:
    made = tuple(Sample(value=one.value, labels={**labels, **one.labels}) for one in metric.samples)
    return Metric(name=metric.name, help=metric.help, kind=metric.kind, samples=made)


def _merged(per_host: Sequence[Sequence[Metric]]) -> Iterator[Metric]:
    """The samples of a metric must stand together, whichever host they are of."""
    families: dict[str, list[Metric]] = {}
    for metrics in per_host:
        for one in metrics:
            families.setdefault(one.name, []).append(one)
    for name, found in families.items():
        samples = tuple(one for metric in found for one in metric.samples)
        yield Metric(name=name, help=found[0].help, kind=found[0].kind, samples=samples)


def _metrics(result: CheckResult) -> Iterator[Metric]:
    yield from _verdicts(result)
    yield from _reserve(result)
    yield from _zones(result)
    yield from _findings(result)
    yield from _counts(result)


def _verdicts(result: CheckResult) -> Iterator[Metric]:
    """State sets: one series a word, 1 for the one that holds."""
    yield gauge(
        "tidegate_check_info",
        "What was checked; always 1.",
        sample(1, kernel=printable(result.host.kernel), schema=result.schema),
    )
    taken = _seconds(result.host.taken)
    yield gauge(
        "tidegate_check_timestamp_seconds",
        "When the host was read, in seconds since 1970.",
        *(() if taken is None else (sample(taken),)),
    )
    yield gauge(
        "tidegate_check_verdict", "The verdict: 1 for the word that holds.", *_state_set(result.verdict)
    )
    yield gauge(
        "tidegate_plan_verdict",
        "The verdict that would hold with the plan in force: 1 for that word.",
        *(() if result.after is None else _state_set(result.after)),
    )


def _state_set(holds: Verdict) -> Iterator[Sample]:
    return (sample(int(one is holds), verdict=one.value) for one in Verdict)


def _seconds(taken: str) -> int | None:
    try:
        return int(datetime.fromisoformat(taken).timestamp())
    except ValueError:
        return None


def _reserve(result: CheckResult) -> Iterator[Metric]:
    reserve = result.reserve

    def in_bytes(name: str, help: str, pages: int | None) -> Metric:
        return gauge(name, help, *(() if pages is None else (sample(pages * reserve.page_bytes),)))

    yield in_bytes(
        "tidegate_reserve_need_bytes",
        "What block IO and receive rings may withdraw below the min watermark.",
        reserve.need_pages,
    )
    # Without users there is nothing to bound; elsewhere a missing need is one that nothing bounds or that
    # cannot be told, and neither may look like a small one.
    unbounded = reserve.need_pages is None and bool(result.users)
    yield gauge(
        "tidegate_reserve_need_unbounded",
        "1 where nothing bounds the need, or where its bound could not be read.",
        sample(int(unbounded)),
    )
    yield in_bytes(
        "tidegate_reserve_exclusive_bytes",
        "What only memalloc users can take: 3/8 of min and lowmem_reserve, over all zones.",
        reserve.exclusive_pages,
    )
    yield in_bytes(
        "tidegate_reserve_band_bytes",
        "Room between the point where reclaim is held back and the atomic floor; below 0 it comes too late.",
        reserve.band_pages,
    )
    yield in_bytes(
        "tidegate_reserve_pinnable_bytes", "What other traffic can pin above the reserve.", reserve.pin_pages
    )
    yield gauge(
        "tidegate_reserve_row_bytes",
        "One holder in the sum: need (below min), pin (others, above it), others (other PF_MEMALLOC).",
        *_summed(
            ((row.holder, row.subject, row.kind), row.pages * reserve.page_bytes)
            for row in reserve.rows
            if row.pages is not None
        ),
    )


def _summed(rows: Iterable[tuple[tuple[str, str, str], int]]) -> Iterator[Sample]:
    """Rows with the same labels are one series."""
    sums: dict[tuple[str, str, str], int] = {}
    for (holder, subject, kind), amount_bytes in rows:
        key = printable(holder), printable(subject), printable(kind)
        sums[key] = sums.get(key, 0) + amount_bytes
    return (
        sample(amount, holder=holder, subject=subject, kind=kind)
        for (holder, subject, kind), amount in sums.items()
    )


def _zones(result: CheckResult) -> Iterator[Metric]:
    reserve = result.reserve
    places = [{"node": str(zone.node), "zone": printable(zone.name)} for zone in reserve.zones]

    def levels(name: str, help: str, *fields: str) -> Metric:
        """One series a zone, or with several fields one a zone and level."""
        samples = (
            sample(
                getattr(zone, field) * reserve.page_bytes,
                **place,
                **({"level": field} if len(fields) > 1 else {}),
            )
            for zone, place in zip(reserve.zones, places, strict=True)
            for field in fields
        )
        return gauge(name, help, *samples)

    yield levels("tidegate_zone_managed_bytes", "Memory of the zone.", "managed")
    yield levels("tidegate_zone_free_bytes", "Free memory of the zone when it was read.", "free")
    yield levels(
        "tidegate_zone_watermark_bytes",
        "Watermarks of the zone; floor is where GFP_ATOMIC stops, boost is added to the others for a time.",
        "high",
        "low",
        "min",
        "floor",
        "boost",
    )
    yield levels(
        "tidegate_zone_lowmem_reserve_bytes",
        "What an ordinary request of a higher zone must leave in this one.",
        "lowmem_reserve",
    )
    yield levels("tidegate_zone_exclusive_bytes", "What only memalloc users can take here.", "exclusive")


def _findings(result: CheckResult) -> Iterator[Metric]:
    def states(state: State) -> Iterator[Sample]:
        return (
            sample(
                int(one.state is state),
                id=printable(one.id),
                severity=one.severity.value,
                accepted=_yes(one.accepted is not None and not one.accepted.expired),
            )
            for one in result.findings
        )

    yield gauge("tidegate_finding_applies", "1 where the finding applies.", *states(State.APPLIES))
    yield gauge("tidegate_finding_unknown", "1 where the finding cannot be told.", *states(State.UNKNOWN))
    yield gauge(
        "tidegate_finding_acceptance_expired",
        "1 where somebody accepted the finding until a day that has passed.",
        *(
            sample(int(one.accepted.expired), id=printable(one.id), severity=one.severity.value)
            for one in result.findings
            if one.accepted is not None
        ),
    )


def _yes(answer: bool) -> str:
    return "true" if answer else "false"


def _counts(result: CheckResult) -> Iterator[Metric]:
    users = Counter((printable(one.kind), printable(one.transport)) for one in result.users)
    yield gauge(
        "tidegate_block_users",
        "Swap, disks and mounts that ride on the network.",
        *(sample(number, kind=kind, transport=transport) for (kind, transport), number in users.items()),
    )
    laws = Counter(one.law for one in result.plan)
    yield gauge(
        "tidegate_plan_settings",
        "Settings that the plan would change, by the law that they serve.",
        *(sample(laws[law], law=law.value) for law in Law),
    )
    gaps = Counter((one.topic.value, printable(one.status)) for one in result.gaps)
    yield gauge(
        "tidegate_gaps",
        "Things that could not be read, by what they leave open.",
        *(sample(number, topic=topic, status=status) for (topic, status), number in gaps.items()),
    )


def _counted(counters: Mapping[str, int]) -> Iterator[Metric]:
    for source, (name, means) in COUNTERS.items():
        if source in counters:
            yield counter(name, means, sample(counters[source]))
