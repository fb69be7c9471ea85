"""Hosts that QEMU cannot show, made by hand: faster NICs, other transports, odd paths. All say `made=True`."""

from __future__ import annotations

from collections.abc import Callable

from tests.host import made as m
from tests.host.made import (
    CLIENT,
    SERVER,
    Made,
    base,
    disk,
    mount,
    nbd,
    nbd_swap_host,
    nic,
    process,
    swap,
    tcp,
)

from tidegate.host import netlink_format as form

_ISCSI_PLACE = "../devices/platform/host2/session1/target2:0:0/2:0:0:0/block/sda"


def mlx5_nvme_swap(queues: int = 16) -> Made:
    """Swap on a multi-queue NVMe/TCP namespace over mlx5, 64 GB."""
    made = base("64G", cpus=queues)
    nic(made, "mlx5_core", queues=queues, slots=1024)
    disk(made, "nvme0n1", "259:0", place="../devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1")
    made.many(
        "sys/class/nvme/nvme0",
        {
            "transport": "tcp",
            "address": f"traddr={SERVER},trsvcid=4420,src_addr={CLIENT}",
            "state": "live",
            "queue_count": queues + 1,
        },
    )
    for count in range(queues + 1):
        tcp(made, 50000 + count, SERVER, 4420, 9000 + count, sndbuf=2626560, rcvbuf=131072)
    swap(made, "/dev/nvme0n1", kib=8388604)
    return made


def iscsi(made: Made, *, driver: str = "iscsi_tcp", session: int = 1) -> None:
    """An iSCSI session with one disk, sda."""
    disk(made, "sda", "8:0", place=_ISCSI_PLACE)
    made.put("sys/class/scsi_host/host2/proc_name", driver)
    made.many(f"sys/class/iscsi_connection/connection{session}:0", {"address": SERVER, "port": 3260})
    made.many(
        f"sys/class/iscsi_session/session{session}",
        {"targetname": "iqn.2026-11.made:disk", "state": "LOGGED_IN"},
    )
    tcp(made, 45000, SERVER, 3260, 7000, sndbuf=425984, rcvbuf=425984)
    process(made, 700, "iscsid", sockets=(7000,), flags=m.IO_FLUSHER, locked_kib=6000, oom=-1000)


def ice_iscsi_lvm() -> Made:
    """An iSCSI disk with LVM: a swap and a mount on it, over ice with large rings."""
    made = base("16G", cpus=8)
    nic(made, "ice", queues=8, slots=2048)
    iscsi(made)
    made.many("sys/block/sda/sda1", {"dev": "8:1", "partition": 1})
    for minor, name in enumerate(("vg-swap", "vg-srv")):
        disk(
            made,
            f"dm-{minor}",
            f"253:{minor}",
            place=f"../devices/virtual/block/dm-{minor}",
            slaves=("sda1",),
        )
        made.many(f"sys/block/dm-{minor}/dm", {"name": name, "uuid": f"LVM-{name}"})
    swap(made, "/dev/dm-0", kib=4194300)
    mount(made, "/srv", "ext4", "/dev/mapper/vg-srv", number="253:1")
    return made


def rbd_swap() -> Made:
    """Swap on a kernel rbd disk; libceph's sockets belong to nobody."""
    made = base("8G", cpus=4)
    nic(made, "ixgbe", queues=4, slots=512)
    disk(made, "rbd0", "252:0", place="../devices/rbd/0/block/rbd0")
    made.many("sys/bus/rbd/devices/0", {"pool": "rbd", "name": "swap", "client_addr": f"{CLIENT}:0/1"})
    for count, port in enumerate((3300, 6801, 6805)):
        tcp(made, 51000 + count, SERVER, port, 6000 + count)
    swap(made, "/dev/rbd0")
    return made


def two_nodes() -> Made:
    """Two NUMA nodes with swap over NBD."""
    made = base("32G", cpus=16, nodes=2)
    made.put("sys/devices/system/node/online", "0-1")
    nic(made, "igb", queues=4)
    nbd(made)
    swap(made, "/dev/nbd0")
    return made


