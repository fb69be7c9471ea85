"""`tidegate rig doctor`: what this machine can try."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tidegate.errors import Exit

if TYPE_CHECKING:
    from tidegate.rig.doctor import Doctor

SUMMARY = "what this machine can try, and what it lacks"
DESCRIPTION = """\
Tries each part that trials on real kernels need, and says what is missing and what to install: the emulator and its
NICs, whether KVM really boots a guest, kernels, the static busybox, a compiler for the guest's agent, servers of
NBD and iSCSI, a network namespace with a tap, shared memory, memory, Python packages.

Each part is ok, partly (it works, less well or not for everything) or missing. A part with a star is needed by
trials with NBD. No root is needed, and nothing is installed or changed; the first call with a cached kernel boots
it, to choose the accelerator, and remembers which that was.
"""
EXAMPLES = (("what this machine can do", "tidegate rig doctor"),)
EXIT_STATUS = {0: "trials with NBD can run here", 5: "they cannot; the last line names what is missing"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("action", choices=("doctor",), help="what to do")
    parser.add_argument("--json", action="store_true", help="print JSON (tidegate.rig-doctor/1)")


def run(args: argparse.Namespace) -> int:
    """Examines this machine."""
    from tidegate.cli.progress import progress
    from tidegate.rig.doctor import examine

    with progress(quiet=args.quiet > 0) as tell:
        tell("trying this machine")
        doctor = examine()
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(doctor))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(doctor)))
    return Exit.OK if doctor.nbd_trials else Exit.LACKING


def _lines(doctor: Doctor) -> Iterator[str]:
    from tidegate.cli import one_line

    width = max(len(item.name) for item in doctor.items)
    for item in doctor.items:
        cure = f"  ->  {item.cure}" if item.cure else ""
        star = "*" if item.needed else " "
        yield one_line(f"{item.state:<8}{star} {item.name:<{width}}  {item.found}{cure}")
    if doctor.nbd_trials:
        yield f"trials with NBD can run here, {doctor.guests} guests at a time by memory, on {doctor.cores} cores"
        return
    lacking = [item.name for item in doctor.items if item.needed and item.state == "missing"]
    yield f"trials with NBD cannot run here: {', '.join(lacking)}"
