"""`tidegate trial` up to the boot: what a dry run prints, and what each wrong word is answered with."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.test_campaign import Here
from tests.rig import campaign_runners as runners
from tests.rig import made_kernels

from tidegate.cli import campaign, main
from tidegate.errors import Exit, Lacking
from tidegate.rig import places, pool, tools, tried
from tidegate.trial import Job, TrialResult, Verdict

NEEDED = ("gcc", "busybox")
needs_programs = pytest.mark.skipif(bool(tools.missing(NEEDED)), reason=f"not all here: {', '.join(NEEDED)}")

CASE = """
claim = "c"
source = "s"

[trial]
kernel = "KERNEL"
nic = "e1000"
traffic = [{ kind = "udp" }]
arm = [{ name = "stock", expect = "FAIL" }, { name = "quiet", quiet = true, expect = "SURVIVED" }]
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command where a case lies whose kernel has e1000 and nbd, in a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TIDEGATE_ACCEL", "tcg")
    monkeypatch.setattr(tried, "uncompressed", lambda path: path)  # there is nothing in a made image
    vmlinuz = made_kernels.lay_out(tmp_path / "kernel")
    (tmp_path / "one.toml").write_text(CASE.replace("KERNEL", str(vmlinuz)))

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["trial", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that would have been booted; each arm ends as it expects to."""
    begun: list[Job] = []

    def runner(job: Job, _: Path) -> TrialResult:
        begun.append(job)
        return runners.made(job, Verdict.WEDGED if job.arm == "stock" else Verdict.SURVIVED)

    monkeypatch.setattr(pool, "LocalPool", Here)
    monkeypatch.setattr(campaign, "one_trial", lambda: runner)
    monkeypatch.setattr(places, "PROGRAMS", ())
    monkeypatch.setattr(places, "SERVERS", {})
    return begun


@needs_programs
def test_a_dry_run_prints_qemus_line_of_each_arm_and_boots_nothing(call: Call, boots: list[Job]) -> None:
    code, out, err = call("one.toml", "--dry-run", "--seed", "5")
    assert (code, err, boots) == (Exit.OK, "", [])
    lines = out.splitlines()
    assert [re.sub(r" \S*/vmlinuz\S*", " KERNEL", line) for line in lines[::2]] == [
        "# one.toml stock KERNEL e1000 nbd #5",
        "# one.toml quiet KERNEL e1000 nbd #5",
    ]
    words = shlex.split(lines[1])
    assert words[0] == "qemu-system-x86_64"
    assert words[words.index("-machine") + 1].startswith("pc,")
    assert "e1000,netdev=wire,mac=52:54:00:12:34:56,romfile=" in words
    assert Path(words[words.index("-initrd") + 1]).is_file()
    assert lines[1] == lines[3]  # the arms differ in what is told to the guest, not in the machine
    assert not Path("trials").exists()


@needs_programs
def test_set_reaches_the_machine(call: Call) -> None:
    code, out, _ = call(
        "one.toml", "--dry-run", "--arm", "stock", "--set", "memory_mib=200", "--set", "cpus=2"
    )
    assert code == Exit.OK
    words = shlex.split(out.splitlines()[1])
    assert (words[words.index("-m") + 1], words[words.index("-smp") + 1]) == ("200M", "2")
    assert "memory_mib=200" in out.splitlines()[0]


@needs_programs
def test_the_arms_take_turns_and_the_next_call_goes_on(call: Call, boots: list[Job]) -> None:
    code, out, err = call("one.toml", "-n", "2", "--dir", "d")
    assert code == Exit.OK
    assert [(job.seed, job.arm) for job in boots] == [(1, "stock"), (1, "quiet"), (2, "stock"), (2, "quiet")]
    assert "2 of 2 expectations met" in out
    assert "tidegate report d --html FILE" in err
    boots.clear()
    assert call("one.toml", "-n", "1", "--dir", "d", "--arm", "quiet", "-q")[0] == Exit.OK
    assert [(job.seed, job.arm) for job in boots] == [(3, "quiet")]
    assert len((Path("d") / "results.jsonl").read_text().splitlines()) == 5


@needs_programs
def test_json_is_the_results_with_their_tallies(call: Call, boots: list[Job]) -> None:
    code, out, _ = call("one.toml", "-n", "1", "--json")
    told = json.loads(out)
    assert (code, told["schema"], len(told["results"])) == (Exit.OK, "tidegate.trials/1", 2)
    assert [one["met"] for one in told["tallies"]] == [True, True]


WRONG = [
    (("nope",), Exit.USAGE, r"no case 'nope'"),
    (("no/such.toml",), Exit.USAGE, r"no/such\.toml"),
    (("one.toml", "--arm", "nope"), Exit.USAGE, r"'nope'.*stock, quiet"),
    (("one.toml", "--kernel", "nope"), Exit.USAGE, r"no kernel 'nope'; there are bookworm-cloud"),
    (("one.toml", "--nic", "nope"), Exit.UNSUPPORTED, r"no NIC 'nope'.*virtio-net-pci"),
    (("one.toml", "--nic", "rtl8139"), Exit.UNSUPPORTED, r"has no .*rtl8139"),
    (("one.toml", "--nic", "e1000", "--nic", "rtl8139"), Exit.UNSUPPORTED, r"rtl8139"),
    (("one.toml", "--transport", "nope"), Exit.UNSUPPORTED, r"transport nope: expected one of nbd"),
    (("one.toml", "--transport", "nvme-tcp"), Exit.UNSUPPORTED, r"nvme"),
    (("ack-pools",), Exit.USAGE, r"'ack-pools', which has no \[trial\] part"),
    (("one.toml", "--set", "delay_us"), Exit.USAGE, r"--set.*'delay_us'.*delay_us=50000"),
    (("one.toml", "--set", "delay_us=-1"), Exit.USAGE, r"'delay_us=-1'"),
    (("one.toml", "--set", "bogus=3"), Exit.USAGE, r"'bogus'.*memory_mib"),
    (("one.toml", "--set", "memory_mib=0"), Exit.USAGE, r"memory_mib.*found 0"),
    (
        ("one.toml", "--set", "nodes=2"),
        Exit.USAGE,
        r"trial\.nodes: found 2, expected no more than trial\.cpus = 1",
    ),
    (("one.toml", "--set", "memory_mib=99999999"), Exit.LACKING, r"99999999 MiB"),
    (("one.toml", "-n", "0"), Exit.USAGE, r"-n.*'0'"),
    (("one.toml", "--seed", "x"), Exit.USAGE, r"--seed.*'x'"),
    (("one.toml", "--jobs", "0"), Exit.USAGE, r"'0'"),
    ((), Exit.USAGE, r"CASE"),
]


@needs_programs
@pytest.mark.parametrize(
    ("words", "code", "says"), WRONG, ids=[" ".join(words) or "nothing" for words, _, _ in WRONG]
)
def test_each_wrong_word_is_one_line_and_its_code(
    call: Call, boots: list[Job], words: tuple[str, ...], code: Exit, says: str
) -> None:
    got, out, err = call(*words)
    assert got == code
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("tidegate: ")
    assert re.search(says, err), err
    assert boots == []
    assert not Path("trials").exists()


def test_without_qemu_it_is_told_before_anything_begins(
    call: Call, boots: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PROGRAMS", ("qemu-system-x86_64",))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setattr(tools, "_SBIN", ())
    code, out, err = call("one.toml")
    assert (code, out, boots) == (Exit.LACKING, "", [])
    assert err == (
        "tidegate: qemu-system-x86_64: found no such program, expected Debian's package qemu-system-x86 to be "
        "installed\n"
    )
    assert not Path("trials").exists()


@needs_programs
def test_without_its_server_it_is_told_before_anything_begins(
    call: Call, boots: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SERVERS", {"nbd": ("a-server-of-nobody",)})
    code, out, err = call("one.toml")
    assert (code, out, boots) == (Exit.LACKING, "", [])
    assert err.startswith("tidegate: a-server-of-nobody: found no such program, expected Debian's package ")
    assert not Path("trials").exists()


@needs_programs
def test_more_memory_than_the_machine_has_is_told_before_anything_begins(
    call: Call, boots: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Here):
        def room(self, planned: object) -> bool:
            raise Lacking("one.toml: a trial takes 192 MiB, and this machine has 100 MiB to give")

    monkeypatch.setattr(pool, "LocalPool", Small)
    code, out, err = call("one.toml")
    assert (code, out, boots) == (Exit.LACKING, "", [])
    assert "a trial takes 192 MiB" in err
