"""A record without its host's addresses and names: each replaced everywhere by the same invented one.

Addresses keep what judging needs: prefixes stay prefixes of each other (bits are turned by a keyed function of the
bits before them, as Crypto-PAn does, Xu et al. 2002), loopback, link-local, multicast and private ranges stay what they
are. Names are those of hosts, volumes, targets, mount points, exports and pools; a name that is also a word of the
kernel's own files is left, since replacing it would change what the record says. The key is forgotten.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import struct
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from tidegate.host.own_names import own_names
from tidegate.host.record import Member, Record, Status

_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-fA-F]*:[0-9a-fA-F:]*:)[0-9a-fA-F:]{2,39}(?![\w:]|\.\d)")
_MAC = re.compile(r"(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])")
_QUALIFIED = re.compile(r"\b(?:iqn|nqn)\.\d{4}[.-]\d{2}\.[\w.:+-]+|\b(?:eui|naa)\.[0-9a-fA-F]{8,32}")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_DEVICE_ID = re.compile(
    r"(?<=LVM-)[0-9A-Za-z]{32,64}|(?<=LUKS[12]-)[0-9a-f]{32}|(?<=mpath-)[0-9A-Za-z]{16,64}"
)
_HEX_PAIR = re.compile(r"\b([0-9A-F]{32}|[0-9A-F]{8}):([0-9A-F]{4})\b")
_HEX6 = re.compile(r"\b[0-9a-f]{32}\b")
_DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"

# Tables that print addresses as numbers: 32-bit words in this machine's order, as one number, or byte by byte.
_NATIVE_HEX = frozenset(f"proc/net/{name}{six}" for name in ("tcp", "udp", "raw") for six in ("", "6"))
# fs/nfs/client.c: nfs_server_list_show
_NFS_SERVER = re.compile(r"(?m)^(v\d+ )([0-9a-f]{32}|[0-9a-f]{8})(?= )")
_AOE_TARGET = re.compile(r"sys/block/etherd![^/]+/mac")  # twelve digits without colons


def anonymise(record: Record, *, key: bytes | None = None) -> Record:
    """The record with every address and name replaced. `key` only for tests: a given key gives the same names."""
    veil = _Veil(key or secrets.token_bytes(32), own_names(record))
    members = {}
    for path, member in record.members.items():
        new = replace(
            member,
            path=veil.text(path),
            target=veil.text(member.target),
            detail=veil.text(member.detail),
            data=_data(veil, path, member),
        )
        members[new.path] = new
    return replace(record, members=members, anonymised=True)


def _data(veil: _Veil, path: str, member: Member) -> bytes:
    if member.status is not Status.FOUND or not member.data:
        return member.data
    try:
        text = member.data.decode()
    except UnicodeDecodeError:
        return member.data
    if path == "proc/sys/kernel/hostname":  # also one that is too short or common to be replaced everywhere
        return f"{veil.name(text.strip())}\n".encode()
    if path.endswith("/subsysnqn") and text.startswith("nqn.2014.08."):
        # What a local controller without a name is called: its serial number follows (nvme_init_subnqn).
        return f"{veil.text(text.strip().replace(' ', '-'))}\n".encode()
    text = veil.text(text)
    if _AOE_TARGET.fullmatch(path):
        return f"{veil.bare_mac(text.strip())}\n".encode()
    if path in _NATIVE_HEX:
        text = _HEX_PAIR.sub(lambda found: f"{veil.little_endian(found[1])}:{found[2]}", text)
    elif path == "proc/net/route":
        text = "".join(_route_line(veil, line) for line in text.splitlines(keepends=True))
    elif path in {"proc/net/ipv6_route", "proc/net/if_inet6"}:
        text = _HEX6.sub(lambda found: veil.address(bytes.fromhex(found[0])).hex(), text)
    elif path.startswith("proc/fs/nfsfs/"):
        text = _NFS_SERVER.sub(lambda found: found[1] + veil.address(bytes.fromhex(found[2])).hex(), text)
    return text.encode()


def _route_line(veil: _Veil, line: str) -> str:
    words = line.split("\t")
    if len(words) > 2 and re.fullmatch("[0-9A-F]{8}", words[1] or ""):
        words[1], words[2] = veil.little_endian(words[1]), veil.little_endian(words[2])
    return "\t".join(words)


class _Veil:
    """What replaces what; keyed, so that the same goes to the same."""

    def __init__(self, key: bytes, names: Iterable[str]) -> None:
        self._key = key
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        choice = "|".join(map(re.escape, longest_first))
        self._names = re.compile(rf"(?<![A-Za-z0-9_])(?:{choice})(?![A-Za-z0-9_])") if choice else None
        self._bit = lru_cache(maxsize=None)(self._hashed_bit)

    def names(self, text: str) -> str:
        """The text with this host's names replaced."""
        if self._names is None:
            return text
        return self._names.sub(lambda found: self.name(found[0]), text)

    def name(self, text: str) -> str:
        """What stands for one name."""
        return "n" + self._hash("name", text.replace("--", "-"))[:8]

    def text(self, text: str) -> str:
        """The text with names, qualified names, UUIDs and addresses replaced."""
        text = _QUALIFIED.sub(self._qualified, text)
        text = _UUID.sub(lambda found: self._uuid(found[0]), text)
        text = _DEVICE_ID.sub(lambda found: (self._hash("device", found[0]) * 2)[: len(found[0])], text)
        text = _MAC.sub(lambda found: self._mac(found[0]), text)
        text = _IPV4.sub(lambda found: self._printed(found[0]), text)
        text = _IPV6.sub(lambda found: self._printed(found[0]), text)
        return self.names(text)

    def _hash(self, kind: str, text: str) -> str:
        return hmac.new(self._key, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()

    def _qualified(self, found: re.Match[str]) -> str:
        if found[0] == _DISCOVERY:
            return found[0]
        head = found[0][:3]
        middle = ".2000-01.example:" if head in {"iqn", "nqn"} else "."
        return head + middle + self._hash("qualified", found[0])[:16]

    def _uuid(self, text: str) -> str:
        made = self._hash("uuid", text.lower())
        return "-".join((made[:8], made[8:12], made[12:16], made[16:20], made[20:32]))

    def _mac(self, text: str) -> str:
        octets = bytes.fromhex(text.replace(":", ""))
        if octets[0] & 1 or not any(octets):  # multicast, broadcast, none
            return text
        made = bytes.fromhex(self._hash("mac", text))
        return bytes([octets[0] & 0x02 | 0x40 & made[0], *made[1:6]]).hex(":")

    def bare_mac(self, text: str) -> str:
        """A MAC address without colons."""
        pairs = re.findall("[0-9a-fA-F]{2}", text)
        return self._mac(":".join(pairs)).replace(":", "") if len(pairs) == 6 else text

    def _printed(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        moved = self.address(address.packed)
        return text if moved == address.packed else str(ipaddress.ip_address(moved))

    def little_endian(self, text: str) -> str:
        """An address as /proc/net/tcp prints it: 32-bit words in the order of this machine."""
        words = struct.unpack(f"<{len(text) // 8}I", struct.pack(f">{len(text) // 8}I", *_words(text)))
        packed = struct.pack(f">{len(words)}I", *words)
        moved = struct.unpack(f"<{len(words)}I", self.address(packed))
        return "".join(f"{word:08X}" for word in moved)

    def address(self, packed: bytes) -> bytes:
        """Another address, related to the others as this one is; special ones stay."""
        address = ipaddress.ip_address(packed)
        if address.is_loopback or address.is_unspecified or address.is_multicast or packed == b"\xff" * 4:
            return packed
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return packed[:12] + self.address(packed[12:])
        old, length = int.from_bytes(packed, "big"), len(packed) * 8
        new = old
        for place in range(_kept(address), length):
            new ^= self._bit(length, place, old >> (length - place)) << (length - place - 1)
        return new.to_bytes(len(packed), "big")

    def _hashed_bit(self, length: int, place: int, before: int) -> int:
        return hmac.digest(self._key, f"{length}/{place}/{before}".encode(), "sha256")[0] & 1


def _words(text: str) -> tuple[int, ...]:
    return tuple(int(text[at : at + 8], 16) for at in range(0, len(text), 8))


def _kept(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """How many leading bits stay, so that private stays private and public public."""
    if isinstance(address, ipaddress.IPv6Address):
        return 10 if address.is_link_local else 8 if address.is_private else 3
    first = address.packed[0]
    if first in {172, 192, 169, 100, 198, 203}:
        return 16
    return 8
