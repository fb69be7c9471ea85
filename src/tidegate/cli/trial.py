"""`tidegate trial`: a case on unmodified kernels, booted afresh for each trial."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.bisect import searched
from tidegate.cli.simulate import add_jobs, cores, whole
from tidegate.errors import Exit, Unsupported, worst_exit

if TYPE_CHECKING:
    from tidegate.rig.campaign import Outcome
    from tidegate.rig.campaign_file import Campaign, Planned

SUMMARY = "try a case on unmodified kernels in QEMU: does the machine lock up?"
DESCRIPTION = """\
Boots an unmodified distribution kernel for each trial, puts its swap or file system on a real network block device,
lets programs write more memory than there is while a storm of packets arrives that nobody reads, and says what
became of it: SURVIVED, STALLED (stood still for 15 s of the guest's time, recovered), WEDGED (no step any more, long
after the storm), OOM, PANIC. LOST (the emulator or the boot failed, twice) and INCONCLUSIVE (what was to be tried was
not there) are not counted. Beside the word each trial has a margin: how many free pages above the point where an
ordinary atomic allocation ends the best zone had at its worst, read from the guest's memory from outside.

Arms are what the case's [trial] part lists; they take turns, seed by seed. A failure leaves a folder of evidence in
DIR/evidence: blocked tasks (twice, with a diff), memory state, counters of each second, packets, console, server's
log, and a diagnosis. Nothing leaves this machine: the wire ends in a network namespace of its own, without root.

--bisect looks for the smallest value of a sysctl (or of a number of the [trial] part) at which all N boots of one arm
survive: it doubles the value until they do, then halves the distance until two values are within 10 %. A value is given
up at its first failure. It prints the largest value that failed and the smallest that survived, beside what tidegate
plan and rules of thumb say for that guest (which takes a record of it, once). Survival need not be monotone: above the
smallest value nothing was tried. Every boot is kept; with the same --seed the command goes on where it was ended.
"""
EXAMPLES = (
    ("all arms of a case, as often as it says", "tidegate trial deadlock"),
    ("two arms, six boots each", "tidegate trial deadlock --arm stock --arm plan -n 6"),
    ("another NIC and kernel", "tidegate trial deadlock --nic e1000 --kernel trixie-generic"),
    ("no more boots than needed", "tidegate trial deadlock -n 40 --until-sure"),
    ("how large the reserve must be", "tidegate trial deadlock --bisect vm.min_free_kbytes=1000:32000"),
    ("QEMU's exact line, and nothing else", "tidegate trial deadlock --dry-run"),
)
EXIT_STATUS = {
    0: "every arm does what its case expects",
    1: "some arm does not; with --bisect: no value survives",
    3: "nothing was counted, or nothing of an arm of which something is expected",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "case", nargs="+", metavar="CASE", help="a case with a [trial] part: a file, or a bundled one"
    )
    parser.add_argument("--arm", action="append", default=[], metavar="ARM", help="this arm; may be repeated")
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="K", help="see tidegate kernels; a path too"
    )
    parser.add_argument(
        "--nic", action="append", default=[], metavar="NIC", help="QEMU's model; may be repeated"
    )
    parser.add_argument("--transport", action="append", default=[], metavar="T", help="nbd, iscsi, ...")
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="KEY=N",
        help="a number of the [trial] part, or a sysctl",
    )  # fmt: skip
    parser.add_argument(
        "--bisect", type=searched, metavar="KEY=LOW:HIGH", help="the least value at which all N boots survive"
    )
    parser.add_argument("-n", type=whole(1, 10_000), default=3, metavar="N", help="boots an arm (default: 3)")
    parser.add_argument(
        "--seed", type=whole(0, 1 << 31), metavar="S", help="the first seed (default: goes on)"
    )
    parser.add_argument("--until-sure", action="store_true", help="stop an arm as soon as it is sure")
    parser.add_argument(
        "--dir", metavar="DIR", default="trials", help="results and evidence go there (%(default)s)"
    )
    add_jobs(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print QEMU's line of each trial; boot nothing"
    )
    parser.add_argument(
        "--shell", action="store_true", help="boot one guest of the first arm, ready, with a shell"
    )
    parser.add_argument(
        "--gdb", action="store_true", help="as --shell, with QEMU's gdb stub and how to attach"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.trials/1)")
    parser.add_argument("--all", action="store_true", help="every failure, and how to repeat it")


def setting(text: str) -> tuple[str, int]:
    """A type for argparse: delay_us=50000."""
    name, _, value = text.partition("=")
    if not name or not value.isascii() or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a key and a whole number: delay_us=50000")
    return name, int(value)


def run(args: argparse.Namespace) -> int:
    """Tries; the exit code is the worst of the arms'."""
    directory = Path(args.dir)
    if args.bisect:
        from tidegate.cli import bisect

        return bisect.run(args, _campaign(args, directory))
    planned = _planned(args, directory)
    if args.dry_run:
        _lines(planned)
        return int(Exit.OK)
    if args.shell or args.gdb:
        from tidegate.rig.by_hand import shell

        return shell(planned[0].job, gdb=args.gdb)
    outcome = _made(planned, directory, args)
    return _print(outcome, directory, args)


