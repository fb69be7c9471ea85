"""What is run: a case with an arm's changes in it, a design with what is left out, and the word that is expected.

Usage for an arm, a design or a switch that is not there; the message names the nearest ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from tidegate.case import Arm, Case, arm_case
from tidegate.design import SWITCHES, Design, without
from tidegate.errors import Usage

JUDGE = "simulate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One thing to try: everything that decides a run, but for the seed."""

    case: Case  # what the arm sets is in it
    design: Design  # what the arm leaves out is off
    arm: str = ""  # of the case; empty where it has no such arm
    expected: str | None = None  # the word that the case expects of `simulate`
    left_out: tuple[str, ...] = ()  # switches that are off besides the arm's own


def named_arm(case: Case, name: str) -> Arm:
    """The arm of that name. Usage where the case has none."""
    for arm in case.arm:
        if arm.name == name:
            return arm
    names = [arm.name for arm in case.arm]
    raise Usage(f"{case.name}: no arm {name!r}; {_hint(name, names)}")


def tried_arm(case: Case, arm: Arm, *left_out: str) -> Tried:
    """An arm of a case, `left_out` being switches that are off besides its own.

    With something left out it is not what the case speaks of any more, and nothing is expected, unless another
    arm is just that.
    """
    from tidegate.designs import design

    try:
        designed = without(design(arm.design), *arm.without)
    except Usage as error:
        raise Usage(f"{case.name}: arm {arm.name!r}: {error}") from error
    changed = arm_case(case, arm)
    if not left_out:
        return Tried(case=changed, design=designed, arm=arm.name, expected=arm.expect.get(JUDGE))
    lessened = _without(designed, left_out)
    same = _same(case, arm.design, {*arm.without, *left_out}, arm)
    if same is None:
        return Tried(case=changed, design=lessened, arm=arm.name, left_out=left_out)
    return Tried(case=changed, design=lessened, arm=same.name, expected=same.expect.get(JUDGE))


def tried_design(case: Case, design: Design, *left_out: str) -> Tried:
    """A design on a case as it stands; expected is what the arm expects that is just that, if there is one."""
    same = _same(case, design.name, set(left_out), None)
    lessened = _without(design, left_out) if left_out else design
    if same is None:
        return Tried(case=case, design=lessened, left_out=left_out)
    return Tried(case=case, design=lessened, arm=same.name, expected=same.expect.get(JUDGE))


def _same(case: Case, design: str, off: set[str], like: Arm | None) -> Arm | None:
    """The arm with this design, these switches left out, and the same tables set."""
    tables = {} if like is None else like.set
    for arm in case.arm:
        if arm.design == design and set(arm.without) == off and arm.set == tables:
            return arm
    return None


def _without(design: Design, left_out: tuple[str, ...]) -> Design:
    for name in left_out:
        if name not in SWITCHES:
            raise Usage(f"no switch {name!r}; {_hint(name, SWITCHES)}")
    lessened = without(design, *left_out)
    assert lessened.name != design.name, design.name
    return lessened


def _hint(typed: str, names: list[str] | tuple[str, ...]) -> str:
    near = get_close_matches(typed, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
