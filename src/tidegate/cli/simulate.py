"""`tidegate simulate`: one arm of a case, over seeds."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import Exit, Usage, worst_exit

if TYPE_CHECKING:
    from tidegate.case import Case
    from tidegate.judge.seeds import Gauge
    from tidegate.judge.tried import Tried
    from tidegate.simulation import Simulated

SUMMARY = "run the mechanism on a case: a machine, a storm, a design"
DESCRIPTION = """\
Runs the receive path of a kernel as a program, on a virtual clock: a zone with watermarks, skbs of real size, the
ring of a NIC, TCP, block IO that frees memory by writing over the network, and packets that nobody reads. A case
says which machine and which storm, a design what one proposal changes in that path, an arm of a case pairs the two.

Each seed is one run, and the same seed is the same run on any machine. The word is the worst that any seed earned:
STUCK (somebody waits, and no completion can come), LUCKY (somebody starved until the storm was over), REFUSED (the
design's throttle has no room for a user and says so: nothing was tried), SEEN (everything completed, in every run).
It never says that nothing can happen: it has not seen every run.

CASE is a file, or the bare name of a case that comes with tidegate (tidegate cases lists them). Without --arm and
--design it is the first arm. --design tries a design on the case as it stands; --without leaves one of its
switches out, which shows what that switch is for. --seed alone is one run, with --seeds the first of so many.

--against lays the run beside what a real kernel did (DIR/evidence/... of tidegate trial), arm by default the one that
is most like an unmodified kernel, and says at which milestone the kernel leaves the run first. Only presence and order
of what both can tell are compared.
"""
EXAMPLES = (
    ("the first arm of a case", "tidegate simulate swap-over-nbd"),
    ("two arms beside each other", "tidegate simulate swap-over-nbd --arm bare --arm mail"),
    ("what a hunk of the mail is for", "tidegate simulate swap-over-nbd --design mail --without discard"),
    ("one run as a page to look at", "tidegate simulate swap-over-nbd --seed 7 --html run.html"),
    ("the same in a trace viewer", "tidegate simulate swap-over-nbd --seed 7 --perfetto run.pftrace"),
)
EXIT_STATUS = {
    0: "the word is the one that the case expects; where it expects none: SEEN",
    1: "it is another one; where none is expected: STUCK, LUCKY or REFUSED; with --against: the kernel leaves the run",
}
SEED_MAX = 2**63 - 1  # a seed is a number of JSON, and readers there are that keep 64 bits of it

GAUGE_COLUMNS = 70  # as much as cli/progress.py shows of a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("case", metavar="CASE", help="a case: a TOML file, or the name of a bundled one")
    parser.add_argument(
        "--arm", action="append", default=[], metavar="ARM", help="this arm of the case; may be repeated"
    )
    parser.add_argument("--design", metavar="DESIGN", help="this design on the case as it stands")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="SWITCH",
        help="leave this switch of the design out; may be repeated",
    )
    parser.add_argument(
        "--seed", type=whole(0, SEED_MAX), metavar="S", help="this seed only, or the first of --seeds"
    )
    add_seeds(parser)
    add_jobs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.simulate/1)")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page as well")
    parser.add_argument("--perfetto", metavar="FILE", help="write a trace for Perfetto as well")
    parser.add_argument("--trace", metavar="FILE", help="write every step of that run as JSON lines as well")
    parser.add_argument(
        "--against", metavar="DIR", help="beside the trace of a trial that failed, from its evidence"
    )
    parser.add_argument("--all", action="store_true", help="every run, holder and counter")


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """How many seeds, for every command that runs them."""
    parser.add_argument(
        "--seeds", type=whole(1, 100_000), metavar="N", help="so many runs (default: as the case says)"
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """How many cores, for every command that runs seeds; it never changes the output."""
    parser.add_argument(
        "--jobs", type=whole(1, 1024), metavar="J", help="runs at the same time (default: one for each core)"
    )


def whole(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse: a whole number in these bounds."""

    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"found {text!r}, expected a whole number from {least} to {most}"
            )
        return value

    return number


def cores(jobs: int | None) -> int:
    """The cores to use: as many as this process may, unless told."""
    import os

    return jobs or len(os.sched_getaffinity(0))


def run(args: argparse.Namespace) -> int:
    """Runs; the exit code is the worst of the arms'."""
    _check_words(args)
    from tidegate.bundled_cases import case_path
    from tidegate.case import read_case

    case = read_case(case_path(args.case))
    traced = None
    if args.against:
        from tidegate.cli.against import traced_of

        traced = traced_of(case, args)
    tried = _tried(case, args)
    results = _simulated(tried, args)
    if traced is not None:
        from tidegate.cli.against import print_against

        return int(print_against(tried[0].case, results[0], traced, args))
    if args.html or args.perfetto:
        _write_files(results[0], args)
    if args.trace:
        _write_trace(results[0], tried[0], Path(args.trace))
    _print(results, args)
    return int(worst_exit(exit_of(result) for result in results))


