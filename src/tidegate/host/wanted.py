"""What reading a host looks at: every path, as a pattern, with the topic it serves and what it is for.

A pattern's `*` stands for a part of one path component. The list is data: `walk.py` walks it on a live host and
inside an sos report, and the manifest carries the patterns, so that a record says itself what it can tell.

Left out on purpose: anything that holds a secret (CHAP names and passwords of iSCSI sessions, keys of NVMe
controllers, rbd's config_info, environments, whole command lines), and files whose reading does something.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.result import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Files and links below one folder, of which either may hold `*`."""

    folder: str
    names: tuple[str, ...]
    topic: Topic
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InPart:
    """A configuration file of which only the lines (or JSON members) that begin with one of `keys` are kept."""

    path: str
    keys: tuple[str, ...]
    topic: Topic
    why: str


def _files(folder: str, topic: Topic, names: str, why: str) -> Wanted:
    return Wanted(folder=folder, names=tuple(names.split()), topic=topic, why=why)


_MEMORY: tuple[Wanted, ...] = (
    _files(
        "proc",
        Topic.MEMORY,
        "zoneinfo meminfo vmstat buddyinfo pagetypeinfo slabinfo",
        "zones, their watermarks, and who holds the pages",
    ),
    _files("proc/pressure", Topic.MEMORY, "memory io cpu", "is it short of memory now"),
    _files(
        "proc/sys/vm",
        Topic.MEMORY,
        """min_free_kbytes watermark_scale_factor watermark_boost_factor lowmem_reserve_ratio swappiness page-cluster
        dirty_bytes dirty_ratio dirty_background_bytes dirty_background_ratio dirty_expire_centisecs
        dirty_writeback_centisecs overcommit_memory overcommit_ratio overcommit_kbytes panic_on_oom
        oom_kill_allocating_task zone_reclaim_mode percpu_pagelist_high_fraction user_reserve_kbytes
        admin_reserve_kbytes nr_hugepages nr_overcommit_hugepages vfs_cache_pressure min_unmapped_ratio min_slab_ratio
        extfrag_threshold compaction_proactiveness numa_stat""",
        "what moves the watermarks and starts writing",
    ),
    _files(
        "sys/devices/system/cpu", Topic.MEMORY, "online possible present", "CPUs: each keeps pages of its own"
    ),
    _files("sys/devices/system/node", Topic.MEMORY, "online possible", "NUMA nodes"),
    _files("sys/devices/system/node/*", Topic.MEMORY, "cpulist meminfo distance", "NUMA nodes"),
    _files(
        "sys/kernel/mm/transparent_hugepage",
        Topic.MEMORY,
        "enabled defrag shmem_enabled hpage_pmd_size khugepaged/defrag",
        "khugepaged raises min_free_kbytes",
    ),
    _files("sys/kernel/mm/transparent_hugepage/*", Topic.MEMORY, "enabled", "the same by size"),
    _files("sys/kernel/mm/hugepages/*", Topic.MEMORY, "nr_hugepages free_hugepages", "memory set aside"),
    _files("sys/kernel/mm/lru_gen", Topic.MEMORY, "enabled min_ttl_ms", "which reclaim"),
    _files(
        "sys/module/zswap/parameters",
        Topic.USERS,
        "enabled max_pool_percent accept_threshold_percent compressor zpool shrinker_enabled",
        "zswap in front of swap",
    ),
)

_HOST: tuple[Wanted, ...] = (
    _files("proc", Topic.HOST, "modules version", "what is loaded"),
    _files(
        "proc/sys/kernel",
        Topic.HOST,
        "hostname osrelease sysrq panic hung_task_timeout_secs hung_task_panic",
        "who this is, and what helps from outside",
    ),
    _files("proc/self/ns", Topic.NETWORK, "net mnt pid", "the namespaces that are seen"),
    _files("proc/1/ns", Topic.NETWORK, "net mnt", "is that the first one"),
    _files("proc/1", Topic.DAEMONS, "comm", "what started the rest"),
    _files("run/netns", Topic.NETWORK, "*", "names of other network namespaces"),
    _files("run/systemd", Topic.HOST, "container", "in a container?"),
    _files("run", Topic.HOST, ".containerenv", "in a container?"),
    _files(".", Topic.HOST, ".dockerenv", "in a container?"),
    _files("etc", Topic.HOST, "fstab nbdtab exports os-release", "order at shutdown; what is exported"),
    _files("sys/fs/cgroup", Topic.DAEMONS, "cgroup.controllers", "which hierarchy limits memory"),
)

