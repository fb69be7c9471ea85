"""`tidegate trial CASE --bisect KEY=LOW:HIGH`: from which value on every boot survives."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.simulate import cores
from tidegate.errors import Exit, TidegateError, Usage

if TYPE_CHECKING:
    from tidegate.rig.campaign_file import Campaign, Planned
    from tidegate.rig.results_file import Store
    from tidegate.trial import Bisected, Job, Level, Said, TrialResult

Tell = Callable[[str], None]


def searched(text: str) -> tuple[str, int, int]:
    """A type for argparse: vm.min_free_kbytes=1000:64000."""
    key, _, values = text.partition("=")
    low, _, high = values.partition(":")
    numbers = [int(one) for one in (low, high) if one.isascii() and one.isdecimal() and len(one) < 19]
    if not key or len(numbers) != 2 or not 1 <= numbers[0] < numbers[1]:
        expected = "a key and two whole numbers, 1 or more, the smaller first: vm.min_free_kbytes=1000:64000"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return key, *numbers  # type: ignore[return-value]


def run(args: argparse.Namespace, campaign: Campaign) -> int:
    """Searches, keeps every trial, prints what was found; `campaign` is what the other options ask for."""
    from tidegate.rig.tried import check_job

    places = _places(campaign, args)
    check_job(places[0].job)
    result = _searched(places, args)
    _print(result, args)
    return int(Exit.OK if result.survives else Exit.BAD_NEWS)


def _places(campaign: Campaign, args: argparse.Namespace) -> list[Planned]:
    """The trials of the lowest value, one for each boot; the other values are the same with another sweep."""
    from tidegate.rig.campaign_file import Sweep, planned_trials

    if args.until_sure or args.dry_run or args.shell or args.gdb:
        raise Usage("trial: --bisect excludes --until-sure, --dry-run, --shell and --gdb")
    key, low, high = args.bisect
    planned = planned_trials(
        replace_campaign(campaign, sweep=(*campaign.sweep, Sweep(key=key, values=(low, high))))
    )
    at_low = [one for one in planned if one.job.sweep[key] == low]
    arms = dict.fromkeys(one.job.arm for one in at_low)
    arm = "stock" if "stock" in arms else next(iter(arms))
    ours = [one for one in at_low if one.job.arm == arm]
    if (args.arm and len(arms) > 1) or len(ours) != args.n:
        raise Usage("trial: --bisect takes one case, arm, kernel, NIC and transport")
    return ours


def replace_campaign(campaign: Campaign, **changes: object) -> Campaign:
    """The campaign with other keys."""
    import msgspec

    return msgspec.structs.replace(campaign, **changes)


def _searched(places: Sequence[Planned], args: argparse.Namespace) -> Bisected:
    from tidegate.cli.progress import progress
    from tidegate.rig.bisect import bracket, search
    from tidegate.rig.results_file import open_store
    from tidegate.trial import Bisected

    key, low, high = args.bisect
    job = places[0].job
    with open_store(Path(args.dir)) as store, progress(quiet=args.quiet > 0) as tell:
        said = _said(job, key, tell)
        levels = search(low, high, lambda value: _level(places, key, value, store, args, tell))
    fails, survives = bracket(levels)
    return Bisected(
        case=job.case,
        arm=job.arm,
        kernel_name=job.kernel,
        nic=job.nic,
        transport=job.transport,
        key=key,
        low=low,
        high=high,
        boots=args.n,
        fails=fails,
        survives=survives,
        levels=tuple(sorted(levels, key=lambda one: one.value)),
        said=said,
    )


def _level(
    places: Sequence[Planned], key: str, value: int, store: Store, args: argparse.Namespace, tell: Tell
) -> Level:
    """The boots of one value, no more of them once one has failed."""
    from tidegate.cli.campaign import one_trial
    from tidegate.rig.campaign import run_campaign
    from tidegate.rig.pool import LocalPool
    from tidegate.trial import COUNTED, Level, Verdict

    found: list[TrialResult] = []
    wanted = [replace(one, job=replace(one.job, sweep=one.job.sweep | {key: value})) for one in places]
    at_once = cores(args.jobs)
    for at in range(0, len(wanted), at_once):
        tell(f"{key} = {value}: {at} of {len(wanted)} boots")
        pool = LocalPool(store.directory, one_trial(), at_once)
        outcome = run_campaign(wanted[at : at + at_once], store, pool)
        if outcome.interrupted:
            raise KeyboardInterrupt  # what was made is kept; the same command with --seed goes on
        if outcome.skipped:
            from tidegate.errors import Unsupported

            raise Unsupported("; ".join(dict.fromkeys(outcome.skipped.values())))
        found += [one for one in outcome.results if one.verdict in COUNTED]
        if any(one.verdict is not Verdict.SURVIVED for one in found):
            break
    margins = [one.margin_pages for one in found if one.margin_pages is not None]
    survived = sum(one.verdict is Verdict.SURVIVED for one in found)
    return Level(value=value, survived=survived, n=len(found), margin_lowest_pages=min(margins, default=None))


def _said(job: Job, key: str, tell: Tell) -> tuple[Said, ...]:
    """What others say of it; without a record of the guest nobody says anything, and the search goes on."""
    import logging

    from tidegate.rig.beside import said_of
    from tidegate.rig.tried import tried_job

    try:
        return said_of(tried_job(job), key, tell)
    except TidegateError as trouble:
        logging.getLogger("tidegate").warning("no plan to stand beside it: %s", trouble)
        return ()


def _print(result: Bisected, args: argparse.Namespace) -> None:
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(result))
        return
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.bisect_text import bisect_text

    width = shutil.get_terminal_size((100, 40)).columns
    sys.stdout.write(bisect_text(result, width=width, colour=wants_colour(sys.stdout)))
