"""`tidegate cases`: the claims, and whether they hold."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli import one_line
from tidegate.cli.simulate import add_jobs, cores
from tidegate.errors import Exit, TidegateError, Usage, worst_exit

if TYPE_CHECKING:
    from tidegate.case import Arm, Case
    from tidegate.judge.seeds import Runner
    from tidegate.simulation import Cases

SUMMARY = "the cases: what each claims, expects, and what was found"
DESCRIPTION = """\
Lists the cases that come with tidegate, or those named (files, or bare names): the claim, and for each arm the word
that the case expects and the one that was found, where they disagree in the open.

What was found is read from results/simulate.jsonl beside the cases, not run. Each line there has a hash of the case
and of the code that decided it; when either has changed since, the result is marked as stale, and neither agrees
nor disagrees. --run runs every arm of the cases asked for, and stores what it finds after each case, so that
nothing is lost by an interrupt; --run --stale then goes on with those that have no fresh result.

What real kernels did is read from results/trial.jsonl (tidegate report DIR --keep puts it there), and never run here:
for each arm of a case's [trial] part the words with their counts, the least margin, and what tidegate check says of
that guest. Judges may not contradict each other: a boot that failed wants an arm that simulate calls STUCK (or the
case's own word on why the model cannot have it), and no SAFE of check. A trial is stale when the rig or the case's
[trial] part has changed since; what a real kernel did still counts, and is marked.
"""
EXAMPLES = (
    ("all of them", "tidegate cases"),
    ("one of them, run anew", "tidegate cases swap-over-nbd --run"),
    ("what the last change made stale", "tidegate cases --run --stale"),
    ("what real kernels did", "tidegate cases --judge trial"),
)
EXIT_STATUS = {
    0: "what was found is what the cases expect, and no judge contradicts another",
    1: "some arm is not what its case expects, or two judges contradict each other",
    3: "some arm has no result, or a stale one",
}
JUDGES = ("simulate", "trial", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "case", nargs="*", metavar="CASE", help="a case: a TOML file, or the name of a bundled one"
    )
    parser.add_argument("--run", action="store_true", help="run them, and store what is found")
    parser.add_argument("--stale", action="store_true", help="with --run: only arms without a fresh result")
    parser.add_argument("--judge", choices=JUDGES, help="whose results: %(choices)s (default: all of them)")
    add_jobs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.cases/1)")


def run(args: argparse.Namespace) -> int:
    """Lists, after running where that is asked for."""
    if args.stale and not args.run:
        raise Usage("cases: --stale goes with --run")
    if args.run and args.judge not in (None, "simulate"):
        raise Usage("cases: --run runs simulate only; tidegate trial boots kernels")
    read, troubles = _read(args.case)
    if args.run:
        _run_and_store(read, args)
        if not args.case and not troubles:
            _forget_others(read)
    listed = _listed(read, args.judge)
    _print(listed, args)
    return int(worst_exit([*troubles, exit_of(listed, args.judge)]))


def exit_of(listed: Cases, judge: str | None = None) -> Exit:
    """Disagreement first; then what cannot be told. Kernels that were not booted count where they were asked for."""
    if listed.disagreements or listed.trials_unmet or listed.quarrels:
        return Exit.BAD_NEWS
    unknown = listed.stale or listed.missing or (judge == "trial" and listed.trials_missing)
    return Exit.CANNOT_TELL if unknown else Exit.OK


def _read(typed: Sequence[str]) -> tuple[list[tuple[Path, Case]], list[Exit]]:
    """The cases that can be read; each other one of several is a line on stderr and an exit code."""
    from tidegate.bundled_cases import case_names, case_path, cases_directory
    from tidegate.case import read_case

    names = list(dict.fromkeys(typed)) or [str(cases_directory() / f"{name}.toml") for name in case_names()]
    if not names:
        raise Usage(f"cases: no cases in {cases_directory()}; name some")
    read: list[tuple[Path, Case]] = []
    troubles: list[Exit] = []
    for name in names:
        try:
            path = case_path(name)
            read.append((path, read_case(path)))
        except TidegateError as trouble:
            if len(names) == 1:
                raise
            _say(trouble)
            troubles.append(trouble.exit)
    if not read:
        raise Usage(f"cases: none of the {len(names)} cases can be read")
    return read, troubles


def _say(trouble: TidegateError) -> None:
    import logging

    logging.getLogger("tidegate").error("%s", one_line(str(trouble)))


def _run_and_store(read: Sequence[tuple[Path, Case]], args: argparse.Namespace) -> None:
    from tidegate.cli.countdown import countdown
    from tidegate.cli.progress import progress
    from tidegate.judge.arms import seeds_of
    from tidegate.judge.listed import to_run
    from tidegate.judge.seeds import runner
    from tidegate.judge.stored import check_writable, code_key, read_results
    from tidegate.judge.tried import tried_arm

    code_key()  # of the code that runs now, though somebody edit it meanwhile
    planned: list[tuple[Path, Case, Sequence[Arm]]] = []
    total = 0
    for path, case in read:
        check_writable(path.parent)
        arms = to_run(case, read_results(path.parent), stale_only=args.stale)
        total += sum(len(seeds_of(tried_arm(case, arm).case)) for arm in arms)
        planned.append((path, case, arms))
    with progress(quiet=args.quiet > 0) as tell, runner(cores(args.jobs)) as run_tasks:
        told = countdown(tell, total, "runs")
        before = 0
        for path, case, arms in planned:
            before = _run_case(path, case, arms, run_tasks, told, before)


def _run_case(
    path: Path,
    case: Case,
    arms: Sequence[Arm],
    run_tasks: Runner,
    told: Callable[[str, int], None],
    before: int,
) -> int:
    """Runs some arms of a case and stores what was found; the number of runs that are done by then."""
    from tidegate.judge.arms import seeds_of, simulate_tried
    from tidegate.judge.stored import read_results, store_results, stored_arm
    from tidegate.judge.tried import tried_arm

    known = {arm: one for (name, arm), one in read_results(path.parent).items() if name == case.name}
    found = {arm.name: known[arm.name] for arm in case.arm if arm.name in known}
    for arm in arms:
        tried = tried_arm(case, arm)
        seeds = seeds_of(tried.case)

        def done(number: int, before: int = before) -> None:
            told(case.name, before + number)

        done(0)
        result = simulate_tried(tried, seeds, run_tasks, sampled=False, tell=done)
        found[arm.name] = stored_arm(case, arm, result)
        before += len(seeds)
    if arms:
        store_results(path.parent, case.name, found.values())
    return before


def _forget_others(read: Sequence[tuple[Path, Case]]) -> None:
    from tidegate.judge.stored import forget_others

    forget_others(read[0][0].parent, {case.name for _, case in read})


def _listed(read: Sequence[tuple[Path, Case]], judge: str | None) -> Cases:
    from tidegate.judge.listed import case_state, cases, of_judge
    from tidegate.judge.stored import read_results
    from tidegate.judge.stored_trials import read_trials

    directories = {path.parent for path, _ in read}
    results = {directory: read_results(directory) for directory in directories}
    tried = {directory: read_trials(directory) for directory in directories}
    states = [case_state(case, results[path.parent], tried[path.parent]) for path, case in read]
    return cases(states if judge is None else [of_judge(one, judge) for one in states])


def _print(listed: Cases, args: argparse.Namespace) -> None:
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(listed))
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.simulate_text import cases_text

    width = shutil.get_terminal_size((100, 40)).columns
    sys.stdout.write(cases_text(listed, width=width, colour=wants_colour(sys.stdout)))
