"""The running host as a record: what it holds, and that nothing is done to the host."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.host import live, netlink, sock_diag
from tidegate.host import netlink_format as form
from tidegate.host.archive import save_record
from tidegate.host.opening import open_record
from tidegate.host.record import Record, Status, covers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")


@pytest.fixture(scope="module")
def record() -> Record:
    return live.read_live()


def test_what_every_host_has_is_found(record: Record) -> None:
    for path in ("proc/zoneinfo", "proc/meminfo", "proc/self/mountinfo", "proc/sys/kernel/osrelease"):
        assert record.members[path].status is Status.FOUND
    assert record.kernel == os.uname().release
    assert record.complete
    assert all(path == member.path for path, member in record.members.items())


def test_everything_in_it_was_asked_for(record: Record) -> None:
    explicit = {path for path in record.members if not covers(record.patterns, path)}
    unasked = {
        path
        for path in explicit
        if not path.startswith(("netlink/", "sys/fs/cgroup/", "dev/")) and "*" in path
    }
    assert not unasked


def test_an_ordinary_host_takes_little_space(record: Record, tmp_path: Path) -> None:
    assert save_record(record, tmp_path / "a.tar.xz") < 300_000
    assert open_record(tmp_path / "a.tar.xz").members == record.members


def test_sockets_have_owners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        record = live.read_live()
        inode = os.fstat(one.fileno()).st_ino
        links = {path for path, member in record.members.items() if member.target == f"socket:[{inode}]"}
        assert links == {f"proc/{os.getpid()}/fd/{one.fileno()}"}


def test_a_socket_that_is_gone_is_not_taken_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        members = {one.path: one for one in netlink.read_netlink({})}
    ghost = json.loads(members[form.SOCKETS].data)["sockets"][0] | {"inode": 1, "local_port": 1}
    answer = form.decode(members[form.SOCKETS].data, form.Sockets)
    with_ghost = form.Sockets([*answer.sockets, form.Socket(**ghost)])
    members[form.SOCKETS] = type(members[form.SOCKETS])(
        path=form.SOCKETS, status=Status.FOUND, data=form.encode(with_ghost)
    )
    settled = netlink.settled(members, frozenset())
    assert settled is not None
    left = {one.inode for one in form.decode(settled.data, form.Sockets).sockets}
    assert 1 not in left
    assert left == {one.inode for one in sock_diag.sockets().sockets} & left
    assert netlink.settled(members, frozenset({1} | {one.inode for one in answer.sockets})) is None


_READS_ONLY = """
import os, sys
bad = []
def hook(event, words):
    if event == "open" and isinstance(words[2], int) and words[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        bad.append((event, words))
    if event in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.remove", "os.rename",
                 "os.mkdir", "os.chmod", "os.kill", "socket.connect"}:
        bad.append((event, words))
sys.addaudithook(hook)
from tidegate.host.live import read_live
record = read_live()
bad = [one for one in bad if not str(one[1][0]).endswith(".pyc") and "__pycache__" not in str(one[1])]
print(bad, len(record.members))
sys.exit(bool(bad))
"""


def test_it_only_reads() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", _READS_ONLY], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
def test_an_ordinary_user_reads_what_it_may(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    place = tmp_path / "mine"
    place.mkdir()
    os.chown(place, 65534, 65534)
    ours = Path(tempfile.gettempdir()).resolve()
    for folder in (one for one in (tmp_path, *tmp_path.parents) if ours in (one, *one.parents)):
        if folder.stat().st_mode & 0o001 == 0 and folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    code = (
        "import os, sys; from pathlib import Path;"
        "import tidegate.host.live as live, tidegate.host.archive as a, tidegate.host.daemons;"
        "import pyroute2, tidegate.host.netlink; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "a.save_record(live.read_live(), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-B", "-c", code, str(place / "r.tar.xz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    record = open_record(place / "r.tar.xz")
    assert record.members["proc/zoneinfo"].status is Status.FOUND
    assert record.members["proc/1/ns/net"].status is Status.DENIED
    assert record.members["proc/pagetypeinfo"].status in {Status.DENIED, Status.ABSENT}


@pytest.mark.root
@pytest.mark.parametrize("name", ["r.tar.xz", "folder"])
def test_a_place_that_may_not_be_looked_into_is_one_line(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    tmp_path.chmod(0o700)
    code = (
        "import os, sys; from pathlib import Path; from tests.host.test_archive import made_record;"
        "import tidegate.host.archive as a, tidegate.errors as e, tempfile; os.setgid(65534); os.setuid(65534)\n"
        "try: a.save_record(made_record(), Path(sys.argv[1]))\n"
        "except e.Lacking as error: print(error)"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path / "closed" / name)]
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=top)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert done.stdout.count("\n") == 1


def test_another_system_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(Lacking, match="only Linux can be read"):
        live.read_live()


_WITHOUT_NETLINK = """
import sys
sys.modules["pyroute2"] = None
from tidegate.host.live import read_live
record = read_live()
states = {path: one.status.value for path, one in record.members.items() if path.startswith("netlink/")}
assert set(states.values()) == {"absent"}, states
assert record.members["proc/net/tcp"].status.value == "found"
"""


def test_without_netlink_the_rest_is_read() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_NETLINK], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


_ELSEWHERE = """
import sys
for name in ("pyroute2", "fcntl", "termios", "resource", "grp", "pwd"):
    sys.modules[name] = None
import importlib, pkgutil, tidegate.host
for one in pkgutil.walk_packages(tidegate.host.__path__, "tidegate.host."):
    importlib.import_module(one.name)
"""


def test_nothing_of_linux_is_needed_to_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_tree_says_nothing_of_the_machine_that_reads_it(tmp_path: Path) -> None:
    for path, text in {"proc/swaps": "Filename\n", "sys/block/vda/size": "1\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    record = open_record(tmp_path)
    assert (record.kernel, record.machine, record.complete) == ("", "", False)
    assert record.members["sys/block/vda/size"].data == b"1\n"
    assert not any(path.startswith("netlink/") for path in record.members)
