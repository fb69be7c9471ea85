"""Who stands in front of a rule, how bad it is for them, and one answer out of many.

Severity follows from one question: can memory still be freed without the network? Anonymous memory of a host
that swaps over the network cannot, so what stops the replies stops everything: `deadlock`. Where a mount or
a disk rides on the network and swap does not, the OOM killer can still free anonymous memory: the same
mechanism is a `stall`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tidegate.findings.rule import Judgement, absent
from tidegate.host.facts import BlockUser, Host, UserKind
from tidegate.host.load import flagged
from tidegate.result import Cure, Evidence, Finding, Reserve, Severity, Shown, State, Topic
from tidegate.setting_ids import MIN_FREE

NO_SWAP = "no swap rides on it, so the OOM killer can still free anonymous memory: a stall, not a deadlock"
NO_USERS = "no swap, disk or file system of this host rides on the network"

_SEVERITIES = tuple(Severity)  # worst first
# What was run or met by others is told before what was only read.
_FIRMNESS = (Shown.RUN, Shown.REPORT, Shown.SOURCE, Shown.INFERRED)
_EVIDENCE_MAX = 12


def swaps(user: BlockUser) -> bool:
    """Anonymous memory goes through this user, itself or by something that stands on it."""
    return user.swaps or user.kind in {UserKind.SWAP, UserKind.SWAPFILE}


def graded(*users: BlockUser) -> Severity:
    """`deadlock` where one of them carries swap, else `stall`."""
    return Severity.DEADLOCK if any(map(swaps, users)) else Severity.STALL


def graded_why(why: str, user: BlockUser) -> str:
    """A sentence with the reason for its severity where that is not the rule's own."""
    return why if swaps(user) else f"{why}; {NO_SWAP}"


def on_the_wire(user: BlockUser) -> bool:
    """Its packets leave the machine, as far as is known."""
    if user.routes:
        return any(not route.local for route in user.routes)
    return user.server_local is not True


def firmness(finding: Finding) -> int:
    """0 for a finding on the firmest ground."""
    return _FIRMNESS.index(finding.shown)


def memalloc_key(host: Host) -> bool:
    """memalloc_socks_key is on: some socket carries SOCK_MEMALLOC now, so `key` drivers may use the reserve.

    It counts up with every nbd, iscsi_tcp and nvme-tcp socket and is counted down by sunrpc and WireGuard
    only (net/core/sock.c:sk_set_memalloc); what was connected earlier cannot be seen.
    """
    return any(map(flagged, host.users)) or any(one.kind == "wireguard" and one.up for one in host.links)


def settings_alone(reserve: Reserve) -> bool | None:
    """Foreign atomic intake cannot bring a zone down to 3/8 min: what others can pin fits above it.

    None: it cannot be told. It can without the whole sum where the pins alone are already too many.
    """
    one = next((one for one in reserve.conditions if one.id == "settings_alone"), None)
    if one is None or one.holds is not None:
        return None if one is None else one.holds
    pins, room = reserve.pin_pages, one.right_pages
    return False if pins is not None and room is not None and pins > room else None


def floor_evidence(reserve: Reserve) -> tuple[Evidence, ...]:
    """The zones' floors, and the inequality that says whether foreign traffic reaches them."""
    zones = [
        Evidence(
            source="proc/zoneinfo",
            value=f"Node {zone.node}, zone {zone.name}: free {zone.free}, min {zone.min}, boost {zone.boost}",
            meaning=f"GFP_ATOMIC stops at {zone.floor} pages",
        )
        for zone in reserve.zones
        if zone.managed
    ]
    sums = [
        Evidence(
            source="proc/zoneinfo, proc/sys/net",
            value=f"{_pages(one.left_pages)} against {_pages(one.right_pages)}",
            meaning=one.text,
        )
        for one in reserve.conditions
        if one.id == "settings_alone"
    ]
    return (*sums, *zones[:3])


