"""What netlink said, decoded; a file that does not fit is damaged, one that must be there and is not is a gap."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from tidegate.host import netlink_format
from tidegate.host.reading import Reading
from tidegate.host.record import Status
from tidegate.result import Topic

T = TypeVar("T")


def told(reading: Reading, path: str, shape: type[T], topic: Topic, *, must: bool = True) -> T | None:
    """One file of netlink/, or None. `must`: nothing else holds these facts, so that no answer is a gap."""
    member = reading.record.members.get(path)
    if member is None or member.status is not Status.FOUND:
        if must and reading.status(path) is Status.ABSENT:
            detail = (member.detail if member else "") or "the question could not be asked"
            reading.gap(path, "cannot be seen", topic, detail)
        elif must or reading.status(path) is Status.DAMAGED:
            reading.missing(path, topic)
        return None
    try:
        return netlink_format.decode(member.data, shape)
    except (msgspec.MsgspecError, RecursionError, ValueError) as trouble:
        reading.gap(path, Status.DAMAGED.value, topic, str(trouble)[:200])
        return None
