"""Makes the sos report of the tests: Debian's own `sos report` in a guest, cut to what a host is read from.

    python -m tidegate.rig.sos tests/recorded/sos-nbd-swap.toml

The report is real and keeps its layout; left out are logs, the report's own HTML and what is big and tells
nothing of storage or memory. The result stands beside the scenario as `.tar.xz`.
"""

from __future__ import annotations

import argparse
import io
import lzma
import sys
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tidegate.errors import Exit, TidegateError, Unsupported
from tidegate.rig import guest, scenario

LARGEST_BYTES = 300_000
# `ss` is only run when its modules are loaded, as they are on a host where anybody ever called it.
_SCRIPT = """\
for family in netlink raw inet tcp unix af_packet vsock udp mptcp; do modprobe ${family}_diag; done
mkdir /tmp/sos
sos report --batch --tmp-dir /tmp/sos --skip-plugins=logs,systemd,dpkg,apt --compression-type xz --threads 1
mv /tmp/sos/*.tar.xz /out/
"""
# Below the report's own top directory. The first pattern that matches decides; what none matches stays.
_TRIM = (
    ("sos_logs/*", False),
    ("sos_reports/*", False),
    ("proc/kallsyms", False),
    ("proc/vmallocinfo", False),
    ("etc/fstab", True),
    ("etc/iscsi/*", True),
    ("etc/modprobe.d/*", True),
    ("etc/nvme/*", True),
    ("etc/os-release", True),
    ("etc/sysctl*", True),
    ("etc/*", False),
    ("usr/lib/os-release", True),
    ("usr/*", False),
    ("var/*", False),
    ("sys/firmware/*", False),
    ("sos_commands/block/*", True),
    ("sos_commands/date/*", True),
    ("sos_commands/filesys/*", True),
    ("sos_commands/host/*", True),
    ("sos_commands/iscsi/*", True),
    ("sos_commands/kernel/modinfo*", False),
    ("sos_commands/kernel/*", True),
    ("sos_commands/lvm2/*", True),
    ("sos_commands/memory/*", True),
    ("sos_commands/networking/*", True),
    ("sos_commands/nvme/*", True),
    ("sos_commands/process/*", True),
    ("sos_commands/scsi/*", True),
    ("sos_commands/sunrpc/*", True),
    ("sos_commands/*", False),
)


def stays(path: str) -> bool:
    """Whether a path below the report's top directory is kept."""
    return next((kept for pattern, kept in _TRIM if fnmatchcase(path, pattern)), True)


def trimmed(report: bytes) -> bytes:
    """The report as .tar.xz with only what stays; owners and times as they were, directories left out."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(report), mode="r:xz") as whole,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as part,
    ):
        for member in sorted(whole, key=lambda member: member.name):
            below = member.name.partition("/")[2]
            if not member.isdir() and stays(below):
                part.addfile(member, whole.extractfile(member) if member.isfile() else None)
    return lzma.compress(out.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def make(path: Path, *, console: bool = False) -> Path:
    """Boots the scenario in `path`, runs sos inside and keeps the report beside it."""
    run = guest.run_in_guest(scenario.read(path), _SCRIPT)
    if console:
        sys.stderr.write(run.console)
    reports = [data for name, data in run.files.items() if name.endswith(".tar.xz")]
    if run.status or len(reports) != 1:
        raise Unsupported(
            f"{path}: exit {run.status} inside the guest, {len(reports)} reports; --console tells more"
        )
    kept = trimmed(reports[0])
    if len(kept) > LARGEST_BYTES:
        raise Unsupported(
            f"{path}: found a report of {len(kept):,} bytes, expected {LARGEST_BYTES:,} at most"
        )
    target = path.with_suffix(".tar.xz")
    target.write_bytes(kept)
    sys.stderr.write(f"{target.name}: {run.kernel.release}, {len(kept):,} bytes, {run.seconds:.0f} s\n")
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Makes one report."""
    parser = argparse.ArgumentParser(
        prog="python -m tidegate.rig.sos", description="makes a real, small sos report"
    )
    parser.add_argument("scenario", type=Path, help="the guest, as TOML")
    parser.add_argument("--console", action="store_true", help="show what the guest said")
    given = parser.parse_args(argv)
    try:
        make(given.scenario, console=given.console)
    except TidegateError as trouble:
        sys.stderr.write(f"{trouble}\n")
        return trouble.exit
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
