from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tidegate.rig.far_side import IN_A_GUEST, Far
from tidegate.rig.storage_guest import NQN, script
from tidegate.rig.trial_guest import BUSYBOX_NAMES


def far(transport: str) -> Far:
    return Far(folder="/tmp/x", transport=transport, size_mib=64, agent="/bin/true")


@pytest.mark.parametrize("transport", IN_A_GUEST)
def test_the_script_is_shell_and_calls_only_what_the_guest_has(transport: str) -> None:
    text = script(far(transport))
    called = {word for word in text.split() if word.startswith("/bin/")}
    assert called <= {f"/bin/{name}" for name in (*BUSYBOX_NAMES, "busybox")}
    assert "{" not in text
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell
    assert subprocess.run([shell, "-n"], input=text.encode(), check=False).returncode == 0


def test_nvme_serves_a_sparse_file_under_its_name() -> None:
    text = script(far("nvme-tcp"))
    assert "truncate -s 64M /srv/disk" in text
    assert f"ports/1/subsystems/{NQN}" in text
    assert "echo 4420 >ports/1/addr_trsvcid" in text


def test_a_swap_file_has_no_holes_and_a_mount_has_no_swap_file() -> None:
    assert "fallocate -l 64M /srv/swap" in script(far("nfs"))
    assert "/srv/swap" not in script(far("nfs-mount"))


def test_the_export_is_the_answer_that_mountd_would_give(tmp_path: Path) -> None:
    """The shell writes each line whole, and leaves the backslash of the file system's id alone."""
    text = script(far("nfs")).replace("/proc/net/rpc/nfsd.fh/channel", str(tmp_path / "fh"))
    (line,) = [line for line in text.splitlines() if line.endswith(str(tmp_path / "fh"))]
    subprocess.run(["/bin/sh", "-c", line], check=True)
    assert (tmp_path / "fh").read_text() == "guest 1 \\x00000000 2147483647 /srv\n"