def bond_lacp() -> Made:
    """Swap over NBD through a VLAN on an 802.3ad bond of two e1000e."""
    made = base("4G", cpus=2)
    m.net_device(made, "eth0", 2, driver="e1000e")
    m.net_device(made, "eth1", 3, driver="e1000e")
    m.net_device(made, "bond0", 4, kind="bond", bond_mode="802.3ad", lower=("eth0", "eth1"))
    m.net_device(made, "bond0.7", 5, kind="vlan", lower=("bond0",))
    m.wire(made, "bond0.7")
    nbd(made)
    swap(made, "/dev/nbd0")
    return made


def drbd_mount() -> Made:
    """A DRBD disk, mounted; its local half is a virtio disk."""
    made = base("4G", cpus=2)
    nic(made, "e1000e")
    disk(made, "vdb", "254:16", place="../devices/pci0000:00/0000:00:06.0/virtio3/block/vdb")
    disk(made, "drbd0", "147:0", place="../devices/virtual/block/drbd0", slaves=("vdb",))
    made.put(
        "proc/drbd", "version: 8.4.11\n 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----"
    )
    for count in range(2):
        tcp(made, 52000 + count, SERVER, 7788, 5000 + count)
    mount(made, "/srv", "ext4", "/dev/drbd0", number="147:0")
    return made


def smb_swapfile() -> Made:
    """A swap file on an SMB mount."""
    made = base("1G")
    nic(made, "e1000e")
    mount(made, "/mnt", "cifs", f"//{SERVER}/share", options=f"rw,vers=3.1.1,addr={SERVER}")
    tcp(made, 53000, SERVER, 445, 4000)
    swap(made, "/mnt/swap", kind="file")
    return made


def sshfs_mount() -> Made:
    """A FUSE mount over ssh: the process that serves it, and its child that talks."""
    made = base("1G")
    nic(made)
    mount(made, "/home/data", "fuse.sshfs", f"user@{SERVER}:/data", options="rw,user_id=0")
    process(made, 900, "sshfs", files=("/dev/fuse",))
    process(made, 901, "ssh", sockets=(3000,), parent=900)
    tcp(made, 54000, SERVER, 22, 3000)
    return made


def ublk_mount() -> Made:
    """A file system on a ublk disk whose server talks to the network."""
    made = base("2G")
    nic(made, "virtio_net")
    disk(made, "ublkb0", "259:5", place="../devices/virtual/block/ublkb0")
    process(made, 910, "ublk", files=("/dev/ublkc0",), sockets=(3100,), flags=0x400000, threads=(911,))
    tcp(made, 54100, SERVER, 9000, 3100)
    mount(made, "/data", "xfs", "/dev/ublkb0", number="259:5")
    return made


def loop_over_nfs() -> Made:
    """Swap on a loop device over a file on NFS: no transport protects it."""
    made = base("512M")
    nic(made)
    nfs(made, "/net")
    disk(made, "loop0", "7:0", place="../devices/virtual/block/loop0")
    made.put("sys/block/loop0/loop/backing_file", "/net/swap.img")
    swap(made, "/dev/loop0")
    return made


def nfs(
    made: Made, point: str, *, options: str = "rw,vers=4.2,hard,proto=tcp,nconnect=2", connections: int = 2
) -> None:
    """An NFS mount with its lines in mountstats."""
    mount(made, point, "nfs4", f"{SERVER}:/export", options=f"{options},addr={SERVER}")
    xprts = "\n".join(f"\txprt:\ttcp {800 + one} 1 1 0 0 5 5 0 5 0 2 0 0" for one in range(connections))
    made.append("proc/self/mountstats", f"\topts:\t{options}\n{xprts}")
    for one in range(connections):
        tcp(made, 800 + one, SERVER, 2049, 8000 + one)


def nfs_swapfile() -> Made:
    """A swap file directly on NFS."""
    made = base("512M")
    nic(made)
    nfs(made, "/net")
    swap(made, "/net/swap", kind="file")
    return made


def wireguard_path() -> Made:
    """Swap over NBD through a WireGuard tunnel: what carries the tunnel is not shown."""
    made = base("1G")
    m.net_device(made, "eth0", 2, driver="virtio_net")
    m.net_device(made, "wg0", 3, kind="wireguard", mtu=1420)
    m.wire(made, "wg0")
    nbd(made)
    swap(made, "/dev/nbd0")
    return made


