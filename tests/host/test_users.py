"""Block users of every transport: the whole chain, where it leads, and what stands in it."""

from __future__ import annotations

import pytest
from tests.host import made as m
from tests.host.made import (
    CLIENT,
    SERVER,
    Made,
    base,
    disk,
    local_host,
    mount,
    nbd,
    nbd_swap_host,
    nic,
    process,
    swap,
    tcp,
)
from tests.host.made_variants import VARIANTS, iscsi, nfs

from tidegate.host import netlink_format as form
from tidegate.host.facts import BlockUser, Host, Transport, UserKind, nics_of
from tidegate.host.read import read_host
from tidegate.host.record import Status
from tidegate.result import Topic


def read(made: Made) -> Host:
    return read_host(made.record())


def only(made: Made) -> BlockUser:
    host = read(made)
    assert len(host.users) == 1, [user.name for user in host.users]
    return host.users[0]


def kinds(user: BlockUser) -> list[str]:
    return [link.kind for link in user.chain]


EXPECTED: dict[str, list[tuple[str, str, str]]] = {
    "mlx5_nvme_swap": [("swap /dev/nvme0n1", "nvme-tcp", "swap nvme socket route nic")],
    "ice_iscsi_lvm": [
        ("swap /dev/dm-0", "iscsi", "swap lvm partition iscsi socket route nic"),
        ("mount /srv", "iscsi", "mount lvm partition iscsi socket route nic"),
    ],
    "rbd_swap": [("swap /dev/rbd0", "rbd", "swap rbd socket socket socket route nic")],
    "two_nodes": [("swap /dev/nbd0", "nbd", "swap nbd socket route nic")],
    "bond_lacp": [("swap /dev/nbd0", "nbd", "swap nbd socket route vlan bond nic nic")],
    "drbd_mount": [("mount /srv", "drbd", "mount drbd socket socket route nic")],
    "smb_swapfile": [
        ("swap /mnt/swap", "smb", "swapfile file mount smb socket route nic"),
        ("mount /mnt", "smb", "mount smb socket route nic"),
    ],
    "sshfs_mount": [("mount /home/data", "fuse", "mount fuse socket route nic")],
    "ublk_mount": [("mount /data", "ublk", "mount ublk socket route nic")],
    "loop_over_nfs": [
        ("swap /dev/loop0", "nfs", "swap loop file mount nfs socket socket route nic"),
        ("mount /net", "nfs", "mount nfs socket socket route nic"),
    ],
    "nfs_swapfile": [
        ("swap /net/swap", "nfs", "swapfile file mount nfs socket socket route nic"),
        ("mount /net", "nfs", "mount nfs socket socket route nic"),
    ],
    "wireguard_path": [("swap /dev/nbd0", "nbd", "swap nbd socket route wireguard")],
    "aoe_mount": [("mount /aoe", "aoe", "mount aoe route nic")],
    "local_server": [("swap /dev/nbd0", "nbd", "swap nbd socket route loopback")],
    "mirror": [
        ("swap /dev/mapper/swap via nbd0", "nbd", "swap dm-crypt md nbd socket route nic"),
        ("swap /dev/mapper/swap via nbd1", "nbd", "swap dm-crypt md nbd socket route nic"),
    ],
    "zram_writeback": [("swap /dev/zram0", "nbd", "swap zram nbd socket route nic")],
    "unknown_swap": [("swap /dev/strange0", "other", "swap unknown")],
    "local_host": [],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_chain(name: str) -> None:
    host = read(VARIANTS[name]())
    found = [(user.name, user.transport.value, " ".join(kinds(user))) for user in host.users]
    assert found == EXPECTED.get(name, EXPECTED["two_nodes"])
    for user in host.users:
        for link in user.chain[:-1]:
            assert link.evidence or link.kind in ("file", "unknown"), link
    assert host.made


@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if name not in ("wireguard_path", "unknown_swap")]
)
def test_nothing_is_missing_on_a_whole_host(name: str) -> None:
    assert read(VARIANTS[name]()).gaps == ()


def test_what_carries_a_tunnel_is_a_gap() -> None:
    host = read(VARIANTS["wireguard_path"]())
    assert [(gap.path, gap.topic) for gap in host.gaps] == [("sys/class/net/wg0", Topic.NETWORK)]
    assert nics_of(host, host.users[0]) == ()


