"""A bundle in words: what stands still, who waits for what, which pool is empty, what the wire says.

Each sentence notes the lines that prove it; a sentence about which the bundle says nothing is empty.
"""

from __future__ import annotations

import re

from tidegate.rig.blocked import ROLES, WAITS, Blocked, in_reclaim
from tidegate.rig.bundle import Known

NEAR_PAGES = 16  # above the floor: less than what one poll takes to refill a ring
LEFT_PAGES = 64  # of all zones together: nothing is left, for whomever
_SHORT_MS = 5_000  # no stand worth a word
# Who is throttled suffers from the circle, and is no part of it.
MAIN_WAITS = ("nbd_handle_cmd", "nbd_queue_rq", "sk_stream_wait_memory")


def stands_still(known: Known) -> str:
    """What stands still and since when, in the guest's time."""
    trial = known.trial
    end, stall = int(trial.get("guest_ms", 0)), int(trial.get("longest_stall_ms", 0))
    if trial.get("verdict") not in {"WEDGED", "STALLED", "INCONCLUSIVE"} or stall < _SHORT_MS:
        return ""
    known.bundle.prove("trial.json", '"longest_stall_ms"')
    done = f"{trial.get('done_pages', 0)} of {trial.get('wanted_pages', 0)} steps"
    if trial["verdict"] == "WEDGED":
        since = f"{max(end - stall, 0) / 1000:.1f} s of the guest's time, for {stall / 1000:.0f} s"
        return f"The load and all swapping stand still since {since}, at {done}."
    return f"The load stood still for up to {stall / 1000:.1f} s of the guest's time; {done} done."


def waits(known: Known) -> str:
    """Which wait each decisive task is in; the same wait of several is told once."""
    groups: dict[tuple[str, str], list[Blocked]] = {}
    for task in known.tasks:
        if task.wait and (in_reclaim(task) or task.role or task.wait in MAIN_WAITS):
            groups.setdefault((_who(task), wait_words(task)), []).append(task)
    told = []
    first = list(ROLES)
    for (who, wait), tasks in sorted(
        groups.items(), key=lambda one: first.index(one[1][0].role) if one[1][0].role else len(first)
    ):
        known.bundle.note(known.file, tasks[0].line)
        known.bundle.note(known.file, tasks[0].line_of(tasks[0].wait))
        many, verb = (f"{len(tasks)} times ", "wait") if len(tasks) > 1 else ("", "waits")
        under = (
            " in its own reclaim"
            if "swap_writepage" in tasks[0].stack or "shrink_node" in tasks[0].stack
            else ""
        )
        told.append(f"{many}{who}{under} {verb} for {wait}")
    return f"Blocked: {'; '.join(told)}." if told else ""


def _who(task: Blocked) -> str:
    """`kswapd`, `init (a fault that needs a new page)`; workers without their numbers, which say nothing."""
    comm = re.sub(r"[/:]?u?\d+(:\d+H?)?$", "", task.comm)
    words = ROLES.get(task.role, "")
    return words if words and words.startswith(comm) else f"{comm} ({words})" if words else comm


def wait_words(task: Blocked) -> str:
    """What this task waits for."""
    return WAITS.get(task.wait, "something not told here")


def pool(known: Known) -> str:
    """Which pool is empty: each zone against the floor of atomic requests, and the sockets' own bound."""
    if not known.zones:
        return ""
    told = []
    for zone in known.zones:
        known.bundle.prove("zones.json", r'"free":', after=f'"name": "{zone["name"]}"')
        known.bundle.prove("zones.json", r'"floor":', after=f'"name": "{zone["name"]}"')
        told.append(f"{zone['name']} {zone['free']} pages of a floor of {zone['floor']}")
    free, slack = known.free, known.slack or 0
    if free < LEFT_PAGES:
        head = f"Nothing is left ({free} pages)"
    elif slack <= NEAR_PAGES:
        head = "Free memory is at the floor of GFP_ATOMIC (3/8 of min), where refills are refused"
    else:
        head = "Atomic requests could be served now"
    used, most = known.tcp_mem
    more = f"; tcp_mem is full ({used} of {most} pages)" if most and used >= most else ""
    return f"{head}: {', '.join(told)}{more}."


def on_the_wire(known: Known) -> str:
    """Requests that nobody answers, replies that nobody takes."""
    stats, talk = known.wire.get("stats", {}), known.wire.get("talk", {})
    reply, request = stats.get("last_reply_s", -1), stats.get("last_request_s", -1)
    if reply < 0:
        return ""
    known.bundle.prove("wire.json", '"last_reply_s"')
    told = [f"the server's last reply passed {reply:.0f} s before the end"]
    if request >= 0:
        known.bundle.prove("wire.json", '"last_request_s"')
        told[0] += f", the guest's last segment with data {request:.0f} s before"
    if stats.get("waiting"):
        known.bundle.prove("wire.json", '"waiting"')
        told.append(f"{stats['waiting']} frames wait for a NIC that takes none")
    if again := talk.get("sent_again_though_acknowledged"):
        known.bundle.prove("wire.json", '"sent_again_though_acknowledged"')
        told.append(
            f"the guest sent {again} times again what the server had acknowledged: answers came, and were not taken"
        )
    elif talk.get("replies_sent_again"):
        known.bundle.prove("wire.json", '"replies_sent_again"')
        told.append(
            f"the server sent replies {talk['replies_sent_again']} times again that the guest did not take"
        )
    for name in ("rx_dropped", "rx_missed"):
        if dropped := known.readings.get("of_guest", {}).get(name):
            known.bundle.prove("readings.json", f'"{name}"')
            told.append(f"the guest's NIC counts {dropped} packets that it lost ({name})")
    if known.bundle.prove("console.txt", "Possible stuck request"):
        told.append("nbd itself names stuck requests")
    return f"On the wire {'; '.join(told)}."