def exit_of(result: Simulated) -> Exit:
    """Whether it is as expected; without an expectation, whether it is good."""
    fine = result.met if result.met is not None else result.word.value == "SEEN"
    return Exit.OK if fine else Exit.BAD_NEWS


def _check_words(args: argparse.Namespace) -> None:
    if args.arm and args.design:
        raise Usage("simulate: --arm and --design exclude each other (an arm has its design)")
    for option in ("html", "perfetto", "trace"):
        if getattr(args, option) and len(set(args.arm)) > 1:
            raise Usage(f"simulate: --{option} goes with one arm, and {len(set(args.arm))} are asked for")


def _tried(case: Case, args: argparse.Namespace) -> list[Tried]:
    from tidegate.judge.tried import named_arm, tried_arm, tried_design

    left_out = tuple(dict.fromkeys(args.without))
    if args.design:
        from tidegate.designs import design

        return [tried_design(case, design(args.design), *left_out)]
    if not args.arm and not case.arm:
        raise Usage(f"simulate: {case.name} has no arm; name a design with --design")
    arms = [named_arm(case, name) for name in dict.fromkeys(args.arm)] or [case.arm[0]]
    return [tried_arm(case, arm, *left_out) for arm in arms]


def _simulated(tried: Sequence[Tried], args: argparse.Namespace) -> list[Simulated]:
    from tidegate.cli.countdown import countdown
    from tidegate.cli.progress import progress
    from tidegate.judge.arms import seeds_of, simulate_tried
    from tidegate.judge.seeds import runner

    seeds = [seeds_of(one.case, start=args.seed, many=args.seeds) for one in tried]
    results: list[Simulated] = []
    with progress(quiet=args.quiet > 0) as tell, runner(cores(args.jobs)) as run_tasks:
        told = countdown(tell, sum(map(len, seeds)), "seeds")
        before = 0
        for one, its in zip(tried, seeds, strict=True):

            def done(number: int, name: str = one.design.name, before: int = before) -> None:
                told(name, before + number)

            gauge = _gauge(tell, one) if len(its) == 1 else None
            if gauge is None:
                done(0)
            result = simulate_tried(one, its, run_tasks, tell=done, gauge=gauge)
            results.append(replace(result, called=args.case))
            before += len(its)
    return results


def _gauge(tell: Callable[[str], None], tried: Tried) -> Gauge:
    """Shows a run while it runs."""
    from tidegate.report.live_gauge import gauge_line
    from tidegate.sim.machine import Machine

    zone = Machine(tried.case, tried.design, 0).zone  # for its watermarks, as they are at the start
    pages, wmark_min, floor = zone.pages, zone.wmark_min, zone.atomic_floor

    def show(time_ns: int, total_ns: int, free_pages: int, completed: int) -> None:
        tell(gauge_line(free_pages, pages, wmark_min, floor, time_ns, total_ns, completed, GAUGE_COLUMNS))

    return show


def _write_files(result: Simulated, args: argparse.Namespace) -> None:
    from tidegate.host.archive import write_atomically

    if args.html:
        from tidegate.report.simulate_html import simulate_html

        write_atomically(Path(args.html), simulate_html(result).encode(errors="backslashreplace"))
    if args.perfetto:
        from tidegate.report.perfetto import perfetto_trace

        write_atomically(Path(args.perfetto), perfetto_trace(result))


def _write_trace(result: Simulated, tried: Tried, path: Path) -> None:
    """Every step of the run that is told: a line that says which run it is, then a line for each step."""
    import msgspec

    from tidegate.host.archive import write_atomically
    from tidegate.report.simulate_words import told_run
    from tidegate.sim.run import simulate
    from tidegate.trace import TRACE_SCHEMA, Event

    run = told_run(result)
    head = {"schema": TRACE_SCHEMA, "case": run.case, "arm": run.arm, "design": run.design, "seed": run.seed}
    lines = [msgspec.json.encode(head)]

    def keep(event: Event) -> None:
        lines.append(msgspec.json.encode(event))

    simulate(tried.case, tried.design, run.seed, arm=run.arm, trace=keep)
    write_atomically(path, b"\n".join(lines) + b"\n")


def _print(results: Sequence[Simulated], args: argparse.Namespace) -> None:
    if args.json:
        from tidegate.report.json import to_json
        from tidegate.simulation import Simulations

        sys.stdout.write(to_json(results[0] if len(results) == 1 else Simulations(results=tuple(results))))
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.simulate_text import simulate_text

    width = shutil.get_terminal_size((100, 40)).columns
    colour = wants_colour(sys.stdout)
    texts = [simulate_text(result, width=width, colour=colour, all=args.all) for result in results]
    sys.stdout.write("\n".join(texts))
