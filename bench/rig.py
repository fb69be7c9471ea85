"""The rig beside the least that can be done, and beside the tool that people boot kernels with.

    .venv/bin/python bench/rig.py boot [RUNS]      an empty trial, and a bare boot of the same kernel to power-off
    .venv/bin/python bench/rig.py peer [RUNS]      an empty trial, and `vng -- uname -r`, the same generic kernel
    .venv/bin/python bench/rig.py memory [RUNS]    peak memory of all that a trial starts, beside its guest's

The arms of one comparison run in turns, so that a busy moment hits all alike. Wall time is from before the fork to
the end of the process, with imports and the clearing away; processor time is of the process and all its children,
and says more on a busy machine. An empty trial is one program that writes 1 MiB to a network disk once and reads it
back, without a storm.

What trials leave behind on a machine is tests/rig/test_nothing_left.py. For `peer` virtme-ng's `vng` is looked for
on PATH, or as TIDEGATE_BENCH_VNG says.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

BOOT_TARGET, PEER_TARGET, BESIDE_TARGET_MIB = 1.5, 0.5, 80
GUEST_MIB = 112
EMPTY = f"""
claim = "Nothing: the least trial that there is."
source = "bench/rig.py"

[machine]
pages = 2048

[[arm]]
name = "bare"
design = "bare"
expect.simulate = "SEEN"
why = "Only the trial is of use here."

[trial]
memory_mib = {GUEST_MIB}
hogs = 1
hog_mib = 1
passes = 1

[[trial.arm]]
name = "quiet"
quiet = true
expect = "SURVIVED"
why = "No storm."
"""
ONE = """
import sys
from pathlib import Path
from tidegate.rig.one_trial import run_job
from tidegate.trial import Job
case, kernel, folder = sys.argv[1:]
made = run_job(Job(case=case, arm="quiet", kernel=kernel, nic="", transport="", seed=1), Path(folder))
sys.exit(0 if made.verdict == "SURVIVED" else f"{made.verdict}: {made.reason}")
"""
ENDING = "(ending)"
INIT = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One run, in seconds."""

    wall: float
    processor: float


def run(command: Sequence[str], *, says: str = "") -> Took:
    """One run of a program, with all that it started; it must end well, or say that word."""
    start = time.perf_counter()
    # A pipe, not a file: vng's guest writes through /proc/self/fd/1, which would be cut at each opening.
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert child.stdout is not None
    with child.stdout as out:
        said = out.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if says not in said if says else child.returncode:
        last = said.strip().splitlines()[-1:]
        raise SystemExit(f"{command[0]}: exit code {child.returncode}, there is nothing to compare: {last}")
    return Took(wall=wall, processor=usage.ru_utime + usage.ru_stime)


def in_turns(arms: Mapping[str, Callable[[], Took]], runs: int) -> dict[str, list[Took]]:
    """All arms once to warm caches, then `runs` times in turns."""
    for arm in arms.values():
        arm()
    taken: dict[str, list[Took]] = {name: [] for name in arms}
    for _ in range(runs):
        for name, arm in arms.items():
            taken[name].append(arm())
    return taken


def print_times(title: str, taken: Mapping[str, Sequence[Took]]) -> dict[str, tuple[float, float]]:
    """Medians and the least of each arm."""
    runs = len(next(iter(taken.values())))
    print(f"{title} (n = {runs} each, in turns; {machine()})")
    medians = {}
    for name, took in taken.items():
        wall, processor = [one.wall for one in took], [one.processor for one in took]
        medians[name] = (statistics.median(wall), statistics.median(processor))
        print(
            f"  {name:<28} wall median {medians[name][0]:6.2f} s  least {min(wall):6.2f}  most {max(wall):6.2f}   "
            f"processor median {medians[name][1]:6.2f} s  least {min(processor):6.2f}"
        )
    return medians


def print_ratio(name: str, ours: tuple[float, float], other: tuple[float, float], target: float) -> None:
    """How much of the other's time ours is."""
    wall, processor = ours[0] / other[0], ours[1] / other[1]
    met = "met" if wall <= target else "missed"
    print(f"  {name:<28} wall {wall:.2f} x, processor {processor:.2f} x; target {target} x of wall: {met}")


