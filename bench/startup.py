"""How long it takes to start: `python -c pass`, `import tidegate`, `tidegate --help`, run in turns.

    .venv/bin/python bench/startup.py [RUNS]

Prints the median and the least of RUNS (default 30) runs of each, the ratio to `python -c pass`, and whether
`tidegate --help` is under its target. The programs run with byte code cached, as they are when installed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGET_MS = 100
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import tidegate": [sys.executable, "-c", "import tidegate"],
    "tidegate --help": [str(Path(sys.executable).with_name("tidegate")), "--help"],
}


def run_ms(command: list[str]) -> float:
    """Milliseconds of one run, from before the fork to the exit."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=env)
    return (time.perf_counter() - start) * 1000


def main(runs: int) -> int:
    """Measures and prints; 1 when over the target."""
    for command in COMMANDS.values():
        run_ms(command)  # warm the page cache and write byte code
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():  # in turns, so that a busy moment hits all alike
            times[name].append(run_ms(command))
    base = statistics.median(times["python -c pass"])
    print(f"n = {runs} runs each, in turns; python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(
            f"{name:<16} median {median:6.1f} ms   least {min(taken):6.1f} ms   {median / base:4.2f} x pass"
        )
    slow = statistics.median(times["tidegate --help"]) >= TARGET_MS
    print(f"target for tidegate --help: under {TARGET_MS} ms: {'missed' if slow else 'met'}")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 30))
