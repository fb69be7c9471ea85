"""`tidegate trial` ended from outside: by Ctrl-C, twice, and by kill -9. Nothing of it stays but what was kept."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.rig import boots_here, campaign_runners

from tidegate.errors import Exit
from tidegate.rig import places, tools
from tidegate.trial import Job, TrialResult, Verdict

pytestmark = [pytest.mark.vm, pytest.mark.slow]
WORDS = (sys.executable, "-m", "tidegate", "trial", "deadlock", "--arm", "quiet", "--jobs", "1")
KEPT = campaign_runners.made(
    Job(case="deadlock", arm="quiet", kernel=boots_here.KERNEL, nic="virtio-net-pci", transport="nbd", seed=1)
)


@pytest.fixture(autouse=True)
def needs_a_machine() -> None:
    if why := boots_here.why_no_trial():
        pytest.skip(why)


class Running:
    """The command with a guest running, and an earlier trial's result kept in its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.results = directory / "results.jsonl"
        self.results.write_bytes(msgspec.json.encode(KEPT) + b"\n")
        self.process = subprocess.Popen(
            [*WORDS, "-n", "2", "--dir", directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        qemu = boots_here.found(self.process.pid, "-nodefaults", 120)  # not one that is asked for its version
        assert qemu
        assert boots_here.found(self.process.pid, "nbdkit", 30)  # it starts beside the guest
        self.folder = boots_here.guest_folder_of(qemu)
        self.pids = [self.process.pid, *boots_here.below(self.process.pid)]
        assert self.folder.name.startswith(places.PREFIX)
        lines = [boots_here.words_of(pid) for pid in self.pids]
        assert any("tidegate.rig.far_side" in line for line in lines), lines

    def kept(self) -> list[TrialResult]:
        return [
            msgspec.json.decode(line, type=TrialResult) for line in self.results.read_bytes().splitlines()
        ]

    def nothing_is_left(self, within_s: float) -> None:
        left = [boots_here.words_of(pid) for pid in self.pids if not boots_here.all_gone([pid], within_s)]
        assert left == []
        assert list((self.directory / "evidence").iterdir()) == []
        assert self.kept() == [KEPT]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path / "trials")
    yield one
    one.process.kill()
    one.process.communicate()
    assert boots_here.all_gone(one.pids, 30)


def test_one_ctrl_c_ends_it_in_order(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)
    _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in err
    assert not running.folder.exists()
    running.nothing_is_left(5)  # a killed process takes its time to give its memory back


def test_two_ctrl_c_end_it_at_once(running: Running) -> None:
    (worker,) = [
        pid for pid in running.pids if any("spawn_main" in word for word in boots_here.words_of(pid))
    ]
    os.kill(worker, signal.SIGSTOP)  # so that the first one cannot be enough
    running.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(timeout=1)
    running.process.send_signal(signal.SIGINT)
    _, err = running.process.communicate(timeout=30)
    assert running.process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in err
    assert not running.folder.exists()
    running.nothing_is_left(2)


def test_a_killed_tidegate_takes_its_guest_with_it(running: Running) -> None:
    running.process.kill()
    running.process.communicate()
    assert boots_here.all_gone(running.pids, 20)
    assert not running.folder.exists()
    assert running.kept() == [KEPT]


def test_what_is_left_when_all_of_it_is_killed_goes_with_the_next_trial(running: Running) -> None:
    ours = [pid for pid in running.pids if "python" in Path(boots_here.words_of(pid)[0]).name]
    for pid in ours:
        if "tidegate.rig.far_side" not in boots_here.words_of(pid):  # that one must notice by itself
            os.kill(pid, signal.SIGKILL)
    running.process.communicate()
    assert boots_here.all_gone(running.pids, 10)
    assert running.folder.exists()
    with places.guest_folder(1):
        assert not running.folder.exists()
    assert running.kept() == [KEPT]


@pytest.fixture
def killed_at_once(tmp_path: Path) -> dict[str, str]:
    """An environment whose QEMU answers questions, and kills itself when it is to boot."""
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "qemu-system-x86_64"
    real = tools.program("qemu-system-x86_64")
    fake.write_text(f'#!/bin/sh\ncase "$*" in *-initrd*) kill -9 $$ ;; esac\nexec {real} "$@"\n')
    fake.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TIDEGATE_ACCEL": "tcg"}


def test_a_lost_trial_is_kept_as_such_and_ends_with_its_code(
    tmp_path: Path, killed_at_once: dict[str, str]
) -> None:
    results = tmp_path / "trials" / "results.jsonl"
    done = subprocess.run(
        [*WORDS, "-n", "1", "-q", "--dir", results.parent],
        env=killed_at_once, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    (result,) = (msgspec.json.decode(line, type=TrialResult) for line in results.read_bytes().splitlines())
    assert (result.verdict, result.tries) == (Verdict.LOST, 2)
    assert result.reason == "qemu-system-x86_64: did not start: (nothing)"
    assert "LOST 1" in done.stdout
    assert done.returncode == Exit.CANNOT_TELL


def test_the_result_that_finds_the_disk_full_is_told_and_the_others_stay(
    tmp_path: Path, killed_at_once: dict[str, str]
) -> None:
    """A file system of some pages, mounted where only this command sees it."""
    directory = tmp_path / "small"
    directory.mkdir()
    kept, number = b"", 0
    while len(line := msgspec.json.encode(replace(KEPT, seed=number)) + b"\n") + len(kept) <= 4096:
        kept, number = kept + line, number + 1  # as much as goes into the file's first page
    (tmp_path / "kept").write_bytes(kept)
    call = shlex.join([*WORDS, "-n", "1", "-q", "--dir", str(directory)])
    script = (
        f"mount -t tmpfs -o size=16k small {directory} || exit 99; cp {tmp_path}/kept {directory}/results.jsonl; "
        f"head -c 12288 /dev/zero >{directory}/zeros; "
        f"{call}; code=$?; cat {directory}/results.jsonl; exit $code"
    )
    words = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script]
    done = subprocess.run(words, env=killed_at_once, capture_output=True, check=False, timeout=120)
    if done.returncode == 99:
        pytest.skip(f"no mount of one's own here: {done.stderr.decode()}")
    assert done.stdout == kept
    assert done.stderr.decode() == (
        f"tidegate: {directory}/results.jsonl: cannot be written (No space left on device); what ended before is "
        "kept, and the same command goes on\n"
    )
    assert done.returncode == Exit.LACKING
