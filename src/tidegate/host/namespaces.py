"""Which network namespaces and containers there are beyond what the record can see."""

from __future__ import annotations

from tidegate.host.reading import Reading

_CONTAINER_FILES = ("run/.containerenv", ".dockerenv", "run/systemd/container")


def is_container(reading: Reading) -> bool:
    """The record was made inside a container: one network namespace, some of the mounts."""
    if any(
        reading.peek(path) is not None or reading.status(path).value == "found" for path in _CONTAINER_FILES
    ):
        return True
    own, first = _namespace(reading, "self"), _namespace(reading, "1")
    return own is not None and first is not None and own != first


def unseen_namespaces(reading: Reading) -> int | None:
    """How many other network namespaces processes live in; None when none can be told."""
    own = _namespace(reading, "self")
    if own is None:
        return None
    pids = [name for name in reading.names("proc") if name.isascii() and name.isdigit()]
    others = {place for pid in pids if (place := _namespace(reading, pid)) is not None}
    return len(others - {own})


def _namespace(reading: Reading, who: str) -> str | None:
    member = reading.record.members.get(f"proc/{who}/ns/net")
    return member.target if member is not None and member.target else None
