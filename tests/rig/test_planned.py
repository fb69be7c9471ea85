"""The plan arm: what is set, what is left out, and a record that is made once for one guest."""

from __future__ import annotations

import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tidegate.bundled_cases import case_path
from tidegate.case import read_case
from tidegate.case_trial import Trial, TrialArm
from tidegate.errors import BadInput, Lacking, Unsupported
from tidegate.host.bundled import bundled_record
from tidegate.host.opening import open_record
from tidegate.rig import planned, record_in_guest
from tidegate.rig.kernels import Debian, Flavour, Kernel
from tidegate.rig.one_trial import run_job
from tidegate.rig.trial_guest import Shape
from tidegate.rig.tried import Tried
from tidegate.setting_ids import MIN_FREE, TCP_MEM
from tidegate.trial import Job, Verdict

HOST = "virtio-nbd-swap"


def told(_: str) -> None:
    pass


def tried(*, arm: TrialArm | None = None, seed: int = 1, sha: str = "a" * 64, **changes: object) -> Tried:
    """A job looked up, without a kernel that boots."""
    case = read_case(case_path("deadlock"))
    trial = msgspec.convert(msgspec.to_builtins(case.trial) | changes, Trial)
    kernel = Kernel(
        name=trial.kernel, debian=Debian.TRIXIE, flavour=Flavour.CLOUD, release="6.12.0-made", version="1",
        package_sha256="b" * 64, vmlinuz=Path("vmlinuz"), vmlinuz_sha256=sha, modules=Path("modules"),
    )  # fmt: skip
    shape = Shape(
        kernel=kernel, image=Path("vmlinuz"), nic=trial.nic, nic_modules=(), transport=trial.transport,
        memory_mib=trial.memory_mib, cpus=trial.cpus, nodes=trial.nodes,
    )  # fmt: skip
    arm = arm or TrialArm(name="plan", measures=("plan",))
    job = Job(case="deadlock", arm=arm.name, kernel="", nic="", transport="", seed=seed)
    return Tried(job=job, case=case, trial=trial, arm=arm, kernel=kernel, shape=shape)


def recorded(name: str = HOST) -> Callable[[Tried, planned.Tell], Path]:
    return lambda _tried, _tell: bundled_record(name)


def test_the_script_is_the_plans_own_and_the_values_are_what_it_writes() -> None:
    plan = planned.plan_for(tried(), told, record_of=recorded())
    assert "/proc/sys/vm/min_free_kbytes" in plan.values
    for path, value in plan.values.items():
        assert path.startswith(("/proc/sys/", "/sys/"))
        assert path in plan.script
        assert value in plan.script
    assert plan.script.startswith("#!/bin/sh")
    assert plan.before == "AT_RISK"


def test_what_the_arm_leaves_out_is_not_written() -> None:
    whole = planned.plan_for(tried(), told, record_of=recorded())
    arm = TrialArm(name="part", measures=("plan",), without=(MIN_FREE, "net.ipv4."))
    part = planned.plan_for(tried(arm=arm), told, record_of=recorded())
    gone = set(whole.values) - set(part.values)
    assert "/proc/sys/vm/min_free_kbytes" in gone
    assert {path for path in whole.values if path.startswith("/proc/sys/net/ipv4/")} <= gone
    assert not any(path in part.script for path in gone - {"/proc/sys/vm/min_free_kbytes"})
    assert '"$1"_raise' not in part.script
    assert part.values.items() <= whole.values.items()


def test_an_id_that_the_plan_does_not_have_is_told_with_those_it_has() -> None:
    arm = TrialArm(name="typo", measures=("plan",), without=("vm.min_free_kbyte5",))
    with pytest.raises(BadInput, match=r"without.*vm\.min_free_kbyte5.*vm\.min_free_kbytes") as trouble:
        planned.plan_for(tried(arm=arm), told, record_of=recorded())
    assert "trial.arm 'typo'" in str(trouble.value)


def test_a_plan_that_sets_nothing_is_no_arm() -> None:
    with pytest.raises(Unsupported, match="sets nothing"):
        planned.plan_for(tried(), told, record_of=recorded("no-network-storage"))


