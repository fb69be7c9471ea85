"""What netlink is asked, in a network namespace of its own and from answers as the kernel gives them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tidegate.host import netlink
from tidegate.host import netlink_format as form
from tidegate.host.record import Member, Status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")

_SET_UP = """
import ctypes, json, os, struct, sys
from pyroute2 import IPRoute
from tidegate.host import netlink
from tidegate.host import netlink_format as form

def pass_all():
    '''An XDP program: r0 = XDP_PASS; exit. By bpf(2), since nothing here can compile one.'''
    code = struct.pack("<BBhi", 0xB7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("<IIQQIIQ", 6, 2, ctypes.addressof(text), ctypes.addressof(licence), 0, 0, 0) + bytes(88)
    return ctypes.CDLL(None, use_errno=True).syscall(321, 5, ctypes.create_string_buffer(attributes), len(attributes))

skipped = []
with IPRoute() as ip:
    ip.link("set", index=1, state="up")
    ip.link("add", ifname="near", kind="veth", peer={"ifname": "far"})
    near, far = (ip.link_lookup(ifname=name)[0] for name in ("near", "far"))
    ip.addr("add", index=near, address="10.1.0.1", prefixlen=24)
    ip.link("add", ifname="bridge", kind="bridge")
    ip.link("set", index=far, master=ip.link_lookup(ifname="bridge")[0])
    for index in (near, far):
        ip.link("set", index=index, state="up")
    ip.route("add", dst="10.2.0.0/16", gateway="10.1.0.2")
    ip.route("add", dst="10.3.0.0/16", type="blackhole")
    ip.route("add", dst="10.4.0.0/16", table=77, gateway="10.1.0.9")
    ip.rule("add", table=77, priority=100, dst="10.4.0.0", dst_len=16)
    ip.neigh("add", dst="10.1.0.2", lladdr="02:00:00:00:00:02", ifindex=near, state=0x80)
    try:
        ip.link("add", ifname="tunnel", kind="vxlan", vxlan_id=4, vxlan_group="239.1.1.1", vxlan_link=near)
    except Exception:
        skipped.append("vxlan")
    program = pass_all() if os.uname().machine == "x86_64" else -1
    try:
        ip.link("set", index=near, xdp_fd=program) if program > 0 else skipped.append("xdp")
    except Exception:
        skipped.append("xdp")
made = {one.path: json.loads(one.data) if one.data else one.detail for one in netlink.read_netlink({})}
peers = ["10.1.0.9", "10.2.3.4", "10.3.0.1", "10.4.1.1", "8.8.8.8", "10.1.0.1", "127.0.0.5"]
made["routes"] = json.loads(form.encode(netlink._routes(peers)))["routes"]
made["skipped"] = skipped
print(json.dumps(made))
"""


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not here")
    enter = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no network namespace may be made here")
    done = subprocess.run(
        [*enter, sys.executable, "-c", _SET_UP], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.root
def test_links_and_what_they_stand_on(namespace: dict[str, Any]) -> None:
    links = {one["name"]: one for one in namespace[form.LINKS]["links"]}
    index = {name: one["index"] for name, one in links.items()}
    assert links["near"]["kind"] == "veth"
    assert links["near"]["lower"] == index["far"]
    assert links["far"]["master"] == index["bridge"]
    assert links["near"]["up"] is True
    assert links["bridge"]["up"] is False
    assert links["near"]["address"].count(":") == 5
    if "vxlan" not in namespace["skipped"]:
        assert links["tunnel"]["lower"] == index["near"]


@pytest.mark.root
def test_a_program_on_a_device_is_seen(namespace: dict[str, Any]) -> None:
    if "xdp" in namespace["skipped"]:
        pytest.skip("no XDP program could be loaded")
    links = {one["name"]: one for one in namespace[form.LINKS]["links"]}
    assert links["near"]["xdp"] == "native"
    assert "xdp" not in links["far"] or links["far"]["xdp"] == "none"


@pytest.mark.root
def test_routes_are_the_kernels_own_choice(namespace: dict[str, Any]) -> None:
    routes = {one["peer"]: one for one in namespace["routes"]}
    assert (routes["10.1.0.9"]["device"], routes["10.1.0.9"].get("gateway", "")) == ("near", "")
    assert (routes["10.2.3.4"]["device"], routes["10.2.3.4"]["gateway"]) == ("near", "10.1.0.2")
    assert routes["10.4.1.1"]["gateway"] == "10.1.0.9"  # by a policy rule
    assert {routes[peer]["kind"] for peer in ("10.1.0.1", "127.0.0.5")} == {"local"}
    assert {routes[peer]["kind"] for peer in ("10.3.0.1", "8.8.8.8")} == {"unreachable"}
    assert "unreachable" in routes["8.8.8.8"]["error"]


@pytest.mark.root
def test_neighbours_and_addresses(namespace: dict[str, Any]) -> None:
    assert {"address": "10.1.0.2", "device": "near", "state": "PERMANENT", "lladdr": "02:00:00:00:00:02"} in (
        namespace[form.NEIGHBOURS]["neighbours"]
    )
    assert {"10.1.0.1", "127.0.0.1"} <= {one["address"] for one in namespace[form.ADDRESSES]["addresses"]}


@pytest.mark.root
def test_devices_tell_their_features(namespace: dict[str, Any]) -> None:
    devices = {one["name"]: one for one in namespace[form.ETHTOOL]["devices"]}
    assert devices["near"]["features"].keys() >= {"rx-gro", "tx-scatter-gather"}


def message(**said: Any) -> dict[str, Any]:
    attributes = {"IFLA_IFNAME": "x", "IFLA_OPERSTATE": "UP", "IFLA_MTU": 1500} | said
    return {"index": 7, "flags": 1, "attrs": list(attributes.items())}


def info(kind: str, **data: Any) -> dict[str, Any]:
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": list(data.items())})]}


def test_a_bond_tells_its_mode() -> None:
    link = netlink._link(message(IFLA_LINKINFO=info("bond", IFLA_BOND_MODE=4)))
    assert (link.kind, link.bond_mode) == ("bond", "802.3ad")


@pytest.mark.parametrize(
    ("attached", "shown"),
    [("xdp", "native"), ("xdpgeneric", "generic"), ("xdpoffload", "offload"), ("xdpmulti", "multi"), (None, "none")],
)  # fmt: skip
def test_every_way_to_attach_a_program(attached: str | None, shown: str) -> None:
    link = netlink._link(message(IFLA_XDP={"attrs": [("IFLA_XDP_ATTACHED", attached)]}))
    assert link.xdp == shown


def test_a_device_below_in_another_namespace() -> None:
    assert netlink._link(message(IFLA_LINK=3, IFLA_LINK_NETNSID=0)).peer_elsewhere
    assert not netlink._link(message(IFLA_LINK=3)).peer_elsewhere


def test_peers_are_those_of_connections_and_of_storage() -> None:
    def socket(**said: Any) -> form.Socket:
        plain: dict[str, Any] = {"kind": "tcp", "family": "inet", "state": "ESTAB", "uid": 0, "inode": 3}
        ends: dict[str, Any] = {"local": "10.0.0.1", "local_port": 1, "remote": "10.0.0.2", "remote_port": 2}
        return form.Socket(**(plain | ends | said))

    sockets = [
        socket(),
        socket(remote="::ffff:10.0.0.3"),
        socket(remote="0.0.0.0", state="LISTEN"),
        socket(remote="10.0.0.9", kind="udp"),
        socket(remote="10.0.0.8", state="TIME-WAIT"),
    ]
    texts = {
        "sys/class/nvme/nvme0/address": b"traddr=fd00::4,trsvcid=4420,src_addr=10.0.0.5\n",
        "sys/class/iscsi_connection/connection1:0/persistent_address": b"10.0.0.6\n",
        "sys/class/net/eth0/address": b"52:54:00:12:34:56\n",
        "proc/self/mountinfo": b"1 2 0:3 / /m rw - nfs4 s:/x rw,addr=10.0.0.7,clientaddr=10.0.0.1\n",
    }
    members = {path: Member(path=path, status=Status.FOUND, data=data) for path, data in texts.items()}
    peers = netlink.peers_of(sockets, members)
    assert {"10.0.0.2", "10.0.0.3", "fd00::4", "10.0.0.6", "10.0.0.7"} <= set(peers)
    assert not {"10.0.0.9", "10.0.0.8", "0.0.0.0"} & set(peers)


def test_with_many_peers_those_of_storage_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_PEERS_MAX", 2)
    ports = {"10.0.0.2": 80, "10.0.0.3": 443, "10.0.0.4": 10809}
    plain: dict[str, Any] = {"kind": "tcp", "family": "inet", "state": "ESTAB", "uid": 0, "inode": 3}
    sockets = [
        form.Socket(**plain, local="10.0.0.1", local_port=1, remote=remote, remote_port=port)
        for remote, port in ports.items()
    ]
    text = b"1 2 0:3 / /m rw - nfs4 s:/x rw,addr=10.0.0.7\n"
    members = {"proc/self/mountinfo": Member(path="proc/self/mountinfo", status=Status.FOUND, data=text)}
    assert netlink.peers_of(sockets, members) == ("10.0.0.7", "10.0.0.4")


def test_an_answer_larger_than_a_record_can_hold_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "NETLINK_BYTES_MAX", 20)
    members = {one.path: one for one in netlink.read_netlink({})}
    assert members[form.LINKS].status is Status.DAMAGED
    assert "more than 20 bytes" in members[form.LINKS].detail


def test_a_question_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> form.Links:
        raise PermissionError(1, "Operation not permitted")

    def unknown() -> form.Devices:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(netlink, "_links", refused)
    monkeypatch.setattr(netlink, "_ethtool", unknown)
    members = {one.path: one for one in netlink.read_netlink({})}
    assert members[form.LINKS].status is Status.DENIED
    assert "Operation not permitted" in members[form.LINKS].detail
    assert members[form.ETHTOOL].status is Status.ABSENT
    assert members[form.SOCKETS].status is Status.FOUND


def test_a_line_for_each_entry() -> None:
    one, other = (form.Address(address=f"10.0.0.{last}", prefix=24, index=1) for last in (1, 2))
    data = form.encode(form.Addresses([one, other]))
    assert data.count(b"\n") == 4
    assert form.decode(data, form.Addresses).addresses == [one, other]
    assert form.decode(form.encode(form.Addresses([])), form.Addresses).addresses == []
