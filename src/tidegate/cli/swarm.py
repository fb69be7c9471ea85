"""`tidegate swarm`: the mechanism on machines drawn by chance."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.simulate import SEED_MAX, add_jobs, cores, whole
from tidegate.errors import Exit, Usage

if TYPE_CHECKING:
    from tidegate.design import Design
    from tidegate.judge.swarm import Drawn
    from tidegate.simulation import Swarm

SUMMARY = "the mechanism on machines, designs and storms drawn by chance"
DESCRIPTION = """\
Draws a machine, a design, traffic and faults from each seed (some faults off altogether, others very likely),
says beforehand which of the three laws that machine breaks, and runs storm and calm. Where all three laws hold
no run may end STUCK, and none may starve unless the wire, the ring or the server lost packets of block IO; a
run that does is a surprise, and is listed with the command that repeats it. The other way round nothing is
claimed: a broken law makes a deadlock possible, not certain, and the table says how often it came.

The invariants of the mechanism (each page has one owner, tickets add up, time does not run backwards) are
asserted in every run; one that does not hold ends the swarm with exit code 6, the seed and the design.

--save writes the machine of one seed as a case: shrunk, where it is a surprise, to the parts that it needs.
"""
EXAMPLES = (
    ("a thousand machines", "tidegate swarm"),
    ("more of them", "tidegate swarm --seed 100000 --seeds 20000"),
    ("one design only", "tidegate swarm --design mail --seeds 500"),
    ("one machine as a case", "tidegate swarm --seed 849 --seeds 1 --save case.toml"),
)
EXIT_STATUS = {0: "no surprise", 1: "at least one surprise"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--seed", type=whole(0, SEED_MAX), default=0, metavar="S", help="the first seed (default: 0)"
    )
    parser.add_argument(
        "--seeds", type=whole(1, 10_000_000), default=1000, metavar="N", help="so many seeds (default: 1000)"
    )
    parser.add_argument(
        "--design", action="append", default=[], metavar="DESIGN", help="draw from these; may be repeated"
    )
    add_jobs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.swarm/1)")
    parser.add_argument("--save", metavar="FILE", help="write the machine of one seed (--seeds 1) as a case")


def run(args: argparse.Namespace) -> int:
    """Draws and runs; 1 where something contradicts the laws."""
    if args.save and args.seeds != 1:
        raise Usage(f"swarm: --save writes one machine, and --seeds is {args.seeds}; say --seeds 1")
    from tidegate.cli.countdown import countdown
    from tidegate.cli.progress import progress
    from tidegate.designs import DESIGNS, design
    from tidegate.judge.seeds import runner
    from tidegate.judge.swarm import swarm

    designs = tuple(map(design, dict.fromkeys(args.design))) or tuple(DESIGNS.values())
    with progress(quiet=args.quiet > 0) as tell, runner(cores(args.jobs)) as run_tasks:
        told = countdown(tell, args.seeds, "seeds")
        result = swarm(args.seed, args.seeds, designs, run_tasks, tell=lambda number: told("swarm", number))
        if args.save:
            _save(args.seed, designs, Path(args.save), surprising=bool(result.surprises))
    _print(result, as_json=args.json)
    return int(Exit.BAD_NEWS if result.surprises else Exit.OK)


def _save(seed: int, designs: tuple[Design, ...], path: Path, *, surprising: bool) -> None:
    from tidegate.host.archive import write_atomically
    from tidegate.judge.swarm import case_text, draw, shrink, surprise
    from tidegate.sim.run import simulate

    def still(one: Drawn) -> bool:
        try:
            return surprise(one, simulate(one.case, one.design, seed)) is not None
        except AssertionError:
            return False

    drawn = draw(seed, designs)
    if surprising:
        drawn = shrink(drawn, still)
    word = simulate(drawn.case, drawn.design, seed).word.value
    write_atomically(path, case_text(drawn, word).encode())


def _print(result: Swarm, *, as_json: bool) -> None:
    if as_json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(result))
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.swarm_text import swarm_text

    width = shutil.get_terminal_size((100, 40)).columns
    sys.stdout.write(swarm_text(result, width=width, colour=wants_colour(sys.stdout)))
