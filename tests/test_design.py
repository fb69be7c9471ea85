"""A design is a set of switches; what is left out by name is off, and nothing else."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.design import HUNKS, SWITCHES, Design, Kernel, Pool, Refill, on, without
from tidegate.designs import DESIGNS, design
from tidegate.errors import Usage

PLAIN = Design(name="plain", title="", proposed_by="", source="", about="")


def test_without_anything_it_is_2_6_12_as_it_was() -> None:
    assert on(PLAIN) == ()
    assert (PLAIN.kernel, PLAIN.refill, PLAIN.pool, PLAIN.coin_percent) == (
        Kernel.V2_6_12,
        Refill.RING,
        Pool.GLOBAL,
        0,
    )


def test_switches_are_what_is_on_or_off() -> None:
    assert set(SWITCHES) == {one.name for one in fields(Design) if isinstance(one.default, bool)}
    assert HUNKS == (
        "gfp_memalloc", "ordinary_first", "driver_chooses", "mark", "clone_clears", "copy_clears", "bypass",
        "sock_memalloc", "discard",
    )  # fmt: skip
    assert on(design("patch")) == HUNKS


@given(st.sampled_from(sorted(DESIGNS)), st.sets(st.sampled_from(SWITCHES), max_size=4))
def test_what_is_left_out_is_off_and_nothing_else_changes(name: str, off: set[str]) -> None:
    whole = DESIGNS[name]
    if not off <= set(on(whole)):
        there = "on are [a-z]" if on(whole) else "nothing of it is on$"
        with pytest.raises(Usage, match=f"design {name} has no .* to leave out; {there}"):
            without(whole, *sorted(off))
        return
    less = without(whole, *sorted(off))
    assert set(on(less)) == set(on(whole)) - off
    other = {one.name for one in fields(Design)} - off - {"name"}
    assert all(getattr(less, field) == getattr(whole, field) for field in other)
    assert (less.name == name) is (not off)


def test_the_name_says_what_is_missing() -> None:
    assert without(design("mail"), "throttle", "bypass").name == "mail without throttle, bypass"


def test_a_switch_that_is_not_there() -> None:
    with pytest.raises(Usage, match="no switch 'discrad'; there are gfp_memalloc, "):
        without(design("mail"), "discrad")
    with pytest.raises(Usage, match=r"design bare has no discard to leave out; nothing of it is on$"):
        without(design("bare"), "discard")
