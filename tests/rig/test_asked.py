"""What a job changes of its case's [trial] part, and the hash that tells when it would be another trial."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidegate.case import Case, parse_case
from tidegate.errors import BadInput, Unsupported, Usage
from tidegate.rig.asked import arm_of, asked_hash, expected_of, is_sysctl, sysctls_of, trial_of
from tidegate.trial import Job

TEXT = """\
claim = "a claim"
source = "a source"
[trial]
memory_mib = 112
cpus = 2
[[trial.traffic]]
kind = "udp"
[[trial.arm]]
name = "stock"
expect = "FAIL"
why = "so"
[[trial.arm]]
name = "plan"
measures = ["plan"]
"""
JOB = Job(case="x.toml", arm="stock", kernel="", nic="", transport="", seed=1)


def case(text: str = TEXT) -> Case:
    return parse_case(text.encode(), "x.toml")


def hashed(text: str = TEXT, job: Job = JOB) -> str:
    trial = trial_of(case(text), job)
    return asked_hash(trial, arm_of(case(text), trial, job.arm))


@pytest.mark.parametrize(
    ("key", "is_one"),
    [("vm.min_free_kbytes", True), ("net.ipv4.conf.eth0.forwarding", True), ("delay_us", False), ("vm.", False),
     ("a/b.c", False), ("vm..x", False), (".x", False)],
)  # fmt: skip
def test_a_key_with_a_dot_is_a_sysctl(key: str, is_one: bool) -> None:
    assert is_sysctl(key) is is_one


def test_a_sweep_is_numbers_of_the_trial_and_sysctls() -> None:
    job = replace(JOB, nic="e1000", sweep={"delay_us": 7, "vm.min_free_kbytes": 4096})
    trial = trial_of(case(), job)
    assert (trial.nic, trial.kernel, trial.delay_us) == ("e1000", "trixie-cloud", 7)
    assert sysctls_of(job.sweep) == {"vm.min_free_kbytes": "4096"}


def test_what_is_swept_must_fit_the_rest_of_the_trial() -> None:
    with pytest.raises(BadInput, match=r"x\.toml: trial\.nodes"):
        trial_of(case(), replace(JOB, sweep={"nodes": 3}))


def test_a_case_without_a_trial_and_an_arm_that_is_none() -> None:
    with pytest.raises(Unsupported, match="no \\[trial\\] part"):
        trial_of(case('claim = "c"\nsource = "s"\n'), JOB)
    with pytest.raises(Usage, match="found no arm 'plam', expected one of stock, plan"):
        arm_of(case(), trial_of(case(), JOB), "plam")


def test_a_swept_sysctl_is_another_arm_of_which_nothing_is_expected() -> None:
    arm = arm_of(case(), trial_of(case(), JOB), "stock")
    assert expected_of(arm, {}) == "FAIL"
    assert expected_of(arm, {"delay_us": 7}) is None
    assert expected_of(arm, {"vm.min_free_kbytes": 4096}) is None


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("memory_mib = 112", "memory_mib = 113", False),
        ('kind = "udp"', 'kind = "tcp"', False),
        ('name = "stock"', 'name = "stock"\nquiet = true', False),
        ('expect = "FAIL"', 'expect = "WEDGED"', True),
        ('why = "so"', 'why = "because"\noutside = "of it"', True),
        ('measures = ["plan"]', 'measures = ["caps"]', True),  # another arm's
        ("a claim", "another claim", True),
    ],
)
def test_the_hash_is_of_what_decides_the_arm(old: str, new: str, same: bool) -> None:
    assert TEXT.count(old) == 1
    assert (hashed(TEXT.replace(old, new)) == hashed()) is same


def test_what_the_job_sets_is_in_the_hash() -> None:
    assert hashed(job=replace(JOB, nic="e1000")) != hashed()
    assert hashed(job=replace(JOB, seed=2)) == hashed()
