"""sos reports: a real one, as an archive and as a directory, and what commands print elsewhere."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.check import check_record
from tidegate.errors import BadInput
from tidegate.host import netlink_format as form
from tidegate.host import sos_commands
from tidegate.host.archive import save_record
from tidegate.host.opening import open_record
from tidegate.host.record import Record, Status, status
from tidegate.result import Verdict

REPORT = Path(__file__).resolve().parent.parent / "recorded/sos-nbd-swap.tar.xz"


@pytest.fixture(scope="module")
def record() -> Record:
    return open_record(REPORT)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sos")
    with tarfile.open(REPORT) as tar:
        # Python before 3.11.4 has no filters; our own report needs none.
        tar.extraction_filter = getattr(tarfile, "tar_filter", None)
        tar.extractall(folder)
    return next(folder.iterdir())


def test_what_sos_keeps_as_it_is(record: Record) -> None:
    assert record.members["proc/zoneinfo"].data.startswith(b"Node 0, zone")
    assert record.members["proc/swaps"].data.splitlines()[1].startswith(b"/dev/nbd0")
    assert record.members["sys/block/nbd0"].target == "../devices/virtual/block/nbd0"
    assert record.members["sys/block/nbd0/queue/nr_requests"].data == b"128\n"
    assert (
        record.members["proc/net/route"].status is Status.FOUND
    )  # through proc/net -> self/net -> the process
    assert (record.kernel, record.machine) == ("6.12.117+deb13-cloud-amd64", "x86_64")
    assert record.taken == "2026-11-23T22:34:39Z"
    assert not record.complete


def test_what_commands_printed_is_as_from_netlink(record: Record) -> None:
    sockets = form.decode(record.members[form.SOCKETS].data, form.Sockets)
    assert sockets.complete
    nbd = next(one for one in sockets.sockets if one.remote_port == 10809)
    assert (nbd.local, nbd.local_port, nbd.remote, nbd.state) == ("10.0.2.15", 35788, "10.0.2.2", "ESTAB")
    assert (nbd.inode, nbd.rcvbuf, nbd.sndbuf, nbd.drops) == (800, 2041671, 46080, 0)
    links = {one.name: one for one in form.decode(record.members[form.LINKS].data, form.Links).links}
    assert (links["ens6"].mtu, links["ens6"].qdisc, links["ens6"].up) == (1500, "fq_codel", True)
    assert links["ens6"].address == "52:54:00:12:34:56"
    devices = {one.name: one for one in form.decode(record.members[form.ETHTOOL].data, form.Devices).devices}
    assert (devices["ens6"].driver, devices["ens6"].rx, devices["ens6"].channels_combined) == (
        "virtio_net",
        256,
        1,
    )


def test_what_it_does_not_hold_is_never_absent(record: Record) -> None:
    assert all(member.status is not Status.ABSENT for member in record.members.values())
    for path in ("sys/class/nvme/nvme0/address", "proc/1/fd/3", "netlink/routes.json"):
        assert status(record, path) is Status.NOT_HELD


def test_it_is_judged_and_what_is_missing_is_named(record: Record) -> None:
    result = check_record(record)
    assert result.verdict is Verdict.AT_RISK
    assert [(one.name, one.transport) for one in result.users] == [("swap /dev/nbd0", "nbd")]
    assert any(gap.path == "sys/block/nbd0/pid" and gap.status == "not held" for gap in result.gaps)


def test_directory_and_archive_say_the_same(record: Record, unpacked: Path, tmp_path: Path) -> None:
    folder = open_record(unpacked)
    assert folder.members == record.members
    packed = tmp_path / "report.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(unpacked, unpacked.name)
    assert open_record(packed).members == record.members


def test_a_saved_report_says_the_same(record: Record, tmp_path: Path) -> None:
    save_record(record, tmp_path / "a.tar.xz")
    again = open_record(tmp_path / "a.tar.xz")
    assert again.members == record.members
    assert not again.complete
    assert check_record(again).findings == check_record(record).findings


def report(*members: tuple[str, bytes | str], damage: Callable[[bytes], bytes] = bytes) -> bytes:
    """An archive: bytes are files, a text is the target of a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            about = tarfile.TarInfo(f"sosreport-x-2026-11-23-abc/{name}")
            if isinstance(data, str):
                about.type, about.linkname = tarfile.SYMTYPE, data
                tar.addfile(about)
            else:
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    return damage(buffer.getvalue())


