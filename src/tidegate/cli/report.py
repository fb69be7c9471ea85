"""`tidegate report`: what the trials of one or more campaigns found."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import Exit, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.case import Case
    from tidegate.report.trials_words import EvidenceFile
    from tidegate.trial import TrialResult, Trials

SUMMARY = "what trials found: counts with intervals, evidence, how to repeat"
DESCRIPTION = """\
Reads the results of trials and campaigns, DIR/results.jsonl (or such a file itself), and counts them: for each case,
NIC, transport, kernel and sweep value how many trials of each arm failed, with the interval in which the true share
lies (Wilson, 95 %), the margin that was left, and whether that is what the case expects. Trials that say nothing
about the kernel (INCONCLUSIVE, LOST) are shown and not counted.

--html writes one self-contained page with every trial, its plots and its evidence; --junit and --ktap say the same to
machines that gather test results. All of them are made from the same counts. Several DIRs are counted together, and
folders of evidence are then named with their DIR. A trial that another version of the rig made is marked as stale,
and counted. A last line that was cut while it was written is left out.

--keep puts the results with the cases (results/trial.jsonl there), where tidegate cases reads them: each trial once,
LOST ones left out, without evidence and QEMU's line, and few rows of counters. --check-words adds what tidegate check
says of a record of each guest that has no word yet; each such record is a boot.
"""
EXAMPLES = (
    ("what a campaign found", "tidegate report results/"),
    ("a page to look at", "tidegate report results/ --html trials.html"),
    ("for a test server", "tidegate report results/ --junit trials.xml"),
    ("every failure, and how to repeat it", "tidegate report results/ --all"),
    ("keep them with the cases", "tidegate report results/ --keep --check-words"),
)
EXIT_STATUS = {
    0: "every arm does what its case expects",
    1: "some arm does not",
    3: "nothing was counted, or nothing of an arm of which something is expected",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("dir", nargs="+", metavar="DIR", help="where results.jsonl is, or such a file")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page as well")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML as well")
    parser.add_argument(
        "--keep",
        nargs="?",
        const="",
        metavar="CASES",
        help="keep the results with the cases (default: the bundled)",
    )
    parser.add_argument(
        "--check-words", action="store_true", help="with --keep: what check says of each guest"
    )
    parser.add_argument("--ktap", action="store_true", help="print KTAP version 1")
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.trials/1)")
    parser.add_argument("--all", action="store_true", help="every arm and every failure")


def run(args: argparse.Namespace) -> int:
    """Reads, counts and prints."""
    if args.ktap and args.json:
        raise Usage("report: --ktap and --json exclude each other")
    if args.check_words and args.keep is None:
        raise Usage("report: --check-words goes with --keep")
    from tidegate.rig.code import code_hash
    from tidegate.rig.tally import tallies
    from tidegate.trial import Trials

    results, evidence = _read(args)
    trials = Trials(tallies=tallies(results), results=results)
    code = code_hash()
    _write_files(trials, evidence, code, args)
    if args.keep is not None:
        _keep(results, args)
    _print(trials, code, args)
    return int(exit_of(trials))


def exit_of(trials: Trials) -> Exit:
    """Whether the arms do what is expected of them; what nobody could tell is no good news."""
    if any(one.met is False for one in trials.tallies):
        return Exit.BAD_NEWS
    open_ = any(one.expected is not None and one.met is None for one in trials.tallies)
    counted = any(one.n for one in trials.tallies)
    return Exit.CANNOT_TELL if open_ or not counted else Exit.OK


def _read(args: argparse.Namespace) -> tuple[tuple[TrialResult, ...], dict[str, tuple[EvidenceFile, ...]]]:
    from tidegate.rig.results import read_evidence, read_results, results_path
    from tidegate.rig.results_file import which

    # Copies of a directory hold the same boots; two machines that tried the same seed do not.
    results: dict[object, TrialResult] = {}
    evidence: dict[str, tuple[EvidenceFile, ...]] = {}
    places = list(dict.fromkeys(args.dir))
    for typed in places:
        place = Path(typed)
        read = read_results(place)
        files = read_evidence(place, read) if args.html else {}
        if len(places) > 1:
            top = results_path(place).parent
            read = tuple(
                one if one.evidence is None else replace(one, evidence=str(top / one.evidence))
                for one in read
            )
            files = {str(top / name): found for name, found in files.items()}
        for one in read:
            results.setdefault((which(one), one.started, one.kernel_sha256, one.code, one.wall_s), one)
        evidence |= files
    return tuple(results.values()), evidence


def _write_files(
    trials: Trials,
    evidence: dict[str, tuple[EvidenceFile, ...]],
    code: str,
    args: argparse.Namespace,
) -> None:
    from tidegate.host.archive import write_atomically

    if args.html:
        from tidegate.report.trials_html import trials_html

        page = trials_html(trials, evidence, code=code)
        write_atomically(Path(args.html), page.encode(errors="backslashreplace"))
    if args.junit:
        from tidegate.report.junit import junit_xml

        write_atomically(Path(args.junit), junit_xml(trials).encode())


def _keep(results: Sequence[TrialResult], args: argparse.Namespace) -> None:
    import logging

    from tidegate.bundled_cases import cases_directory
    from tidegate.case import read_case
    from tidegate.judge.stored_trials import keep_trials
    from tidegate.rig.tally import case_name

    logger = logging.getLogger("tidegate")
    directory = Path(args.keep) if args.keep else cases_directory()
    names = dict.fromkeys(case_name(one.case) for one in results)
    paths = {name: directory / f"{name}.toml" for name in names}
    cases = {name: read_case(path) for name, path in paths.items() if path.is_file()}
    if strange := [name for name in names if name not in cases]:
        logger.warning("not kept, no such case in %s: %s", directory, ", ".join(strange))
    kept = tuple(one for one in results if case_name(one.case) in cases)
    if args.check_words:
        kept = _check_words(kept, cases, args)
    new = keep_trials(directory, kept) if kept else 0
    if args.quiet == 0:
        sys.stderr.write(f"tidegate: {new} of {len(results)} trials are new in {directory / 'results'}\n")


def _check_words(
    results: Sequence[TrialResult], cases: dict[str, Case], args: argparse.Namespace
) -> tuple[TrialResult, ...]:
    import logging

    from tidegate.cli.progress import progress
    from tidegate.judge.check_words import with_check_words
    from tidegate.rig.planned import check_word

    with progress(quiet=args.quiet > 0) as tell:
        return with_check_words(
            results,
            cases,
            lambda case, job: check_word(case, job, tell),
            logging.getLogger("tidegate").warning,
        )


def _print(trials: Trials, code: str, args: argparse.Namespace) -> None:
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(trials))
        return
    if args.ktap:
        from tidegate.report.ktap import ktap_text

        sys.stdout.write(ktap_text(trials))
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.trials_text import tallies_text

    width = shutil.get_terminal_size((100, 40)).columns
    colour = wants_colour(sys.stdout)
    sys.stdout.write(tallies_text(trials, width=width, colour=colour, all=args.all, code=code))
