"""Host, sum and findings in, settings out. Pure: nothing is read, nothing is written.

In the order that matters: what bounds others and the connections themselves comes before a larger reserve,
queue depths come after it, the rest last. The result is judged again by the same sum and the same rules, on
the host with the settings in force, so that a plan cannot promise what `check` would not confirm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from tidegate import setting_ids as ids
from tidegate.findings.accepted import Acceptance
from tidegate.host.facts import Host
from tidegate.host.load import connections_of, reserve_of
from tidegate.plan import bounds, outcome, settings
from tidegate.plan.bounds import GOALS, Goal
from tidegate.plan.in_force import socket_key, with_settings
from tidegate.plan.judged import Judged, judged
from tidegate.result import Plan, Setting, State, Verdict

MAX_SHARE_PERCENT = 5.0
ALL = "all"  # every setting, whatever way there is to put it in force
FORMATS = (ALL, *settings.FILES)

_SIZED = frozenset({ids.MIN_FREE, ids.TCP_MEM, ids.UDP_MEM, ids.CAP, ids.TCP_RMEM, ids.TCP_WMEM})
# Their cure is to move a sized setting the other way.
_OPPOSITE = frozenset({"reserve-too-large", "tcp-mem-near"})
# Written in this order: what shrinks the need first, then the reserve, then queues, then the rest.
_ORDER = (
    ids.CAP,
    ids.RESERVE_MEM,
    ids.TCP_RMEM,
    ids.TCP_WMEM,
    ids.TCP_MEM,
    ids.UDP_MEM,
    ids.IPFRAG_LOW_THRESH,
    ids.IPFRAG_HIGH_THRESH,
    ids.IP6FRAG_LOW_THRESH,
    ids.IP6FRAG_HIGH_THRESH,
    ids.NETDEV_MAX_BACKLOG,
    ids.RMEM_MAX,
    ids.WMEM_MAX,
    ids.HIGH_ORDER_ALLOC_DISABLE,
    ids.SKB_DEFER_MAX,
    ids.MIN_FREE,
    ids.WATERMARK_BOOST,
    ids.WATERMARK_SCALE,
    ids.NR_REQUESTS,
    ids.MAX_SECTORS,
    ids.PAGE_CLUSTER,
    ids.NEIGHBOUR,
    ids.THREADED,
    ids.RING,
    ids.IO_FLUSHER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a plan is made for: the host, how much it may take, and which settings can be put in force."""

    before: Judged
    most_kib: int
    format: str

    def can(self, setting: Setting | None) -> Setting | None:
        """The setting, if the format can put it in force."""
        if setting is None or self.format == ALL or self.format in setting.means:
            return setting
        return None


def solve(
    host: Host,
    *,
    max_share_percent: float = MAX_SHARE_PERCENT,
    format: str = ALL,
    accepted: Sequence[Acceptance] = (),
    today: date | None = None,
) -> Plan:
    """The smallest settings that prevent what can be prevented, with what would hold after them.

    `max_share_percent`: the most of RAM that vm.min_free_kbytes is raised to. `format`: only settings that
    this format can put in force. `today` decides which acceptances have expired.
    """
    assert format in FORMATS, format
    before = judged(host)
    most_kib = bounds.share_kib(host, max_share_percent) or 0
    chosen = _chosen(_Task(before=before, most_kib=most_kib, format=format))
    after = judged(with_settings(host, chosen)) if chosen else before
    whole: tuple[Setting, ...] = ()
    if format != ALL:
        whole = _chosen(_Task(before=before, most_kib=most_kib, format=ALL))
    return outcome.plan_of(
        before=before,
        after=after,
        chosen=outcome.with_cures(chosen, before.findings, after.findings),
        whole=whole,
        format=format,
        max_share_percent=max_share_percent,
        accepted=accepted,
        today=today,
    )


def _chosen(task: _Task) -> tuple[Setting, ...]:
    """All settings of the plan, in their order."""
    open_ = [one for one in task.before.findings if one.state is not State.ABSENT]
    if not task.before.host.users or not open_:
        return ()
    hits = [one for one in open_ if one.state is State.APPLIES]
    wanted = {name for one in hits for name in one.cure.settings}
    sizes = any(
        ids.family_of(name) in _SIZED
        for one in open_
        if one.id not in _OPPOSITE
        for name in one.cure.settings
    )
    simple = _simple(task, wanted)
    made = _sized(task, simple) if sizes else simple
    made += _shares(task, with_settings(task.before.host, made))
    return _pruned(task, _in_order(made))


