"""Which network namespaces and containers there are beyond what the record can see."""

from __future__ import annotations

from tidegate.host.reading import Reading
from tidegate.host.record import Status

_MARKS = ("run/.containerenv", ".dockerenv", "run/systemd/container")
# include/linux/proc_ns.h: PROC_PID_INIT_INO, the first pid namespace of every kernel.
_FIRST_PIDS = "pid:[4026531836]"


def is_container(reading: Reading) -> bool:
    """The record was made inside a container: one network namespace, some of the mounts and processes.

    The pid namespace decides where the record has it (a virtual machine made from a container image still has
    /.dockerenv); a container that shares it has a network namespace other than that of process 1.
    """
    own, first = _namespace(reading, "self", "net"), _namespace(reading, "1", "net")
    if own is not None and first is not None and own != first:
        return True
    pids = _namespace(reading, "self", "pid")
    if pids is not None:
        return pids != _FIRST_PIDS
    return any(reading.status(path) is Status.FOUND for path in _MARKS)


def unseen_namespaces(reading: Reading) -> int | None:
    """How many other network namespaces processes live in; None when none can be told."""
    own = _namespace(reading, "self", "net")
    if own is None:
        return None
    pids = [name for name in reading.names("proc") if name.isascii() and name.isdigit()]
    others = {place for pid in pids if (place := _namespace(reading, pid, "net")) is not None}
    return len(others - {own})


def _namespace(reading: Reading, who: str, kind: str) -> str | None:
    member = reading.record.members.get(f"proc/{who}/ns/{kind}")
    return member.target if member is not None and member.target else None