_LIMITS: tuple[Wanted, ...] = (
    _files(
        "proc/sys/net/core",
        Topic.LIMITS,
        """rmem_max wmem_max rmem_default wmem_default optmem_max netdev_max_backlog netdev_budget netdev_budget_usecs
        dev_weight high_order_alloc_disable skb_defer_max mem_pcpu_rsv max_skb_frags gro_normal_batch busy_poll
        busy_read default_qdisc rps_sock_flow_entries somaxconn""",
        "what sockets and queues may hold",
    ),
    _files(
        "proc/sys/net/ipv4",
        Topic.LIMITS,
        """tcp_mem tcp_rmem tcp_wmem udp_mem udp_rmem_min udp_wmem_min ipfrag_high_thresh ipfrag_low_thresh ipfrag_time
        ipfrag_max_dist tcp_retries2 tcp_syn_retries tcp_orphan_retries tcp_sack tcp_moderate_rcvbuf tcp_max_tw_buckets
        tcp_max_orphans tcp_notsent_lowat tcp_limit_output_bytes tcp_autocorking tcp_adv_win_scale tcp_shrink_window
        tcp_congestion_control tcp_keepalive_time tcp_keepalive_intvl tcp_keepalive_probes tcp_early_demux
        ip_early_demux ip_forward""",
        "what sockets and fragments may hold",
    ),
    _files("proc/sys/net/ipv4/conf/all", Topic.LIMITS, "forwarding", "a router queues for others"),
    _files("proc/sys/net/ipv6/conf/all", Topic.LIMITS, "forwarding", "the same for IPv6"),
    _files(
        "proc/sys/net/ipv4/neigh/*",
        Topic.NETWORK,
        "base_reachable_time_ms gc_stale_time gc_thresh3 unres_qlen_bytes",
        "when an entry is asked again, and what waits for the answer",
    ),
    _files(
        "proc/sys/net/ipv6",
        Topic.LIMITS,
        "ip6frag_high_thresh ip6frag_low_thresh ip6frag_time",
        "fragments of IPv6",
    ),
    _files(
        "proc/sys/net/netfilter",
        Topic.LIMITS,
        "nf_conntrack_max nf_conntrack_count nf_conntrack_frag6_high_thresh",
        "state of others",
    ),
    _files(
        "proc/sys/sunrpc",
        Topic.QUEUES,
        "tcp_slot_table_entries tcp_max_slot_table_entries udp_slot_table_entries",
        "how many requests NFS has under way",
    ),
)

_DISK = """dev size ro hidden removable partition start pid backend backing_dev disksize mm_stat bd_stat mac netif state
    payload device device/driver device/vendor device/model device/state device/queue_depth device/transport device/type
    device/timeout device/eh_timeout multipath"""
_QUEUE = """nr_requests max_sectors_kb max_hw_sectors_kb max_segments scheduler wbt_lat_usec read_ahead_kb rotational
    nomerges io_timeout logical_block_size write_cache fua"""

