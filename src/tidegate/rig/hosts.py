"""Makes the recorded hosts: boots scenarios of `hosts/`, records each guest from inside, keeps the archive.

    python -m tidegate.rig.hosts NAME...

NAME is a scenario without its `.toml`; `--list` names them, `--keep DIR` stores elsewhere, `--console` shows
what the guest said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import Exit, Lacking, TidegateError, Unsupported, worst_exit
from tidegate.rig import guest, scenario

# The archive's size is held small: it is kept in the tree.
LARGEST_BYTES = 300_000
RECORD = "record.tar.xz"
SCRIPT = f"python3 -m tidegate record /out/{RECORD}\n"


def hosts_directory() -> Path:
    """`hosts/` of the source tree that this module runs from; Lacking in an installed package."""
    folder = Path(__file__).resolve().parents[3] / "hosts"
    if not folder.is_dir():
        raise Lacking(f"{folder}: found no such folder, expected to run from tidegate's source tree")
    return folder


def names(folder: Path) -> list[str]:
    """The scenarios there are."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def make(name: str, folder: Path, keep: Path, *, console: bool = False) -> Path:
    """Boots one scenario and keeps its record as `NAME.tar.xz`."""
    wanted = scenario.read(folder / f"{name}.toml")
    run = guest.run_in_guest(wanted, SCRIPT)
    if console:
        sys.stderr.write(run.console)
    record = run.files.get(RECORD)
    if run.status or record is None:
        last = [line for line in run.console.splitlines() if line.strip()][-8:]
        raise Unsupported(
            f"{name}: exit {run.status} inside the guest; its last lines:\n  " + "\n  ".join(last)
        )
    if len(record) > LARGEST_BYTES:
        raise Unsupported(
            f"{name}: found a record of {len(record):,} bytes, expected {LARGEST_BYTES:,} at most"
        )
    path = keep / f"{name}.tar.xz"
    part = path.with_suffix(".part")
    part.write_bytes(record)
    part.rename(path)
    _say(f"{name}: {run.kernel.release}, {len(record):,} bytes, {run.seconds:.0f} s")
    return path


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the hosts that are named; the exit code is the worst of all."""
    try:
        folder = hosts_directory()
    except Lacking as trouble:
        _say(str(trouble))
        return trouble.exit
    parser = argparse.ArgumentParser(prog="python -m tidegate.rig.hosts", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a scenario of hosts/, without .toml")
    parser.add_argument("--list", action="store_true", help="name the scenarios and what each is")
    parser.add_argument("--keep", type=Path, default=folder, metavar="DIR", help="where archives go")
    parser.add_argument("--console", action="store_true", help="show what the guest said")
    given = parser.parse_args(argv)
    if given.list:
        for name in names(folder):
            sys.stdout.write(f"{name}: {scenario.read(folder / f'{name}.toml').about}\n")
        return Exit.OK
    if not given.names:
        parser.error(f"expected at least one NAME, of: {', '.join(names(folder))}")
    codes = []
    for name in given.names:
        try:
            make(name, folder, given.keep, console=given.console)
            codes.append(Exit.OK)
        except TidegateError as trouble:
            _say(str(trouble))
            if given.console and isinstance(trouble, guest.Lost):
                _say(trouble.console)
            codes.append(trouble.exit)
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
    return worst_exit(codes)


if __name__ == "__main__":
    sys.exit(main())
