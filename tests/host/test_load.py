"""From a host's facts to the sum: nothing that is there is left out, nothing unread is taken to be small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.findings.hosts import HOST as GUEST
from tests.findings.hosts import MOUNT, NIC, ROUTE, SOCKET, SWAP

from tidegate.host.facts import Host, Link, Mount, PacketSocket, RxRing, Transport
from tidegate.host.load import connections_of, flagged, others_of, pools_of, reserve_of, rings_of
from tidegate.result import Gap, Topic

HOST = replace(GUEST, sysctls={**GUEST.sysctls, "net.core.netdev_max_backlog": "1000"})
KEYS = tuple(name for name in HOST.sysctls if name.startswith("net.") and "busy" not in name)


def with_user(**changes: Any) -> Host:
    return replace(HOST, users=(replace(SWAP, **changes),))


def with_sysctl(name: str, value: str) -> Host:
    return replace(HOST, sysctls={**HOST.sysctls, name: value})


def without_sysctl(name: str) -> Host:
    return replace(HOST, sysctls={key: value for key, value in HOST.sysctls.items() if key != name})


def holder(host: Host, start: str) -> int | None:
    found = [row for row in reserve_of(host).rows if row.holder.startswith(start)]
    assert len(found) == 1, [row.holder for row in reserve_of(host).rows]
    return found[0].pages


# --- connections -------------------------------------------------------------------------------------------


def test_a_locked_buffer_counts_as_it_is() -> None:
    (one,) = connections_of(HOST)
    assert (one.sndbuf_bytes, one.rcvbuf_bytes) == (262_144, 262_144)
    assert one.measured
    assert one.flagged
    assert one.requests == 128  # nbd's tags, not the scheduler's 256
    assert one.request_bytes == 1280 * 1024


@pytest.mark.parametrize("locked", [False, None])
def test_a_buffer_that_is_not_locked_grows_to_the_maximum(locked: bool | None) -> None:
    host = with_user(sockets=(replace(SOCKET, sndbuf_locked=locked, rcvbuf_locked=locked),))
    (one,) = connections_of(host)
    assert (one.sndbuf_bytes, one.rcvbuf_bytes) == (1_652_544, 1_652_544)
    assert "tcp_rmem" in one.why_rcvbuf


def test_a_buffer_larger_than_the_maximum_stays() -> None:
    host = with_user(sockets=(replace(SOCKET, sndbuf_locked=False, sndbuf_bytes=9_000_000),))
    assert connections_of(host)[0].sndbuf_bytes == 9_000_000


def test_a_unix_socket_does_not_grow() -> None:
    host = with_user(sockets=(replace(SOCKET, family="unix", sndbuf_locked=None, rcvbuf_locked=None),))
    assert connections_of(host)[0].rcvbuf_bytes == 262_144


@pytest.mark.parametrize("name", ["net.ipv4.tcp_wmem", "net.ipv4.tcp_rmem"])
def test_without_the_maximum_there_is_no_bound(name: str) -> None:
    host = with_user(sockets=(replace(SOCKET, sndbuf_locked=None, rcvbuf_locked=None),), queue=None)
    host = replace(host, sysctls=without_sysctl(name).sysctls)
    assert reserve_of(host).need_pages is None


def test_connections_that_were_not_seen_count_too() -> None:
    assert len(connections_of(with_user(connections=4))) == 4
    assert len(connections_of(with_user(sockets=(), connections=None))) == 1
    unseen = connections_of(with_user(connections=2))[1]
    assert not unseen.measured
    assert unseen.sndbuf_bytes == 1_652_544
    assert (reserve_of(with_user(connections=4)).need_pages or 0) > (reserve_of(HOST).need_pages or 0)


def test_several_connections_to_one_server_have_names_of_their_own() -> None:
    host = with_user(sockets=(SOCKET, replace(SOCKET, inode=99, local_port=40001)), connections=2)
    assert [one.label for one in connections_of(host)] == [
        "10.0.2.2:10809 from port 40000",
        "10.0.2.2:10809 from port 40001",
    ]
    assert connections_of(HOST)[0].label == "10.0.2.2:10809"


def test_a_shared_connection_counts_once() -> None:
    second = replace(SWAP, name="disk /dev/sdb")
    assert len(connections_of(replace(HOST, users=(SWAP, second)))) == 1


@pytest.mark.parametrize(
    ("transport", "expected"),
    [(Transport.NBD, True), (Transport.ISCSI, True), (Transport.NVME_TCP, True), (Transport.SMB, False)],
)
def test_who_is_flagged(transport: Transport, expected: bool) -> None:
    assert flagged(replace(SWAP, transport=transport)) is expected


def test_nfs_is_flagged_only_for_swap() -> None:
    assert not flagged(MOUNT)
    assert flagged(replace(MOUNT, swaps=True))


def test_rdma_has_no_skbs() -> None:
    assert connections_of(with_user(transport=Transport.RDMA)) == ()


# --- rings -------------------------------------------------------------------------------------------------


def test_the_ring_of_the_swaps_nic() -> None:
    (ring,) = rings_of(HOST)
    assert (ring.nic, ring.slots, ring.queues, ring.users) == ("eth0", 256, 1, (SWAP.name,))
    assert ring.driver is not None
    assert holder(HOST, "receive rings of eth0") == 256


@pytest.mark.parametrize(
    "changes",
    [
        {"driver": "mystery"},
        {"driver": ""},
        {"ring": RxRing(slots=None, slots_max=None, queues=1)},
        {"ring": RxRing(slots=256, slots_max=256, queues=None)},
    ],
    ids=["unknown driver", "no driver", "no ring", "no queues"],
)
def test_a_ring_that_is_not_known_has_no_bound(changes: dict[str, Any]) -> None:
    found = reserve_of(replace(HOST, links=(replace(NIC, **changes),)))
    assert found.need_pages is None


def test_a_nic_that_was_not_seen_has_no_bound() -> None:
    assert reserve_of(replace(HOST, links=())).need_pages is None
    assert reserve_of(with_user(routes=())).need_pages is None
    assert reserve_of(with_user(routes=(replace(ROUTE, nics=()),))).need_pages is None
    local = with_user(routes=(replace(ROUTE, local=True, nics=()),), server_local=True)
    assert reserve_of(local).need_pages is not None


def test_links_that_have_no_ring() -> None:
    loopback = replace(NIC, name="lo", driver="", kind="")
    bridge = replace(NIC, name="br0", driver="bridge", kind="bridge")
    down = replace(NIC, name="eth1", driver="mystery", up=False)
    assert len(rings_of(replace(HOST, links=(NIC, loopback, bridge, down)))) == 1
    other = replace(NIC, name="eth1", driver="igb")
    assert [ring.users for ring in rings_of(replace(HOST, links=(NIC, other)))] == [(SWAP.name,), ()]


def test_virtio_from_6_19_has_no_worker() -> None:
    host = replace(HOST, kernel=replace(HOST.kernel, version=(6, 19, 1)))
    row = next(row for row in reserve_of(host).rows if row.holder.startswith("receive rings"))
    assert "worker" not in row.why
    assert "worker" in next(r.why for r in reserve_of(HOST).rows if r.holder.startswith("receive rings"))


# --- what others pin ---------------------------------------------------------------------------------------


def test_pools() -> None:
    names = [pool.holder for pool in pools_of(HOST)]
    assert names == ["TCP sockets", "UDP sockets", "IPv4 fragments", "IPv6 fragments", "softnet backlog"]
    assert holder(HOST, "TCP sockets") == 2 * 4842  # pages; two buffers share one
    assert holder(HOST, "softnet backlog") == 1000


def udp(host: Host) -> int | None:
    (pool,) = [pool for pool in pools_of(host) if pool.holder == "UDP sockets"]
    return None if pool.amount_bytes is None else pool.amount_bytes // 4096


# What booted guests held at most (Linux 6.12, 1 CPU, a storm to sockets nobody reads), in pages.
@pytest.mark.parametrize(
    ("limits", "peak"),
    [
        ("4815\t6421\t9630", 4864),
        ("3500\t3500\t3500", 3584),
        ("629\t838\t1258", 768),
        ("186\t248\t372", 256),
    ],
)
def test_udp_is_bounded_by_the_first_number_and_the_batches(limits: str, peak: int) -> None:
    counted = udp(with_sysctl("net.ipv4.udp_mem", limits))
    assert counted == int(limits.split(maxsplit=1)[0]) + 256
    assert peak <= counted < peak + 256


def test_each_cpu_may_hold_one_batch_of_udp() -> None:
    assert udp(replace(HOST, cpus=4)) == 4842 + 4 * 256
    assert udp(replace(with_sysctl("net.core.mem_pcpu_rsv", "16"), cpus=4)) == 4842 + 4 * 16


def test_batches_that_were_not_read_leave_udp_without_bound() -> None:
    gap = Gap(path="proc/sys/net/core/mem_pcpu_rsv", status="denied", topic=Topic.LIMITS)
    for host in (
        replace(HOST, cpus=None),
        replace(HOST, gaps=(gap,)),
        with_sysctl("net.core.mem_pcpu_rsv", "garbled"),
        with_sysctl("net.ipv4.udp_mem", "4842"),
    ):
        assert udp(host) is None


def test_sockets_that_nobody_bounds() -> None:
    packet = PacketSocket(protocol=0x0800, interface=2, rcvbuf_bytes=4096 * 100, inode=7)
    host = replace(HOST, packet_sockets=(packet,), sockets=(replace(SOCKET, kind="raw", inode=8),))
    assert holder(host, "packet socket 7 (ethertype 0x0800)") == 200
    assert holder(host, "raw socket 8") == 128
    assert (
        holder(replace(host, packet_sockets=(replace(packet, rcvbuf_bytes=None),)), "packet socket") is None
    )


def test_taps_park_packets() -> None:
    tap = Link(
        name="tap0", index=9, kind="tun", driver="tun", up=True, mtu=1500, address="",
        ring=RxRing(slots=None, slots_max=None, queues=2),
    )  # fmt: skip
    assert holder(replace(HOST, links=(NIC, tap)), "queue of tap0") == 2 * 1000 * 16


def test_connection_tracking_reassembles_too() -> None:
    host = replace(HOST, modules=HOST.modules | {"nf_defrag_ipv6"})
    assert holder(host, "IPv6 fragments of connection tracking") == 2 * 1024


def test_packets_behind_rps_are_as_large_as_gro_makes_them() -> None:
    host = replace(HOST, links=(replace(NIC, rps=True),))
    assert holder(host, "softnet backlog") == 16_000


@pytest.mark.parametrize("name", KEYS)
def test_a_limit_that_was_not_read_never_makes_the_sum_smaller(name: str) -> None:
    whole = reserve_of(HOST)
    for host in (without_sysctl(name), with_sysctl(name, "garbled")):
        found = reserve_of(host)
        assert found.pin_pages is None or found.pin_pages >= (whole.pin_pages or 0)
        assert found.need_pages is None or found.need_pages >= (whole.need_pages or 0)
        assert not any(one.holds for one in found.conditions)


def test_a_host_without_ipv6_has_the_default_in_its_place_unless_it_was_hidden() -> None:
    name = "net.ipv6.ip6frag_high_thresh"
    assert holder(without_sysctl(name), "IPv6 fragments") == 2048
    gap = Gap(path="proc/sys/net/ipv6/ip6frag_high_thresh", status="denied", topic=Topic.LIMITS)
    assert holder(replace(without_sysctl(name), gaps=(gap,)), "IPv6 fragments") is None


# --- others who take from the reserve ----------------------------------------------------------------------


def mount(fstype: str) -> Mount:
    return Mount(id=1, device="8:1", root="/", point="/srv", fstype=fstype, source="x", options=())


@pytest.mark.parametrize(
    ("changes", "name", "bounded"),
    [
        ({"mounts": (mount("cifs"),)}, "CIFS demultiplex thread", False),
        ({"mounts": (mount("xfs"),)}, "XFS AIL", True),
        ({"mounts": (mount("bcachefs"),)}, "bcachefs journal reclaim", False),
        ({"links": (NIC, replace(NIC, name="wg0", kind="wireguard", driver=""))}, "WireGuard", False),
        ({}, "kswapd, direct and memcg reclaim", True),
    ],
)
def test_others(changes: dict[str, Any], name: str, bounded: bool) -> None:
    host = replace(HOST, **changes)
    found = {other.holder: other for other in others_of(host)}
    assert (found[name].pages is not None) is bounded
    assert found[name].why
    assert (reserve_of(host).need_pages is not None) is bounded


def test_a_compressing_front_makes_reclaim_take_pages() -> None:
    found = others_of(with_user(front=("zswap",)))[0]
    assert found.pages == (1 + 1) * 32
    assert not found.measured
    assert others_of(HOST)[0].pages == 0
    assert others_of(replace(with_user(front=("zswap",)), cpus=None))[0].pages is None


def test_a_host_without_block_users_needs_nothing() -> None:
    found = reserve_of(replace(HOST, users=(), sockets=(), mounts=(mount("cifs"),)))
    assert found.need_pages == 0
    assert found.pin_pages is not None


def test_a_host_whose_memory_was_not_read() -> None:
    found = reserve_of(replace(HOST, memory=None))
    assert found.exclusive_pages is None
    assert found.zones == ()
    assert not any(one.holds for one in found.conditions)


# --- queues and tables of others ---------------------------------------------------------------------------


def test_connection_tracking_holds_its_entries() -> None:
    assert holder(with_sysctl("net.netfilter.nf_conntrack_max", "65536"), "connection tracking") == 5120
    assert holder(replace(HOST, modules=frozenset({"nf_conntrack"})), "connection tracking") is None


def test_a_verdict_queue_holds_its_packets() -> None:
    name = "proc/net/netfilter/nfnetlink_queue"
    loaded = replace(HOST, modules=frozenset({"nfnetlink_queue"}))
    assert holder(loaded, "NFQUEUE") is None
    one = replace(loaded, texts={**HOST.texts, name: "    0  31621     0 2  4016     0     0        0  1\n"})
    assert holder(one, "NFQUEUE") == 1024 * 16
    assert not [pool for pool in pools_of(replace(one, texts={name: ""})) if pool.holder == "NFQUEUE"]


def test_a_router_holds_what_waits_to_leave() -> None:
    router = with_sysctl("net.ipv4.ip_forward", "1")
    assert holder(router, "packets forwarded to") == 32 * 256


@pytest.mark.parametrize(("rps", "pages"), [(False, 1000), (True, 16_000), (None, 16_000)])
def test_packets_are_merged_before_the_backlog_unless_rps_is_off(rps: bool | None, pages: int) -> None:
    host = replace(HOST, cpus=1, links=tuple(replace(one, rps=rps) for one in HOST.links))
    assert holder(host, "softnet backlog") == pages


def test_swap_over_nfs_takes_more_than_it_sends() -> None:
    assert holder(with_user(transport=Transport.NFS), "NFS swap requests") == 96
    assert not [one for one in others_of(HOST) if one.holder == "NFS swap requests"]