def machine() -> str:
    """What it ran on, in few words."""
    from tidegate.rig.accelerator import qemu_version

    return f"{os.cpu_count()} cores, QEMU {qemu_version().split()[0]}, load {os.getloadavg()[0]:.1f}"


def trial_command(folder: Path, kernel: str) -> list[str]:
    """A process that makes one empty trial, as each worker of a campaign does."""
    case = folder / "empty.toml"
    case.write_text(EMPTY)
    return [sys.executable, "-c", ONE, str(case), kernel, str(folder / "evidence")]


def bare_words(image: Path, initrd: Path) -> list[str]:
    """QEMU with nothing but a serial port; machine, accelerator, processor, memory and kernel words are a trial's."""
    from tidegate.rig.accelerator import choose, machine_words
    from tidegate.rig.kernels import resolve
    from tidegate.rig.trial_guest import Shape, kernel_words

    kernel = resolve("trixie-cloud")
    shape = Shape(
        kernel=kernel, image=image, nic="", nic_modules=(), transport="nbd", memory_mib=GUEST_MIB
    )  # fmt: skip
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    words += [*machine_words(choose(kernel).accel), "-m", f"{GUEST_MIB}M", "-serial", "file:/dev/null"]
    return [*words, "-kernel", str(image), "-initrd", str(initrd), "-append", kernel_words(shape)]


def bare_initrd(folder: Path) -> Path:
    """busybox, which powers off at once."""
    from tidegate.rig.initramfs import Entry, cpio
    from tidegate.rig.tools import program

    path = folder / "bare.cpio"
    path.write_bytes(
        cpio(
            {
                "bin": Entry(mode=0o40755),
                "dev": Entry(mode=0o40755),
                "dev/console": Entry(mode=0o20600, device=(5, 1)),
                "bin/busybox": Entry(mode=0o100755, data=program("busybox").read_bytes()),
                "init": Entry(mode=0o100755, data=INIT.encode()),
            }
        )
    )
    return path


def boot(folder: Path, runs: int) -> int:
    """An empty trial against the two floors."""
    from tidegate.rig.kernels import resolve
    from tidegate.rig.tools import program
    from tidegate.rig.vmlinux import uncompressed

    kernel, initrd = resolve("trixie-cloud"), bare_initrd(folder)
    qemu = str(program("qemu-system-x86_64"))
    arms = {"empty trial": trial_command(folder, "trixie-cloud")}
    arms["bare boot, unpacked kernel"] = [qemu, *bare_words(uncompressed(kernel.vmlinuz), initrd)]
    arms["bare boot, Debian's bzImage"] = [qemu, *bare_words(kernel.vmlinuz, initrd)]
    taken = in_turns({name: partial(run, words) for name, words in arms.items()}, runs)
    medians = print_times(f"boot to verdict, {kernel.release}, {GUEST_MIB} MiB", taken)
    ours, *floors = medians.values()
    for name, floor in zip(list(medians)[1:], floors, strict=True):
        print_ratio(f"of {name}", ours, floor, BOOT_TARGET)
    return 0


