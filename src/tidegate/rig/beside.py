"""What others say a sysctl of a trial's guest should be: the plan, and rules of thumb, from a record of that guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.trial import Said

if TYPE_CHECKING:
    from tidegate.rig.tried import Tried

MIN_FREE = "vm.min_free_kbytes"

Tell = Callable[[str], None]
RecordOf = Callable[["Tried", Tell], Path]


def said_of(tried: Tried, key: str, tell: Tell, *, record_of: RecordOf | None = None) -> tuple[Said, ...]:
    """Who says what of `key`, smallest first. The first time for a guest this is a boot of it.

    Raises what making a record raises (Lacking).
    """
    from tidegate.host.opening import open_record
    from tidegate.host.read import read_host
    from tidegate.plan import solve
    from tidegate.rig.record_in_guest import record_path

    host = read_host(open_record((record_of or record_path)(tried, tell)))
    plan = solve(host, format="script")
    path = f"/proc/sys/{key.replace('.', '/')}"
    said = [
        Said(name="tidegate plan, with its other settings", value=int(one.new))
        for one in plan.settings
        if one.path == path and one.new.isdecimal()
    ]
    if key == MIN_FREE:
        said += [
            Said(name=rule.name, value=rule.min_free_kib) for rule in plan.rules_of_thumb if rule.min_free_kib
        ]
    return tuple(sorted(said, key=lambda one: (one.value, one.name)))
