"""The shortest way into the deadlock, in a host's own numbers: what happens first, what then, and what would
stop it.

The ways are written per family of findings from what the rules state; a way that a prover found has another
source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tidegate.findings import RULES
from tidegate.findings.daemon import IO_FLUSHER_FLAGS, all_flush
from tidegate.findings.exposure import firmness
from tidegate.findings.nic import driver_name
from tidegate.host.facts import BlockUser, Host, Link, nics_of, sysctl_int, sysctl_ints
from tidegate.result import Finding, Reserve, Row, Severity, State, Step, Way, ZoneLevels
from tidegate.setting_ids import (
    CAP,
    EARLY_DROP,
    HIGH_ORDER_ALLOC_DISABLE,
    HIGH_ORDER_ALLOC_DISABLE_TARGET,
    IO_FLUSHER,
    MAX_SECTORS,
    MIN_FREE,
    NR_REQUESTS,
    SYSCTLS,
    TCP_MEM,
    TCP_WMEM,
    of,
)
from tidegate.units import KIB, human_bytes, human_pages

_PLACES = {rule.id: index for index, rule in enumerate(RULES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What a way is told of."""

    host: Host
    reserve: Reserve
    finding: Finding
    user: BlockUser
    nic: Link | None

    @property
    def zone(self) -> ZoneLevels | None:
        """The zone that ordinary requests live from: the one with the largest min."""
        return max(self.reserve.zones, key=lambda zone: zone.min, default=None)


def shortest_way(host: Host, reserve: Reserve, found: Iterable[Finding]) -> Way | None:
    """The way of the deadlock that rests on the firmest ground, and of those the shortest; None where none
    applies.
    """
    hits = [
        one
        for one in found
        if one.state is State.APPLIES and one.severity is Severity.DEADLOCK and one.id in WAYS
    ]
    ways = []
    for finding in hits:
        user = next((user for user in host.users if user.name in finding.subjects), None)
        if user is None:
            continue
        nics = nics_of(host, user)
        named = next((nic for nic in nics if nic.name in finding.subjects), nics[0] if nics else None)
        scene = _Scene(host=host, reserve=reserve, finding=finding, user=user, nic=named)
        ways.append((finding, WAYS[finding.id](scene)))
    if not ways:
        return None
    finding, steps = min(
        ways, key=lambda way: (firmness(way[0]), len(way[1]), _PLACES.get(way[0].id, len(_PLACES)))
    )
    return Way(source="rule", finding=finding.id, steps=steps)


def _pages(scene: _Scene, pages: int) -> str:
    return human_pages(pages, scene.reserve.page_bytes)


def _pressure(scene: _Scene) -> Step:
    """Programs want more than there is, and reclaim begins to write."""
    zone = scene.zone
    if zone is None:
        return Step(
            text=(
                f"Programs want more memory than there is; the kernel begins to write to {scene.user.name}."
            )
        )
    now = f"{_pages(scene, zone.free)} are free in zone {zone.name} now"
    return Step(
        text=(
            f"Programs want more memory than there is ({now}). Below low, {_pages(scene, zone.low)}, "
            f"kswapd wakes and writes to {scene.user.name}: memory is free again only when the replies "
            "have arrived."
        ),
        pages=zone.low,
    )


def _largest_pin(scene: _Scene) -> Row | None:
    pins = [row for row in scene.reserve.rows if row.kind == "pin" and row.pages]
    return max(pins, key=lambda row: row.pages or 0, default=None)


def _intake(scene: _Scene) -> list[Step]:
    """Foreign packets are received and not read, down to the atomic floor."""
    zone, pin = scene.zone, _largest_pin(scene)
    room = next((one.right_pages for one in scene.reserve.conditions if one.id == "settings_alone"), None)
    limit = pin.subject if pin is not None and pin.subject in SYSCTLS else TCP_MEM
    total = scene.reserve.pin_pages
    managed = sum(zone.managed for zone in scene.reserve.zones)
    if total is None:
        may = "without a bound that is known"
    elif managed and total >= managed:
        may = f"all of memory, {_pages(scene, managed)}"
    else:
        may = f"up to {_pages(scene, total)}"
    fits = "" if room is None else f", and {_pages(scene, room)} lie between high and the floor"
    where = f"3/8 of min, {_pages(scene, zone.floor)}" if zone is not None else "3/8 of min"
    steps = [
        Step(
            text=(
                f"Other packets keep coming and nobody reads them: they may hold {may}"
                f"{f', {pin.holder} the most' if pin else ''}{fits}."
            ),
            stopped_by=limit,
            pages=total,
        )
    ]
    if _shares_pages(scene):
        steps.append(
            Step(
                text="Each of them keeps a 32 KiB page from being freed that it shares with up to 20 others.",
                stopped_by=HIGH_ORDER_ALLOC_DISABLE,
            )
        )
    steps.append(
        Step(
            text=(
                "Their buffers are taken with GFP_ATOMIC, which goes on below min until the zone rests "
                f"exactly at {where}. A larger min_free_kbytes that leaves no room above it only moves "
                "that floor."
            ),
            stopped_by=MIN_FREE,
            pages=zone.floor if zone is not None else None,
        )
    )
    return steps


