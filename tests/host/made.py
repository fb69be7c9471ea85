"""Records made by hand from realistic texts, for what tests need and QEMU cannot show. Every one says `made=True`.

`swap_host()` and relatives return a `Made`: a mutable tree of texts and links that ends in `.record()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt

from tidegate.host import netlink_format as form
from tidegate.host.record import Member, Record, Status
from tidegate.units import KIB, MIB

IO_FLUSHER = 0x400000 | 0x80000 | 0x100000  # PF_RANDOMIZE, PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE
CLIENT = "10.0.2.15"
SERVER = "10.0.2.2"
GATEWAY = "10.0.2.1"
PATTERNS = ("proc/**", "sys/**", "netlink/*", "etc/**", "var/**", "run/**", "dev/**", ".dockerenv")


@dataclass
class Made:
    """A host being made: put texts and links, take things away, then `.record()`."""

    release: str = "6.12.117-cloud-amd64"
    machine: str = "x86_64"
    page_bytes: int = 4096
    members: dict[str, Member] = field(default_factory=dict)
    netlink: bool = True  # False: netlink could not be asked
    links: list[form.Link] = field(default_factory=list)
    addresses: list[form.Address] = field(default_factory=list)
    routes: list[form.Route] = field(default_factory=list)
    neighbours: list[form.Neighbour] = field(default_factory=list)
    sockets: list[form.Socket] = field(default_factory=list)
    packets: list[form.PacketSocket] = field(default_factory=list)
    devices: list[form.Device] = field(default_factory=list)

    def put(self, path: str, text: str) -> Made:
        """A file; the last line is ended."""
        if text and not text.endswith("\n"):
            text += "\n"
        self.members[path] = Member(path=path, status=Status.FOUND, data=text.encode())
        return self

    def many(self, folder: str, texts: Mapping[str, object]) -> Made:
        """Several files below a folder."""
        for name, text in texts.items():
            self.put(f"{folder}/{name}", str(text))
        return self

    def link(self, path: str, target: str) -> Made:
        """A symbolic link."""
        self.members[path] = Member(path=path, status=Status.FOUND, target=target)
        return self

    def mark(self, path: str, status: Status) -> Made:
        """A path that was looked for and is denied, damaged, absent or not held."""
        self.members[path] = Member(path=path, status=status)
        return self

    def drop(self, *prefixes: str) -> Made:
        """Everything at or below some paths goes away."""
        for path in list(self.members):
            if any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in prefixes):
                del self.members[path]
        return self

    def append(self, path: str, line: str) -> Made:
        """A line at the end of a file."""
        return self.put(path, self.members[path].data.decode() + line)

    def record(self, *, complete: bool = True) -> Record:
        """The record."""
        return Record(
            members={**self._netlink(), **self.members},
            kernel=self.release,
            machine=self.machine,
            taken="2026-11-20T10:00:00Z",
            source="made",
            complete=complete,
            tool="tests",
            page_bytes=self.page_bytes,
            made=True,
            patterns=PATTERNS,
        )

    def _netlink(self) -> dict[str, Member]:
        answers = {
            form.LINKS: form.Links(self.links),
            form.ADDRESSES: form.Addresses(self.addresses),
            form.ROUTES: form.Routes(self.routes),
            form.NEIGHBOURS: form.Neighbours(self.neighbours),
            form.SOCKETS: form.Sockets(self.sockets),
            form.PACKET: form.PacketSockets(self.packets),
            form.ETHTOOL: form.Devices(self.devices),
        }
        if not self.netlink:
            return {path: Member(path=path, status=Status.ABSENT, detail="no netlink") for path in answers}
        return {
            path: Member(path=path, status=Status.FOUND, data=form.encode(one))
            for path, one in answers.items()
        }


def size_kib(text: str) -> int:
    """`256M` in KiB."""
    unit = {"M": MIB, "G": MIB * KIB}[text[-1]]
    return int(text[:-1]) * unit // KIB


def zone_text(
    node: int,
    name: str,
    managed: int,
    minimum: int,
    *,
    free: int | None = None,
    protection: str = "(0, 0, 0, 0, 0)",
) -> str:
    """A populated zone as /proc/zoneinfo prints it."""
    step = max(minimum // 4, managed // 1000)
    free = minimum + 3 * step + managed // 8 if free is None else free
    return f"""Node {node}, zone {name:>8}
  per-node stats
      nr_inactive_anon 2316
      nr_active_anon 51
  pages free     {free}
        boost    0
        min      {minimum}
        low      {minimum + step}
        high     {minimum + 2 * step}
        promo    {minimum + 3 * step}
        spanned  {managed + 400}
        present  {managed + 200}
        managed  {managed}
        cma      0
        protection: {protection}
      nr_free_pages {free}
      nr_zone_inactive_anon {managed // 4}
      nr_zone_active_anon {managed // 8}
      nr_zone_inactive_file {managed // 16}
      nr_zone_active_file {managed // 32}
      nr_free_cma  0
  pagesets
    cpu: 0
              count:    31
              high:     420
              batch:    63
  vm stats threshold: 8
  node_unreclaimable:  0
  start_pfn:           1
"""


def empty_zone_text(node: int, name: str) -> str:
    """A zone without pages."""
    return f"""Node {node}, zone {name:>8}
  pages free     0
        boost    0
        min      0
        low      0
        high     0
        promo    0
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 0, 0, 0)
"""


def base(
    memory: str = "256M", *, cpus: int = 1, nodes: int = 1, release: str = "6.12.117-cloud-amd64"
) -> Made:
    """A machine with memory, settings and counters; no disks, no network beyond loopback, no swap."""
    made = Made(release=release)
    _memory(made, size_kib(memory), nodes)
    made.put("sys/devices/system/cpu/online", "0" if cpus == 1 else f"0-{cpus - 1}")
    made.many("proc/sys/kernel", {"hostname": "made", "osrelease": release})
    made.many(
        "proc/sys/net/core",
        {
            "netdev_max_backlog": 1000,
            "rmem_max": 212992,
            "wmem_max": 212992,
            "rmem_default": 212992,
            "high_order_alloc_disable": 0,
            "skb_defer_max": 64,
            "busy_poll": 0,
            "busy_read": 0,
            "optmem_max": 131072,
        },
    )
    made.many(
        "proc/sys/net/ipv4",
        {
            "tcp_mem": "2421\t3228\t4842",
            "udp_mem": "4842\t6456\t9684",
            "tcp_rmem": "4096\t131072\t1652544",
            "tcp_wmem": "4096\t16384\t1652544",
            "ipfrag_high_thresh": 4194304,
            "ipfrag_time": 30,
            "ip_forward": 0,
        },
    )
    made.put("proc/sys/net/ipv6/ip6frag_high_thresh", "4194304")
    made.put("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    made.put("proc/cmdline", "console=ttyS0")
    made.put("proc/modules", "virtio_net 102400 0 - Live 0x0000000000000000")
    made.put(
        "proc/self/mountinfo",
        "1 1 0:2 / / rw - rootfs rootfs rw\n"
        "21 1 0:19 / /proc rw,relatime - proc proc rw\n"
        "22 1 0:20 / /sys rw,relatime - sysfs sysfs rw\n",
    )
    kinds = {"/": "rootfs", "/proc": "proc", "/sys": "sysfs"}
    lines = [f"device {kind} mounted on {point} with fstype {kind}" for point, kind in kinds.items()]
    made.put("proc/self/mountstats", "\n".join(lines))
    _net_tables(made)
    nic_less_loopback(made)
    process(made, 1, "init")
    made.link("proc/self/ns/net", "net:[4026531833]").link("proc/1/ns/net", "net:[4026531833]")
    made.link("proc/self/ns/pid", "pid:[4026531836]")
    return made


def _memory(made: Made, total_kib: int, nodes: int) -> None:
    pages = total_kib // 4
    min_free = min(max(isqrt(16 * total_kib), 128), 262144)
    texts = []
    for node in range(nodes):
        share = pages // nodes
        dma = 3840 if node == 0 else 0
        low = 0 if node else min(share - dma, 786432)
        managed = {"DMA": dma, "DMA32": low, "Normal": share - dma - low, "Movable": 0, "Device": 0}
        for at, (name, own) in enumerate(managed.items()):
            above = list(managed.values())[at + 1 :]
            reserve = [0] * (at + 1) + [sum(above[: count + 1]) // 256 for count in range(len(above))]
            protection = "(" + ", ".join(map(str, reserve if own else [0] * 5)) + ")"
            minimum = min_free // 4 * own // pages
            texts.append(
                zone_text(node, name, own, minimum, protection=protection)
                if own
                else empty_zone_text(node, name)
            )
    made.put("proc/zoneinfo", "".join(texts))
    managed_kib = pages * 4
    made.put(
        "proc/meminfo",
        f"MemTotal:       {managed_kib} kB\nMemFree:        {managed_kib // 8} kB\n"
        "SwapTotal:      0 kB\nSwapFree:       0 kB\nHugePages_Total:       0",
    )
    made.put("proc/vmstat", "nr_free_pages 6000\npswpin 0\npswpout 0\npgscan_direct_throttle 0\noom_kill 0")
    made.many(
        "proc/sys/vm",
        {
            "min_free_kbytes": min_free,
            "watermark_scale_factor": 10,
            "watermark_boost_factor": 15000,
            "lowmem_reserve_ratio": "256\t256\t32\t0\t0",
            "page-cluster": 3,
            "swappiness": 60,
        },
    )
    made.put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")
    made.put("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152")
    made.put("sys/module/zswap/parameters/enabled", "N")


def _net_tables(made: Made) -> None:
    made.put("proc/net/netstat", "TcpExt: SyncookiesSent TCPMemoryPressures PFMemallocDrop\nTcpExt: 0 0 0")
    made.put(
        "proc/net/snmp", "Tcp: RtoAlgorithm RetransSegs\nTcp: 1 0\nUdp: InDatagrams RcvbufErrors\nUdp: 0 0"
    )
    made.put(
        "proc/net/sockstat",
        "sockets: used 20\nTCP: inuse 0 orphan 0 tw 0 alloc 2 mem 10\nUDP: inuse 0 mem 0\nRAW: inuse 0\n"
        "FRAG: inuse 0 memory 0",
    )
    made.put("proc/net/softnet_stat", " ".join(["00000000"] * 15))
    made.put("proc/net/packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n")
    made.put("proc/net/tcp", TCP_HEAD)
    made.put("proc/net/tcp6", TCP6_HEAD)
    made.put("proc/net/unix", "Num       RefCount Protocol Flags    Type St Inode Path\n")
    made.put("proc/net/route", ROUTE_HEAD)
    made.put(
        "proc/net/arp", "IP address       HW type     Flags       HW address            Mask     Device\n"
    )
    made.put(
        "proc/net/fib_trie",
        "Local:\n  +-- 127.0.0.0/8 2 0 2\n        |-- 127.0.0.1\n           /32 host LOCAL\n",
    )


TCP_HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
)
TCP6_HEAD = (
    "  sl  local_address                         remote_address                        st tx_queue rx_queue"
    " tr tm->when retrnsmt   uid  timeout inode\n"
)
ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def hexed(address: str) -> str:
    """An IPv4 address as /proc/net/tcp prints it on a little-endian machine."""
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


def tcp(
    made: Made,
    local_port: int,
    remote: str,
    remote_port: int,
    inode: int,
    *,
    local: str = CLIENT,
    state: str = "ESTAB",
    sndbuf: int = 87040,
    rcvbuf: int = 131072,
) -> None:
    """A TCP connection (or, with state LISTEN, a listener)."""
    counted = made.members["proc/net/sockstat"].data.decode()
    before = int(counted.partition("TCP: inuse ")[2].split()[0])
    made.put("proc/net/sockstat", counted.replace(f"inuse {before}", f"inuse {before + 1}", 1))
    code = {"ESTAB": 1, "LISTEN": 10}[state]
    made.append(
        "proc/net/tcp",
        f"   0: {hexed(local)}:{local_port:04X} {hexed(remote)}:{remote_port:04X} {code:02X} 00000000:00000000"
        f" 00:00000000 00000000     0        0 {inode} 1 0000000000000000 20 4 30 10 -1",
    )
    made.sockets.append(
        form.Socket(
            kind="tcp",
            family="inet",
            state=state,
            local=local,
            local_port=local_port,
            remote=remote,
            remote_port=remote_port,
            inode=inode,
            uid=0,
            rmem=0,
            rcvbuf=rcvbuf,
            wmem=0,
            sndbuf=sndbuf,
            fwd=0,
            queued=0,
            drops=0,
        )
    )


def nic_less_loopback(made: Made) -> None:
    """The loopback device."""
    net_device(made, "lo", 1, state="unknown", mtu=65536, address="00:00:00:00:00:00")
    made.addresses.append(form.Address(address="127.0.0.1", prefix=8, index=1))


def net_device(
    made: Made,
    name: str,
    index: int,
    *,
    driver: str = "",
    state: str = "up",
    mtu: int = 1500,
    address: str = "52:54:00:12:34:56",
    kind: str = "",
    lower: tuple[str, ...] = (),
    queues: int = 1,
    slots: int = 256,
    slots_max: int = 1024,
    bond_mode: str | None = None,
    threaded: bool = False,
    xdp: str = "none",
    features: Mapping[str, bool] | None = None,
) -> None:
    """A network device with what sysfs, rtnetlink and ethtool show of it."""
    folder = f"sys/class/net/{name}"
    place = "pci0000:00/0000:00:03.0" if driver else "virtual"
    made.link(folder, f"../../devices/{place}/net/{name}")
    shown = {"ifindex": index, "operstate": state, "mtu": mtu, "address": address, "threaded": int(threaded)}
    made.many(folder, shown)
    devtype = f"DEVTYPE={kind}\n" if kind else ""
    made.put(f"{folder}/uevent", f"{devtype}INTERFACE={name}\nIFINDEX={index}")
    for queue in range(queues):
        made.put(f"{folder}/queues/rx-{queue}/rps_cpus", "0")
    if driver:
        made.link(f"{folder}/device/driver", f"../../../../bus/pci/drivers/{driver}")
        usual = {"tx-scatter-gather": True, "tx-tcp-segmentation": True, "rx-gro": True, "rx-lro": False}
        made.devices.append(
            form.Device(
                name=name,
                driver=driver,
                rx=slots,
                rx_max=slots_max,
                channels_combined=queues,
                features={**usual, **(features or {})},
            )
        )
    for below in lower:
        made.link(f"{folder}/lower_{below}", f"../{below}")
        made.link(f"sys/class/net/{below}/upper_{name}", f"../{name}")
    if bond_mode:
        made.put(f"{folder}/bonding/mode", f"{bond_mode} 4")
    made.links.append(
        form.Link(
            name=name,
            index=index,
            kind=kind,
            mtu=mtu,
            address=address,
            up=state != "down",
            xdp=xdp,
            qdisc="fq_codel" if driver else "noqueue",
            queues_rx=queues,
            bond_mode=bond_mode,
        )
    )


def route(made: Made, device: str, network: str, prefix: int, *, gateway: str = "0.0.0.0") -> None:
    """A route of the main table."""
    mask = (
        ".".join(str((0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF) >> shift & 0xFF) for shift in (24, 16, 8, 0))
        if prefix
        else "0.0.0.0"
    )
    flags = "0003" if gateway != "0.0.0.0" else "0001"
    made.append(
        "proc/net/route",
        f"{device}\t{hexed(network)}\t{hexed(gateway)}\t{flags}\t0\t0\t0\t{hexed(mask)}\t0\t0\t0",
    )


def own_address(made: Made, address: str) -> None:
    """An address of this host."""
    made.append("proc/net/fib_trie", f"        |-- {address}\n           /32 host LOCAL")
    made.addresses.append(form.Address(address=address, prefix=24, index=2))


def nic(
    made: Made, driver: str = "virtio_net", name: str = "eth0", *, queues: int = 1, slots: int = 256
) -> None:
    """One NIC with an address, a default route and a neighbour."""
    net_device(made, name, 2, driver=driver, queues=queues, slots=slots)
    wire(made, name)


def wire(made: Made, name: str) -> None:
    """Address, routes and neighbour of the usual network on a device."""
    own_address(made, CLIENT)
    route(made, name, "10.0.2.0", 24)
    route(made, name, "0.0.0.0", 0, gateway=GATEWAY)
    made.append(
        "proc/net/arp", f"{SERVER}         0x1         0x2         52:55:0a:00:02:02     *        {name}"
    )
    made.neighbours.append(
        form.Neighbour(address=SERVER, device=name, state="REACHABLE", lladdr="52:55:0a:00:02:02")
    )
    made.routes.append(form.Route(peer=SERVER, device=name, source=CLIENT))


def disk(
    made: Made,
    name: str,
    number: str,
    *,
    place: str,
    size_kib: int = 524288,
    slaves: tuple[str, ...] = (),
    queue: bool = True,
) -> None:
    """A block device."""
    folder = f"sys/block/{name}"
    made.link(folder, place)
    made.many(folder, {"dev": number, "size": size_kib * 2, "ro": 0})
    if queue:
        made.many(
            f"{folder}/queue",
            {
                "nr_requests": 256,
                "max_sectors_kb": 1280,
                "scheduler": "[mq-deadline] none",
                "wbt_lat_usec": 2000,
                "read_ahead_kb": 128,
            },
        )
        made.put(f"{folder}/mq/0/nr_tags", "128")
    for slave in slaves:
        made.link(f"{folder}/slaves/{slave}", f"../../{slave}")


def swap(made: Made, path: str, *, kind: str = "partition", kib: int = 524284) -> None:
    """A line of /proc/swaps, and the sum of them in meminfo."""
    made.append("proc/swaps", f"{path}\t{kind}\t{kib}\t\t0\t\t-2")
    lines = made.members["proc/swaps"].data.decode().splitlines()[1:]
    total = sum(int(line.split()[2]) for line in lines)
    info = made.members["proc/meminfo"].data.decode().splitlines()
    made.put(
        "proc/meminfo",
        "\n".join(f"SwapTotal: {total} kB" if one.startswith("SwapTotal") else one for one in info),
    )


def mount(
    made: Made, point: str, fstype: str, source: str, *, number: str = "0:45", options: str = "rw"
) -> None:
    """A line of mountinfo, and one of mountstats."""
    count = len(made.members["proc/self/mountinfo"].data.decode().splitlines())
    made.append(
        "proc/self/mountinfo", f"{count + 40} 1 {number} / {point} rw,relatime - {fstype} {source} {options}"
    )
    made.append("proc/self/mountstats", f"device {source} mounted on {point} with fstype {fstype}")


def process(
    made: Made,
    pid: int,
    comm: str,
    *,
    sockets: tuple[int, ...] = (),
    files: tuple[str, ...] = (),
    flags: int = 0x400000,
    threads: tuple[int, ...] = (),
    locked_kib: int = 0,
    oom: int = 0,
    cgroup: str = "/",
    exe: str = "/usr/sbin/daemon",
    parent: int = 1,
) -> None:
    """A process; `flags` are those of each of its threads."""
    folder = f"proc/{pid}"
    for tid in (pid, *threads):
        line = (
            f"{tid} ({comm}) S {parent} {pid} {pid} 0 -1 {flags} 120 0 0 0 0 0 0 0 20 0 1 0 100 3000000 200"
        )
        made.put(f"{folder}/task/{tid}/stat", line)
    made.put(
        f"{folder}/stat",
        f"{pid} ({comm}) S {parent} {pid} {pid} 0 -1 {flags} 120 0 0 0 0 0 0 0 20 0 1 0 100 3000000 200",
    )
    made.put(f"{folder}/comm", comm)
    made.put(
        f"{folder}/status",
        f"Name:\t{comm}\nVmLck:\t{locked_kib} kB\nVmRSS:\t1200 kB\nThreads:\t{1 + len(threads)}",
    )
    made.put(f"{folder}/oom_score_adj", str(oom))
    made.put(f"{folder}/cgroup", f"0::{cgroup}")
    made.link(f"{folder}/exe", exe)
    targets = ("/dev/null", *(f"socket:[{inode}]" for inode in sockets), *files)
    for number, target in enumerate(targets):
        made.link(f"{folder}/fd/{number}", target)


def nbd(
    made: Made,
    name: str = "nbd0",
    *,
    pid: int = 480,
    server: str = SERVER,
    port: int = 10809,
    connections: int = 1,
    inode: int = 1234,
    netlink: bool = False,
    number: str = "43:0",
    local: str = CLIENT,
    local_port: int = 40000,
    sndbuf: int = 87040,
    rcvbuf: int = 131072,
) -> None:
    """A connected nbd device: by ioctl (the client stays) or by netlink (it went away)."""
    disk(made, name, number, place=f"../devices/virtual/block/{name}")
    made.put(f"sys/block/{name}/pid", str(pid))
    inodes = tuple(range(inode, inode + connections))
    for count, one in enumerate(inodes):
        tcp(made, local_port + count, server, port, one, local=local, sndbuf=sndbuf, rcvbuf=rcvbuf)
    if not netlink:
        process(made, pid, "nbd-client", sockets=inodes, flags=IO_FLUSHER, locked_kib=1200, oom=-1000)


def nbd_swap_host(
    *,
    nic_driver: str = "virtio_net",
    memory: str = "256M",
    cpus: int = 1,
    connections: int = 1,
    netlink: bool = False,
    server: str = SERVER,
    port: int = 10809,
    sndbuf: int = 87040,
    rcvbuf: int = 131072,
    slots: int = 256,
    queues: int = 1,
) -> Made:
    """Swap on one nbd device over one NIC: the machine of the recipe."""
    made = base(memory, cpus=cpus)
    nic(made, nic_driver, slots=slots, queues=queues)
    nbd(
        made,
        connections=connections,
        netlink=netlink,
        server=server,
        port=port,
        sndbuf=sndbuf,
        rcvbuf=rcvbuf,
    )
    swap(made, "/dev/nbd0")
    return made


def local_host(memory: str = "256M") -> Made:
    """A machine with a local disk with a swap partition and nothing over the network."""
    made = base(memory)
    nic(made)
    disk(made, "vda", "254:0", place="../devices/pci0000:00/0000:00:05.0/virtio2/block/vda")
    made.many("sys/block/vda/vda1", {"dev": "254:1", "partition": 1})
    swap(made, "/dev/vda1")
    return made
