"""A record becomes a host: memory, links, sockets, daemons; and whatever is altered leaves a gap, never a hole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.host import made as m
from tests.host.losses import losses
from tests.host.made import SERVER, Made, base, nbd, nbd_swap_host, nic, process, swap, tcp
from tests.host.made_variants import VARIANTS

from tidegate.host.facts import Host, link, sysctl_int, sysctl_ints
from tidegate.host.opening import open_record
from tidegate.host.read import read_host
from tidegate.host.record import Member, Record, Status
from tidegate.host.view import host_view, user_view
from tidegate.result import Topic

RECORDED = sorted((Path(__file__).resolve().parents[2] / "hosts").glob("*.tar.xz"))


def read(made: Made) -> Host:
    return read_host(made.record())


# ---- memory, kernel, counters


def test_memory_and_settings() -> None:
    host = read(nbd_swap_host(memory="1G", cpus=4))
    assert host.memory is not None
    assert (host.cpus, host.memory.nodes, host.memory.total_kib) == (4, 1, 1048576)
    assert host.memory.min_free_kib == sysctl_int(host, "vm.min_free_kbytes") == 4096
    assert host.memory.lowmem_reserve_ratio == (256, 256, 32, 0, 0)
    assert host.memory.thp_enabled is False
    assert host.memory.hugepage_kib == 2048
    assert sysctl_ints(host, "net.ipv4.tcp_mem") == (2421, 3228, 4842)
    assert host.counters["sockstat.TCP.mem"] == 10
    assert host.counters["TcpExt.PFMemallocDrop"] == 0
    assert host.counters["vmstat.oom_kill"] == 0


def test_two_nodes() -> None:
    host = read(VARIANTS["two_nodes"]())
    assert host.memory is not None
    assert host.memory.nodes == 2
    assert host.gaps == ()


@pytest.mark.parametrize(
    ("enabled", "size", "expected"),
    [
        ("[always] madvise never", None, True),
        ("always [madvise] never", None, True),
        ("always madvise [never]", None, False),
        ("always madvise [never]", "always [inherit] madvise never", False),
        ("always madvise [never]", "[always] inherit madvise never", True),
    ],
)
def test_transparent_huge_pages(enabled: str, size: str | None, expected: bool) -> None:
    made = base().put("sys/kernel/mm/transparent_hugepage/enabled", enabled)
    if size:
        made.put("sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", size)
    memory = read(made).memory
    assert memory is not None
    assert memory.thp_enabled is expected


def test_a_lost_zone_is_a_gap() -> None:
    made = base()
    text = made.members["proc/zoneinfo"].data.decode()
    made.put("proc/zoneinfo", text.partition("Node 0, zone   Device")[0])
    assert [(gap.path, gap.status, gap.topic) for gap in read(made).gaps] == [
        ("proc/zoneinfo", "damaged", Topic.MEMORY)
    ]


@pytest.mark.parametrize(
    ("release", "version", "banner"),
    [
        ("6.12.117-cloud-amd64", (6, 12, 117), ""),
        (
            "6.1.0-50-amd64",
            (6, 1, 176),
            "Linux version 6.1.0-50-amd64 (gcc Debian 12.2.0-14) #1 SMP Debian 6.1.176-1",
        ),
        ("6.1.0-50-amd64", (6, 1, 0), "Linux version 6.1.0-50-amd64 #1 SMP"),
        ("5.15.0-91-generic", (5, 15, 0), ""),
        ("6.19-rc1", (6, 19, 0), ""),
    ],
)
def test_kernel_version(release: str, version: tuple[int, int, int], banner: str) -> None:
    made = base(release=release)
    if banner:
        made.put("proc/version", banner)
    assert read(made).kernel.version == version


def test_a_release_without_a_version_is_a_gap() -> None:
    assert [gap.topic for gap in read(base(release="hello")).gaps] == [Topic.HOST]


# ---- network


def test_a_nic_with_its_rings_and_what_stands_on_it() -> None:
    host = read(VARIANTS["bond_lacp"]())
    nic_link, bond = link(host, "eth0"), link(host, "bond0")
    assert nic_link is not None
    assert bond is not None
    assert (nic_link.driver, nic_link.ring.slots, nic_link.ring.slots_max, nic_link.ring.queues) == (
        "e1000e",
        256,
        1024,
        1,
    )
    assert (nic_link.upper, bond.lower, bond.bond_mode, bond.driver) == (
        ("bond0",),
        ("eth0", "eth1"),
        "802.3ad",
        "",
    )
    assert (nic_link.threaded, nic_link.rps, nic_link.xdp, nic_link.qdisc) == (
        False,
        False,
        "none",
        "fq_codel",
    )
    assert nic_link.features is not None
    assert nic_link.features["tx-tcp-segmentation"]


def test_stacking_as_rtnetlink_tells_it() -> None:
    """Ports by their master and a VLAN by IFLA_LINK, where sysfs shows no lower_* links."""
    made = VARIANTS["bond_lacp"]()
    for path in [path for path in made.members if "/lower_" in path or "/upper_" in path]:
        del made.members[path]
    assert read(made).users[0].routes[0].nics == ()
    below = {"eth0": {"master": 4}, "eth1": {"master": 4}, "bond0.7": {"lower": 4}}
    made.links = [msgspec.structs.replace(one, **below.get(one.name, {})) for one in made.links]
    assert read(made).users[0].routes[0].nics == ("eth0", "eth1")


def test_a_vlan_whose_device_is_in_another_namespace_leads_nowhere_here() -> None:
    made = base()
    m.net_device(made, "eth0", 2, driver="igb")
    m.net_device(made, "vlan7", 3, kind="vlan")
    made.links = [
        msgspec.structs.replace(one, lower=2, peer_elsewhere=True) if one.name == "vlan7" else one
        for one in made.links
    ]
    m.wire(made, "vlan7")
    nbd(made)
    swap(made, "/dev/nbd0")
    host = read(made)
    assert host.users[0].routes[0].nics == ()
    assert Topic.NETWORK in {gap.topic for gap in host.gaps}


def test_without_netlink_the_tables_of_proc_stand_in() -> None:
    made = nbd_swap_host()
    made.netlink = False
    host = read(made)
    (user,) = host.users
    assert user.routes[0].nics == ("eth0",)
    assert user.routes[0].neighbour_state == "REACHABLE"
    assert user.sockets[0].rcvbuf_bytes is None
    assert {(gap.path, gap.status) for gap in host.gaps} == {
        ("netlink/sockets.json", "cannot be seen"),
        ("netlink/ethtool.json", "cannot be seen"),
    }


def test_the_longest_prefix_wins_and_a_gateway_is_the_neighbour() -> None:
    made = nbd_swap_host(server="192.0.2.7")
    made.netlink = False
    assert read(made).users[0].routes[0].neighbour == m.GATEWAY
    m.net_device(made, "eth1", 3, driver="igb")
    m.route(made, "eth1", "192.0.2.0", 24)
    (route,) = read(made).users[0].routes
    assert (route.device, route.nics, route.neighbour) == ("eth1", ("eth1",), "192.0.2.7")


def test_threaded_napi_and_rps() -> None:
    made = VARIANTS["threaded_napi"]().put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000003")
    found = link(read(made), "eth0")
    assert found is not None
    assert (found.threaded, found.rps) == (True, True)


# ---- sockets


def test_buffers_that_were_set_by_hand() -> None:
    (socket,) = read(nbd_swap_host(sndbuf=262144, rcvbuf=524288)).users[0].sockets
    assert (socket.sndbuf_locked, socket.rcvbuf_locked) == (True, True)


@pytest.mark.parametrize(
    ("sndbuf", "rcvbuf", "expected"),
    [
        (87040, 131072, (False, False)),  # as the kernel made them
        (16384, 1652544, (False, False)),  # first and last of autotuning
        (87040, 262144, (False, None)),  # one alone may be chance
        (87040, 1076419, (False, False)),
        (4194304, 131072, (True, False)),  # above what autotuning may reach
        (46080, 8388608, (False, True)),
    ],
)
def test_buffers_of_autotuning(sndbuf: int, rcvbuf: int, expected: tuple[bool | None, bool | None]) -> None:
    (socket,) = read(nbd_swap_host(sndbuf=sndbuf, rcvbuf=rcvbuf)).users[0].sockets
    assert (socket.sndbuf_locked, socket.rcvbuf_locked) == expected


def test_packet_sockets() -> None:
    (socket,) = read(VARIANTS["packet_socket"]()).packet_sockets
    assert (socket.protocol, socket.interface, socket.rcvbuf_bytes, socket.inode) == (
        0x800,
        2,
        134217728,
        2500,
    )


# ---- daemons


def test_a_client_in_the_path() -> None:
    (daemon,) = read(nbd_swap_host()).daemons
    assert (daemon.pid, daemon.comm, daemon.role, daemon.oom_score_adj, daemon.locked_kib) == (
        480,
        "nbd-client",
        "reconnects",
        -1000,
        1200,
    )
    assert daemon.users == ("swap /dev/nbd0",)
    assert [thread.flags for thread in daemon.threads] == [m.IO_FLUSHER]
    assert (daemon.memory_max, daemon.memory_max_known) == (None, True)


def test_flags_of_each_thread() -> None:
    (daemon,) = read(VARIANTS["ublk_mount"]()).daemons
    assert [(thread.tid, thread.flags) for thread in daemon.threads] == [(910, 0x400000), (911, 0x400000)]
    assert daemon.role == "serves"


def test_the_tightest_limit_of_a_cgroup_and_those_above() -> None:
    (daemon,) = read(VARIANTS["limited_client"]()).daemons
    assert (daemon.memory_max, daemon.memory_max_known) == (16777216, True)
    tighter = VARIANTS["limited_client"]().put("sys/fs/cgroup/system.slice/memory.max", "4096")
    assert read(tighter).daemons[0].memory_max == 4096
    looser = VARIANTS["limited_client"]().put("sys/fs/cgroup/system.slice/memory.max", "1073741824")
    assert read(looser).daemons[0].memory_max == 16777216


@pytest.mark.parametrize("status", [Status.DENIED, Status.DAMAGED, Status.NOT_HELD])
def test_a_limit_that_cannot_be_read_is_not_no_limit(status: Status) -> None:
    path = "sys/fs/cgroup/system.slice/nbd.service/memory.max"
    host = read(VARIANTS["limited_client"]().mark(path, status))
    assert not host.daemons[0].memory_max_known
    assert (path, Topic.DAEMONS) in {(gap.path, gap.topic) for gap in host.gaps}


def test_limits_of_the_old_hierarchy_are_not_known() -> None:
    made = nbd_swap_host().put("proc/480/cgroup", "5:memory:/limited\n0::/")
    host = read(made)
    assert not host.daemons[0].memory_max_known
    assert Topic.DAEMONS in {gap.topic for gap in host.gaps}


def test_a_binary_on_the_very_device_it_serves() -> None:
    made = base()
    nic(made)
    nbd(made)
    swap(made, "/dev/nbd0")
    m.mount(made, "/usr", "ext4", "/dev/nbd0", number="43:0")
    daemon = read(made).daemons[0]
    assert daemon.exe_device == "43:0"
    assert daemon.exe_on_user == "swap /dev/nbd0"
    assert read(nbd_swap_host()).daemons[0].exe_on_user is None


def test_a_binary_on_a_device_that_it_does_not_serve_itself() -> None:
    made = nbd_swap_host()
    process(made, 800, "multipathd", exe="/opt/sbin/multipathd")
    m.mount(made, "/opt", "nfs4", "10.0.2.2:/opt", options="rw,addr=10.0.2.2")
    found = {daemon.comm: daemon.exe_on_user for daemon in read(made).daemons}
    assert found == {"nbd-client": None, "multipathd": "mount /opt"}


def test_small_files_for_single_rules() -> None:
    made = nbd_swap_host().put("etc/fstab", "/dev/nbd0 none swap sw 0 0").mark("etc/exports", Status.DENIED)
    made.put("proc/net/netfilter/nfnetlink_queue", "0 1 0 2 65531 0 0 0 1")
    host = read(made)
    assert set(host.texts) == {"etc/fstab", "proc/cmdline", "proc/net/netfilter/nfnetlink_queue"}
    assert [(gap.path, gap.topic) for gap in host.gaps] == [("etc/exports", Topic.HOST)]


def test_daemons_of_a_host_without_users_are_left_out() -> None:
    made = base()
    process(made, 300, "iscsid", sockets=(5,))
    assert read(made).daemons == ()


# ---- namespaces


def test_other_network_namespaces_are_named() -> None:
    made = nbd_swap_host().link("proc/480/ns/net", "net:[4026532000]")
    host = read(made)
    assert host.namespaces == 1
    assert [(gap.status, gap.topic) for gap in host.gaps] == [("cannot be seen", Topic.SOCKETS)]


def test_inside_a_container() -> None:
    made = nbd_swap_host().link("proc/self/ns/pid", "pid:[4026532111]")
    host = read(made)
    assert host.container
    assert {Topic.SOCKETS, Topic.USERS, Topic.NETWORK} <= {gap.topic for gap in host.gaps}
    assert not host.users[0].sockets[0].owners_known or host.users[0].sockets[0].pids


def test_a_machine_made_from_a_container_image_is_none() -> None:
    assert not read(nbd_swap_host().put(".dockerenv", "")).container


# ---- views


def test_views() -> None:
    host = read(nbd_swap_host(sndbuf=262144, rcvbuf=524288))
    view = user_view(host.users[0])
    assert (view.nic, view.driver, view.transport, view.kind) == ("eth0", "virtio_net", "nbd", "swap")
    assert view.sockets[0].capped is True
    assert host_view(host).memory_kib == 262144
    local = user_view(read(VARIANTS["local_server"]()).users[0])
    assert "this machine" in local.note


# ---- whatever is altered leaves a gap


def alterations(member: Member) -> Iterator[tuple[str, Member]]:
    for status in (Status.DAMAGED, Status.DENIED):
        yield status.value, Member(path=member.path, status=status)
    if member.data:
        yield "cut", replace(member, data=member.data[: len(member.data) // 2])
        yield "emptied", replace(member, data=b"")
        yield "garbled", replace(member, data=bytes((byte * 7 + 13) % 256 for byte in member.data))
        yield "other words", replace(member, data=b"x" + member.data.replace(b"0", b"q").replace(b"1", b"z"))
    if member.target:
        yield "led astray", replace(member, target="../nowhere")


def altered(record: Record, path: str, member: Member) -> Record:
    return replace(record, members={**record.members, path: member})


# A kernel may well have no module loaded, so an empty list is an answer.
SILENT = {("proc/modules", "emptied")}


def holes(record: Record) -> Iterator[str]:
    whole = read_host(record)
    for path, member in record.members.items():
        if member.status is not Status.FOUND:
            continue
        for what, changed in alterations(member):
            less = read_host(altered(record, path, changed))
            lost = losses(whole, less)
            if lost and not set(less.gaps) - set(whole.gaps) and (path, what) not in SILENT:
                yield f"{path} {what}: {lost}"


@pytest.mark.parametrize("name", VARIANTS)
def test_no_fact_of_a_made_host_goes_silently(name: str) -> None:
    assert list(holes(VARIANTS[name]().record())) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_no_fact_of_a_recorded_host_goes_silently(path: Path) -> None:
    assert list(holes(open_record(path))) == []


def test_a_hole_would_be_found() -> None:
    """The check itself: a reader that drops a swap without a word is caught."""
    record = nbd_swap_host().record()
    path = "proc/swaps"
    without = replace(record.members[path], data=b"Filename Type Size Used Priority\n")
    info = replace(record.members["proc/meminfo"], data=b"MemTotal: 262144 kB\nSwapTotal: 0 kB\n")
    less = read_host(replace(record, members={**record.members, path: without, "proc/meminfo": info}))
    assert losses(read_host(record), less)
    assert less.gaps == ()


RECORDS = {
    name: VARIANTS[name]().record()
    for name in ("nbd_swap_host", "nfs_swapfile", "ice_iscsi_lvm", "sshfs_mount")
}


PIECES = (b"-1", b"9" * 40, b"[" * 2000, b"\n\n", b"\xff\x00")


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_anywhere_raise_nothing(data: st.DataObject) -> None:
    record = RECORDS[data.draw(st.sampled_from(sorted(RECORDS)))]
    members = dict(record.members)
    for path in data.draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=5)):
        old = members[path].data
        at = data.draw(st.integers(0, len(old)))
        piece = data.draw(st.binary(max_size=40) | st.sampled_from(PIECES))
        members[path] = replace(
            members[path], data=old[:at] + piece + old[at + data.draw(st.integers(0, 30)) :]
        )
    read_host(replace(record, members=members))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(gone=st.sets(st.sampled_from(sorted(RECORDS["nbd_swap_host"].members)), max_size=40))
def test_an_incomplete_record_never_looks_better(gone: set[str]) -> None:
    """What an sos report does not hold is a gap, whatever it is."""
    record = RECORDS["nbd_swap_host"]
    members = {path: member for path, member in record.members.items() if path not in gone}
    whole, less = read_host(record), read_host(replace(record, members=members, complete=False))
    lost = losses(whole, less)
    assert not lost or less.gaps, lost


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_recorded_hosts_are_read_without_a_gap(path: Path) -> None:
    host = read_host(open_record(path))
    assert [gap for gap in host.gaps if gap.status != "not held"] == []
    assert not host.made
    for user in host.users:
        assert user.sockets, user.name
        assert user.routes, user.name


def test_recorded_hosts_are_there() -> None:
    assert len(RECORDED) >= 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads this machine's /proc")
def test_this_machine() -> None:
    from tidegate.host.live import read_live

    host = read_host(read_live())
    assert host.memory is not None
    assert host.memory.zones
    assert host.cpus
    assert [gap for gap in host.gaps if gap.status == "damaged"] == []


def test_many_devices_and_sockets_are_read_in_time() -> None:
    """500 disks and 1,000 sockets: what is looked up for each must not look at all the others."""
    made = nbd_swap_host()
    for number in range(500):
        m.disk(
            made, f"sd{number}", f"65:{number}", place=f"../devices/pci0000:00/ata1/host0/block/sd{number}"
        )
    for number in range(1000):
        made.sockets.append(
            msgspec.structs.replace(made.sockets[0], local_port=1 + number, inode=9000 + number)
        )
    host = read(made)
    assert len(host.sockets) == 1001
    assert host.users[0].connections == 1


def test_two_swaps_on_one_server_keep_their_own_sockets() -> None:
    made = nbd_swap_host()
    nbd(made, "nbd1", number="43:32", pid=490, inode=1300, local_port=40010)
    swap(made, "/dev/nbd1")
    tcp(made, 50505, SERVER, 22, 2222)
    assert [[one.inode for one in user.sockets] for user in read(made).users] == [[1234], [1300]]