def test_a_swap_on_an_unknown_device_is_kept() -> None:
    host = read(VARIANTS["unknown_swap"]())
    assert host.users[0].transport is Transport.OTHER
    assert host.users[0].swaps
    assert Topic.USERS in {gap.topic for gap in host.gaps}


# ---- nbd


def test_an_ioctl_client_and_its_sockets() -> None:
    user = only(nbd_swap_host(connections=2))
    assert (user.connections, user.daemons, user.kind) == (2, (480,), UserKind.SWAP)
    assert {(peer.address, peer.port) for peer in user.peers} == {(SERVER, 10809)}
    assert "ioctl" in user.chain[1].detail
    assert user.server_local is False
    assert user.queue is not None
    assert (user.queue.nr_requests, user.queue.scheduler, user.queue.wbt_usec) == (256, "mq-deadline", 2000)


@pytest.mark.parametrize("port", [10809, 33333])
def test_a_netlink_client_is_gone_and_its_sockets_have_no_owner(port: int) -> None:
    user = only(nbd_swap_host(netlink=True, connections=3, port=port))
    assert (user.connections, user.daemons, len(user.sockets)) == (3, (), 3)
    assert "netlink" in user.chain[1].detail
    assert all(one.owners_known and not one.pids for one in user.sockets)


def test_sockets_of_other_transports_are_not_nbds() -> None:
    made = nbd_swap_host(netlink=True, port=33333)
    tcp(made, 901, SERVER, 2049, 9999)
    assert {one.remote_port for one in only(made).sockets} == {33333}


def test_two_netlink_devices_share_what_was_found() -> None:
    made = nbd_swap_host(netlink=True)
    nbd(made, "nbd1", number="43:32", pid=490, inode=1300, local_port=40010, netlink=True)
    swap(made, "/dev/nbd1")
    users = read(made).users
    assert [len(user.sockets) for user in users] == [2, 2]
    assert [user.connections for user in users] == [None, None]


def test_a_connected_nbd_that_nothing_uses_is_a_disk_and_an_idle_one_is_nothing() -> None:
    made = base()
    nic(made)
    nbd(made)
    disk(made, "nbd1", "43:32", place="../devices/virtual/block/nbd1", size_kib=0)
    assert (only(made).name, only(made).kind) == ("disk /dev/nbd0", UserKind.DISK)


def test_without_rights_the_sockets_are_a_guess_and_say_so() -> None:
    made = nbd_swap_host().drop("proc/480/fd").mark("proc/480/fd", Status.DENIED)
    host = read(made)
    assert len(host.users[0].sockets) == 1  # by its port
    assert ("proc/480/fd", Topic.SOCKETS) in {(gap.path, gap.topic) for gap in host.gaps}


def test_no_socket_at_all_is_a_gap() -> None:
    made = nbd_swap_host(netlink=True)
    made.sockets.clear()
    host = read(made)
    assert host.users[0].peers == ()
    assert {Topic.SOCKETS, Topic.NETWORK} <= {gap.topic for gap in host.gaps}


@pytest.mark.parametrize("comm", ["qemu-nbd", "rbd-nbd", "nbdkit"])
def test_a_server_of_this_machine_behind_a_unix_socket(comm: str) -> None:
    made = base()
    nic(made)
    nbd(made, connections=0, netlink=True)
    process(made, 480, comm, sockets=(70, 71))
    tcp(made, 50000, SERVER, 6801, 71)
    swap(made, "/dev/nbd0")
    user = only(made)
    assert user.server_local
    assert user.server_evidence is not None
    assert user.userspace == (comm,)
    assert [one.remote_port for one in user.sockets] == [6801]
    assert user.daemons == (480,)
    assert user.routes[0].nics == ("eth0",)


def test_a_client_on_a_unix_socket_names_the_server() -> None:
    made = base()
    nic(made)
    nbd(made, connections=0)
    process(made, 480, "nbd-client", sockets=(70,))
    process(made, 600, "nbdkit", sockets=(72,))
    swap(made, "/dev/nbd0")
    user = only(made)
    assert (user.userspace, user.daemons, user.server_local) == (("nbdkit",), (480, 600), True)


