"""`tidegate simulate CASE --against DIR`: a run beside the trace of a real kernel that failed."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import BadInput, Exit, Usage

if TYPE_CHECKING:
    from tidegate.case import Case
    from tidegate.judge.against import Traced
    from tidegate.simulation import Simulated


def traced_of(case: Case, args: argparse.Namespace) -> Traced:
    """The trace to stand beside; where no arm or design is named, `args` gets the arm that is like a kernel."""
    from tidegate.judge.against import like_a_kernel, read_traced

    if len(args.arm) > 1 or args.html or args.perfetto or args.trace:
        raise Usage("simulate: --against goes with one arm, and with no file to be written")
    traced = read_traced(Path(args.against))
    if traced.case != case.name:
        raise BadInput(args.against, "trial.json: case", repr(traced.case), f"a trial of {case.name!r}")
    if not args.arm and not args.design and (arm := like_a_kernel(case)) is not None:
        args.arm = [arm.name]
    return traced


def print_against(case: Case, result: Simulated, traced: Traced, args: argparse.Namespace) -> Exit:
    """Prints where the kernel leaves the run; BAD_NEWS where it does."""
    from tidegate.judge.against import against
    from tidegate.report.simulate_words import told_run

    found = against(case, told_run(result), traced)
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(found))
    else:
        from tidegate.cli.terminal import wants_colour
        from tidegate.report.against_text import against_text

        width = shutil.get_terminal_size((100, 40)).columns
        sys.stdout.write(against_text(found, width=width, colour=wants_colour(sys.stdout)))
    return Exit.BAD_NEWS if found.leaves else Exit.OK