def _shares_pages(scene: _Scene) -> bool:
    value = sysctl_int(scene.host, HIGH_ORDER_ALLOC_DISABLE)
    virtio = scene.nic is not None and driver_name(scene.nic) == "virtio_net"
    return virtio and value is not None and value != HIGH_ORDER_ALLOC_DISABLE_TARGET


def _refill_fails(scene: _Scene) -> Step:
    nic = scene.nic
    name = nic.name if nic is not None else "the NIC"
    slots = f" of {nic.ring.slots} slots" if nic is not None and nic.ring.slots else ""
    return Step(
        text=f"The next refill of {name}'s receive ring{slots} asks for a page and gets none.",
        stopped_by=of(EARLY_DROP, nic.name) if nic is not None else "",
    )


def _no_reply(scene: _Scene, stopped_by: str = "") -> Step:
    """The writes that would free memory stay without an answer."""
    sizes = [one.sndbuf_bytes for one in scene.user.sockets if one.sndbuf_bytes]
    maxima = sysctl_ints(scene.host, TCP_WMEM)
    locked = all(one.sndbuf_locked for one in scene.user.sockets)
    size = max(sizes) if sizes and locked else (maxima[2] if len(maxima) == 3 else None)
    held = f" with up to {human_bytes(size)} unacknowledged" if size else ""
    return Step(
        text=(
            f"No reply to the writes of {scene.user.name} arrives any more. Its sender waits{held}, "
            "everybody who reclaims waits for the sender, kswapd among them."
        ),
        stopped_by=stopped_by,
    )


def _stands(scene: _Scene) -> Step:
    zone = scene.zone
    left = f" with {_pages(scene, zone.floor)} still free" if zone is not None and zone.floor else ""
    return Step(
        text=(
            f"No page is freed, none is asked for that could be granted: the host stands still{left}. The "
            "OOM killer is not reached, since reclaim is asleep and not done."
        )
    )


def _ring_way(scene: _Scene) -> tuple[Step, ...]:
    worker = Step(
        text=(
            "The driver hands the refill to a worker, which turns the receive poll off and asks with "
            f"GFP_KERNEL: it enters reclaim itself and waits for {scene.user.name}."
        ),
    )
    empty = Step(
        text=(
            f"{driver_name(scene.nic) if scene.nic else 'The driver'} may not use the reserve: the ring "
            "empties and the NIC drops whatever comes."
        )
    )
    heads = Step(
        text="Buffers may be there, but the packet's own 256-byte head cannot be allocated: it is dropped."
    )
    middle = {"D1": (worker,), "D22": (worker,), "D2": (empty,), "D3": (heads,)}.get(scene.finding.id, ())
    refill = () if scene.finding.id == "D3" else (_refill_fails(scene),)
    return (_pressure(scene), *_intake(scene), *refill, *middle, _no_reply(scene), _stands(scene))


def _marked_way(scene: _Scene) -> tuple[Step, ...]:
    name = scene.nic.name if scene.nic is not None else "the NIC"
    marked = Step(
        text=f"{name} refills its ring from the reserve from here on: every buffer it hands up is marked.",
        stopped_by=of(EARLY_DROP, scene.nic.name) if scene.nic is not None else "",
    )
    what = (
        ("its frames are of a type that is refused")
        if scene.finding.id == ("D8")
        else ("its socket is not flagged")
    )
    dropped = Step(text=f"Replies for {scene.user.name} arrive in such buffers and are dropped: {what}.")
    return (_pressure(scene), *_intake(scene), marked, dropped, _no_reply(scene), _stands(scene))


