"""Stock hosts of any size: swap over NBD and everything else as a kernel sets it by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.findings import hosts

from tidegate import watermarks
from tidegate.host.facts import Host, Memory, RxRing, Socket
from tidegate.reserve import Zone
from tidegate.units import KIB, MIB


def zones(ram_mib: int, nodes: int = 1) -> tuple[Zone, ...]:
    """DMA, DMA32 and Normal of a PC, with nothing but a third of each zone used."""
    pages = ram_mib * MIB // 4096
    sizes = [("DMA", 3840), ("DMA32", min(pages, 780_000) - 3840)]
    rest = max(pages - 780_000, 0)
    made = [_zone(0, name, size) for name, size in sizes]
    made += [_zone(node, "Normal", rest // nodes) for node in range(nodes)]
    protected = watermarks.setup_per_zone_lowmem_reserve(made, (256, 256, 32, 0, 0))
    return watermarks.setup_per_zone_wmarks(protected, watermarks.calculate_min_free_kbytes(protected))


def _zone(node: int, name: str, managed: int) -> Zone:
    return Zone(
        node=node,
        name=name,
        free=managed // 3,
        boost=0,
        min=0,
        low=0,
        high=0,
        promo=0,
        spanned=managed,
        present=managed,
        managed=managed,
        cma=0,
        free_cma=0,
        protection=(),
        pcp=0,
        highatomic=0,
        reclaimable=managed // 4,
    )


def sysctls(ram_mib: int) -> dict[str, str]:
    """What tcp_init_mem(), udp_init_mem() and the tables of the kernel give this much memory."""
    pages = ram_mib * MIB // 4096
    tcp, udp = max(pages // 16, 128), max(pages // 8, 128)
    most = min(max(ram_mib * MIB // 128, 65536), 6 * MIB)
    min_free = watermarks.calculate_min_free_kbytes(zones(ram_mib))
    return {
        "vm.min_free_kbytes": str(min_free),
        "vm.watermark_boost_factor": "15000",
        "vm.watermark_scale_factor": "10",
        "vm.page-cluster": "3",
        "net.core.high_order_alloc_disable": "0",
        "net.core.skb_defer_max": "64",
        "net.core.busy_read": "0",
        "net.core.busy_poll": "0",
        "net.core.netdev_max_backlog": "1000",
        "net.core.rmem_max": "212992",
        "net.core.wmem_max": "212992",
        "net.ipv4.ipfrag_high_thresh": "4194304",
        "net.ipv6.ip6frag_high_thresh": "4194304",
        "net.ipv4.ipfrag_low_thresh": "3145728",
        "net.ipv6.ip6frag_low_thresh": "3145728",
        "net.ipv4.tcp_mem": f"{tcp // 4 * 3}\t{tcp}\t{tcp // 4 * 3 * 2}",
        "net.ipv4.udp_mem": f"{udp // 4 * 3}\t{udp}\t{udp // 4 * 3 * 2}",
        "net.ipv4.tcp_rmem": f"4096\t131072\t{most}",
        "net.ipv4.tcp_wmem": f"4096\t16384\t{min(most, 4 * MIB)}",
    }


def socket(number: int) -> Socket:
    """One connection of the swap device, as a stock nbd-client leaves it."""
    return replace(
        hosts.SOCKET,
        inode=1234 + number,
        local_port=40000 + number,
        rcvbuf_bytes=131072,
        sndbuf_bytes=87040,
        rcvbuf_locked=False,
        sndbuf_locked=False,
    )


def host(
    ram_mib: int = 234,
    *,
    connections: int = 1,
    driver: str = "virtio_net",
    slots: int | None = 256,
    queues: int | None = 1,
    cpus: int = 1,
    nodes: int = 1,
    kernel: tuple[int, int, int] = (6, 12, 117),
    **changed: str,
) -> Host:
    """A host that swaps over NBD. `changed`: sysctls, with __ for the dots."""
    held = zones(ram_mib, nodes)
    settings = sysctls(ram_mib) | {name.replace("__", "."): value for name, value in changed.items()}
    sockets = tuple(socket(number) for number in range(connections))
    user = replace(hosts.SWAP, sockets=sockets, connections=connections)
    nic = replace(hosts.NIC, driver=driver, ring=RxRing(slots=slots, slots_max=slots, queues=queues))
    memory = Memory(
        zones=held,
        total_kib=ram_mib * KIB,
        min_free_kib=int(settings["vm.min_free_kbytes"]),
        watermark_scale_factor=10,
        watermark_boost_factor=15000,
        lowmem_reserve_ratio=(256, 256, 32, 0, 0),
        thp_enabled=False,
        hugepage_kib=2048,
        nodes=nodes,
    )
    return replace(
        hosts.HOST,
        kernel=replace(hosts.HOST.kernel, version=kernel, release=".".join(map(str, kernel))),
        memory=memory,
        cpus=cpus,
        users=(user,),
        links=(nic,),
        sockets=sockets,
        sysctls=settings,
    )


def changed(given: Host, **changes: Any) -> Host:
    """The host with other facts."""
    return replace(given, **changes)