def packet_socket() -> Made:
    """Swap over NBD beside a packet socket bound to ETH_P_IP that may park what it gets."""
    made = nbd_swap_host()
    made.append("proc/net/packet", "0000000000000000 3      3    0800   2     1 67108864 0      2500")
    made.packets.append(
        form.PacketSocket(inode=2500, protocol=0x0800, index=2, rcvbuf=134217728, rmem=67108864)
    )
    return made


def kubelet() -> Made:
    """A Kubernetes node with swap over NBD whose eviction threshold lies below min_free_kbytes."""
    made = nbd_swap_host(memory="4G", cpus=2)
    made.put("var/lib/kubelet/config.yaml", "evictionHard:\n  memory.available: 50Mi\nfailSwapOn: false")
    return made


def limited_client() -> Made:
    """nbd-client in a service with MemoryMax=16M."""
    made = nbd_swap_host()
    process(made, 480, "nbd-client", sockets=(1234,), cgroup="/system.slice/nbd.service")
    made.put("sys/fs/cgroup/system.slice/memory.max", "max")
    made.put("sys/fs/cgroup/system.slice/nbd.service/memory.max", "16777216")
    return made


def aoe_mount() -> Made:
    """An ATA-over-Ethernet disk, mounted."""
    made = base("1G")
    nic(made, "e1000e")
    folder = "sys/block/etherd!e1.1"
    disk(made, "etherd!e1.1", "152:16", place="../devices/virtual/block/etherd!e1.1")
    made.many(folder, {"mac": "525400aabbcc", "netif": "eth0", "state": "up"})
    mount(made, "/aoe", "ext4", "/dev/etherd/e1.1", number="152:16")
    return made


def threaded_napi() -> Made:
    """Swap over NBD through a NIC with threaded NAPI."""
    made = nbd_swap_host(nic_driver="e1000e")
    made.put("sys/class/net/eth0/threaded", "1")
    return made


def local_server() -> Made:
    """Swap over NBD from a server on the same machine."""
    made = base("512M")
    nic(made)
    nbd(made, server="127.0.0.1", local="127.0.0.1")
    tcp(made, 10809, "0.0.0.0", 0, 1300, local="127.0.0.1", state="LISTEN")
    process(made, 600, "nbdkit", sockets=(1300,))
    swap(made, "/dev/nbd0")
    return made


def mirror() -> Made:
    """Swap on RAID 1 of two nbd disks under dm-crypt."""
    made = base("1G")
    nic(made)
    nbd(made)
    nbd(made, "nbd1", number="43:32", pid=481, inode=1300, local_port=40010, server="10.0.2.3")
    made.neighbours.append(form.Neighbour(address="10.0.2.3", device="eth0", state="STALE"))
    made.routes.append(form.Route(peer="10.0.2.3", device="eth0", source=CLIENT))
    disk(made, "md0", "9:0", place="../devices/virtual/block/md0", slaves=("nbd0", "nbd1"))
    made.many("sys/block/md0/md", {"level": "raid1", "raid_disks": 2})
    disk(made, "dm-0", "253:0", place="../devices/virtual/block/dm-0", slaves=("md0",))
    made.many("sys/block/dm-0/dm", {"name": "swap", "uuid": "CRYPT-PLAIN-swap"})
    swap(made, "/dev/mapper/swap")
    return made


def zram_writeback() -> Made:
    """zram in front, its writeback device on the network."""
    made = base("512M")
    nic(made)
    nbd(made)
    disk(made, "zram0", "251:0", place="../devices/virtual/block/zram0")
    made.put("sys/block/zram0/backing_dev", "/dev/nbd0").put("sys/block/zram0/bd_stat", "0 0 0")
    swap(made, "/dev/zram0")
    return made


def unknown_swap() -> Made:
    """A swap on a device that sysfs does not show."""
    made = base("512M")
    nic(made)
    swap(made, "/dev/strange0")
    return made


VARIANTS: dict[str, Callable[[], Made]] = {
    one.__name__: one
    for one in (
        mlx5_nvme_swap, ice_iscsi_lvm, rbd_swap, two_nodes, bond_lacp, drbd_mount, smb_swapfile, sshfs_mount,
        ublk_mount, loop_over_nfs, nfs_swapfile, wireguard_path,
        packet_socket, kubelet, limited_client, aoe_mount, threaded_napi,
        local_server, mirror, zram_writeback, unknown_swap, nbd_swap_host, m.local_host,
    )
}  # fmt: skip