def _shares(task: _Task, host: Host) -> tuple[Setting, ...]:
    """A share of tcp_mem for each block connection, as large as its buffers are with the caps in force.

    `host` has them in force: they are seen there also where the record could not see the connections.
    """
    hits = [one for one in judged(host).findings if one.state is State.APPLIES]
    wanted = {name for one in hits for name in one.cure.settings}
    made: list[Setting] = []
    seen: set[tuple[object, ...]] = set()
    for user in host.users:
        mine = {socket_key(socket) for socket in user.sockets}
        if not {ids.RESERVE_MEM, ids.of(ids.RESERVE_MEM, user.name)} & wanted or mine <= seen:
            continue  # several disks of one session share its connection
        seen |= mine
        if (one := task.can(settings.reserve_mem(host, user))) is not None:
            made.append(one)
    return tuple(made)


def _in_order(made: Iterable[Setting]) -> tuple[Setting, ...]:
    return tuple(sorted(made, key=lambda one: (_ORDER.index(ids.family_of(one.id)), one.id)))


def _simple(task: _Task, wanted: set[str]) -> tuple[Setting, ...]:
    """Settings whose value needs no sum: what findings ask for, and what makes others' share smaller."""
    host = task.before.host
    made: list[Setting | None] = []
    for name in settings.FIXED:
        if (name in wanted or name in _MOVERS) and (one := settings.fixed(host, name)):
            made += settings.with_threshold(host, one)
    made += [settings.neighbour(host, _name(name)) for name in sorted(wanted) if _is(name, ids.NEIGHBOUR)]
    made += [settings.threaded(host, _name(name)) for name in sorted(wanted) if _is(name, ids.THREADED)]
    return tuple(one for one in map(task.can, made) if one)


# Move an inequality even where no finding asks for them; pruned again where they do not.
_MOVERS = frozenset(
    {ids.HIGH_ORDER_ALLOC_DISABLE, ids.SKB_DEFER_MAX, ids.IPFRAG_HIGH_THRESH, ids.IP6FRAG_HIGH_THRESH}
)


def _is(name: str, family: str) -> bool:
    return ids.family_of(name) == family and ":" in name


def _name(setting_id: str) -> str:
    return setting_id.partition(":")[2]


