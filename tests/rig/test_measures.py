"""What an arm puts in force, told to a guest that only keeps what it hears and answers from a made /proc."""

from __future__ import annotations

from typing import cast

import pytest

from tidegate.case_trial import TrialArm
from tidegate.errors import BadInput, Lacking, Unsupported
from tidegate.rig import measures
from tidegate.rig.trial_guest import Guest
from tidegate.rules_of_thumb import ADVICE

MIN_FREE = "/proc/sys/vm/min_free_kbytes"


class Made:
    """A guest with files in /proc; what is written is there afterwards, unless it is refused or bounded."""

    def __init__(self) -> None:
        self.files = {"/proc/meminfo": "MemTotal:  98304 kB\nMemFree: 1000 kB", MIN_FREE: "1250"}
        self.told: list[str] = []
        self.refused: set[str] = set()
        self.bound: dict[str, str] = {}
        self.console = ""
        self.script_says: str | None = None
        self.data = b""

    def obey(self, command: str, *, timeout_s: float = 60.0, data: bytes = b"") -> list[str]:
        self.told.append(command)
        word, _, rest = command.partition(" ")
        if word == "print":
            return self.files[rest].splitlines()
        if word == "write":
            path, _, value = rest.partition(" ")
            if path in self.refused:
                raise Lacking("guest: write: Invalid argument")
            self.files[path] = self.bound.get(path, value)
        if word == "file":
            self.data = data
        if command.startswith("run /bin/sh") and self.script_says is not None:
            self.console += self.script_says
            raise Lacking("guest: run: exit 1")
        return []


def in_force(guest: Made, arm: TrialArm, *, own_socket: bool = True, **plan: str) -> measures.InForce:
    values = {f"/proc/sys/net/ipv4/{name}": value for name, value in plan.items()}
    return measures.before_connecting(cast("Guest", guest), arm, {}, values, own_socket=own_socket)


def test_an_arm_without_measures_writes_nothing() -> None:
    guest = Made()
    assert in_force(guest, TrialArm(name="stock")) == measures.InForce()
    assert guest.told == []


def test_what_every_arm_sets_comes_first_and_the_arms_own_last() -> None:
    guest = Made()
    arm = TrialArm(name="a", measures=("tenfold",), sysctl={"vm.min_free_kbytes": "9", "/sys/x": "1"})
    told = measures.before_connecting(cast("Guest", guest), arm, {"net.ipv4.udp_mem": "1 2 3"}, {})
    writes = [one for one in guest.told if one.startswith("write ")]
    assert writes == [
        "write /proc/sys/net/ipv4/udp_mem 1 2 3",
        f"write {MIN_FREE} 12500",
        f"write {MIN_FREE} 9",
        "write /sys/x 1",
    ]
    assert told.settings == {"net.ipv4.udp_mem": "1 2 3", "vm.min_free_kbytes": "9", "/sys/x": "1"}


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("tenfold", 12_500),
        ("node_share", 98_304 * 4 // 1000),
        ("mib512", 524_288),
    ],
)
def test_the_rules_of_thumb_are_those_of_the_books(name: str, kib: int) -> None:
    guest = Made()
    told = in_force(guest, TrialArm(name="a", measures=(name,)))
    assert int(told.settings["vm.min_free_kbytes"]) == pytest.approx(kib, abs=1)
    assert any(measures._RULES[name] in advice.name + advice.formula for advice in ADVICE)


def test_the_setting_that_is_kept_is_what_the_kernel_made_of_it() -> None:
    guest = Made()
    guest.bound[MIN_FREE] = "65536"
    told = in_force(guest, TrialArm(name="a", measures=("mib512",)))
    assert told.settings == {"vm.min_free_kbytes": "65536"}


def test_a_guest_that_refuses_says_which_advice_it_was() -> None:
    guest = Made()
    guest.refused.add(MIN_FREE)
    with pytest.raises(measures.Refused, match=r"^vm\.min_free_kbytes = 12500, by .*: the guest refuses"):
        in_force(guest, TrialArm(name="a", measures=("tenfold",)))


