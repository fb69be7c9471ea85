"""A job with all that its names stand for: what can be said, or refused, before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.case import Case
from tidegate.case_trial import Trial, TrialArm
from tidegate.rig import measures
from tidegate.rig.accelerator import choose
from tidegate.rig.agent_program import agent_program
from tidegate.rig.asked import arm_of, trial_of
from tidegate.rig.connecting import check_transport, transport_of
from tidegate.rig.far_side import IN_A_GUEST, Far
from tidegate.rig.kernels import Kernel, resolve
from tidegate.rig.nics import check_nic
from tidegate.rig.places import check_programs, check_room
from tidegate.rig.relay import Wire
from tidegate.rig.storage_guest import storage_mib
from tidegate.rig.trial_guest import Shape
from tidegate.rig.vmlinux import uncompressed
from tidegate.trial import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A job with all that its names stand for."""

    job: Job
    case: Case
    trial: Trial
    arm: TrialArm
    kernel: Kernel
    shape: Shape


def tried_job(job: Job) -> Tried:
    """Looks up case, arm, kernel and NIC; raises where one of them is not to be had."""
    from tidegate.bundled_cases import case_path
    from tidegate.case import read_case

    case = read_case(case_path(job.case))
    trial = trial_of(case, job)
    arm = arm_of(case, trial, job.arm)
    measures.check_measures(arm, job.case, f"trial.arm {arm.name!r}")
    measures.check_socket(arm, trial.transport, own_socket=transport_of(trial).own_socket)
    kernel = resolve(trial.kernel)
    check_transport(kernel, trial)
    nic = check_nic(kernel, trial.nic)
    shape = Shape(
        kernel=kernel,
        image=uncompressed(kernel.vmlinuz),
        nic=trial.nic,
        nic_modules=nic.modules,
        transport=trial.transport,
        memory_mib=trial.memory_mib,
        cpus=trial.cpus,
        nodes=trial.nodes,
        accelerator=choose(kernel).accel.value,
        gdb=bool(measures.ablations(arm)),
    )
    return Tried(job=job, case=case, trial=trial, arm=arm, kernel=kernel, shape=shape)


def far_of(tried: Tried, place: Path) -> Far:
    """The far side that a trial wants."""
    trial = tried.trial
    return Far(
        folder=str(place),
        transport=trial.transport,
        size_mib=trial.swap_mib,
        agent=str(agent_program()),
        seed=tried.job.seed,
        wire=Wire(
            delay_us=trial.delay_us,
            jitter_us=trial.jitter_us,
            loss_ppm=trial.loss_ppm,
            reorder_ppm=trial.reorder_ppm,
            rate_kbit=trial.rate_kbit,
        ),
    )


def memory_mib(tried: Tried) -> int:
    """Of the trial's guests together."""
    served = storage_mib(tried.trial.swap_mib) if tried.trial.transport in IN_A_GUEST else 0
    return tried.shape.memory_mib + served


def check_job(job: Job) -> None:
    """Raises what run_job would raise before it starts anything."""
    tried = tried_job(job)
    check_programs(tried.trial.transport)
    check_room(memory_mib(tried))
    agent_program()