def user_evidence(user: BlockUser) -> tuple[Evidence, ...]:
    """Where the user itself was read."""
    found = [item for part in user.chain for item in part.evidence]
    return tuple(found[:1])


def sysctl_evidence(host: Host, name: str, meaning: str = "") -> Evidence:
    """A sysctl with its file."""
    value = host.sysctls.get(name)
    return Evidence(source=sysctl_path(name), value="not read" if value is None else value, meaning=meaning)


def sysctl_path(name: str) -> str:
    """The file of a sysctl, as a record holds it."""
    return "proc/sys/" + name.replace(".", "/")


def over_users(
    host: Host,
    ask: Callable[[BlockUser], Judgement],
    *,
    among: Iterable[BlockUser] | None = None,
    none: str = "nobody is concerned",
    by_swap: bool = False,
) -> Judgement:
    """Asks for each block user and makes one answer; `none` says why it is absent where nobody is concerned.

    `by_swap`: an answer without a severity of its own has that of its user, `deadlock` or `stall`.
    """
    if not host.users:
        return replace(absent(NO_USERS), rests_on=frozenset({Topic.USERS}))
    users = tuple(host.users if among is None else among)
    if not users:
        return absent(none)
    answers = [_named(ask(user), user, by_swap) for user in users]
    return one_answer(answers, none=none)


def one_answer(answers: Sequence[Judgement], *, none: str) -> Judgement:
    """One answer out of several about the same rule.

    What applies wins over what is unknown, unless the unknown part may be worse: then it cannot be told.
    """
    hits = [one for one in answers if one.state is State.APPLIES]
    open_ = [one for one in answers if one.state is State.UNKNOWN]
    if hits and not any(_rank(one) < min(map(_rank, hits)) for one in open_):
        return _joined(hits)
    if open_:
        return _joined([*open_, *hits])
    if not answers:
        return absent(none)
    merged = _joined(list(answers))
    return replace(merged, why=answers[0].why or none, cure=None)


def _rank(answer: Judgement) -> int:
    return -1 if answer.severity is None else _SEVERITIES.index(answer.severity)


def _named(answer: Judgement, user: BlockUser, by_swap: bool) -> Judgement:
    severity = answer.severity or (graded(user) if by_swap else None)
    return replace(answer, subjects=answer.subjects or (user.name,), severity=severity)


def _joined(answers: list[Judgement]) -> Judgement:
    """Answers of one state, the first (worst) one speaking for all."""
    state = answers[0].state
    answers = sorted((one for one in answers if one.state is state), key=_rank) + [
        one for one in answers if one.state is not state
    ]
    first = answers[0]
    whys = list(dict.fromkeys(one.why for one in answers if one.state is state))
    more = f" (and {len(whys) - 1} more like it)" if len(whys) > 1 else ""
    return Judgement(
        state=state,
        why=first.why + more,
        subjects=tuple(dict.fromkeys(name for one in answers for name in one.subjects)),
        evidence=tuple(dict.fromkeys(item for one in answers for item in one.evidence))[:_EVIDENCE_MAX],
        severity=first.severity,
        cure=joined_cure([one.cure for one in answers if one.cure is not None]),
    )


def joined_cure(cures: Sequence[Cure]) -> Cure | None:
    """All settings of several cures; curable only where each of them is."""
    if not cures:
        return None
    return Cure(
        settings=tuple(dict.fromkeys(name for cure in cures for name in cure.settings)),
        curable=all(cure.curable for cure in cures),
        instead=next((cure.instead for cure in cures if cure.instead), ""),
    )


def _pages(pages: int | None) -> str:
    return "without bound" if pages is None else f"{pages:,} pages"


def min_free_evidence(host: Host) -> Evidence:
    """vm.min_free_kbytes with its file."""
    return sysctl_evidence(host, MIN_FREE, "the size of the reserve in kB, of which 3/8 is exclusive")
