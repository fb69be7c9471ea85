"""Mount options of network file systems."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from tidegate.host.facts import Mount
from tidegate.host.reading import is_number


def of(mount: Mount) -> dict[str, str]:
    """Options as names and values; a flag has an empty value."""
    made: dict[str, str] = {}
    for option in mount.options:
        name, _, value = option.partition("=")
        made[name] = value
    return made


def number(options: Mapping[str, str], name: str) -> int | None:
    """An option that holds a number."""
    value = options.get(name, "")
    return int(value) if is_number(value) else None


def address(text: str) -> str:
    """The text when it is an IP address (in brackets or not), else nothing."""
    bare = text.strip("[]")
    try:
        ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return ""
    return bare
