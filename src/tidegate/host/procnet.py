"""Pure, strict parsers for the tables below /proc/net: text in, facts out, `Garbled` when it is not that."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tidegate.host.reading import Garbled, integer

TCP_HEAD = "sl  local_address"
PACKET_HEAD = "sk"
ROUTE_HEAD = "Iface"
UNIX_HEAD = "Num"
ARP_HEAD = "IP address"

# include/net/tcp_states.h
TCP_STATES = {
    1: "ESTAB",
    2: "SYN-SENT",
    3: "SYN-RECV",
    4: "FIN-WAIT-1",
    5: "FIN-WAIT-2",
    6: "TIME-WAIT",
    7: "CLOSE",
    8: "CLOSE-WAIT",
    9: "LAST-ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "NEW-SYN-RECV",
}


def snmp_pairs(text: str) -> dict[str, int]:
    """/proc/net/netstat and /proc/net/snmp: lines in pairs, names then numbers, as `TcpExt.PFMemallocDrop`."""
    made: dict[str, int] = {}
    lines = text.splitlines()
    if not lines or len(lines) % 2:
        raise Garbled(len(lines) + 1, "an odd number of lines", "names and numbers in pairs")
    for number in range(0, len(lines), 2):
        names, numbers = lines[number].split(), lines[number + 1].split()
        if len(names) != len(numbers) or not names or names[0] != numbers[0] or not names[0].endswith(":"):
            raise Garbled(number + 2, lines[number + 1], f"as many numbers as names after {names[:1]}")
        group = names[0][:-1]
        for name, value in zip(names[1:], numbers[1:], strict=True):
            made[f"{group}.{name}"] = integer(value, number + 2)
    return made


def snmp6(text: str) -> dict[str, int]:
    """/proc/net/snmp6: a name and a number a line."""
    made: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) != 2:
            raise Garbled(number, line, "NAME N")
        made[words[0]] = integer(words[1], number)
    return made


def sockstat(text: str) -> dict[str, int]:
    """/proc/net/sockstat and sockstat6, as `TCP.mem` (pages) and so on."""
    made: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        group, colon, rest = line.partition(":")
        words = rest.split()
        if not colon or len(words) % 2 or not words:
            raise Garbled(number, line, "GROUP: NAME N ...")
        for name, value in zip(words[::2], words[1::2], strict=True):
            made[f"{group}.{name}"] = integer(value, number)
    return made


def softnet_stat(text: str) -> dict[str, int]:
    """/proc/net/softnet_stat summed over CPUs: processed, dropped, time_squeeze, and backlog where printed."""
    made = {"processed": 0, "dropped": 0, "time_squeeze": 0, "received_rps": 0}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) < 9:
            raise Garbled(number, line, "nine hexadecimal columns or more")
        values = [integer(word, number, 16) for word in words]
        for name, value in zip(
            made, (values[0], values[1], values[2], values[9] if len(values) > 9 else 0), strict=False
        ):
            made[name] += value
        if len(values) > 11:
            made["backlog"] = made.get("backlog", 0) + values[11]
    return made


def protocols(text: str) -> dict[str, int]:
    """/proc/net/protocols: sockets and pages of memory (`TCP.sockets`, `TCP.memory`); -1 means not counted."""
    lines = text.splitlines()
    if not lines or lines[0].split()[:4] != ["protocol", "size", "sockets", "memory"]:
        raise Garbled(1, lines[0] if lines else "nothing", "protocol size sockets memory ...")
    made: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        # A name may hold a space; the columns after the names are fixed (net/core/sock.c: proto_seq_printf).
        while len(words) > 4 and not words[1].isdigit():
            words = [words[0] + " " + words[1], *words[2:]]
        if len(words) < 5:
            raise Garbled(number, line, "NAME SIZE SOCKETS MEMORY PRESSURE ...")
        made[f"{words[0]}.sockets"] = integer(words[2], number)
        made[f"{words[0]}.memory"] = integer(words[3], number)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLine:
    """A line of /proc/net/tcp, tcp6, udp or udp6."""

    family: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    state: str
    tx_queue: int
    rx_queue: int
    uid: int
    inode: int


def inet_line(line: str) -> TcpLine:
    """A line below the head (net/ipv4/tcp_ipv4.c: get_tcp4_sock and relatives)."""
    words = line.split()
    if len(words) < 10 or not words[0].endswith(":"):
        raise Garbled(1, line, "SL: LOCAL REMOTE ST TX:RX ...")
    local, local_port = address(words[1])
    remote, remote_port = address(words[2])
    tx_queue, colon, rx_queue = words[4].partition(":")
    if not colon:
        raise Garbled(1, line, "TX:RX queues")
    state = integer(words[3], 1, 16)
    return TcpLine(
        family="inet6" if len(words[1]) > 16 else "inet",
        local=local,
        local_port=local_port,
        remote=remote,
        remote_port=remote_port,
        state=TCP_STATES.get(state, str(state)),
        tx_queue=integer(tx_queue, 1, 16),
        rx_queue=integer(rx_queue, 1, 16),
        uid=integer(words[7]),
        inode=integer(words[9]),
    )


def address(word: str) -> tuple[str, int]:
    """`0100007F:1F90` as the kernel prints it: words of the host's byte order (little endian on what we read)."""
    host, colon, port = word.partition(":")
    if not colon or len(host) not in (8, 32):
        raise Garbled(1, word, "ADDRESS:PORT in hexadecimal")
    try:
        raw = bytes.fromhex(host)
    except ValueError:
        raise Garbled(1, word, "ADDRESS:PORT in hexadecimal") from None
    count = len(raw) // 4
    packed = struct.pack(f">{count}I", *struct.unpack(f"<{count}I", raw))
    family = socket.AF_INET if count == 1 else socket.AF_INET6
    return socket.inet_ntop(family, packed), integer(port, 1, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketLine:
    """A line of /proc/net/packet."""

    kind: int
    protocol: int  # ethertype
    interface: int
    rmem_bytes: int
    inode: int


def packet_line(line: str) -> PacketLine:
    """A line below the head (net/packet/af_packet.c: packet_seq_show)."""
    words = line.split()
    if len(words) != 9:
        raise Garbled(1, line, "SK REFCNT TYPE PROTO IFACE R RMEM USER INODE")
    return PacketLine(
        kind=integer(words[2]),
        protocol=integer(words[3], 1, 16),
        interface=integer(words[4]),
        rmem_bytes=integer(words[6]),
        inode=integer(words[8]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLine:
    """A line of /proc/net/route or ipv6_route."""

    device: str
    network: int  # as a number, host order
    prefix: int
    bits: int  # 32 or 128
    gateway: str
    metric: int
    flags: int


def route_line(line: str) -> RouteLine:
    """A line of /proc/net/route below its head (net/ipv4/fib_trie.c: fib_route_seq_show)."""
    words = line.split()
    if len(words) != 11:
        raise Garbled(1, line, "eleven columns")
    network, gateway, mask = (_swapped(words[at]) for at in (1, 2, 7))
    return RouteLine(
        device=words[0],
        network=network,
        prefix=mask.bit_count(),
        bits=32,
        gateway=socket.inet_ntop(socket.AF_INET, gateway.to_bytes(4, "big")) if gateway else "",
        metric=integer(words[6]),
        flags=integer(words[3], 1, 16),
    )


def route6_line(line: str) -> RouteLine:
    """A line of /proc/net/ipv6_route (net/ipv6/route.c: rt6_seq_show)."""
    words = line.split()
    if len(words) != 10 or len(words[0]) != 32 or len(words[4]) != 32:
        raise Garbled(1, line, "ten columns")
    gateway = integer(words[4], 1, 16)
    return RouteLine(
        device=words[9],
        network=integer(words[0], 1, 16),
        prefix=integer(words[1], 1, 16),
        bits=128,
        gateway=socket.inet_ntop(socket.AF_INET6, gateway.to_bytes(16, "big")) if gateway else "",
        metric=integer(words[5], 1, 16),
        flags=integer(words[8], 1, 16),
    )


def _swapped(word: str) -> int:
    if len(word) != 8:
        raise Garbled(1, word, "eight hexadecimal digits")
    value = integer(word, 1, 16)
    return int.from_bytes(value.to_bytes(4, "little"), "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArpLine:
    """A line of /proc/net/arp."""

    address: str
    flags: int  # 2 complete, 4 permanent
    device: str


def arp_line(line: str) -> ArpLine:
    """A line below the head (net/ipv4/arp.c: arp_format_neigh_entry)."""
    words = line.split()
    if len(words) != 6:
        raise Garbled(1, line, "ADDRESS TYPE FLAGS HARDWARE MASK DEVICE")
    return ArpLine(address=words[0], flags=integer(words[2], 1, 16), device=words[5])


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixLine:
    """A line of /proc/net/unix."""

    inode: int
    kind: int
    state: int
    path: str


def unix_line(line: str) -> UnixLine:
    """A line below the head (net/unix/af_unix.c: unix_seq_show)."""
    words = line.split(None, 7)
    if len(words) < 7:
        raise Garbled(1, line, "NUM REFCOUNT PROTOCOL FLAGS TYPE ST INODE PATH")
    return UnixLine(
        kind=integer(words[4], 1, 16),
        state=integer(words[5], 1, 16),
        inode=integer(words[6]),
        path=words[7].strip() if len(words) > 7 else "",
    )
