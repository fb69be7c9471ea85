"""Runners that stand in for a boot in the tests of campaigns. A child process imports them from here by name.

What one does is told by files in the folder that TIDEGATE_TEST_RUNS names; each start leaves a line in `starts`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tidegate.errors import Lacking, Unsupported
from tidegate.trial import Job, TrialResult, Verdict


def made(
    job: Job, verdict: Verdict = Verdict.SURVIVED, margin: int | None = None, expected: str = ""
) -> TrialResult:
    return TrialResult(
        case=job.case, arm=job.arm, kernel="6.12.0", kernel_name=job.kernel, kernel_sha256="00", nic=job.nic,
        transport=job.transport, seed=job.seed, sweep=dict(job.sweep), verdict=verdict, reason="a test",
        margin_pages=margin, expected=expected or None,
    )  # fmt: skip


def note(job: Job) -> Path:
    folder = Path(os.environ["TIDEGATE_TEST_RUNS"])
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()} {job.key()}\n")
    return folder


def starts(folder: Path) -> list[str]:
    path = folder / "starts"
    return [line.partition(" ")[2] for line in path.read_text().splitlines()] if path.exists() else []


def quick(job: Job, folder: Path) -> TrialResult:
    note(job)
    (folder / "console.txt").write_text(job.key())
    return made(job, Verdict.WEDGED if job.arm == "stock" else Verdict.SURVIVED, job.seed)


def bare(job: Job, folder: Path) -> TrialResult:
    """Leaves no evidence."""
    return made(job)


def slow(job: Job, folder: Path) -> TrialResult:
    note(job)
    (folder / "console.txt").write_text(job.key())
    time.sleep(0.15)
    return made(job, Verdict.WEDGED)


def endless(job: Job, folder: Path) -> TrialResult:
    """Seed 1 is quick; the others start a program in a session of its own, and never end by themselves."""
    if job.seed == 1:
        return quick(job, folder)
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with (note(job) / "programs").open("a") as file:
        file.write(f"{process.pid}\n")
    try:
        process.wait()
    finally:
        process.kill()
        process.wait()
    return made(job)


def deaf(job: Job, folder: Path) -> TrialResult:
    """The same, and does not hear that it should end."""
    if job.seed != 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return endless(job, folder)


def dies_once(job: Job, folder: Path) -> TrialResult:
    """Seed 2 dies the first time."""
    before = starts(note(job))
    if job.seed == 2 and before.count(job.key()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(job)


def dies(job: Job, folder: Path) -> TrialResult:
    """Seed 2 always dies."""
    note(job)
    (folder / "console.txt").write_text("half of it")
    if job.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(job)


def loses(job: Job, folder: Path) -> TrialResult:
    """Says itself that it is lost, without having tried again."""
    note(job)
    return made(job, Verdict.LOST)


def breaks(job: Job, folder: Path) -> TrialResult:
    note(job)
    raise ZeroDivisionError("a slip of ours")


def lacks(job: Job, folder: Path) -> TrialResult:
    """Seed 1 is made; then the machine lacks something."""
    note(job)
    if job.seed == 1:
        return made(job)
    raise Lacking("no qemu-system-x86_64; apt install qemu-system-x86")


def has_no_such_nic(job: Job, folder: Path) -> TrialResult:
    note(job)
    if job.nic == "e1000":
        raise Unsupported("this kernel has no driver for e1000")
    return made(job)


def another(job: Job, folder: Path) -> TrialResult:
    return made(
        Job(case=job.case, arm="other", kernel=job.kernel, nic=job.nic, transport=job.transport, seed=1)
    )


def steady(job: Job, folder: Path) -> TrialResult:
    """Long enough that one can kill the worker it is on; on a cluster the worker itself is noted."""
    note(job)
    time.sleep(0.4)
    (folder / "deep").mkdir()
    (folder / "deep" / "console.txt").write_text(job.key())
    return made(job)


def needs_5000(job: Job, folder: Path) -> TrialResult:
    """Survives with so much for vm.min_free_kbytes, or more."""
    note(job)
    enough = job.sweep["vm.min_free_kbytes"] >= 5000
    return made(job, Verdict.SURVIVED if enough else Verdict.WEDGED, job.sweep["vm.min_free_kbytes"] - 5000)


def main() -> int:
    """`python campaign_runners.py RUNNER ARGUMENTS...`: the command, with that runner in the place of the real one."""
    from tests.rig import campaign_runners  # by its name: so the children find it too

    from tidegate import cli
    from tidegate.cli import campaign

    name, *arguments = sys.argv[1:]
    cli.COMMANDS.setdefault("campaign", campaign.SUMMARY)
    setattr(campaign, "one_trial", lambda: getattr(campaign_runners, name))  # noqa: B010
    return cli.main(["campaign", *arguments])


if __name__ == "__main__":
    sys.exit(main())
