"""A trial with something of it killed in the middle: one clear word, nothing left behind, and nothing hangs."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.rig import boots_here

from tidegate.errors import Lacking
from tidegate.rig import evidence, one_trial, places
from tidegate.rig.tried import tried_job
from tidegate.trial import Job, TrialResult, Verdict

QUIET = Job(
    case="deadlock", arm="quiet", kernel=boots_here.KERNEL, nic="virtio-net-pci", transport="nbd", seed=1
)
HERE = os.getpid()
pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(autouse=True)
def needs_a_machine() -> None:
    if why := boots_here.why_no_trial():
        pytest.skip(why)


def once(folder: Path, tell: Callable[[str], None], append: str = "") -> TrialResult:
    """One boot, not made again when it is lost."""
    tried = tried_job(QUIET)
    tried = replace(tried, shape=replace(tried.shape, append=append))
    return one_trial._once(tried, folder, tell, dump=False)


class Killer:
    """Kills one process when the trial says that it is so far; at each time that it says so."""

    def __init__(self, name: str, when: str, most: int = 9) -> None:
        self.name, self.when, self.most = name, when, most
        self.killed: list[int] = []
        self.before = set(boots_here.below(HERE))  # other tests' own, such as a pool's tracker
        self.seen: set[int] = set()
        self.folders: set[Path] = set()

    def __call__(self, said: str) -> None:
        if not said.startswith(self.when):
            return
        if qemu := boots_here.found(HERE, "qemu-system-x86_64"):
            self.folders.add(boots_here.guest_folder_of(qemu))
        self.seen |= set(boots_here.below(HERE)) - self.before
        victim = boots_here.found(HERE, self.name)
        if victim and len(self.killed) < self.most:
            os.kill(victim, signal.SIGKILL)
            self.killed.append(victim)

    def left_nothing(self) -> bool:
        return boots_here.all_gone(list(self.seen)) and not any(folder.exists() for folder in self.folders)


def test_a_killed_qemu_is_tried_once_more_then_lost(tmp_path: Path) -> None:
    killer = Killer("qemu-system-x86_64", "1 s")
    result = one_trial.run_job(QUIET, tmp_path, killer)
    assert (result.verdict, result.tries) == (Verdict.LOST, 2)
    assert result.reason.startswith("guest: QEMU ended with status -9: ")
    assert len(killer.killed) == len(killer.folders) == 2
    assert killer.left_nothing()


def test_a_trial_that_is_lost_once_says_what_its_second_try_said(tmp_path: Path) -> None:
    killer = Killer("qemu-system-x86_64", "boots", most=1)
    result = one_trial.run_job(QUIET, tmp_path, killer)
    assert (result.verdict, result.tries) == (Verdict.SURVIVED, 2)
    assert killer.left_nothing()


def test_a_server_that_dies_is_no_word_about_the_kernel(tmp_path: Path) -> None:
    killer = Killer("nbdkit", "1 s")
    result = once(tmp_path / "bundle", killer)
    assert (result.verdict, result.reason) == (Verdict.LOST, "server: its process ended during the trial")
    assert result.diagnosis is not None
    assert "The server's process has ended" in result.diagnosis
    assert '"server_state": ""' in (tmp_path / "bundle" / "wire.json").read_text()
    assert killer.left_nothing()


def test_a_far_side_that_dies_loses_the_trial(tmp_path: Path) -> None:
    killer = Killer("tidegate.rig.far_side", "1 s")
    result = once(tmp_path, killer)
    assert result.verdict is Verdict.LOST
    assert killer.left_nothing()


def test_a_guest_that_never_comes_up_is_lost_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_trial, "BOOT_S", 8.0)
    killer = Killer("nobody", "boots")
    start = time.monotonic()
    result = once(tmp_path, killer, append="rdinit=/bin/cat")  # it reads the console for ever
    assert (result.verdict, result.tries) == (Verdict.LOST, 1)
    assert result.reason.startswith("guest: no answer in time")
    assert time.monotonic() - start < 60
    assert killer.seen
    assert killer.left_nothing()


def test_a_kernel_that_panics_at_boot_is_lost_with_its_words(tmp_path: Path) -> None:
    result = once(tmp_path, lambda _: None, append="rdinit=/none root=/dev/none")
    assert result.verdict is Verdict.LOST
    assert "Kernel panic - not syncing: " in result.reason


def test_a_full_disk_for_the_evidence_is_this_machines_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "console.txt"))

    monkeypatch.setattr(evidence, "gather", full)
    monkeypatch.setattr(one_trial, "pressed", lambda *_: (Verdict.WEDGED, "a test"))
    killer = Killer("nobody", "connects")
    with pytest.raises(Lacking, match=r"console\.txt: cannot be written \(No space left on device\)"):
        once(tmp_path, killer)
    assert killer.left_nothing()


def test_qemu_without_room_is_told_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 100 << 20

    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: Full)  # type: ignore[attr-defined]
    with pytest.raises(
        Lacking, match=r"has 100 MiB free, and a trial keeps its \d+ MiB of guest memory there"
    ):
        one_trial.run_job(QUIET, tmp_path)
