"""A record without addresses and names, of which everything else can still be told."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.check import check_record
from tidegate.host.anonymise import _Veil, anonymise
from tidegate.host.archive import open_record
from tidegate.host.record import Record

HERE = Path(__file__).resolve().parent.parent
RECORDS = [*sorted((HERE.parent / "hosts").glob("*.tar.xz")), HERE / "recorded/sos-nbd-swap.tar.xz"]
VEIL = _Veil(b"a key for tests", [])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_the_verdict_and_every_finding_stay(path: Path) -> None:
    record = open_record(path)
    plain, veiled = check_record(record), check_record(anonymise(record, key=b"1"))
    assert veiled.verdict is plain.verdict
    assert [(one.id, one.state) for one in veiled.findings] == [(one.id, one.state) for one in plain.findings]
    assert veiled.reserve.need_pages == plain.reserve.need_pages


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_no_address_and_no_name_is_left(path: Path) -> None:
    record = open_record(path)
    veiled = anonymise(record, key=b"1")
    hostname = record.members["proc/sys/kernel/hostname"].data.strip()
    assert len(hostname) > 2
    text = everything(veiled)
    for secret in (b"10.0.2.15", b"52:54:00:12:34:56", b"0F02000A"):
        if secret in everything(record):
            assert secret not in text, secret
    assert hostname not in veiled.members["proc/sys/kernel/hostname"].data
    assert veiled.anonymised


def everything(record: Record) -> bytes:
    return b"\n".join(
        path.encode() + b" " + member.target.encode() + b" " + member.data
        for path, member in record.members.items()
    )


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(one=st.ip_addresses(v=4), other=st.ip_addresses(v=4))
def test_prefixes_stay_prefixes(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
    for bits in (8, 16, 24, 31, 32):
        same = int(one) >> (32 - bits) == int(other) >> (32 - bits)
        veiled = [
            int.from_bytes(VEIL.address(address.packed), "big") >> (32 - bits) for address in (one, other)
        ]
        if not any(map(special, (one, other))):
            assert (veiled[0] == veiled[1]) == same


def special(address: ipaddress.IPv4Address) -> bool:
    return address.is_loopback or address.is_multicast or address.is_unspecified or int(address) == 0xFFFFFFFF


@given(ADDRESSES)
def test_what_an_address_is_for_stays(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    veiled = ipaddress.ip_address(VEIL.address(address.packed))
    for fact in ("is_loopback", "is_unspecified", "is_multicast", "is_link_local"):
        assert getattr(veiled, fact) == getattr(address, fact), fact


def test_hexadecimal_addresses_are_the_same_address() -> None:
    # /proc/net/tcp: 10.0.2.15 in the order of a little-endian machine
    veiled = ipaddress.ip_address(VEIL.address(ipaddress.ip_address("10.0.2.15").packed))
    assert VEIL.little_endian("0F02000A") == veiled.packed[::-1].hex().upper()


def test_the_same_goes_to_the_same_and_the_key_matters() -> None:
    text = "10.1.2.3 iqn.2004-04.com.example:disk 10.1.2.3"
    first, _, last = VEIL.text(text).split()
    assert first == last != "10.1.2.3"
    assert _Veil(b"another", []).text(text) != VEIL.text(text)
    assert "com.example:disk" not in VEIL.text(text)