SWAPS = ("proc/swaps", b"Filename\n")


@pytest.mark.parametrize(
    "data",
    [
        report(),
        report(("var/log/messages", b"x")),
        report(SWAPS, ("proc/../../../etc/x", b"x")),
        report(SWAPS, damage=lambda data: data[:700]),
    ],
    ids=["empty", "neither proc nor sys", "traversal", "cut"],
)
def test_bad_reports_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r.tar").write_bytes(data)
    with pytest.raises(BadInput) as caught:
        open_record(tmp_path / "r.tar")
    assert str(tmp_path / "r.tar") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "links",
    [
        [("sys/block/a", "../block/b"), ("sys/block/b", "../block/a")],
        [("sys/block/a", "a")],
        [("sys/block/a", "../../../../etc")],
        [("proc/self", "self"), ("proc/net", "self/net")],
        [("sys/class/net", "../class/net/eth0")],
    ],
)
def test_links_that_lead_round_or_out_are_followed_nowhere(
    tmp_path: Path, links: list[tuple[str, str]]
) -> None:
    (tmp_path / "r.tar").write_bytes(report(SWAPS, *links))
    record = open_record(tmp_path / "r.tar")
    assert not any(b"root:" in member.data for member in record.members.values())


def test_links_of_a_directory_are_never_followed_out(tmp_path: Path) -> None:
    folder = tmp_path / "sosreport-x"
    for name in ("sos_commands", "proc", "sys/block"):
        (folder / name).mkdir(parents=True)
    (folder / "proc/swaps").write_text("Filename\n")
    (tmp_path / "outside").write_text("secret\n")
    (folder / "proc/meminfo").symlink_to(tmp_path / "outside")
    (folder / "proc/self").symlink_to(tmp_path)
    record = open_record(folder)
    assert not any(b"secret" in member.data for member in record.members.values())
    assert record.members["proc/swaps"].status is Status.FOUND


def test_secrets_of_a_report_stay_out(tmp_path: Path) -> None:
    texts = {
        "etc/fstab": b"//s/x /m cifs password=hunter2 0 0\n",
        "proc/7/environ": b"KEY=hunter2",
        "etc/iscsi/iscsid.conf": b"node.startup = manual\nnode.session.auth.password = hunter2\n",
        "proc/cmdline": b"root=/dev/vda1 secret=hunter2\n",
        "sys/class/iscsi_session/session1/password": b"hunter2\n",
    }
    (tmp_path / "r.tar").write_bytes(report(SWAPS, *texts.items()))
    record = open_record(tmp_path / "r.tar")
    assert not any(b"hunter2" in member.data for member in record.members.values())
    assert record.members["etc/iscsi/iscsid.conf"].data == b"node.startup = manual\n"


def answers(**outputs: str) -> dict[str, bytes]:
    names = ("ss", "addresses", "links", "neighbours")
    return sos_commands.netlink_answers(
        **{name: outputs.get(name) for name in names},
        drivers={},
        rings={},
        channels={},
        features={},
    )


SS = """\
Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process
udp   UNCONN 0      0      127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=5,fd=14)) uid:101 ino:21 sk:2 <->
\t skmem:(r0,rb212992,t0,tb212992,f0,w0,o0,bl0,d7)
tcp   LISTEN 0      64     [::]:2049 [::]:* ino:22 sk:3 v6only:1 <->
\t skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0) cubic
tcp   ESTAB  0      0      [fe80::1]%eth0:22 [fe80::2]%eth0:40000 users:(("sshd",pid=6,fd=4),("sshd",pid=7,fd=4)) ino:23 <->
\t skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8,d9) cubic
tcp   ESTAB  0      0      [::ffff:10.0.0.1]:111 [::ffff:10.0.0.2]:222 ino:24 <->
tcp   LISTEN 0      5      *:80 *:* ino:25 <->
u_str ESTAB  0      0      * 1 * 2 users:(("x",pid=1,fd=1))
"""  # noqa: E501 - as ss prints it