def peer(folder: Path, runs: int) -> int:
    """An empty trial against virtme-ng, both with Debian's generic kernel (its cloud kernel has no 9p: vng panics)."""
    from tidegate.rig.kernels import resolve

    vng = os.environ.get("TIDEGATE_BENCH_VNG") or shutil.which("vng")
    if vng is None:
        print("peer: skipped: found no vng (pip install virtme-ng), nor TIDEGATE_BENCH_VNG")
        return 0
    kernel = resolve("trixie-generic")
    # vng calls its other programs by name.
    os.environ["PATH"] = f"{Path(vng).parent}:{os.environ['PATH']}"
    words = [vng, "--run", str(kernel.vmlinuz), "--disable-kvm", "--force-9p", "--memory", "512M"]
    words += ["--", "uname", "-r"]
    arms = {
        "empty trial": lambda: run(trial_command(folder, "trixie-generic")),
        "vng -- uname -r": lambda: run(words, says=kernel.release),
    }
    medians = print_times(f"boot to verdict, {kernel.release}", in_turns(arms, runs))
    ours, other = medians.values()
    print_ratio("of vng", ours, other, PEER_TARGET)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as /proc shows it, in KiB."""

    name: str
    peak: int  # VmHWM: of all that is resident, the guest's memory too
    guests: int  # RssShmem: the guest's memory, or what was read of it from outside
    anonymous: int  # RssAnon: its own
    files: int  # RssFile: programs, libraries, QEMU's map of the kernel image; all trials share them


def processes(root: int) -> dict[int, Process]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                text = (entry / "stat").read_text()
                parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        with suppress(OSError, KeyError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            facts = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
            peak, anon, file, shared = (
                int(facts[key][0]) for key in ("VmHWM", "RssAnon", "RssFile", "RssShmem")
            )
            found[pid] = Process(name=called(pid), peak=peak, guests=shared, anonymous=anon, files=file)
    return found


def called(pid: int) -> str:
    """What the process is in a trial."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "tidegate.rig.far_side" in words:
        return "far side"
    if ONE in words:
        return "worker"
    return Path(words[0]).name or ENDING


def watched(command: Sequence[str]) -> dict[str, Process]:
    """Runs a program and keeps the peaks of each process below it, by what it is."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seen: dict[int, Process] = {}
    while child.poll() is None:
        for pid, now in processes(child.pid).items():
            before = seen.get(pid)
            if before is None or now.name not in {before.name, ENDING}:
                seen[pid] = now  # what it was between fork and exec is another program's memory
            else:
                seen[pid] = Process(
                    name=before.name,
                    peak=max(now.peak, before.peak),
                    guests=max(now.guests, before.guests),
                    anonymous=max(now.anonymous, before.anonymous),
                    files=max(now.files, before.files),
                )
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"the trial's process: exit code {child.returncode}, there is nothing to compare")
    kept: dict[str, Process] = {}
    for one in seen.values():
        if one.name not in kept or kept[one.name].peak < one.peak:
            kept[one.name] = one
    return kept


def memory(folder: Path, runs: int) -> int:
    """What a trial takes besides its guest's memory: peaks that are not shared with the guest, added up."""
    command = trial_command(folder, "trixie-cloud")
    rows = [watched(command) for _ in range(runs)]
    print(f"peak memory of a trial, guest {GUEST_MIB} MiB (n = {runs}; {machine()})")
    for name in sorted({name for row in rows for name in row}):
        kept = [row[name] for row in rows if name in row]
        own, files, guests, peak = (
            statistics.median(getattr(one, key) for one in kept) / 1024
            for key in ("anonymous", "files", "guests", "peak")
        )
        if own + files > 1:
            beside = f"own {own:6.1f}   mapped files {files:6.1f}"
            print(f"  {name:<20} {beside}   guest's {guests:6.1f}   VmHWM {peak:6.1f} MiB")
    own = statistics.median(sum(one.anonymous for one in row.values()) for row in rows) / 1024
    all_of_it = (
        statistics.median(sum(one.anonymous + one.files for one in row.values()) for row in rows) / 1024
    )
    met = "met" if all_of_it <= BESIDE_TARGET_MIB else "missed"
    print(
        f"  beside the guest: own {own:.1f} MiB, with mapped files (clean, counted for each process) "
        f"{all_of_it:.1f} MiB; target {BESIDE_TARGET_MIB} MiB: {met}"
    )
    return 0


BENCHES = {"boot": (boot, 5), "peer": (peer, 3), "memory": (memory, 3)}


def main(words: Sequence[str]) -> int:
    """Runs one of them."""
    if not words or words[0] not in BENCHES:
        print(__doc__)
        return 2
    bench, runs = BENCHES[words[0]]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench.") as folder:
        return bench(Path(folder), int(words[1]) if len(words) > 1 else runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
