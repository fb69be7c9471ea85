"""`tidegate record`: snapshot this host so that check can run elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.units import human_bytes

if TYPE_CHECKING:
    from tidegate.host.record import Record

SUMMARY = "snapshot this host so that check can run elsewhere"
DESCRIPTION = """\
Reads all that `tidegate check` looks at, each file at its own path, what netlink said as JSON, and a manifest that
names every path looked for with its size and sha256, the absent and the denied ones too. FILE ends in .tar.xz;
any other name becomes a directory. `tidegate check --host FILE` prints what a check here and now would have printed.

No secret is recorded: no CHAP names and passwords, no keys, no environments, no whole command lines. With
--anonymise, addresses and names are replaced as well, the same one always by the same.

As an ordinary user it reads what it may; what it may not is kept as denied, and check says so.
"""
EXAMPLES = (
    ("this host, for somebody else to look at", "tidegate record web7.tar.xz --anonymise"),
    ("as a directory, to look into", "tidegate record web7"),
)
EXIT_STATUS = {
    0: "recorded",
    2: "the name is taken (see --force) or cannot be a record's",
    5: "this is no Linux machine, or FILE cannot be written",
}
SCHEMA = "tidegate.record-summary/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("file", metavar="FILE", help="NAME.tar.xz, or the name of a new directory")
    parser.add_argument("--anonymise", action="store_true", help="replace addresses and names, consistently")
    parser.add_argument("--force", action="store_true", help="replace a record that is there already")
    parser.add_argument("--json", action="store_true", help=f"print the summary as JSON ({SCHEMA})")


def run(args: argparse.Namespace) -> int:
    """Records; says on stderr how much was found, absent and denied."""
    from tidegate.cli.progress import progress
    from tidegate.host.archive import check_name, save_record
    from tidegate.host.live import read_live

    check_name(Path(args.file), force=args.force)
    with progress(quiet=args.quiet > 0) as told:
        record = read_live(progress=told)
        if args.anonymise:
            from tidegate.host.anonymise import anonymise

            record = anonymise(record)
        told("writing")
        size = save_record(record, Path(args.file), force=args.force)
    counts = Counter(member.status.value for member in record.members.values())
    summary = {"schema": SCHEMA, "file": args.file, "bytes": size, "taken": record.taken, **counts}
    if args.json:
        print(json.dumps(summary, sort_keys=True))
    if args.quiet == 0:
        _say(record, f"{args.file}: {human_bytes(size)}", counts, every=args.verbose > 0)
    return 0


def _say(record: Record, head: str, counts: Counter[str], *, every: bool) -> None:
    """The summary; with `every` also each path that could not be read, and why."""
    shown = ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items()))
    print(f"tidegate: {head}, {shown}", file=sys.stderr)
    lost = [one for _, one in sorted(record.members.items()) if one.status.value in {"denied", "damaged"}]
    if every:
        for one in lost:
            why = f" ({one.detail})" if one.detail else ""
            print(f"tidegate: {one.status.value}: {one.path}{why}", file=sys.stderr)
    elif lost and os.geteuid() != 0:
        print("tidegate: as root more could be read; -v names what was not", file=sys.stderr)