def _drained_way(scene: _Scene) -> tuple[Step, ...]:
    reserve, queue = scene.reserve, scene.user.queue
    steps = [_pressure(scene)]
    if queue is not None and queue.nr_requests and queue.max_sectors_kib:
        most = queue.nr_requests * queue.max_sectors_kib * KIB
        steps.append(
            Step(
                text=(
                    f"{queue.device} admits {queue.nr_requests} requests of up to {queue.max_sectors_kib} "
                    f"KiB: {human_bytes(most)} may be under way, and nothing asks what that costs."
                ),
                stopped_by=of(NR_REQUESTS if queue.nr_requests > 16 else MAX_SECTORS, queue.device),
                pages=most // reserve.page_bytes,
            )
        )
    rows = sorted(
        (row for row in reserve.rows if row.kind == "need" and row.pages), key=lambda row: -(row.pages or 0)
    )
    steps += [
        Step(
            text=f"{row.holder} takes up to {_pages(scene, row.pages or 0)}.",
            stopped_by=of(CAP, scene.user.name) if row.subject in {"", scene.user.name} else MIN_FREE,
            pages=row.pages,
        )
        for row in rows[:2]
    ]
    need, exclusive = reserve.need_pages or 0, reserve.exclusive_pages or 0
    steps.append(
        Step(
            text=(
                f"Together {_pages(scene, need)} may be withdrawn, and {_pages(scene, exclusive)} are "
                "there that only block IO can take: the last of them is gone."
            ),
            stopped_by=MIN_FREE,
            pages=need,
        )
    )
    steps += [_no_reply(scene, of(CAP, scene.user.name)), _nothing_left(scene)]
    return tuple(steps)


def _nothing_left(scene: _Scene) -> Step:
    return Step(
        text=(
            "What is held comes back with acknowledgements, and no page is left to receive one in: the "
            f"host stands still. Killing programs frees nothing that {scene.user.name} does not have to "
            "write first."
        )
    )


def _server_way(scene: _Scene) -> tuple[Step, ...]:
    return (
        _pressure(scene),
        Step(
            text=(
                f"The server of {scene.user.name} is on this machine: to take the write and to answer it, "
                "it needs memory of its own, for its socket, its page cache, and its own pages where they "
                "were taken away."
            )
        ),
        Step(
            text=(
                f"Its request for memory enters reclaim, and reclaim waits for {scene.user.name}: for the "
                "server."
            )
        ),
        _stands_closed(),
    )


def _stands_closed() -> Step:
    return Step(text="The circle is closed, whatever the size of the reserve: no setting stops it.")


def _daemon_way(scene: _Scene) -> tuple[Step, ...]:
    names = scene.finding.subjects
    daemon = next(
        (one for one in scene.host.daemons if one.comm in names and scene.user.name in one.users), None
    )
    name = f"{daemon.comm} ({daemon.pid})" if daemon is not None else "its daemon"
    guard = of(IO_FLUSHER, daemon.comm) if daemon is not None else ""
    flagged = daemon is not None and all_flush(daemon)
    lack = "its memory is not locked" if flagged else f"not every thread has the flags {IO_FLUSHER_FLAGS:#x}"
    if scene.finding.id == "exe-on-device":
        lack = f"its binary lives on {scene.user.name}"
    return (
        _pressure(scene),
        Step(text=f"Each of these writes needs {name}, a program like any other: {lack}.", stopped_by=guard),
        Step(
            text=(
                "It asks for memory, or touches a page that was taken away, and waits for "
                f"{scene.user.name} itself."
            ),
            stopped_by=guard,
        ),
        Step(text="Nobody serves the write that would free the page it waits for: the host stands still."),
    )


def _loop_way(scene: _Scene) -> tuple[Step, ...]:
    return (
        _pressure(scene),
        Step(
            text=(
                "The loop device turns each page that is to be written into a page of a file: it must be "
                "allocated first, and not from the reserve."
            )
        ),
        Step(
            text=(
                "The file's own connection is not flagged: it gets no page of the reserve to send or to "
                "receive."
            )
        ),
        _stands_closed(),
    )


WAYS: Mapping[str, Callable[[_Scene], tuple[Step, ...]]] = {
    "D1": _ring_way,
    "D2": _ring_way,
    "D3": _ring_way,
    "D22": _ring_way,
    "D8": _marked_way,
    "D11": _marked_way,
    "D15": _drained_way,
    "D14": _server_way,
    "D9-serving": _daemon_way,
    "io-flusher-inverted": _daemon_way,
    "exe-on-device": _daemon_way,
    "loop-over-network": _loop_way,
}
