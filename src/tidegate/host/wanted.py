"""What reading a host looks at: every path, as a shell pattern, with what it is for.

A pattern's `*` stands for one path component here (unlike fnmatch). The list is data: `live.py` walks it, the
manifest carries it, and a test holds that nothing is asked of a record that was not looked for.

Left out on purpose: anything that holds a secret (CHAP names and passwords, keys, rbd's config_info, environments,
whole command lines).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Files below one folder."""

    folder: str  # may hold `*`
    names: tuple[str, ...]  # files or links below it; may hold `*`
    why: str


def _files(folder: str, names: str, why: str) -> Wanted:
    return Wanted(folder=folder, names=tuple(names.split()), why=why)


SYSTEM: tuple[Wanted, ...] = (
    _files(
        "proc",
        "zoneinfo meminfo vmstat swaps buddyinfo pagetypeinfo modules version mdstat drbd",
        "memory, swap, what is loaded",
    ),
    _files("proc/pressure", "memory io cpu", "is it short of memory now"),
    _files("proc/self", "mountinfo mountstats", "mounts, and what NFS does"),
    _files("proc/self/ns", "net mnt pid", "the namespace that is seen"),
    _files("proc/1/ns", "net mnt", "is that the first one"),
    _files(
        "proc/net",
        "netstat snmp snmp6 sockstat sockstat6 softnet_stat protocols packet route ipv6_route arp "
        "fib_trie if_inet6 ptype",
        "counters, routes, packet sockets",
    ),
    _files("proc/net", "tcp tcp6", "sockets, where netlink cannot be asked"),
    _files("proc/net/vlan", "config *", "VLANs"),
    _files("proc/net/bonding", "*", "bonds"),
    _files("proc/fs/nfsfs", "servers volumes", "NFS servers"),
    _files("proc/fs/nfsd", "threads versions", "this machine serves NFS"),
    _files(
        "proc/sys/vm",
        "min_free_kbytes watermark_scale_factor watermark_boost_factor lowmem_reserve_ratio "
        "swappiness page-cluster "
        "dirty_bytes dirty_ratio dirty_background_bytes dirty_background_ratio overcommit_memory "
        "panic_on_oom "
        "zone_reclaim_mode percpu_pagelist_high_fraction user_reserve_kbytes admin_reserve_kbytes "
        "nr_hugepages "
        "oom_kill_allocating_task vfs_cache_pressure min_unmapped_ratio",
        "what moves the watermarks and starts writing",
    ),
    _files(
        "proc/sys/net/core",
        "rmem_max wmem_max rmem_default wmem_default netdev_max_backlog high_order_alloc_disable "
        "skb_defer_max "
        "busy_poll busy_read netdev_budget netdev_budget_usecs optmem_max default_qdisc",
        "what sockets and queues may hold",
    ),
    _files(
        "proc/sys/net/ipv4",
        "tcp_mem tcp_rmem tcp_wmem udp_mem udp_rmem_min udp_wmem_min ipfrag_high_thresh "
        "ipfrag_low_thresh ipfrag_time "
        "tcp_retries2 tcp_sack tcp_moderate_rcvbuf tcp_max_tw_buckets tcp_notsent_lowat",
        "what sockets and fragments may hold",
    ),
    _files(
        "proc/sys/net/ipv4/neigh/*",
        "base_reachable_time_ms gc_stale_time gc_thresh3",
        "when an entry is asked again",
    ),
    _files("proc/sys/net/ipv6", "ip6frag_high_thresh ip6frag_time", "the same for IPv6"),
    _files(
        "proc/sys/net/netfilter",
        "nf_conntrack_max nf_conntrack_count nf_conntrack_frag6_high_thresh",
        "state of others",
    ),
    _files("proc/sys/kernel", "hostname osrelease sysrq", "who this is"),
    _files("sys/devices/system/cpu", "online possible present", "CPUs"),
    _files("sys/devices/system/node", "online possible", "NUMA nodes"),
    _files("sys/devices/system/node/*", "cpulist", "NUMA nodes"),
    _files(
        "sys/kernel/mm/transparent_hugepage",
        "enabled defrag hpage_pmd_size",
        "khugepaged raises min_free_kbytes",
    ),
    _files("sys/kernel/mm/transparent_hugepage/*", "enabled", "khugepaged raises min_free_kbytes"),
    _files("sys/kernel/mm/lru_gen", "enabled", "which reclaim"),
    _files("sys/module/zswap/parameters", "enabled max_pool_percent", "zswap in front of swap"),
    _files("sys/module/nvme_core/parameters", "multipath io_timeout", "NVMe"),
    _files("sys/module/nbd/parameters", "nbds_max max_part", "NBD"),
    _files("run/systemd", "container", "in a container?"),
    _files("run", ".containerenv", "in a container?"),
    _files(".", ".dockerenv", "in a container?"),
    _files("etc", "fstab nbdtab exports", "order at shutdown"),
    _files("etc/iscsi", "nodes", "iSCSI"),
)

_DISK = (
    "dev size ro hidden removable partition start pid backend backing_dev mm_stat device device/driver "
    "device/vendor device/model device/state device/queue_depth device/transport device/type"
)
_QUEUE = (
    "nr_requests max_sectors_kb max_hw_sectors_kb scheduler wbt_lat_usec read_ahead_kb rotational "
    "nomerges io_timeout "
    "logical_block_size"
)