def test_a_tls_proxy_between() -> None:
    made = base()
    nic(made)
    nbd(made, server="127.0.0.1", local="127.0.0.1", port=10810)
    tcp(made, 10810, "0.0.0.0", 0, 1400, local="127.0.0.1", state="LISTEN")
    tcp(made, 51000, SERVER, 10809, 1401)
    process(made, 620, "stunnel", sockets=(1400, 1401))
    swap(made, "/dev/nbd0")
    user = only(made)
    assert user.userspace == ("tls-proxy stunnel",)
    assert 620 in user.daemons
    assert [route.nics for route in user.routes] == [(), ("eth0",)]
    assert user.server_local
    assert "stunnel" in (user.server_evidence.meaning if user.server_evidence else "")


def test_a_server_of_any_name_that_keeps_the_device_open() -> None:
    made = base()
    nic(made)
    nbd(made, connections=0, netlink=True)
    process(made, 480, "my-server", sockets=(70,), files=("/dev/nbd0",))
    tcp(made, 51000, SERVER, 5000, 7777)  # somebody else's
    swap(made, "/dev/nbd0")
    user = only(made)
    assert (user.userspace, user.server_local, user.sockets) == (("my-server",), True, ())


def test_a_client_that_lost_its_connection_is_no_server() -> None:
    made = nbd_swap_host(connections=0)
    host = read(made)
    assert host.users[0].userspace == ()
    assert Topic.SOCKETS in {gap.topic for gap in host.gaps}


def test_vduse_and_tcmu_have_their_process_in_the_path() -> None:
    made = base()
    nic(made)
    disk(made, "vdc", "254:32", place="../devices/virtual/vduse/disk0/virtio9/block/vdc")
    process(made, 930, "storage-daemon", files=("/dev/vduse/disk0",), sockets=(3300,))
    tcp(made, 50300, SERVER, 6801, 3300)
    swap(made, "/dev/vdc")
    place = "../devices/tcm_loop_0/tcm_loop_adapter_0/host5/target5:0:1/5:0:1:0/block/sdb"
    disk(made, "sdb", "8:16", place=place)
    mount(made, "/t", "ext4", "/dev/sdb", number="8:16")
    assert [user.name for user in read(made).users] == ["swap /dev/vdc"]
    process(made, 940, "tcmu-runner")
    assert [user.userspace for user in read(made).users] == [("storage-daemon",), ("tcmu-runner",)]


def test_where_process_1_is_not_shown_others_may_be_missing() -> None:
    host = read(nbd_swap_host().drop("proc/1"))
    assert Topic.DAEMONS in {gap.topic for gap in host.gaps}
    assert not any(one.owners_known for one in host.sockets if not one.pids)


# ---- iscsi, nvme


def test_iscsi_offload_has_no_skbs() -> None:
    made = base()
    nic(made)
    iscsi(made, driver="bnx2i")
    assert only(made).transport is Transport.RDMA


def test_iser_over_a_soft_device_is_not_taken_for_hardware() -> None:
    made = base()
    nic(made)
    iscsi(made, driver="iser")
    made.link("sys/class/infiniband/mlx5_0", "../../devices/pci0000:00/0000:00:04.0/infiniband/mlx5_0")
    assert only(made).transport is Transport.RDMA
    made.link("sys/class/infiniband/rxe0", "../../devices/virtual/infiniband/rxe0")
    assert only(made).transport is Transport.OTHER


def test_iscsi_connections_daemon_and_buffers_that_were_set() -> None:
    user = read(VARIANTS["ice_iscsi_lvm"]()).users[0]
    assert (user.connections, user.daemons) == (1, (700,))
    assert user.sockets[0].sndbuf_locked
    assert user.sockets[0].rcvbuf_locked


def test_nvme_multipath_through_two_controllers() -> None:
    made = base()
    nic(made)
    disk(
        made, "nvme1n1", "259:1", place="../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1", queue=False
    )
    made.put("sys/block/nvme1n1/queue/max_sectors_kb", "1280")
    for number, server in ((1, SERVER), (2, "10.0.2.3")):
        path = f"nvme1c{number}n1"
        disk(made, path, "0:0", place=f"../devices/virtual/nvme-fabrics/ctl/nvme{number}/{path}")
        made.drop(f"sys/block/{path}/dev").put(f"sys/block/{path}/queue/nr_requests", "127")
        made.link(
            f"sys/class/nvme-subsystem/nvme-subsys1/nvme{number}", f"../../nvme-fabrics/ctl/nvme{number}"
        )
        shown = {
            "transport": "tcp",
            "address": f"traddr={server},trsvcid=4420",
            "queue_count": 2,
            "state": "live",
        }
        made.many(f"sys/class/nvme/nvme{number}", shown)
        for queue in range(2):
            tcp(made, 50000 + 10 * number + queue, server, 4420, 900 + 10 * number + queue)
    swap(made, "/dev/nvme1n1")
    user = only(made)
    assert (user.connections, len(user.sockets), len(user.peers)) == (4, 4, 2)
    assert user.queue is not None
    assert (user.queue.device, user.queue.nr_requests) == ("nvme1c1n1", 127)


