"""Reading a host, beside the tools that people read one with: time and peak memory, and their ratio.

    .venv/bin/python bench/check.py [RUNS]

Two loads, each tool run RUNS times (default 7) in turns, medians printed:
  sockets  1,000 established TCP sockets in a network namespace of its own: `tidegate check` and `ss -tmie`
           (needs root, or user namespaces; else it says so and goes on)
  disks    a made sysroot with 500 block devices, half of them dm on the others: `tidegate check --host TREE`
           and `lsblk --sysroot TREE`
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

TARGET_S, TARGET_MIB = 1.0, 60
VERDICTS = {0, 1, 3}  # a verdict was given; anything else is a failure
TIDEGATE = str(Path(sys.executable).with_name("tidegate"))


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MiB of one run, as the kernel accounts the finished process."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in VERDICTS:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}: there is nothing to compare")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def compare(title: str, ours: Sequence[str], peer: Sequence[str], runs: int) -> None:
    """Both commands in turns; medians, ratios, targets."""
    took: dict[str, list[tuple[float, float]]] = {"tidegate": [], peer[0]: []}
    measure(ours), measure(peer)  # warm the page cache
    for _ in range(runs):
        took["tidegate"].append(measure(ours))
        took[peer[0]].append(measure(peer))
    print(f"{title} (n = {runs} each, in turns, load {os.getloadavg()[0]:.1f})")
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for name, rows in took.items()
    }
    for name, (seconds, mib) in medians.items():
        print(f"  {name:<10} median {seconds * 1000:7.0f} ms   peak {mib:6.1f} MiB")
    (a, am), (b, bm) = medians["tidegate"], medians[peer[0]]
    met = "met" if a < TARGET_S and am < TARGET_MIB else "missed"
    print(
        f"  ratio      time {a / b:.1f} x, memory {am / bm:.1f} x; target {TARGET_S:.0f} s and {TARGET_MIB} MiB: {met}"
    )


def with_sockets(count: int) -> list[socket.socket]:
    """`count` established sockets over loopback, both ends here."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    made = [listener]
    for _ in range(count // 2):
        made.append(socket.create_connection(listener.getsockname()))
        made.append(listener.accept()[0])
    return made


def sockets(runs: int) -> None:
    """The first load, inside the namespace."""
    held = with_sockets(1000)
    compare(f"{len(held) - 1:,} TCP sockets", [TIDEGATE, "check"], ["ss", "-tmie"], runs)
    for one in held:
        one.close()


def made_tree(root: Path, count: int) -> None:
    """A sysroot with `count` block devices: SCSI disks, and as many dm on them."""
    (root / "proc/self").mkdir(parents=True)
    for name in ("swaps", "meminfo", "zoneinfo", "vmstat", "modules", "self/mountinfo"):
        if Path(f"/proc/{name}").exists():
            shutil.copyfile(f"/proc/{name}", root / "proc" / name)
    for folder in ("sys/block", "sys/class/block", "sys/dev/block"):
        (root / folder).mkdir(parents=True)
    for number in range(count // 2):
        _disk(root, f"sd{number}", f"8:{number}", f"devices/pci0/host{number}/block/sd{number}", number)
        _disk(root, f"dm-{number}", f"253:{number}", f"devices/virtual/block/dm-{number}", number)
        upper = root / f"sys/devices/virtual/block/dm-{number}"
        (upper / "slaves").mkdir()
        (upper / f"slaves/sd{number}").symlink_to(root / f"sys/devices/pci0/host{number}/block/sd{number}")
        (upper / "dm").mkdir()
        (upper / "dm/name").write_text(f"vg-lv{number}\n")
        (upper / "dm/uuid").write_text(f"LVM-{number:064}\n")


def _disk(root: Path, name: str, number: str, place: str, serial: int) -> None:
    folder = root / "sys" / place
    (folder / "queue").mkdir(parents=True)
    values = {"dev": number, "size": 2097152, "ro": 0, "removable": 0, "hidden": 0, "stat": "0 " * 17}
    values |= {f"queue/{key}": value for key, value in QUEUE.items()}
    for key, value in values.items():
        (folder / key).write_text(f"{value}\n")
    (folder / "holders").mkdir()
    if name.startswith("sd"):
        (folder / "holders" / f"dm-{serial}").symlink_to(root / f"sys/devices/virtual/block/dm-{serial}")
    for where in (f"sys/block/{name}", f"sys/class/block/{name}", f"sys/dev/block/{number}"):
        link = root / where
        link.symlink_to(os.path.relpath(folder, link.parent))


QUEUE = {
    "nr_requests": 256,
    "max_sectors_kb": 1280,
    "max_hw_sectors_kb": 32767,
    "scheduler": "none [mq-deadline]",
    "wbt_lat_usec": 2000,
    "read_ahead_kb": 128,
    "rotational": 1,
    "nomerges": 0,
    "logical_block_size": 512,
    "physical_block_size": 512,
    "minimum_io_size": 512,
    "optimal_io_size": 0,
    "discard_granularity": 0,
    "discard_max_bytes": 0,
    "discard_zeroes_data": 0,
    "write_same_max_bytes": 0,
    "zoned": "none",
    "add_random": 0,
    "dax": 0,
}


def disks(runs: int) -> None:
    """The second load."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        made_tree(root, 500)
        compare(
            "500 block devices",
            [TIDEGATE, "check", "--host", str(root)],
            ["lsblk", "--sysroot", str(root)],
            runs,
        )


def main(words: list[str]) -> int:
    """Both loads; the first in a namespace of its own."""
    if words[:1] == ["--inside"]:
        sockets(int(words[1]))
        return 0
    runs = int(words[0]) if words else 7
    enter = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    inside = subprocess.run([*enter, sys.executable, __file__, "--inside", str(runs)], check=False)
    if inside.returncode != 0:
        print("1,000 TCP sockets: not measured: no network namespace could be made (root or user namespaces)")
    disks(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
