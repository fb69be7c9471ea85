"""The `[trial]` part of a case: read, or one line with the file and the key."""

from __future__ import annotations

import pytest

from tidegate.case import Case, parse_case
from tidegate.case_trial import Trial, TrialArm, TrialStorm, TrialTraffic
from tidegate.errors import BadInput

HEAD = 'claim = "a claim"\nsource = "a source"\n'
ARM = '[[trial.arm]]\nname = "stock"\n'
GOOD = """\
[trial]
kernel = "bookworm-generic"
nic = "e1000"
memory_mib = 128
sysctl = { "vm.swappiness" = "100" }
[[trial.traffic]]
kind = "fragment"
burst = 32
[[trial.arm]]
name = "stock"
expect = "FAIL"
[[trial.arm]]
name = "plan"
measures = ["plan"]
without = ["S1"]
sysctl."net.core.rmem_max" = "212992"
expect = "SURVIVED"
why = "the reserve is large enough"
"""


def read(text: str) -> Case:
    return parse_case((HEAD + text).encode(), "dir/storm.toml")


def test_a_trial_is_read() -> None:
    assert read(GOOD).trial == Trial(
        kernel="bookworm-generic",
        nic="e1000",
        memory_mib=128,
        sysctl={"vm.swappiness": "100"},
        traffic=(TrialTraffic(kind=TrialStorm.FRAGMENT, burst=32),),
        arm=(
            TrialArm(name="stock", expect="FAIL"),
            TrialArm(
                name="plan",
                measures=("plan",),
                without=("S1",),
                sysctl={"net.core.rmem_max": "212992"},
                expect="SURVIVED",
                why="the reserve is large enough",
            ),
        ),
    )


def test_a_case_without_trial_has_none() -> None:
    assert read("").trial is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trial = 3", "trial: found 3, expected a table: [trial]"),
        ("trial = []", "trial: found a list, expected a table: [trial]"),
        ("[[trial]]", "trial: found a list, expected a table: [trial]"),
        # Keys.
        ("[trial]\nmemroy_mib = 3", "trial.memroy_mib: found a key that nothing reads, expected memory_mib"),
        ("[trial]\nxyz = 3", "trial.xyz: found a key that nothing reads, expected one of kernel, nic"),
        (
            "[trial]\n" + ARM + "mesures = []",
            "trial.arm[0].mesures: found a key that nothing reads, expected measures",
        ),
        (
            "[[trial.traffic]]\n[[trial.traffic]]\npackets_per_sec = 3\n" + ARM,
            "trial.traffic[1].packets_per_sec: found a key that nothing reads, expected packets_per_s",
        ),
        ("[[trial.arm]]\nquiet = true", "trial.arm[0].name: found nothing, expected a text"),
        # Values.
        ("[trial]\nkernel = 6.1", "trial.kernel: found 6.1, expected a text"),
        ("[trial]\ncpus = 0", "trial.cpus: found 0, expected a whole number from 1"),
        ("[trial]\ncpus = 1.5", "trial.cpus: found 1.5, expected a whole number from 1"),
        ("[trial]\nmemory_mib = true", "trial.memory_mib: found true, expected a whole number from 1"),
        (
            "[trial]\nloss_ppm = 1000001",
            "trial.loss_ppm: found 1000001, expected a whole number from 0 to 1000000",
        ),
        ("[trial]\ndelay_us = -1", "trial.delay_us: found -1, expected a whole number from 0"),
        ("[trial]\nsysctl = 3", "trial.sysctl: found 3, expected a table"),
        (
            '[trial]\nsysctl."vm.swappiness" = 100',
            'trial.sysctl."vm.swappiness": found 100, expected a text',
        ),
        ("[trial]\nsysctl.vm.swappiness = 100", "trial.sysctl.vm: found a table, expected a text"),
        ("[trial]\ntraffic = 3", "trial.traffic: found 3, expected a list of tables: [[trial.traffic]]"),
        (
            '[[trial.traffic]]\nkind = "flood"',
            "trial.traffic[0].kind: found 'flood', expected one of udp, tcp, fragment, tap, reader, reset, stall",
        ),
        (
            "[[trial.traffic]]\nlength_bytes = 65508",
            "trial.traffic[0].length_bytes: found 65508, expected a whole number from 1 to 65507",
        ),
        ("[[trial.traffic]]\nburst = 0", "trial.traffic[0].burst: found 0, expected a whole number from 1"),
        (
            "[trial]\narm = {}",
            "trial.arm: found a table, expected a list of tables: [[trial.arm]]",
        ),
        ("[[trial.arm]]\nname = 3", "trial.arm[0].name: found 3, expected a text"),
        (ARM + "quiet = 1", "trial.arm[0].quiet: found 1, expected true or false"),
        (ARM + 'measures = "plan"', "trial.arm[0].measures: found 'plan', expected a list of texts"),
        (ARM + 'measures = ["plan", 3]', "trial.arm[0].measures[1]: found 3, expected a text"),
        (ARM + "without = [true]", "trial.arm[0].without[0]: found true, expected a text"),
        (ARM + "sysctl.a = 1", "trial.arm[0].sysctl.a: found 1, expected a text"),
        # What each key allows by itself.
        ("[trial]", "trial.arm: found none, expected at least one arm"),
        (ARM + ARM, "trial.arm[0].name: found 'stock' twice, expected each arm's name once"),
        (
            ARM + 'expect = "HOLDS"',
            "trial.arm[0].expect: found 'HOLDS', expected one of SURVIVED, STALLED, WEDGED, OOM, PANIC, FAIL",
        ),
        ("trial.nodes = 2\n" + ARM, "trial.nodes: found 2, expected no more than trial.cpus = 1"),
        # An arm of another judge does not change how the claim is tried on real kernels.
        (
            '[[arm]]\nname = "one"\ndesign = "mail"\nset.trial.cpus = 2\n' + ARM,
            "arm 'one': set.trial: found no part 'trial', expected a part of a case: machine, nic",
        ),
    ],
)
def test_a_bad_trial_is_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"dir/storm.toml: {said}")