@pytest.mark.parametrize(
    ("place", "transport"),
    [("pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1", ""), ("virtual/nvme-fabrics/ctl/nvme0/nvme0n1", "loop")],
)
def test_nvme_that_is_here_is_not_a_user(place: str, transport: str) -> None:
    made = base()
    disk(made, "nvme0n1", "259:0", place=f"../devices/{place}")
    if transport:
        made.put("sys/class/nvme/nvme0/transport", transport)
    swap(made, "/dev/nvme0n1")
    assert read(made).users == ()


# ---- file systems


def test_nfs_has_one_connection_for_each_xprt_line() -> None:
    user = read(VARIANTS["nfs_swapfile"]()).users[0]
    assert (user.connections, len(user.sockets), user.queue) == (2, 2, None)
    assert user.swaps
    mounted = read(VARIANTS["nfs_swapfile"]()).users[1]
    assert mounted.swaps


def test_two_nfs_mounts_of_one_server_keep_their_own_sockets() -> None:
    made = base()
    nic(made)
    nfs(made, "/net", connections=1)
    tcp(made, 950, SERVER, 2049, 8100)
    assert [one.local_port for one in only(made).sockets] == [800]


def test_nfs_over_rdma() -> None:
    made = base()
    nic(made)
    nfs(made, "/net", options="rw,proto=rdma", connections=0)
    made.link("sys/class/infiniband/mlx5_0", "../../devices/pci0000:00/x/infiniband/mlx5_0")
    assert only(made).transport is Transport.RDMA


def test_bind_mounts_are_one_user() -> None:
    made = base()
    nic(made)
    nfs(made, "/net")
    mount(made, "/also", "nfs4", f"{SERVER}:/export", options=f"rw,addr={SERVER}")
    assert only(made).name == "mount /net"


@pytest.mark.parametrize(
    "kind", ["fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse", "tmpfs", "overlay", "virtiofs", "zfs"]
)
def test_local_file_systems_are_no_users(kind: str) -> None:
    made = base()
    mount(made, "/x", kind, "something")
    assert read(made).users == ()


@pytest.mark.parametrize(
    ("options", "transport"),
    [("rw,trans=virtio", None), ("rw,trans=tcp,port=564", Transport.NINEP), ("rw", Transport.NINEP)],
)
def test_9p_only_where_it_leaves_the_machine(options: str, transport: Transport | None) -> None:
    made = base()
    nic(made)
    mount(made, "/x", "9p", SERVER, options=options)
    tcp(made, 50000, SERVER, 564, 77)
    assert [user.transport for user in read(made).users] == ([transport] if transport else [])


@pytest.mark.parametrize(
    ("kind", "source"), [("lustre", "10.0.2.2@tcp:/fs"), ("newfs", "server:/path"), ("x", "//a/b")]
)
def test_other_network_file_systems_are_named(kind: str, source: str) -> None:
    made = base()
    mount(made, "/x", kind, source)
    host = read(made)
    assert [user.transport for user in host.users] == [Transport.OTHER]
    assert Topic.NETWORK in {gap.topic for gap in host.gaps}


def test_a_fuse_server_that_cannot_be_seen_is_a_gap() -> None:
    made = VARIANTS["sshfs_mount"]().drop("proc/900", "proc/901")
    host = read(made)
    assert host.users[0].userspace == ("sshfs",)
    assert Topic.DAEMONS in {gap.topic for gap in host.gaps}


def test_cephfs() -> None:
    made = base()
    nic(made)
    mount(made, "/ceph", "ceph", f"{SERVER}:6789:/", options="rw,name=admin")
    tcp(made, 50000, SERVER, 6789, 77)
    tcp(made, 50001, SERVER, 6803, 78)
    user = only(made)
    assert (user.transport, len(user.sockets), user.connections) == (Transport.CEPHFS, 2, None)


