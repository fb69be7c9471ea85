"""The far side in a namespace of its own: its server, its orders, and that nothing of it outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import pool, tools
from tidegate.rig.agent_program import agent_program
from tidegate.rig.far_side import Far
from tidegate.rig.trial_guest import Gone
from tidegate.rig.wire import FarSide, far_side

NEEDED = ("unshare", "setpriv", "ip", "nbdkit", "gcc")
STARTS = """
import sys, time
from tidegate.rig.far_side import Far
from tidegate.rig.wire import far_side
with far_side(Far(folder=sys.argv[1], transport="nbd", size_mib=8, agent=sys.argv[2])) as side:
    side.order("flood", "udp", "address=10.99.0.1", "port=4000", "rate=10", "length=100", "burst=1", "sockets=1")
    print(side.process.pid, flush=True)
    time.sleep(600)
"""


def why_not() -> str:
    if lacking := tools.missing(NEEDED):
        return f"no {', '.join(lacking)} here"
    words = ["unshare", "-n" if os.geteuid() == 0 else "-rn", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no namespace of one's own here: {done.stderr.strip()}"
    return "" if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "no /dev/net/tun here"


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def far(folder: Path) -> Far:
    return Far(folder=str(folder), transport="nbd", size_mib=8, agent=str(agent_program()))


@pytest.fixture
def side(tmp_path: Path) -> Iterator[FarSide]:
    with far_side(far(tmp_path)) as one:
        yield one


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_gone(pids: list[int], within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def state(side: FarSide, wanted: str) -> str:
    """The server's state, when it is the wanted one: a signal takes a moment."""
    until = time.monotonic() + 5
    while (found := side.order("stats")["server"]) != wanted and time.monotonic() < until:
        time.sleep(0.02)
    return str(found)


def test_the_namespace_has_no_way_out(side: FarSide) -> None:
    lines = Path(f"/proc/{side.process.pid}/net/dev").read_text().splitlines()[2:]
    assert {line.split(":")[0].strip() for line in lines} == {"lo", "wire"}
    routes = Path(f"/proc/{side.process.pid}/net/route").read_text().splitlines()[1:]
    assert {line.split()[0] for line in routes} == {"wire"}
    assert "00000000" not in {line.split()[1] for line in routes}


def test_a_server_stopped_and_let_go_on_and_killed_is_called_just_that(side: FarSide) -> None:
    assert state(side, "S") in {"S", "R"}
    assert side.server_runs()
    side.order("stop_server")
    assert state(side, "T") == "T"
    assert side.server_runs()
    side.order("go_on_server")
    assert state(side, "S") in {"S", "R"}
    side.order("kill_server")
    assert state(side, "") == ""
    assert not side.server_runs()
    side.order("stop_server")  # nobody is there: no trouble


def test_a_storm_is_sent_and_ends_with_calm(side: FarSide) -> None:
    words = ("udp", "address=10.99.0.1", "port=4000", "rate=1000", "length=100", "burst=4", "sockets=1")
    before = set(pool._below(side.process.pid))
    side.order("flood", *words)
    (sender,) = set(pool._below(side.process.pid)) - before
    assert alive(sender)
    side.order("calm")
    assert all_gone([sender])
    assert side.server_runs()


def test_its_death_is_one_line(side: FarSide) -> None:
    children = pool._below(side.process.pid)
    os.kill(side.process.pid, signal.SIGKILL)
    with pytest.raises(Gone, match=r"^far side: ended: \(it said nothing\)$"):
        side.order("stats")
    assert children
    assert all_gone(children)


def test_it_ends_all_that_it_started(tmp_path: Path) -> None:
    with far_side(far(tmp_path)) as one:
        pids = [one.process.pid, *pool._below(one.process.pid)]
        assert len(pids) >= 2
        assert all(map(alive, pids))
    assert all_gone(pids, within_s=0)


def test_a_stopped_server_is_ended_too(tmp_path: Path) -> None:
    with far_side(far(tmp_path)) as one:
        pids = [one.process.pid, *pool._below(one.process.pid)]
        one.order("stop_server")
    assert all_gone(pids)


def test_a_ctrl_c_is_not_for_it(side: FarSide) -> None:
    os.kill(side.process.pid, signal.SIGINT)
    assert side.server_runs()


def test_it_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", STARTS, str(tmp_path), str(agent_program())]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    first = int(parent.stdout.readline())
    pids = [first, *pool._below(first)]
    assert len(pids) >= 3  # itself, the server, the storm's sender
    parent.kill()
    parent.communicate()
    assert all_gone(pids)


def test_what_it_lacks_is_told_as_lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unshare", "ip", "setpriv"):
        (tmp_path / name).symlink_to(tools.program(name))
    wanted = far(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    no_nbdkit = r"^nbdkit: found no such program, expected Debian's package nbdkit"
    with pytest.raises(Lacking, match=no_nbdkit), far_side(wanted):
        pass
