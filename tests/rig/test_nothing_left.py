"""Trials leave nothing behind: no process, file, socket, namespace, thread or memory. TIDEGATE_TRIALS: how many."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidegate.rig import kernels, places
from tidegate.rig.far_side import PORTS
from tidegate.rig.tools import missing
from tidegate.trial import Job

MARK = "TIDEGATE_TEST_MARK"  # in the environment of all that a trial starts, whoever its parent is by now
MOST_KIB = 1024  # by which the process that makes trials may grow after its second
CASE = """
claim = "Nothing: the least trial that there is."
source = "test"

[machine]
pages = 2048

[[arm]]
name = "bare"
design = "bare"
expect.simulate = "SEEN"
why = "Not run."

[trial]
hogs = 1
hog_mib = 1

[[trial.arm]]
name = "quiet"
quiet = true
why = "No storm."
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What could be left of trials, as this process and /proc see it."""

    processes: tuple[str, ...]  # command lines of all with the mark, but this one
    namespaces: frozenset[str]  # network namespaces that those processes and this one are in
    named_namespaces: tuple[str, ...]  # kept without a process
    files: tuple[str, ...]
    sockets: tuple[str, ...]  # UNIX sockets below our folders
    ports: frozenset[int]  # of servers, listened on outside a trial's namespace
    handles: int
    threads: int


def left(mark: str, *folders: Path) -> Left:
    """What is there now."""
    processes, spaces = [], {own_space()}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes() and entry.name != str(
                os.getpid()
            ):
                processes.append(
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                spaces.add(str((entry / "ns/net").readlink()))
    named = Path("/run/netns")
    return Left(
        processes=tuple(processes),
        namespaces=frozenset(spaces),
        named_namespaces=tuple(sorted(one.name for one in named.iterdir())) if named.is_dir() else (),
        files=tuple(sorted(str(path) for folder in folders for path in folder.rglob("*"))),
        sockets=tuple(
            line
            for line in Path("/proc/net/unix").read_text().splitlines()
            if any(str(one) in line for one in folders)
        ),
        ports=frozenset(listened_on() & set(PORTS.values())),
        handles=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
    )


def own_space() -> str:
    """The network namespace that this process is in."""
    return str(Path("/proc/self/ns/net").readlink())


def listened_on() -> set[int]:
    """TCP ports of this process's own network namespace that somebody listens on."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def own_kib() -> int:
    """This process's anonymous memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("RssAnon:")).split()[1])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Folders of our own in place of /dev/shm and /tmp, so that other people's trials are not seen."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with tempfile.TemporaryDirectory(prefix="tidegate-left-", dir=places.TMPFS) as memory:
        monkeypatch.setattr(places, "TMPFS", Path(memory))
        yield Path(memory), temporary


@pytest.mark.vm
@pytest.mark.slow
def test_trials_leave_nothing_behind(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidegate.rig.one_trial import run_job

    if absent := missing(("qemu-system-x86_64", "busybox", "gcc", "unshare", "ip", "nbdkit")):
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    if "trixie-cloud" not in {one.name for one in kernels.cached()}:
        pytest.skip("trixie-cloud is not cached here")
    if not places.TMPFS.is_dir():
        pytest.skip(f"no {places.TMPFS} here")
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    case = tmp_path / "empty.toml"
    case.write_text(CASE)
    trials = int(os.environ.get("TIDEGATE_TRIALS", "3"))
    for number in range(trials):
        job = Job(case=str(case), arm="quiet", kernel="trixie-cloud", nic="", transport="", seed=number)
        made = run_job(job, tmp_path / "evidence")
        assert made.verdict == "SURVIVED", made.reason
        now, kib = left(mark, *folders), own_kib()
        if number == 0:  # modules are loaded, caches filled
            assert not now.processes
            assert not now.files
            assert not now.sockets
            assert now.namespaces == {own_space()}
            first = now
        if number <= 1:  # the second meets heaps that the first has broken up
            settled_kib = kib
        assert now == first, f"after trial {number + 1}"
        assert kib - settled_kib < MOST_KIB, f"after trial {number + 1}"
    print(f"{trials} trials: nothing left; grown by {kib - settled_kib} KiB since the second")