def _sized(task: _Task, simple: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Caps, pools and the reserve together, so that the sum fits; the first goal that can be reached."""
    host = task.before.host
    then = with_settings(host, simple)
    rounds = list(dict.fromkeys(_smaller_need(task, then, most) for most in settings.CAPS))
    queues = [
        task.can(make(user)) for user in host.users for make in (settings.nr_requests, settings.max_sectors)
    ]
    if any(queues):
        rounds.append(rounds[-1] + tuple(one for one in queues if one))
    for goal in GOALS:
        for extra in rounds:
            base = simple + extra
            if (sizes := _sizes(task, with_settings(host, base), goal)) is not None:
                return base + sizes
    base = simple + rounds[-1]
    return base + _outer(task, with_settings(host, base))


def _smaller_need(task: _Task, host: Host, most: int) -> tuple[Setting, ...]:
    """Caps of `most` bytes on the block sockets; where the format cannot cap, tcp_rmem and tcp_wmem stand in.

    Those are for every connection of the host, so the largest value is taken at which the block connections
    stay within their part of the share; what a cap would give is the least.
    """
    connections = connections_of(host)
    caps = tuple(one for user in host.users if (one := settings.cap(user, connections, most)))
    if all(map(task.can, caps)):
        return caps
    tried: tuple[Setting, ...] = ()
    for shift in (5, 4, 3, 2, 1, 0):
        made = [settings.buffer_max(host, name, 2 * most << shift) for name in (ids.TCP_RMEM, ids.TCP_WMEM)]
        tried = tuple(one for one in map(task.can, made) if one)
        if bounds.connections_fit(with_settings(host, tried), task.most_kib):
            break
    return tried


def _sizes(task: _Task, host: Host, goal: Goal) -> tuple[Setting, ...] | None:
    """Pools and vm.min_free_kbytes that reach the goal within the share; None when nothing does."""
    now = host.memory.min_free_kib if host.memory else None
    if now is None:
        return None
    most = max(task.most_kib, now)
    if goal.condition == "settings_alone":
        alone = bounds.least_min_free(host, goal, now)
        found = ({}, alone) if alone is not None else bounds.largest_pools(host, goal, most)
    else:
        values = bounds.outer_pools(host)
        least = bounds.least_min_free(bounds.with_pools(host, values), goal, most)
        found = None if least is None else (values, least)
    if found is None:
        return None
    values, min_free = found
    made = _pools(task, host, values, goal)
    if min_free > now:
        raised = settings.min_free(bounds.with_pools(host, values), min_free, goal, task.most_kib)
        made += (raised,) if raised else ()
    return made


def _pools(task: _Task, host: Host, values: dict[str, str], goal: Goal | None) -> tuple[Setting, ...]:
    pins = bounds.dominant(reserve_of(host).rows, "pin")
    made = [
        settings.pool(host, one, values[one.id], goal, dominant=pins.holder if pins else "")
        for one in bounds.pools(host)
        if one.id in values
    ]
    return tuple(one for one in map(task.can, made) if one)


def _outer(task: _Task, host: Host) -> tuple[Setting, ...]:
    """No goal can be reached: others are bounded at least, so that they and the reserve fit the machine."""
    return _pools(task, host, bounds.outer_pools(host), None)


def _pruned(task: _Task, made: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Without the settings that neither end a finding nor make an inequality hold."""
    best = _score(task, made) if made else ()
    pinned = bool(made) and _pins_decide(task, made)
    for group in _groups(made):
        if _only_cure(task, group) or (pinned and any(one.id in bounds.POOLS for one in group)):
            continue
        rest = tuple(one for one in made if one not in group)
        if _score(task, rest) == best:
            made = rest
    return made


def _pins_decide(task: _Task, made: tuple[Setting, ...]) -> bool:
    """Settings alone do not hold on this host at risk: the less others can pin, the rarer the lockup.

    No condition says so (with an early drop, only the need counts), but booted guests without the drop live
    longer by it.
    """
    if task.before.decision.verdict is Verdict.SAFE:
        return False
    total = judged(with_settings(task.before.host, made)).reserve
    return bounds.holds(total.conditions, "settings_alone") is False


def _only_cure(task: _Task, group: tuple[Setting, ...]) -> bool:
    """Nothing but this ends some finding: no need to judge the host without it."""
    names = {ids.family_of(one.id) for one in group}
    return any(
        {ids.family_of(name) for name in one.cure.settings} <= names
        for one in task.before.findings
        if one.state is State.APPLIES and one.cure.settings and one.cure.curable
    )


def _groups(made: tuple[Setting, ...]) -> list[tuple[Setting, ...]]:
    """Settings that are tried together, the least welcome first: one family is one decision."""

    def decision(one: Setting) -> str:
        return settings.GOES_WITH.get(one.id, ids.family_of(one.id))

    decisions = dict.fromkeys(decision(one) for one in reversed(made))
    return [tuple(one for one in made if decision(one) == name) for name in decisions]


def _score(task: _Task, made: tuple[Setting, ...]) -> tuple[object, ...]:
    """What must not change when a setting is left out."""
    then = with_settings(task.before.host, made)
    found = judged(then)
    states = tuple((one.id, one.state, one.severity) for one in found.findings)
    if task.before.decision.verdict is Verdict.SAFE:
        return (states, found.decision.verdict)  # nothing rests on an inequality here
    held = tuple(one.holds for one in found.reserve.conditions)
    # Where nothing holds, every page by which a setting brings it nearer counts.
    sides = (
        () if True in held else tuple((one.left_pages, one.right_pages) for one in found.reserve.conditions)
    )
    fits = bounds.sized(found.reserve.need_pages, found.reserve.exclusive_pages)
    return (states, held, sides, found.decision.verdict, fits, bounds.others_bounded(then, found.reserve))


__all__ = ["ALL", "FORMATS", "MAX_SHARE_PERCENT", "solve", "with_settings"]