def test_drbd_peers_come_from_its_configuration() -> None:
    made = VARIANTS["drbd_mount"]()
    made.put(
        "etc/drbd.d/r0.res", f"on a {{ address ipv4 {CLIENT}:7788; }}\non b {{ address {SERVER}:7788; }}"
    )
    assert [peer.address for peer in only(made).peers] == [SERVER]
    made.sockets.clear()
    made.put("proc/net/sockstat", "TCP: inuse 0 mem 0")
    host = read(made)
    assert host.users[0].connections == 2  # that there should be
    assert host.users[0].routes[0].nics == ("eth0",)
    assert [gap.topic for gap in host.gaps] == [Topic.SOCKETS]


# ---- stacking


def test_encryption_copies_and_a_mirror_makes_two_users() -> None:
    users = read(VARIANTS["mirror"]()).users
    assert [(user.leaf, user.copies, user.legs) for user in users] == [("nbd0", 1, 1), ("nbd1", 1, 1)]
    assert "2 legs" in users[0].chain[2].detail


def test_both_legs_on_one_disk_reach_it_twice() -> None:
    made = base()
    nic(made)
    nbd(made)
    for part in (1, 2):
        made.many(f"sys/block/nbd0/nbd0p{part}", {"dev": f"43:{part}", "partition": part})
    disk(made, "md0", "9:0", place="../devices/virtual/block/md0", slaves=("nbd0p1", "nbd0p2"))
    made.many("sys/block/md0/md", {"level": "raid1", "raid_disks": 2})
    swap(made, "/dev/md0")
    assert only(made).legs == 2


def test_zswap_stands_in_front_of_swap() -> None:
    made = nbd_swap_host().put("sys/module/zswap/parameters/enabled", "Y")
    assert only(made).front == ("zswap",)


def test_bcache_stands_in_front() -> None:
    made = base()
    nic(made)
    nbd(made)
    disk(made, "vdb", "254:16", place="../devices/pci0000:00/0000:00:06.0/virtio3/block/vdb")
    disk(made, "bcache0", "250:0", place="../devices/virtual/block/bcache0", slaves=("nbd0", "vdb"))
    mount(made, "/b", "ext4", "/dev/bcache0", number="250:0")
    user = only(made)
    assert (user.front, user.leaf, user.kind) == (("bcache",), "nbd0", UserKind.MOUNT)


@pytest.mark.parametrize("kind", ["dm-0", "md0", "bcache0"])
def test_a_stacked_device_that_shows_nothing_below_is_not_taken_for_local(kind: str) -> None:
    made = base()
    disk(made, kind, "253:0", place=f"../devices/virtual/block/{kind}")
    made.put(f"sys/block/{kind}/md/level" if kind == "md0" else f"sys/block/{kind}/dm/uuid", "raid0")
    swap(made, f"/dev/{kind}")
    host = read(made)
    assert [user.transport for user in host.users] == [Transport.OTHER]
    assert Topic.USERS in {gap.topic for gap in host.gaps}


def test_a_device_that_stands_on_itself_ends() -> None:
    made = base()
    disk(made, "dm-0", "253:0", place="../devices/virtual/block/dm-0", slaves=("dm-1",))
    disk(made, "dm-1", "253:1", place="../devices/virtual/block/dm-1", slaves=("dm-0",))
    swap(made, "/dev/dm-0")
    assert only(made).transport is Transport.OTHER


def test_a_swap_file_on_a_file_system_over_a_network_disk() -> None:
    made = base()
    nic(made)
    nbd(made)
    mount(made, "/srv", "ext4", "/dev/nbd0", number="43:0")
    swap(made, "/srv/swap", kind="file")
    users = read(made).users
    assert [(user.name, user.swaps, user.leaf) for user in users] == [
        ("swap /srv/swap", True, "nbd0"),
        ("mount /srv", True, "nbd0"),
    ]


def test_btrfs_over_several_devices() -> None:
    made = base()
    nic(made)
    nbd(made)
    disk(made, "vdb", "254:16", place="../devices/pci0000:00/0000:00:06.0/virtio3/block/vdb")
    for name in ("vdb", "nbd0"):
        made.link(f"sys/fs/btrfs/some-uuid/devices/{name}", f"../../../../devices/virtual/block/{name}")
    mount(made, "/b", "btrfs", "/dev/vdb", number="0:50")
    assert only(made).leaf == "nbd0"


