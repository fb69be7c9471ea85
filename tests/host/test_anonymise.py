"""A record without addresses and names, of which everything else can still be told."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.made_variants import VARIANTS

from tidegate.check import check_record
from tidegate.host.anonymise import _Veil, anonymise
from tidegate.host.archive import record_files
from tidegate.host.opening import open_record
from tidegate.host.record import Member, Record, Status

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


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_what_a_made_host_says_stays(name: str) -> None:
    record = VARIANTS[name]().record()
    plain, veiled = check_record(record), check_record(anonymise(record, key=b"1"))
    assert veiled.verdict is plain.verdict
    assert [(one.id, one.state) for one in veiled.findings] == [(one.id, one.state) for one in plain.findings]
    assert [one.transport for one in veiled.users] == [one.transport for one in plain.users]
    assert [len(one.gaps) for one in (veiled,)] == [len(one.gaps) for one in (plain,)]


# Names as they stand in a record; each begins with `zq`, so that what is left of one is seen.
PLANTED = {
    "proc/sys/kernel/hostname": "zqhost.zqdomain.zqtop\n",
    "proc/self/mountinfo": (
        "29 1 0:41 /zqsub /zqpoint/zq2 rw - nfs4 zqserver.zqdomain:/zqexport rw,addr=10.9.8.7,clientaddr=10.9.8.6\n"
        "30 1 0:42 / /m rw - cifs //zqsmb/zqshare rw,username=zquser,domain=zqcorp,addr=fd00:1234::7\n"
        "31 1 0:43 / /n rw - fuse.sshfs zqlogin@zqssh:/home/zqhome rw\n"
        "32 1 0:44 / /o rw - ceph 10.9.8.5:6789,[fd00:1234::8]:6789:/zqceph rw,name=zqclient,mds_namespace=zqfs\n"
        "33 1 0:45 / /p rw - overlay overlay rw,lowerdir=/x/zqlower:/y/zqlower2,upperdir=/z/zqupper\n"
        "34 1 253:0 / /q rw - ext4 /dev/mapper/zqgroup-zqvolume rw\n"
    ),
    "proc/self/mountstats": "device zqserver:/zqexport mounted on /zqpoint with fstype nfs statvers=1.1\n",
    "proc/swaps": "Filename\n/zqswapdir/zqswapfile file 1 0 -2\n",
    "proc/fs/nfsfs/servers": "NV SERVER PORT USE HOSTNAME\nv4 0a090807  801   1 zqnfs\n",
    "proc/7/cgroup": "0::/zq.slice/zqservice.service\n",
    "proc/7/cmdline": "nbd-client\0-swap\0zqfar.zqaway\x0010809\0/dev/nbd0\0",
    "sys/block/dm-0/dm/name": "zqgroup-zqvolume\n",
    "sys/block/dm-0/dm/uuid": "LVM-zqABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\n",
    "sys/block/dm-1/dm/name": "zqcrypt\n",
    "sys/block/dm-1/dm/uuid": "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-zqcrypt\n",
    "sys/block/loop0/loop/backing_file": "/zqimages/zqimage.img\n",
    "sys/bus/rbd/devices/0/pool": "zqpool\n",
    "sys/bus/rbd/devices/0/name": "zqrbd\n",
    "sys/bus/rbd/devices/0/client_addr": "10.9.8.7:0/1234567\n",
    "sys/class/iscsi_session/session1/targetname": "iqn.2004-04.com.zqvendor:zqtarget\n",
    "sys/class/nvme/nvme0/subsysnqn": "nqn.2014.08.org.nvmexpress:1af41af4zqSERIAL ZQ zqmodel\n",
    "sys/class/nvme/nvme0/address": "traddr=10.9.8.7,trsvcid=4420,src_addr=fd00:1234::9\n",
    "sys/class/net/eth0/address": "52:54:00:aa:bb:cc\n",
    "sys/block/etherd!e1.1/mac": "525400aabbcc\n",
    "sys/kernel/config/nvmet/subsystems/nqn.2004-04.zq:zqsub/namespaces/1/device_path": "/dev/zqgroup/zqlv\n",
    "sys/kernel/config/target/iscsi/iqn.2004-04.com.zqvendor:t/tpgt_1/np/10.9.8.7:3260": "",
    "etc/fstab": "LABEL=zqlabel /zqmnt ext4 rw 0 0\nzqlogin@zqssh:/x /n fuse.sshfs rw 0 0\n",
    "etc/exports": "/zqexported zqclient1.zqdomain(rw) *.zqdomain2(ro) @zqnetgroup(ro)\n",
    "etc/nbdtab": "nbd0 zqnbd.zqdomain zqexportname swap\n",
    "etc/drbd.d/zqres.res": "resource zqres {\n  on zqnode1 {\n  address 10.9.8.7:7789;\n",
    "etc/iscsi/nodes/iqn.2004-04.com.zqvendor:t/10.9.8.7,3260,1/default": "node.startup = automatic\n",
    "etc/systemd/system/zqmnt-zqdata.mount": "What=/dev/zqgroup/zqlv\nWhere=/zqmnt/zqdata\n",
    "sys/fs/cgroup/zq.slice/zqservice.service/memory.max": "max\n",
    "proc/net/tcp": "  sl\n   0: 0708090A:2A39 0608090A:C000 01 0:0 00:0 0 0 0 1\n",
    "proc/net/raw": "  sl\n   0: 0708090A:0001 00000000:0000 07 0:0 00:0 0 0 0 1\n",
    "proc/net/arp": "IP address\n10.9.8.7 0x1 0x2 52:54:00:aa:bb:cc * eth0\n",
    "netlink/sockets.json": '{"sockets":[{"local":"::ffff:10.9.8.7","remote":"fd00:1234::7"}]}\n',
    "netlink/routes.json": '{"routes":[{"peer":"10.9.8.7","gateway":"10.9.8.1","source":"fd00:1234::8"}]}\n',
}
LINKS = {
    "dev/mapper/zqgroup-zqvolume": "../dm-0",
    "dev/zqgroup/zqlv": "../dm-0",
    "dev/disk/by-label/zqlabel": "../../dm-0",
    "dev/disk/by-uuid/01234567-89ab-cdef-0123-456789abcdef": "../../dm-0",
    "proc/7/exe": "/opt/zqproduct/zqbin/server",
    "run/netns/zqnamespace": "",
}
LEFT = re.compile(
    rb"(?i)zq|10\.9\.8|0708090A|0608090A|0a090807|fd00:1234|aa:?bb:?cc|0123456789abcdef|01234567-89ab|vendor"
)


def planted() -> Record:
    members = [Member(path=path, status=Status.FOUND, data=text.encode()) for path, text in PLANTED.items()]
    members += [Member(path=path, status=Status.FOUND, target=target) for path, target in LINKS.items()]
    members.append(Member(path="sys/fs/cgroup/zq.slice", status=Status.DENIED, detail="zqhost refused"))
    return Record(
        members={one.path: one for one in members},
        kernel="6.12.1",
        machine="x86_64",
        taken="2026-11-20T10:00:00Z",
        source="made",
        patterns=("dev/*",),
    )


def test_no_planted_name_is_left_anywhere() -> None:
    record = planted()
    assert all(LEFT.search(path.encode() + text.encode()) for path, text in PLANTED.items())
    veiled = anonymise(record, key=b"1")
    left = {
        path: sorted({found.decode() for found in re.findall(rb"[\w.@-]*(?i:zq)[\w.@-]*", data)}) or data
        for path, data in record_files(veiled).items()
        if LEFT.search(data) or LEFT.search(path.encode())
    }
    assert left == {}
    assert len(veiled.members) == len(record.members)


@pytest.mark.parametrize("name", ["vm", "swap", "zqhost.zqdomain"])
def test_the_hosts_name_goes_however_short_or_common(name: str) -> None:
    member = Member(path="proc/sys/kernel/hostname", status=Status.FOUND, data=f"{name}\n".encode())
    veiled = anonymise(replace(planted(), members={member.path: member}), key=b"1")
    assert name not in veiled.members[member.path].data.decode()


def test_a_volume_keeps_both_of_its_names() -> None:
    """A volume is called /dev/GROUP/VOLUME and, by device mapper, GROUP-VOLUME with hyphens inside doubled."""
    texts = {
        "sys/block/dm-0/dm/name": "zqa--group-zqvol\n",
        "proc/swaps": "Filename\n/dev/zqa-group/zqvol file 1 0 -2\n",
    }
    members = [Member(path=path, status=Status.FOUND, data=text.encode()) for path, text in texts.items()]
    members.append(Member(path="dev/zqa-group/zqvol", status=Status.FOUND, target="../dm-0"))
    veiled = anonymise(replace(planted(), members={one.path: one for one in members}), key=b"1").members
    group, volume = veiled["sys/block/dm-0/dm/name"].data.decode().strip().split("-")
    assert f"/dev/{group}/{volume} file" in veiled["proc/swaps"].data.decode()
    assert f"dev/{group}/{volume}" in veiled
    assert "zq" not in group + volume


def test_what_is_no_name_stays() -> None:
    veiled = anonymise(planted(), key=b"1").members
    mounts = veiled["proc/self/mountinfo"].data.decode()
    for word in ("nfs4", "fuse.sshfs", "username=", "lowerdir=/", "/dev/mapper/", "clientaddr="):
        assert word in mounts
    assert veiled["proc/7/cmdline"].data.split(b"\0")[1:2] == [b"-swap"]
    assert b"resource n" in next(one.data for path, one in veiled.items() if path.startswith("etc/drbd.d/"))
    assert b"::ffff:10." in veiled["netlink/sockets.json"].data


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
