"""What the short part with real kernels makes of verdicts that it is told."""

from __future__ import annotations

import pytest
from tests.rig.campaign_runners import made
from tests.rig.test_deadlock_vm import shown

from tidegate.trial import Job, TrialResult, Verdict


def said(stock: str, plan: str) -> tuple[str, list[str]]:
    """The line, and the boots that were made."""
    words = {"stock": stock.split(), "plan": plan.split()}
    begun: list[str] = []

    def boot(arm: str, seed: int) -> TrialResult:
        begun.append(f"{arm} {seed}")
        job = Job(case="deadlock", arm=arm, kernel="k", nic="n", transport="nbd", seed=seed)
        return made(job, Verdict(words[arm][seed - 1]))

    return shown(boot), begun


def test_it_stops_at_the_first_failure_and_then_tries_the_protected_ones() -> None:
    line, begun = said("SURVIVED LOST OOM", "SURVIVED STALLED SURVIVED")
    assert line == "stock failed in boot 3 (OOM); with the plan 0 of 3 failed"
    assert begun == ["stock 1", "stock 2", "stock 3", "plan 1", "plan 2", "plan 3"]


def test_lost_ones_are_not_counted() -> None:
    assert said("WEDGED", "SURVIVED LOST INCONCLUSIVE")[0].endswith("0 of 1 failed")
    with pytest.raises(pytest.skip.Exception, match="no protected boot was counted"):
        said("WEDGED", "LOST LOST INCONCLUSIVE")


def test_no_failure_in_six_is_told_as_inconclusive() -> None:
    with pytest.raises(pytest.skip.Exception, match="INCONCLUSIVE: no stock boot failed in 6"):
        said("SURVIVED " * 6, "")


@pytest.mark.parametrize("word", ["WEDGED", "OOM", "PANIC"])
def test_one_protected_guest_that_fails_is_a_failure(word: str) -> None:
    with pytest.raises(AssertionError, match=f"seed 2: {word}: a test"):
        said("WEDGED", f"SURVIVED {word} SURVIVED")
