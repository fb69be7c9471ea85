"""The parsers of /proc/net."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.host import procnet
from tidegate.host.reading import Garbled


def test_counters_in_pairs_of_lines() -> None:
    text = "TcpExt: A B\nTcpExt: 1 -1\nIpExt: C\nIpExt: 3\n"
    assert procnet.snmp_pairs(text) == {"TcpExt.A": 1, "TcpExt.B": -1, "IpExt.C": 3}


@pytest.mark.parametrize(
    "text",
    ["", "TcpExt: A B\n", "TcpExt: A B\nTcpExt: 1\n", "TcpExt: A\nIpExt: 1\n", "TcpExt: A\nTcpExt: x\n"],
)
def test_counters_that_do_not_pair_up_are_garbled(text: str) -> None:
    with pytest.raises(Garbled):
        procnet.snmp_pairs(text)


def test_sockstat() -> None:
    found = procnet.sockstat("sockets: used 19\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 7\n")
    assert found["TCP.mem"] == 7
    assert found["sockets.used"] == 19
    with pytest.raises(Garbled):
        procnet.sockstat("TCP: inuse\n")


def test_softnet_is_summed_over_cpus() -> None:
    line = "0000000a 00000001 00000002 0 0 0 0 0 0 00000003 0 00000004 00000000"
    found = procnet.softnet_stat(f"{line}\n{line}\n")
    assert found == {"processed": 20, "dropped": 2, "time_squeeze": 4, "received_rps": 6, "backlog": 8}
    with pytest.raises(Garbled, match="line 2"):
        procnet.softnet_stat(f"{line}\n0001\n")


def test_protocols_with_uncounted_memory() -> None:
    head = "protocol  size sockets  memory press maxhdr  slab module     cl co di\n"
    found = procnet.protocols(
        head + "TCP       2240      5      12   no     320   yes  kernel      y  y  y\n"
    )
    assert found == {"TCP.sockets": 5, "TCP.memory": 12}
    assert (
        procnet.protocols(head + "UNIX STREAM 1024 9 -1 NI 0 yes kernel y y y\n")["UNIX STREAM.memory"] == -1
    )
    with pytest.raises(Garbled):
        procnet.protocols("nothing\n")


def test_tcp_addresses_of_both_families() -> None:
    four = procnet.inet_line("   0: 0100007F:2A39 0202000A:9C40 01 00000010:00000020 00:0 0 0 0 1234 1 0")
    assert (four.local, four.local_port, four.remote, four.remote_port) == (
        "127.0.0.1",
        10809,
        "10.0.2.2",
        40000,
    )
    assert (four.state, four.tx_queue, four.rx_queue, four.inode, four.family) == (
        "ESTAB",
        16,
        32,
        1234,
        "inet",
    )
    six = "00000000000000000000000001000000"
    line = procnet.inet_line(f"   0: {six}:0016 {six}:0000 0A 00000000:00000000 00:0 0 0 0 7 1 0")
    assert (line.local, line.state, line.family) == ("::1", "LISTEN", "inet6")


@pytest.mark.parametrize(
    "line",
    [
        "0: 0100007F:2A39 0202000A:9C40 01 0:0 00:0 0 0 0",
        "0: 0100007:2A39 0202000A:9C40 01 0:0 00:0 0 0 0 1234",
        "0: 0100007F:2A39 0202000A:9C40 zz 0:0 00:0 0 0 0 1234",
        "0: 0100007F:2A39 0202000A:9C40 01 00 00:0 0 0 0 1234",
        "0 0100007F:2A39 0202000A:9C40 01 0:0 00:0 0 0 0 1234",
        "0: GG00007F:2A39 0202000A:9C40 01 0:0 00:0 0 0 0 1234",
    ],
)
def test_a_garbled_socket_line(line: str) -> None:
    with pytest.raises(Garbled):
        procnet.inet_line(line)


def test_packet_socket() -> None:
    line = procnet.packet_line("ffff8880 3      3    0800   2     1 4096   0      2500")
    assert (line.protocol, line.interface, line.rmem_bytes, line.inode) == (0x800, 2, 4096, 2500)


def test_routes() -> None:
    line = procnet.route_line("eth0\t0002000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0")
    assert (line.device, line.network, line.prefix, line.gateway, line.metric) == (
        "eth0",
        0x0A000200,
        24,
        "",
        100,
    )
    gateway = procnet.route_line("eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0")
    assert (gateway.prefix, gateway.gateway) == (0, "10.0.2.1")
    with pytest.raises(Garbled):
        procnet.route_line("eth0\t00000000\t0102000A0\t0003\t0\t0\t0\t00000000\t0\t0\t0")


def test_routes_of_ipv6() -> None:
    one, zero = "fe80" + "0" * 28, "0" * 32
    line = procnet.route6_line(f"{one} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0")
    assert (line.prefix, line.bits, line.device, line.gateway) == (64, 128, "eth0", "")


PARSERS: list[Callable[[str], object]] = [
    procnet.snmp_pairs, procnet.snmp6, procnet.sockstat, procnet.softnet_stat, procnet.protocols, procnet.inet_line,
    procnet.packet_line, procnet.route_line, procnet.route6_line, procnet.arp_line, procnet.unix_line,
]  # fmt: skip


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text(max_size=200) | st.text(alphabet="0123456789ABCDEFabcdef: \n-x", max_size=300))
def test_nothing_but_garbled_is_raised(parse: Callable[[str], object], text: str) -> None:
    with suppress(Garbled):
        parse(text)
