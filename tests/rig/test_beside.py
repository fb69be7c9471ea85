"""What the plan and rules of thumb say of a sysctl, from a record."""

from __future__ import annotations

from tests.rig.test_planned import recorded, told, tried

from tidegate.rig.beside import MIN_FREE, said_of
from tidegate.rig.planned import plan_for


def test_the_plan_stands_among_the_rules_of_thumb() -> None:
    said = said_of(tried(), MIN_FREE, told, record_of=recorded())
    values = {one.name: one.value for one in said}
    plan = plan_for(tried(), told, record_of=recorded())
    assert values["tidegate plan, with its other settings"] == int(
        plan.values["/proc/sys/vm/min_free_kbytes"]
    )
    assert values["ten times the default"] == 10 * values["kernel default"]
    assert [one.value for one in said] == sorted(values.values())


def test_of_another_key_rules_of_thumb_say_nothing() -> None:
    assert said_of(tried(), "kernel.pid_max", told, record_of=recorded()) == ()