def test_the_word_of_check_is_for_the_guest_as_the_arm_has_it() -> None:
    stock = TrialArm(name="stock")
    assert planned.check_of(tried(arm=stock), told, record_of=recorded()) == "AT_RISK"
    assert planned.check_of(tried(arm=stock), told, record_of=recorded("no-network-storage")) == "SAFE"
    assert planned.check_of(tried(), told, record_of=recorded()) == "SAFE"
    half = TrialArm(name="half", measures=("plan",), without=(MIN_FREE, TCP_MEM))
    assert planned.check_of(tried(arm=half), told, record_of=recorded()) == "AT_RISK"


class Maker:
    """Takes a bundled record for one that a guest made, and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, _: Tried, tell: record_in_guest.Tell) -> Mapping[str, bytes]:
        self.made += 1
        time.sleep(0.05)
        files = {}
        with tarfile.open(bundled_record(HOST)) as tar:
            for member in tar:
                if held := tar.extractfile(member):
                    files[member.name] = held.read()
        tell("made")
        return files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(record_in_guest, "initramfs", lambda shape: Path(f"{shape.kernel.release}.cpio"))
    return tmp_path


def test_a_record_is_made_once_for_arms_and_seeds_of_one_guest(cache: Path) -> None:
    maker = Maker()
    first = record_in_guest.record_path(tried(), told, maker=maker)
    other = tried(arm=TrialArm(name="stock"), seed=7)
    assert record_in_guest.record_path(other, told, maker=maker) == first
    assert maker.made == 1
    assert first.is_relative_to(cache)
    assert open_record(first).kernel == open_record(bundled_record(HOST)).kernel


def test_two_trials_at_once_make_one_record(cache: Path) -> None:
    maker, found = Maker(), []
    threads = [
        threading.Thread(target=lambda: found.append(record_in_guest.record_path(tried(), told, maker=maker)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.made == 1
    assert len(set(found)) == 1
    assert len(found) == 3
    assert cache.exists()


def test_a_record_that_could_not_be_made_is_not_kept(cache: Path) -> None:
    def failing(_: Tried, __: record_in_guest.Tell) -> Mapping[str, bytes]:
        raise Lacking("no memory")

    with pytest.raises(Lacking, match="no memory"):
        record_in_guest.record_path(tried(), told, maker=failing)
    assert not list(cache.rglob("*.tar.xz"))
    assert record_in_guest.record_path(tried(), told, maker=Maker()).exists()


@pytest.mark.usefixtures("cache")
def test_another_guest_has_another_record() -> None:
    keys = [
        record_in_guest.record_key(one)
        for one in (
            tried(), tried(sha="c" * 64), tried(nic="e1000"), tried(memory_mib=120), tried(cpus=2),
            tried(cpus=2, nodes=2), tried(transport="iscsi"), tried(connections=2), tried(sysctl={}),
            tried(traffic=[]),
        )
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    one = tried()
    same = replace(one, shape=replace(one.shape, gdb=True))
    assert record_in_guest.record_key(same) == keys[0]
    assert record_in_guest.record_key(tried(delay_us=5_000)) == keys[0]


@pytest.mark.vm
@pytest.mark.slow
def test_a_record_from_inside_and_its_plan_in_a_trial(tmp_path: Path) -> None:
    """The script refuses unless every old value of the record is the trial guest's own, so a verdict says they are."""
    text = case_path("deadlock").read_text()
    case = tmp_path / "planned.toml"
    case.write_text(f'{text}\n[[trial.arm]]\nname = "only a plan"\nmeasures = ["plan"]\n')
    job = Job(case=str(case), arm="only a plan", kernel="", nic="", transport="", seed=1)
    try:
        result = run_job(job, tmp_path / "bundle")
    except Lacking as trouble:
        pytest.skip(str(trouble))
    assert result.verdict not in (Verdict.LOST, Verdict.INCONCLUSIVE), result.reason
    assert "/proc/sys/vm/min_free_kbytes" in result.settings
    assert result.settings[f"/proc/sys/{TCP_MEM.replace('.', '/')}"]
    assert result.check in ("SAFE", "AT_RISK")
