"""`tidegate check`: what is here, what can deadlock and why, the numbers."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli import one_line
from tidegate.errors import BadInput, Exit, TidegateError, Usage, worst_exit

if TYPE_CHECKING:
    import logging

    from tidegate.findings.accepted import Acceptance
    from tidegate.host.record import Record
    from tidegate.result import CheckResult

SUMMARY = "what is here, what can deadlock and why, the numbers"
DESCRIPTION = """\
Reads this host, or recorded ones, and says whether it can lock up when memory runs out: SAFE (with the conditions it
rests on), AT_RISK, or CANNOT_TELL. Then the swap, disks and file systems that ride on the network, each down to its
NIC; the known ways to deadlock that apply, with evidence; the shortest way there in this host's own numbers; what the
reserve must hold against what it holds; and the settings that prevent it.

It only reads. As an ordinary user it reads what it may and names what it could not: missing input never makes a
host look safer. A live check is a record taken into memory, then checked, so --save FILE now and --host FILE later
print the same.

--host takes a record (tidegate record), as a directory or an archive, or an sos report likewise. A bare name
of a recorded host that comes with tidegate (virtio-nbd-swap) stands for it, unless a file here is called so.
With several hosts there is a row for each, worst first; one that cannot be read is a line on stderr, and the
others are checked all the same.
"""
EXAMPLES = (
    ("this host", "tidegate check"),
    ("a recorded host, everything there is to say", "tidegate check --host web7.tar.xz --all"),
    ("a rack, worst first", "tidegate check --host records/*.tar.xz"),
    ("what changed since yesterday", "tidegate check --against yesterday.tar.xz"),
    ("a page to look at", "tidegate check --html check.html"),
    ("for node_exporter's textfile collector", "tidegate check --as prometheus > tidegate.prom"),
)
EXIT_STATUS = {
    0: "SAFE",
    1: "AT_RISK",
    3: "CANNOT_TELL",
    4: "the record does not have what is asked for",
}
FORMATS = ("text", "json", "prometheus", "alerts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--host",
        nargs="+",
        action="extend",
        metavar="RECORD",
        help="check these recorded hosts (or sos reports) instead of this machine",
    )
    parser.add_argument(
        "--against", metavar="OLD", help="say what changed since this record of the same host"
    )
    parser.add_argument(
        "--save", metavar="FILE", help="keep the record that was checked (.tar.xz or a directory)"
    )
    parser.add_argument(
        "--all", action="store_true", help="the rest too: absent findings, every row and zone"
    )
    parser.add_argument("--as", dest="format", choices=FORMATS, help="output format: %(choices)s")
    parser.add_argument("--json", action="store_true", help="the same as --as json")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page as well")
    parser.add_argument("--accept", metavar="FILE", help="TOML with accepted findings: id, reason, expires")


def run(args: argparse.Namespace) -> int:
    """Checks; the exit code is the worst verdict's."""
    output = _format(args)
    if output == "alerts":
        from tidegate.report.prometheus import alert_rules

        print(alert_rules(), end="")
        return int(Exit.OK)
    accepted = _accepted(args.accept)
    old = _open(args.against) if args.against else None
    records, troubles = _opened(args.host) if args.host else ([_live()], [])
    if args.save:
        _save(records[0], Path(args.save))
        # From now on this is the saved record: `--host FILE` prints the same, its source included.
        records[0] = replace(records[0], source=args.save)
    from tidegate.check import check_record

    results = [check_record(record, accepted=accepted) for record in records]
    if args.html:
        from tidegate.host.archive import write_atomically
        from tidegate.report.html import check_html

        write_atomically(Path(args.html), check_html(results[0]).encode())
    if old is not None:
        _print_changes(check_record(old, accepted=accepted), results[0], output)
    elif output == "prometheus":
        _print_metrics(records, results)
    else:
        _print(results, output, several=len(args.host or ()) > 1, everything=args.all)
    return int(worst_exit([*troubles, *(exit_of(result) for result in results)]))


def exit_of(result: CheckResult) -> Exit:
    """The exit code of a verdict."""
    return {"SAFE": Exit.OK, "AT_RISK": Exit.BAD_NEWS, "CANNOT_TELL": Exit.CANNOT_TELL}[result.verdict.value]


def _format(args: argparse.Namespace) -> str:
    if args.json and args.format not in {None, "json"}:
        raise Usage(f"check: --json and --as {args.format} exclude each other")
    several = args.host is not None and len(args.host) > 1
    for option in ("save", "against", "html"):
        if several and getattr(args, option):
            raise Usage(f"check: --{option} goes with one host, and --host names {len(args.host)}")
    output = "json" if args.json else args.format or "text"
    if args.against and output in {"prometheus", "alerts"}:
        raise Usage(f"check: --against prints text or JSON, not {output}")
    return output


def _accepted(path: str | None) -> Sequence[Acceptance]:
    if path is None:
        return ()
    from tidegate.findings.accepted import read_accepted

    return read_accepted(Path(path))


def _open(name: str) -> Record:
    from tidegate.host.bundled import recorded_host
    from tidegate.host.opening import open_record

    _logger().info("reading %s", one_line(name))
    return open_record(recorded_host(name))


def _opened(names: Sequence[str]) -> tuple[list[Record], list[Exit]]:
    """The records that can be read; each other one of several is a line on stderr and an exit code."""
    records: list[Record] = []
    troubles: list[Exit] = []
    for name in names:
        try:
            records.append(_open(name))
        except TidegateError as trouble:
            if len(names) == 1:
                raise
            _logger().error("%s", one_line(str(trouble)))
            troubles.append(trouble.exit)
    if not records:
        raise Usage(f"check: none of the {len(names)} hosts can be read")
    return records, troubles


def _live() -> Record:
    from tidegate.host.live import read_live

    _logger().info("reading this host")
    return read_live()


def _save(record: Record, path: Path) -> None:
    from tidegate.host.archive import save_record

    if path.is_file() or path.is_symlink():
        raise BadInput(str(path), "", "something is there already", "a new name")
    save_record(record, path)
    _logger().info("%s: saved", path)


def _logger() -> logging.Logger:
    import logging

    return logging.getLogger("tidegate")


def _print_metrics(records: Sequence[Record], results: Sequence[CheckResult]) -> None:
    from tidegate.host.read import read_host
    from tidegate.report.prometheus import check_metrics

    sys.stdout.write(check_metrics(results, [read_host(record).counters for record in records]))


def _look() -> tuple[int, bool]:
    """Width of the terminal, and whether it takes colour."""
    from tidegate.cli.terminal import wants_colour

    return shutil.get_terminal_size((100, 40)).columns, wants_colour(sys.stdout)


def _print(results: Sequence[CheckResult], output: str, *, several: bool, everything: bool) -> None:
    if output == "json":
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(list(results) if several else results[0]))
        return
    from tidegate.report.text import check_text, hosts_table

    width, colour = _look()
    if not several:
        sys.stdout.write(check_text(results[0], all=everything, width=width, colour=colour))
    else:
        sys.stdout.write(hosts_table(results, width=width, colour=colour))


def _print_changes(old: CheckResult, new: CheckResult, output: str) -> None:
    from tidegate.report.changes import changes, changes_text
    from tidegate.report.json import to_json

    found = changes(old, new)
    width, colour = _look()
    sys.stdout.write(to_json(found) if output == "json" else changes_text(found, width=width, colour=colour))
