"""The virtual clock and the mechanism on it, beside the same kernel functions driven by simpy.

    .venv/bin/python bench/simulate.py [RUNS]

Each run is the bundled case `deadlock` with the design `mail` (storm and calm), in a process of its own, ours and
two of simpy in turns, RUNS times (default 7). An event is one entry taken from the clock. Prints events a second of
one core's time (median, least, most), the ratio, and peak memory of a storm and of one ten times as long.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

TARGET_EVENTS, TARGET_RATIO = 300_000, 1.5
CASE, DESIGN = "deadlock", "mail"


def simpy_clock(*, processes: bool) -> type:
    """A clock with our interface over simpy's environment.

    simpy is made of processes, so the natural entry is one: wait, then call. The least it can do is a timeout with a
    callback; both are measured.
    """
    import simpy

    class SimpyClock:
        """Entries are simpy's; nothing of ours orders them."""

        def __init__(self) -> None:
            self._env = simpy.Environment()
            self.events = 0

        @property
        def now(self) -> int:
            return int(self._env.now)

        def at(self, time_ns: int, function: Callable[[Any], None], argument: Any) -> None:
            self.after(time_ns - self.now, function, argument)

        def after(self, delay_ns: int, function: Callable[[Any], None], argument: Any) -> None:
            if processes:
                self._env.process(self._entry(delay_ns, function, argument))
                return
            timeout = self._env.timeout(delay_ns)
            timeout.callbacks.append(lambda _: self._call(function, argument))

        def _entry(
            self, delay_ns: int, function: Callable[[Any], None], argument: Any
        ) -> Generator[Any, Any, None]:
            yield self._env.timeout(delay_ns)
            self._call(function, argument)

        def _call(self, function: Callable[[Any], None], argument: Any) -> None:
            self.events += 1
            function(argument)

        def run(self, until_ns: int) -> None:
            if until_ns >= self.now:
                self._env.run(until=until_ns + 1)
                self._env._now = until_ns  # noqa: SLF001 - simpy stops before the entries of that moment

    return SimpyClock


def one_run(which: str, longer: int) -> None:
    """In a process of its own: prints events, seconds and peak KiB."""
    import resource

    import msgspec

    import tidegate.sim.machine
    from tidegate.bundled_cases import case_path
    from tidegate.case import read_case
    from tidegate.designs import design
    from tidegate.sim.run import simulate

    if which != "tidegate":
        clock = simpy_clock(processes=which.endswith("processes"))
        setattr(tidegate.sim.machine, "Clock", clock)  # noqa: B010 - a name that mypy knows as a class
    case = read_case(case_path(CASE))
    storm = msgspec.structs.replace(case.run, storm_ms=case.run.storm_ms * longer)
    case = msgspec.structs.replace(case, run=storm)
    start = time.process_time()  # of this core: what else the machine does is not our speed
    run = simulate(case, design(DESIGN), 1)
    took = time.process_time() - start
    print(run.events, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, run.word)


def measure(which: str, longer: int = 1) -> tuple[int, float, int, str]:
    """Events, seconds, peak KiB and word of one run."""
    command = [sys.executable, __file__, "--one", which, str(longer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{which}: {done.stderr.strip().splitlines()[-1]}")
    events, took, peak, word = done.stdout.split()
    return int(events), float(took), int(peak), word


def main(words: list[str]) -> int:
    """Both in turns; 1 where a target is missed."""
    if words[:1] == ["--one"]:
        one_run(words[1], int(words[2]))
        return 0
    runs = int(words[0]) if words else 7
    rates: dict[str, list[float]] = {"tidegate": [], "simpy, processes": [], "simpy, callbacks": []}
    ends = set()
    for _ in range(runs):
        for which, taken in rates.items():
            events, took, _, word = measure(which)
            taken.append(events / took)
            ends.add((events, word))
    if len(ends) != 1:
        raise SystemExit(f"the three did not do the same: {sorted(ends)}")
    ((events, word),) = ends
    print(f"case {CASE}, design {DESIGN}: {events:,} events, {word}; n = {runs} runs each, in turns")
    print(f"python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for which, taken in rates.items():
        print(
            f"  {which:<17} median {statistics.median(taken):9,.0f} events/s"
            f"   least {min(taken):9,.0f}   most {max(taken):9,.0f}"
        )
    ours, *theirs = (statistics.median(taken) for taken in rates.values())
    print(f"  {TARGET_EVENTS:,} events a second: {_met(ours >= TARGET_EVENTS)}")
    for which, median in zip(list(rates)[1:], theirs, strict=True):
        print(
            f"  {ours / median:.2f} x {which}; target {TARGET_RATIO} x: {_met(ours / median >= TARGET_RATIO)}"
        )
    short, long = measure("tidegate"), measure("tidegate", 10)
    for events, _, peak, _ in (short, long):
        print(f"  memory    peak {peak / 1024:.1f} MiB over {events:,} events")
    return int(ours < TARGET_EVENTS or ours / theirs[0] < TARGET_RATIO)


def _met(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