_BLOCK: tuple[Wanted, ...] = (
    _files("proc", Topic.USERS, "swaps mdstat drbd", "swap areas, arrays, mirrors"),
    _files("proc/self", Topic.USERS, "mountinfo mountstats", "mounts, and what NFS does"),
    _files("sys/block", Topic.USERS, "*", "every block device, and the hardware it hangs on"),
    _files("sys/block/*", Topic.USERS, _DISK, "what each device is"),
    _files("sys/block/*/queue", Topic.QUEUES, _QUEUE, "queue limits"),
    _files("sys/block/*/mq/*", Topic.QUEUES, "cpu_list nr_tags", "hardware queues"),
    _files("sys/block/*/slaves", Topic.USERS, "*", "what it stands on"),
    _files("sys/block/*/holders", Topic.USERS, "*", "what stands on it"),
    _files(
        "sys/block/*/dm", Topic.USERS, "name uuid suspended", "device mapper: LVM, crypt, multipath, thin"
    ),
    _files(
        "sys/block/*/md",
        Topic.USERS,
        "level array_state raid_disks degraded metadata_version sync_action",
        "RAID",
    ),
    _files("sys/block/*/loop", Topic.USERS, "backing_file offset autoclear dio", "loop devices"),
    _files("sys/block/*/bcache", Topic.USERS, "state cache_mode dirty_data label", "bcache"),
    _files("sys/block/*/*", Topic.USERS, "partition dev size start ro", "partitions"),
    _files("sys/block/*/*/holders", Topic.USERS, "*", "what stands on a partition"),
    _files("sys/fs/btrfs/*/devices", Topic.USERS, "*", "file systems over several disks"),
    _files(
        "sys/fs/fuse/connections/*",
        Topic.USERS,
        "waiting max_background congestion_threshold",
        "requests that wait for a FUSE server",
    ),
    _files("dev/mapper", Topic.USERS, "*", "names that swap and mounts use"),
    _files("dev/disk/by-uuid", Topic.HOST, "*", "names that fstab uses"),
    _files("dev/disk/by-label", Topic.HOST, "*", "names that fstab uses"),
    _files("dev/disk/by-partuuid", Topic.HOST, "*", "names that fstab uses"),
    _files(
        "sys/class/bdi/*",
        Topic.QUEUES,
        "read_ahead_kb min_ratio max_ratio strict_limit max_bytes",
        "dirty limits by device",
    ),
)

_TRANSPORTS: tuple[Wanted, ...] = (
    _files("sys/module/nbd/parameters", Topic.USERS, "nbds_max max_part", "NBD"),
    _files("sys/class/iscsi_connection", Topic.USERS, "*", "iSCSI connections"),
    _files(
        "sys/class/iscsi_connection/*",
        Topic.SOCKETS,
        """address port local_port local_ipaddr persistent_address persistent_port state ping_tmo recv_tmo
        max_recv_dlength max_xmit_dlength header_digest data_digest""",
        "where each goes",
    ),
    _files("sys/class/iscsi_session", Topic.USERS, "*", "iSCSI sessions"),
    _files(
        "sys/class/iscsi_session/*",
        Topic.USERS,
        """targetname state target_state recovery_tmo tpgt first_burst_len max_burst_len immediate_data initial_r2t
        max_outstanding_r2t abort_tmo lu_reset_tmo ifacename""",
        "which target, and how long it waits for it",
    ),
    _files("sys/class/iscsi_host", Topic.USERS, "*", "iSCSI hosts"),
    _files("sys/class/iscsi_host/*", Topic.NETWORK, "ipaddress netdev hwaddress", "which NIC"),
    _files("sys/class/iscsi_transport", Topic.USERS, "*", "tcp, iser, offload"),
    _files(
        "sys/class/scsi_host/*",
        Topic.USERS,
        "proc_name can_queue cmd_per_lun",
        "which driver a SCSI host has",
    ),
    _files("sys/class/fc_host/*", Topic.USERS, "port_name", "Fibre Channel: no network"),
    _files("sys/class/nvme", Topic.USERS, "*", "NVMe controllers"),
    _files(
        "sys/class/nvme/*",
        Topic.USERS,
        """transport address state subsysnqn queue_count sqsize model numa_node cntrltype kato reconnect_delay
        ctrl_loss_tmo fast_io_fail_tmo""",
        "where each goes",
    ),
    _files("sys/class/nvme-subsystem", Topic.USERS, "*", "NVMe subsystems"),
    _files("sys/class/nvme-subsystem/*", Topic.USERS, "subsysnqn iopolicy nvme*", "their paths"),
    _files("sys/module/nvme_core/parameters", Topic.USERS, "multipath io_timeout max_retries", "NVMe"),
    _files(
        "sys/bus/rbd/devices/*",
        Topic.USERS,
        "client_addr pool name pool_ns cluster_fsid client_id major minor",
        "rbd",
    ),
    _files("sys/class/ublk-char", Topic.DAEMONS, "*", "ublk"),
    _files("sys/class/infiniband", Topic.USERS, "*", "RDMA by hardware or by ordinary sockets"),
    _files("proc/fs/nfsfs", Topic.USERS, "servers volumes", "NFS servers"),
    _files("sys/kernel/sunrpc/xprt-switches/*", Topic.SOCKETS, "xprt_switch_info", "NFS connections"),
    _files(
        "sys/kernel/sunrpc/xprt-switches/*/*",
        Topic.SOCKETS,
        "srcaddr dstaddr xprt_info xprt_state",
        "NFS connections",
    ),
)

