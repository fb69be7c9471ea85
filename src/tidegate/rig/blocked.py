"""SysRq-w as the kernel prints it, taken apart: which tasks are blocked, where."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TASK = re.compile(r"task:(?P<comm>.{1,15}?)\s+state:(?P<state>\S)\s.*?pid:(?P<pid>\d+)")
_FRAME = re.compile(r"^\s(?P<function>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?")


@dataclass(frozen=True, slots=True)
class Blocked:
    """One blocked task; `stack` innermost first."""

    comm: str
    pid: int
    stack: tuple[str, ...]


def parse(text: str) -> tuple[Blocked, ...]:
    """The tasks of a SysRq-w, in the order printed."""
    found: list[tuple[str, int, list[str]]] = []
    for raw in text.splitlines():
        line = _STAMP.sub("", raw, count=1)
        task = _TASK.search(line)
        if task:
            found.append((task["comm"].strip(), int(task["pid"]), []))
            continue
        frame = _FRAME.match(line)
        if frame and found:
            found[-1][2].append(frame["function"])
    return tuple(Blocked(comm, pid, tuple(stack)) for comm, pid, stack in found)


def same_wait(first: str, second: str) -> bool:
    """Do both looks show some task waiting inside its own reclaim, at the same places, and nobody left the circle?"""
    before, after = parse(first), parse(second)
    circle = [task for task in before if in_reclaim(task)]
    return bool(circle) and all(task in after for task in circle)


def in_reclaim(task: Blocked) -> bool:
    """Does it wait below a reclaim: its own, or throttled until somebody else's gets on?"""
    return any(
        name in task.stack for name in ("shrink_node", "shrink_folio_list", "throttle_direct_reclaim", "balance_pgdat")
    )
