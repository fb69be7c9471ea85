"""The short part with real kernels: a stock guest stands still for ever, and one with the plan in force does not.

Fresh boots of the case `deadlock`: stock ones until one fails, then protected ones, of which none may. That no stock
boot failed says nothing about the plan, so it is told as such and counted as skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rig import boots_here

from tidegate.errors import Lacking
from tidegate.rig.one_trial import run_job
from tidegate.trial import COUNTED, FAILURES, Job, TrialResult

STOCK_AT_MOST, PROTECTED = 6, 3
Boot = Callable[[str, int], TrialResult]


def shown(boot: Boot) -> str:
    """One line for what was seen. Skips where it shows nothing; AssertionError where a protected guest failed."""
    stock: list[TrialResult] = []
    while len(stock) < STOCK_AT_MOST and not any(one.verdict in FAILURES for one in stock):
        stock.append(boot("stock", len(stock) + 1))
    if stock[-1].verdict not in FAILURES:
        words = ", ".join(one.verdict.value for one in stock)
        pytest.skip(f"INCONCLUSIVE: no stock boot failed in {STOCK_AT_MOST} ({words})")
    protected = [boot("plan", seed) for seed in range(1, PROTECTED + 1)]
    failed = [
        f"seed {one.seed}: {one.verdict.value}: {one.reason}" for one in protected if one.verdict in FAILURES
    ]
    assert failed == []
    counted = [one for one in protected if one.verdict in COUNTED]
    if not counted:
        pytest.skip(f"INCONCLUSIVE: no protected boot was counted: {protected[0].reason}")
    return f"stock failed in boot {len(stock)} ({stock[-1].verdict.value}); with the plan 0 of {len(counted)} failed"


@pytest.mark.vm
@pytest.mark.slow
def test_a_stock_guest_deadlocks_and_the_plan_keeps_it_going(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if why := boots_here.why_no_trial():
        pytest.skip(why)

    def boot(arm: str, seed: int) -> TrialResult:
        job = Job(
            case="deadlock",
            arm=arm,
            kernel=boots_here.KERNEL,
            nic="virtio-net-pci",
            transport="nbd",
            seed=seed,
        )
        try:
            result = run_job(job, tmp_path / f"{arm}-{seed}")
        except Lacking as trouble:
            pytest.skip(f"arm {arm}: {trouble}")
        with capsys.disabled():
            print(f"\n  {arm} #{seed}: {result.verdict.value}: {result.reason}", end="", flush=True)
        if result.verdict in FAILURES:  # what a kernel developer would ask for
            names = {path.name for path in (tmp_path / f"{arm}-{seed}").iterdir()}
            assert {"blocked-1.txt", "blocked-2.txt", "memory-1.txt", "capture.pcapng", "trial.json"} <= names
            assert result.diagnosis
        return result

    line = shown(boot)
    with capsys.disabled():
        print(f"\n  {line}", flush=True)
