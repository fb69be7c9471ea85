"""`tidegate campaign`: a matrix of trials, made once each."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.report import exit_of
from tidegate.cli.simulate import add_jobs, cores
from tidegate.errors import Exit, Usage, worst_exit

if TYPE_CHECKING:
    from tidegate.rig.campaign import Outcome
    from tidegate.rig.campaign_file import Planned
    from tidegate.rig.pool import Pool, Runner
    from tidegate.trial import TrialResult, Trials

SUMMARY = "a matrix of trials: cases, arms, kernels, NICs, transports"
DESCRIPTION = """\
Makes the trials of a campaign file, as many at a time as cores and memory allow, each in a fresh boot, and keeps
each result as a line of DIR/results.jsonl and its evidence in a folder below DIR/evidence. Every place of the
matrix gets its first trial before any gets its second, so that it can be ended early. Whatever ends it, the same
command goes on: a trial that is kept is never made again.

A campaign file names cases = ["deadlock"] (bundled ones, or paths beside the file); arms, kernels, nics, transports,
each a list (left out: all arms that a case has, and what the case says of the rest); n, the trials of each place, and
seed, the first of them. A [[sweep]] has key = "delay_us" and values = [0, 50_000]: a number of the cases' [trial] part,
or a sysctl, that takes several values; several sweeps multiply. A [[leave_out]] names places that are not made, with
[[only]] in its place no others are; a [[cell]] has an n of its own, and of several the last one counts. The three
pick places by the same lists, and by sweep = { delay_us = 50_000 }. cases/campaigns/ has examples.

A trial whose process or emulator dies is made once more, and kept as LOST if that is lost too. LOST and
INCONCLUSIVE say nothing of the kernel, and are not counted in n. Ctrl-C once ends what runs in order and keeps what
ended; twice ends it at once.

--until-sure stops a place when it is sure (95 %, and one may look after every trial) on which side of one half the
share of its failures is, or of the word that its arm expects; where SURVIVED is expected, also when one did not.

With --scheduler the trials are tasks of a Dask cluster, and results and evidence come back here.
"""
EXAMPLES = (
    ("what would be done", "tidegate campaign matrix.toml --dry-run"),
    ("do it, or go on with it", "tidegate campaign matrix.toml --dir matrix"),
    ("no more trials than needed", "tidegate campaign matrix.toml --until-sure"),
    ("on a cluster", "tidegate campaign matrix.toml --scheduler tcp://192.0.2.1:8786"),
)
EXIT_STATUS = {
    0: "every arm does what its case expects",
    1: "some arm does not",
    3: "nothing was counted, or nothing of an arm of which something is expected",
    4: "otherwise as 0, but some trials were skipped: this kernel or machine has not what they ask for",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("file", metavar="FILE", help="a campaign: a TOML file, as above")
    parser.add_argument(
        "--dir", metavar="DIR", help="keep results there (default: FILE's name without .toml, with .results)"
    )
    add_jobs(parser)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="make the trials on this Dask cluster")
    parser.add_argument("--until-sure", action="store_true", help="stop a place as soon as it is sure")
    parser.add_argument("--lost-again", action="store_true", help="make those that were lost once more")
    parser.add_argument("--dry-run", action="store_true", help="list the trials that are still to be made")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a line of JSON (tidegate.trial/1) for each result as it comes, at last one for the tallies",
    )


def run(args: argparse.Namespace) -> int:
    """Makes the trials; the exit code is the worst of the arms'."""
    if args.scheduler and args.jobs:
        raise Usage("campaign: --jobs is for this machine; with --scheduler the cluster decides")
    from tidegate.rig.campaign_file import read_campaign

    path = Path(args.file)
    planned = read_campaign(path)
    directory = Path(args.dir or f"{path.stem}.results")
    if args.dry_run:
        _list(planned, directory, args)
        return int(Exit.OK)
    outcome = _made(planned, directory, args)
    trials = _trials(outcome)
    _print(trials, args)
    _say(outcome, directory)
    if outcome.interrupted:
        return int(Exit.INTERRUPTED)
    codes = [Exit.UNSUPPORTED] if outcome.skipped else []
    if trials.results or not outcome.skipped:
        codes.append(exit_of(trials))
    return int(worst_exit(codes))


def one_trial() -> Runner:
    """What makes a trial."""
    from tidegate.rig.one_trial import run_job

    return run_job


def _made(planned: Sequence[Planned], directory: Path, args: argparse.Namespace) -> Outcome:
    from tidegate.cli.countdown import countdown
    from tidegate.cli.progress import progress
    from tidegate.rig.campaign import lost_ones, run_campaign, to_do
    from tidegate.rig.results_file import open_store

    with open_store(directory) as store, progress(quiet=args.quiet > 0) as show:
        again = lost_ones(store.results.values()) if args.lost_again else ()
        told = countdown(show, len(to_do(planned, store.results, again)), "trials")
        told("campaign", 0)
        done = 0

        def tell(result: TrialResult) -> None:
            nonlocal done
            done += 1
            if args.json:
                _line(result)
            told(f"{result.arm} {result.nic} #{result.seed} {result.verdict.value}", done)

        with _pool(directory, one_trial(), args) as pool:
            return run_campaign(
                planned, store, pool, tell=tell, until_sure=args.until_sure, lost_again=args.lost_again
            )


@contextlib.contextmanager
def _pool(directory: Path, runner: Runner, args: argparse.Namespace) -> Iterator[Pool]:
    if not args.scheduler:
        from tidegate.rig.pool import LocalPool

        yield LocalPool(directory, runner, cores(args.jobs))
        return
    from tidegate.rig.cluster import ClusterPool

    pool = ClusterPool(directory, runner, args.scheduler)
    try:
        yield pool
    finally:
        pool.close()


def _list(planned: Sequence[Planned], directory: Path, args: argparse.Namespace) -> None:
    from tidegate.rig.campaign import lost_ones, to_do
    from tidegate.rig.results import read_results
    from tidegate.rig.results_file import RESULTS, which

    kept = read_results(directory) if (directory / RESULTS).is_file() else ()
    left = to_do(planned, map(which, kept), lost_ones(kept) if args.lost_again else ())
    for one in left:
        if args.json:
            _line(one.job)
        else:
            sys.stdout.write(f"{one.job.key()}\n")
    if args.quiet == 0:
        sys.stderr.write(f"tidegate: {len(left)} of {len(planned)} trials are to be made, in {directory}\n")


def _trials(outcome: Outcome) -> Trials:
    from tidegate.rig.tally import tallies
    from tidegate.trial import Trials

    return Trials(tallies=tallies(outcome.results), results=outcome.results)


def _print(trials: Trials, args: argparse.Namespace) -> None:
    if args.json:
        from dataclasses import replace

        _line(
            replace(trials, results=())
        )  # each result was a line of its own, or is kept since an earlier call
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.trials_text import tallies_text

    width = shutil.get_terminal_size((100, 40)).columns
    sys.stdout.write(tallies_text(trials, width=width, colour=wants_colour(sys.stdout)))


def _line(result: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(result, order="sorted").decode() + "\n")
    sys.stdout.flush()


def _say(outcome: Outcome, directory: Path) -> None:
    import logging

    logger = logging.getLogger("tidegate")
    for key, why in outcome.skipped.items():
        logger.warning("skipped %s: %s", key, why)
    if outcome.spared:
        logger.info("%d trials were not needed to be sure", outcome.spared)
    if outcome.interrupted:
        logger.warning("interrupted; the same command goes on (%s)", directory)
