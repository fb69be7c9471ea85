"""Cutting an sos report down."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tidegate.rig import sos

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "sos-nbd-swap.tar.xz"


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("proc/zoneinfo", True),
        ("proc/kallsyms", False),
        ("sys/block/nbd0/queue/nr_requests", True),
        ("sos_commands/networking/ss_-peaonmi", True),
        ("sos_commands/kernel/modinfo_ALL_MODULES", False),
        ("sos_commands/kernel/sysctl_-a", True),
        ("sos_commands/ssh/sshd", False),
        ("sos_logs/sos.log", False),
        ("etc/passwd", False),
        ("etc/fstab", True),
        ("version.txt", True),
    ],
)
def test_what_stays(path: str, kept: bool) -> None:
    assert sos.stays(path) is kept


def test_members_keep_their_place_and_bytes() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:xz") as tar:
        for name, data in (("top/proc/kallsyms", b"big"), ("top/proc/swaps", b"swaps")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(fileobj=io.BytesIO(sos.trimmed(whole.getvalue()))) as tar:
        assert tar.getnames() == ["top/proc/swaps"]
        held = tar.extractfile("top/proc/swaps")
        assert held is not None
        assert held.read() == b"swaps"


def test_the_recorded_report_is_small_and_swaps_over_nbd() -> None:
    assert RECORDED.stat().st_size <= sos.LARGEST_BYTES
    with tarfile.open(RECORDED) as tar:
        top = tar.getnames()[0].partition("/")[0]
        held = tar.extractfile(f"{top}/proc/swaps")
        assert held is not None
        assert b"/dev/nbd0" in held.read()