def test_caps_are_words_for_the_connection_or_sysctls_where_the_kernel_makes_its_socket() -> None:
    arm = TrialArm(name="a", measures=("caps",))
    guest = Made()
    told = in_force(guest, arm)
    assert told.connect == ("sndbuf=131072", "rcvbuf=131072")
    assert guest.told == []
    assert told.settings == {"caps": "SO_SNDBUF=131072 SO_RCVBUF=131072"}
    told = in_force(guest, arm, own_socket=False)
    assert told.connect == ()
    assert told.settings == measures.CAPS_OF_ALL
    assert guest.files["/proc/sys/net/ipv4/tcp_rmem"] == "4096 131072 262144"


def test_reserve_mem_comes_with_a_memory_cgroup_and_holds_both_buffers() -> None:
    told = in_force(Made(), TrialArm(name="a", measures=("caps", "reserve_mem")))
    assert told.connect == ("sndbuf=131072", "rcvbuf=131072", "reserve=524288", "cgroup=1")
    assert measures.RESERVE_BYTES == 2 * measures.CAP_BYTES + 2 * measures.CAP_BYTES
    assert told.settings["reserve_mem"] == "SO_RESERVE_MEM=524288"


def test_only_a_socket_made_by_hand_can_have_reserve_mem() -> None:
    arm = TrialArm(name="both", measures=("caps", "reserve_mem"))
    measures.check_socket(arm, "nbd", own_socket=True)
    with pytest.raises(
        Unsupported, match=r"^arm both: reserve_mem: the kernel makes the socket of transport nfs"
    ):
        measures.check_socket(arm, "nfs", own_socket=False)


def test_before_the_connection_only_the_buffers_of_the_plan_are_written() -> None:
    guest = Made()
    told = in_force(
        guest, TrialArm(name="p", measures=("plan",)), tcp_rmem="1 2 3", tcp_wmem="4 5 6", udp_mem="7 8 9"
    )
    assert guest.told == [
        "write /proc/sys/net/ipv4/tcp_rmem 1 2 3",
        "write /proc/sys/net/ipv4/tcp_wmem 4 5 6",
    ]
    assert told == measures.InForce()
    assert in_force(guest, TrialArm(name="stock"), tcp_rmem="1 2 3") == measures.InForce()
    assert len(guest.told) == 2


def test_the_plans_script_is_run_whole_and_read_back() -> None:
    guest = Made()
    guest.files["/p"] = "4096\t87380\t262144"
    measures.run_plan(cast("Guest", guest), "echo hello\n", {"/p": "4096 87380 262144"})
    assert guest.data == b"echo hello\n"
    assert guest.told[1:] == ["file /tmp/plan.sh 11", "run /bin/sh /tmp/plan.sh", "print /p"]


def test_a_plan_that_is_not_in_force_afterwards_is_told() -> None:
    guest = Made()
    guest.files["/p"] = "7"
    with pytest.raises(measures.Refused, match=r"^plan\.sh: /p is 7, expected 8$"):
        measures.run_plan(cast("Guest", guest), "", {"/p": "8"})


def test_a_script_that_says_no_is_quoted() -> None:
    guest = Made()
    guest.script_says = "[ 1.0] x\ntidegate: /proc/sys/x: cannot be written\nmore\n"
    with pytest.raises(measures.Refused, match=r"^plan\.sh: tidegate: /proc/sys/x: cannot be written$"):
        measures.run_plan(cast("Guest", guest), "", {})


def test_what_a_job_sweeps_is_written_and_read_back() -> None:
    guest = Made()
    settings = {"vm.min_free_kbytes": "4000", "net.ipv4.udp_mem": "1 2 3"}
    assert measures.set_last(cast("Guest", guest), settings) == settings
    guest.bound[MIN_FREE] = "3999"
    with pytest.raises(
        (Lacking, measures.Refused), match=r"^vm\.min_free_kbytes = 4000: the guest has 3999$"
    ):
        measures.set_last(cast("Guest", guest), settings)


def test_a_measure_that_is_none_is_told_with_all_there_are() -> None:
    arm = TrialArm(name="a", measures=("caps", "magic"))
    with pytest.raises(BadInput) as told:
        measures.check_measures(arm, "x.toml", "trial.arm 'a'")
    assert str(told.value).startswith(
        "x.toml: trial.arm 'a'.measures: found 'magic', expected one of plan, caps,"
    )
    measures.check_measures(TrialArm(name="a", measures=tuple(measures.MEASURES)), "x.toml", "")
    with pytest.raises(BadInput, match="nothing_like_it"):
        measures.check_measures(TrialArm(name="a", measures=("ablate:nothing_like_it",)), "x.toml", "")
