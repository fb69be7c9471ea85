"""The scripts behind the Makefile, each in a small tree of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
TOOLS = TOP / "tools"


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def run(command: list[str | Path], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | env)


def fake_python(directory: Path, name: str, version: str) -> None:
    """A python that says it is `version` (as 3011), and where it is."""
    program(
        directory / name, f'case "$2" in *version_info*) echo {version};; *) echo {directory / name};; esac'
    )


def test_find_python_takes_the_newest_that_runs(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", "3011")
    fake_python(tmp_path, "python3.13", "3013")
    fake_python(tmp_path, "python3.12", "3012")
    program(tmp_path / "python3.14", "echo 'not switched on' >&2; exit 127")  # a version manager's shim
    done = run([TOOLS / "find-python"], PATH=f"{tmp_path}")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/python3.13\n")


def test_find_python_names_what_it_found_instead(tmp_path: Path) -> None:
    program(tmp_path / "python3", 'case "$1" in --version) echo Python 3.9.2;; *) echo 3009;; esac')
    done = run([TOOLS / "find-python"], PATH=f"{tmp_path}")
    assert done.returncode == 5
    assert done.stderr == "tidegate needs Python 3.11 or newer; found: Python 3.9.2\n"


def test_find_python_without_any(tmp_path: Path) -> None:
    done = run(["/bin/sh", TOOLS / "find-python"], PATH=f"{tmp_path}")
    assert done.returncode == 5
    assert "no python3" in done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a recorded verdict, and a tidegate that a test can make say anything."""
    shutil.copytree(TOOLS, tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "web.txt").write_text("AT_RISK  web can stand still (not SAFE: see below)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("check_exit", "expected_exit", "says"),
    [
        (1, 0, "check exited with 1 (AT_RISK), the verdict recorded in hosts/web.txt"),
        (0, 1, "check exited with 0 (SAFE), but hosts/web.txt records AT_RISK"),
        (3, 1, "check exited with 3 (CANNOT_TELL), but hosts/web.txt records AT_RISK"),
        (6, 1, "check exited with 6 (none), but hosts/web.txt records AT_RISK"),
        (2, 1, "check exited with 2 (none), but hosts/web.txt records AT_RISK"),
    ],
)
def test_show_verdict_compares_with_the_record(
    tree: Path, check_exit: int, expected_exit: int, says: str
) -> None:
    program(tree / ".venv/bin/tidegate", f'echo "$@"; exit {check_exit}')
    done = run([tree / "tools/show-verdict", "web"])
    lines = done.stdout.splitlines()
    assert lines[0] == "check --host hosts/web.tar.xz"
    assert (done.returncode, lines[-1]) == (expected_exit, says)


def test_show_verdict_without_a_recorded_one(tree: Path) -> None:
    done = run([tree / "tools/show-verdict", "mail"])
    assert (done.returncode, done.stderr) == (2, "no hosts/mail.txt: nothing to compare with\n")


def run_tests_with(tree: Path, **exits: int) -> subprocess.CompletedProcess[str]:
    program(tree / ".venv/bin/ruff", f"[ $1 = format ] && exit {exits['form']}; exit {exits['ruff']}")
    program(tree / ".venv/bin/mypy", f"exit {exits['mypy']}")
    program(tree / ".venv/bin/python", f"echo '3 passed in 0.1s'; exit {exits['pytest']}")
    return run([tree / "tools/run-tests"])


@pytest.mark.parametrize("part", ["none", "ruff", "form", "mypy", "pytest"])
def test_run_tests_goes_on_and_fails_when_any_part_does(tree: Path, part: str) -> None:
    exits = {"ruff": 0, "form": 0, "mypy": 0, "pytest": 0} | ({} if part == "none" else {part: 1})
    done = run_tests_with(tree, **exits)
    assert done.stdout.splitlines()[-1] == "3 passed in 0.1s"
    assert (done.returncode == 0) is (part == "none")


def test_system_deps_without_apt_says_what_is_wanted(tmp_path: Path) -> None:
    done = run(["/bin/sh", TOOLS / "system-deps"], PATH=f"{tmp_path}")
    assert done.returncode == 5
    assert "not Debian" in done.stderr
    assert "nbdkit" in done.stderr


def test_shellcheck_is_content() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    scripts = [path for path in TOOLS.iterdir() if path.suffix != ".py" and path.is_file()]
    done = run(["shellcheck", "-s", "sh", "-e", "SC2086,SC2143", *scripts, TOP / ".ci/run"])
    assert (done.returncode, done.stdout) == (0, "")


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("no git, or no clone")
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "deb.debian" + ".org", "npmjs" + ".org"]
    words: list[str | Path] = [part for host in hosts for part in ("-e", host)]
    done = run(["git", "-C", TOP, "grep", "-I", "-l", "-F", *words])
    assert (done.returncode, done.stdout) == (1, "")  # 1: searched, and found nothing
