"""Which processes a record holds, and how much of each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidegate.host import netlink_format as form
from tidegate.host.holders import Inodes, inodes_of, take_processes
from tidegate.host.record import Status
from tidegate.host.walk import Disk, Walk

PF_KTHREAD = 0x00200000


class Tree:
    """A made /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()

    def process(
        self,
        pid: int,
        name: str,
        *files: str,
        parent: int = 1,
        flags: int = 0,
        cgroup: str = "/",
        command: str = "",
    ) -> None:
        folder = self.root / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        for number, target in enumerate(files):
            (folder / "fd" / str(number)).symlink_to(target)
        stat = f"{pid} ({name}) S {parent} 0 0 0 0 {flags} " + "1 " * 45 + "\n"
        (folder / f"task/{pid}").mkdir(parents=True)
        texts = {"stat": stat, f"task/{pid}/stat": stat, "comm": f"{name}\n", "status": f"Name:\t{name}\n"}
        texts |= {"cgroup": f"0::{cgroup}\n", "cmdline": command.replace(" ", "\0"), "environ": "SECRET=x"}
        for path, text in texts.items():
            (folder / path).write_text(text)

    def taken(self, inodes: Inodes | None = None, walk: Walk | None = None) -> Walk:
        walk = walk or Walk(Disk(str(self.root)))
        take_processes(walk, str(self.root), inodes)
        return walk


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def inodes(*every: int, serving: tuple[int, ...] = ()) -> Inodes:
    return Inodes(every=frozenset((*every, *serving)), serving=frozenset(serving))


def test_of_a_process_with_a_socket_name_and_sockets_are_kept(tree: Tree) -> None:
    tree.process(7, "a ) b", "socket:[11]", "socket:[12]", "/etc/passwd", "pipe:[3]")
    members = tree.taken(inodes(11)).members
    assert {path for path in members if path.startswith("proc/7")} == {
        "proc/7/stat", "proc/7/comm", "proc/7/fd", "proc/7/fd/0",
    }  # fmt: skip
    assert members["proc/7/fd/0"].target == "socket:[11]"


def test_where_netlink_told_nothing_every_socket_is_kept(tree: Tree) -> None:
    tree.process(7, "web", "socket:[11]", "socket:[12]")
    assert {"proc/7/fd/0", "proc/7/fd/1"} <= tree.taken(None).members.keys()


def test_processes_without_such_sockets_are_not_in_a_record(tree: Tree) -> None:
    tree.process(7, "shell", "socket:[12]", "/dev/null")
    assert not tree.taken(inodes(11)).members


def test_kernel_threads_are_not_in_a_record(tree: Tree) -> None:
    tree.process(7, "iscsid", "socket:[11]", flags=PF_KTHREAD)
    assert not tree.taken(inodes(11)).members


def test_owners_are_told(tree: Tree) -> None:
    tree.process(7, "web", "socket:[11]", "socket:[12]")
    tree.process(8, "db", "socket:[13]")
    assert take_processes(Walk(Disk(str(tree.root))), str(tree.root), inodes(11, 13, 14)) == {11, 13}


@pytest.mark.parametrize(
    ("name", "files"),
    [("iscsid", ()), ("sshfs", ()), ("anything", ("/dev/fuse",)), ("loader", ("/dev/ublkc0",)), ("kubelet", ())],
)  # fmt: skip
def test_of_daemons_in_the_path_all_is_kept(tree: Tree, name: str, files: tuple[str, ...]) -> None:
    tree.process(7, name, *files, cgroup="/system.slice/x.service")
    (tree.root / "sys/fs/cgroup/system.slice/x.service").mkdir(parents=True)
    (tree.root / "sys/fs/cgroup/system.slice/x.service/memory.max").write_text("max\n")
    members = tree.taken(inodes()).members
    assert {"proc/7/status", "proc/7/cgroup", "proc/7/task/7/stat"} <= members.keys()
    assert members["sys/fs/cgroup/system.slice/x.service/memory.max"].data == b"max\n"
    assert members["sys/fs/cgroup/system.slice/memory.max"].status is Status.ABSENT
    assert "proc/7/environ" not in members