def test_lines_of_ss() -> None:
    sockets = form.decode(answers(ss=SS)[form.SOCKETS], form.Sockets)
    assert sockets.complete
    shown = [
        (one.kind, one.family, one.state, one.local, one.remote_port, one.inode) for one in sockets.sockets
    ]
    assert shown == [
        ("udp", "inet", "UNCONN", "127.0.0.53", 0, 21),
        ("tcp", "inet6", "LISTEN", "::", 0, 22),
        ("tcp", "inet6", "ESTAB", "fe80::1", 40000, 23),
        ("tcp", "inet6", "ESTAB", "::ffff:10.0.0.1", 222, 24),
        ("tcp", "inet", "LISTEN", "0.0.0.0", 0, 25),
    ]
    memory = sockets.sockets[2]
    assert (memory.rmem, memory.rcvbuf, memory.sndbuf, memory.drops) == (1, 2, 4, 9)
    assert sockets.sockets[0].uid == 101
    assert sorted(sos_commands.owners(SS)) == [(5, 14, 21), (6, 4, 23), (7, 4, 23)]


@pytest.mark.parametrize(
    "output",
    [SS[:700], SS + "tcp ESTAB 0 0 garbled 10.0.0.2:1\n", SS + "tcp ESTAB\n"],
    ids=["cut", "garbled", "short"],
)  # fmt: skip
def test_what_ss_did_not_say_whole_is_not_complete(output: str) -> None:
    assert not form.decode(answers(ss=output)[form.SOCKETS], form.Sockets).complete


LINKS = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0 numtxqueues 1 numrxqueues 1
2: eth0: <BROADCAST,MULTICAST,SLAVE,UP,LOWER_UP> mtu 9000 xdpgeneric/id:12 qdisc mq master bond0 state UP mode DEFAULT
    link/ether 52:54:00:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0 numtxqueues 8 numrxqueues 8
    bond_slave state ACTIVE
3: eth1: <BROADCAST,MULTICAST> mtu 1500 xdp qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 52:54:00:00:00:02 brd ff:ff:ff:ff:ff:ff numtxqueues 1 numrxqueues 1
4: bond0: <BROADCAST,MULTICAST,MASTER,UP,LOWER_UP> mtu 9000 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 52:54:00:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0
    bond mode 802.3ad miimon 100
5: bond0.7@bond0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9000 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 52:54:00:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0
    vlan protocol 802.1Q id 7 <REORDER_HDR>
6: veth1@if9: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT link-netnsid 0
    link/ether 52:54:00:00:00:03 brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 0
    veth numtxqueues 1 numrxqueues 1
"""


def test_lines_of_ip_link() -> None:
    links = {one.name: one for one in form.decode(answers(links=LINKS)[form.LINKS], form.Links).links}
    assert list(links) == ["lo", "eth0", "eth1", "bond0", "bond0.7", "veth1"]
    assert {name: one.xdp for name, one in links.items() if one.xdp != "none"} == {
        "eth0": "generic",
        "eth1": "native",
    }
    assert (links["eth0"].mtu, links["eth0"].qdisc, links["eth0"].master, links["eth0"].kind) == (
        9000,
        "mq",
        4,
        "",
    )
    assert (links["bond0"].kind, links["bond0"].bond_mode) == ("bond", "802.3ad")
    assert (links["bond0.7"].kind, links["bond0.7"].lower) == ("vlan", 4)
    assert (links["veth1"].kind, links["veth1"].lower, links["veth1"].peer_elsewhere) == ("veth", None, True)
    assert [one.up for one in links.values()] == [True, True, False, True, True, True]


def test_lines_of_ip_addr_and_neigh() -> None:
    made = answers(
        addresses="1: lo    inet 127.0.0.1/8 scope host lo\n2: e    inet6 fe80::1/64 scope link \nnonsense\n",
        neighbours="10.0.0.2 dev e lladdr 02:00:00:00:00:02 used 1/2/3 probes 1 REACHABLE\n10.0.0.3 dev e FAILED\n",
    )
    addresses = form.decode(made[form.ADDRESSES], form.Addresses).addresses
    assert [(one.address, one.prefix, one.index) for one in addresses] == [
        ("127.0.0.1", 8, 1),
        ("fe80::1", 64, 2),
    ]
    near = form.decode(made[form.NEIGHBOURS], form.Neighbours).neighbours
    assert [(one.address, one.state, one.lladdr) for one in near] == [
        ("10.0.0.2", "REACHABLE", "02:00:00:00:00:02"),
        ("10.0.0.3", "FAILED", ""),
    ]
