"""`tidegate compare`: designs side by side on one case."""

from __future__ import annotations

import argparse
import shutil
import sys

from tidegate.cli.simulate import add_jobs, add_seeds, cores, whole
from tidegate.errors import Exit

SUMMARY = "designs side by side on one case: word, price, smallest reserve"
DESCRIPTION = """\
Runs each design on the same case, with the same seeds, and prints a row for each, best first: its word (see
tidegate simulate), how many seeds earned it, the smallest reserve with which every seed is SEEN, the fewest free
pages there were, how much of the others' traffic was lost, and how long after the storm everything had completed.

The smallest reserve is looked for by trying: doubling until every seed gets through, then bisecting, then looking
one and two pages below and one above. With another reserve the runs are other runs, so that a smaller one somewhere
below cannot be excluded. A row without such a number says how far the search went (--most).

The case is taken as it stands; what an arm of it sets is not in force.
"""
EXAMPLES = (
    ("all designs on a case", "tidegate compare swap-over-nbd"),
    (
        "two of them, with more seeds",
        "tidegate compare swap-over-nbd --design patch --design mail --seeds 100",
    ),
)
EXIT_STATUS = {0: "they were compared, whatever came out"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("case", metavar="CASE", help="a case: a TOML file, or the name of a bundled one")
    parser.add_argument(
        "--design",
        action="append",
        default=[],
        metavar="DESIGN",
        help="this design; may be repeated (default: all)",
    )
    add_seeds(parser)
    parser.add_argument(
        "--most",
        type=whole(0, 2**32),
        metavar="PAGES",
        help="look for a reserve of up to so many pages (default: a quarter of memory)",
    )
    add_jobs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.compare/1)")


def run(args: argparse.Namespace) -> int:
    """Compares."""
    from tidegate.bundled_cases import case_path
    from tidegate.case import read_case
    from tidegate.cli.progress import progress
    from tidegate.designs import DESIGNS, design
    from tidegate.judge.arms import seeds_of
    from tidegate.judge.side_by_side import compare

    case = read_case(case_path(args.case))
    designs = [design(name) for name in dict.fromkeys(args.design)] or list(DESIGNS.values())
    with progress(quiet=args.quiet > 0) as tell:
        compared = compare(
            case,
            designs,
            seeds_of(case, many=args.seeds),
            most_pages=args.most,
            jobs=cores(args.jobs),
            tell=tell,
        )
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(compared))
        return int(Exit.OK)
    from tidegate.cli.terminal import wants_colour
    from tidegate.report.simulate_text import compare_text

    width = shutil.get_terminal_size((100, 40)).columns
    sys.stdout.write(compare_text(compared, width=width, colour=wants_colour(sys.stdout)))
    return int(Exit.OK)
