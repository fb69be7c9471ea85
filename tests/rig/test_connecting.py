from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests.rig import made_kernels

from tidegate.case_trial import Trial, TrialArm
from tidegate.errors import Lacking, Unsupported
from tidegate.rig import kernels, measures
from tidegate.rig.connecting import TRANSPORTS, check_transport, connect, transport_of
from tidegate.rig.far_side import IN_A_GUEST, PORTS
from tidegate.rig.servers import TARGET
from tidegate.rig.tools import missing
from tidegate.rig.trial_guest import TRANSPORT_MODULES, Guest
from tidegate.trial import Job, Verdict


class Obeying:
    """A guest that only keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def obey(self, command: str) -> list[str]:
        self.told.append(command)
        return []


def told(trial: Trial, *words: str) -> list[str]:
    guest = Obeying()
    connect(cast("Guest", guest), trial, words)
    return guest.told


def test_every_transport_has_a_port_and_modules() -> None:
    assert set(TRANSPORTS) == set(PORTS)
    assert set(TRANSPORTS) <= set(TRANSPORT_MODULES)
    assert {name for name, one in TRANSPORTS.items() if not one.own_socket} == set(IN_A_GUEST)


def test_a_transport_that_is_none() -> None:
    with pytest.raises(
        Unsupported, match=r"^transport fcoe: expected one of nbd, qemu-nbd, iscsi, nvme-tcp, nfs"
    ):
        transport_of(Trial(transport="fcoe"))


def test_iscsi_logs_in_and_swaps_to_its_disk() -> None:
    assert told(Trial(transport="iscsi"), "sndbuf=4") == [
        f"iscsi target={TARGET} address=10.99.0.2 port=3260 sndbuf=4",
        "run /bin/mkswap /dev/sda",
        "swapon /dev/sda",
    ]


def test_a_bound_of_the_memory_cgroup_comes_with_the_connection() -> None:
    assert told(Trial(memcg_mib=8))[0].endswith("connections=1 memory_max=8 cgroup=1")


@pytest.mark.parametrize("name", IN_A_GUEST)
def test_a_server_that_is_a_guest_is_a_neighbour_first(name: str) -> None:
    lines = told(Trial(transport=name, connections=3))
    assert lines[0] == "neighbour peer=10.99.0.3 mac=52:54:00:99:00:03"
    assert "address=10.99.0.3" in lines[1]
    assert "queues=3" in lines[1] or "nconnect=3" in lines[1]
    assert bool(TRANSPORTS[name].folder) != any(line.startswith("swapon ") for line in lines)


def made_kernel(tmp_path: Path) -> kernels.Kernel:
    vmlinuz = made_kernels.lay_out(tmp_path)
    modules = tmp_path / "lib/modules" / made_kernels.RELEASE
    return kernels.Kernel(
        release="6.1-made", version="", package_sha256="", vmlinuz=vmlinuz, vmlinuz_sha256="", modules=modules
    )


def test_a_kernel_without_the_module(tmp_path: Path) -> None:
    kernel = made_kernel(tmp_path)
    assert check_transport(kernel, Trial(transport="nbd")) is TRANSPORTS["nbd"]
    with pytest.raises(Unsupported, match=r"^transport nvme-tcp: kernel 6\.1-made has no module nvme_tcp$"):
        check_transport(kernel, Trial(transport="nvme-tcp"))


CAPS = TrialArm(name="caps", measures=("caps",))


def test_caps_are_words_for_a_socket_of_ones_own() -> None:
    guest = Obeying()
    done = measures.before_connecting(cast("Guest", guest), CAPS, {}, {}, own_socket=True)
    assert done.connect == ("sndbuf=131072", "rcvbuf=131072")
    assert not guest.told


def test_caps_are_bounds_of_all_where_the_kernel_makes_the_socket() -> None:
    guest = Obeying()
    done = measures.before_connecting(cast("Guest", guest), CAPS, {}, {}, own_socket=False)
    assert not done.connect
    assert done.settings == {
        "net.ipv4.tcp_rmem": "4096 131072 262144",
        "net.ipv4.tcp_wmem": "4096 16384 262144",
    }
    assert guest.told[0] == "write /proc/sys/net/ipv4/tcp_rmem 4096 131072 262144"


def test_no_reserve_for_a_socket_that_the_kernel_makes() -> None:
    arm = TrialArm(name="both", measures=("reserve_mem", "caps"))
    measures.check_socket(arm, "iscsi", own_socket=True)
    with pytest.raises(Unsupported, match="the kernel makes the socket of transport nfs itself"):
        measures.check_socket(arm, "nfs", own_socket=False)


PROGRAMS = ("qemu-system-x86_64", "busybox", "gcc", "unshare", "ip", "nbdkit", "qemu-nbd", "tgtd", "tgtadm")


def skip_where_none_can_be_had() -> None:
    if absent := missing(PROGRAMS):
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    if "trixie-cloud" not in {one.name for one in kernels.cached()}:
        pytest.skip("trixie-cloud is not cached here")


@pytest.mark.vm
@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_stock_kernel_takes_it_into_use(tmp_path: Path, name: str) -> None:
    from tidegate.rig.one_trial import network
    from tidegate.rig.trial_guest import booted
    from tidegate.rig.tried import far_of, tried_job
    from tidegate.rig.wire import far_side

    skip_where_none_can_be_had()
    tried = tried_job(Job(case="deadlock", arm="quiet", kernel="", nic="", transport=name, seed=1))
    words = ("reserve=524288", "cgroup=1", "sndbuf=131072") if TRANSPORTS[name].own_socket else ()
    with far_side(far_of(tried, tmp_path)) as side, booted(tried.shape, tmp_path) as (guest, _command):
        guest.await_ready(time.monotonic() + 180)
        network(guest)
        connect(guest, tried.trial, words)
        swaps = guest.obey("print /proc/swaps")[1:]
        folder = TRANSPORTS[name].folder
        if folder:
            assert not swaps
            assert any(f" {folder} nfs4 " in line for line in guest.obey("print /proc/mounts"))
        else:
            assert [line.split()[0] for line in swaps] == [TRANSPORTS[name].device]
            assert abs(int(swaps[0].split()[2]) - tried.trial.swap_mib * 1024) <= 4
        answer = side.order("stop_server")
        assert answer["stats"]["block_from_guest"] > 5
        assert answer["stats"]["block_to_guest"] > 5
        time.sleep(0.2)
        assert side.order("stats")["server"] == "T"
        side.order("go_on_server")


@pytest.mark.vm
@pytest.mark.slow
def test_a_quiet_trial_over_iscsi_survives(tmp_path: Path) -> None:
    from tidegate.rig.one_trial import run_job

    skip_where_none_can_be_had()
    try:
        result = run_job(
            Job(case="deadlock", arm="quiet", kernel="trixie-cloud", nic="", transport="iscsi", seed=1),
            tmp_path,
        )
    except Lacking as trouble:
        pytest.skip(str(trouble))
    assert result.verdict is Verdict.SURVIVED, result.reason
    assert result.transport == "iscsi"
    assert result.done_pages > 40_000
    assert msgspec.json.encode(result)