# This machine as a server of others, or of itself.
_SERVERS: tuple[Wanted, ...] = (
    _files("proc/fs/nfsd", Topic.USERS, "threads versions", "it serves NFS"),
    _files(
        "sys/kernel/config/nvmet/subsystems/*/namespaces/*",
        Topic.USERS,
        "device_path enable",
        "it serves NVMe",
    ),
    _files(
        "sys/kernel/config/nvmet/ports/*",
        Topic.USERS,
        "addr_traddr addr_trsvcid addr_trtype",
        "it serves NVMe",
    ),
    _files("sys/kernel/config/nvmet/ports/*/subsystems", Topic.USERS, "*", "it serves NVMe"),
    _files("sys/kernel/config/target/iscsi/*/*", Topic.USERS, "enable", "it serves iSCSI"),
    _files("sys/kernel/config/target/iscsi/*/*/np", Topic.USERS, "*", "it serves iSCSI"),
    _files("sys/kernel/config/target/core/*/*", Topic.USERS, "udev_path enable", "what it serves"),
)

_NETWORK: tuple[Wanted, ...] = (
    _files(
        "proc/net",
        Topic.NETWORK,
        "route ipv6_route arp fib_trie if_inet6 dev ptype",
        "routes, neighbours, who else takes packets",
    ),
    _files(
        "proc/net",
        Topic.SOCKETS,
        "netstat snmp snmp6 sockstat sockstat6 softnet_stat protocols packet raw raw6",
        "counters; sockets that hold copies of packets",
    ),
    _files("proc/net/netfilter", Topic.SOCKETS, "nfnetlink_queue", "packets that wait for a process"),
    _files("proc/net/vlan", Topic.NETWORK, "*", "VLANs"),
    _files("proc/net/bonding", Topic.NETWORK, "*", "bonds"),
    _files("sys/class/net", Topic.NETWORK, "*", "every network device"),
    _files(
        "sys/class/net/*",
        Topic.NETWORK,
        """ifindex iflink operstate mtu address flags type uevent speed carrier threaded tx_queue_len tun_flags
        gro_flush_timeout napi_defer_hard_irqs master device device/driver device/numa_node lower_* upper_* dsa/tagging
        bonding/mode bonding/slaves bonding/lacp_rate bridge/bridge_id brport/bridge""",
        "what each is and stands on",
    ),
    _files("sys/class/net/*/queues/*", Topic.NETWORK, "rps_cpus", "receive queues"),
    _files(
        "sys/class/net/*/statistics",
        Topic.NETWORK,
        "rx_packets rx_dropped rx_missed_errors rx_fifo_errors rx_nohandler tx_dropped",
        "what was lost",
    ),
    _files("sys/module/virtio_net/parameters", Topic.NETWORK, "napi_tx gso csum", "virtio-net"),
)

ALL = _MEMORY + _HOST + _LIMITS + _BLOCK + _TRANSPORTS + _SERVERS + _NETWORK

# Looked for only where netlink does not tell: with many sockets they are large, and slow for the kernel to print.
WITHOUT_NETLINK: tuple[Wanted, ...] = (
    _files("proc/net", Topic.SOCKETS, "tcp tcp6 udp udp6", "sockets, where netlink cannot be asked"),
)

