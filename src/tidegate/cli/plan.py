"""`tidegate plan`: the settings that prevent it."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import Exit, Usage

if TYPE_CHECKING:
    from tidegate.findings.accepted import Acceptance
    from tidegate.host.record import Record
    from tidegate.result import Plan

SUMMARY = "the settings that prevent it: old, new, why, bounds"
DESCRIPTION = """\
Reads this host, or a recorded one, and works out the smallest settings that keep it from locking up: bounds
on what others may hold first, then the size of the reserve, then queue depths, then the rest. Each comes
with the law that it serves, old and new value, why, its bounds, what must be true before it is written, and
how to undo it. Then the same sum and the same rules judge the host as it would be, so the verdict after the
plan is check's own.

Two conditions are shown apart. Settings alone: what others can pin, plus what block IO and rings take, fits
between the high watermark and 3/8 of min. With an early drop at ingress: what block IO and rings take fits
between min and 3/8 of min. A plan that meets only the second says so.

--max-share bounds vm.min_free_kbytes as a share of RAM (MemTotal). A plan that needs more says what would
have to change. --as sysctl, script and tuned solve again with only those settings that such a file can put
in force, and list what it cannot hold. The script is plain sh, checks free pages before each step of a
raise, takes everything back when a write fails, and undoes itself: sh FILE undo.

It only reads; the file it writes with -o is the only thing it changes.
"""
EXAMPLES = (
    ("this host", "tidegate plan"),
    ("a recorded host, every bound and undo", "tidegate plan --host web7.tar.xz --all"),
    ("as a file that is read at boot", "tidegate plan --as sysctl -o /etc/sysctl.d/90-tidegate.conf"),
    (
        "as a script with its undo",
        "tidegate plan --as script -o plan.sh; sh plan.sh; sh plan.sh undo",
    ),
)
EXIT_STATUS = {
    0: "with the plan in force the host is SAFE (the plan may be empty)",
    1: "AT_RISK even so: the sum cannot fit, or something remains that no setting cures",
    3: "CANNOT_TELL even so",
    4: "the record does not have what is asked for",
}
FORMATS = ("text", "json", "sysctl", "script", "tuned")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--host", metavar="RECORD", help="plan for this recorded host (or sos report) instead"
    )
    parser.add_argument("--as", dest="format", choices=FORMATS, help="output format: %(choices)s")
    parser.add_argument("--json", action="store_true", help="the same as --as json")
    parser.add_argument(
        "--max-share",
        type=percent,
        default=5.0,
        metavar="PCT",
        help="most of RAM that vm.min_free_kbytes may be raised to, in per cent (default: 5)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE, whole or not at all")
    parser.add_argument("--all", action="store_true", help="bounds, basis and undo of each setting")
    parser.add_argument("--accept", metavar="FILE", help="TOML with accepted findings: id, reason, expires")


def percent(text: str) -> float:
    """A share of RAM; more than half of it is no reserve any more."""
    try:
        share = float(text.rstrip("%"))
    except ValueError:
        share = -1.0
    if not 0 < share <= 50:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number above 0 and up to 50")
    return share


def run(args: argparse.Namespace) -> int:
    """Plans; the exit code is that of the verdict after the plan."""
    if args.json and args.format not in {None, "json"}:
        raise Usage(f"plan: --json and --as {args.format} exclude each other")
    output = "json" if args.json else args.format or "text"
    from tidegate.host.read import read_host
    from tidegate.plan import ALL, solve

    accepted: tuple[Acceptance, ...] = ()
    if args.accept:
        from tidegate.findings.accepted import read_accepted

        accepted = read_accepted(Path(args.accept))
    record = _record(args.host)
    plan = solve(
        read_host(record),
        max_share_percent=args.max_share,
        format=ALL if output in {"text", "json"} else output,
        accepted=accepted,
    )
    _print(plan, output, args)
    return int(exit_of(plan))


def exit_of(plan: Plan) -> Exit:
    """What holds with the plan in force; a sum that does not fit is bad news whatever else holds."""
    if plan.fits is False:
        return Exit.BAD_NEWS
    return {"SAFE": Exit.OK, "AT_RISK": Exit.BAD_NEWS, "CANNOT_TELL": Exit.CANNOT_TELL}[plan.after.value]


def _record(path: str | None) -> Record:
    if path is not None:
        from tidegate.host.bundled import recorded_host
        from tidegate.host.opening import open_record

        return open_record(recorded_host(path))
    from tidegate.host.live import read_live

    return read_live()


def _print(plan: Plan, output: str, args: argparse.Namespace) -> None:
    if output == "json":
        from tidegate.report.json import to_json

        text = to_json(plan)
    elif output == "text":
        from tidegate.cli.terminal import wants_colour
        from tidegate.report.plan_text import plan_text

        width = 100 if args.output else shutil.get_terminal_size((100, 40)).columns
        colour = not args.output and wants_colour(sys.stdout)
        text = plan_text(plan, all=args.all, width=width, colour=colour)
    else:
        from tidegate.report.plan_formats import plan_file

        text = plan_file(plan)
    if args.output is None:
        sys.stdout.write(text)
        return
    import logging

    from tidegate.host.archive import write_atomically
    from tidegate.report.plan_text import headline

    write_atomically(Path(args.output), text.encode(errors="backslashreplace"))
    level = logging.INFO if exit_of(plan) is Exit.OK else logging.WARNING
    logging.getLogger("tidegate").log(level, "%s: %s", args.output, headline(plan))
