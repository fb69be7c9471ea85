"""`tidegate check` as a command: several hosts, options that do not go together, streams that are gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate import cli

HOSTS = Path(__file__).resolve().parents[2] / "hosts"
SAFE, AT_RISK = (str(HOSTS / f"{name}.tar.xz") for name in ("no-network-storage", "virtio-nbd-swap"))


def test_one_bad_record_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.tar.xz").touch()
    assert cli.main(["check", "--host", SAFE, str(tmp_path / "empty.tar.xz"), AT_RISK]) == 2
    said = capsys.readouterr()
    assert "2 hosts: 1 AT_RISK, 1 SAFE" in said.out
    assert said.err.count("\n") == 1
    assert "empty.tar.xz: found an empty file" in said.err
    assert cli.main(["check", "--json", "--host", SAFE, "nothing"]) == 2
    assert json.loads(capsys.readouterr().out)["schema"] == "tidegate.checks/1"
    assert cli.main(["check", "--host", "nothing", "nowhere"]) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize("form", ["prometheus", "alerts"])
def test_changes_are_text_or_json(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--host", SAFE, "--against", SAFE, "--as", form]) == 2
    assert not capsys.readouterr().out


def test_save_names_no_option_that_check_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.tar.xz").write_text("mine")
    assert cli.main(["check", "--host", SAFE, "--save", str(tmp_path / "r.tar.xz")]) == 2
    assert "--force" not in capsys.readouterr().err
    assert (tmp_path / "r.tar.xz").read_text() == "mine"


def test_verbose_says_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "-v", "--host", SAFE]) == 0
    assert f"reading {SAFE}" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(closed: str) -> None:
    for host, code in ((AT_RISK, 1), ("nothing", 2)):
        line = f'"{sys.executable}" -m tidegate check --host "{host}" {closed}'
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == code, line
        assert "internal error" not in done.stderr


def test_a_short_write_is_not_lost_without_buffers(tmp_path: Path) -> None:
    """Python's stdout without buffers drops what a short write left over; a file size limit makes one."""
    line = f'trap "" XFSZ; ulimit -f 8; "{sys.executable}" -m tidegate check --json --host "{AT_RISK}" > out'
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, "cut output passed for whole"
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="there is no live Linux host here")
def test_a_saved_check_prints_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = cli.main(["check", "--all", "--save", "here.tar.xz"]), capsys.readouterr().out
    again = cli.main(["check", "--all", "--host", "here.tar.xz"]), capsys.readouterr().out
    assert first == again