_KUBELET = (
    "kind", "apiVersion", "evictionHard", "evictionSoft", "memory.available", "memorySwap", "swapBehavior",
    "failSwapOn", "systemReserved", "kubeReserved", "memory:", "enforceNodeAllocatable",
)  # fmt: skip
_UNIT = (
    "[", "What=", "Where=", "Type=", "Options=", "After=", "Before=", "Requires=", "Wants=", "BindsTo=", "PartOf=",
    "Conflicts=", "DefaultDependencies=", "RequiresMountsFor=", "WantedBy=", "RequiredBy=",
)  # fmt: skip
_ISCSI_NODE = (
    "node.session.timeo", "node.conn[0].timeo", "node.session.queue_depth", "node.session.cmds_max", "node.startup",
    "node.session.initial_login_retry_max", "node.session.nr_sessions", "node.conn[0].tcp.window_size",
)  # fmt: skip
_DRBD = (
    "resource", "on ", "address", "device", "disk", "meta-disk", "protocol", "host", "connection", "net", "options",
    "sndbuf-size", "rcvbuf-size", "max-buffers", "ping-timeout", "timeout", "}",
)  # fmt: skip

IN_PART: tuple[InPart, ...] = (
    *(
        InPart(path=path, keys=_KUBELET, topic=Topic.HOST, why="when kubelet evicts")
        for path in (
            "var/lib/kubelet/config.yaml",
            "etc/kubernetes/kubelet/kubelet-config.json",
            "etc/kubernetes/kubelet/config.json",
            "etc/kubernetes/kubelet.conf.d/*",
        )
    ),
    *(
        InPart(path=f"{folder}/{name}", keys=_UNIT, topic=Topic.HOST, why="order at shutdown")
        for folder in ("etc/systemd/system", "run/systemd/generator", "run/systemd/transient")
        for name in ("*.swap", "*.mount")
    ),
    *(
        InPart(path=path, keys=_ISCSI_NODE, topic=Topic.HOST, why="how long iSCSI waits and queues")
        for path in ("etc/iscsi/iscsid.conf", "etc/iscsi/nodes/*/*/*", "var/lib/iscsi/nodes/*/*/*")
    ),
    *(
        InPart(path=path, keys=_DRBD, topic=Topic.USERS, why="DRBD's peers")
        for path in ("etc/drbd.conf", "etc/drbd.d/*")
    ),
)

COMMAND_LINE = "proc/cmdline"
# Words of the kernel's command line that matter; everything else may be a secret and is left out.
CMDLINE_WORDS = frozenset(
    """cgroup.memory iommu intel_iommu amd_iommu swiotlb transparent_hugepage threadirqs isolcpus nohz_full mem numa
    hugepages hugepagesz zswap.enabled root rootflags nfsroot netroot ip init_on_alloc init_on_free slub_debug
    page_owner movable_node kernelcore min_free_kbytes""".split()
)

# Of each process in the path of block IO; of every other one that holds a socket only name and state.
PROCESS_FILES = (
    "stat",
    "status",
    "comm",
    "cgroup",
    "oom_score_adj",
    "limits",
    "exe",
    "root",
    "ns/net",
    "ns/mnt",
)
PROCESS_PATTERNS = (
    "proc/*/fd",
    "proc/*/fd/*",
    "proc/*/task/*/stat",
    "proc/*/cmdline",
    *(f"proc/*/{name}" for name in PROCESS_FILES),
)
CGROUP_FILES = ("memory.max", "memory.high", "memory.min", "memory.low", "memory.swap.max")


def paths(*, netlink: bool = True) -> tuple[str, ...]:
    """Every pattern that a live reading looks for, sorted."""
    lists = ALL if netlink else ALL + WITHOUT_NETLINK
    whole = [f"{one.folder}/{name}".removeprefix("./") for one in lists for name in one.names]
    return tuple(sorted({*whole, *(one.path for one in IN_PART), *PROCESS_PATTERNS, COMMAND_LINE}))