BLOCK: tuple[Wanted, ...] = (
    _files("sys/block", "*", "every block device, and the hardware it hangs on"),
    _files("sys/block/*", _DISK, "what each device is"),
    _files("sys/block/*/queue", _QUEUE, "queue limits"),
    _files("sys/block/*/slaves", "*", "what it stands on"),
    _files("sys/block/*/holders", "*", "what stands on it"),
    _files("sys/block/*/dm", "name uuid suspended", "device mapper: LVM, crypt, multipath, thin"),
    _files("sys/block/*/md", "level array_state raid_disks degraded metadata_version", "RAID"),
    _files("sys/block/*/loop", "backing_file offset autoclear dio", "loop devices"),
    _files("sys/block/*/bcache", "state cache_mode dirty_data label", "bcache"),
    _files("sys/block/*/mq/*", "cpu_list nr_tags", "hardware queues"),
    _files("sys/block/*/*", "partition dev size start ro", "partitions"),
    _files("sys/block/*/*/holders", "*", "what stands on a partition"),
    _files("sys/fs/btrfs/*/devices", "*", "file systems over several disks"),
    _files("sys/fs/fuse/connections/*", "waiting max_background congestion_threshold", "FUSE"),
    _files("dev/mapper", "*", "names that swap and mounts use"),
    _files("sys/class/bdi/*", "read_ahead_kb min_ratio max_ratio strict_limit", "dirty limits per device"),
)

TRANSPORTS: tuple[Wanted, ...] = (
    _files("sys/class/iscsi_connection", "*", "iSCSI connections"),
    _files(
        "sys/class/iscsi_connection/*",
        "address port local_port local_ipaddr persistent_address persistent_port state",
        "where each goes",
    ),
    _files("sys/class/iscsi_session", "*", "iSCSI sessions"),
    _files(
        "sys/class/iscsi_session/*",
        "targetname state recovery_tmo tpgt first_burst_len max_burst_len",
        "which target",
    ),
    _files("sys/class/iscsi_host", "*", "iSCSI hosts"),
    _files("sys/class/iscsi_host/*", "ipaddress netdev hwaddress", "which NIC"),
    _files("sys/class/iscsi_transport", "*", "tcp, iser, offload"),
    _files("sys/class/scsi_host/*", "proc_name", "which driver a SCSI host has"),
    _files("sys/class/nvme", "*", "NVMe controllers"),
    _files(
        "sys/class/nvme/*",
        "transport address state subsysnqn queue_count sqsize model numa_node cntrltype",
        "where each goes",
    ),
    _files("sys/class/nvme-subsystem", "*", "NVMe subsystems"),
    _files("sys/class/nvme-subsystem/*", "subsysnqn iopolicy nvme*", "their paths"),
    _files(
        "sys/bus/rbd/devices/*", "client_addr pool name pool_ns cluster_fsid client_id major minor", "rbd"
    ),
    _files("sys/class/ublk-char", "*", "ublk"),
    _files("sys/class/fc_host/*", "port_name", "Fibre Channel: no network"),
    _files("sys/block/etherd!*", "mac netif state", "ATA over Ethernet: which device"),
    _files("sys/class/infiniband", "*", "is RDMA done by hardware or by rxe and siw"),
    _files(
        "sys/kernel/config/nvmet/subsystems/*/namespaces/*", "device_path enable", "this machine serves NVMe"
    ),
    _files(
        "sys/kernel/config/nvmet/ports/*", "addr_traddr addr_trsvcid addr_trtype", "this machine serves NVMe"
    ),
    _files("sys/kernel/config/target/iscsi/*/*/np", "*", "this machine serves iSCSI"),
    _files("sys/kernel/sunrpc/xprt-switches/*", "xprt_switch_info", "NFS connections"),
    _files("sys/kernel/sunrpc/xprt-switches/*/*", "srcaddr dstaddr xprt_info xprt_state", "NFS connections"),
)

NETWORK: tuple[Wanted, ...] = (
    _files("sys/class/net", "*", "every network device"),
    _files(
        "sys/class/net/*",
        "ifindex iflink operstate mtu address flags type uevent speed carrier threaded tx_queue_len "
        "tun_flags "
        "gro_flush_timeout napi_defer_hard_irqs master device device/driver lower_* upper_* dsa/tagging "
        "bonding/mode bonding/slaves bonding/lacp_rate bridge/bridge_id brport/bridge",
        "what each is and stands on",
    ),
    _files("sys/class/net/*/queues/*", "rps_cpus", "receive queues"),
    _files("sys/class/net/*/statistics", "rx_dropped rx_missed_errors rx_fifo_errors", "what was lost"),
)

# Of each process in the path of block IO.
PROCESS_FILES = ("stat", "status", "comm", "cgroup", "oom_score_adj", "exe", "root", "ns/net")
# Files kept in part: path pattern, and what a line must begin with to be kept.
FILTERED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "etc/iscsi/iscsid.conf",
        (
            "node.session.timeo",
            "node.conn[0].timeo",
            "node.session.queue",
            "node.session.cmds",
            "node.startup",
        ),
    ),
    (
        "var/lib/kubelet/config.yaml",
        (
            "evictionHard",
            "evictionSoft",
            "  memory.available",
            "memorySwap",
            "  swapBehavior",
            "failSwapOn",
            "systemReserved",
            "kubeReserved",
            "  memory",
        ),
    ),
)
# Words of the kernel's command line that matter; everything else may be a secret and is left out.
CMDLINE_WORDS = frozenset(
    [
        "cgroup.memory",
        "iommu",
        "intel_iommu",
        "amd_iommu",
        "swiotlb",
        "transparent_hugepage",
        "threadirqs",
        "isolcpus",
        "nohz_full",
        "mem",
        "numa",
        "hugepages",
        "zswap",
        "root",
        "rootflags",
        "nfsroot",
        "netroot",
        "ip",
        "init_on_alloc",
    ]
)

ALL = SYSTEM + BLOCK + TRANSPORTS + NETWORK