def test_names_that_lead_to_a_device() -> None:
    made = base()
    nic(made)
    iscsi(made)
    disk(made, "dm-0", "253:0", place="../devices/virtual/block/dm-0", slaves=("sda",))
    made.many("sys/block/dm-0/dm", {"name": "my--vg-swap", "uuid": "LVM-x"})
    swap(made, "/dev/my-vg/swap")
    assert only(made).chain[1].name == "dm-0"


def test_usb_over_ip_is_not_local() -> None:
    made = base()
    disk(
        made,
        "sdb",
        "8:16",
        place="../devices/platform/vhci_hcd.0/usb3/3-1/host3/target3:0:0/3:0:0:0/block/sdb",
    )
    swap(made, "/dev/sdb")
    assert only(made).transport is Transport.OTHER


def test_an_unknown_virtual_driver_is_not_taken_for_local() -> None:
    made = base()
    disk(made, "strange0", "250:0", place="../devices/virtual/block/strange0")
    swap(made, "/dev/strange0")
    assert only(made).transport is Transport.OTHER


# ---- the server on this machine


def test_the_servers_address_is_this_hosts_own() -> None:
    user = only(nbd_swap_host(server=CLIENT))
    assert user.server_local
    assert user.routes[0].local
    assert user.server_evidence is not None
    assert user.server_evidence.value == f"{CLIENT}:10809"


def test_the_way_ends_in_a_container_of_this_machine() -> None:
    made = base()
    m.net_device(made, "br0", 2, kind="bridge", lower=("veth1",))
    m.net_device(made, "veth1", 3, kind="veth")
    m.wire(made, "br0")
    nbd(made)
    swap(made, "/dev/nbd0")
    host = read(made)
    assert host.users[0].server_local
    assert host.gaps == ()


def test_a_bridge_with_a_nic_leads_to_the_nic() -> None:
    made = base()
    m.net_device(made, "eth0", 2, driver="e1000e")
    m.net_device(made, "tap0", 3, kind="tun")
    m.net_device(made, "br0", 4, kind="bridge", lower=("eth0", "tap0"))
    m.wire(made, "br0")
    nbd(made)
    swap(made, "/dev/nbd0")
    host = read(made)
    assert host.users[0].server_local is False
    assert [nic.name for nic in nics_of(host, host.users[0])] == ["eth0"]


# ---- lost input


def test_meminfo_knows_of_a_swap_that_the_table_lost() -> None:
    made = nbd_swap_host().put("proc/swaps", "Filename\t\tType\tSize\tUsed\tPriority\n")
    assert ("proc/swaps", "damaged") in {(gap.path, gap.status) for gap in read(made).gaps}


def test_mountstats_knows_of_a_mount_that_the_table_lost() -> None:
    made = VARIANTS["nfs_swapfile"]()
    lines = made.members["proc/self/mountinfo"].data.decode().splitlines()[:-1]
    made.put("proc/self/mountinfo", "\n".join(lines))
    assert ("proc/self/mountinfo", "damaged") in {(gap.path, gap.status) for gap in read(made).gaps}


def test_a_garbled_swap_line_keeps_the_others_and_is_a_gap() -> None:
    made = nbd_swap_host()
    made.append("proc/swaps", "garbage")
    host = read(made)
    assert [user.name for user in host.users] == ["swap /dev/nbd0"]
    assert any(gap.path == "proc/swaps" and "line 3" in gap.detail for gap in host.gaps)


def test_a_disk_whose_place_is_not_held_may_be_the_networks() -> None:
    made = base()
    disk(made, "sda", "8:0", place="")
    made.drop("sys/block/sda").many("sys/block/sda", {"dev": "8:0", "size": 2048, "ro": 0})
    swap(made, "/dev/sda")
    host = read(made)
    assert [user.transport for user in host.users] == [Transport.OTHER]
    assert Topic.USERS in {gap.topic for gap in host.gaps}


def test_a_local_host_has_no_users_and_no_gaps() -> None:
    host = read(local_host())
    assert (host.users, host.gaps, host.daemons) == ((), (), ())


def test_sockets_that_the_kernel_counts_and_netlink_did_not_show() -> None:
    made = nbd_swap_host()
    made.sockets.clear()
    host = read(made)
    assert (form.SOCKETS, "damaged") in {(gap.path, gap.status) for gap in host.gaps}
