"""A mechanism that is quick and knows its answers, in the place of `tidegate.sim.run`.

It stands in a module of its own, so that worker processes can import it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.report import simulated

from tidegate.case import Case
from tidegate.design import Design
from tidegate.simulation import Run, Word

RUNS = {
    Word.STUCK: simulated.stuck_run(),
    Word.LUCKY: simulated.lucky_run(),
    Word.REFUSED: replace(simulated.seen_run(), word=Word.REFUSED),
    Word.SEEN: simulated.seen_run(),
}
NEEDED_PAGES = 40  # with so large a reserve a design that discards gets through

CASE = """\
claim = "A storm stops swap over the network"
source = "a sentence of the mail"

[machine]
reserve_pages = 64

[run]
seeds = 4

[[arm]]
name = "bare"
design = "bare"
expect.simulate = "STUCK"

[[arm]]
name = "mail"
design = "mail"
expect.simulate = "SEEN"

[[arm]]
name = "no discard"
design = "mail"
without = ["discard"]
expect.simulate = "STUCK"

[[arm]]
name = "small"
design = "mail"
set.machine.reserve_pages = 8
set.run.seeds = 2

[[arm]]
name = "coin"
design = "random_drop"
expect.simulate = "SEEN"
"""


def write_case(directory: Path, name: str = "storm", text: str = CASE) -> str:
    path = directory / f"{name}.toml"
    path.write_text(text)
    return str(path)


def word_of(case: Case, design: Design, seed: int) -> Word:
    """What a run earns: a coin is luck with every second seed, a design that discards needs its reserve."""
    if design.coin_percent:
        return Word.SEEN if seed % 2 else Word.LUCKY
    if not design.discard:
        return Word.STUCK if seed % 3 == 0 else Word.SEEN
    return Word.SEEN if case.machine.reserve_pages >= NEEDED_PAGES else Word.STUCK


def simulate(
    case: Case,
    design: Design,
    seed: int,
    *,
    arm: str = "",
    sampled: bool = False,
    tell: Callable[[int, int, int, int], None] | None = None,
) -> Run:
    if case.name == "broken" and seed == 3:
        raise AssertionError("3 pages are free and 4 are counted")
    if case.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.name == "endless":
        with Path(os.environ["MADE_RUNS_PIPE"]).open("w") as pipe:
            pipe.write(f"{os.getpid()}\n")
        threading.Event().wait()
    run = RUNS[word_of(case, design, seed)]
    if tell is not None:
        tell(run.storm_ns, run.end_ns, 123, 456)
    return replace(
        run,
        case=case.name,
        arm=arm,
        design=design.name,
        seed=seed,
        samples=run.samples if sampled else (),
        holders=run.holders if sampled else (),
    )
