"""`check --against`: what changed is said, what did not is not."""

from __future__ import annotations

from dataclasses import replace

from tests.report import samples

from tidegate.report.changes import Area, Change, changes, changes_text
from tidegate.result import State


def test_the_same_result_has_no_changes() -> None:
    found = changes(samples.at_risk(), samples.at_risk())
    assert found.changes == ()
    assert "AT_RISK, as before" in changes_text(found)
    assert changes_text(found).endswith("Nothing changed.\n")


def test_what_only_passes_is_no_change() -> None:
    base = samples.at_risk()
    zones = tuple(replace(zone, free=zone.free - 100) for zone in base.reserve.zones)
    socket = replace(base.users[0].sockets[0], local="10.0.2.15:50000", held_bytes=0)
    later = replace(
        base,
        reserve=replace(base.reserve, zones=zones),
        users=(replace(base.users[0], sockets=(socket,)),),
    )
    assert changes(base, later).changes == ()


def test_each_part_is_compared() -> None:
    found = changes(samples.at_risk(), samples.cured())
    assert {one.area for one in found.changes} == set(Area) - {Area.HOST}
    assert Change(area=Area.RESERVE, name="need", old="2,326", new="678") in found.changes
    assert Change(area=Area.ZONE, name="node 0 DMA32 min", old="423", new="1,896") in found.changes
    text = changes_text(found)
    assert text.startswith("SAFE, better than AT_RISK before:")
    back = changes(samples.cured(), samples.at_risk())
    assert changes_text(back).startswith("AT_RISK, worse than SAFE before:")


def test_a_new_user_and_one_that_went() -> None:
    base = samples.at_risk()
    other = replace(base, users=(replace(base.users[0], name="swap /dev/nbd1"),))
    users = [one for one in changes(base, other).changes if one.area is Area.USER]
    assert [(one.name, one.old is None, one.new is None) for one in users] == [
        ("swap /dev/nbd0", False, True),
        ("swap /dev/nbd0, socket to 10.0.2.2:10809", False, True),
        ("swap /dev/nbd1", True, False),
        ("swap /dev/nbd1, socket to 10.0.2.2:10809", True, False),
    ]


def test_two_connections_to_one_peer_are_told_apart() -> None:
    base = samples.at_risk()
    socket = base.users[0].sockets[0]
    two = replace(base, users=(replace(base.users[0], sockets=(socket, replace(socket, capped=True))),))
    (only,) = changes(base, two).changes
    assert only.name == "swap /dev/nbd0, socket to 10.0.2.2:10809 (2)"


def test_a_finding_that_becomes_unknown_is_a_change() -> None:
    base = samples.at_risk()
    findings = tuple(replace(one, state=State.UNKNOWN) if one.id == "D5" else one for one in base.findings)
    (only,) = changes(base, replace(base, findings=findings)).changes
    assert (only.old, only.new) == ("absent", "unknown (deadlock)")


def test_hostile_names_cannot_reach_the_terminal() -> None:
    text = changes_text(changes(samples.at_risk(), samples.hostile()))
    assert all(line.isprintable() or not line for line in text.split("\n"))
