"""Walking what is wanted: what becomes of each path, on a tree that answers as the kernel does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tidegate.host import walk as walking
from tidegate.host.record import Record, Status, status
from tidegate.host.walk import Disk, Walk


class Tree:
    """Files by path; a number instead of a text is the error that looking gives, a pair a link."""

    def __init__(self, **files: bytes | int | tuple[str]) -> None:
        self.files = {path.replace("__", "/"): data for path, data in files.items()}
        self.asked: list[str] = []

    def names(self, folder: str) -> list[str]:
        data = self.files.get(folder)
        if isinstance(data, int):
            raise OSError(data, os.strerror(data))
        prefix = f"{folder}/" if folder else ""
        found = {path[len(prefix) :].split("/")[0] for path in self.files if path.startswith(prefix)}
        if not found:
            raise OSError(errno.ENOENT, "No such file or directory")
        return list(found)

    def look(self, path: str) -> tuple[bytes | None, str]:
        self.asked.append(path)
        data = self.files.get(path)
        if isinstance(data, int):
            raise OSError(data, os.strerror(data))
        if isinstance(data, tuple):
            return None, data[0]
        if data is None and not any(one.startswith(f"{path}/") for one in self.files):
            raise OSError(errno.ENOENT, "No such file or directory")
        return data, ""


def walked(tree: Tree, *patterns: str, lists_absence: bool = True) -> Walk:
    walk = Walk(tree, lists_absence=lists_absence)
    for pattern in patterns:
        walk.look_for(pattern)
    return walk


def record_of(walk: Walk) -> Record:
    return Record(
        members=walk.members, kernel="6.12.1", machine="x86_64", taken="", source="", patterns=tuple(walk.patterns)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b"1\n", Status.FOUND),
        (b"", Status.FOUND),
        (("../x",), Status.FOUND),
        (errno.ENOENT, Status.ABSENT),
        (errno.ENODEV, Status.ABSENT),
        (errno.ESRCH, Status.ABSENT),
        (errno.EINVAL, Status.ABSENT),  # how sysfs says that an attribute does not hold
        (errno.EACCES, Status.DENIED),
        (errno.EPERM, Status.DENIED),
        (errno.ENOMEM, Status.DENIED),
        (errno.EFBIG, Status.DAMAGED),
    ],
)
def test_what_becomes_of_a_path(answer: bytes | int | tuple[str], state: Status) -> None:
    member = walked(Tree(proc__swaps=answer), "proc/swaps").members["proc/swaps"]
    assert member.status is state
    assert (member.data, member.target) == (
        answer if isinstance(answer, bytes) else b"",
        answer[0] if isinstance(answer, tuple) else "",
    )


def test_a_star_stands_for_one_name() -> None:
    tree = Tree(sys__block__sda__size=b"1\n", sys__block__sda__x__size=b"2\n", sys__block__sdb__ro=b"0\n")
    walk = walked(tree, "sys/block/*/size")
    assert list(walk.members) == ["sys/block/sda/size"]
    assert "sys/block/sdb/size" not in tree.asked  # its folder was listed
    record = record_of(walk)
    assert status(record, "sys/block/sdb/size") is Status.ABSENT
    assert status(record, "sys/block/sdb/ro") is Status.NOT_HELD


def test_hidden_names_are_passed_over() -> None:
    walk = walked(Tree(run__a=b"1\n", **{"run__.b": b"2\n"}), "run/*", "run/.b")
    assert sorted(walk.members) == ["run/.b", "run/a"]


def test_a_folder_that_may_not_be_listed_leaves_all_below_it_unknown() -> None:
    walk = walked(Tree(sys__class__nvme=errno.EACCES), "sys/class/nvme/*/address")
    assert walk.members["sys/class/nvme"].status is Status.DENIED
    assert status(record_of(walk), "sys/class/nvme/nvme0/address") is Status.DENIED


def test_a_folder_itself_is_no_member() -> None:
    assert not walked(Tree(sys__block__sda__size=b"1\n"), "sys/block", "sys/block/*").members


def test_what_is_missing_elsewhere_says_nothing() -> None:
    assert not walked(Tree(proc__swaps=b"x\n"), "proc/drbd", lists_absence=False).members


def test_more_than_a_record_can_hold_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "TOTAL_BYTES_MAX", 10)
    members = walked(Tree(proc__a=b"12345678\n", proc__b=b"12345678\n"), "proc/a", "proc/b").members
    assert [one.status for one in members.values()] == [Status.FOUND, Status.DAMAGED]
    assert "in all" in members["proc/b"].detail


def test_more_paths_than_a_record_can_hold_leave_nothing_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MEMBERS_MAX", 103)  # a hundred are kept free
    files = {f"sys__block__sd{letter}__size": b"1\n" for letter in "abcdefgh"}
    walk = walked(Tree(**files), "sys/block/*/size")
    assert len(walk.members) == 4
    assert walk.members["sys"].status is Status.DAMAGED
    assert status(record_of(walk), "sys/block/sdh/size") is Status.DAMAGED
    assert status(record_of(walk), "sys/block/sda/size") is Status.FOUND


def test_of_the_kernels_command_line_only_some_words_are_kept() -> None:
    text = b"BOOT_IMAGE=/vmlinuz root=/dev/vda1 secret=hunter2 cgroup.memory=nosocket quiet swiotlb=force\n"
    walk = Walk(Tree(proc__cmdline=text))
    for _ in walk.look_for_all():
        pass
    member = walk.members["proc/cmdline"]
    assert member.data == b"root=/dev/vda1 cgroup.memory=nosocket swiotlb=force\n"
    assert member.detail == "in part"


def test_of_configuration_only_some_lines_are_kept() -> None:
    tree = Tree(
        **{
            "etc__iscsi__iscsid.conf": b"node.startup = manual\nnode.session.auth.password = hunter2\n",
            "etc__iscsi__nodes__iqn.x__10.0.0.1,3260,1__default": b"node.conn[0].timeo.noop_out_timeout = 5\nx = y\n",
            "var__lib__kubelet__config.yaml": b"kind: KubeletConfiguration\ntoken: hunter2\n",
            "etc__systemd__system__a.mount": b"[Mount]\nWhat=/dev/nbd0\nEnvironment=KEY=hunter2\n",
        }
    )
    walk = Walk(tree)
    for _ in walk.look_for_all():
        pass
    found = {path: one.data for path, one in walk.members.items() if one.status is Status.FOUND}
    assert found == {
        "etc/iscsi/iscsid.conf": b"node.startup = manual\n",
        "etc/iscsi/nodes/iqn.x/10.0.0.1,3260,1/default": b"node.conn[0].timeo.noop_out_timeout = 5\n",
        "var/lib/kubelet/config.yaml": b"kind: KubeletConfiguration\n",
        "etc/systemd/system/a.mount": b"[Mount]\nWhat=/dev/nbd0\n",
    }


def test_files_of_a_real_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/a").write_bytes(b"x" * 200_000)  # more than one read
    (tmp_path / "proc/b").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "proc/c")  # must not be waited for
    disk = Disk(str(tmp_path))
    assert disk.look("proc/a") == (b"x" * 200_000, "")
    assert disk.look("proc/b") == (None, "/nowhere")
    assert disk.look("proc/c") == (None, "")
    monkeypatch.setattr(walking, "MEMBER_BYTES_MAX", 1000)
    with pytest.raises(OSError, match="more than 1000 bytes"):
        disk.look("proc/a")