def test_who_set_a_device_up_is_in_the_path(tree: Tree) -> None:
    tree.process(7, "myclient")
    walk = Walk(Disk(str(tree.root)))
    walk.put("sys/block/nbd0/pid", Status.FOUND, data=b"7\n")
    assert "proc/7/status" in tree.taken(inodes(), walk).members


def test_who_listens_at_a_port_of_storage_is_in_the_path(tree: Tree) -> None:
    tree.process(7, "myserver", "socket:[11]")
    tree.process(8, "web", "socket:[12]")
    members = tree.taken(inodes(12, serving=(11,))).members
    assert "proc/7/status" in members
    assert "proc/8/status" not in members


def test_a_child_that_talks_for_a_daemon_is_in_the_path(tree: Tree) -> None:
    tree.process(7, "sshfs")
    tree.process(8, "ssh", "socket:[11]", parent=7)
    tree.process(9, "ssh", "socket:[12]", parent=1)
    members = tree.taken(inodes(11, 12)).members
    assert "proc/8/status" in members
    assert "proc/9/status" not in members


def test_of_a_command_line_only_known_options_are_kept(tree: Tree) -> None:
    tree.process(7, "nbd-client", command="nbd-client -N hunter2 -swap 10.0.0.1 /dev/nbd0")
    tree.process(8, "iscsid", command="iscsid --secret hunter2")
    members = tree.taken(inodes()).members
    assert members["proc/7/cmdline"].data == b"nbd-client\0-swap\x0010.0.0.1\0/dev/nbd0\0"
    assert "proc/8/cmdline" not in members
    assert not any(b"hunter2" in member.data for member in members.values())


def test_what_may_not_be_seen_is_denied(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.process(7, "web", "socket:[11]")
    listing = os.listdir

    def refuse(path: str) -> list[str]:
        if path.endswith("/7/fd"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "listdir", refuse)
    members = tree.taken(inodes(11)).members
    assert members["proc/7/fd"].status is Status.DENIED
    assert members["proc/7/stat"].status is Status.FOUND


def test_a_process_that_is_gone_is_passed_over(tree: Tree) -> None:
    tree.process(7, "iscsid", "socket:[11]")
    (tree.root / "proc/7/stat").unlink()
    tree.process(8, "iscsid", "socket:[12]")
    (tree.root / "proc/8/status").unlink()
    (tree.root / "proc/9").mkdir()
    members = tree.taken(inodes(11, 12)).members
    assert not any(path.startswith(("proc/7", "proc/9")) for path in members)
    assert members["proc/8/status"].status is Status.ABSENT


def test_one_process_stands_for_each_network_namespace(tree: Tree) -> None:
    for pid, place in ((7, 1), (8, 1), (9, 2)):
        tree.process(pid, "shell")
        (tree.root / f"proc/{pid}/ns").mkdir()
        (tree.root / f"proc/{pid}/ns/net").symlink_to(f"net:[{place}]")
    members = tree.taken(inodes()).members
    assert {path: member.target for path, member in members.items()} == {
        "proc/7/ns/net": "net:[1]",
        "proc/9/ns/net": "net:[2]",
    }


def test_the_inodes_that_matter_come_from_netlink_and_from_tables(tmp_path: Path) -> None:
    walk = Walk(Disk(str(tmp_path)))
    assert inodes_of(walk) is None
    one = form.Socket(
        kind="tcp",
        family="inet",
        state="LISTEN",
        local="::",
        local_port=2049,
        remote="::",
        remote_port=0,
        inode=11,
        uid=0,
    )
    walk.put(form.SOCKETS, Status.FOUND, data=form.encode(form.Sockets([one])))
    packet = form.PacketSockets([form.PacketSocket(inode=12, protocol=3, index=0)])
    walk.put(form.PACKET, Status.FOUND, data=form.encode(packet))
    walk.put("proc/net/raw", Status.FOUND, data=b" sl head\n  1: 0:1 0:0 07 0:0 00:0 0 0 0 13 2 x 0\n")
    assert inodes_of(walk) == inodes(12, 13, serving=(11,))