def _planned(args: argparse.Namespace, directory: Path) -> list[Planned]:
    from tidegate.rig.campaign_file import planned_trials

    return list(planned_trials(_campaign(args, directory)))


def _campaign(args: argparse.Namespace, directory: Path) -> Campaign:
    from tidegate.rig.campaign_file import Campaign, Sweep

    return Campaign(
        cases=tuple(args.case),
        arms=tuple(args.arm),
        kernels=tuple(args.kernel),
        nics=tuple(args.nic),
        transports=tuple(args.transport),
        sweep=tuple(Sweep(key=name, values=(value,)) for name, value in args.set),
        n=1 if args.dry_run or args.shell or args.gdb else args.n,
        seed=_first_seed(directory) if args.seed is None else args.seed,
    )


def _first_seed(directory: Path) -> int:
    """After all that is kept, so that the same command makes new trials."""
    from tidegate.rig.results import read_results
    from tidegate.rig.results_file import RESULTS

    kept = read_results(directory) if (directory / RESULTS).is_file() else ()
    return max((one.seed for one in kept), default=0) + 1


def _lines(planned: Sequence[Planned]) -> None:
    import shlex

    from tidegate.rig.trial_guest import command_line, initramfs
    from tidegate.rig.tried import tried_job

    for one in planned:
        tried = tried_job(one.job)
        words = command_line(tried.shape, initramfs(tried.shape), Path("DIR"))
        sys.stdout.write(f"# {one.job.key()}\n{shlex.join(['qemu-system-x86_64', *words])}\n")


def _made(planned: Sequence[Planned], directory: Path, args: argparse.Namespace) -> Outcome:
    from tidegate.cli.campaign import one_trial
    from tidegate.cli.countdown import countdown
    from tidegate.cli.progress import progress
    from tidegate.rig.campaign import run_campaign
    from tidegate.rig.pool import LocalPool
    from tidegate.rig.results_file import open_store
    from tidegate.trial import TrialResult

    _check(planned)
    with open_store(directory) as store, progress(quiet=args.quiet > 0) as show:
        told = countdown(show, len(planned), "trials")
        told("boots", 0)
        done = 0

        def tell(result: TrialResult) -> None:
            nonlocal done
            done += 1
            told(f"{result.arm} {result.nic} #{result.seed} {result.verdict.value}", done)

        pool = LocalPool(directory, one_trial(), cores(args.jobs))
        return run_campaign(planned, store, pool, tell=tell, until_sure=args.until_sure)


def _check(planned: Sequence[Planned]) -> None:
    """What was typed is wrong now, not after an hour: each kind of trial is looked up once, seeds aside."""
    from dataclasses import replace

    from tidegate.rig.tried import check_job

    kinds = {replace(one.job, seed=0).key(): one.job for one in planned}
    for job in kinds.values():
        check_job(job)


def _print(outcome: Outcome, directory: Path, args: argparse.Namespace) -> int:
    from tidegate.cli.report import exit_of
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.json import to_json
    from tidegate.report.trials_text import trials_text
    from tidegate.rig.code import code_hash
    from tidegate.rig.tally import tallies
    from tidegate.trial import Trials

    if outcome.skipped and not outcome.results:
        raise Unsupported("; ".join(dict.fromkeys(outcome.skipped.values())))
    trials = Trials(tallies=tallies(outcome.results), results=outcome.results)
    if args.json:
        sys.stdout.write(to_json(trials))
    else:
        width = shutil.get_terminal_size((100, 40)).columns
        colour = wants_colour(sys.stdout)
        sys.stdout.write(trials_text(trials, width=width, colour=colour, all=args.all, code=code_hash()))
    if args.quiet == 0:
        sys.stderr.write(
            f"tidegate: kept in {directory}; tidegate report {directory} --html FILE shows all of it\n"
        )
    if outcome.interrupted:
        return int(Exit.INTERRUPTED)
    codes = [Exit.UNSUPPORTED] if outcome.skipped else []
    return int(worst_exit([*codes, exit_of(trials)]))
