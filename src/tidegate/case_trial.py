"""The `[trial]` part of a case: how its claim is tried on real kernels. Syntax only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from tidegate.errors import BadInput
from tidegate.strict_toml import Count, Positive, Ppm, Table

EXPECTED = ("SURVIVED", "STALLED", "WEDGED", "OOM", "PANIC", "FAIL")  # FAIL: one of the last three words


class TrialStorm(StrEnum):
    """What troubles a trial's guest."""

    UDP = "udp"  # datagrams to sockets that nobody reads
    TCP = "tcp"  # connections, made before the pressure, that nobody reads
    FRAGMENT = "fragment"  # datagrams whose last fragment never comes
    TAP = "tap"  # a packet socket that nobody reads, besides what else arrives
    READER = "reader"  # an ordinary user who reads the same disk
    RESET = "reset"  # the server's side resets the block connection once
    STALL = "stall"  # the server is stopped (SIGSTOP), and goes on later


class TrialTraffic(Table, frozen=True):
    """One trouble of a trial. Bursts matter more than the rate."""

    kind: TrialStorm = TrialStorm.UDP  # which trouble
    packets_per_s: Positive = 6_000  # wall time: the wire's, not the guest's
    burst: Positive = 16  # packets back to back
    length_bytes: Annotated[int, msgspec.Meta(ge=1, le=65_507)] = 1400  # of payload
    sockets: Positive = 4  # that nobody reads
    rcvbuf_bytes: Positive = 268_435_456  # of each, forced
    from_done_pages: Count = 0  # it begins when the load has done so many steps
    stall_s: Positive = 30  # STALL: for so long


class TrialArm(Table, frozen=True):
    """What one arm changes in the guest before the pressure begins, and what the trial should say."""

    name: str  # unique among the trial's arms
    measures: tuple[str, ...] = ()  # plan, caps, reserve_mem, tenfold, node_share, mib512, ablate:NAME, ...
    without: tuple[str, ...] = ()  # settings of the plan that are left out
    sysctl: dict[str, str] = msgspec.field(default_factory=dict)  # written last
    quiet: bool = False  # without the storm: the control arm
    expect: str = ""  # a verdict, or FAIL; empty: nothing is expected
    why: str = ""  # what one sees and what decides it
    outside: str = ""  # why the model cannot show this arm's failure; none is then asked of `simulate`


class Trial(Table, frozen=True):
    """How the claim is tried on real kernels. All of it can be overridden by a campaign's sweep, if a number."""

    kernel: str = "trixie-cloud"  # as `tidegate kernels` names it
    nic: str = "virtio-net-pci"  # QEMU's model
    transport: str = "nbd"  # nbd, iscsi, nvme-tcp, nfs, nfs-mount
    memory_mib: Positive = 112  # of the guest
    cpus: Positive = 1  # of the guest
    nodes: Positive = 1  # NUMA nodes of the guest
    swap_mib: Positive = 512  # size of the device
    connections: Positive = 1  # of the block device
    hogs: Positive = 4  # programs that write memory and read it back
    hog_mib: Positive = 24  # of each
    passes: Positive = 1  # how often each writes and reads it
    delay_us: Count = 0  # of the wire, one way
    jitter_us: Count = 0  # added to it, by chance
    loss_ppm: Ppm = 0  # of its frames, both ways
    reorder_ppm: Ppm = 0  # of its frames
    rate_kbit: Count = 0  # 0: no bound
    ring: Count = 0  # receive ring (ethtool -G); 0: as the driver has it
    memcg_mib: Count = 0  # the connector's memory cgroup is bounded; 0: not
    # What makes the load possible, never a cure.
    sysctl: dict[str, str] = msgspec.field(default_factory=dict)  # of every arm
    traffic: tuple[TrialTraffic, ...] = ()  # what troubles the guest
    arm: tuple[TrialArm, ...] = ()  # what is tried


def check_trial(trial: Trial, file: str) -> None:
    """Raises BadInput where a trial cannot be, each key by itself being fine."""
    names = [arm.name for arm in trial.arm]
    for at, arm in enumerate(trial.arm):
        if names.count(arm.name) > 1:
            raise BadInput(file, f"trial.arm[{at}].name", f"{arm.name!r} twice", "each arm's name once")
        if arm.expect and arm.expect not in EXPECTED:
            raise BadInput(file, f"trial.arm[{at}].expect", repr(arm.expect), f"one of {', '.join(EXPECTED)}")
    if not trial.arm:
        raise BadInput(file, "trial.arm", "none", "at least one arm")
    if trial.cpus < trial.nodes:
        raise BadInput(file, "trial.nodes", str(trial.nodes), f"no more than trial.cpus = {trial.cpus}")
